"""What may come next: bars for one place of a text, colours for all of them."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.views.colour import BLUE, INK, ramp
from course_utils.views.inputs import shorten, visible
from course_utils.views.letters import plain
from course_utils.views.page import View

Filter = Callable[[Float[Tensor, "batch vocabulary"]], Float[Tensor, "batch vocabulary"]]

# Each filter has a colour and a hatch of its own, so that no colour need be told from another.
STYLES = (("#f3b06b", "///"), ("#a7d3a0", "..."), ("#d9b3e6", "xx"), ("#f2df7a", "\\\\\\"))
AFTER = BLUE
WIDE, NARROW = 0.84, 0.5
LETTERS = 16  # of a token; longer ones are cut


@dataclass(frozen=True)
class _Choice:
    """Probabilities before and after all filters, and for every word the filter that removed it."""

    before: Float[np.ndarray, " vocabulary"]
    after: Float[np.ndarray, " vocabulary"]
    removed_by: Int[np.ndarray, " vocabulary"]  # the filter's number; -1 for what is left

    @property
    def kept(self) -> float:
        return float(self.before[self.removed_by < 0].sum())


def choices(
    logits: Float[Tensor, " vocabulary"],
    tokens: Sequence[str],
    filters: Mapping[str, Filter] | None = None,
    n_shown: int = 20,
    title: str = "What comes next",
) -> Figure:
    """Draw the probabilities of the next token before and after `filters`, the likeliest first.

    An outline is the probability before all filters. Where a filter removed the token, the outline
    is filled with the colour and hatch of that filter; a narrow blue bar is the probability after
    all of them. `filters` are named and take effect in their order, on logits [1, vocabulary];
    minus infinity removes a token. The tokens behind the first `n_shown` share the last bar.
    Raises ValueError where `tokens` does not name every logit, or nothing is left.
    """
    filters = filters or {}
    _check(logits, tokens, filters, n_shown)
    choice = _apply(logits.detach().float().cpu(), filters)
    bars, words = _bars(choice, tokens, n_shown)
    with plain(title, *words, *filters) as write:
        figure, axis = plt.subplots(figsize=(10, 4.5), layout="constrained")
        _draw(axis, choice, bars, [write(name) for name in filters])
        axis.set_xticks(range(len(bars)), [write(word) for word in words], rotation=90)
        axis.set_xlabel(write.note("next token, the likeliest first"))
        axis.set_title(f"{write(title)}\n{_summary(choice)}", fontsize=11)
    plt.close(figure)  # the notebook shows what the cell returns: once is enough
    return figure


def _check(
    logits: Tensor, tokens: Sequence[str], filters: Mapping[str, Filter], n_shown: int
) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}")
    if logits.ndim != 1 or len(tokens) != len(logits) or not len(logits):
        raise ValueError(
            f"logits must be a row with one number for each of {len(tokens)} tokens,"
            f" got shape {list(logits.shape)}"
        )
    if logits.isnan().any() or not logits.max().isfinite():
        raise ValueError("logits must be numbers or minus infinity, got NaN or infinity")
    if len(filters) > len(STYLES):
        raise ValueError(f"filters must be at most {len(STYLES)}, got {len(filters)}")
    if n_shown < 1:
        raise ValueError(f"n_shown must be at least 1, got {n_shown}")


def _apply(logits: Tensor, filters: Mapping[str, Filter]) -> _Choice:
    removed_by = torch.full(logits.shape, -1)
    left = logits
    for number, (name, apply) in enumerate(filters.items()):
        given = apply(left[None])
        if given.shape != (1, len(logits)):
            raise ValueError(
                f"filters: {name!r} must give logits [1, {len(logits)}], got {list(given.shape)}"
            )
        left = given[0]
        removed_by[(left == -math.inf) & (removed_by < 0)] = number
        if (removed_by >= 0).all():
            raise ValueError(f"filters: nothing is left after {name!r}")
    before, after = (each.softmax(-1).numpy() for each in (logits, left))
    return _Choice(before, after, removed_by.numpy())


def _entropy(p: Float[np.ndarray, " vocabulary"]) -> float:
    positive = p[p > 0]
    return float(abs((positive * np.log(positive)).sum()))


def _summary(choice: _Choice) -> str:
    n_left = int((choice.removed_by < 0).sum())
    return (
        f"{n_left} of {len(choice.before)} left; they had {choice.kept:.3f} of the probability;"
        f" entropy {_entropy(choice.before):.2f} → {_entropy(choice.after):.2f} nats"
    )


def _bars(
    choice: _Choice, tokens: Sequence[str], n_shown: int
) -> tuple[list[Int[np.ndarray, " tokens"]], list[str]]:
    """The tokens of every bar by number, and the bar's name: the likeliest, then all others."""
    order = np.argsort(-choice.before, kind="stable")
    bars = [order[[rank]] for rank in range(min(n_shown, len(order)))]
    words = [shorten(visible(tokens[bar[0]]), LETTERS) for bar in bars]
    if len(order) > n_shown:
        bars.append(order[n_shown:])
        words.append(f"{len(order) - n_shown} others")
    return bars, words


