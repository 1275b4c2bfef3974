"""What a run learns from: a corpus of ours, or your own text file, as a run asks for it."""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils import decoder, training
from course_utils.corpora import stories, text, village
from course_utils.runs import baselines
from course_utils.training import NOT_COUNTED

TOKENS_AT_ONCE = 8192  # of the validation set: enough to be quick, and small in memory
N_VALIDATION_TEXTS = 300  # of a corpus of ours
N_COUNTED_TOKENS = 500_000  # of it: the n-grams of the baseline are counted in them


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


class Told:
    """Texts that a grammar of `course_utils.corpora` tells. A word is a token."""

    name: str
    source: ModuleType

    @property
    def vocabulary(self) -> Sequence[str]:
        return self.source.VOCABULARY

    @cached_property
    def start(self) -> int:
        return self.vocabulary.index(self.source.START)

    @cached_property
    def end(self) -> int:
        return self.vocabulary.index(self.source.END)

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        rows = self.source.batch(seed, step, n_rows, n_tokens + 1)
        inputs, targets = decoder.shift_targets(rows)
        return inputs, targets.masked_fill(targets == self.start, NOT_COUNTED)

    def validation(self, n_tokens: int) -> list[training.Batch]:
        rows = [
            self.source.encode([self.source.START, *words, self.source.END])
            for words in self.source.validation(N_VALIDATION_TEXTS)
        ]
        longest = max(map(len, rows)) - 1
        if longest > n_tokens:
            raise ValueError(
                f"n_tokens must be at least {longest} for a text of {self.name}, got {n_tokens}"
            )
        return _in_batches([row[:-1] for row in rows], [row[1:] for row in rows])

    def levels(self) -> dict[str, float]:
        counted = self.source.batch(0, 0, 1, N_COUNTED_TOKENS)[0]
        measured = self.source.validation(N_VALIDATION_TEXTS)
        words = [word for told in measured for word in (*told, self.source.END)]
        levels = _levels(
            counted[counted != self.start], self.source.encode(words), len(self.vocabulary)
        )
        return levels | {"floor": self.source.floor(measured).per_token}

    def encode(self, prompt: str) -> Int[Tensor, " tokens"]:
        words = re.sub(r"([.,?!])", r" \1 ", prompt.lower()).split()
        return self.source.encode([self.source.START, *words])

    def decode(self, ids: Iterable[int]) -> str:
        not_said = (self.source.START, self.source.END)
        words = self.source.decode(ids)
        return self.source.text([word for word in words if word not in not_said])

    def settings(self) -> dict[str, Any]:
        return {"corpus": self.name, "words_checksum": _checksum(" ".join(self.vocabulary))}


class Stories(Told):
    """`corpora.stories`."""

    name = "stories"
    source = stories


class Village(Told):
    """`corpora.village`."""

    name = "village"
    source = village


TOLD: dict[str, type[Told]] = {each.name: each for each in (Stories, Village)}


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
    """The corpus of ours with this name, or the text file of this path."""
    return TOLD[name]() if name in TOLD else TextFile.open(name)


def kept(settings: dict[str, Any]) -> Corpus:
    """The corpus whose `settings` these are. A text file need not be there any more.

    Raises ValueError where they are those of a corpus of ours with other words.
    """
    if settings["corpus"] == TextFile.name:
        characters = text.Characters(settings["characters"])
        return TextFile(settings["path"], characters, settings["text_checksum"])
    if settings["corpus"] not in TOLD:
        raise ValueError(f"settings: there is no corpus {settings['corpus']!r} any more")
    corpus = TOLD[settings["corpus"]]()
    if settings["words_checksum"] != corpus.settings()["words_checksum"]:
        raise ValueError(f"settings: they are of a corpus {corpus.name!r} that had other words")
    return corpus


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
