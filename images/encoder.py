"""Draws encoder.svg: an encoder with its shapes, and its block with the norm in two places.

Run `python images/encoder.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 920, 572
LEFT, RIGHT = 60, 860  # where the stream enters and leaves the picture
PARTS = ("embedding", "block", "block", "norm", "mean", "head")
SHAPES = ("[B, T]", "[B, T, d]", "[B, T, d]", "[B, T, d]", "[B, T, d]", "[B, d]", "[B, classes]")

TITLE = "An encoder with a classifier, and its block in two forms"
DESCRIPTION = (
    "Top: token ids of shape B, T become vectors of shape B, T, d in the embedding. Every block "
    "and the last norm keep that shape. The mean over the real tokens gives B, d, and the head one "
    "score a class. Middle, pre-norm: the stream runs through the block as one unbroken line. A "
    "branch leaves it, goes through norm and attention and is added back; a second branch goes "
    "through norm and feed-forward. Bottom, post-norm: the branches hold attention and "
    "feed-forward alone, and the norms stand on the stream itself, each behind an addition."
)


def stream(x1: float, x2: float, y: float) -> str:
    """A piece of the residual stream: a wide line."""
    return f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="{BLUE}" stroke-width="7"/>'


def plus(x: float, y: float) -> str:
    """The place where a branch is added to the stream."""
    circle = f'<circle cx="{x}" cy="{y}" r="15" fill="white" stroke="{BLUE}" stroke-width="3"/>'
    return circle + middle(x, y + 7, "+", BLUE, 22)


def label(x: float, y: float, words: str, colour: str, width: float) -> str:
    """A box with its name in it, centred at x, y."""
    return box(x - width / 2, y - 19, width, 38, colour) + middle(x, y + 6, words, colour)


def whole(y: float) -> str:
    """The model from left to right, with the shape of what passes between its parts."""
    step = (RIGHT - LEFT) / len(PARTS)
    pieces = []
    for place, shape in enumerate(SHAPES):
        x = LEFT + step * place
        pieces.append(middle(x, y - 34, shape, GREY, 13))
        if place < len(PARTS):
            colour = INK if place in (0, 4, 5) else BLUE
            pieces += [
                arrow(x - 12, y, x + 12, y),
                label(x + step / 2, y, PARTS[place], colour, 108),
            ]
    pieces.append(arrow(RIGHT - 12, y, RIGHT + 12, y))
    return "".join(pieces)


def branch(x: float, y: float, names: tuple[str, ...], colour: str) -> str:
    """What leaves the stream at x, passes through boxes below it and is added back."""
    below, end = y + 82, x + 34 + 148 * len(names)
    down = f'<path d="M{x} {y}V{below}H{x + 8}" fill="none" stroke="{INK}" stroke-width="1.5"/>'
    boxes = []
    for place, name in enumerate(names):
        centre = x + 86 + 148 * place
        shade = GREEN if name == "norm" else colour
        boxes += [
            arrow(centre - 86, below, centre - 62, below),
            label(centre, below, name, shade, 124),
        ]
    last = x + 148 * len(names)
    out = f'<path d="M{last} {below}H{end}" fill="none" stroke="{INK}" stroke-width="1.5"/>'
    up = arrow(end, below, end, y + 18)
    return down + "".join(boxes) + out + up + plus(end, y)


def pre_norm(y: float) -> str:
    """Today's block: the norms stand in the branches."""
    return "".join(
        (
            text(LEFT - 30, y - 34, "Pre-norm (GPT-2, today): x + f(norm(x))", size=16),
            stream(LEFT - 30, RIGHT, y),
            arrow(RIGHT, y, RIGHT + 18, y),
            branch(LEFT + 20, y, ("norm", "attention"), ORANGE),
            branch(LEFT + 440, y, ("norm", "feed-forward"), ORANGE),
        )
    )


def post_norm(y: float) -> str:
    """The block of 2017: the norms stand on the stream."""
    return "".join(
        (
            text(LEFT - 30, y - 34, "Post-norm (2017, BERT): norm(x + f(x))", size=16),
            stream(LEFT - 30, RIGHT, y),
            arrow(RIGHT, y, RIGHT + 18, y),
            branch(LEFT + 20, y, ("attention",), ORANGE),
            label(LEFT + 300, y, "norm", GREEN, 112),
            branch(LEFT + 440, y, ("feed-forward",), ORANGE),
            label(LEFT + 720, y, "norm", GREEN, 112),
        )
    )


def picture() -> str:
    """The whole drawing as SVG, with its text alternative inside."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        whole(76),
        f'<line x1="30" y1="132" x2="870" y2="132" stroke="{PALE}" stroke-width="3"/>',
        text(30, 164, "Inside a block: the blue line is the residual stream", GREY, 14),
        pre_norm(236),
        post_norm(448),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
