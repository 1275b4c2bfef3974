"""What a run learns from: a corpus of ours, or your own text file, as a run asks for it."""

import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils import decoder, training
from course_utils.corpora import stories, text, village
from course_utils.runs import baselines, tokens
from course_utils.training import NOT_COUNTED

TOKENS_AT_ONCE = 8192  # of the validation set: enough to be quick, and small in memory
N_VALIDATION_TEXTS = 300  # of a corpus of ours
N_COUNTED_TOKENS = 500_000  # of it: the n-grams of the baseline are counted in them
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip behind the training text": gzip.compress,
    "xz behind the training text": lzma.compress,
}


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

    def counted(self) -> Int[Tensor, " tokens"]:
        """Training text in which n-grams are counted."""

    def levels(self) -> dict[str, float]:
        """Losses to compare with, in nats per token: "uniform", "unigram" and "5-gram".

        Where the least possible loss is known, it is there as "floor".
        """

    def bits_per_byte(self, nats: float) -> float:
        """A loss on `validation`, in nats per token, as bits for each byte of its text.

        A first token, which nobody is asked for, is taken to cost as much as the others.
        """

    def rivals(self) -> dict[str, float]:
        """What knows nothing of these tokens and tells the same text: its bits per byte."""

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

    def counted(self) -> Int[Tensor, " tokens"]:
        ids = self.source.batch(0, 0, 1, N_COUNTED_TOKENS)[0]
        return ids[ids != self.start]

    def levels(self) -> dict[str, float]:
        measured = self.source.validation(N_VALIDATION_TEXTS)
        words = [word for told in measured for word in (*told, self.source.END)]
        levels = _levels(self.counted(), self.source.encode(words), len(self.vocabulary))
        return levels | {"floor": self.source.floor(measured).per_token}

    def bits_per_byte(self, nats: float) -> float:
        told = self.source.validation(N_VALIDATION_TEXTS)
        n_tokens = sum(len(words) + 1 for words in told)
        n_bytes = sum(len(f"{self.source.text(words)}\n".encode()) for words in told)
        return baselines.bits_per_byte(nats * n_tokens, n_bytes)

    def rivals(self) -> dict[str, float]:
        return {}

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
    """A text file, and how it is cut into tokens. The file itself is read when it is needed."""

    path: str
    tokenizer: tokens.Tokenizer
    checksum: str
    name = "text"
    end = None

    @classmethod
    def open(cls, path: str | Path, learn: tokens.Learner = tokens.characters) -> "TextFile":
        """Look at a file and learn its tokenizer. Errors are those of `corpora.text.read`."""
        found = text.read(path)
        whole = found.training + found.validation
        return cls(str(Path(path).resolve()), learn(found), _checksum(whole))

    @property
    def vocabulary(self) -> Sequence[str]:
        return self.tokenizer.vocabulary

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        return decoder.shift_targets(text.crops(self._ids[0], seed, step, n_rows, n_tokens + 1))

    def validation(self, n_tokens: int) -> list[training.Batch]:
        inputs, targets = self._ids[1][:-1], self._ids[1][1:]
        return _in_batches(list(inputs.split(n_tokens)), list(targets.split(n_tokens)))

    def counted(self) -> Int[Tensor, " tokens"]:
        return self._ids[0]

    def levels(self) -> dict[str, float]:
        return _levels(*self._ids, len(self.vocabulary))

    def bits_per_byte(self, nats: float) -> float:
        """Words that the tokenizer does not know are spelled: a token alone does not tell them."""
        measured = self._text.validation
        whole = nats * len(self._ids[1]) + self._spelling
        return baselines.bits_per_byte(whole, len(measured.encode()))

    def rivals(self) -> dict[str, float]:
        found = self._text
        rivals = {
            name: baselines.compressed_bits_per_byte(found.validation, found.training, compress)
            for name, compress in COMPRESSORS.items()
        }
        by_characters = replace(self, tokenizer=tokens.characters(found))
        if by_characters != self:
            five_gram = by_characters.levels()["5-gram"]
            rivals["5-gram of characters"] = by_characters.bits_per_byte(five_gram)
        return rivals

    def encode(self, prompt: str) -> Int[Tensor, " tokens"]:
        sayable = self.decode(range(len(self.vocabulary)))
        return self.tokenizer.encode(prompt or ("\n" if "\n" in sayable else sayable[0]))

    def decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(ids)

    def settings(self) -> dict[str, Any]:
        return {
            "corpus": self.name,
            "text_checksum": self.checksum,
            "path": self.path,
            "tokenizer": self.tokenizer.settings(),
        }

    @cached_property
    def _spelling(self) -> float:
        return tokens.spelling(self.tokenizer, self._text)

    @cached_property
    def _text(self) -> text.Text:
        return text.read(self.path)

    @cached_property
    def _ids(self) -> tuple[Tensor, Tensor]:
        encode, found = self.tokenizer.encode, self._text
        return encode(found.training), encode(found.validation)


def find(name: str, tokenizer: str | None = None, vocabulary: int | None = None) -> Corpus:
    """The corpus of ours with this name, or the text file of this path, cut by a tokenizer.

    Raises ValueError where a corpus of ours is to be cut otherwise than it is.
    """
    if name not in TOLD:
        return TextFile.open(name, tokens.learner(tokenizer or "characters", vocabulary))
    if tokenizer is not None or vocabulary is not None:
        raise ValueError(
            f"tokenizer: the tokens of {name} are its words. Leave --tokenizer and --vocabulary"
            " away, or give the path of a text file as --corpus"
        )
    return TOLD[name]()


def kept(settings: dict[str, Any]) -> Corpus:
    """The corpus whose `settings` these are. A text file need not be there any more.

    Raises ValueError where they are those of a corpus of ours with other words.
    """
    if settings["corpus"] == TextFile.name:
        tokenizer = tokens.kept(settings["tokenizer"])
        return TextFile(settings["path"], tokenizer, settings["text_checksum"])
    if settings["corpus"] not in TOLD:
        raise ValueError(f"settings: there is no corpus {settings['corpus']!r} any more")
    corpus = TOLD[settings["corpus"]]()
    if settings["words_checksum"] != corpus.settings()["words_checksum"]:
        raise ValueError(f"settings: they are of a corpus {corpus.name!r} that had other words")
    return corpus


def renewed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are written today. Runs of a text had characters, and no choice."""
    if "characters" not in settings:
        return settings
    others = {name: value for name, value in settings.items() if name != "characters"}
    return others | {"tokenizer": text.Characters(settings["characters"]).settings()}


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