def _draw(
    axis: Axes, choice: _Choice, bars: list[Int[np.ndarray, " tokens"]], names: list[str]
) -> None:
    places = np.arange(len(bars))

    def heights(p: np.ndarray) -> list[float]:
        return [float(p[bar].sum()) for bar in bars]

    bottom = np.zeros(len(bars))
    for number, name in enumerate(names):
        removed = np.where(choice.removed_by == number, choice.before, 0)
        colour, hatch = STYLES[number]
        label = f"{name} removes {int((choice.removed_by == number).sum())}"
        filled = axis.bar(places, heights(removed), WIDE, bottom, color=colour, label=label)
        for bar in filled:
            bar.set(hatch=hatch, edgecolor=INK, linewidth=0)
        bottom += heights(removed)
    outline = axis.bar(places, heights(choice.before), WIDE, label="before")
    for bar in outline:
        bar.set(facecolor="none", edgecolor=INK, linewidth=1)
    axis.bar(places, heights(choice.after), NARROW, color=AFTER, label="after")
    axis.set_ylabel("probability")
    axis.margins(x=0.01)
    axis.figure.legend(loc="outside lower center", ncols=6)


@dataclass(frozen=True, repr=False)
class ColouredText(View):
    """A text whose tokens carry a number, as a colour and in figures."""


def coloured_text(
    tokens: Sequence[str],
    values: Sequence[float] | Float[Tensor, " tokens"],
    caption: str,
    highest: float | None = None,
) -> ColouredText:
    """Show each token on a colour: white for 0, dark for `highest` (the largest, if not given).

    The number is written under its token, so that nothing depends on the colour. Raises ValueError
    where there is not one number, 0 or more, for each token.
    """
    if isinstance(values, Tensor) and values.ndim != 1:
        raise ValueError(f"values must be [tokens] = [{len(tokens)}], got {list(values.shape)}")
    numbers = [float(value) for value in values]
    if len(numbers) != len(tokens):
        raise ValueError(f"values must be one for each of {len(tokens)} tokens, got {len(numbers)}")
    if not all(0 <= number < math.inf for number in numbers):
        raise ValueError("values must be 0 or more, and finite")
    top = highest or max(numbers, default=0) or 1.0
    pieces = " ".join(
        _token(token, number, min(1.0, number / top))
        for token, number in zip(tokens, numbers, strict=True)
    )
    text = " ".join(
        f"{visible(token)}({number:.1f})" for token, number in zip(tokens, numbers, strict=True)
    )
    label = html.escape(caption, quote=True)
    return ColouredText(
        f'<figure data-view="coloured-text" aria-label="{label}" style="margin:0">'
        f'<figcaption style="margin-bottom:6px">{label}</figcaption>'
        f'<div style="line-height:1.2;max-width:900px">{pieces}</div></figure>',
        f"{caption}: {text}",
    )


def _token(token: str, number: float, share: float) -> str:
    background = ramp(0.8 * share)
    ink = "#ffffff" if share > 0.6 else "#000000"
    text = html.escape(visible(token))
    return (
        '<span style="display:inline-block;margin:1px;padding:1px 4px;text-align:center;'
        f'border-radius:3px;border:1px solid #8a8a8a;color:{ink};background:rgb{background}">'
        f'{text}<span style="display:block;font-size:75%">{number:.1f}</span></span>'
    )
