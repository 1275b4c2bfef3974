"""The other views: heatmaps, tables of shapes, the map of the transformer."""

import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.font_manager import findfont
from torch import nn

from course_utils import attention, views
from course_utils.views import letters, transformer_map
from course_utils.views.colour import MASKED, rgb

TOKENS = ["The", "car", "is", "red"]
SVG = "{http://www.w3.org/2000/svg}"


def some_weights(*shape):
    return torch.softmax(torch.randn(shape, generator=torch.Generator().manual_seed(0)), dim=-1)


# --- heatmap -------------------------------------------------------------------------------------


def maps_of(figure):
    return [axis for axis in figure.axes if axis.images]


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (3, 4, 4), (8, 4, 4), (1, 5, 4, 4)])
def test_heatmap_draws_every_head(shape):
    figure = views.heatmap(some_weights(*shape), TOKENS)
    n_heads = 1 if len(shape) == 2 else shape[-3]
    assert len(maps_of(figure)) == n_heads
    assert len(figure.axes) == n_heads + 1  # and one colour bar
    assert figure.get_supxlabel() == "is asked (key)"
    assert figure.get_supylabel() == "asks (query)"


def test_heatmap_names_rows_and_columns():
    figure = views.heatmap(some_weights(4, 3), TOKENS, keys=["le", "la", "les"], title="Mine")
    (axis,) = maps_of(figure)
    assert [label.get_text() for label in axis.get_yticklabels()] == TOKENS
    assert [label.get_text() for label in axis.get_xticklabels()] == ["le", "la", "les"]
    assert figure.get_suptitle() == "Mine"


def test_heatmap_writes_the_values_of_a_small_map_only():
    (small,) = maps_of(views.heatmap(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), ["a", "b"]))
    (large,) = maps_of(views.heatmap(some_weights(7, 7), list("abcdefg")))
    assert [text.get_text() for text in small.texts] == ["0.25", "0.75", "1.00", "0.00"]
    assert not large.texts


def test_heatmap_white_is_zero_and_grey_is_masked():
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mask = torch.tensor([[True, False], [True, True]])
    (axis,) = maps_of(views.heatmap(weights, ["a", "b"], mask=mask))
    image = axis.images[0]
    colours = image.to_rgba(image.get_array(), bytes=True)[..., :3]
    assert tuple(colours[0, 1]) == rgb(MASKED)
    assert tuple(colours[1, 0]) == (255, 255, 255)
    assert sum(colours[0, 0]) < 150
    assert len(axis.texts) == 3


def test_heatmap_shows_scores_on_both_sides_of_zero():
    scores = torch.tensor([[-2.0, 0.0], [1.0, -torch.inf]])
    mask = torch.tensor([[True, True], [True, False]])
    (axis,) = maps_of(views.heatmap(scores, ["a", "b"], mask=mask))
    assert axis.images[0].get_clim() == (-2.0, 2.0)


def test_heatmap_is_shown_once():
    views.heatmap(some_weights(4, 4), TOKENS)
    assert plt.get_fignums() == []


def names_of(axis):
    """Names of the rows, and of the columns, as they are drawn."""
    return tuple(
        [tick.label1.get_text() for tick in side.get_major_ticks()]
        for side in (axis.yaxis, axis.xaxis)
    )


