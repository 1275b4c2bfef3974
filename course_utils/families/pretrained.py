"""The models that the course ships. `data/README.md` says how each of them was made."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from course_utils import decoder, modern

_DATA = Path(__file__).parents[2] / "data"


def sentences_model() -> decoder.GPT:
    """The small GPT trained on `corpora.sentences`, ready to predict.

    Its parts are those now in use, yours among them: only the numbers come from the file.
    """
    return _load("sentences_model", decoder.gpt)


def stories_model() -> decoder.GPT:
    """The GPT of newer parts trained on `corpora.stories`: it tells stories, and answers."""
    return _load("stories_model", modern.modern_gpt)


def village_model() -> decoder.GPT:
    """The GPT of newer parts trained on `corpora.village`: it talks, with mistakes."""
    return _load("village_model", modern.modern_gpt)


def _load(name: str, build: Callable[..., decoder.GPT]) -> decoder.GPT:
    model = build(**json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8")))
    model.load_state_dict(load_file(_DATA / f"{name}.safetensors"))
    return model.eval()
