"""Draws architecture.svg: the layers of the course, and who uses whom.

Run `python images/architecture.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, ORANGE, arrow, box, middle, page

TITLE = "The layers of the course"
DESCRIPTION = (
    "Arrows point to what is used. The notebooks use the engine, the views, the corpora and the "
    "modules of the transformer. The engine uses the exercises and the views, and keeps what "
    "passed its check in my_parts. The exercises use the modules of the transformer. "
    "The transformer, the views and the corpora use nothing else of ours."
)


def layer(x: float, y: float, width: float, name: str, purpose: str, colour: str) -> str:
    """A box with the name of a folder and what it is for."""
    return "".join(
        (
            box(x, y, width, 66, colour),
            middle(x + width / 2, y + 29, name, colour, 18),
            middle(x + width / 2, y + 52, purpose, size=14),
        )
    )


def picture() -> str:
    """The whole drawing."""
    return page(
        860,
        460,
        TITLE,
        DESCRIPTION,
        layer(30, 24, 800, "notebooks/", "what a learner opens", GREY),
        arrow(400, 90, 400, 130),
        arrow(560, 90, 560, 370),
        arrow(705, 90, 705, 130),
        arrow(810, 90, 810, 250),
        layer(30, 134, 180, "my_parts/", "what passed its check", GREEN),
        arrow(270, 167, 214, 167),
        layer(270, 134, 260, "engine/", "checks, saves, installs", BLUE),
        arrow(530, 167, 626, 167),
        layer(630, 134, 150, "views/", "pictures", BLUE),
        arrow(400, 200, 400, 250),
        layer(270, 254, 260, "exercises/", "cases, mistakes, hints", ORANGE),
        layer(630, 254, 200, "corpora/", "texts and tasks", BLUE),
        arrow(400, 320, 400, 370),
        layer(270, 374, 330, "projection.py, attention.py, …", "the transformer", GREEN),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
