"""`course_utils.attention` against torch's own functions."""

import functools
import inspect
import math
import types

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks

from course_utils import attention, decoder, encoder, projection

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 5)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def boolean(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random True and False; the first key may always be looked at."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[..., 0] = True
    return mask


# --- the small functions -------------------------------------------------------------------------


def test_keys_and_values_come_from_the_memory():
    x, memory = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    query, key, value = attention.project_qkv(
        x, memory, lambda t: t + 1, lambda t: t + 2, lambda t: t + 3
    )
    torch.testing.assert_close((query, key, value), (x + 1, memory + 2, memory + 3))


@few
@given(sizes, sizes, sizes, sizes, sizes)
def test_scores_are_all_dot_products(batch, heads, queries, keys, d_head):
    query, key = normal(batch, heads, queries, d_head), normal(batch, heads, keys, d_head, seed=1)
    wanted = torch.einsum("bhqd,bhkd->bhqk", query, key)
    torch.testing.assert_close(attention.attention_scores(query, key), wanted)


@few
@given(sizes, sizes, sizes, sizes)
def test_split_and_merge_are_inverse(batch, tokens, heads, d_head):
    x = normal(batch, tokens, heads * d_head)
    split = attention.split_heads(x, heads)
    assert split.shape == (batch, heads, tokens, d_head)
    assert torch.equal(split[:, -1], x[..., -d_head:])
    assert torch.equal(attention.merge_heads(split), x)


def test_features_that_cannot_be_split_are_refused():
    with pytest.raises(RuntimeError):
        attention.split_heads(normal(1, 2, 5), 2)
    with pytest.raises(ValueError, match="d_model must be a multiple of n_heads, got 5 and 2"):
        attention.MultiHeadAttention(5, 2)


@few
@given(st.lists(sizes, min_size=1, max_size=4), st.data())
def test_softmax_is_torchs(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    factor = data.draw(st.sampled_from([1.0, 100.0, 1e6]))
    scores = factor * normal(*shape, dtype=dtype)
    torch.testing.assert_close(attention.softmax(scores, dim), F.softmax(scores, dim))


def test_softmax_of_half_precision_and_of_views():
    for dtype in (torch.bfloat16, torch.float16):
        scores = normal(3, 4).to(dtype)
        torch.testing.assert_close(attention.softmax(scores), F.softmax(scores, -1))
    scores = normal(4, 6)[:, ::2].T
    torch.testing.assert_close(attention.softmax(scores), F.softmax(scores, -1))


def test_softmax_gradient_is_right():
    scores = normal(3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: attention.softmax(s, 0), scores)


def test_a_row_of_minus_infinity_has_no_answer():
    scores = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf]])
    weights = attention.softmax(scores)
    assert weights[0].isnan().all()
    assert weights[1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("var_q", "var_k"), [(1.0, 1.0), (4.0, 0.25), (0.5, 9.0)])
@pytest.mark.parametrize("d_head", [1, 7, 64])
def test_scaled_scores_have_variance_one(d_head, var_q, var_k):
    query = math.sqrt(var_q) * normal(50_000, d_head)
    key = math.sqrt(var_k) * normal(50_000, d_head, seed=1)
    scores = (query * key).sum(-1) * attention.score_scale(d_head, var_q, var_k)
    assert scores.var().item() == pytest.approx(1, abs=0.05)


# --- attention -----------------------------------------------------------------------------------

MASKS = [None, (4, 6), (1, 6), (2, 1, 1, 6), (2, 3, 4, 6), (1, 3, 1, 6)]


@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_with_a_mask_is_torchs(shape, dtype):
    query, key = 3 * normal(2, 3, 4, 5, dtype=dtype), normal(2, 3, 6, 5, seed=1, dtype=dtype)
    value = normal(2, 3, 6, 7, seed=2, dtype=dtype)
    mask = None if shape is None else boolean(*shape)
    ours = attention.scaled_dot_product_attention(query, key, value, mask)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6), (2, 1, 4, 6), (6,)])
def test_attention_with_a_bias_is_torchs(shape):
    query, key, value = (normal(2, 3, n, 5, seed=n) for n in (4, 6, 6))
    bias = normal(*shape)
    ours = attention.scaled_dot_product_attention(query, key, value, bias=bias)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(2, 3, 4, 6))
    torch.testing.assert_close(ours, wanted)


def test_attention_gradients_are_torchs():
    tensors = [normal(2, 3, n, 5, seed=n, dtype=torch.float64) for n in (4, 6, 7)]
    query, key, _ = tensors = [tensor.requires_grad_() for tensor in tensors]
    value, mask = tensors[2][:, :, :6], boolean(2, 1, 4, 6)
    ours = attention.scaled_dot_product_attention(query, key, value, mask)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), tensors),
        torch.autograd.grad(theirs.square().sum(), tensors),
    )


def test_bias_is_hidden_where_the_mask_hides():
    query, key = normal(2, 4, 5), normal(2, 6, 5, seed=1)
    mask, bias = boolean(2, 4, 6), 100 * normal(4, 6)
    weights = attention.attention_weights(query, key, mask, bias)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))


