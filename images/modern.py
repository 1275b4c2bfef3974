"""Draws modern.svg: the block of GPT-2 beside a block of today, part by part.

Run `python images/modern.py` to write the picture again.
"""

from pathlib import Path

from drawing import GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 760, 452
COLUMNS, WIDE = (50, 420), 290  # left edges of the two blocks
ROWS, TALL = (46, 136, 226, 316), 60  # from the top: feed-forward, norm, attention, norm

TITLE = "The block of 2019 and the block of today"
DESCRIPTION = (
    "Two blocks side by side, read from below. Left, GPT-2, 2019: positions from a learned table "
    "are added below the first block; LayerNorm; attention with a head of keys and values for each "
    "head of queries, which looks at all earlier tokens; LayerNorm; a feed-forward net with GELU. "
    "Right, today: no positions below; RMSNorm; attention whose queries and keys are normed and "
    "turned by RoPE, whose heads share keys and values, and which may look through a window; "
    "RMSNorm; SwiGLU, or a router that chooses among experts. Orange marks what you write in this "
    "notebook; RoPE is yours already."
)
OLD = (
    ("feed-forward net", "GELU, 4 · d_model wide"),
    ("LayerNorm", ""),
    ("attention", "a key head for every query head"),
    ("LayerNorm", ""),
)
NEW = (
    ("SwiGLU, or experts", "a gate; or a router that chooses"),
    ("RMSNorm", ""),
    ("grouped attention", "RoPE, QK-norm, shared keys, windows"),
    ("RMSNorm", ""),
)


def part(column: int, row: int, name: str, note: str) -> str:
    """One box; orange if it is written in this notebook."""
    x, y = COLUMNS[column], ROWS[row]
    edge, fill = (ORANGE, "#fdf1e7") if column else (INK, PALE)
    centre = x + WIDE / 2
    return "".join(
        (
            box(x, y, WIDE, TALL, edge, fill),
            middle(centre, y + (26 if note else 36), name, edge, 17),
            middle(centre, y + 47, note, edge if column else GREY, 13),
        )
    )


def stream(column: int) -> str:
    """Arrows upwards through the boxes of one block."""
    x = COLUMNS[column] + WIDE / 2
    starts = (*(row - 2 for row in ROWS[1:]), 404)
    return "".join(
        arrow(x, start, x, row + TALL + 5) for start, row in zip(starts, ROWS, strict=True)
    )


def picture() -> str:
    """The whole drawing."""
    heads = ("GPT-2, 2019", "today")
    below = ("tokens + a learned table of places", "tokens")
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        *(middle(COLUMNS[i] + WIDE / 2, 30, heads[i], GREY, 16) for i in range(2)),
        *(part(0, row, *words) for row, words in enumerate(OLD)),
        *(part(1, row, *words) for row, words in enumerate(NEW)),
        *(stream(column) for column in range(2)),
        *(middle(COLUMNS[i] + WIDE / 2, 422, below[i], INK, 14) for i in range(2)),
        text(18, HEIGHT - 12, "orange: you write it in this notebook", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
