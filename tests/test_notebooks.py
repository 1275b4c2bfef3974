"""Every notebook runs from top to bottom: as it is shipped, and with every exercise solved."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.solve import solve

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 240  # far more than a notebook needs: a test machine may be busy


def run(notebook: Path, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Execute a notebook with nbval in a process of its own, with a folder of its own for parts."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-x"]
    environment = {
        **os.environ,
        "COURSE_UTILS_HOME": str(home),
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solved(path: Path, tmp_path: Path) -> None:
    """With the references in the exercise cells, in strict mode: every part becomes yours."""
    notebook = nbformat.read(path, as_version=4)
    parts = solve(notebook)
    nbformat.write(notebook, tmp_path / path.name)
    result = run(tmp_path / path.name, tmp_path / "my_parts", COURSE_UTILS_STRICT="1")
    assert result.returncode == 0, result.stdout[-4000:]
    shown = progress(tmp_path / "my_parts")
    assert all(f"[x] {path.stem[:2]}  {part}\n" in shown for part in parts), shown
