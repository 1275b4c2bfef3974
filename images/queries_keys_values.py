"""Draws queries_keys_values.svg: one word asks, four words are asked, their values are mixed.

Run `python images/queries_keys_values.py` to write the picture again.
"""

import math
from html import escape
from pathlib import Path

WORDS = ("The", "car", "is", "red")
SCORES = (1.0, 0.0, 1.0, 2.0)  # the query of "car" with every key, as in notebook 02
QUERY, KEY, VALUE = "#1f67ab", "#5b5b5b", "#a9540f"
INK, PALE = "#222222", "#f4f4f4"
WIDTH, HEIGHT = 810, 470
LEFT, STEP, BOX = 345, 125, 92  # centre of the first column, distance of columns, width of a box

TITLE = "How the word car asks the sentence"
DESCRIPTION = (
    "A table with a column for each word of The car is red. Every word has a key. The query of "
    "car meets each key in a dot product, which gives the scores 1, 0, 1 and 2. Softmax turns the "
    "scores into shares that sum to 1; red has the largest. Every word also has a value. The "
    "values times their shares are added up: that is the new vector of car."
)


def text(x: float, y: float, words: str, colour: str = INK, size: int = 16, more: str = "") -> str:
    """One line of text; `more` holds further attributes."""
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" {more}>{escape(words)}</text>'


def box(x: float, y: float, words: str, edge: str, width: int = BOX) -> str:
    """A rounded box around its text, centred at x, y."""
    corner = f'x="{x - width / 2}" y="{y - 19}" width="{width}" height="38" rx="6"'
    frame = f'<rect {corner} fill="{PALE}" stroke="{edge}" stroke-width="2"/>'
    return frame + text(x, y + 6, words, edge, more='text-anchor="middle"')


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 1.5) -> str:
    """A line with a head at its end."""
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" marker-end="url(#head)"/>'


def dots(x1: float, x2: float, y: float) -> str:
    """A dotted line from left to right: the query goes on to the next key."""
    return f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="{QUERY}" stroke-dasharray="2 6"/>'


def row_label(y: float, name: str, question: str) -> str:
    """Name of a row at the left edge, with what it means below it."""
    return text(24, y - 2, name, more='font-weight="bold"') + text(24, y + 17, question, size=13)


def column(x: float, word: str, score: float, share: float) -> str:
    """All that one asked word adds, from top to bottom."""
    return "".join(
        (
            box(x, 45, word, INK),
            arrow(x, 64, x, 104),
            box(x, 126, f"key {word}", KEY),
            arrow(x, 145, x, 184, KEY),
            text(x, 214, f"{score:g}", QUERY, 22, 'text-anchor="middle"'),
            arrow(x, 224, x, 256),
            text(x, 284, f"{share:.0%}", INK, 18, 'text-anchor="middle"'),
            arrow(x, 294, x, 333, VALUE, 1 + 4 * share),
            box(x, 354, f"value {word}", VALUE),
            arrow(x, 373, x, 408, VALUE, 1 + 4 * share),
        )
    )


def picture() -> str:
    """The whole drawing as SVG, with its text alternative inside."""
    total = sum(math.exp(score) for score in SCORES)
    columns = (
        column(LEFT + STEP * place, word, score, math.exp(score) / total)
        for place, (word, score) in enumerate(zip(WORDS, SCORES, strict=True))
    )
    labels = (
        row_label(45, "Words", "one vector each"),
        row_label(126, "Keys", "what can I be matched against?"),
        row_label(284, "Shares", "softmax: they sum to 1"),
        row_label(354, "Values", "what do I hand over?"),
        row_label(430, "Result", "each value times its share, added"),
    )
    query = (
        text(24, 200, "Scores", more='font-weight="bold"'),
        text(24, 219, "query · key", size=13),
        box(200, 208, "query car", QUERY),
        arrow(248, 208, 322, 208, QUERY),
        *(
            dots(LEFT + STEP * place + 18, LEFT + STEP * (place + 1) - 18, 208)
            for place in range(3)
        ),
    )
    result = box(LEFT + 1.5 * STEP, 428, "the new vector of car", QUERY, 3 * STEP + BOX)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            ' aria-labelledby="title description" font-family="sans-serif">',
            f'<title id="title">{TITLE}</title>',
            f'<desc id="description">{DESCRIPTION}</desc>',
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
            ' markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="white"/>',
            *labels,
            *columns,
            *query,
            result,
            "</svg>\n",
        )
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
