"""Search in a folder of notes by meaning: passages and question become vectors, the closest win.

The vectors are those of MiniLM, in your parts (`families.sentence_encoder`).
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.families import sentence_encoder
from course_utils.runs.command_line import WrongInput

N_WORDS = 40  # of a passage that are read: its title and its beginning
HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
Embed = Callable[[Sequence[str]], Float[Tensor, "texts d"]]


@dataclass(frozen=True)
class Passage:
    """The beginning of a section or a paragraph, and the file that it is in."""

    path: Path
    text: str


def passages(folder: Path) -> list[Passage]:
    """Sections of notes (.md) and notebooks (.ipynb), and paragraphs of texts (.txt).

    Raises ValueError where the folder has none of these.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in PIECES and _is_open(path)]
    found = [
        Passage(path, " ".join(words[:N_WORDS]))
        for path in files
        for words in map(str.split, PIECES[path.suffix](path.read_text(encoding="utf-8")))
        if len(words) > 5
    ]
    if not found:
        raise ValueError(f"folder: nothing to search in {folder}: it should have .md or .txt files")
    return found


def _is_open(path: Path) -> bool:
    """Not in a hidden folder, such as an environment or what an editor keeps."""
    return not any(part.startswith(".") and part != ".." for part in path.parts)


def _sections(text: str) -> Iterator[str]:
    """Titles, each with what follows it."""
    return (HEADING.sub("", "# " + section) for section in HEADING.split(text))


def _of_a_notebook(text: str) -> Iterator[str]:
    cells = json.loads(text)["cells"]
    prose = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return _sections("\n\n".join(prose))


PIECES: dict[str, Callable[[str], Iterator[str]]] = {
    ".md": _sections,
    ".ipynb": _of_a_notebook,
    ".txt": lambda text: iter(re.split(r"\n\s*\n", text)),
}


class Index:
    """Passages with their vectors, which are computed once."""

    def __init__(self, found: Sequence[Passage], embed: Embed):
        self.found, self.embed = found, embed
        self.vectors = vectors([passage.text for passage in found], embed)

    def ask(self, question: str, n: int = 3) -> list[tuple[float, Passage]]:
        """The `n` passages that are closest to the question, with their cosines."""
        cosines = self.vectors @ vectors([question], self.embed)[0]
        best = cosines.topk(min(n, len(self.found)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [(cosine, self.found[index]) for cosine, index in pairs]


@torch.no_grad()
def vectors(texts: Sequence[str], embed: Embed, size: int = 16) -> Float[Tensor, "texts d"]:
    """One vector a text, in batches of texts that are about equally long: little is padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    found = torch.cat([embed([texts[index] for index in batch]) for batch in batches])
    return found[torch.tensor(order).argsort()]


# --- The command ---------------------------------------------------------------------------------


def add_search(parser: argparse.ArgumentParser) -> None:
    """The arguments of `search`."""
    parser.add_argument("folder", type=Path, help="with notes: .md, .txt and .ipynb files")
    parser.add_argument("question", help="in your own words")


def search(chosen: argparse.Namespace) -> int:
    """Print the passages of a folder that are closest to a question."""
    try:
        index = Index(passages(chosen.folder), sentence_encoder.minilm())
    except (ValueError, ModuleNotFoundError) as error:
        raise WrongInput(str(error)) from None
    for cosine, passage in index.ask(chosen.question):
        print(f"{cosine:.2f}  {passage.path}\n      {passage.text}")
    return 0
