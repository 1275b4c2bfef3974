"""`course_utils.positions` against closed forms, complex numbers and torch's own attention."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_utils import attention, positions
from course_utils.projection import Embedding

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 6)
halves = st.integers(1, 6)
bases = st.sampled_from([20.0, 10000.0, 500000.0])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def boolean(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random True and False; the first key may always be looked at."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[..., 0] = True
    return mask


# --- permutation_error ---------------------------------------------------------------------------

ORDER = torch.tensor([3, 0, 5, 1, 4, 2])


def test_permutation_error_by_hand():
    """The sums 1, 3, 7 become 7, 1, 3 when shuffled; the shuffled tokens 4, 1, 2 add up to 7."""
    x, order = torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([2, 0, 1])
    assert positions.permutation_error(lambda x: x.cumsum(1), x, order) == 4
    assert positions.permutation_error(lambda x: -x.cumsum(1), x, order) == 4
    assert positions.permutation_error(lambda x: x.mean(-1, keepdim=True), x, order) == 0


def _layers() -> dict[str, nn.Module]:
    """For each scheme a layer of attention that is told the order by it."""
    torch.manual_seed(0)
    biased = positions.BiasedAttention(8, 2, reach=3)
    nn.init.normal_(biased.tables)
    layers = {
        "sinusoids": nn.Sequential(
            positions.SinusoidalPositions(), attention.MultiHeadAttention(8, 2)
        ),
        "learned": nn.Sequential(
            positions.LearnedPositions(9, 8), attention.MultiHeadAttention(8, 2)
        ),
        "bias": biased,
        "rotary": positions.RotaryAttention(8, 2),
    }
    return {name: layer.double() for name, layer in layers.items()}


def test_attention_without_positions_is_order_blind():
    layer = attention.MultiHeadAttention(8, 2).double()
    x = 3 * normal(2, 6, 8, dtype=torch.float64)
    assert positions.permutation_error(layer, x, ORDER) < 1e-14


@pytest.mark.parametrize("scheme", ["sinusoids", "learned", "bias", "rotary"])
def test_every_scheme_tells_the_order(scheme):
    x = 3 * normal(2, 6, 8, dtype=torch.float64)
    assert positions.permutation_error(_layers()[scheme], x, ORDER) > 0.05


def test_a_causal_mask_tells_the_order():
    layer = attention.MultiHeadAttention(8, 2).double()
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    x = 3 * normal(2, 6, 8, dtype=torch.float64)
    assert positions.permutation_error(lambda x: layer(x, mask=causal), x, ORDER) > 0.05


# --- sinusoids -----------------------------------------------------------------------------------


@few
@given(sizes, halves, bases)
def test_sinusoids_are_those_of_the_paper(n_tokens, half, base):
    d_model = 2 * half
    sinusoids = positions.sinusoidal_positions(n_tokens, d_model, base)
    angles = np.arange(n_tokens)[:, None] / base ** (2 * np.arange(half) / d_model)
    torch.testing.assert_close(sinusoids[:, 0::2], torch.from_numpy(np.sin(angles)).float())
    torch.testing.assert_close(sinusoids[:, 1::2], torch.from_numpy(np.cos(angles)).float())


def test_sinusoids_begin_at_zero_and_have_one_length():
    sinusoids = positions.sinusoidal_positions(100, 8)
    assert sinusoids[0].tolist() == [0, 1] * 4
    torch.testing.assert_close(sinusoids.square().sum(-1), torch.full((100,), 4.0))


def test_dot_product_of_sinusoids_depends_on_distance_only():
    sinusoids = positions.sinusoidal_positions(40, 16)
    dots = sinusoids @ sinusoids.T
    frequencies = 10000.0 ** (-torch.arange(8) / 8)
    for distance in range(40):
        wanted = (distance * frequencies).cos().sum().expand(40 - distance)
        torch.testing.assert_close(dots.diagonal(distance), wanted, rtol=1e-4, atol=1e-4)
    assert (dots.argmax(-1) == torch.arange(40)).all()


@few
@given(st.integers(-9, 9), halves, bases)
def test_shift_matrix_moves_every_place(k, half, base):
    matrix = positions.shift_matrix(k, 2 * half, base)
    sinusoids = positions.sinusoidal_positions(30, 2 * half, base)
    moved = sinusoids[10:20] @ matrix
    torch.testing.assert_close(moved, sinusoids[10 + k : 20 + k], rtol=1e-4, atol=1e-5)


@few
@given(st.integers(-9, 9), st.integers(-9, 9), halves)
def test_shift_matrices_are_rotations(j, k, half):
    one, other = positions.shift_matrix(j, 2 * half), positions.shift_matrix(k, 2 * half)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(one @ other, positions.shift_matrix(j + k, 2 * half), **close)
    torch.testing.assert_close(one @ one.T, torch.eye(2 * half), **close)
    torch.testing.assert_close(one.T, positions.shift_matrix(-j, 2 * half), **close)
    assert torch.det(one).item() == pytest.approx(1, abs=1e-4)


def test_shift_matrix_is_an_exponential():
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    steps = torch.block_diag(quarter, 0.1 * quarter, 0.01 * quarter)
    ours = positions.shift_matrix(4, 6, base=1000.0)
    torch.testing.assert_close(ours, torch.matrix_exp(4 * steps))


# --- positions that are added --------------------------------------------------------------------


@few
@given(sizes, sizes, sizes, st.integers(0, 3))
def test_positions_are_added_to_every_sentence(batch, n_tokens, d_model, spare):
    x, rows = normal(batch, n_tokens, d_model), normal(n_tokens + spare, d_model, seed=1)
    before = x.clone()
    added = positions.add_positions(x, rows)
    for sentence, changed in zip(x, added, strict=True):
        assert torch.equal(changed, sentence + rows[:n_tokens])
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sinusoidal_positions_keep_the_dtype(dtype):
    x = normal(2, 5, 6).to(dtype)
    added = positions.SinusoidalPositions()(x)
    assert added.dtype == dtype
    torch.testing.assert_close(added, x + positions.sinusoidal_positions(5, 6).to(dtype))


def test_learned_positions_learn_where_tokens_are():
    layer = positions.LearnedPositions(context=7, d_model=4)
    x = normal(3, 5, 4)
    torch.testing.assert_close(layer(x), x + layer.weight[:5])
    layer(x).sum().backward()
    assert torch.equal(layer.weight.grad, torch.tensor([3.0] * 5 + [0.0] * 2)[:, None].expand(7, 4))
    torch.testing.assert_close(layer(normal(1, 7, 4)), normal(1, 7, 4) + layer.weight)


def test_a_text_that_is_too_long_is_refused():
    layer = positions.LearnedPositions(context=4, d_model=6)
    with pytest.raises(ValueError, match="x has 5 tokens, but positions were learned for 4 only"):
        layer(normal(2, 5, 6))


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="d_model must be even, got 5"):
        positions.SinusoidalPositions()(normal(2, 3, 5))
    with pytest.raises(ValueError, match="d_model / n_heads must be even, got 6 / 2"):
        positions.RotaryAttention(6, 2)
    with pytest.raises(ValueError, match="d_model must be a multiple of n_heads, got 6 and 4"):
        positions.RotaryAttention(6, 4)
    assert positions.BiasedAttention(6, 2, reach=1)(normal(2, 3, 6)).shape == (2, 3, 6)
    assert positions.LearnedPositions(3, 5)(normal(2, 3, 5)).shape == (2, 3, 5)


def test_input_embedding_scales_the_tokens_only():
    tokens, ids = Embedding(7, 4), torch.tensor([[0, 3, 3], [6, 1, 0]])
    layer = positions.InputEmbedding(tokens, positions.SinusoidalPositions(), scale=2.0)
    wanted = 2 * F.embedding(ids, tokens.weight) + positions.sinusoidal_positions(3, 4)
    torch.testing.assert_close(layer(ids), wanted)
    plain = positions.InputEmbedding(tokens, nn.Identity())
    torch.testing.assert_close(plain(ids), F.embedding(ids, tokens.weight))


# --- relative bias -------------------------------------------------------------------------------


@few
@given(sizes, sizes, st.integers(0, 7))
def test_bias_is_that_of_the_clipped_distance(n_query, n_key, reach):
    table = normal(2 * reach + 1)
    bias = positions.relative_bias(n_query, n_key, table)
    assert bias.shape == (n_query, n_key)
    for i in range(n_query):
        for j in range(n_key):
            assert bias[i, j] == table[sorted((-reach, i - j, reach))[1] + reach]


def test_bias_teaches_every_distance_as_often_as_it_occurs():
    table = torch.zeros(5, requires_grad=True)
    positions.relative_bias(4, 4, table).sum().backward()
    assert table.grad.tolist() == [3, 3, 4, 3, 3]  # distances -3 and -2, -1, 0, 1, 2 and 3


# --- RoPE ----------------------------------------------------------------------------------------


def _as_complex_numbers(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def _rotate_half(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """The form in which Hugging Face's models write it."""
    half = x.shape[-1] // 2
    doubled = torch.cat((angles, angles), dim=-1)
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * doubled.cos() + rotated * doubled.sin()


