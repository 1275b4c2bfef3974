"""Heatmaps of attention weights, for the page and for print."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.views.colour import MASKED, NEGATIVE_RAMP, RAMP
from course_utils.views.inputs import full_mask, labels, one_sentence

WRITE_VALUES_UP_TO = 6  # tokens
MAX_COLUMNS = 4
PAGE_INCHES = 12.5


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
    columns where they are not the tokens themselves, `titles` the heads. Raises ValueError where
    these do not fit together.
    """
    heads = one_sentence(weights)
    asks, asked = labels(tokens, keys, *heads.shape[1:])
    shown = np.ma.masked_array(heads.numpy(), mask=~full_mask(mask, heads.shape).numpy())
    if not np.isfinite(shown.compressed()).all():
        raise ValueError("weights must be finite where the mask allows a look")
    titles = _titles(titles, len(shown))
    figure, axes = _grid(len(shown), len(asks), len(asked))
    norm, colours = _scale(shown)
    for axis, head, name in zip(axes, shown, titles, strict=True):
        image = axis.imshow(head, cmap=colours, norm=norm)
        _label(axis, asks, asked, name)
        _write_values(axis, head, norm)
    meaning = "weight" if norm.vmin == 0 else "score"
    height = figure.get_size_inches()[1]
    figure.colorbar(image, ax=axes, label=meaning, shrink=min(1, 4 / height), aspect=25)
    figure.suptitle(title, fontsize=12)
    figure.supxlabel("is asked (key)", fontsize=11)
    figure.supylabel("asks (query)", fontsize=11)
    plt.close(figure)  # the notebook shows what the cell returns: once is enough
    return figure


def _titles(titles: Sequence[str] | None, n_heads: int) -> Sequence[str]:
    if titles is None:
        return [f"head {head + 1}" for head in range(n_heads)] if n_heads > 1 else [""]
    if len(titles) != n_heads:
        raise ValueError(f"titles must name {n_heads} heads, got {len(titles)}")
    return titles


def _columns(n_heads: int, width: float) -> int:
    """As many as fit on a page, with as few places left empty as possible."""
    most = max(1, min(n_heads, MAX_COLUMNS, int(PAGE_INCHES / width)))
    return min(range(min(2, most), most + 1), key=lambda columns: (-n_heads % columns, -columns))


def _grid(n_heads: int, n_query: int, n_key: int) -> tuple[Figure, list[Axes]]:
    cell = 0.5 if max(n_query, n_key) <= WRITE_VALUES_UP_TO else 0.2
    width, height = max(1.8, cell * n_key), max(1.8, cell * n_query)
    columns = _columns(n_heads, width)
    rows = -(-n_heads // columns)
    size = (columns * width + 1.9, rows * (height + 0.35) + 0.9)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for unused in grid.flat[n_heads:]:
        unused.remove()
    return figure, list(grid.flat[:n_heads])


def _scale(shown: np.ma.MaskedArray) -> tuple[Normalize, Colormap]:
    values = shown.compressed() if shown.count() else np.zeros(1)
    largest = float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    stops = (*reversed(NEGATIVE_RAMP), *RAMP[1:]) if signed else RAMP
    colours = LinearSegmentedColormap.from_list("attention", stops).with_extremes(bad=MASKED)
    return Normalize(-largest if signed else 0.0, largest), colours


def _label(axis: Axes, asks: list[str], asked: list[str], name: str) -> None:
    size = 9 if max(len(asks), len(asked)) <= 12 else 7
    upright = len(asked) <= WRITE_VALUES_UP_TO and max(map(len, asked)) <= 5
    axis.set_title(name, fontsize=10)
    axis.set_xticks(range(len(asked)), asked, rotation=0 if upright else 90, fontsize=size)
    axis.set_yticks(range(len(asks)), asks, fontsize=size)
    axis.tick_params(length=0)
    axis.set_xticks([column + 0.5 for column in range(len(asked) - 1)], minor=True)
    axis.set_yticks([row + 0.5 for row in range(len(asks) - 1)], minor=True)
    axis.grid(which="minor", color="#dddddd", linewidth=0.5)
    axis.tick_params(which="minor", length=0)


def _write_values(axis: Axes, head: np.ma.MaskedArray, norm: Normalize) -> None:
    if max(head.shape) > WRITE_VALUES_UP_TO:
        return
    largest = norm.vmax or 1.0
    for (row, column), value in np.ndenumerate(head):
        if not np.ma.getmaskarray(head)[row, column]:
            colour = "white" if abs(value) > 0.5 * largest else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, size=8)
