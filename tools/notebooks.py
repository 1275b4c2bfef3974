"""Edit a notebook as text.

python tools/notebooks.py to-py 03      writes build/notebooks/03_….py: edit that
python tools/notebooks.py to-ipynb 03   takes it back into notebooks/03_….ipynb

Cells keep their ids; outputs are left out; minutes, folds and the list of sections are written
(tools/shape.py says how). A new notebook starts as a new file in build/notebooks.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from shape import put_in_shape

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"
TEXTS = REPOSITORY / "build" / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def to_py(number: str) -> Path:
    """Write a notebook as text, with a line `# %%` before each cell."""
    notebook = only_one(NOTEBOOKS, f"{number}_*.ipynb")
    text = TEXTS / f"{notebook.stem}.py"
    if text.exists() and text.stat().st_mtime > notebook.stat().st_mtime:
        raise SystemExit(
            f"{text} is newer than its notebook: to-ipynb takes it back. Or delete it."
        )
    TEXTS.mkdir(parents=True, exist_ok=True)
    jupytext("--to", "py:percent", "--output", text, notebook)
    return text


def to_ipynb(number: str) -> Path:
    """Take an edited text back into its notebook."""
    text = only_one(TEXTS, f"{number}_*.py")
    notebook = NOTEBOOKS / f"{text.stem}.ipynb"
    update = ["--update"] if notebook.exists() else []
    jupytext(*update, "--to", "ipynb", "--output", notebook, text)
    clean(notebook)
    return notebook


def clean(path: Path) -> None:
    """Strip outputs, execution counts and what editors leave in the metadata."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("lines_to_next_cell", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    put_in_shape(notebook)
    nbformat.write(notebook, path)


def only_one(folder: Path, pattern: str) -> Path:
    """The one file of a folder that fits the pattern."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} holds {len(found)} files that fit {pattern}, should be one")
    return found[0]


def jupytext(*arguments: str | Path) -> None:
    """Run jupytext; end here where it fails."""
    command = [sys.executable, "-m", "jupytext", "--quiet", *map(str, arguments)]
    if subprocess.run(command).returncode:
        raise SystemExit("jupytext failed")


VERBS: dict[str, Callable[[str], Path]] = {"to-py": to_py, "to-ipynb": to_ipynb}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in VERBS:
        raise SystemExit(__doc__)
    print(VERBS[sys.argv[1]](sys.argv[2]))
