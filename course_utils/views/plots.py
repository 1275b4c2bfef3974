"""Heatmaps of attention weights, for the page and for print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.views.inputs import full_mask, labels, one_sentence, shorten, text_width
from course_utils.views.letters import plain
from course_utils.views.style import HEAT, SIGNED

WRITE_VALUES_UP_TO = 6  # tokens
MAX_COLUMNS = 4
LETTERS = 12  # of a name; longer ones are cut
# Lengths are in inches.
PAGE, LEAST = 12.5, 1.8
MOST = {1: 7.0, 2: 5.0}  # of a map, by the number of heads
MOST_OF_MANY = 3.0
PIXELS = 100  # an inch
NAME_ROOM, LINE_ROOM = 0.13, 0.1  # least distance of two names, and of two lines between cells


def heatmap(
    weights: Float[Tensor, "... query key"],
    tokens: Sequence[object],
    keys: Sequence[object] | None = None,
    titles: Sequence[str] | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    title: str = "Attention weights",
) -> Figure:
    """Draw one map a head: a row for every query, a column for every key, white for 0.

    `weights` is [query, key], [heads, query, key] or [1, heads, query, key]. Scores may be shown
    too: below 0 the colour is orange. Cells where `mask` is False are grey. `keys` names the
    columns where they are not the tokens themselves, `titles` the heads. Long names are cut, and
    where there is no room for all, every second or third is written: `explore` has them whole.
    Raises ValueError where these do not fit together.
    """
    heads = one_sentence(weights)
    asks, asked = (
        [shorten(word, LETTERS) for word in side] for side in labels(tokens, keys, *heads.shape[1:])
    )
    shown = np.ma.masked_array(heads.numpy(), mask=~full_mask(mask, heads.shape).numpy())
    if not np.isfinite(shown.compressed()).all():
        raise ValueError("weights must be finite where the mask allows a look")
    names = _titles(titles, len(shown))
    with plain(*asks, *asked, *names, title) as write:
        layout = Layout(len(shown), [write(word) for word in asks], [write(word) for word in asked])
        figure = _draw(layout, shown, [write(name) for name in names])
        figure.suptitle(write(title), fontsize=12)
        figure.supxlabel(write.note("is asked (key)", ";\nviews.explore shows it"), fontsize=11)
        figure.supylabel("asks (query)", fontsize=11)
    plt.close(figure)  # the notebook shows what the cell returns: once is enough
    return figure


def _titles(titles: Sequence[str] | None, n_heads: int) -> Sequence[str]:
    if titles is None:
        return [f"head {head + 1}" for head in range(n_heads)] if n_heads > 1 else [""]
    if isinstance(titles, str):
        raise TypeError(f"titles must be a list of {n_heads} names, got one string: {titles!r}")
    if len(titles) != n_heads:
        raise ValueError(f"titles must name {n_heads} heads, got {len(titles)}")
    return titles


@dataclass(frozen=True)
class Layout:
    """Where the maps of a figure find room, with their names."""

    n_heads: int
    asks: list[str]
    asked: list[str]

    @property
    def font_size(self) -> int:
        return 9 if max(len(self.asks), len(self.asked)) <= 12 else 7

    @property
    def upright(self) -> bool:
        """Whether the names of the keys need not be turned."""
        return len(self.asked) <= WRITE_VALUES_UP_TO and max(map(text_width, self.asked)) <= 5

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell."""
        most = MOST.get(self.n_heads, MOST_OF_MANY)
        few = max(len(self.asks), len(self.asked)) <= WRITE_VALUES_UP_TO
        wished = 0.5 if few else 0.2
        return min(wished, most / len(self.asked)), min(wished, most / len(self.asks))

    @property
    def tile(self) -> tuple[float, float]:
        """Width and height of a map with its names and its title."""
        width, height = self.cell
        below = self.font_size / 72 if self.upright else self._length(self.asked)
        return (
            max(LEAST, width * len(self.asked)) + self._length(self.asks) + 0.1,
            max(LEAST, height * len(self.asks)) + below + 0.4,
        )

    @property
    def columns(self) -> int:
        """As many as fit on a page, with as few places left empty as possible."""
        most = max(1, min(self.n_heads, MAX_COLUMNS, int(PAGE / self.tile[0])))
        spare = range(min(2, most), most + 1)
        return min(spare, key=lambda columns: (-self.n_heads % columns, -columns))

    @property
    def rows(self) -> int:
        return -(-self.n_heads // self.columns)

    def _length(self, names: list[str]) -> float:
        return max(map(text_width, names)) * 0.6 * self.font_size / 72


def _draw(layout: Layout, shown: np.ma.MaskedArray, names: list[str]) -> Figure:
    figure, axes = _grid(layout)
    norm, colours = _scale(shown)
    width, height = layout.cell
    n_query, n_key = shown.shape[1:]
    place = (-0.5, n_key - 0.5, n_query - 0.5, -0.5)
    style: Any = {"aspect": height / width, "interpolation": "nearest"}
    for axis, head, name in zip(axes, shown, names, strict=True):
        image = axis.imshow(_pooled(head, layout), colours, norm, extent=place, **style)
        axis.set_title(name, fontsize=10)
        _label(axis, layout)
        _write_values(axis, head, norm)
    meaning = "weight" if norm.vmin == 0 else "score"
    shrink = min(1, 4 / figure.get_size_inches()[1])
    figure.colorbar(image, ax=axes, label=meaning, shrink=shrink, aspect=25)
    return figure


def _pooled(head: np.ma.MaskedArray, layout: Layout) -> np.ma.MaskedArray:
    """One number a pixel where cells are smaller: the one that is farthest from 0."""
    values = head.filled(np.nan)
    for axis, inches in enumerate(reversed(layout.cell)):
        n_cells = values.shape[axis]
        n_blocks = min(n_cells, max(1, round(n_cells * inches * PIXELS)))
        starts = np.arange(n_blocks) * n_cells // n_blocks
        low, high = (extreme.reduceat(values, starts, axis=axis) for extreme in (np.fmin, np.fmax))
        values = np.where(-low > high, low, high)
    return np.ma.masked_invalid(values)


def _grid(layout: Layout) -> tuple[Figure, list[Axes]]:
    width, height = layout.tile
    size = (layout.columns * width + 1.4, layout.rows * height + 0.9)
    figure, grid = plt.subplots(
        layout.rows, layout.columns, figsize=size, squeeze=False, layout="constrained"
    )
    for unused in grid.flat[layout.n_heads :]:
        unused.remove()
    return figure, list(grid.flat[: layout.n_heads])


def _scale(shown: np.ma.MaskedArray) -> tuple[Normalize, Colormap]:
    values = shown.compressed() if shown.count() else np.zeros(1)
    largest = float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    if signed:
        return Normalize(-largest, largest), SIGNED
    return PowerNorm(0.5, 0.0, largest), HEAT  # as in `explore`: 1 % can be told from 0


def _label(axis: Axes, layout: Layout) -> None:
    for side, names, room in (
        (axis.xaxis, layout.asked, layout.cell[0]),
        (axis.yaxis, layout.asks, layout.cell[1]),
    ):
        every = math.ceil(NAME_ROOM / room)
        side.set_ticks(range(0, len(names), every), names[::every], fontsize=layout.font_size)
        if room >= LINE_ROOM:
            side.set_ticks([place + 0.5 for place in range(len(names) - 1)], minor=True)
    axis.tick_params(axis="x", labelrotation=0 if layout.upright else 90)
    axis.grid(which="minor", color="#dddddd", linewidth=0.5)
    axis.tick_params(which="both", length=0)


def _write_values(axis: Axes, head: np.ma.MaskedArray, norm: Normalize) -> None:
    if max(head.shape) > WRITE_VALUES_UP_TO:
        return
    largest = norm.vmax or 1.0
    for (row, column), value in np.ndenumerate(head):
        if not np.ma.getmaskarray(head)[row, column]:
            dark = norm(value) if norm.vmin == 0 else abs(value) / largest
            colour = "white" if dark > 0.5 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, size=8)
