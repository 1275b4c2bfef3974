"""Draws modern.svg: the block of GPT-2 beside a block of today, part by part.

Run `python images/modern.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 820, 474
STREAMS, WIDE = (46, 446), 282  # where the two residual streams run, and how wide a box is
ROWS, TALL = (52, 136, 232, 316), 60  # from the top: feed-forward, norm, attention, norm
TOP, FLOOR = 44, 412  # where a stream leaves the picture, and where it comes in

TITLE = "The block of 2019 and the block of today"
DESCRIPTION = (
    "Two blocks side by side, read from below. In both, a wide blue line, the residual stream, "
    "runs through unbroken, and two branches leave it, pass a norm and a part, and are added back. "
    "Left, GPT-2, 2019: positions from a learned table are added below the first block; LayerNorm; "
    "attention with a head of keys and values for each head of queries; LayerNorm; a feed-forward "
    "net with GELU. Right, today: no positions below; RMSNorm; attention whose heads share keys "
    "and values, and which may look through a window; RMSNorm; SwiGLU, or a router that chooses "
    "among experts. Orange marks what you write in this notebook. RoPE, yours since notebook 04, "
    "and QK-norm, which the package has, are grey."
)
OLD = (
    ("feed-forward net", "GELU, 4 · d_model wide"),
    ("LayerNorm", ""),
    ("attention", "a key head for every query head"),
    ("LayerNorm", ""),
)
NEW = (
    ("SwiGLU, or a router", "experts"),
    ("RMSNorm", ""),
    ("shared keys, windows", "RoPE, QK-norm"),
    ("RMSNorm", ""),
)


def part(column: int, row: int, name: str, note: str) -> str:
    """One box; orange if it is written in this notebook."""
    x, y = STREAMS[column] + 50, ROWS[row]
    colour, fill = (ORANGE, "#fdf1e7") if column else (INK, PALE)
    centre = x + WIDE / 2
    return "".join(
        (
            box(x, y, WIDE, TALL, colour, fill),
            middle(centre, y + (26 if note else 36), name, colour, 17),
            middle(centre, y + 47, note, GREY, 13),
        )
    )


def stream(column: int) -> str:
    """The line that runs through."""
    x = STREAMS[column]
    ends = f'x1="{x}" y1="{FLOOR}" x2="{x}" y2="{TOP}"'
    return f'<line {ends} stroke="{BLUE}" stroke-width="7"/>'


def branch(column: int, above: int) -> str:
    """Out of the stream into a norm, on into the part above it, and back."""
    x, part_y, norm_y = STREAMS[column], ROWS[above], ROWS[above + 1]
    edge, centre = x + 50, x + 50 + WIDE / 2
    back = part_y + TALL / 2
    out = norm_y + TALL / 2
    plus = f'<circle cx="{x}" cy="{back}" r="14" fill="white" stroke="{BLUE}" stroke-width="3"/>'
    return "".join(
        (
            arrow(x, out, edge - 2, out),
            arrow(centre, norm_y - 2, centre, part_y + TALL + 3),
            arrow(edge, back, x + 18, back),
            plus,
            middle(x, back + 7, "+", BLUE, 21),
        )
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
        *(middle(STREAMS[i] + 50 + WIDE / 2, 34, heads[i], GREY, 16) for i in range(2)),
        *(stream(column) for column in range(2)),
        *(part(0, row, *words) for row, words in enumerate(OLD)),
        *(part(1, row, *words) for row, words in enumerate(NEW)),
        *(branch(column, above) for column in range(2) for above in (0, 2)),
        *(text(STREAMS[i] - 16, 430, below[i], INK, 14) for i in range(2)),
        text(18, HEIGHT - 12, "orange: you write it in this notebook", ORANGE, 14),
        text(306, HEIGHT - 12, "blue: the residual stream, to which branches are added", BLUE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
