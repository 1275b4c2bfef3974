"""Running a notebook as a learner does, with a folder of its own for parts."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.solve import solve

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
Result = tuple[subprocess.CompletedProcess[str], list[str], str]
Runner = Callable[[Path], Result]
SECONDS = 240  # far more than a notebook needs: a test machine may be busy


def run(notebook: Path, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Execute a notebook with nbval in a process of its own, with a folder of its own for parts."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-x"]
    environment = {
        **os.environ,
        "COURSE_UTILS_HOME": str(home),
        "COURSE_UTILS_RUNS": str(home.parent / "my_runs"),
        "PYTHONPATH": str(ROOT),
        "PYTEST_ADDOPTS": "",
        **variables,
    }
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, str(notebook)],
        cwd=notebook.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def progress(home: Path) -> str:
    """What `python -m course_utils progress` says for a folder of parts."""
    shown = subprocess.run(
        [sys.executable, "-m", "course_utils", "progress"],
        cwd=ROOT,
        env={**os.environ, "COURSE_UTILS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def runner(folder: Path, prepare: Callable[[NotebookNode], NotebookNode]) -> Runner:
    """Runs a solved notebook, once. All of them share one folder of parts, as a learner's do."""

    @cache
    def run_solved(path: Path) -> Result:
        notebook = prepare(nbformat.read(path, as_version=4))
        parts = solve(notebook)
        nbformat.write(notebook, folder / path.name)
        home = folder / "my_parts"
        return run(folder / path.name, home, COURSE_UTILS_STRICT="1"), parts, progress(home)

    return run_solved
