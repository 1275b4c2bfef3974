"""Draws inference.svg: one round of writing, what it reads, and four places to save.

Run `python images/inference.py` to write the picture again.
"""

from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PALE, arrow, box, middle, note, page, text

WIDTH, HEIGHT = 900, 372

TITLE = "One round of writing, what it reads, and four places to save"
DESCRIPTION = (
    "At the left is memory, a tall box that holds two others: the weights, and the cache with the "
    "keys and values of all tokens so far. A thick arrow leads from memory to the arithmetic in "
    "the middle: all of both is read, every round. From the arithmetic an arrow leads to one "
    "token at the right, and from there an arrow leads back below to the cache, where its key and "
    "value are kept. Orange marks what you write in this notebook: fewer bits, at the weights "
    "(section 5); bytes counted, at the cache (section 2); attention in blocks, in the arithmetic "
    "(section 3); a draft, above the arithmetic, that guesses several tokens for one reading "
    "(section 4); and the least time of a round, by bytes or by FLOPs, at the arrow (section 1)."
)


def picture() -> str:
    """The whole drawing."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        box(18, 24, 300, 262, INK, "white"),
        middle(168, 48, "memory", INK, 17),
        box(34, 62, 268, 98),
        middle(168, 84, "weights", INK, 16),
        note(64, 98, 208, "fewer bits", "section 5: quantise"),
        box(34, 174, 268, 98),
        middle(168, 196, "cache: keys and values", INK, 16),
        note(64, 210, 208, "bytes, counted", "section 2: kv_cache_bytes"),
        f'<line x1="322" y1="155" x2="486" y2="155" stroke="{BLUE}" stroke-width="7"/>',
        f'<path d="M484 143L506 155L484 167z" fill="{BLUE}"/>',
        middle(408, 140, "all of it, every round", BLUE, 14),
        note(330, 174, 152, "how long, at least?", "section 1: step_seconds"),
        box(512, 108, 224, 124, INK, PALE),
        middle(624, 134, "arithmetic", INK, 17),
        note(524, 160, 200, "attention in blocks", "section 3: online_softmax_…"),
        note(524, 24, 200, "a draft guesses", "section 4: accept, leftover"),
        arrow(624, 80, 624, 104, ORANGE),
        text(732, 46, "several tokens", ORANGE, 14),
        text(732, 64, "for one reading", ORANGE, 14),
        arrow(740, 170, 784, 170),
        box(788, 144, 96, 52, INK, PALE),
        middle(836, 176, "a token", INK, 16),
        f'<path d="M836 200V320H168V290" fill="none" stroke="{INK}" stroke-width="1.5"/>',
        arrow(168, 298, 168, 276),
        middle(502, 312, "its key and value are kept, and the next round begins", INK, 14),
        text(18, HEIGHT - 14, "orange: you write it in this notebook", ORANGE, 14),
        text(560, HEIGHT - 14, "sections 6, 7: many texts share a reading", GREY, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
