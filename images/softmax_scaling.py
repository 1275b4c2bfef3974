"""Draws softmax_scaling.svg: multi-head attention, from the tokens to the output.

Run `python images/softmax_scaling.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, arrow, box, middle, page

HEADS = (BLUE, ORANGE, GREEN, PURPLE)
MAPS = (("Queries", "w_q"), ("Keys", "w_k"), ("Values", "w_v"))
WIDTH, HEIGHT = 916, 424
SHAPES = 396  # height of the line that says what is how large
ROW, TOP = 66, 84  # distance of two heads, and upper edge of the first

TITLE = "Multi-head attention with four heads"
DESCRIPTION = (
    "From left to right: the input x goes through three learned maps, w_q, w_k and w_v, which give "
    "queries, keys and values. Each of the three is cut into four heads, drawn as four coloured "
    "strips. Every head takes its own strip of all three, computes its own softmax of scaled "
    "scores and mixes its own values. The four results are put side by side again and the output "
    "map w_o mixes them into the output. Below stand the shapes for 8 tokens, d_model 64 and 4 "
    "heads: x has 8 by 64 numbers; queries, keys and values 4 heads of 8 by 16; the weights of a "
    "head 8 by 8 and its result 8 by 16; side by side they are 8 by 64 again, and so is y."
)


def strips(x: float, y: float, width: float, height: float) -> str:
    """Features cut into heads: four coloured strips on top of each other."""
    each = height / len(HEADS)
    return "".join(
        f'<rect x="{x}" y="{y + each * place}" width="{width}" height="{each}" fill="{colour}"'
        ' stroke="white"/>'
        for place, colour in enumerate(HEADS)
    )


def learned_map(place: int, name: str, weight: str) -> str:
    """One of the three maps, and the strips that it gives."""
    y = TOP + 88 * place
    centre = y + 36
    return "".join(
        (
            arrow(98, 207, 146, centre),
            box(150, centre - 20, 70, 40),
            middle(185, centre + 6, weight),
            arrow(222, centre, 250, centre),
            strips(256, centre - 26, 56, 52),
            middle(284, centre - 33, name, INK, 13),
        )
    )


def head(place: int, colour: str) -> str:
    """What one head does on its own, with its strip of queries, of keys and of values."""
    y = TOP + ROW * place
    centre = y + 24
    strip = 13 * place + 6.5  # middle of its strip, from the upper edge of the strips
    return "".join(
        (
            *(
                arrow(314, TOP + 10 + 88 * part + strip, 366, centre + 12 * (part - 1), colour)
                for part in range(len(MAPS))
            ),
            box(372, y, 228, 48, colour),
            middle(486, y + 21, f"head {place + 1}", colour, 14),
            middle(486, y + 39, "softmax(Q Kᵀ / √d_head) V", colour, 14),
            arrow(604, centre, 650, centre, colour),
        )
    )


def shapes() -> tuple[str, ...]:
    """How large everything is, for 8 tokens, d_model 64 and 4 heads of 16."""
    return (
        middle(61, SHAPES, "[8, 64]", size=14),
        middle(185, SHAPES, "64 → 64", size=14),
        middle(284, SHAPES, "[4, 8, 16]", size=14),
        middle(486, SHAPES, "weights [8, 8], result [8, 16]", size=14),
        middle(683, SHAPES, "[8, 64]", size=14),
        middle(786, SHAPES, "64 → 64", size=14),
        middle(867, SHAPES, "[8, 64]", size=14),
        middle(450, SHAPES + 20, "8 tokens, d_model = 64, 4 heads, d_head = 16", GREY, 13),
    )


def picture() -> str:
    """The whole drawing as SVG, with its text alternative inside."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        middle(60, 40, "input", GREY, 14),
        middle(236, 40, "three maps, split", GREY, 14),
        middle(486, 40, "each head on its own", GREY, 14),
        middle(683, 40, "merge", GREY, 14),
        middle(800, 40, "mix", GREY, 14),
        f'<rect x="30" y="181" width="62" height="52" rx="6" fill="{PALE}" stroke="{INK}"/>',
        middle(61, 213, "x", size=20),
        *(learned_map(place, *names) for place, names in enumerate(MAPS)),
        *(head(place, colour) for place, colour in enumerate(HEADS)),
        strips(656, TOP, 54, ROW * 3 + 48),
        arrow(716, 207, 750, 207),
        box(755, 187, 62, 40),
        middle(786, 213, "w_o"),
        arrow(820, 207, 852, 207),
        middle(872, 213, "y", size=20),
        *shapes(),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
