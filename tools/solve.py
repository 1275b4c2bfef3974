"""Writes the solved course: every exercise cell filled with the reference.

python tools/solve.py build/solved
"""

import ast
import sys
from pathlib import Path

import nbformat

from course_utils.engine import parts
from course_utils.engine.source import completed_part, readable

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def solve(notebook: nbformat.NotebookNode) -> list[str]:
    """Fill in the exercise cells of a notebook; gives the names of the parts."""
    solved = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or not readable(cell.source):
            continue
        names = [completed_part(statement) for statement in ast.parse(cell.source).body]
        for part in filter(None, names):
            cell.source = f'@completes("{part}")\n{parts.reference_source(part)}'
            solved.append(part)
    return solved


def main(folder: Path) -> None:
    """Write the solved notebooks to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        solved = solve(notebook)
        nbformat.write(notebook, folder / path.name)
        print(f"{folder / path.name}: {len(solved)} exercises")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/solved"))
