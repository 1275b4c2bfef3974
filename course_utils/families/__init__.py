"""Models of others, composed of our parts, with their trained weights: GPT-2 and BERT.

To read in this order: `builders` (what they are made of), `renaming` (their names and ours),
`loading`, `parity` (the same numbers as theirs). `sentence_encoder` is a trained one, `pretrained`
has the models that the course ships.
"""

from course_utils.families.builders import (
    Bert,
    MaskedLanguageModel,
    bert,
    bert_masked,
    gpt2,
)
from course_utils.families.loading import load
from course_utils.families.sentence_encoder import SentenceEncoder, minilm, minilm_folder

__all__ = [
    "Bert",
    "MaskedLanguageModel",
    "SentenceEncoder",
    "bert",
    "bert_masked",
    "gpt2",
    "load",
    "minilm",
    "minilm_folder",
]
