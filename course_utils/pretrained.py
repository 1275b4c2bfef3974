"""The models that the course ships. `data/README.md` says how each of them was made."""

import json
from pathlib import Path

from safetensors.torch import load_file

from course_utils import decoder

_DATA = Path(__file__).parent.parent / "data"


def sentences_model() -> decoder.GPT:
    """The small GPT trained on `corpora.sentences`, ready to predict.

    Its parts are those now in use, yours among them: only the numbers come from the file.
    """
    config = json.loads((_DATA / "sentences_model.json").read_text())
    model = decoder.gpt(**config)
    model.load_state_dict(load_file(_DATA / "sentences_model.safetensors"))
    return model.eval()
