"""The attention explorer in JupyterLab: names that are long, wide or made of several letters."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.lab import UI

pytestmark = pytest.mark.browser

TOKENS = ["The", "donaudampfschifffahrtsgesellschaft", "漢" * 9, "🙂" * 9, "</script>", "\n", ""]
SOURCE = f"""
import torch
from course_utils import views
views.explore(torch.eye(7)[None, None], {TOKENS})
"""


def test_names_are_cut_beside_the_map_and_whole_below_it(ui: UI, course: Path) -> None:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(SOURCE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), course / "names.ipynb")
    ui.open("names.ipynb")
    ui.run_all()
    explorer = ui.cell(0).locator(".cu-explore")
    cut = ["The", "donaudampfs…", "漢漢漢漢漢…", "🙂🙂🙂🙂🙂…", "</script>", "↵", "∅"]
    expect(explorer.locator(".cu-map text:not(.cu-axis)")).to_have_text(2 * cut)
    whole = [*TOKENS[:5], "↵", "∅"]
    expect(explorer.locator("[data-strip=query] .cu-token")).to_have_text(whole)
    assert ui.errors == []
