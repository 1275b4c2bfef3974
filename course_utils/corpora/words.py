"""Words as numbers, for the corpora whose tokens are words."""

import math
from collections.abc import Callable, Iterable, Sequence
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor


class Words:
    """The words of a corpus and their ids. `corpus` is the name that errors give."""

    def __init__(self, vocabulary: Sequence[str], corpus: str):
        self.vocabulary = tuple(vocabulary)
        self.corpus = corpus
        self.id_of = {word: index for index, word in enumerate(vocabulary)}

    def encode(self, words: Sequence[str]) -> Int[Tensor, " tokens"]:
        """The place of every word in `VOCABULARY`. A ValueError names a word that is not in it."""
        refuse_text(words)
        for word in words:
            if word not in self.id_of:
                raise ValueError(
                    f"words: {word!r} is not one of the {len(self.vocabulary)} words of this"
                    " corpus, which are all lower case."
                    f" Print course_utils.corpora.{self.corpus}.VOCABULARY to see them."
                )
        return torch.tensor([self.id_of[word] for word in words], dtype=torch.long)

    def decode(self, ids: Int[Tensor, " tokens"] | Iterable[int]) -> list[str]:
        """The words behind `ids`: the inverse of `encode`. A ValueError names an id of none."""
        numbers = [int(index) for index in ids]
        for index in numbers:
            if not 0 <= index < len(self.vocabulary):
                raise ValueError(f"ids: {index} is not between 0 and {len(self.vocabulary) - 1}")
        return [self.vocabulary[index] for index in numbers]


def refuse_text(words: Sequence[str]) -> None:
    """Raise TypeError for a text, which is a sequence as well: of letters."""
    if isinstance(words, str):
        raise TypeError(f"words must be a list of words, got the text {words!r}: use .split()")


def rows_of(
    tell: Callable[[Random], Iterable[int]], seed: int, step: int, n_rows: int, n_tokens: int
) -> Int[Tensor, "n_rows n_tokens"]:
    """Rows to train on: the ids of one text after the other, cut after `n_tokens`.

    The arguments alone decide what is drawn, so training can go on at any step.
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be at least 1, got {n_tokens}")
    random = Random(f"{seed} {step}")
    return torch.tensor([_row(tell, random, n_tokens) for _ in range(n_rows)], dtype=torch.long)


def _row(tell: Callable[[Random], Iterable[int]], random: Random, n_tokens: int) -> list[int]:
    row: list[int] = []
    while len(row) < n_tokens:
        row += tell(random)
    return row[:n_tokens]


def nats_of(
    name: str, texts: Sequence[Sequence[str]], log_probability: Callable[[Sequence[str]], float]
) -> float:
    """What texts cost somebody who knows the grammar. Errors call the texts `name`."""
    if not texts:
        raise ValueError(f"{name} is empty: there is nothing to take the mean of")
    nats = 0.0
    for index, words in enumerate(texts):
        nats -= (found := log_probability(words))
        if found == -math.inf:
            raise ValueError(f"{name}: number {index} is none of ours: {' '.join(words[:12])} …")
    return nats
