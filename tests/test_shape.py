"""How a notebook is cut into core and more."""

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import shape


def notebook() -> NotebookNode:
    return new_notebook(
        cells=[
            new_markdown_cell("# 99 · Title"),
            new_markdown_cell("You can do this.", metadata={"tags": ["sections"]}),
            new_markdown_cell("## 1 · First (core)\n\n" + "word " * 300),
            new_code_cell("first = 1"),
            new_markdown_cell("### Aside (more)"),
            new_code_cell("aside = 1\n" * 60),
            new_markdown_cell("### On"),
            new_code_cell('@completes("a.b")\ndef b(): ...'),
            new_markdown_cell("## 2 · Second (more, 99 min)"),
            new_code_cell("hidden = 1\n" * 90, metadata={"jupyter": {"source_hidden": True}}),
        ]
    )


def test_shape_is_written_once() -> None:
    once = notebook()
    shape.put_in_shape(once)
    headings = [cell.source.split("\n")[0] for cell in once.cells if cell.source.startswith("#")]
    assert headings[1:] == [
        "## 1 · First (core, 3 min)",
        "### Aside (more, 5 min)",
        "### On",
        "## 2 · Second (more, 1 min)",
    ]
    assert once.cells[1].source.split("\n\n") == [
        "You can do this.",
        "**Core, 14 minutes:** 1 · First (3)",
        "**More, 6 minutes, folded:** Aside (5); 2 · Second (1)",
    ]
    folded = [cell.source.split(" (")[0] for cell in once.cells if shape.FOLDED in cell.metadata]
    assert folded == ["### Aside", "## 2 · Second"]
    before = nbformat.writes(once)
    shape.put_in_shape(once)
    assert nbformat.writes(once) == before


def test_the_core_is_all_that_is_not_more() -> None:
    code = [cell.source for cell in shape.core_only(notebook()).cells if cell.cell_type == "code"]
    assert code == ["first = 1", '@completes("a.b")\ndef b(): ...']


@pytest.mark.parametrize(
    ("source", "message"),
    [("## A section", "must end with"), ("Words\n\n## A section (core)", "must begin its cell")],
)
def test_a_section_says_what_it_is(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape.sections(new_notebook(cells=[new_markdown_cell(source)]))
