"""Draws sampling.svg: the loop that turns scores into a text, token by token.

Run `python images/sampling.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 900, 330
WIDE, TALL = 160, 62  # of a box
COLUMNS = (14, 192, 370, 548, 726)  # left edges
ROW, CACHE = 92, 222  # upper edges

TITLE = "The loop that writes a text"
DESCRIPTION = (
    "A row of boxes, from left to right: the text so far, The car is; the model, which gives a "
    "logit for every word; penalties, which read the text, too; temperature and filters, which "
    "remove words; softmax and a draw, which chooses one word, red. An arrow leads from the draw "
    "back to the text above the row: the word is appended, and the loop begins again. Below the "
    "model hangs the key-value cache, which remembers what the model has read, so that it reads "
    "only the newest word. Orange marks what you write in this notebook: penalties, temperature "
    "and filters, the loop and the cache."
)


def step(column: int, y: float, name: str, note: str, mine: bool = False) -> str:
    """One box; orange if it is written in this notebook."""
    x, edge = COLUMNS[column], ORANGE if mine else INK
    return "".join(
        (
            box(x, y, WIDE, TALL, edge, "#fdf1e7" if mine else PALE),
            middle(x + WIDE / 2, y + 27, name, edge, 17),
            middle(x + WIDE / 2, y + 48, note, edge if mine else GREY, 12),
        )
    )


def right(column: int, y: float) -> str:
    """An arrow from a column to the one at its right."""
    return arrow(COLUMNS[column] + WIDE + 2, y + TALL / 2, COLUMNS[column + 1] - 4, y + TALL / 2)


def picture() -> str:
    """The whole drawing."""
    first, model, last = (COLUMNS[column] + WIDE / 2 for column in (0, 1, 4))
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        f'<path d="M{last} {ROW - 2}V52H{first}V{ROW - 10}" fill="none" stroke="{ORANGE}"'
        ' stroke-width="1.5"/>',
        arrow(first, ROW - 12, first, ROW - 4, ORANGE),
        middle((first + last) / 2, 40, "append the word, and go round again", ORANGE, 16),
        step(0, ROW, "text so far", "The car is"),
        step(1, ROW, "model", "a logit for every word"),
        step(2, ROW, "penalties", "they read the text, too", mine=True),
        step(3, ROW, "filters", "temperature, top-k, …", mine=True),
        step(4, ROW, "softmax, draw", "red"),
        *(right(column, ROW) for column in range(4)),
        arrow(model - 20, ROW + TALL + 2, model - 20, CACHE - 4),
        arrow(model + 20, CACHE - 2, model + 20, ROW + TALL + 4),
        step(1, CACHE, "key-value cache", "what was read before", mine=True),
        text(COLUMNS[2], CACHE + 26, "with it, the model reads the newest word only", BLUE, 15),
        text(COLUMNS[2], CACHE + 48, "without it, the whole text, every time round", GREY, 15),
        text(18, HEIGHT - 14, "orange: you write it in this notebook", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
