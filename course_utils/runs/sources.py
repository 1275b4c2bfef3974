"""What a run learns from: stories, or your own text file, in the shape that a run asks for."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils import decoder, training
from course_utils.corpora import stories, text
from course_utils.runs import baselines
from course_utils.training import NOT_COUNTED

TOKENS_AT_ONCE = 8192  # of the validation set: enough to be quick, and small in memory
N_VALIDATION_STORIES = 300
N_COUNTED_TOKENS = 500_000  # of stories: the n-grams of the baseline are counted in them


class Corpus(Protocol):
    """Texts to learn from, and others to measure with."""

    @property
    def name(self) -> str:
        """A word for it."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """What the ids stand for."""

    @property
    def end(self) -> int | None:
        """The id that ends a text, if there is one."""

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        """Rows to learn from, which depend on these numbers alone."""

    def validation(self, n_tokens: int) -> list[training.Batch]:
        """All that is kept for testing, every token of it once, in rows of at most `n_tokens`."""

    def levels(self) -> dict[str, float]:
        """Losses to compare with, in nats per token: "uniform", "unigram" and "5-gram".

        Where the least possible loss is known, it is there as "floor".
        """

    def encode(self, prompt: str) -> Int[Tensor, " tokens"]:
        """The ids of the beginning of a text, at least one. A ValueError says what is not known."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text behind ids."""

    def settings(self) -> dict[str, Any]:
        """What a run keeps of it: enough to encode and decode, and to see that it has changed."""


class Stories:
    """`corpora.stories`. A word is a token."""

    name = "stories"
    vocabulary = stories.VOCABULARY
    start = stories.VOCABULARY.index(stories.START)
    end = stories.VOCABULARY.index(stories.END)

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        inputs, targets = decoder.shift_targets(stories.batch(seed, step, n_rows, n_tokens + 1))
        return inputs, targets.masked_fill(targets == self.start, NOT_COUNTED)

    def validation(self, n_tokens: int) -> list[training.Batch]:
        rows = [
            stories.encode([stories.START, *words, stories.END])
            for words in stories.validation(N_VALIDATION_STORIES)
        ]
        longest = max(map(len, rows)) - 1
        if longest > n_tokens:
            raise ValueError(f"n_tokens must be at least {longest} for a story, got {n_tokens}")
        return _in_batches([row[:-1] for row in rows], [row[1:] for row in rows])

    def levels(self) -> dict[str, float]:
        counted = stories.batch(0, 0, 1, N_COUNTED_TOKENS)[0]
        measured = stories.validation(N_VALIDATION_STORIES)
        words = [word for story in measured for word in (*story, stories.END)]
        levels = _levels(
            counted[counted != self.start], stories.encode(words), len(self.vocabulary)
        )
        return levels | {"floor": stories.floor(measured).per_token}

    def encode(self, prompt: str) -> Int[Tensor, " tokens"]:
        words = prompt.lower().replace(".", " . ").replace("?", " ? ").split()
        return stories.encode([stories.START, *words])

    def decode(self, ids: Iterable[int]) -> str:
        words = stories.decode(ids)
        return stories.text([word for word in words if word not in (stories.START, stories.END)])

    def settings(self) -> dict[str, Any]:
        return {"corpus": self.name, "words_checksum": _checksum(" ".join(self.vocabulary))}


@dataclass(frozen=True)
class TextFile:
    """A text file. A character is a token. The file itself is read when it is needed."""

    path: str
    characters: text.Characters
    checksum: str
    name = "text"
    end = None

    @classmethod
    def open(cls, path: str | Path) -> "TextFile":
        """Look at a file and learn its characters. Errors are those of `corpora.text.read`."""
        found = text.read(path)
        whole = found.training + found.validation
        return cls(str(Path(path).resolve()), text.Characters.of(whole), _checksum(whole))

    @property
    def vocabulary(self) -> str:
        return self.characters.vocabulary

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        return decoder.shift_targets(text.crops(self._ids[0], seed, step, n_rows, n_tokens + 1))

    def validation(self, n_tokens: int) -> list[training.Batch]:
        inputs, targets = self._ids[1][:-1], self._ids[1][1:]
        return _in_batches(list(inputs.split(n_tokens)), list(targets.split(n_tokens)))

    def levels(self) -> dict[str, float]:
        return _levels(*self._ids, len(self.vocabulary))

    def encode(self, prompt: str) -> Int[Tensor, " tokens"]:
        beginning = "\n" if "\n" in self.vocabulary else self.vocabulary[0]
        return self.characters.encode(prompt or beginning)

    def decode(self, ids: Iterable[int]) -> str:
        return self.characters.decode(ids)

    def settings(self) -> dict[str, Any]:
        return {
            "corpus": self.name,
            "text_checksum": self.checksum,
            "path": self.path,
            "characters": self.vocabulary,
        }

    @cached_property
    def _ids(self) -> tuple[Tensor, Tensor]:
        found = text.read(self.path)
        return self.characters.encode(found.training), self.characters.encode(found.validation)


def find(name: str) -> Corpus:
    """The corpus "stories", or the text file of this path."""
    return Stories() if name == Stories.name else TextFile.open(name)


def kept(settings: dict[str, Any]) -> Corpus:
    """The corpus whose `settings` these are. A text file need not be there any more.

    Raises ValueError where they are those of stories with other words.
    """
    if settings["corpus"] == TextFile.name:
        characters = text.Characters(settings["characters"])
        return TextFile(settings["path"], characters, settings["text_checksum"])
    if settings["words_checksum"] != Stories().settings()["words_checksum"]:
        raise ValueError("settings: they are of stories that had other words")
    return Stories()


def _in_batches(inputs: list[Tensor], targets: list[Tensor]) -> list[training.Batch]:
    """Rows of any length, filled up where they are short, some of them at a time."""
    columns = pad_sequence(inputs, batch_first=True)
    wanted = pad_sequence(targets, batch_first=True, padding_value=NOT_COUNTED)
    n_rows = max(1, TOKENS_AT_ONCE // columns.shape[1])
    return list(zip(columns.split(n_rows), wanted.split(n_rows), strict=True))


def _levels(training_ids: Tensor, validation_ids: Tensor, vocabulary: int) -> dict[str, float]:
    return {
        "uniform": baselines.uniform(vocabulary),
        "unigram": baselines.unigram(training_ids, validation_ids, vocabulary),
        "5-gram": baselines.NGram(training_ids, 5, vocabulary).loss(validation_ids),
    }


def _checksum(whole: str) -> str:
    return f"{zlib.crc32(whole.encode()):08x}"
