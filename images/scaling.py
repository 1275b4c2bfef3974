"""Draws scaling.svg: from a model's sizes to what it costs, and to what it gains.

Run `python images/scaling.py` to write the picture again.
"""

from pathlib import Path

from drawing import GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 900, 346
COLUMNS = (18, 278, 626)  # left edges
WIDE = (208, 296, 256)  # of a box, by column
ROWS, TALL = (52, 142, 232), 62

TITLE = "What a larger model costs, and what it gains"
DESCRIPTION = (
    "Three columns of boxes. On the left the sizes: layers and d_model; vocabulary and context; "
    "tokens read, D. In the middle the costs: parameters N, about 12 times layers times d_model "
    "squared, from which follow memory, for weights, gradients, optimiser and activations, and "
    "FLOPs, 6 N for every token of training. On the right the gains: a loss that is a floor, plus "
    "a over N to the power alpha, plus b over D to the power beta; from it follow the loss of "
    "a larger model, foretold from five small ones, and the best N and D for the FLOPs there are. "
    "Orange marks what you write in this notebook: the boxes of the middle and of the right."
)


def place(column: int, row: int, name: str, note: str) -> str:
    """One box; orange if it is written in this notebook."""
    x, y, wide = COLUMNS[column], ROWS[row], WIDE[column]
    mine = column > 0
    edge = ORANGE if mine else INK
    return "".join(
        (
            box(x, y, wide, TALL, edge, "#fdf1e7" if mine else PALE),
            middle(x + wide / 2, y + 27, name, edge, 17),
            middle(x + wide / 2, y + 48, note, edge if mine else GREY, 13),
        )
    )


def right(column: int, row: int, to_row: int) -> str:
    """An arrow from a box to one in the next column; from above it ends above the middle."""
    start, end = ROWS[row] + TALL / 2, ROWS[to_row] + TALL / (2 if row == to_row else 4)
    return arrow(COLUMNS[column] + WIDE[column] + 3, start, COLUMNS[column + 1] - 5, end)


def up_and_down(column: int) -> str:
    """Arrows from the middle box of a column to those above and below it."""
    x = COLUMNS[column] + WIDE[column] / 2
    return arrow(x, ROWS[1] - 2, x, ROWS[0] + TALL + 4) + arrow(
        x, ROWS[1] + TALL + 2, x, ROWS[2] - 4
    )


def picture() -> str:
    """The whole drawing."""
    heads = ("sizes", "costs", "gains")
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        *(middle(COLUMNS[i] + WIDE[i] / 2, 34, heads[i], GREY, 16) for i in range(3)),
        place(0, 0, "n_layers, d_model", "the blocks"),
        place(0, 1, "vocabulary, context", "the tables and the head"),
        place(0, 2, "tokens D", "how much it reads"),
        place(1, 0, "memory", "weights, gradients, AdamW, activations"),
        place(1, 1, "parameters N", "12 · n_layers · d_model² + tables"),
        place(1, 2, "FLOPs", "about 6 N for a token of training"),
        place(2, 0, "a larger model's loss", "foretold from five small ones"),
        place(2, 1, "loss", "floor + a / N^α + b / D^β"),
        place(2, 2, "the best N and D", "for the FLOPs that you have"),
        *(right(0, row, to) for row, to in ((0, 1), (1, 1), (2, 2))),
        *(right(1, row, row) for row in (1, 2)),
        *(up_and_down(column) for column in (1, 2)),
        text(18, HEIGHT - 16, "orange: you write it in this notebook", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