def drawn(figure):
    """Draw the figure, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return figure


def test_heatmap_cuts_long_names_and_keeps_its_maps_large():
    names = ["The", "donaudampfschifffahrtsgesellschaft", "is", "red"]
    figure = drawn(views.heatmap(some_weights(4, 4), names))
    (axis,) = maps_of(figure)
    assert names_of(axis)[0] == ["The", "donaudampfs…", "is", "red"]
    height, width = figure.get_size_inches()[::-1]
    assert axis.get_position().width * width > 1.5
    assert axis.get_position().height * height > 1.5


@pytest.mark.parametrize("token", ["$$", "$a$", "$", "a_b^c", "\\alpha", "{", "%"])
def test_heatmap_shows_names_as_they_are(token):
    figure = drawn(
        views.heatmap(some_weights(2, 2, 2), [token, "b"], titles=[token] * 2, title=token)
    )
    for axis in maps_of(figure):
        assert names_of(axis) == ([token, "b"],) * 2
        assert not axis.title.get_parse_math()
    ticks = [tick.label1 for side in (axis.xaxis, axis.yaxis) for tick in side.get_major_ticks()]
    assert not any(text.get_parse_math() for text in ticks)
    assert not figure._suptitle.get_parse_math()


def test_heatmap_marks_what_has_no_look_of_its_own():
    tokens = [" a", "\n", "\t", "", "\r", "\x00", "\u200b", "\ud800"]
    (axis,) = maps_of(drawn(views.heatmap(some_weights(8, 8), tokens)))
    assert names_of(axis)[0] == [
        "␣a", "↵", "⇥", "∅", r"\r", r"\x00", r"\u200b", r"\ud800",
    ]  # fmt: skip


def test_heatmap_has_a_box_for_a_letter_without_a_font_and_offers_the_explorer(monkeypatch):
    monkeypatch.setattr(letters, "_fonts", list)  # a machine with nothing but matplotlib's own
    unknown = "\U00030000\U00030001"  # rare enough that hardly a font has them
    figure = drawn(views.heatmap(some_weights(2, 2), [unknown, "é"], title=unknown))
    assert names_of(maps_of(figure)[0])[0] == ["□□", "é"]
    assert "no font" in figure.get_supxlabel()
    assert "views.explore" in figure.get_supxlabel()


def test_heatmap_finds_the_font_that_has_a_letter():
    usual, stix = (letters._letters_of(findfont(name)) for name in ("DejaVu Sans", "STIXGeneral"))
    letter = next(
        chr(code) for code in sorted(stix - usual, reverse=True) if chr(code).isprintable()
    )
    figure = drawn(views.heatmap(some_weights(2, 2), [letter, "b"]))
    assert names_of(maps_of(figure)[0])[0] == [letter, "b"]
    assert figure.get_supxlabel() == "is asked (key)"


def test_heatmap_of_many_tokens_is_a_small_picture_of_single_cells():
    weights = torch.zeros(1500, 1500)
    weights[700, 300] = 1
    figure = drawn(views.heatmap(weights, list(range(1500))))
    assert max(figure.get_size_inches()) < 10
    (axis,) = maps_of(figure)
    rows, columns = names_of(axis)
    assert len(rows) == len(columns) < 80
    assert rows[:2] == ["0", str(axis.get_yticks()[1])]
    image = axis.images[0]
    assert max(image.get_array().shape) <= 700
    assert image.get_array().max() == 1
    assert image.get_extent() == [-0.5, 1499.5, 1499.5, -0.5]
    assert image.get_interpolation() == "nearest"


def test_heatmap_of_many_heads_and_tokens_is_small():
    figure = views.heatmap(some_weights(12, 512, 512), list(range(512)))
    assert len(maps_of(figure)) == 12
    assert max(figure.get_size_inches()) < 20


def test_heatmap_keeps_masked_cells_and_signs_when_cells_share_a_pixel():
    scores = torch.zeros(1400, 1400)
    scores[0, 0], scores[10, 10], scores[20, 20] = -3, 2, -1
    mask = torch.ones(1400, 1400, dtype=torch.bool)
    mask[1200:, :200] = False
    (axis,) = maps_of(views.heatmap(scores, list(range(1400)), mask=mask))
    cells = axis.images[0].get_array()
    assert cells.shape == (700, 700)
    assert [cells[0, 0], cells[5, 5], cells[10, 10]] == [-3, 2, -1]
    assert cells.mask[600:, :100].all()
    assert cells.mask.sum() == 100 * 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_heatmap_takes_any_kind_of_number(dtype):
    weights = torch.eye(4).to(dtype)
    (axis,) = maps_of(views.heatmap(weights.T, TOKENS))
    assert (axis.images[0].get_array() == np.eye(4)).all()


def test_heatmap_takes_what_has_gradients_and_odd_strides():
    weights = some_weights(3, 4, 8)[..., ::2].transpose(-2, -1).requires_grad_()
    assert len(maps_of(views.heatmap(weights, TOKENS))) == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (512, 2), (1, 30)])
def test_heatmap_takes_one_token_and_long_sides(shape):
    tokens, keys = list(range(shape[-2])), list(range(shape[-1]))
    (axis,) = maps_of(drawn(views.heatmap(some_weights(*shape), tokens, keys=keys)))
    place = axis.get_position()
    assert place.width > 0.02
    assert place.height > 0.02


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (torch.ones(0, 4), {}, r"not empty, got shape \[0, 4\]"),
        (torch.ones(4), {}, r"got shape \[4\]"),
        (torch.ones(2, 3, 4, 4), {}, r"a batch of 2: choose one, weights\[:1\]"),
        (torch.ones(3, 3), {}, "3 queries .* tokens has 4"),
        (torch.full((4, 4), torch.nan), {}, "finite"),
        (torch.ones(2, 4, 4), {"titles": ["one"]}, "titles must name 2 heads, got 1"),
    ],
)
def test_heatmap_refuses_what_does_not_fit(weights, options, message):
    with pytest.raises(ValueError, match=message):
        views.heatmap(weights, TOKENS, **options)


# --- shapes --------------------------------------------------------------------------------------


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.blocks = nn.ModuleList([attention.MultiHeadAttention(8, 2)])
        self.head = nn.Linear(8, 7)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, mask=torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool))
        return self.head(x)


def test_shapes_of_a_model():
    table = views.shapes(Reader(), torch.zeros(2, 3, dtype=torch.long))
    rows = {row.path: row for row in table.rows}
    assert table.rows[0].path == "(the model)"
    assert (rows["(the model)"].shape_in, rows["(the model)"].shape_out) == ("[2, 3]", "[2, 3, 7]")
    assert rows["blocks.0"].shape_in == "[2, 3, 8], mask=[3, 3]"
    assert rows["blocks.0.w_q"].parameters == 8 * 8 + 8
    assert rows["blocks.0"].parameters == 0
    assert table.total == sum(row.parameters for row in table.rows)
    assert f"{table.total:,}" in repr(table).splitlines()[-1]


def test_shapes_puts_letters_where_sizes_are_known():
    table = views.shapes(
        nn.Linear(8, 4), torch.zeros(2, 3, 8), axes={"B": 2, "T": 3, "k": 4, "h": 4}
    )
    assert (table.rows[0].shape_in, table.rows[0].shape_out) == ("[B=2, T=3, 8]", "[B=2, T=3, 4]")


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.again = self.first
        self.drop = nn.Dropout(0.5)

    def forward(self, x, *, scale=1.0, extra=None):
        return self.first(x), {"twice": [self.again(x), self.drop(x)], "none": None}


def test_shapes_takes_keywords_and_nested_outputs():
    table = views.shapes(Pair(), torch.zeros(2, 3), scale=2.0, extra={"a": torch.zeros(1)})
    whole, *calls = table.rows
    assert whole.shape_in == "[2, 3], scale=2.0, extra=a=[1]"
    assert whole.shape_out == "([2, 4], twice=([2, 4], [2, 3]), none=None)"
    assert [row.path for row in calls] == ["first", "first", "drop"]
    assert table.total == 16


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x) + torch.zeros(7)


@pytest.mark.parametrize("model", [Pair(), Broken()])
def test_shapes_leaves_the_model_as_it_was(model):
    model.train()
    list(model.children())[-1].eval()
    before = [module.training for module in model.modules()]
    width = next(model.parameters()).shape[1]
    try:
        views.shapes(model, torch.zeros(2, width))
    except RuntimeError:
        assert isinstance(model, Broken)
    assert [module.training for module in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_shapes_is_a_readable_table():
    table = views.shapes(nn.Sequential(nn.Linear(2, 3)), torch.zeros(1, 2))
    tree = ElementTree.fromstring(table.html)
    assert [cell.text for cell in tree.iter("th")][:3] == ["module", "class", "shape in"]
    assert tree.find("caption") is not None
    assert repr(table).splitlines()[2].split() == ["0", "Linear", "[1,", "2]", "[1,", "3]", "9"]


# --- the map of the transformer ------------------------------------------------------------------

PARTS = [
    views.PartState("start_here.shape_of", "00", True),
    views.PartState("projection.linear", "01", False),
    views.PartState("projection.embed", "01", True),
    views.PartState("attention.softmax", "03", False),
    views.PartState("attention.project_qkv", "02", True),
    views.PartState("brand_new.thing", "17", False),
]


def drawing(view):
    return ElementTree.fromstring(view.html)


def drawn_parts(view):
    return {
        group.get("data-part"): group
        for group in drawing(view).iter(f"{SVG}g")
        if group.get("data-part")
    }


def test_map_draws_every_part_once():
    drawn = drawn_parts(views.progress_map(PARTS))
    assert set(drawn) == {part.name for part in PARTS}
    for part in PARTS:
        group = drawn[part.name]
        assert group.get("data-yours") == str(part.yours).lower()
        assert ("cu-yours" in group.get("class").split()) == part.yours
        assert group.find(f"{SVG}path") is not None  # a tick or a ring: not colour alone


def test_map_in_words():
    view = views.progress_map(PARTS)
    lines = repr(view).splitlines()
    assert lines[0] == "The transformer: 3 of 6 parts are yours"
    assert lines[1:4] == [
        "[x] start_here.shape_of",
        "[x] projection.embed",
        "[ ] projection.linear",
    ]
    assert lines.index("[x] attention.project_qkv") < lines.index("[ ] attention.softmax")
    assert drawing(view).get("role") == "img"
    assert drawing(view).find(f"{SVG}title").text == lines[0]
    assert drawing(view).find(f"{SVG}desc").text == repr(view)


def test_map_shows_the_whole_transformer_before_its_parts_exist():
    regions = {
        group.get("data-module"): group.get("class")
        for group in drawing(views.progress_map([])).iter(f"{SVG}g")
    }
    assert set(regions) == {region.module for region in transformer_map.REGIONS}
    assert all("cu-empty" in kind for kind in regions.values())


def test_map_keeps_boxes_apart_and_inside():
    many = [views.PartState(f"{region.module}.{'x' * 30}{i}", "", False)
            for region in transformer_map.REGIONS for i in range(7)]  # fmt: skip
    tree = drawing(views.progress_map([*many, *PARTS]))
    _, _, width, height = map(float, tree.get("viewBox").split())
    boxes = []
    for group in tree.iter(f"{SVG}g"):
        if group.get("data-module") is not None:
            box = group.find(f"{SVG}rect")
            boxes.append([float(box.get(name)) for name in ("x", "y", "width", "height")])
    for number, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in boxes[:number]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@pytest.mark.parametrize("lit", ["attention", ["attention.softmax", "attention.project_qkv"]])
def test_map_lights_what_the_notebook_builds(lit):
    view = views.progress_map(PARTS, lit=lit)
    lit_parts = {
        name for name, group in drawn_parts(view).items() if "cu-lit" in group.get("class").split()
    }
    assert lit_parts == {"attention.softmax", "attention.project_qkv"}
    assert "[ ] attention.softmax  <- this notebook" in repr(view)
    assert "Attention: who looks at whom ◂ this notebook" in view.html


def test_map_lights_a_region_that_has_no_parts_yet():
    assert "Positions ◂ this notebook" in views.progress_map(PARTS, lit="positions").html


def test_map_refuses_to_light_what_is_not_there():
    with pytest.raises(ValueError, match=r"lit must name .* \['attention.softmix'\]"):
        views.progress_map(PARTS, lit=["attention.softmix"])


def test_map_escapes_names():
    view = views.progress_map([views.PartState('x.<b>"&', "99", True)])
    assert set(drawn_parts(view)) == {'x.<b>"&'}


def test_the_style_draws_a_picture() -> None:

    with plt.rc_context():
        views.use_style()
        figure, axis = plt.subplots()
        axis.imshow([[-1.0, 1.0]], cmap=views.SIGNED, vmin=-1, vmax=1)
        figure.canvas.draw()
        plt.close(figure)
        assert not axis.spines["top"].get_visible()
