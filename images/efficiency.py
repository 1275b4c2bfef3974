"""Draws efficiency.svg: what fills a machine in training, and three ways to share a step.

Run `python images/efficiency.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, arrow, box, middle, note, page, text

WIDTH, HEIGHT = 900, 400

TITLE = "What fills a machine in training, and three ways to share a step"
DESCRIPTION = (
    "At the left is the memory of one machine, a tall box that holds four others: weights, "
    "gradients and the optimiser's two means, together the state, 16 bytes a parameter; and "
    "activations, so many bytes a token. At the activations stands in orange what you write: keep "
    "less, checkpointed, in section 2. Below: fewer bits, scaled_step, in section 3. At the right "
    "are three ways to share a step among machines, one under the other. Rows: two machines have "
    "the whole model and some rows each, and their gradients are averaged (mean_gradient, section "
    "4). Features: each has a part of every matrix, and their outputs are summed "
    "(column_then_row, section 5). Layers: one machine has the first, the next one the others, "
    "and some wait (bubble, section 6). At the bottom, in orange: how much of the machine is used "
    "(mfu, section 10)."
)


def machine(x: float, y: float, first: str, second: str) -> str:
    """A machine, and what it has of the whole."""
    return "".join(
        (
            box(x, y, 116, 62, INK, PALE),
            middle(x + 58, y + 26, first, INK, 14),
            middle(x + 58, y + 47, second, BLUE, 14),
        )
    )


def way(y: float, name: str, has: str, parts: tuple[str, str], *mine: str) -> str:
    """One way to share: two machines, and what has to be done between them."""
    return "".join(
        (
            text(372, y - 8, name, INK, 16),
            machine(372, y, has, parts[0]),
            machine(500, y, has, parts[1]),
            arrow(620, y + 31, 664, y + 31),
            note(668, y + 6, 214, *mine),
        )
    )


def picture() -> str:
    """The whole drawing."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        box(18, 18, 322, 306, INK, "white"),
        middle(179, 42, "memory of one machine", INK, 17),
        box(34, 54, 290, 86),
        middle(179, 76, "state: 16 bytes a parameter", INK, 16),
        middle(179, 100, "weights · gradients", INK, 14),
        middle(179, 122, "the optimiser's two means", INK, 14),
        box(34, 152, 290, 96),
        middle(179, 174, "activations: bytes a token", INK, 16),
        note(64, 188, 230, "keep less", "section 2: checkpointed"),
        note(64, 262, 230, "fewer bits", "section 3: scaled_step"),
        way(
            46, "share the rows", "whole model", ("rows 1–4", "rows 5–8"),
            "average the gradients", "section 4: mean_gradient",
        ),
        way(
            146, "share the features", "all rows", ("half of each", "half of each"),
            "sum the outputs", "section 5: column_then_row",
        ),
        way(
            246, "share the layers", "all rows", ("first layers", "last layers"),
            "wait, a little", "section 6: bubble",
        ),
        note(668, 336, 214, "how well is it used?", "section 10: mfu"),
        text(372, 366, "sections 8, 9: all three in real processes", GREY, 14),
        text(18, HEIGHT - 24, "orange: you write it in this notebook", ORANGE, 14),
    )  # fmt: skip


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
