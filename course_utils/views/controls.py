"""A figure with sliders: drawn again whenever one of them is moved."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipywidgets import FloatSlider, IntSlider, Widget
    from matplotlib.figure import Figure


def slider(value: float, low: float, high: float, step: float) -> "FloatSlider | IntSlider":
    """A slider for `play`, set to `value`, between `low` and `high`; whole numbers stay whole."""
    if not low <= value <= high:
        raise ValueError(f"value must lie between low {low} and high {high}, got {value}")
    from ipywidgets import FloatSlider, IntSlider

    whole = all(isinstance(number, int) for number in (value, low, high, step))
    kind = IntSlider if whole else FloatSlider
    return kind(value=value, min=low, max=high, step=step)


def play(draw: "Callable[..., Figure]", **controls: "Widget") -> None:
    """Show the figure that `draw` makes of the controls' values, and again whenever one is moved.

    `draw` takes the values by name. The figure is an ordinary output, so that it stays in the saved
    notebook, where nothing answers the controls any more.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display
    from ipywidgets import HBox

    def drawn() -> "Figure":
        figure = draw(**{name: control.value for name, control in controls.items()})
        plt.close(figure)  # or the notebook would show it a second time
        return figure

    for name, control in controls.items():
        control.description = control.description or name
        control.style.description_width = "initial"  # long names are not cut
    display(HBox(list(controls.values()), layout={"flex_flow": "row wrap", "max_width": "660px"}))
    shown = display(drawn(), display_id=True)
    for control in controls.values():
        control.observe(lambda change: shown.update(drawn()), "value")
