"""Draws decoder.svg: the two decoders side by side, and what they add to an encoder.

Run `python images/decoder.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDE = 190  # of a box for a sublayer
STEP = 70  # from one sublayer up to the next
WIDTH, HEIGHT = 900, 510
FEED_Y, FIRST_Y = 490, 372  # the tokens at the bottom, and the upper edge of the lowest sublayer

TITLE = "An encoder, a decoder that reads its output, and a decoder on its own"
DESCRIPTION = (
    "Three stacks, drawn from the tokens at the bottom upwards. Left, an encoder block: "
    "self-attention over all tokens, then feed-forward; a last norm makes the "
    "memory. Middle, the block of an encoder-decoder: "
    "self-attention with a causal mask, then cross-attention, whose keys and values come from the "
    "encoder's output and whose queries come from the decoder, then feed-forward. Right, the block "
    "of a GPT: self-attention with a causal mask, then feed-forward, and no cross-attention. Both "
    "decoders read their own text shifted by one, and end with a head that scores the next token. "
    "What differs from the encoder is orange: the mask, the cross-attention, the head."
)


def sublayer(x: float, place: int, name: str, note: str, edge: str = INK) -> str:
    """One step of a block; `place` counts from below."""
    y = FIRST_Y - place * STEP
    return "".join(
        (
            box(x, y, WIDE, 50, edge, "#fdf1e7" if edge == ORANGE else PALE),
            middle(x + WIDE / 2, y + 22, name, edge, 16),
            middle(x + WIDE / 2, y + 41, note, edge if edge == ORANGE else GREY, 13),
        )
    )


def stream(x: float, places: int) -> str:
    """The arrows from the tokens up to the last sublayer."""
    centre = x + WIDE / 2
    return "".join(
        arrow(centre, FIRST_Y - place * STEP + 67, centre, FIRST_Y - place * STEP + 54)
        for place in range(1, places)
    ) + arrow(centre, FEED_Y - 22, centre, FIRST_Y + 54)


def block(x: float, places: int, name: str) -> str:
    """The outline around the sublayers of one block, with its name."""
    top = FIRST_Y - (places - 1) * STEP - 14
    height = FIRST_Y + 74 - top
    return (
        f'<rect x="{x - 16}" y="{top}" width="{WIDE + 32}" height="{height}" rx="12" fill="none"'
        f' stroke="{GREY}" stroke-dasharray="5 4"/>'
    ) + text(x + WIDE - 56, top + height - 9, name, GREY, 13)


def head(x: float, places: int) -> str:
    """What a decoder ends with."""
    y, centre = FIRST_Y - places * STEP - 18, x + WIDE / 2
    return "".join(
        (
            arrow(centre, y + 85, centre, y + 44),
            box(x, y, WIDE, 40, ORANGE, "#fdf1e7"),
            middle(centre, y + 26, "norm, head: logits", ORANGE, 15),
        )
    )


def column(x: float, title: str, tokens: str, places: int) -> str:
    """A stack's title, its tokens, its arrows and the outline of its block."""
    return "".join(
        (
            middle(x + WIDE / 2, 40, title, INK, 19),
            middle(x + WIDE / 2, FEED_Y, tokens, GREEN, 16),
            block(x, places, "× layers"),
            stream(x, places),
        )
    )


def memory(x: float, end: float) -> str:
    """What the encoder ends with, and the way of keys and values into the decoder's second step."""
    y, into = FIRST_Y - 2 * STEP - 18, FIRST_Y - STEP + 25
    edge, turn = x + WIDE, x + WIDE + 60
    return "".join(
        (
            arrow(x + WIDE / 2, y + 85, x + WIDE / 2, y + 44),
            box(x, y, WIDE, 40),
            middle(x + WIDE / 2, y + 26, "norm: the memory", INK, 15),
            f'<path d="M{edge + 1} {y + 20}H{turn}V{into}" fill="none"'
            f' stroke="{ORANGE}" stroke-width="1.5"/>',
            arrow(turn, into, end - 4, into, ORANGE),
            middle(turn - 4, y + 8, "keys, values", ORANGE, 13),
        )
    )


def picture() -> str:
    """The whole drawing."""
    left, centre, right = 40, 355, 670
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        column(left, "encoder", "source: march 3, 1984", 2),
        sublayer(left, 0, "self-attention", "all tokens look at all"),
        sublayer(left, 1, "feed-forward", "each token alone"),
        memory(left, centre),
        column(centre, "decoder that reads it", "target so far: 1984-0", 3),
        sublayer(centre, 0, "self-attention", "causal mask", ORANGE),
        sublayer(centre, 1, "cross-attention", "queries from here", ORANGE),
        sublayer(centre, 2, "feed-forward", "each token alone"),
        head(centre, 3),
        column(right, "GPT: decoder only", "the car is", 2),
        sublayer(right, 0, "self-attention", "causal mask", ORANGE),
        sublayer(right, 1, "feed-forward", "each token alone"),
        head(right, 2),
        middle(centre + WIDE / 2, 122, "next: 3", BLUE, 16),
        middle(right + WIDE / 2, 192, "next: red", BLUE, 16),
        text(40, 84, "orange: what a decoder has", ORANGE, 14),
        text(40, 103, "and an encoder has not", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
