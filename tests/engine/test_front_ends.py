"""A cell is found wherever it runs: under magics, from files, in front ends of every kind."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from IPython.utils.capture import capture_output

from course_utils.engine import parts, store

PART = "attention.softmax"
FUNCTION = (
    '@completes("attention.softmax")\n'
    "def softmax(scores, dim: int = -1):\n"
    "    return scores.softmax(dim)\n"
)
CLASS = '@completes("sampling.KVCache")\n' + parts.reference_source(
    "sampling.KVCache"
)  # Python 3.11 cannot find the source of a class that a notebook defines
SCRIPT = "import torch\nfrom course_utils import completes\n\n\n" + FUNCTION


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path, shell: Any) -> None:
    """Work in a folder of its own, with the names that a class is written with."""
    monkeypatch.chdir(tmp_path)
    shell.run_cell("from jaxtyping import Float, Int\nfrom torch import Tensor")


def text_saved(part: str = PART) -> str:
    """What was saved of a part, or nothing."""
    return next((one.source for one in store.load() if one.part == part), "")


# --- in one IPython ------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize(
    "magic",
    ["", "%%time\n", "%%timeit -n1 -r1\n", "%%prun\n", "%%capture\n", "%%time\n%%capture\n"],
)
@pytest.mark.parametrize(("part", "text"), [(PART, FUNCTION), ("sampling.KVCache", CLASS)])
def test_a_cell_under_magics(
    shell: Any, home: Path, magic: str, part: str, text: str, history: bool
) -> None:
    with capture_output() as shown:
        result = shell.run_cell(f"{magic}# a comment first\n{text}", store_history=history)
    assert result.success
    assert text.split("\n", 1)[1].strip() == text_saved(part).strip(), shown.stdout


@pytest.mark.parametrize("magic", ["", "%%time\n", "%%capture\n"])
def test_a_cell_that_imports_what_it_calls(shell: Any, home: Path, magic: str) -> None:
    """Python compiles `torch.softmax(…)` otherwise where it sees the import; IPython hides it."""
    with capture_output() as shown:  # no variable here holds the function alone: it would be found
        shell.run_cell(magic + SCRIPT.replace("scores.softmax(dim)", "torch.softmax(scores, dim)"))
    assert "torch.softmax(scores, dim)" in text_saved(), shown.stdout


@pytest.mark.parametrize("history", [True, False])
def test_the_text_that_runs_and_no_other(shell: Any, home: Path, history: bool) -> None:
    """Cells and strings that differ in a number only."""
    for number in range(3):
        text = FUNCTION.replace("softmax(dim)", f"softmax(dim) + dim * 0 * {number}")
        cell = f"old = {FUNCTION!r}\nnew = {text!r}\n%time exec(new)"
        with capture_output():
            shell.run_cell(cell if number == 2 else text, store_history=history)
        assert f"* {number}\n" in text_saved()


@pytest.mark.parametrize("run", ["exec(TEXT)", "exec(compile(TEXT, '<mine>', 'exec'))"])
@pytest.mark.parametrize(("part", "text"), [(PART, FUNCTION), ("sampling.KVCache", CLASS)])
def test_exec(shell: Any, home: Path, run: str, part: str, text: str) -> None:
    with capture_output():
        shell.run_cell(f"TEXT = {text!r}\n{run}")
    assert text_saved(part)


def test_exec_of_a_text_that_nobody_keeps(shell: Any, home: Path) -> None:
    Path("answer.py").write_text(FUNCTION.replace("softmax(dim)", "softmax(dim) * 1"))
    with capture_output() as shown:
        shell.run_cell("exec(open('answer.py').read())")
    said = "".join(output.data["text/plain"] for output in shown.outputs)
    assert "Put it in a notebook cell or a file" in said
    with capture_output():
        shell.run_cell("exec(compile(open('answer.py').read(), 'answer.py', 'exec'))")
    assert text_saved()


def test_run_of_files(shell: Any, home: Path) -> None:
    Path("answer.py").write_text(SCRIPT)
    with capture_output():
        shell.run_cell("%run answer.py")
    assert text_saved()
    store.put_aside(PART)

    cells = [nbformat.v4.new_code_cell(FUNCTION)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "answer.ipynb")
    with capture_output():
        shell.run_cell("%run answer.ipynb")
    assert text_saved()


def test_a_module_of_answers(shell: Any, home: Path) -> None:
    Path("my_answers.py").write_text(SCRIPT)
    with capture_output():
        shell.run_cell("import sys\nsys.path.insert(0, '')\nimport my_answers\nsys.path.pop(0)")
    assert text_saved()


# --- processes of their own ----------------------------------------------------------------------


@pytest.mark.parametrize("start", [[], ["-i"], ["-m", "IPython", "--colors=NoColor"]])
def test_a_file(home: Path, start: list[str]) -> None:
    Path("answer.py").write_text(SCRIPT)
    command = [sys.executable, *start, "answer.py"]
    shown = subprocess.run(command, capture_output=True, text=True, input="", check=True).stdout
    assert f"{PART} is yours" in shown
    assert text_saved()


def test_pythons_own_prompt(home: Path) -> None:
    lines = SCRIPT.replace("\n\n\n", "\n") + "\nprint(softmax(torch.zeros(2)))\n"
    command = [sys.executable, "-i"]
    shown = subprocess.run(command, capture_output=True, text=True, input=lines, check=True)
    assert f"{PART} is yours" in shown.stdout or "Put it in a notebook cell" in shown.stdout
    assert "tensor([0.5000, 0.5000])" in shown.stdout


@pytest.mark.parametrize("history", [True, False])
def test_a_kernel(home: Path, history: bool) -> None:
    """As nbconvert and papermill run it, and as a front end that keeps no history does."""
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("from jaxtyping import Float, Int\nfrom torch import Tensor"),
            nbformat.v4.new_code_cell("from course_utils import *\n" + FUNCTION),  # in one cell
            nbformat.v4.new_code_cell("%%time\n" + CLASS),
        ]
    )
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="python3")
    with client.setup_kernel():
        for number, cell in enumerate(book.cells):
            client.execute_cell(cell, number, store_history=history)
    said = re.findall(r"(\S+) is yours", str(book.cells))
    assert PART in said and "sampling.KVCache" in said
