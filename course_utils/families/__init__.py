"""Models of others, composed of our parts, with their trained weights: GPT-2, BERT, Llama, T5 …

To read in this order: `builders`, `llamas`, `neox`, `t5s`, `barts`, `speech` and `vision` (what
they are made of), `cached` (how one goes on that reads a source), `renaming` and `rules_*` (their
names and ours), `loading`, `comparing` and `parity` (the same numbers as theirs, by the cases in
`cases_*`). `sentence_encoder` is a trained one, with which `search` finds passages in notes, and
`pretrained` has the models that the course ships.
"""

from course_utils.families.barts import bart, bart_body
from course_utils.families.builders import (
    Bert,
    MaskedLanguageModel,
    bert,
    bert_masked,
    gpt2,
)
from course_utils.families.cached import CachedSeq2Seq
from course_utils.families.llamas import gpt_oss, llama, mistral, mixtral, qwen3
from course_utils.families.loading import load
from course_utils.families.neox import gpt_neox
from course_utils.families.sentence_encoder import SentenceEncoder, minilm, minilm_folder
from course_utils.families.speech import log_mel, whisper
from course_utils.families.t5s import t5
from course_utils.families.vision import CLIP, ImageClassifier, clip, vit, vit_classifier

__all__ = [
    "CLIP",
    "Bert",
    "CachedSeq2Seq",
    "ImageClassifier",
    "MaskedLanguageModel",
    "SentenceEncoder",
    "bart",
    "bart_body",
    "bert",
    "bert_masked",
    "clip",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "llama",
    "load",
    "log_mel",
    "minilm",
    "minilm_folder",
    "mistral",
    "mixtral",
    "qwen3",
    "t5",
    "vit",
    "vit_classifier",
    "whisper",
]
