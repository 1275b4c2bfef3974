"""An IPython with the course in it, and a learner's folder of its own for every test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from course_utils.engine import install, notebook, parts

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    """An IPython with the course's hooks."""
    shell = InteractiveShell.instance(colors="nocolor")
    notebook.hook(shell)
    shell.run_cell("import math, torch\nfrom torch import nn\nfrom course_utils import *")
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of parts; afterwards every part is the reference again."""
    monkeypatch.setenv("COURSE_UTILS_HOME", str(tmp_path / "my_parts"))
    monkeypatch.delenv("COURSE_UTILS_STRICT", raising=False)
    parts.references()
    yield tmp_path / "my_parts"
    for part in parts.references():
        install.uninstall(part)


@pytest.fixture
def run(shell: Any, home: Path) -> Run:
    """Run a cell; gives what it shows. Neither it nor the cell below may fail."""

    def run_cell(cell: str) -> str:
        with capture_output() as shown:
            result = shell.run_cell(cell)  # as nbval runs it: not every client keeps a history
        assert result.success, shown.stdout
        shell.run_cell("below = attention.softmax(torch.tensor([0.0, 0.0]))", silent=True)
        assert shell.user_ns.pop("below").tolist() == [0.5, 0.5]
        return shown.stdout + "".join(output.data["text/plain"] for output in shown.outputs)

    return run_cell
