"""Draws tokenization.svg: how a tokenizer is made, and how a text becomes ids and text again.

Run `python images/tokenization.py` to write the picture again.
"""

from pathlib import Path

from drawing import GREY, INK, ORANGE, PALE, arrow, box, middle, page, text

WIDTH, HEIGHT = 900, 300
WIDE, TALL = 152, 66
COLUMNS = (18, 196, 374, 552, 730)  # left edges
TRAINED, USED = 54, 186

TITLE = "A tokenizer: made once, then used on every text"
DESCRIPTION = (
    "Two rows of boxes. Above, made once: a large text is cut into words, neighbouring symbols are "
    "counted, the best pair is merged, and so again until there is a list of merges, which is the "
    "vocabulary. Below, used on every text: text is cut into words, the merges are applied in "
    "their order, which gives pieces, then ids, which the model reads; decode leads back from ids "
    "to the text. Orange marks what you write in this notebook: counting, merging, the list, and "
    "encoding."
)


def place(column: int, y: int, name: str, note: str, mine: bool = False) -> str:
    """One box; orange if it is written in this notebook."""
    x, edge = COLUMNS[column], ORANGE if mine else INK
    return "".join(
        (
            box(x, y, WIDE, TALL, edge, "#fdf1e7" if mine else PALE),
            middle(x + WIDE / 2, y + 28, name, edge, 16),
            middle(x + WIDE / 2, y + 50, note, edge if mine else GREY, 13),
        )
    )


def right(column: int, y: int) -> str:
    """An arrow to the next box."""
    height = y + TALL / 2
    return arrow(COLUMNS[column] + WIDE + 2, height, COLUMNS[column + 1] - 4, height)


def down() -> str:
    """From the list of merges to where it is used, round the words."""
    x, to = COLUMNS[4] + WIDE / 2, COLUMNS[2] + WIDE / 2
    height = (TRAINED + TALL + USED) / 2
    line = f'<path d="M{x} {TRAINED + TALL + 2}V{height}H{to}" fill="none" stroke="{INK}"/>'
    return line + arrow(to, height, to, USED - 4)


def again() -> str:
    """From the merge back to the counting."""
    x, to, y = COLUMNS[3] + WIDE / 2, COLUMNS[2] + WIDE / 2, TRAINED - 16
    line = f'<path d="M{x} {TRAINED - 2}V{y}H{to}" fill="none" stroke="{INK}"/>'
    return line + arrow(to, y, to, TRAINED - 4)


def picture() -> str:
    """The whole drawing."""
    return page(
        WIDTH,
        HEIGHT,
        TITLE,
        DESCRIPTION,
        text(18, 32, "made once", GREY, 15),
        middle((COLUMNS[2] + COLUMNS[3] + WIDE) / 2, 30, "and again", GREY, 13),
        place(0, TRAINED, "a large text", "of the kind to come"),
        place(1, TRAINED, "words", "how often each occurs"),
        place(2, TRAINED, "count_pairs", "of neighbours", mine=True),
        place(3, TRAINED, "merge_pair", "the most frequent", mine=True),
        place(4, TRAINED, "merges", "train_bpe gives them", mine=True),
        text(18, USED - 14, "used on every text", GREY, 15),
        place(0, USED, "text", "“The car is red”"),
        place(1, USED, "words", "The ␣car ␣is ␣red"),
        place(2, USED, "bpe_encode", "merges, in order", mine=True),
        place(3, USED, "pieces", "Th e ␣c ar …"),
        place(4, USED, "ids", "what a model reads"),
        *(right(column, TRAINED) for column in range(4)),
        *(right(column, USED) for column in range(4)),
        again(),
        down(),
        text(18, HEIGHT - 16, "orange: you write it in this notebook", ORANGE, 14),
        text(COLUMNS[3] - 10, HEIGHT - 16, "decode: from ids back, by a table", GREY, 14),
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
