"""bertviz's three views in JupyterLab: drawn without a network, and still there when reopened."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import UI, Lab

pytestmark = pytest.mark.browser

MODEL = """
import torch
from torch import nn
from course_utils import attention, views

torch.manual_seed(0)
model = nn.Sequential(*(attention.MultiHeadAttention(16, 2) for _ in range(3)))
with attention.record() as maps, views.record_vectors(attention) as vectors:
    model(torch.randn(1, 4, 16))
tokens = ["The", "</script>", "\\n", "incomprehensibilities"]
"""
VIEWS = (
    "views.head_view(maps, tokens)",
    "views.model_view(maps, tokens)",
    "views.neuron_view(maps, vectors, tokens)",
)
# A line for each of 4 × 4 pairs of tokens, in every head that is shown. neuron_view shows one
# head; its arithmetic has three more lines for every pair, and one for every query.
LINES = {1: 2 * 16, 2: 3 * 2 * 16, 3: 16 + 3 * 16 + 4}
HEAD, MODELS, NEURON = LINES


@pytest.fixture
def notebook(course: Path) -> str:
    """A notebook that shows each view once."""
    cells = [nbformat.v4.new_code_cell(source) for source in (MODEL, *VIEWS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), course / "lines.ipynb")
    return "lines.ipynb"


def lines(ui: UI, index: int) -> Locator:
    """The lines in the frame of a cell."""
    return ui.cell(index).frame_locator("iframe").locator("svg line")


def expect_all_drawn(ui: UI) -> None:
    for index, number in LINES.items():
        expect(lines(ui, index)).to_have_count(number)


def test_every_view_draws_its_lines_and_asks_nobody(ui: UI, lab: Lab, notebook: str) -> None:
    ui.open(notebook)
    ui.run_all()
    expect_all_drawn(ui)
    ui.reopen()
    expect_all_drawn(ui)
    assert ui.errors == []
    assert ui.off_host == []
    assert lab.reached() == []


def test_lines_are_the_weights_and_tokens_are_shown_as_text(ui: UI, notebook: str) -> None:
    ui.open(notebook)
    ui.run_all()
    expect(lines(ui, MODELS)).to_have_count(LINES[MODELS])
    strengths = lines(ui, MODELS).evaluate_all(
        "all => all.slice(0, 4).map(line => Number(line.getAttribute('stroke-opacity')))"
    )
    assert sum(strengths) == pytest.approx(1, abs=1e-3)
    left = ui.cell(HEAD).frame_locator("iframe").locator("#left text")
    expect(left).to_have_text(["The", "</script>", "↵", "incompre…"])


def test_the_views_answer(ui: UI, notebook: str) -> None:
    ui.open(notebook)
    ui.run_all()
    head = ui.cell(HEAD).frame_locator("iframe")
    expect(head.locator("#layer option")).to_have_text(["1", "2", "3"])
    head.locator("#left text").first.hover()
    expect(head.locator("line[visibility=visible]")).to_have_count(2 * 4)

    ui.cell(MODELS).frame_locator("iframe").locator("rect").nth(1).click()
    expect(lines(ui, MODELS)).to_have_count(LINES[MODELS] + 16)

    neuron = ui.cell(NEURON).frame_locator("iframe")
    neuron.locator("#att_head").select_option(label="2")
    neuron.locator("#collapsed #leftText .token").first.hover()
    neuron.locator("#collapsed #leftText rect[width='16']").first.click()
    expect(neuron.locator("#expanded")).to_have_attribute("visibility", "visible")
    assert ui.errors == []


def test_a_notebook_that_is_not_trusted_says_what_is_missing(ui: UI, notebook: str) -> None:
    ui.open(notebook)
    ui.run_all()
    ui.js("for (const cell of notebook.content.model.cells) cell.trusted = false")
    expect(ui.cell(HEAD).locator(".jp-OutputArea")).to_contain_text("or trust the notebook")
