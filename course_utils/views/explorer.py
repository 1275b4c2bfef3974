"""The attention explorer: one self-contained piece of HTML, alive without a kernel or a network."""

import base64
import html
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from course_utils.views.colour import LEVELS, MASKED_BYTE, byte_palette
from course_utils.views.inputs import check_weights, full_mask, labels, one_sentence
from course_utils.views.page import View

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
    weights = torch.stack(list(layers.values()))
    asks, asked = labels(tokens, keys, *weights.shape[2:])
    visible = full_mask(mask, weights.shape[1:]).expand_as(weights)
    check_weights(weights, visible, "maps")
    data = {"title": title, "layers": list(layers), "tokens": asks, "keys": asked}
    return _view(data, to_bytes(weights, visible))


def to_bytes(
    weights: Float[Tensor, "layers heads query key"], mask: Bool[Tensor, "layers heads query key"]
) -> UInt8[Tensor, "layers heads query key"]:
    """Weights 0 to 1 as 0 to 254, wrong by at most 1/508; 255 where the mask forbids a look."""
    levels = (weights.clamp(0, 1) * LEVELS).round()
    return levels.masked_fill(~mask, MASKED_BYTE).to(torch.uint8)


def static_picture(levels: UInt8[Tensor, "layers heads query key"]) -> bytes:
    """A PNG of all heads, one row a layer, for places that run no scripts."""
    n_layers, n_heads, n_query, n_key = levels.shape
    room = max(8, PICTURE_PIXELS // max(n_layers, n_heads))
    size = (min(n_query, room), min(n_key, room))
    seen = levels.float().masked_fill(levels == MASKED_BYTE, -1)
    pooled = F.adaptive_max_pool2d(seen, size)
    pooled = pooled.masked_fill(pooled < 0, MASKED_BYTE).to(torch.uint8)
    scale = max(1, room // max(size))
    pooled = pooled.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = F.pad(pooled, (0, 4, 0, 4), value=0)
    return png(framed.transpose(1, 2).flatten(0, 1).flatten(1, 2))


def png(indices: UInt8[Tensor, "height width"]) -> bytes:
    """The PNG file of a picture whose pixels are numbers of colours in `byte_palette`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, colours by palette
    rows = F.pad(indices, (1, 0)).contiguous().numpy().tobytes()  # filter type 0 before every row
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
    layers = {str(label): _first(layer, f"maps[{label!r}]") for label, layer in maps.items()}
    shapes = {label: list(layer.shape) for label, layer in layers.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        raise ValueError(f"maps must all have one [heads, query, key], got {shapes}: choose some")
    return layers


def _first(layer: Tensor, name: str) -> Float[Tensor, "heads query key"]:
    """The first sentence of a batch."""
    is_batch = isinstance(layer, Tensor) and layer.ndim == 4
    return one_sentence(layer[:1] if is_batch else layer, name)


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _view(data: dict[str, Any], levels: UInt8[Tensor, "layers heads query key"]) -> View:
    counts = zip(levels.shape, ("layer", "head", "token", "key"), strict=True)
    size = " × ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts)
    data = {
        **data,
        "heads": levels.shape[1],
        "palette": _base64(byte_palette()),
        # level 1: about a third of the time of level 6 for an eighth more room
        "weights": _base64(zlib.compress(levels.numpy().tobytes(), level=1)),
    }
    text = f"{data['title']}: {size} (shown in a notebook)"
    return View(_page(data, _base64(static_picture(levels)), size), text)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _page(data: dict[str, Any], picture: str, size: str) -> str:
    title = html.escape(data["title"])
    # inside a script element only "<" could end the data: "\u003c" says the same
    payload = json.dumps(data).replace("<", "\\u003c")
    return f"""<div class="cu-explore" data-view="explore" role="group" aria-label="{title}">
<style>{_asset("explore.css")}</style>
<p class="cu-title"><strong>{title}</strong> <span class="cu-size">{size}</span></p>
<div class="cu-static">
<img alt="Attention weights of {size}: one row a layer, one column a head, darker is more"
 src="data:image/png;base64,{picture}">
<p>One row a layer, one column a head; in each map a row asks, a column is asked, darker is more.
 Run the cell, or trust the notebook, to explore them.</p>
</div>
<script type="application/json" class="cu-data">{payload}</script>
<script>{_asset("explore.js")}</script>
</div>"""
