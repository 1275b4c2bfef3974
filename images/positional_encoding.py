"""Draws positional_encoding.svg: the places of a sentence as the hands of clocks.

Run `python images/positional_encoding.py` to write the picture again.
"""

import math
from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, arrow, box, middle, page

HANDS = ((BLUE, "1 radian"), (ORANGE, "1/10"), (GREEN, "1/100"), (PURPLE, "1/1000"))
WORDS = ("The", "car", "is", "red")
WIDTH, HEIGHT = 900, 384
TOP, ROW = 100, 68  # middle of the first row, and distance of two rows
FIRST, NEXT, RADIUS = 290, 92, 24  # middle of the first clock, distance of two, and their size

TITLE = "Places as the hands of clocks"
DESCRIPTION = (
    "Four rows, one for each word of The car is red, at the places 0 to 3. A row shows the vector "
    "of the word, a plus sign, four clocks, and an arrow to the sum. From row to row the hand of "
    "the first clock turns by one radian, that of the second by a tenth of that, the third by a "
    "hundredth and the fourth by a thousandth, which cannot be seen. Under the clocks stands that "
    "each hand gives two numbers, the sine and the cosine of its angle."
)


def clock(x: float, y: float, angle: float, colour: str) -> str:
    """A clock face with one hand, turned clockwise from the top by `angle` radians."""
    tip = (x + 0.8 * RADIUS * math.sin(angle), y - 0.8 * RADIUS * math.cos(angle))
    face = f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{PALE}" stroke="{GREY}"/>'
    ends = f'x1="{x}" y1="{y}" x2="{tip[0]:.1f}" y2="{tip[1]:.1f}"'
    return f'{face}<line {ends} stroke="{colour}" stroke-width="4" stroke-linecap="round"/>'


def row(place: int, word: str) -> str:
    """One word: its vector, its clocks, and the sum."""
    y = TOP + ROW * place
    clocks = (
        clock(FIRST + NEXT * hand, y, place / 10**hand, colour)
        for hand, (colour, _) in enumerate(HANDS)
    )
    return "".join(
        (
            middle(40, y + 6, str(place), GREY, 18),
            box(72, y - 20, 126, 40),
            middle(135, y + 6, f"vector of {word}"),
            middle(229, y + 8, "+", size=24),
            *clocks,
            arrow(610, y, 656, y),
            box(662, y - 20, 208, 40, BLUE),
            middle(766, y + 6, f"{word}, at place {place}"),
        )
    )


def picture() -> str:
    """The whole drawing as SVG, with its text alternative inside."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        middle(40, 36, "place", GREY, 14),
        middle(135, 36, "word", GREY, 14),
        middle(
            FIRST + 1.5 * NEXT, 36, "place: four hands, and how far each turns per word", GREY, 14
        ),
        middle(766, 36, "what goes into the first layer", GREY, 14),
        *(
            middle(FIRST + NEXT * hand, 62, speed, colour, 14)
            for hand, (colour, speed) in enumerate(HANDS)
        ),
        *(row(place, word) for place, word in enumerate(WORDS)),
        middle(
            FIRST + 1.5 * NEXT,
            HEIGHT - 18,
            "each hand: two numbers, sine and cosine of its angle",
            INK,
            14,
        ),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