def test_a_query_that_may_look_nowhere_gets_nan_and_the_others_do_not():
    query, key, value = normal(1, 2, 5), normal(1, 3, 5, seed=1), normal(1, 3, 4, seed=2)
    mask = torch.tensor([[False, False, False], [True, False, True]])
    output = attention.scaled_dot_product_attention(query, key, value, mask)
    assert output[0, 0].isnan().all()
    assert output[0, 1].isfinite().all()


def test_inputs_are_left_as_they_were():
    given = [normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 6), boolean(3, 5), normal(3, 5)]
    before = [tensor.clone() for tensor in given]
    attention.scaled_dot_product_attention(*given)
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


# --- MultiHeadAttention --------------------------------------------------------------------------


def _both_layers(d_model: int, n_heads: int, dtype: torch.dtype):
    """Our layer and torch's, with the same weights and biases."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(d_model, n_heads, batch_first=True, dtype=dtype)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    nn.init.normal_(theirs.in_proj_weight, std=1.5 / d_model**0.5)
    ours = attention.MultiHeadAttention(d_model, n_heads).to(dtype)
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    with torch.no_grad():
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            getattr(ours, f"w_{name}").weight.copy_(weight)
            getattr(ours, f"w_{name}").bias.copy_(bias)
    ours.w_o.load_state_dict(theirs.out_proj.state_dict())
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens_of_memory", [None, 7])
@pytest.mark.parametrize(("d_model", "n_heads"), [(5, 1), (6, 2), (12, 3), (8, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multi_head_attention_is_torchs(d_model, n_heads, tokens_of_memory, masked, dtype):
    ours, theirs = _both_layers(d_model, n_heads, dtype)
    x = normal(2, 4, d_model, dtype=dtype).requires_grad_()
    memory = x if tokens_of_memory is None else normal(2, 7, d_model, seed=1, dtype=dtype)
    mask = boolean(4, memory.shape[1]) if masked else None
    output = ours(x, None if tokens_of_memory is None else memory, mask)
    wanted, _ = theirs(x, memory, memory, attn_mask=None if mask is None else ~mask)
    torch.testing.assert_close(output, wanted, rtol=1e-6, atol=1e-6)

    (gradient,) = torch.autograd.grad(output.sin().sum(), x, retain_graph=True)
    (wanted_gradient,) = torch.autograd.grad(wanted.sin().sum(), x, retain_graph=True)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=1e-6)
    output.sin().sum().backward()
    wanted.sin().sum().backward()
    gradients = [ours.w_q.weight.grad, ours.w_k.weight.grad, ours.w_v.weight.grad]
    torch.testing.assert_close(
        torch.cat(gradients), theirs.in_proj_weight.grad, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(ours.w_o.weight.grad, theirs.out_proj.weight.grad)


def test_maps_are_torchs():
    ours, theirs = _both_layers(12, 3, torch.float32)
    x, memory = normal(2, 4, 12), normal(2, 7, 12, seed=1)
    with attention.record() as maps:
        ours(x, memory)
    _, weights = theirs(x, memory, memory, average_attn_weights=False)
    torch.testing.assert_close(maps["attention"], weights, rtol=1e-5, atol=1e-6)


def test_attention_is_blind_to_the_order_of_the_memory():
    layer = attention.MultiHeadAttention(6, 2)
    x, memory = normal(2, 4, 6), normal(2, 5, 6, seed=1)
    torch.testing.assert_close(layer(x, memory), layer(x, memory.flip(1)))


def test_a_gpt_does_not_look_ahead():
    torch.manual_seed(0)
    model = decoder.gpt(vocabulary=7, d_model=12, n_heads=3, n_layers=2, context=6)
    ids = torch.randint(7, (2, 6), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:, 3:] = (ids[:, 3:] + 1) % 7
    torch.testing.assert_close(model(ids)[:, :3], model(other)[:, :3])
    assert not torch.allclose(model(ids)[:, 3:], model(other)[:, 3:])


# --- record --------------------------------------------------------------------------------------

PARTS = ("attention_weights", "scaled_dot_product_attention")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """After every test the module is as it was, and torch has no hooks of ours."""
    before = [getattr(attention, name) for name in PARTS]
    yield
    assert [getattr(attention, name) for name in PARTS] == before
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not hooks._global_forward_hooks_always_called


def _gpt(n_layers: int = 2) -> decoder.GPT:
    return decoder.gpt(vocabulary=7, d_model=12, n_heads=3, n_layers=n_layers, context=6)


def test_maps_are_named_by_the_path_of_their_module_in_order():
    with attention.record() as maps:
        _gpt(3)(torch.zeros(2, 5, dtype=torch.long))
    assert list(maps) == [f"blocks.{layer}.attention" for layer in range(3)]
    for weights in maps.values():
        assert weights.shape == (2, 3, 5, 5)
        assert not weights.requires_grad
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
        assert (weights.triu(1) == 0).all()


def test_repeated_calls_are_numbered():
    layer, model = attention.MultiHeadAttention(6, 2), _gpt(1)
    with attention.record() as maps:
        layer(normal(1, 3, 6))
        layer(normal(1, 4, 6))
        model(torch.zeros(1, 2, dtype=torch.long))
        model(torch.zeros(1, 3, dtype=torch.long))
        attention.attention_weights(normal(5, 6), normal(2, 6))
    assert {name: list(weights.shape)[-2:] for name, weights in maps.items()} == {
        "attention": [3, 3],
        "attention#2": [4, 4],
        "blocks.0.attention": [2, 2],
        "blocks.0.attention#2": [3, 3],
        "attention#3": [5, 2],
    }


def test_outputs_are_the_same_while_recording():
    torch.manual_seed(0)
    model, ids = _gpt(), torch.randint(7, (2, 5))
    plain = model(ids)
    with attention.record():
        recorded = model(ids)
    assert torch.equal(plain, recorded)
    recorded.sum().backward()
    assert all(weight.grad is not None for weight in model.blocks.parameters())


def test_an_error_in_the_block_restores_everything():
    with pytest.raises(ZeroDivisionError), attention.record():
        raise ZeroDivisionError
    with pytest.raises(IndexError), attention.record():
        _gpt()(torch.full((1, 2), 99))


def test_paths_stay_right_after_an_error_inside_a_model():
    model = _gpt(1)
    with attention.record() as maps:
        with pytest.raises(RuntimeError):
            model.blocks[0].attention(normal(1, 2, 5))
        with pytest.raises(IndexError):
            model(torch.full((1, 2), 99))
        model(torch.zeros(1, 2, dtype=torch.long))
    assert list(maps) == ["blocks.0.attention"]


def _fused(query, key, value, mask=None, bias=None):
    """A learner's version that never forms the weights."""
    added = bias if mask is None else mask if bias is None else bias.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def test_maps_do_not_depend_on_the_kernel(monkeypatch):
    torch.manual_seed(0)
    model, ids = _gpt(), torch.randint(7, (2, 5))
    with attention.record() as explicit:
        model(ids)
    with monkeypatch.context() as patch:
        patch.setattr(attention, "scaled_dot_product_attention", _fused)
        with attention.record() as fused:
            model(ids)
            model(ids[:, :3])
    assert list(fused) == [*explicit, *(f"{name}#2" for name in explicit)]
    for name, weights in explicit.items():
        torch.testing.assert_close(fused[name], weights)


