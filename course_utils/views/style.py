"""How every picture is drawn: type, sizes, colours, and the two scales of a heat map."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.colors import Colormap, LinearSegmentedColormap

from course_utils.views.colour import INK, MASKED, NEGATIVE_RAMP, RAMP, SERIES


def _scale(stops: Sequence[str]) -> Colormap:
    return LinearSegmentedColormap.from_list("attention", stops).with_extremes(bad=MASKED)


HEAT = _scale(RAMP)
"""From 0 (white) to the largest number (dark blue). Masked cells are grey."""
SIGNED = _scale((*reversed(NEGATIVE_RAMP), *RAMP[1:]))
"""From orange, below 0, over white to blue. Give it limits of equal size: vmin=-v, vmax=v."""

PAGE = 9.5
"""Width in inches of a picture that fills the page."""
PANEL = 3.2
"""Height in inches of a row of panels."""


def use_style() -> None:
    """Draw all pictures that follow in the course's style: light ground, few lines, one type."""
    plt.rcParams.update(
        {
            "figure.figsize": (PAGE, PANEL),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "figure.titlesize": 12,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "axes.edgecolor": INK,
            "axes.prop_cycle": plt.cycler(color=SERIES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
        }
    )
