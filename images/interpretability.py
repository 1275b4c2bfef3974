"""Draws interpretability.svg: four steps from a suspicion to a circuit.

Run `python images/interpretability.py` to write the picture again.
"""

from pathlib import Path

from drawing import GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 900, 262
WIDE, TALL, GAP, LEFT, TOP = 192, 72, 32, 18, 44
STEPS = (
    ("look", "head_scores", "a suspicion"),
    ("switch off", "ablate_head", "what is needed"),
    ("carry over", "patch", "what is carried, and where"),
    ("keep only this", "ablate_head, the others", "what is enough: a circuit"),
)
READERS = (
    ("lens", "logit_lens", "what it would say now"),
    ("probe", "fit_probe", "what can be read"),
)

TITLE = "From a suspicion to a circuit"
DESCRIPTION = (
    "From left to right, four steps. Look: head_scores, a suspicion. Switch off: ablate_head, what "
    "is needed. Carry over: patch, what is carried, and where. Keep only this: ablate_head for all "
    "others, what is enough, a circuit. Below, two ways that read and do not test: the lens, "
    "logit_lens, what it would say now; the probe, fit_probe, what can be read. Orange marks what "
    "you write in this notebook."
)


def step(column: int, y: int, name: str, part: str, note: str) -> str:
    """One box: what is done, by which part, and what it tells."""
    x = LEFT + column * (WIDE + GAP)
    centre = x + WIDE / 2
    return "".join(
        (
            box(x, y, WIDE, TALL, ORANGE, PALE),
            middle(centre, y + 23, name, INK, 16),
            middle(centre, y + 43, part, ORANGE, 13),
            middle(centre, y + 61, note, GREY, 13),
        )
    )


def picture() -> str:
    """The whole drawing."""
    edges = [LEFT + column * (WIDE + GAP) + WIDE for column in range(3)]
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        text(LEFT, 30, "look, then test", GREY, 14),
        *(step(column, TOP, *each) for column, each in enumerate(STEPS)),
        *(arrow(edge + 3, TOP + TALL / 2, edge + GAP - 5, TOP + TALL / 2) for edge in edges),
        text(LEFT, TOP + TALL + 30, "read, without a test", GREY, 14),
        *(step(column, TOP + TALL + 42, *each) for column, each in enumerate(READERS)),
        text(LEFT, HEIGHT - 10, "orange: you write it in this notebook", ORANGE, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
