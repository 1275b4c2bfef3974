"""Search by meaning in a folder of notes: which passages are closest to some words?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.families.sentence_encoder import SentenceEncoder

ENDINGS = (".md", ".txt", ".rst", ".org")
LONGEST = 126  # tokens of a passage: with [CLS] and [SEP] as many as MiniLM was trained on
BATCH = 32


@dataclass(frozen=True)
class Passage:
    """A paragraph of a file, or a piece of a long one, and the line in which it begins."""

    file: Path
    line: int
    text: str


def passages(folder: Path, tokenizer: Any) -> list[Passage]:
    """The passages of all notes in a folder, or of one file, in their order.

    Raises ValueError where there are none.
    """
    files = [folder] if folder.is_file() else _notes(folder)
    found = [passage for file in files for passage in _of_file(file, tokenizer)]
    if not found:
        raise ValueError(f"folder: {folder} has no notes, which end with {', '.join(ENDINGS)}")
    return found


def check_words(words: str, tokenizer: Any) -> None:
    """Raises ValueError where the words are longer than a passage may be."""
    if len(_pieces(words, tokenizer)) > 1:
        raise ValueError(f"words: look for at most {LONGEST} tokens at once")


def _notes(folder: Path) -> list[Path]:
    """Files with one of the endings; hidden ones and those in hidden folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )


def _of_file(file: Path, tokenizer: Any) -> Iterator[Passage]:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for paragraph in _paragraphs(lines):
        for line, text in _cut(paragraph, tokenizer):
            yield Passage(file, line, text)


def _paragraphs(lines: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Lines with their numbers, up to an empty one. A heading stays with what it stands above."""
    paragraph: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            paragraph.append((number, line))
        elif paragraph and not paragraph[-1][1].startswith("#"):
            yield paragraph
            paragraph = []
    if paragraph:
        yield paragraph


def _cut(paragraph: Sequence[tuple[int, str]], tokenizer: Any) -> Iterator[tuple[int, str]]:
    """A paragraph in pieces of at most `LONGEST` tokens, each with the line where it begins."""
    start, texts, length = 0, list[str](), 0
    for number, line in paragraph:
        for text, n_tokens in _pieces(line, tokenizer):
            if texts and length + n_tokens > LONGEST:
                yield start, " ".join(texts)
                texts, length = [], 0
            start = start if texts else number
            texts, length = [*texts, text], length + n_tokens
    if texts:
        yield start, " ".join(texts)


def _pieces(line: str, tokenizer: Any) -> list[tuple[str, int]]:
    """The line, in pieces of at most `LONGEST` tokens, with their numbers of tokens."""
    offsets = tokenizer.encode(line, add_special_tokens=False).offsets
    parts = [offsets[first : first + LONGEST] for first in range(0, len(offsets), LONGEST)]
    return [(line[part[0][0] : part[-1][1]], len(part)) for part in parts]


@torch.no_grad()
def vectors(model: SentenceEncoder, texts: Sequence[str]) -> Float[Tensor, "texts d_model"]:
    """A vector of length 1 for every text. Texts of like length are read together."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    found = torch.cat([model([texts[number] for number in batch]) for batch in batches])
    return found[torch.tensor(order).argsort()]


def closest(
    model: SentenceEncoder, notes: Sequence[Passage], words: str, count: int
) -> list[tuple[float, Passage]]:
    """The `count` passages whose vectors have the largest cosines with that of the words."""
    [query] = vectors(model, [words])
    cosines = vectors(model, [passage.text for passage in notes]) @ query
    best = cosines.topk(min(count, len(notes)))
    places = best.indices.tolist()
    return [(cosine, notes[n]) for cosine, n in zip(best.values.tolist(), places, strict=True)]
