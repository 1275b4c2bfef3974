"""The core alone, in order, with its exercises solved: it needs nothing of what is more."""

from pathlib import Path

import pytest

from tests.notebooks.running import NOTEBOOKS, Runner, runner
from tools.shape import core_only


@pytest.fixture(scope="module")
def solved_core(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs the core of a notebook."""
    return runner(tmp_path_factory.mktemp("core"), core_only)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_core(path: Path, solved_core: Runner) -> None:
    process, parts, shown = solved_core(path)
    assert process.returncode == 0, process.stdout[-4000:]
    assert all(f"[x] {path.stem[:2]}  {part}\n" in shown for part in parts), shown