def _nested_names() -> tuple[list[str], list[str]]:
    model, ids = _gpt(1), torch.zeros(1, 2, dtype=torch.long)
    with attention.record() as outer:
        with attention.record() as inner:
            model(ids)
        model(ids)
    return list(inner), list(outer)


def test_records_can_be_nested():
    inner, outer = _nested_names()
    assert inner == ["blocks.0.attention"]
    assert outer == ["blocks.0.attention", "blocks.0.attention#2"]


def test_records_can_be_nested_around_a_fused_kernel(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(attention, "scaled_dot_product_attention", _fused)
        inner, outer = _nested_names()
    assert inner == ["blocks.0.attention"]
    assert outer == ["blocks.0.attention", "blocks.0.attention#2"]


# --- annotations ---------------------------------------------------------------------------------


def _checked(function):
    """The function, refusing arguments and results that are not what its annotations say."""
    signature = inspect.signature(function)

    def fits(value, annotation) -> bool:
        checkable = annotation is not signature.empty
        checkable = checkable and isinstance(annotation, type | types.UnionType)
        checkable = checkable and not isinstance(annotation, types.GenericAlias)
        return not checkable or isinstance(value, annotation)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            assert fits(value, signature.parameters[name].annotation), name
        result = function(*args, **kwargs)
        assert fits(result, signature.return_annotation), "the result"
        return result

    return jaxtyping.jaxtyped(typechecker=None)(checked)


@pytest.fixture
def annotations_checked(monkeypatch):
    for module in (projection, attention):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and name != "record":
                monkeypatch.setattr(module, name, _checked(function))
    classes = (projection.Linear, projection.Embedding, attention.MultiHeadAttention)
    for layer in (*classes, encoder.FeedForward, encoder.TransformerBlock, decoder.GPT):
        monkeypatch.setattr(layer, "forward", _checked(layer.forward))


@pytest.mark.usefixtures("annotations_checked")
def test_shapes_are_those_that_are_announced():
    decoder.gpt(vocabulary=7, d_model=12, n_heads=3, n_layers=2, context=6)(
        torch.zeros(2, 5, dtype=torch.long)
    )
    layer = attention.MultiHeadAttention(12, 4)
    layer(normal(2, 5, 12), normal(2, 6, 12), boolean(2, 1, 1, 6), normal(4, 5, 6))
    projection.dot_and_cosine(normal(2, 4), normal(3, 4))


@pytest.mark.usefixtures("annotations_checked")
def test_the_check_of_the_announcements_can_fail():
    with pytest.raises(AssertionError, match="key"):
        attention.attention_scores(normal(2, 3, 4), normal(2, 5, 6))
    with pytest.raises(AssertionError, match="x"):
        attention.split_heads(normal(4, 6), 2)
