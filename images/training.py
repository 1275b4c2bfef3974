"""Draws training.svg: one training step, from the text to new weights.

Run `python images/training.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 900, 360
WIDE, TALL = 144, 62  # of a box
COLUMNS = (18, 198, 378, 558, 738)  # left edges
ABOVE, BELOW = 92, 222  # upper edges of the two rows

TITLE = "One training step"
DESCRIPTION = (
    "Two rows of boxes that form a circle. Upper row, from left to right: a text; "
    "the same text shifted by one, which gives what is read and what must be said; the model; its "
    "logits; the loss, which is one number. An arrow leads down from the loss to the lower row, "
    "which is read from right to left: the gradient of the loss, clipping, and AdamW, which "
    "keeps m and v. The schedule gives AdamW the learning rate of this step. From AdamW an "
    "arrow leads up to the model: new weights. The first weights of the model are drawn by a rule. "
    "Orange marks what you write in this notebook: the loss, the gradient through attention, "
    "clipping, AdamW, the schedule and the first weights."
)


def step(column: int, y: float, name: str, note: str, mine: bool = False) -> str:
    """One box; orange if it is written in this notebook."""
    x, edge = COLUMNS[column], ORANGE if mine else INK
    return "".join(
        (
            box(x, y, WIDE, TALL, edge, "#fdf1e7" if mine else PALE),
            middle(x + WIDE / 2, y + 27, name, edge, 18),
            middle(x + WIDE / 2, y + 48, note, edge if mine else GREY, 13),
        )
    )


def right(column: int, y: float) -> str:
    """An arrow from a column to the one at its right."""
    return arrow(COLUMNS[column] + WIDE + 2, y + TALL / 2, COLUMNS[column + 1] - 4, y + TALL / 2)


def left(column: int, y: float) -> str:
    """An arrow from a column to the one at its left."""
    return arrow(COLUMNS[column] - 2, y + TALL / 2, COLUMNS[column - 1] + WIDE + 4, y + TALL / 2)


def picture() -> str:
    """The whole drawing."""
    model, loss = COLUMNS[2] + WIDE / 2, COLUMNS[4] + WIDE / 2
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        text(18, 38, "forward: how wrong is it?", BLUE, 16),
        step(0, ABOVE, "text", "source of truth"),
        step(1, ABOVE, "shift by one", "asked and said"),
        step(2, ABOVE, "model", "weights"),
        step(3, ABOVE, "logits", "a score a word"),
        step(4, ABOVE, "loss", "one number", mine=True),
        *(right(column, ABOVE) for column in range(4)),
        middle(model, 38, "first weights", ORANGE, 15),
        arrow(model, 46, model, ABOVE - 5, ORANGE),
        arrow(loss, ABOVE + TALL + 3, loss, BELOW - 5),
        step(4, BELOW, "gradient", "which way?", mine=True),
        step(3, BELOW, "clipping", "not too long", mine=True),
        step(2, BELOW, "AdamW", "keeps m and v", mine=True),
        step(1, BELOW, "schedule", "how far, now?", mine=True),
        left(4, BELOW),
        left(3, BELOW),
        right(1, BELOW),
        arrow(model, BELOW - 3, model, ABOVE + TALL + 5, GREEN),
        text(model + 10, (ABOVE + TALL + BELOW) / 2 + 5, "new weights", GREEN, 15),
        text(640, 338, "backward: who must change?", BLUE, 16),
        text(18, 338, "orange: what you write in this notebook", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
