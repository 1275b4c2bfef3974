"""The shape of a notebook: what is its core, what is more, and how long each takes.

python tools/shape.py          prints a line for every notebook
python tools/shape.py 03       puts notebook 03 in shape: minutes, folds, the list at its head

A section's heading ends with `(core)` or `(more)`; a subsection in the core may end with `(more)`.
The rest is written here: the minutes into the headings, the list of sections into the cell with the
tag `sections` (its first paragraph is the author's and stays), and what is more is folded.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
HEADING = re.compile(r"^(##|###) (.*?)(?: \((core|more)(?:, \d+ min)?\))?$", re.MULTILINE)
FOLDED = "jp-MarkdownHeadingCollapsed"  # JupyterLab's own name
LIST_TAG = "sections"
# What a minute is good for. With these, readers' own estimates of ten notebooks come out.
WORDS, LINES, EXERCISE = 100, 12, 10


@dataclass
class Section:
    """Cells under one heading; those before the first heading have no title."""

    title: str
    level: str
    kind: str
    cells: list[NotebookNode] = field(default_factory=list)

    @property
    def minutes(self) -> int:
        """To read the prose and the code that is not hidden, and to write the exercises."""
        time = sum(words(cell) / WORDS + lines(cell) / LINES for cell in self.cells)
        time += EXERCISE * sum(map(is_exercise, self.cells))
        return max(1, round(time))


def words(cell: NotebookNode) -> int:
    """Words to read; code, pictures, addresses and what is written here do not count."""
    if cell.cell_type != "markdown" or LIST_TAG in cell.metadata.get("tags", []):
        return 0
    prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
    prose = HEADING.sub(r"\1 \2", prose)
    return len(re.sub(r"\]\([^)]*\)|<[^>]*>", " ", prose).split())


def length(notebook: NotebookNode) -> int:
    """Everything between blanks in the prose: what the limit of a notebook counts."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return sum(len(source.split()) for source in prose)


def lines(cell: NotebookNode) -> int:
    """Lines of code that a reader sees; an exercise is counted as such."""
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
    if cell.cell_type != "code" or hidden or is_exercise(cell):
        return 0
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def is_exercise(cell: NotebookNode) -> bool:
    """Whether the learner writes here: a part, or a body that is left open."""
    left_open = "@completes(" in cell.source or cell.source.rstrip().endswith("# yours")
    return cell.cell_type == "code" and left_open


def sections(notebook: NotebookNode) -> list[Section]:
    """The notebook cut at its sections, and at the subsections that are more.

    Raises ValueError for a section that does not say what it is, or does not begin its cell.
    """
    found = [Section("", "##", "core")]
    for cell in notebook.cells:
        for place, (level, title, kind) in enumerate(headings(cell)):
            if level == "##" and not kind:
                raise ValueError(f"the section {title!r} must end with (core) or (more)")
            if level == "##" or kind == "more":
                if place or not cell.source.startswith(level):
                    raise ValueError(f"the heading {title!r} must begin its cell")
                found.append(Section(title, level, kind))
            elif found[-1].level == "###":  # the core goes on behind a subsection that is more
                found.append(Section("", "###", "core"))
        found[-1].cells.append(cell)
    return found


def headings(cell: NotebookNode) -> list[tuple[str, str, str]]:
    """Level, title and kind of every heading in a cell of prose."""
    if cell.cell_type != "markdown":
        return []
    prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
    found = [HEADING.match(line) for line in prose.splitlines()]
    return [(match[1], match[2], match[3] or "") for match in found if match]


def minutes(found: Iterable[Section], kind: str) -> int:
    """Minutes of all sections of one kind."""
    return sum(section.minutes for section in found if section.kind == kind)


def core_only(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what is more."""
    core = [
        cell for section in sections(notebook) if section.kind == "core" for cell in section.cells
    ]
    return NotebookNode({**notebook, "cells": core})


def put_in_shape(notebook: NotebookNode) -> None:
    """Write minutes, folds and the list of sections."""
    found = sections(notebook)
    for cell in notebook.cells:
        if LIST_TAG in cell.metadata.get("tags", []):
            cell.source = "\n\n".join([cell.source.split("\n\n")[0], list_of(found)])
    for section in sections(notebook):
        if not section.title:
            continue
        first = section.cells[0]
        _, *rest = first.source.split("\n")
        ending = f"({section.kind}, {section.minutes} min)"
        first.source = "\n".join([f"{section.level} {section.title} {ending}", *rest])
        first.metadata.pop(FOLDED, None)
        if section.kind == "more":
            first.metadata[FOLDED] = True


def list_of(found: list[Section]) -> str:
    """Two lines: what is core and what is more, with minutes."""
    named = {
        kind: [f"{one.title} ({one.minutes})" for one in found if one.kind == kind and one.title]
        for kind in ("core", "more")
    }
    return (
        f"**Core, {minutes(found, 'core')} minutes:** {'; '.join(named['core'])}\n\n"
        f"**More, {minutes(found, 'more')} minutes, folded:** {'; '.join(named['more'])}"
    )


def row(path: Path) -> str:
    """Cells, words, lines of code, exercises, and minutes of core and whole."""
    notebook = nbformat.read(path, as_version=4)
    counts: list[Callable[[NotebookNode], int]] = [lines, is_exercise]
    numbers = [len(notebook.cells), length(notebook)]
    numbers += [sum(map(count, notebook.cells)) for count in counts]
    try:
        found = sections(notebook)
    except ValueError as error:
        return f"{path.stem:24}{error}"
    core = minutes(found, "core")
    numbers += [core, core + minutes(found, "more")]
    return f"{path.stem:24}" + "".join(f"{number:7}" for number in numbers)


def main(numbers: list[str]) -> None:
    """Put the notebooks of these numbers in shape, or print what all are like."""
    for number in numbers:
        (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
        notebook = nbformat.read(path, as_version=4)
        put_in_shape(notebook)
        nbformat.write(notebook, path)
    if not numbers:
        columns = ("cells", "words", "lines", "parts", "core", "whole")
        print(f"{'':24}" + "".join(f"{name:>7}" for name in columns))
        print("\n".join(map(row, sorted(NOTEBOOKS.glob("*.ipynb")))))


if __name__ == "__main__":
    main(sys.argv[1:])
