"""Draws architecture.svg: the package as a house with one street, and who may import whom.

Run `python images/architecture.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, arrow, box, middle, page, text

TITLE = "The package course_utils: one street of chapters, and six rooms"
DESCRIPTION = (
    "Arrows point to what may be imported. On the street at the bottom are the chapters in the "
    "order in which they are read: start_here, projection, attention, positions, encoder, "
    "decoder, training, sampling, scaling, tokenization, interpretability, modern, inference, "
    "efficiency, objectives. "
    "They import each other and torch. Above it are six rooms. The engine imports the exercises "
    "and the views. The runs import the families, the corpora and the chapters. The exercises and "
    "the families import the chapters. The views and the corpora import nothing else of ours. The "
    "two doors, __init__ and __main__, may import everything, and nothing else imports the "
    "engine."
)
CHAPTERS = (
    "start_here projection attention positions encoder "
    "decoder training sampling scaling "
    "tokenization interpretability modern inference efficiency objectives"
).split()  # fmt: skip

LEFT, RIGHT, EAVES, FLOOR = 20, 980, 120, 610
STREET, HOUSE, SPACE = 420, 92, 8  # top of the street; width of a chapter, and between two
IN_A_ROW = 9
ROOF = f"M{LEFT - 12} {EAVES}L{(LEFT + RIGHT) / 2} 14L{RIGHT + 12} {EAVES}z"


def outline() -> str:
    """Roof and walls, with the name of the house and its doors."""
    walls = f"M{LEFT + 8} {EAVES}V{FLOOR}H{RIGHT - 8}V{EAVES}"
    centre = (LEFT + RIGHT) / 2
    return "".join(
        (
            f'<path d="{walls}" fill="none" stroke="{GREY}" stroke-width="2"/>',
            f'<path d="{ROOF}" fill="#f4f4f4" stroke="{GREY}" stroke-width="2"/>',
            middle(centre, 72, "course_utils/", INK, 20),
            middle(centre, 100, "its doors, __init__ and __main__, may import everything", size=14),
        )
    )


def room(x: float, y: float, width: float, name: str, purpose: str, colour: str) -> str:
    """A box with the name of a folder and what it is for."""
    return "".join(
        (
            box(x, y, width, 66, colour),
            middle(x + width / 2, y + 28, name, colour, 18),
            middle(x + width / 2, y + 51, purpose, size=14),
        )
    )


def street() -> str:
    """The chapters side by side."""
    pieces = [
        box(LEFT + 24, STREET, RIGHT - LEFT - 48, 168, GREEN, "#eef5ee"),
        text(LEFT + 40, STREET + 28, "the chapters, one after the other: plain torch", GREEN, 18),
    ]
    middle_line = f"M{LEFT + 40} {STREET + 100}H{RIGHT - 40}"
    pieces.append(f'<path d="{middle_line}" stroke="{GREEN}" stroke-dasharray="18 12"/>')
    for number, name in enumerate(CHAPTERS):
        row, place = divmod(number, IN_A_ROW)
        x, y = LEFT + 34 + place * (HOUSE + SPACE), STREET + 42 + row * 72
        pieces.append(box(x, y, HOUSE, 44, GREEN, "white"))
        pieces.append(middle(x + HOUSE / 2, y + 27, name, size=12))
    return "".join(pieces)


def picture() -> str:
    """The whole drawing."""
    return page(
        1000,
        630,
        TITLE,
        DESCRIPTION,
        outline(),
        room(100, 146, 310, "engine/", "reads, checks, explains, saves", BLUE),
        room(490, 146, 370, "runs/", "training, checkpoints, the commands", BLUE),
        room(48, 284, 190, "views/", "pictures", BLUE),
        room(268, 284, 190, "exercises/", "one file a part", ORANGE),
        room(542, 284, 190, "families/", "other people's models", BLUE),
        room(762, 284, 190, "corpora/", "texts and tasks", BLUE),
        arrow(170, 212, 170, 282),
        arrow(340, 212, 340, 282),
        arrow(512, 212, 512, STREET - 2),
        arrow(637, 212, 637, 282),
        arrow(810, 212, 810, 282),
        arrow(363, 350, 363, STREET - 2),
        arrow(637, 350, 637, STREET - 2),
        street(),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
