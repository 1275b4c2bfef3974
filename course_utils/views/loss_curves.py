"""The loss of a training run, beside what it has to beat."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.views.colour import GREY, SERIES
from course_utils.views.letters import plain

Log = Sequence[Mapping[str, float]]
"""One record a step: "step", "loss" and, where it was measured, "validation"."""

WINDOWS = 80  # a value is smoothed with this part of the run on either side
APART = 0.055  # least distance of two labels, as a share of the axis


def losses(
    log: Log | Mapping[str, Log],
    levels: Mapping[str, float] | None = None,
    title: str = "Loss while training",
) -> Figure:
    """Draw the log of a run, or of several by name.

    Each has its loss at every step (pale), the mean of the steps around it (strong) and a dot where
    the validation loss was measured. `levels` are drawn as lines and named at the right: what other
    models reach, and the floor. Raises ValueError for a log without records.
    """
    runs = dict(log) if isinstance(log, Mapping) else {"": log}
    for name, records in runs.items():
        if not records:
            raise ValueError(
                "log must have at least one record, got none" + f" for {name!r}" * bool(name)
            )
    named = levels or {}
    with plain(title, *runs, *named) as write:
        figure, axis = plt.subplots(figsize=(9.5, 4), layout="constrained")
        for place, (name, records) in enumerate(runs.items()):
            _draw_run(axis, write(name), records, SERIES[place % len(SERIES)])
        axis.set(title=write(title), xlabel=write.note("step"), ylabel="loss (nats a token)")
        axis.set_ylim(0, 1.06 * _highest(runs, named))
        axis.margins(x=0.01)
        axis.legend(loc="best", frameon=True, framealpha=1, edgecolor="none")
        _draw_levels(axis, [(write(name), value) for name, value in named.items()])
    plt.close(figure)  # the notebook shows what the cell returns: once is enough
    return figure


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """Mean of every value and of those at most `reach` places before or behind it."""
    windows = [values[max(0, place - reach) : place + reach + 1] for place in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _draw_run(axis: Axes, name: str, records: Log, colour: str) -> None:
    steps = [record["step"] for record in records]
    values = [record["loss"] for record in records]
    mean = smoothed(values, len(values) // WINDOWS)
    axis.plot(steps, values, color=colour, alpha=0.4, linewidth=0.8)
    axis.plot(steps, mean, color=colour, label=name or "training")
    measured = [record for record in records if "validation" in record]
    if measured:
        axis.plot(
            [record["step"] for record in measured],
            [record["validation"] for record in measured],
            "o",
            color=colour,
            markersize=6,
            markeredgecolor="white",
            label=f"{name}, validation" if name else "validation",
        )


def _highest(runs: Mapping[str, Log], levels: Mapping[str, float]) -> float:
    """The upper end: all levels, and where the runs begin, but no spike."""
    begins = [records[0]["loss"] for records in runs.values()]
    finite = [value for value in (*begins, *levels.values()) if math.isfinite(value)]
    return max(finite, default=1.0)


def _draw_levels(axis: Axes, levels: Sequence[tuple[str, float]]) -> None:
    """A dashed line each; names that would cover each other are moved up."""
    top, lowest = axis.get_ylim()[1], -math.inf
    for name, value in sorted(levels, key=lambda level: level[1]):
        axis.axhline(value, color=GREY, linewidth=1, linestyle="--")
        lowest = max(value, lowest + APART * top)
        axis.annotate(
            f"{name} {value:.2f}",
            (1.01, lowest),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
