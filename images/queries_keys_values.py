"""Draws queries_keys_values.svg: one word asks, four words are asked, their values are mixed.

Run `python images/queries_keys_values.py` to write the picture again.
"""

import math
from pathlib import Path

from drawing import BLUE, GREY, INK, ORANGE, PURPLE, arrow, box, middle, page, text

WORDS = ("The", "car", "is", "red")
SCORES = (1.0, 0.0, 1.0, 2.0)  # the query of "car" with every key, as in notebook 02
QUERY, KEY, VALUE = BLUE, PURPLE, ORANGE
LEFT, STEP, WIDE, HIGH = 355, 130, 100, 38  # first column, distance of columns, size of a box
LAST = LEFT + STEP * (len(WORDS) - 1)

TITLE = "How the word car asks the sentence"
DESCRIPTION = (
    "A table with a column for each word of The car is red. Every word has a key. The query of "
    "car meets each key in a dot product, which gives the scores 1, 0, 1 and 2. Softmax turns the "
    "scores into weights that sum to 1; red has the largest. Every word also has a value. The "
    "values times their weights are added up. That is what attention adds to the vector of car."
)


def named(x: float, y: float, words: str, edge: str, width: float = WIDE) -> str:
    """A box around its text, centred at x, y."""
    return box(x - width / 2, y - HIGH / 2, width, HIGH, edge) + middle(x, y + 6, words, edge)


def row_label(y: float, name: str, question: str) -> str:
    """Name of a row at the left edge, with what it means below it."""
    return text(24, y - 2, name, more='font-weight="bold"') + text(24, y + 18, question, size=14)


def thick(x: float, y1: float, y2: float, share: float) -> str:
    """An arrow of a value, as thick as its weight."""
    width = f'stroke-width="{1 + 4 * share:.1f}"'
    return arrow(x, y1, x, y2, VALUE).replace('stroke-width="1.5"', width)


def column(x: float, word: str, score: float, share: float) -> str:
    """All that one asked word adds, from top to bottom."""
    return "".join(
        (
            named(x, 45, word, INK),
            arrow(x, 66, x, 103),
            named(x, 126, f"key {word}", KEY),
            arrow(x, 147, x, 184, KEY),
            text(x, 214, f"{score:g}", QUERY, 22, 'text-anchor="middle"'),
            arrow(x, 226, x, 258),
            middle(x, 284, f"{share:.0%}", INK, 18),
            thick(x, 295, 331, share),
            middle(x + 16, 318, "×", VALUE, 18),
            named(x, 354, f"value {word}", VALUE),
            thick(x, 375, 407, share),
        )
    )


def dots(place: int) -> str:
    """A dotted line from a score to the next one: the query goes on to the next key."""
    x = LEFT + STEP * place
    ends = f'x1="{x + 18}" y1="208" x2="{x + STEP - 18}" y2="208"'
    return f'<line {ends} stroke="{QUERY}" stroke-dasharray="2 6"/>'


if __name__ == "__main__":
    total = sum(math.exp(score) for score in SCORES)
    drawing = page(
        830,
        530,
        TITLE,
        DESCRIPTION,
        row_label(45, "Words", "one vector each"),
        row_label(126, "Keys", "what can I be matched against?"),
        row_label(203, "Scores", "query · key"),
        row_label(280, "Weights", "softmax: they sum to 1"),
        row_label(354, "Values", "what do I hand over?"),
        row_label(430, "Mixture", "each value × its weight, added"),
        row_label(496, "Afterwards", "the old vector is still in it"),
        named(210, 208, "query car", QUERY),
        arrow(262, 208, LEFT - 20, 208, QUERY),
        *map(dots, range(len(WORDS) - 1)),
        *(
            column(LEFT + STEP * place, word, score, math.exp(score) / total)
            for place, (word, score) in enumerate(zip(WORDS, SCORES, strict=True))
        ),
        named((LEFT + LAST) / 2, 430, "what attention brings to car", VALUE, 3 * STEP + WIDE),
        arrow((LEFT + LAST) / 2, 451, (LEFT + LAST) / 2, 475, VALUE),
        middle((LEFT + LAST) / 2, 502, "is added to the vector of car", GREY, 16),
    )
    Path(__file__).with_suffix(".svg").write_text(drawing, encoding="utf-8")
