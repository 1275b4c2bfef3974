"""Every notebook with the references in its exercise cells, in strict mode."""

import re
from pathlib import Path

import pytest

from course_utils import exercises
from tests.notebooks.running import NOTEBOOKS, Runner, runner


@pytest.fixture(scope="module")
def solved_course(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs a notebook whole."""
    return runner(tmp_path_factory.mktemp("solved"), lambda notebook: notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solved(path: Path, solved_course: Runner) -> None:
    """Every part becomes yours."""
    process, parts, shown = solved_course(path)
    assert process.returncode == 0, process.stdout[-4000:]
    assert all(f"[x] {path.stem[:2]}  {part}\n" in shown for part in parts), shown


def test_in_the_end_every_part_is_yours(solved_course: Runner) -> None:
    shown = [solved_course(path)[2] for path in NOTEBOOKS][-1]
    mine, everything = re.findall(r"(\d+) of (\d+) parts are yours", shown)[-1]
    assert mine == everything == str(len(exercises.all_exercises()))
