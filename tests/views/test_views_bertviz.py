"""bertviz's views: what their pages hold and what they refuse. Browser tests see them drawn."""

import json
from html import unescape
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from course_utils import attention, views
from course_utils.runs import kernels
from course_utils.views import bertviz_bridge

TOKENS = ["The", "car", "is", "red"]


def some_maps(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(3 * torch.randn(*shape, generator=generator), dim=-1)


def some_vectors(n_layers, *shape):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
        for _ in range(n_layers)
    ]


def page_of(view):
    return unescape(view.html.partition('srcdoc="')[2].partition('"')[0])


class Elements(HTMLParser):
    """The names of a page's elements, and whatever they load."""

    def __init__(self, page):
        super().__init__()
        self.names, self.loaded = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def data_of(view):
    line = next(line for line in page_of(view).splitlines() if "window.bertviz_params =" in line)
    return json.loads(line.partition(" = ")[2].removesuffix(";</script>"))


def every_view(maps, tokens, **options):
    n_layers, n_heads, n_query, n_key = maps.shape
    vectors = [
        (torch.ones(1, n_heads, n_query, 3), torch.ones(1, n_heads, n_key, 3))
        for _ in range(n_layers)
    ]
    return [
        views.head_view(maps, tokens, **options),
        views.model_view(maps, tokens, **options),
        views.neuron_view(maps, vectors, tokens, **options),
    ]


def test_pages_hold_the_scripts_and_ask_for_none():
    for view in every_view(some_maps(2, 3, 4, 4), TOKENS):
        page = page_of(view)
        assert "d3js.org v5.7.0 Copyright" in page  # with the notice that its licence asks for
        assert "jQuery v3" in page
        assert "OpenJS Foundation" in page
        assert Elements(page).loaded == []


def test_pages_hold_weights_and_tokens():
    maps = some_maps(2, 3, 4, 4)
    for view in every_view(maps, TOKENS):
        shown = data_of(view)["attention"]["all"]
        torch.testing.assert_close(torch.tensor(shown["attn"]), maps, atol=1e-4, rtol=0)
        assert shown["left_text"] == shown["right_text"] == TOKENS
        assert repr(view).startswith("bertviz ")
        assert "2 layers × 3 heads × 4 tokens × 4 keys" in repr(view)


def test_keys_may_have_names_and_a_number_of_their_own():
    for view in every_view(some_maps(1, 2, 4, 3), TOKENS, keys=["le", "la", "les"]):
        shown = data_of(view)["attention"]["all"]
        assert (shown["left_text"], shown["right_text"]) == (TOKENS, ["le", "la", "les"])


def test_no_token_ends_the_script_or_its_room():
    for view in every_view(some_maps(1, 1, 4, 4), ["</script>", "", " a\n", "漢" * 40]):
        assert Elements(page_of(view)).names.count("script") == 7
        shown = data_of(view)["attention"]["all"]["left_text"]
        assert shown == ["</script>", "∅", "␣a↵", "漢漢漢漢…"]


def test_half_precision_and_gradients_do_not_matter():
    maps = some_maps(1, 2, 4, 4).to(torch.bfloat16).requires_grad_()
    vectors = [tuple(each.half().requires_grad_() for each in some_vectors(1, 1, 2, 4, 3)[0])]
    assert views.head_view(maps, TOKENS).html
    assert views.neuron_view(maps, vectors, TOKENS).html


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(*(attention.MultiHeadAttention(8, 2) for _ in range(3)))


def recorded(model):
    with attention.record() as maps, views.record_vectors(attention) as vectors:
        model(torch.randn(2, 4, 8))
    return maps, vectors


def test_neuron_view_of_our_own_model(model):
    maps, vectors = recorded(model)
    shown = data_of(views.neuron_view(maps, vectors, TOKENS))["attention"]["all"]
    queries, keys = torch.tensor(shown["queries"]), torch.tensor(shown["keys"])
    weights = torch.softmax(queries @ keys.transpose(-2, -1) / 2, dim=-1)  # √4
    torch.testing.assert_close(torch.tensor(shown["attn"]), weights, atol=1e-3, rtol=0)


def test_vectors_of_fused_attention_are_recorded_once(model):
    with kernels.fused():
        maps, vectors = recorded(model)
    assert len(vectors) == len(maps) == 3


def test_recording_leaves_the_parts_as_they_were(model):
    before = attention.attention_weights, attention.scaled_dot_product_attention
    with pytest.raises(RuntimeError), views.record_vectors(attention):
        model(torch.ones(1))
    assert before == (attention.attention_weights, attention.scaled_dot_product_attention)


def test_recording_a_model_in_place_of_the_module_is_refused(model):
    with pytest.raises(TypeError, match="must be the module, got Sequential"):
        views.record_vectors(model).__enter__()


@pytest.mark.parametrize("causal", [True, False])
def test_neuron_view_knows_who_may_look_ahead(causal):
    maps = some_maps(2, 2, 4, 4)
    view = views.neuron_view(maps.tril() if causal else maps, some_vectors(2, 2, 4, 3), TOKENS)
    assert data_of(view)["bidirectional"] is not causal


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (some_vectors(1, 2, 4, 3), r"vectors must hold .* for each of 2 maps, got 1"),
        (some_vectors(2, 1, 4, 3), r"vectors\[0\]\[0\] must be .* \[2, 4, 3\].* got \[1, 4, 3\]"),
        (
            [(torch.ones(2, 4, 3), torch.ones(2, 5, 3))] * 2,
            r"vectors\[0\]\[1\] must be .* \[2, 4, 3\].* got \[2, 5, 3\]",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        views.neuron_view(some_maps(2, 2, 4, 4), vectors, TOKENS)


@pytest.mark.parametrize("view", [views.head_view, views.model_view])
def test_what_is_no_share_is_refused(view):
    with pytest.raises(ValueError, match="not the scores"):
        view(torch.full((1, 1, 4, 4), 2.0), TOKENS)
    with pytest.raises(ValueError, match=r"4 queries .* tokens has 3"):
        view(some_maps(1, 1, 4, 4), TOKENS[:3])


def test_a_package_that_is_missing_is_named(monkeypatch):
    missing = (("xstatic.no.jquery", "data/jquery.min.js", "XStatic-jQuery"),)
    monkeypatch.setattr(bertviz_bridge, "SCRIPTS", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install XStatic-jQuery"):
        views.head_view(some_maps(1, 1, 4, 4), TOKENS)
