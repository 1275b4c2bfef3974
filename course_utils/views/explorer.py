"""The attention explorer: one self-contained piece of HTML, alive without a kernel or a network."""

import base64
import html
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from course_utils.views.colour import LEVELS, MASKED_BYTE, byte_palette
from course_utils.views.inputs import (
    check_weights,
    first_sentence,
    full_mask,
    labels,
    one_sentence,
)
from course_utils.views.page import View, json_for_script, sizes

Maps = (
    Mapping[str, Float[Tensor, "batch heads query key"]] | Float[Tensor, "layers heads query key"]
)

PICTURE_PIXELS = 640  # about the width and height of the static picture


def explore(
    maps: Maps,
    tokens: Sequence[object],
    keys: Sequence[object] | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    title: str = "Attention explorer",
) -> View:
    """Look into every head: choose one, then a query token, by mouse or by keyboard.

    `maps` is what `attention.record()` collects, one entry a layer, of which the first sentence of
    the batch is shown; or one tensor [layers, heads, query, key]. `mask` is True where a query may
    look at a key and broadcasts to [heads, query, key]; the other cells are drawn grey. `keys`
    names the columns where they are not the tokens themselves. Weights are kept as 8-bit numbers.
    Raises ValueError where weights, tokens and mask do not fit together.
    """
    layers = layers_of(maps)
    shape = next(iter(layers.values())).shape
    asks, asked = labels(tokens, keys, *shape[1:])
    visible = full_mask(mask, shape).numpy()
    for label, weights in layers.items():
        check_weights(weights.numpy(), visible, f"the weights of {label!r}")
    levels = np.stack([to_bytes(weights.numpy(), visible) for weights in layers.values()])
    return _view({"title": title, "layers": list(layers), "tokens": asks, "keys": asked}, levels)


# NumPy from here on: torch would split these small steps among threads that wait for each other,
# which takes seconds on a busy machine.


def to_bytes(
    weights: Float[np.ndarray, "heads query key"], mask: Bool[np.ndarray, "heads query key"]
) -> UInt8[np.ndarray, "heads query key"]:
    """Weights 0 to 1 as 0 to 254, wrong by at most 1/508; 255 where the mask forbids a look."""
    shares = np.where(mask, weights, 0).clip(0, 1)
    return np.where(mask, np.rint(shares * LEVELS), MASKED_BYTE).astype(np.uint8)


def static_picture(levels: UInt8[np.ndarray, "layers heads query key"]) -> bytes:
    """A PNG of all heads, one row a layer, for places that run no scripts."""
    n_layers, n_heads, n_query, n_key = levels.shape
    room = max(8, PICTURE_PIXELS // max(n_layers, n_heads))
    small = pool(pool(levels, min(n_query, room), axis=2), min(n_key, room), axis=3)
    scale = max(1, room // max(small.shape[2:]))
    large = small.repeat(scale, axis=2).repeat(scale, axis=3)
    framed = np.pad(large, ((0, 0), (0, 0), (0, 4), (0, 4)))
    height, width = framed.shape[2:]
    return png(framed.transpose(0, 2, 1, 3).reshape(n_layers * height, n_heads * width))


def pool(levels: UInt8[np.ndarray, "..."], size: int, axis: int) -> UInt8[np.ndarray, "..."]:
    """Shrink `axis` to `size` blocks, each as dark as its darkest cell; masked where all are."""
    starts = np.arange(size) * levels.shape[axis] // size
    # adding 1 turns 255 (masked) into 0: below every weight, until 1 is taken away again
    return np.maximum.reduceat(levels + np.uint8(1), starts, axis=axis) - np.uint8(1)


def png(indices: UInt8[np.ndarray, "height width"]) -> bytes:
    """The PNG file of a picture whose pixels are numbers of colours in `byte_palette`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, colours by palette
    rows = np.pad(indices, ((0, 0), (1, 0))).tobytes()  # filter type 0 before every row
    body = chunk(b"PLTE", byte_palette()) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def layers_of(maps: Maps) -> dict[str, Float[Tensor, "heads query key"]]:
    """The maps by label, all of one shape."""
    if isinstance(maps, Tensor):
        if maps.ndim != 4 or 0 in maps.shape:
            raise ValueError(
                f"maps must be [layers, heads, query, key] and not empty, got {list(maps.shape)}"
            )
        return {f"layer {i + 1}": one_sentence(layer) for i, layer in enumerate(maps)}
    if not isinstance(maps, Mapping):
        raise TypeError(f"maps must be a dictionary or a tensor, got {type(maps).__name__}")
    if not maps:
        raise ValueError("maps is empty: did the model run inside `with attention.record()`?")
    layers = {
        str(label): first_sentence(layer, f"maps[{label!r}]") for label, layer in maps.items()
    }
    shapes = {label: list(layer.shape) for label, layer in layers.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        raise ValueError(f"maps must all have one [heads, query, key], got {shapes}: choose some")
    return layers


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _view(data: dict[str, Any], levels: UInt8[np.ndarray, "layers heads query key"]) -> View:
    size = sizes(levels.shape)
    data = {
        **data,
        "heads": levels.shape[1],
        "palette": _base64(byte_palette()),
        # level 1: about a third of the time of level 6 for an eighth more room
        "weights": _base64(zlib.compress(levels.tobytes(), level=1)),
    }
    text = f"{data['title']}: {size} (shown in a notebook)"
    return View(_page(data, _base64(static_picture(levels)), size), text)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _page(data: dict[str, Any], picture: str, size: str) -> str:
    title = html.escape(data["title"])
    return f"""<div class="cu-explore" data-view="explore" role="group" aria-label="{title}">
<style>{_asset("explore.css")}</style>
<p class="cu-title"><strong>{title}</strong> <span class="cu-size">{size}</span></p>
<div class="cu-static">
<img alt="Attention weights of {size}: one row a layer, one column a head, darker is more"
 src="data:image/png;base64,{picture}">
<p>One row a layer, one column a head; in each map a row asks, a column is asked, darker is more.
 Run the cell, or trust the notebook, to explore them.</p>
</div>
<script type="application/json" class="cu-data">{json_for_script(data)}</script>
<script>{_asset("explore.js")}</script>
</div>"""
