"""Your own text file, split into a part to learn from and a part to test with; its characters.

`read` opens the file, `Characters` turns text into numbers and back, `crops` draws from it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor

SHORTEST = 1000  # characters; a model learns nothing from less


@dataclass(frozen=True)
class Text:
    """A text in two parts: the beginning to learn from, the end to test with."""

    training: str
    validation: str


def read(path: str | Path, validation_share: float = 0.1) -> Text:
    """Read a text file (UTF-8) and keep its end, `validation_share` of the characters, for testing.

    No word is cut in two where the text has spaces. Line ends become "\\n". Raises
    FileNotFoundError where there is no such file, and ValueError where the file is not text, is
    empty or shorter than `SHORTEST`, or where the share is not between 0 and 1.
    """
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share must be between 0 and 1, got {validation_share}")
    text = _decode(_bytes(Path(path)), path)
    if not text.strip():
        raise ValueError(f"path: {path} is empty")
    if len(text) < SHORTEST:
        raise ValueError(
            f"path: {path} has {len(text)} characters, too few to learn from: give at least"
            f" {SHORTEST}"
        )
    cut = _border_of_words(text, round(len(text) * (1 - validation_share)))
    return Text(text[:cut], text[cut:])


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"path: {path} is a folder, should be a text file")
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path} (looked in {Path.cwd()})")
    return path.read_bytes()


def _decode(content: bytes, path: str | Path) -> str:
    """UTF-8, with or without the mark that some editors put at the start of a file."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"path: {path} is not text in UTF-8 (byte {error.start} does not fit)."
            ' If it is a text, save it in your editor with the encoding "UTF-8"'
        ) from None
    if "\0" in text:
        raise ValueError(f"path: {path} is not a text file: it holds bytes that are 0")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _border_of_words(text: str, place: int) -> int:
    """The end of the white space next to `place`, or `place` where there is none near it."""
    near = re.compile(r"\s+(?=\S)").search(text, place, place + SHORTEST // 10)
    return near.end() if near else place


# --- Text as numbers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Characters:
    """A token for every character of `vocabulary`; the place of a character there is its id."""

    vocabulary: str

    @classmethod
    def of(cls, text: str) -> "Characters":
        """The characters that a text has, in their order in Unicode."""
        return cls("".join(sorted(set(text))))

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {character: index for index, character in enumerate(self.vocabulary)}

    def encode(self, text: str) -> Int[Tensor, " tokens"]:
        """The id of every character. A ValueError names one that is not in the vocabulary."""
        try:
            return torch.tensor([self._id_of[each] for each in text], dtype=torch.long)
        except KeyError as error:
            some = self.vocabulary[:40] + "…" * (len(self.vocabulary) > 40)
            raise ValueError(
                f"text: the character {error.args[0]!r} is not one of the {len(self.vocabulary)}"
                f" that are known: {some!r}"
            ) from None

    def decode(self, ids: Int[Tensor, " tokens"] | Iterable[int]) -> str:
        """The characters behind `ids`: the inverse of `encode`.

        A ValueError names an id without a character.
        """
        numbers = [int(index) for index in ids]
        for index in numbers:
            if not 0 <= index < len(self.vocabulary):
                raise ValueError(f"ids: {index} is not between 0 and {len(self.vocabulary) - 1}")
        return "".join(self.vocabulary[index] for index in numbers)

    def settings(self) -> dict[str, str]:
        """What a run keeps of it, as JSON can be written."""
        return {"kind": "characters", "vocabulary": self.vocabulary}


def crops(
    ids: Int[Tensor, " all"], seed: int, step: int, n_rows: int, n_tokens: int
) -> Int[Tensor, "n_rows n_tokens"]:
    """Pieces of a text from places drawn at random: the same ones for the same seed and step.

    Raises ValueError where the text is shorter than a piece.
    """
    if n_tokens > len(ids):
        raise ValueError(f"n_tokens: the text has {len(ids)}, too few for pieces of {n_tokens}")
    last_start = len(ids) - n_tokens
    random = Random(f"{seed} {step}")
    starts = [random.randint(0, last_start) for _ in range(n_rows)]
    return torch.stack([ids[start : start + n_tokens] for start in starts])
