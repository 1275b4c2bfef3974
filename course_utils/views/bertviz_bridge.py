"""bertviz's views of our maps, and our explorer where bertviz cannot be drawn.

bertviz loads require.js, d3 and jQuery from a public server each time it is shown. Without a
network it stays blank, so the server is tried first.
"""

import html
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch

from course_utils.views.explorer import Maps, explore, layers_of
from course_utils.views.inputs import labels
from course_utils.views.page import View

SCRIPT_SERVER = ("cdnjs.cloudflare.com", 443)
PATIENCE = 2.0  # seconds
OFFLINE = (
    f"bertviz loads its scripts from {SCRIPT_SERVER[0]}, which does not answer. "
    "This is views.explore, which needs no network."
)


def head_view(maps: Maps, tokens: Sequence[object]) -> View:
    """bertviz's `head_view`: lines from token to token. `maps` as in `explore`."""

    def draw(attention: list[torch.Tensor], words: list[str]) -> Any:
        from bertviz import head_view

        return head_view(attention, words, html_action="return")

    return _bertviz_or_ours(draw, maps, tokens)


def model_view(maps: Maps, tokens: Sequence[object]) -> View:
    """bertviz's `model_view`: every head of every layer at once. `maps` as in `explore`."""

    def draw(attention: list[torch.Tensor], words: list[str]) -> Any:
        from bertviz import model_view

        return model_view(attention, words, display_mode="light", html_action="return")

    return _bertviz_or_ours(draw, maps, tokens)


def scripts_can_be_loaded() -> bool:
    """Whether the server with bertviz's scripts answers."""
    try:
        socket.create_connection(SCRIPT_SERVER, timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def _bertviz_or_ours(
    draw: Callable[[list[torch.Tensor], list[str]], Any], maps: Maps, tokens: Sequence[object]
) -> View:
    if not scripts_can_be_loaded():
        view = explore(maps, tokens)
        return View(f"<p>{html.escape(OFFLINE)}</p>\n{view.html}", f"{OFFLINE}\n{view.text}")
    attention = [layer[None] for layer in layers_of(maps).values()]
    words, _ = labels(tokens, None, *attention[0].shape[2:])
    page = html.escape(draw(attention, words).data)
    # a frame of its own runs the scripts in their order; in the notebook they race each other
    style = "width:100%;height:600px;border:0"
    frame = f'<iframe title="bertviz" srcdoc="{page}" style="{style}"></iframe>'
    return View(frame, "bertviz (shown in a notebook)")
