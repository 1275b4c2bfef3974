"""bertviz's views of our maps, drawn without a network.

bertviz asks a public server for require.js, d3 and jQuery each time a view is shown. Here its
scripts run in a frame that holds all they need: d3 from the files of mpld3, jQuery from those of
XStatic-jQuery, and a stand-in for require.js.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from course_utils.views.explorer import Maps, layers_of
from course_utils.views.inputs import check_weights, first_sentence, full_mask, labels, shorten
from course_utils.views.page import View, json_for_script, sizes

Vectors = Sequence[
    tuple[
        Float[Tensor, "batch heads query d_head"],
        Float[Tensor, "batch heads key d_head"],
    ]
]

Layers = dict[str, Float[Tensor, "heads query key"]]

SCRIPTS = (  # a module, a file beside it, and the package that brings both
    ("mpld3", "js/d3.v5.min.js", "mpld3"),
    ("xstatic.pkg.jquery", "data/jquery.min.js", "XStatic-jQuery"),
)
LETTERS = 9  # of a token: bertviz gives every token the same room
DIGITS = 4  # of a number: bertviz writes all of them into the page
FEWEST_HEADS = 4  # model_view has no room for its details beside thumbnails that are wider

STAND_IN = """
window.require = window.requirejs = (names, start) => start(jQuery, d3);
require.config = () => {};
"""
WIDTH = 1010  # pixels that the widest of the views needs
# The page is made smaller where the frame is narrower, and the frame as high as what is drawn.
FIT = f"""
const fit = () => {{
  document.body.style.zoom = Math.min(1, innerWidth / {WIDTH + 20});
  const height = document.documentElement.offsetHeight + 20;
  frameElement?.style.setProperty("height", `${{height}}px`);
}};
new ResizeObserver(fit).observe(document.documentElement);
"""
COUNT_FROM_1 = '$("option").text((_, number) => Number(number) + 1);'
STYLE = f"""
body {{ background: #fff; color: #202020; width: {WIDTH}px;
  font: 14px Helvetica, Arial, sans-serif; }}
