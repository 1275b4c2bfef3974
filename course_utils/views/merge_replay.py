"""A text in pieces that grow: one piece of HTML with a slider, alive without a kernel."""

import html
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from course_utils.views.inputs import visible
from course_utils.views.page import View, json_for_script

Frame = tuple[str, Sequence[str]]
"""What is said about a state of the text, and its pieces."""


def replay(frames: Sequence[Frame], title: str) -> View:
    """Show the same text in the pieces of each frame; a slider goes from one frame to the next.

    A piece of several characters has a box, in one of eight colours that it keeps. Raises
    ValueError where there is no frame, or where two frames are not the same text.
    """
    if not frames:
        raise ValueError("frames is empty: give at least one")
    texts = ["".join(pieces) for _, pieces in frames]
    for place, text in enumerate(texts):
        if text != texts[0]:
            raise ValueError(f"frames: number {place} is not the text of number 0")
    shown = [(said, [[_shown(piece), _tone(piece)] for piece in pieces]) for said, pieces in frames]
    return View(_page(shown, title), _words(frames, title))


def _shown(piece: str) -> str:
    return visible(piece)


def _tone(piece: str) -> int:
    """-1 for a single character; the same number for the same piece, always and everywhere."""
    return zlib.crc32(piece.encode()) % 8 if len(piece) > 1 else -1


def _words(frames: Sequence[Frame], title: str) -> str:
    """First and last frame, for places that draw no HTML."""
    ends = (frames[0], frames[-1]) if len(frames) > 1 else (frames[0],)
    lines = [f"{said}: {' | '.join(map(_shown, pieces))}" for said, pieces in ends]
    return "\n".join((f"{title}, {len(frames)} states", *lines))


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _page(shown: list[tuple[str, list[list]]], title: str) -> str:
    name, last = html.escape(title), len(shown) - 1
    said, pieces = shown[-1]
    spans = "".join(f'<span data-tone="{tone}">{html.escape(word)}</span>' for word, tone in pieces)
    return f"""<div class="cu-replay" data-view="replay" role="group" aria-label="{name}">
<style>{_asset("merge_replay.css")}</style>
<p><strong>{name}</strong></p>
<input type="range" min="0" max="{last}" value="0" aria-label="state of the text" hidden>
<p class="cu-said" aria-live="polite">{html.escape(said)}</p>
<p class="cu-pieces">{spans}</p>
<script type="application/json" class="cu-data">{json_for_script(shown)}</script>
<script>{_asset("merge_replay.js")}</script>
</div>"""
