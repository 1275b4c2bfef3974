"""JupyterLab as `make lab` starts it: it works, it is quiet, and it calls nobody."""

import json
from pathlib import Path

import nbformat
import pytest

from tests.browser.lab import UI, Lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]


@pytest.fixture
def notebook(course: Path) -> str:
    """A tiny notebook in the learner's folder."""
    cells = [
        nbformat.v4.new_markdown_cell("# A tiny notebook"),
        nbformat.v4.new_code_cell("answer = 6 * 7\nanswer"),
        nbformat.v4.new_code_cell("answer + 1"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    tiny = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(tiny, course / "tiny.ipynb")
    return "tiny.ipynb"


def test_a_notebook_runs_is_edited_saved_and_reopened(ui: UI, notebook: str, course: Path) -> None:
    ui.open(notebook)
    ui.run_all()
    assert ui.outputs(2) == ["43"]

    ui.type_in_cell(1, "answer = 10")
    ui.type_in_cell(2, "answer * 2")
    ui.reopen()
    assert ui.outputs(2) == ["20"]
    assert json.loads((course / notebook).read_text())["cells"][1]["source"] == ["answer = 10"]

    ui.restart_kernel()
    ui.type_in_cell(2, "answer")
    assert "NameError" in ui.outputs(2)[0]


def test_the_theme_changes(ui: UI, notebook: str) -> None:
    ui.open(notebook)
    for name, is_light in (("JupyterLab Dark", "false"), ("JupyterLab Light", "true")):
        ui.theme(name)
        assert ui.page.locator("body").get_attribute("data-jp-theme-light") == is_light


def test_nothing_leaves_the_machine_and_nothing_is_asked(ui: UI, lab: Lab, notebook: str) -> None:
    ui.open(notebook)
    ui.run_all()
    ui.page.wait_for_timeout(2000)  # JupyterLab asks about news a moment after it has started
    assert ui.off_host == []
    assert lab.reached() == []
    assert ui.page.locator(".Toastify__toast").all_inner_texts() == []


def test_the_watch_sees_a_kernel_that_calls_out(ui: UI, lab: Lab, notebook: str) -> None:
    ui.open(notebook)
    ui.type_in_cell(1, "import socket\nsocket.getaddrinfo('nobody.invalid', 80)")
    assert lab.reached() == ["socket.getaddrinfo nobody.invalid"]