"""

LAYER = '<label class="dropdown-label">Layer: <select id="layer"></select></label>'
HEAD = '<label class="dropdown-label">Head: <select id="att_head"></select></label>'


def head_view(maps: Maps, tokens: Sequence[object], keys: Sequence[object] | None = None) -> View:
    """bertviz's `head_view`: lines from token to token, one colour a head.

    `maps`, `tokens` and `keys` as in `explore`. Point at a token to see its lines alone, click a
    colour to hide its head, double-click it to see no other.
    """
    layers = layers_of(maps)
    options = {"layer": None, "heads": None, "include_layers": _counted(len(layers))}
    return _view("head_view", _shown(layers, tokens, keys), options, LAYER)


def model_view(maps: Maps, tokens: Sequence[object], keys: Sequence[object] | None = None) -> View:
    """bertviz's `model_view`: every head of every layer at once; click one to enlarge it.

    `maps`, `tokens` and `keys` as in `explore`.
    """
    layers = layers_of(maps)
    n_heads = len(next(iter(layers.values())))
    options = {
        "display_mode": "light",
        "include_layers": _counted(len(layers)),
        "include_heads": _counted(n_heads),
        "total_heads": max(n_heads, FEWEST_HEADS),
    }
    return _view("model_view", _shown(layers, tokens, keys), options)


def neuron_view(
    maps: Maps,
    vectors: Vectors,
    tokens: Sequence[object],
    keys: Sequence[object] | None = None,
) -> View:
    """bertviz's `neuron_view`: how a query and a key, number by number, make a weight.

    `vectors` holds query and key of every layer, as `record_vectors` collects them. Point at a
    token on the left, then click its plus sign. `maps`, `tokens` and `keys` as in `explore`. Raises
    ValueError where vectors and maps do not fit together.
    """
    layers = layers_of(maps)
    options = {
        "display_mode": "light",
        "layer": None,
        "head": None,
        "bidirectional": any(bool(weights.triu(1).any()) for weights in layers.values()),
    }
    shown = {**_shown(layers, tokens, keys), **_vectors(vectors, layers)}
    return _view("neuron_view", shown, options, f"{LAYER} {HEAD}", COUNT_FROM_1)


@contextmanager
def record_vectors(attention: ModuleType) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect query and key of every attention inside the `with` block, in the order of the calls.

    `attention` is the module `course_utils.attention`, whose parts, yours or ours, are watched:

        with attention.record() as maps, views.record_vectors(attention) as vectors:
            model(ids)
        views.neuron_view(maps, vectors, tokens)
    """
    if not isinstance(attention, ModuleType):
        raise TypeError(f"attention must be the module, got {type(attention).__name__}")
    vectors: list[tuple[Tensor, Tensor]] = []
    parts = {
        name: getattr(attention, name)
        for name in ("scaled_dot_product_attention", "attention_weights")
    }

    def watched(part: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(part)
        def call(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            before = len(vectors)
            output = part(query, key, *args, **kwargs)
            if len(vectors) == before:  # else a part that this one calls has noted them
                vectors.append((query.detach(), key.detach()))
            return output

        return call

    vars(attention).update({name: watched(part) for name, part in parts.items()})
    try:
        yield vectors
    finally:
        vars(attention).update(parts)


# --- What bertviz reads --------------------------------------------------------------------------


def _shown(
    layers: Layers, tokens: Sequence[object], keys: Sequence[object] | None
) -> dict[str, Any]:
    """Weights and tokens, as bertviz calls them."""
    asks, asked = labels(tokens, keys, *next(iter(layers.values())).shape[1:])
    for label, weights in layers.items():
        check_weights(
            weights.numpy(), full_mask(None, weights.shape).numpy(), f"the weights of {label!r}"
        )
    return {
        "attn": [_numbers(weights) for weights in layers.values()],
        "left_text": [shorten(word, LETTERS) for word in asks],
        "right_text": [shorten(word, LETTERS) for word in asked],
    }


def _vectors(vectors: Vectors, layers: Layers) -> dict[str, Any]:
    """Queries and keys of every layer, as bertviz calls them."""
    if len(vectors) != len(layers):
        raise ValueError(
            f"vectors must hold (query, key) for each of {len(layers)} maps, got {len(vectors)}"
        )
    pairs = [
        _pair(pair, weights.shape, f"vectors[{place}]")
        for place, (pair, weights) in enumerate(zip(vectors, layers.values(), strict=True))
    ]
    return {
        "queries": [_numbers(query) for query, _ in pairs],
        "keys": [_numbers(key) for _, key in pairs],
    }


def _pair(pair: tuple[Tensor, Tensor], of_map: Sequence[int], name: str) -> list[Tensor]:
    """Query and key of the first sentence, each [heads, tokens, d_head]."""
    query, key = (first_sentence(each, f"{name}[{side}]") for side, each in enumerate(pair))
    n_heads, n_query, n_key = of_map
    d_head = query.shape[-1]
    for side, each, tokens in ((0, query, n_query), (1, key, n_key)):
        if list(each.shape) != [n_heads, tokens, d_head]:
            raise ValueError(
                f"{name}[{side}] must be [heads, tokens, d_head] = {[n_heads, tokens, d_head]}, "
                f"as its map has it, got {list(each.shape)}"
            )
    return [query, key]


def _numbers(values: Float[Tensor, "..."]) -> Any:
    return np.round(values.double().numpy(), DIGITS).tolist()


def _counted(number: int) -> list[int]:
    """1, 2, 3 …: names of layers and heads as everywhere in the course."""
    return list(range(1, number + 1))


# --- The frame -----------------------------------------------------------------------------------


def _view(
    name: str,
    shown: dict[str, Any],
    options: dict[str, Any],
    controls: str = "",
    afterwards: str = "",
) -> View:
    size = sizes((len(shown["attn"]), *np.shape(shown["attn"][0])))
    parameters = {"attention": {"all": shown}, "default_filter": "all", "root_div_id": "bertviz"}
    page = _page(name, {**parameters, **options}, controls, afterwards)
    text = f"bertviz {name}: {size}"
    frame = (
        f'<iframe title="{text}" data-view="{name}" srcdoc="{html.escape(page)}"'
        ' style="width:100%;height:480px;border:0;background:#fff">'
        f"{text}. Run the cell, or trust the notebook, to see it.</iframe>"
    )
    return View(frame, f"{text} (shown in a notebook)")


def _page(name: str, parameters: dict[str, Any], controls: str, afterwards: str) -> str:
    drawing = _file("bertviz", f"{name}.js", "bertviz")
    scripts = [
        *(_file(*script) for script in SCRIPTS),
        STAND_IN,
        f"window.bertviz_params = {json_for_script(parameters)};",
        drawing.replace("PYTHON_PARAMS", "window.bertviz_params"),
        afterwards,
        FIT,
    ]
    body = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!DOCTYPE html>
<meta charset="utf-8">
<style>{STYLE}</style>
<div id="bertviz">{controls}<div id="vis"></div></div>
{body}"""


@cache
def _file(module: str, path: str, package: str) -> str:
    """A file of an installed package; the package itself is not imported."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # the package around the module
        spec = None
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"bertviz's views need {package}: pip install {package}")
    return (Path(spec.origin).parent / path).read_text(encoding="utf-8")
