"""Words as numbers, for the corpora whose tokens are words."""

from collections.abc import Iterable, Sequence

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
