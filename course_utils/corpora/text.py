"""Your own text file, split into a part to learn from and a part to test with."""

import re
from dataclasses import dataclass
from pathlib import Path

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
