"""Every notebook runs from top to bottom: as it is shipped, and with every exercise solved."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from course_utils import exercises
from tools.shape import core_only
from tools.solve import solve

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_blank(path: Path, tmp_path: Path) -> None:
    """As shipped: nothing fails, and nothing becomes yours."""
    copy = Path(shutil.copy(path, tmp_path / path.name))
    result = run(copy, tmp_path / "my_parts")
    assert result.returncode == 0, result.stdout[-4000:]
    assert "\n0 of " in progress(tmp_path / "my_parts")


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


@pytest.fixture(scope="module")
def solved_course(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The course with every exercise solved."""
    return runner(tmp_path_factory.mktemp("solved"), lambda notebook: notebook)


@pytest.fixture(scope="module")
def solved_core(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The core alone, with its exercises solved."""
    return runner(tmp_path_factory.mktemp("core"), core_only)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_core(path: Path, solved_core: Runner) -> None:
    """Nothing that is more is needed by the core, of this notebook or of a later one."""
    process, parts, shown = solved_core(path)
    assert process.returncode == 0, process.stdout[-4000:]
    assert all(f"[x] {path.stem[:2]}  {part}\n" in shown for part in parts), shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solved(path: Path, solved_course: Runner) -> None:
    """With the references in the exercise cells, in strict mode: every part becomes yours."""
    process, parts, shown = solved_course(path)
    assert process.returncode == 0, process.stdout[-4000:]
    assert all(f"[x] {path.stem[:2]}  {part}\n" in shown for part in parts), shown


def test_in_the_end_every_part_is_yours(solved_course: Runner) -> None:
    shown = [solved_course(path)[2] for path in NOTEBOOKS][-1]
    mine, everything = re.findall(r"(\d+) of (\d+) parts are yours", shown)[-1]
    assert mine == everything == str(len(exercises.all_exercises()))
