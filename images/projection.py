"""Draws projection.svg: every row of X meets every column of W.

Run `python images/projection.py` to write the picture again.
"""

from collections.abc import Sequence
from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, box, middle, page, text

WORDS = ("The", "car", "is", "red")
X = ((0, 0, 3), (2, 1, 0), (0, 0, 2), (1, 2, 0))
W = ((1, 0), (1, 1), (0, 1))
Y = ((0, 3), (3, 1), (0, 2), (3, 2))  # X @ W
ROW, COLUMN, CELL = 1, 0, 46  # the row and the column that are followed; size of a cell

TITLE = "Every token vector meets every column of the weight matrix"
DESCRIPTION = (
    "The matrix X has four rows, one for each word of The car is red, with three features each. "
    "The matrix W has three rows and two columns. Their product Y has four rows and two columns. "
    "The row of car, 2 1 0, meets the first column of W, 1 1 0: "
    "2 times 1 plus 1 times 1 plus 0 times 0 gives 3, the first answer in the row of car."
)


def matrix(x: float, y: float, numbers: Sequence[Sequence[int]], row: int, column: int) -> str:
    """A grid of numbers; the followed row and column are tinted, -1 for none."""
    pieces = []
    for i, line in enumerate(numbers):
        for j, number in enumerate(line):
            both = row >= 0 and column >= 0
            lit = (i == row and j == column) if both else (i == row or j == column)
            colour = INK if both else BLUE if i == row else ORANGE
            left, top = x + j * CELL, y + i * CELL
            pieces.append(
                box(left, top, CELL - 6, CELL - 6, colour if lit else "#cccccc", PALE)
                + middle(left + 20, top + 27, str(number), colour if lit else GREY, 20)
            )
    return "".join(pieces)


def picture() -> str:
    """The whole drawing."""
    labels = (
        text(48, 117 + i * CELL, word, BLUE if i == ROW else INK) for i, word in enumerate(WORDS)
    )
    return page(
        830,
        345,
        TITLE,
        DESCRIPTION,
        middle(165, 50, "X", size=20),
        middle(165, 72, "4 tokens × 3 features", size=13),
        *labels,
        matrix(98, 90, X, ROW, -1),
        middle(282, 185, "@", size=26),
        middle(380, 50, "W", size=20),
        middle(380, 72, "3 features × 2 questions", size=13),
        matrix(337, 113, W, -1, COLUMN),
        middle(482, 185, "=", size=26),
        middle(575, 50, "Y", size=20),
        middle(575, 72, "4 tokens × 2 answers", size=13),
        matrix(532, 90, Y, ROW, COLUMN),
        text(650, 163, "2·1 + 1·1 + 0·0 = 3"),
        middle(415, 318, "the row of “car” meets the first column of W in a dot product", GREY, 15),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