@few
@given(st.lists(sizes, max_size=2), sizes, halves, bases)
def test_rope_is_a_product_of_complex_numbers(batch, n_tokens, half, base):
    x = normal(*batch, n_tokens, 2 * half)
    angles = positions.rope_angles(n_tokens, 2 * half, base)
    turned = positions.apply_rope(x, angles)
    torch.testing.assert_close(turned, _as_complex_numbers(x, angles), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(turned, _rotate_half(x, angles), rtol=1e-5, atol=1e-5)


def test_rope_angles_are_those_of_the_sinusoids():
    angles, sinusoids = positions.rope_angles(20, 12), positions.sinusoidal_positions(20, 12)
    torch.testing.assert_close(angles.sin(), sinusoids[:, 0::2])
    torch.testing.assert_close(angles.cos(), sinusoids[:, 1::2])


@few
@given(st.integers(0, 50), st.integers(-30, 30), halves)
def test_score_depends_on_distance_only(shift, distance, half):
    query, key = normal(2 * half, dtype=torch.float64), normal(2 * half, seed=1).double()
    angles = positions.rope_angles(120, 2 * half).double()

    def score(place: int) -> torch.Tensor:
        asks, asked = angles[[place]], angles[[place + distance]]
        return positions.apply_rope(query[None], asks) @ positions.apply_rope(key[None], asked).T

    torch.testing.assert_close(score(35), score(35 + shift), rtol=1e-4, atol=1e-4)


@few
@given(sizes, halves)
def test_rope_keeps_lengths_and_can_be_undone(n_tokens, half):
    x, angles = normal(3, n_tokens, 2 * half), 5 * normal(n_tokens, half, seed=1)
    turned = positions.apply_rope(x, angles)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(positions.apply_rope(turned, -angles), x, rtol=1e-4, atol=1e-5)
    first = positions.apply_rope(x, positions.rope_angles(n_tokens, 2 * half))[:, 0]
    assert torch.equal(first, x[:, 0])


def test_rope_of_neighbours_is_the_same_with_the_features_in_another_order():
    """The layout of the paper, in which features 2i and 2i + 1 are a pair."""
    x, angles = normal(2, 5, 8), positions.rope_angles(5, 8)
    pairs = torch.view_as_complex(x.unflatten(-1, (4, 2)).contiguous())
    neighbours = torch.view_as_real(pairs * torch.exp(1j * angles)).flatten(-2)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    ours = positions.apply_rope(x[..., order], angles)
    torch.testing.assert_close(ours, neighbours[..., order], rtol=1e-5, atol=1e-6)


def test_gradient_of_rope_is_right():
    x, angles = normal(2, 3, 4, dtype=torch.float64), normal(3, 2, seed=1, dtype=torch.float64)
    both = (x.requires_grad_(), angles.requires_grad_())
    assert torch.autograd.gradcheck(positions.apply_rope, both)


# --- attention that knows the order --------------------------------------------------------------


def _heads(layer: attention.MultiHeadAttention, x: torch.Tensor, memory: torch.Tensor):
    projected = (layer.w_q(x), layer.w_k(memory), layer.w_v(memory))
    return [one.unflatten(-1, (layer.n_heads, -1)).transpose(1, 2) for one in projected]


def _fused(layer, query, key, value, added) -> torch.Tensor:
    """The end of a layer of attention, with torch's kernel."""
    heads = F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    return layer.w_o(heads.transpose(1, 2).flatten(-2))


TEXTS = [(2, 5, 5, False), (2, 4, 7, True), (1, 6, 3, True), (3, 1, 4, False)]


@pytest.mark.parametrize(("batch", "n_query", "n_key", "masked"), TEXTS)
@pytest.mark.parametrize("given_bias", [False, True])
def test_biased_attention_is_torchs_with_the_bias(batch, n_query, n_key, masked, given_bias):
    torch.manual_seed(0)
    layer = positions.BiasedAttention(6, 3, reach=2).double()
    nn.init.normal_(layer.tables, std=2.0)
    x = normal(batch, n_query, 6, dtype=torch.float64)
    memory = x if n_query == n_key else normal(batch, n_key, 6, seed=1, dtype=torch.float64)
    mask = boolean(n_query, n_key) if masked else None
    bias = normal(n_query, n_key, seed=2, dtype=torch.float64) if given_bias else None
    distances = np.subtract.outer(np.arange(n_query), np.arange(n_key)).clip(-2, 2)
    added = layer.tables[:, torch.from_numpy(distances + 2)]
    added = added if bias is None else added + bias
    added = added if mask is None else added.masked_fill(~mask, -math.inf)
    wanted = _fused(
        layer.attention, *_heads(layer.attention, x, memory), added.expand(batch, -1, -1, -1)
    )
    torch.testing.assert_close(layer(x, memory, mask, bias), wanted)
    if memory is x:
        torch.testing.assert_close(layer(x, mask=mask, bias=bias), wanted)


def test_biased_attention_runs_on_the_attention_in_use(monkeypatch):
    """A learner's version is installed after this module was imported."""
    yours = type("Yours", (attention.MultiHeadAttention,), {})
    monkeypatch.setattr(attention, "MultiHeadAttention", yours)
    assert isinstance(positions.BiasedAttention(6, 2, reach=1).attention, yours)


def test_a_bias_of_zero_changes_nothing_and_is_learned():
    biased, plain = positions.BiasedAttention(6, 2, reach=4), attention.MultiHeadAttention(6, 2)
    biased.attention.load_state_dict(plain.state_dict())
    x = normal(2, 5, 6)
    torch.testing.assert_close(biased(x), plain(x))
    biased(x).square().sum().backward()
    assert (biased.tables.grad != 0).all()


@pytest.mark.parametrize(("batch", "n_query", "n_key", "masked"), TEXTS)
@pytest.mark.parametrize("given_bias", [False, True])
def test_rotary_attention_is_torchs_of_turned_vectors(batch, n_query, n_key, masked, given_bias):
    """Queries and keys are turned, values are not."""
    torch.manual_seed(0)
    layer = positions.RotaryAttention(12, 3).double()
    x = 3 * normal(batch, n_query, 12, dtype=torch.float64)
    memory = x if n_query == n_key else normal(batch, n_key, 12, seed=1, dtype=torch.float64)
    mask = boolean(n_query, n_key) if masked else None
    bias = normal(n_query, n_key, seed=2, dtype=torch.float64) if given_bias else None
    added = torch.zeros(n_query, n_key, dtype=torch.float64) if bias is None else bias
    added = added if mask is None else added.masked_fill(~mask, -math.inf)
    query, key, value = _heads(layer, x, memory)
    frequencies = torch.tensor([1.0, 0.01], dtype=torch.float64)
    query = _as_complex_numbers(query, torch.outer(torch.arange(n_query), frequencies))
    key = _as_complex_numbers(key, torch.outer(torch.arange(n_key), frequencies))
    wanted = _fused(layer, query, key, value, added)
    torch.testing.assert_close(layer(x, memory, mask, bias), wanted, rtol=1e-6, atol=1e-6)
    if memory is x:
        torch.testing.assert_close(layer(x, mask=mask, bias=bias), wanted, rtol=1e-6, atol=1e-6)


def test_rotary_attention_does_not_mind_where_a_text_begins():
    """Five tokens, and the same five behind four others that may not be looked at."""
    torch.manual_seed(0)
    layer = positions.RotaryAttention(8, 2)
    x, before = normal(1, 5, 8), normal(1, 4, 8, seed=1)
    mask = torch.arange(9) >= 4
    later = layer(torch.cat((before, x), dim=1), mask=mask)[:, 4:]
    torch.testing.assert_close(later, layer(x), rtol=1e-4, atol=1e-5)


def test_rotary_attention_keeps_its_angles_in_half_precision():
    torch.manual_seed(0)
    layer = positions.RotaryAttention(8, 1)
    x = normal(1, 600, 8)
    with attention.record() as maps:
        layer(x)
        half = layer.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    exact, rounded = maps.values()
    assert (rounded / exact - 1).abs().mean() < 0.02


def test_maps_of_every_attention_are_recorded():
    for layer in (positions.BiasedAttention(8, 2, reach=3), positions.RotaryAttention(8, 2)):
        with attention.record() as maps:
            layer(normal(2, 5, 8), normal(2, 6, 8))
        assert maps["attention"].shape == (2, 2, 5, 6)
