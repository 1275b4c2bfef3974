"""Pictures of attention, of shapes and of your progress.

Views take tensors and tokens and know nothing about models; `shapes` runs a model to watch it.
Each loads on first use, so that importing this package does not import matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_utils.views.bertviz_bridge import (
        head_view,
        model_view,
        neuron_view,
        record_vectors,
    )
    from course_utils.views.controls import play, slider
    from course_utils.views.explorer import explore
    from course_utils.views.loss_curves import losses
    from course_utils.views.merge_replay import replay
    from course_utils.views.next_token import choices, coloured_text
    from course_utils.views.plots import heatmap
    from course_utils.views.shape_table import shapes
    from course_utils.views.style import HEAT, SIGNED, use_style
    from course_utils.views.transformer_map import PartState, progress_map

__all__ = [
    "HEAT",
    "SIGNED",
    "PartState",
    "choices",
    "coloured_text",
    "explore",
    "head_view",
    "heatmap",
    "losses",
    "model_view",
    "neuron_view",
    "play",
    "progress_map",
    "record_vectors",
    "replay",
    "shapes",
    "slider",
    "use_style",
]

_MODULES = {
    "HEAT": "style",
    "SIGNED": "style",
    "PartState": "transformer_map",
    "choices": "next_token",
    "coloured_text": "next_token",
    "explore": "explorer",
    "head_view": "bertviz_bridge",
    "heatmap": "plots",
    "losses": "loss_curves",
    "model_view": "bertviz_bridge",
    "neuron_view": "bertviz_bridge",
    "play": "controls",
    "progress_map": "transformer_map",
    "record_vectors": "bertviz_bridge",
    "replay": "merge_replay",
    "shapes": "shape_table",
    "slider": "controls",
    "use_style": "style",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
