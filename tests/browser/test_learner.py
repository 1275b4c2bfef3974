"""A learner's hour: be wrong, be told why, put it right, keep it; look around by mouse and keys."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import UI, Lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

SOFTMAX = '@completes("attention.softmax")\ndef softmax(scores, dim: int = -1):\n'
OVERFLOWS = SOFTMAX + "    e = torch.exp(scores)\n    return e / e.sum(dim, keepdim=True)"
RIGHT = SOFTMAX + "    return torch.exp(scores - torch.logsumexp(scores, dim, keepdim=True))"


def find(ui: UI, text: str) -> int:
    """Index of the first code cell that contains `text`."""
    for index, cell in enumerate(ui.cells()):
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        if cell["cell_type"] == "code" and text in source:
            return index
    raise LookupError(text)


def panel(ui: UI, index: int) -> Locator:
    """The panel under an exercise cell."""
    return ui.cell(index).locator(".cu-panel")


def run_from_top(ui: UI, last: int) -> None:
    """Run the cells up to and with `last`, as a learner who has read so far."""
    for index, cell in enumerate(ui.cells()[: last + 1]):
        if cell["cell_type"] == "code":
            ui.js("notebook.content.activeCellIndex = argument", index)
            ui.command("notebook:run-cell")
            ui.wait_until_done()


def test_an_exercise_from_wrong_to_yours(ui: UI) -> None:
    ui.open("notebooks/03_softmax_scaling.ipynb")
    ui.run_all()
    failed = [cell for cell in ui.cells() if any("ename" in one for one in cell.get("outputs", []))]
    assert failed == []
    exercise = find(ui, '@completes("attention.softmax")')
    expect(panel(ui, exercise)).to_contain_text("attention.softmax is not written yet")

    ui.type_in_cell(exercise, OVERFLOWS)
    expect(panel(ui, exercise)).to_contain_text("attention.softmax is not right yet")
    expect(panel(ui, exercise)).to_contain_text("Subtract the largest score first")
    first_hint = panel(ui, exercise).get_by_text("Hint 1 of")
    first_hint.click()
    expect(panel(ui, exercise).get_by_text("Hint 2 of")).to_be_visible()

    ui.type_in_cell(exercise, RIGHT)
    expect(panel(ui, exercise)).to_contain_text("attention.softmax is yours")

    shown = find(ui, "progress(")
    ui.type_in_cell(shown, "progress()")
    drawn = ui.cell(shown).locator("[data-view=progress]")
    expect(drawn).to_have_attribute("aria-label", re.compile("1 of .* parts are yours"))
    ui.type_in_cell(shown, "print(progress())")
    assert re.search(r"\[x\].*attention\.softmax", ui.outputs(shown)[0])

    ui.restart_kernel()
    ui.type_in_cell(shown, "from course_utils import progress\nprint(progress())")
    said = "\n".join(ui.outputs(shown))
    assert "course_utils: 1 of" in said
    assert re.search(r"\[x\].*attention\.softmax", said)


def test_a_syntax_error_does_not_stop_the_rest(ui: UI) -> None:
    ui.open("notebooks/01_projection.ipynb")
    exercise = find(ui, '@completes("projection.linear")')
    broken = '@completes("projection.linear")\ndef linear(x, weight, bias=None):\n    return (x @'
    ui.type_in_cell(exercise, broken, run=False)
    ui.run_all()
    expect(panel(ui, exercise)).to_contain_text("Python cannot read line 3")
    failed = [cell for cell in ui.cells() if any("ename" in one for one in cell.get("outputs", []))]
    assert failed == []


def test_a_slider_redraws_its_picture(ui: UI) -> None:
    ui.open("notebooks/01_projection.ipynb")
    index = find(ui, "views.play(")
    run_from_top(ui, index)
    cell = ui.cell(index)
    picture = cell.locator(".jp-OutputArea-output img")
    before = picture.get_attribute("src")
    slider = cell.locator(".noUi-handle, input[type=range]").first
    slider.focus()
    for _ in range(5):
        ui.page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before or "")


def test_the_replay_of_merges_by_keyboard(ui: UI) -> None:
    ui.open("notebooks/00_start_here.ipynb")
    frames = [(str(length), ["a"] * (200 - length) + ["a" * length]) for length in (1, 2, 3)]
    index = find(ui, "views.explore(")
    ui.type_in_cell(index, f"from course_utils import views\nviews.replay({frames}, 'merges')")
    view = ui.cell(index).locator("[data-view=replay]")
    slider, said = view.locator("input"), view.locator(".cu-said")
    slider.focus()
    for key, expected in (
        ("Home", "1"),
        ("ArrowRight", "2"),
        ("ArrowRight", "3"),
        ("ArrowLeft", "2"),
    ):
        ui.page.keyboard.press(key)
        expect(said).to_have_text(expected)
    line = view.locator(".cu-pieces")
    assert line.evaluate("line => line.scrollWidth <= line.clientWidth")  # lines end in the cell


def test_the_explorer_by_mouse_and_by_keyboard(ui: UI, lab: Lab) -> None:
    ui.open("notebooks/00_start_here.ipynb")
    index = find(ui, "views.explore(")
    run_from_top(ui, index)
    use_explorer(ui, index)
    cells_before = len(ui.cells())
    ui.cell(index).locator(".cu-head").first.focus()
    ui.page.keyboard.press("b")  # JupyterLab's key for "insert a cell" must not get through
    assert len(ui.cells()) == cells_before

    ui.reopen()
    use_explorer(ui, index)

    assert ui.errors == []
    assert ui.off_host == []
    assert lab.reached() == []


def use_explorer(ui: UI, index: int) -> None:
    """Choose a head and a token, by mouse and by keys, and hear what is said of them."""
    view = ui.cell(index).locator("[data-view=explore]")
    heads, said = view.locator(".cu-head"), view.locator(".cu-read")
    heads.nth(1).click()
    expect(said).to_contain_text("layer 1, head 2")
    ui.page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("layer 1, head 3")
    ui.page.keyboard.press("ArrowDown")
    expect(said).to_contain_text("layer 2, head 3")
    tokens = view.locator("[data-strip=query] .cu-token")
    tokens.nth(3).hover()
    first = said.inner_text()
    assert "attends to" in first
    tokens.nth(3).focus()
    ui.page.keyboard.press("ArrowRight")
    expect(said).not_to_have_text(first)


def test_no_notebook_calls_out(ui: UI, lab: Lab) -> None:
    ui.open("notebooks/02_queries_keys_values.ipynb")
    ui.run_all()
    assert ui.errors == []
    assert ui.off_host == []
    assert lab.reached() == []
