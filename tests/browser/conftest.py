"""Fixtures of the browser tests: a learner's copy of the course, JupyterLab on it, a window."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.lab import PATIENCE, REPOSITORY, UI, Lab, find_chromium

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Room for several waits, each as long as the driver allows."""
    for item in items:
        if item.path.parent == FOLDER:
            item.add_marker(pytest.mark.timeout(4 * PATIENCE))


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a learner opens and looks at."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("notebooks", "images"):
        shutil.copytree(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def lab(course: Path) -> Iterator[Lab]:
    """JupyterLab on a copy of the course, for a learner who has not written anything yet."""
    if find_chromium() is None:
        missing = "browser tests need Chromium: install it, or set CHROMIUM to its path"
        if os.environ.get("COURSE_UTILS_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    folders = {
        "COURSE_UTILS_HOME": str(course / "my_parts"),
        "COURSE_UTILS_RUNS": str(course / "my_runs"),
    }
    with Lab(course, folders) as running:
        yield running


@pytest.fixture
def ui(lab: Lab) -> Iterator[UI]:
    """A fresh browser window."""
    with lab.browser() as window:
        yield window
