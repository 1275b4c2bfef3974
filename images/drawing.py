"""Pieces of SVG that the pictures of the notebooks are made of."""

from html import escape

from course_utils.views.colour import BLUE, GREEN, GREY, INK, ORANGE, PURPLE

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PURPLE"]
PALE = "#f4f4f4"
MINE = "#fdf1e7"  # behind what the learner writes
ON_PAGE = 0.95  # width on the page, as a share of the drawing's own: its letters match the text


def text(x: float, y: float, words: str, colour: str = INK, size: int = 16, more: str = "") -> str:
    """One line of text; `more` holds further attributes."""
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" {more}>{escape(words)}</text>'


def middle(x: float, y: float, words: str, colour: str = INK, size: int = 16) -> str:
    """One line of text, centred at x."""
    return text(x, y, words, colour, size, 'text-anchor="middle"')


def box(x: float, y: float, width: float, height: float, edge: str = INK, fill: str = PALE) -> str:
    """A rounded box with its upper left corner at x, y."""
    place = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="6"'
    return f'<rect {place} fill="{fill}" stroke="{edge}" stroke-width="2"/>'


def note(x: float, y: float, width: float, first: str, second: str) -> str:
    """An orange box with what the learner writes, and where."""
    return "".join(
        (
            box(x, y, width, 52, ORANGE, MINE),
            middle(x + width / 2, y + 22, first, ORANGE, 15),
            middle(x + width / 2, y + 42, second, ORANGE, 12),
        )
    )


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = INK) -> str:
    """A line with a head at its end."""
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {ends} stroke="{colour}" stroke-width="1.5" marker-end="url(#head)"/>'


def page(width: int, height: int, title: str, description: str, *pieces: str) -> str:
    """The whole drawing on white, with its text alternative inside."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{ON_PAGE * width:.0f}"'
            f' viewBox="0 0 {width} {height}" role="img"'
            ' aria-labelledby="title description" font-family="sans-serif">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
            ' markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" fill="white"/>',
            *pieces,
            "</svg>\n",
        )
    )
