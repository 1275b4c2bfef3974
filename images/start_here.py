"""Draws start_here.svg: what happens when an exercise cell is run.

Run `python images/start_here.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, ORANGE, arrow, box, middle, page

TITLE = "What happens when you run an exercise cell"
DESCRIPTION = (
    "Your cell is checked. There are three answers. Not written yet: the package uses its own "
    "version. Not right yet: you see what is wrong, and what was in use stays in use. "
    "Right: your version is saved and takes that place, and all notebooks run on it."
)
ANSWERS = (
    (45, "○ not written yet", "the package uses its own version", GREY),
    (135, "✗ not right yet", "you see why; what was in use stays", ORANGE),
    (225, "✓ yours", "saved; every notebook runs on your code", GREEN),
)


def answer(y: float, name: str, effect: str, colour: str) -> str:
    """One of the three answers: its name, and what it means for the package."""
    return "".join(
        (
            arrow(372, 150, 446, y + 3, colour),
            box(450, y - 30, 350, 66, colour),
            middle(625, y - 4, name, colour, 18),
            middle(625, y + 21, effect, size=15),
        )
    )


def picture() -> str:
    """The whole drawing."""
    return page(
        830,
        280,
        TITLE,
        DESCRIPTION,
        box(10, 117, 170, 66, BLUE),
        middle(95, 145, "your cell", BLUE, 18),
        middle(95, 170, "you press Shift+Enter", size=13),
        arrow(180, 150, 246, 150),
        box(250, 117, 120, 66),
        middle(310, 145, "check", size=18),
        middle(310, 170, "on small inputs", size=13),
        *(answer(*one) for one in ANSWERS),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
