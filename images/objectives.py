"""Draws objectives.svg: three families, who may look where, and what each is asked.

Run `python images/objectives.py` to write the picture again.
"""

from collections.abc import Callable
from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, middle, page, text

WIDTH, HEIGHT, CELL, TOP = 900, 364, 24, 84
COLUMNS = (110, 400, 700)  # left edge of each grid

TITLE = "Three families: who may look where, and what is asked"
DESCRIPTION = (
    "Three grids. A row is a token that looks, a column one that is looked at; filled means that "
    "it may. Encoder (BERT): all cells are filled. It reads: the, mask, is, red, and is asked for "
    "car, in orange. Decoder (GPT): the cells on and below the diagonal are filled. It reads: bos, "
    "the, car, is, and is asked at each place for the next word: the, car, is, red. Encoder and "
    "decoder (T5, BART): two grids, one above the other. The source looks at all of the source. "
    "The target looks back at the target, and, in grey, at all of the source. T5 reads: the, "
    "sentinel 0, red, and is asked for sentinel 0, car, is, sentinel 1. BART reads: the, mask, "
    "red, and is asked for the whole text: the, car, is, red."
)
Allowed = Callable[[int, int], bool]


def grid(x: float, y: float, rows: int, columns: int, allowed: Allowed, colour: str) -> str:
    """Cells, filled where row may look at column."""
    return "".join(
        f'<rect x="{x + CELL * column}" y="{y + CELL * row}" width="{CELL - 2}"'
        f' height="{CELL - 2}" rx="3" fill="{colour if allowed(row, column) else PALE}"'
        f' stroke="#cccccc"/>'
        for row in range(rows)
        for column in range(columns)
    )


def everywhere(row: int, column: int) -> bool:
    return True


def back(row: int, column: int) -> bool:
    return column <= row


def said(x: float, y: float, name: str, reads: str, asked: str) -> str:
    """What a model reads, and what it is asked for."""
    return "".join(
        (
            text(x, y, name, INK, 16, 'font-weight="bold"'),
            text(x, y + 22, f"reads: {reads}", BLUE, 14),
            text(x, y + 42, f"asked: {asked}", ORANGE, 14),
        )
    )


def picture() -> str:
    """The whole drawing."""
    encoder, decoder, both = COLUMNS
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        *(
            middle(x + 2 * CELL, 36, name, INK, 18)
            for x, name in zip(COLUMNS, ("encoder", "decoder", "encoder and decoder"), strict=True)
        ),
        middle(encoder + 2 * CELL, 60, "all look at all", GREY, 14),
        middle(decoder + 2 * CELL, 60, "back only", GREY, 14),
        middle(both + 2 * CELL, 60, "target reads the source", GREY, 14),
        grid(encoder, TOP, 4, 4, everywhere, BLUE),
        grid(decoder, TOP, 4, 4, back, BLUE),
        grid(both - 2 * CELL, TOP, 3, 3, everywhere, BLUE),
        grid(both - 2 * CELL, TOP + 3 * CELL + 10, 4, 3, everywhere, "#a9a9a9"),
        grid(both + CELL + 10, TOP + 3 * CELL + 10, 4, 4, back, BLUE),
        text(both - 2 * CELL - 62, TOP + 42, "source", INK, 14),
        text(both - 2 * CELL - 62, TOP + 3 * CELL + 64, "target", INK, 14),
        said(24, 284, "BERT: masked words", "the <mask> is red", "car"),
        said(300, 284, "GPT: the next word", "<bos> the car is", "the car is red"),
        said(520, 284, "T5: spans", "the <0> red", "<0> car is <1>"),
        said(712, 284, "BART: infilling", "the <mask> red", "the car is red"),
        text(24, TOP + 128, "row: who looks; column: at whom", GREY, 14),
        text(24, TOP + 148, "blue: in its own text", BLUE, 14),
        text(24, TOP + 168, "grey: in the source (cross-attention)", GREY, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
