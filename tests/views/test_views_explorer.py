"""views.explore: what the page holds, and what it refuses. The browser tests look at the rest."""

import base64
import json
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils import attention, views
from course_utils.decoder import causal_mask
from course_utils.views import explorer
from course_utils.views.colour import LEVELS, MASKED_BYTE, byte_palette

ASSETS = Path(explorer.__file__).parent
TOKENS = ["The", "car", "is", "red"]


def some_weights(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(3 * torch.randn(*shape, generator=generator), dim=-1)


class Page(HTMLParser):
    """Elements of a page: [tag, attributes, text]."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        self.elements[-1][2] += data

    def find(self, tag):
        return [element for element in self.elements if element[0] == tag]


def data_of(view):
    scripts = Page(view.html).find("script")
    return json.loads(next(text for _, attrs, text in scripts if attrs.get("class") == "cu-data"))


def weights_of(view, shape):
    raw = bytearray(zlib.decompress(base64.b64decode(data_of(view)["weights"])))
    return torch.frombuffer(raw, dtype=torch.uint8).view(shape)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(1, 9)] * 2), st.integers(0, 1000))
def test_weights_survive_as_bytes(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.softmax(5 * torch.randn(shape, generator=generator), dim=-1)
    view = views.explore(weights, list(range(shape[2])), keys=list(range(shape[3])))
    kept = weights_of(view, shape)
    assert (kept <= LEVELS).all()
    assert (kept / LEVELS - weights).abs().max() <= 1 / 255


def test_masked_cells_are_marked_and_not_zero():
    mask = causal_mask(4)
    weights = some_weights(2, 3, 4, 4).masked_fill(~mask, 0)
    kept = weights_of(views.explore(weights, TOKENS, mask=mask), weights.shape)
    assert (kept == MASKED_BYTE).equal((~mask).expand_as(kept))


def test_padding_mask_of_a_batch_shows_its_first_sentence():
    mask = torch.ones(2, 1, 1, 4, dtype=torch.bool)
    mask[0, ..., 3] = False
    kept = weights_of(views.explore(some_weights(1, 2, 4, 4), TOKENS, mask=mask), (1, 2, 4, 4))
    assert (kept[..., 3] == MASKED_BYTE).all()
    assert (kept[..., :3] != MASKED_BYTE).all()


def test_takes_what_record_gives():
    model = nn.Sequential(*(attention.MultiHeadAttention(8, 2) for _ in range(3)))
    with attention.record() as maps:
        model(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)))
    view = views.explore(maps, TOKENS)
    data = data_of(view)
    assert data["layers"] == ["0", "1", "2"]
    assert (data["heads"], data["tokens"], data["keys"]) == (2, TOKENS, TOKENS)
    first = weights_of(view, (3, 2, 4, 4))[1, :, 3] / LEVELS
    torch.testing.assert_close(first, maps["1"][0, :, 3], atol=1 / 255, rtol=0)


def test_half_precision_and_gradients_do_not_matter():
    weights = some_weights(1, 1, 4, 4).to(torch.bfloat16).requires_grad_()
    assert views.explore(weights, TOKENS).html


@pytest.mark.parametrize(
    "token", ["</script>", "<b>", "<!--", "&amp;", '"', "'", "\\", "\u2028", "é 漢"]
)
def test_tokens_and_titles_are_kept_as_text(token):
    view = views.explore({token: some_weights(1, 1, 2, 2)}, [token, "x"], title=token)
    page = Page(view.html)
    assert data_of(view)["tokens"][0] == token.translate({32: "␣", 0x2028: "\\u2028"})
    assert page.find("div")[0][1]["aria-label"] == token
    assert page.find("strong")[0][2].strip() == token.strip()
    assert [tag for tag, _, _ in page.elements].count("script") == 2
    assert not page.find("b")


def test_spaces_are_visible():
    view = views.explore(some_weights(1, 1, 4, 4), [" a", "\n", "\t", ""])
    assert data_of(view)["tokens"] == ["␣a", "↵", "⇥", "∅"]


def test_page_needs_nothing_from_elsewhere():
    view = views.explore(some_weights(2, 2, 4, 4), TOKENS)
    for _, attributes, _ in Page(view.html).elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    styles = (ASSETS / "explore.css").read_text()
    script = (ASSETS / "explore.js").read_text()
    assert "url(" not in styles
    assert "</" not in styles
    for word in ("fetch(", "import", "XMLHttp", "</script", "innerHTML", "document.write"):
        assert word not in script


def test_bundle_has_html_and_words():
    view = views.explore(some_weights(2, 2, 4, 4), TOKENS, title="Mine")
    bundle = view._repr_mimebundle_()
    assert bundle == {"text/html": view._repr_html_(), "text/plain": repr(view)}
    assert repr(view).startswith("Mine: 2 layers × 2 heads × 4 tokens × 4 keys")


def test_static_picture_is_a_png_that_keeps_single_cells():
    levels = np.zeros((12, 12, 128, 128), dtype=np.uint8)
    levels[11, 11, 77, 78] = LEVELS
    picture = explorer.static_picture(levels)
    width, height, rows = read_png(picture)
    assert width <= 720
    assert height == len(rows) <= 720
    assert any(LEVELS in row for row in rows)
    assert len(picture) < 20_000


def test_static_picture_has_no_shape_it_cannot_draw():
    for shape in [(1, 1, 1, 1), (1, 16, 2, 300), (30, 1, 5, 3)]:
        levels = np.full(shape, MASKED_BYTE, dtype=np.uint8)
        width, _, rows = read_png(explorer.static_picture(levels))
        assert {len(row) for row in rows} == {width}
        assert MASKED_BYTE in rows[0]


def read_png(picture):
    """Width, height and the rows of palette numbers, read by the format's definition."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        name, content = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        check = picture[place + 8 + length : place + 12 + length]
        assert struct.unpack(">I", check)[0] == zlib.crc32(name + content)
        chunks[name], place = content, place + 12 + length
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    assert chunks[b"PLTE"] == byte_palette()
    raw = zlib.decompress(chunks[b"IDAT"])
    lines = [raw[i : i + width + 1] for i in range(0, len(raw), width + 1)]
    assert {line[0] for line in lines} == {0}
    return width, height, [line[1:] for line in lines]


def test_palette_goes_from_white_to_dark():
    palette = byte_palette()
    assert len(palette) == 256 * 3
    light = [sum(palette[3 * i : 3 * i + 3]) for i in range(LEVELS + 1)]
    assert light[0] == 3 * 255
    assert light == sorted(light, reverse=True)
    assert light[3] < light[0] - 15  # 1 % is not white


def test_a_large_explorer_stays_small():
    view = views.explore(some_weights(12, 12, 128, 128), list(range(128)))
    assert len(view.html) < 3_200_000


@pytest.mark.parametrize(
    ("maps", "tokens", "options", "message"),
    [
        ({}, TOKENS, {}, "maps is empty"),
        (torch.ones(4, 4), TOKENS, {}, r"\[layers, heads, query, key\]"),
        ({"a": torch.ones(4)}, TOKENS, {}, r"maps\['a'\] must be"),
        ({"a": torch.ones(1, 2, 4, 4), "b": torch.ones(1, 2, 4, 3)}, TOKENS, {}, "choose some"),
        (torch.zeros(0, 1, 4, 4), TOKENS, {}, "not empty"),
        (some_weights(1, 1, 4, 4), TOKENS[:3], {}, "4 queries .* tokens has 3"),
        (some_weights(1, 1, 4, 5), TOKENS, {}, "5 keys .* has 4; name them with keys="),
        (some_weights(1, 1, 4, 4), TOKENS, {"keys": TOKENS[:2]}, "keys has 2"),
        (-some_weights(1, 1, 4, 4), TOKENS, {}, "between 0 and 1"),
        (torch.full((1, 1, 4, 4), 2.0), TOKENS, {}, "not the scores"),
        (torch.full((1, 1, 4, 4), torch.nan), TOKENS, {}, "NaN"),
        (some_weights(1, 1, 4, 4), TOKENS, {"mask": torch.ones(3, 3).bool()}, "broadcast"),
    ],
)
def test_what_does_not_fit_is_refused(maps, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        views.explore(maps, tokens, **options)


@pytest.mark.parametrize(
    ("maps", "tokens", "options", "message"),
    [
        ([[1.0]], ["a"], {}, "dictionary or a tensor, got list"),
        ({"a": [[1.0]]}, ["a"], {}, "must be a tensor"),
        (some_weights(1, 1, 4, 4), "abcd", {}, "got one string"),
        (some_weights(1, 1, 4, 4), TOKENS, {"mask": torch.ones(4, 4)}, "boolean tensor"),
        (some_weights(1, 1, 4, 4), TOKENS, {"mask": [[True]]}, "got list"),
    ],
)
def test_wrong_types_are_refused(maps, tokens, options, message):
    with pytest.raises(TypeError, match=message):
        views.explore(maps, tokens, **options)


def test_nan_under_the_mask_does_not_matter():
    mask = torch.tensor([[True, False], [False, False]])
    weights = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan]])[None, None]
    kept = weights_of(views.explore(weights, ["a", "b"], mask=mask), (1, 1, 2, 2))
    assert kept.flatten().tolist() == [LEVELS, MASKED_BYTE, MASKED_BYTE, MASKED_BYTE]


def test_importing_views_stays_cheap():
    code = (
        "import sys, course_utils.views; "
        "print([m for m in ('matplotlib', 'IPython', 'bertviz') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'heat'"):
        views.heat  # noqa: B018
    assert all(getattr(views, name) for name in views.__all__)
