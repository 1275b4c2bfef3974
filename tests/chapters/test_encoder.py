"""`course_utils.encoder` against torch's own layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_utils import attention, encoder
from course_utils.exercises.inputs import normal
from course_utils.exercises.layers import torch_weights
from course_utils.projection import Embedding

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 5)

D_MODEL, N_HEADS = 12, 3


def randomise(module: nn.Module) -> None:
    """Other weights, biases and gains everywhere: what starts at 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            scale = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))


# --- the small functions -------------------------------------------------------------------------


@few
@given(st.lists(sizes, min_size=1, max_size=4), st.sampled_from([1e-5, 1e-2, 2.0]))
def test_layer_norm_is_torchs(shape, eps):
    x = 3 * normal(*shape) + 2
    gain, bias = normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    wanted = F.layer_norm(x, shape[-1:], gain, bias, eps)
    torch.testing.assert_close(encoder.layer_norm(x, gain, bias, eps), wanted, rtol=1e-4, atol=1e-4)


def test_layer_norm_gradient_is_right():
    given = [normal(*shape, dtype=torch.float64) for shape in ((2, 3, 4), (4,), (4,))]
    given = [tensor.requires_grad_() for tensor in given]
    assert torch.autograd.gradcheck(encoder.layer_norm, given)


def test_one_token_does_not_change_the_norm_of_another():
    x, layer = normal(2, 3, 4), encoder.LayerNorm(4)
    other = torch.cat([x[:, :1], 5 * x[:, 1:]], 1)
    assert torch.equal(layer(x)[:, 0], layer(other)[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gelu_is_torchs(dtype):
    x = torch.linspace(-8, 8, 101, dtype=dtype)
    torch.testing.assert_close(encoder.gelu(x), F.gelu(x))


def test_feed_forward_is_a_sequence_of_torchs_layers():
    ours = encoder.FeedForward(4, 7)
    randomise(ours)
    theirs = nn.Sequential(nn.Linear(4, 7), nn.GELU(), nn.Linear(7, 4))
    theirs.load_state_dict(
        {
            name.replace("up", "0").replace("down", "2"): weight
            for name, weight in ours.state_dict().items()
        }
    )
    x = normal(2, 3, 4)
    torch.testing.assert_close(ours(x), theirs(x))


def test_both_orders_of_the_residual_step():
    x = torch.tensor([[[1.0, 2.0]]])
    pre = encoder.residual_step(x, lambda t: 10 * t, lambda t: t + 1)
    post = encoder.residual_step(x, lambda t: 10 * t, lambda t: t + 1, norm_first=False)
    assert pre.tolist() == [[[21.0, 32.0]]]
    assert post.tolist() == [[[12.0, 23.0]]]


def test_padding_mask_says_which_keys_are_real():
    mask = encoder.padding_mask(torch.tensor([[5, 3, 0], [0, 4, 0]]), pad_id=0)
    assert mask.tolist() == [[[[True, True, False]]], [[[False, True, False]]]]


def test_mean_pool_is_the_mean_of_what_is_kept():
    x = normal(3, 4, 5)
    keep = torch.arange(4) < torch.tensor([[4], [2], [1]])
    wanted = torch.stack([row[:length].mean(0) for row, length in zip(x, (4, 2, 1), strict=True)])
    torch.testing.assert_close(encoder.mean_pool(x, keep), wanted)


# --- the block against nn.TransformerEncoderLayer ------------------------------------------------


ATTENTION = {"attention": "self_attn"}


def _both_blocks(norm_first: bool, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    ours = encoder.block(D_MODEL, N_HEADS, norm_first).to(dtype)
    randomise(ours)
    theirs = nn.TransformerEncoderLayer(
        D_MODEL,
        N_HEADS,
        4 * D_MODEL,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        dtype=dtype,
    )
    theirs.load_state_dict(torch_weights(ours.state_dict(), ATTENTION))
    return ours, theirs


CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()
PADDING = (torch.arange(5) < torch.tensor([[3], [5]]))[:, None, None]


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("mask", [None, CAUSAL, PADDING], ids=["plain", "causal", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_block_is_torchs(norm_first, mask, dtype):
    ours, theirs = _both_blocks(norm_first, dtype)
    x = normal(2, 5, D_MODEL, dtype=dtype).requires_grad_()
    wanted = theirs(
        x,
        src_mask=~mask if mask is CAUSAL else None,
        src_key_padding_mask=~mask[:, 0, 0] if mask is PADDING else None,
    )
    output = ours(x, mask)
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-5)

    names, weights = zip(*ours.named_parameters(), strict=True)
    their_names, their_weights = zip(*theirs.named_parameters(), strict=True)
    gradient, *gradients = torch.autograd.grad(output.sin().sum(), [x, *weights])
    wanted_gradient, *wanted = torch.autograd.grad(wanted.sin().sum(), [x, *their_weights])
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=1e-5)
    renamed = torch_weights(dict(zip(names, gradients, strict=True)), ATTENTION)
    for name, one in zip(their_names, wanted, strict=True):
        torch.testing.assert_close(renamed[name], one, rtol=1e-5, atol=1e-5)


def test_a_block_takes_other_parts():
    block = encoder.TransformerBlock(
        attention.MultiHeadAttention(4, 2), nn.Linear(4, 4), nn.RMSNorm(4), nn.Identity()
    )
    x = normal(2, 3, 4)
    middle = x + block.attention(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.feed_forward(middle))


# --- Encoder and Classifier ----------------------------------------------------------------------


def _encoder(norm_first: bool = True) -> encoder.Encoder:
    model = encoder.Encoder(
        Embedding(9, D_MODEL),
        [encoder.block(D_MODEL, N_HEADS, norm_first) for _ in range(3)],
        encoder.LayerNorm(D_MODEL) if norm_first else nn.Identity(),
    )
    randomise(model)
    return model


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_is_torchs(norm_first):
    ours = _encoder(norm_first)
    layer = nn.TransformerEncoderLayer(
        D_MODEL, N_HEADS, 4 * D_MODEL, 0.0, "gelu", batch_first=True, norm_first=norm_first
    )
    norm = nn.LayerNorm(D_MODEL) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False)
    for mine, other in zip(ours.blocks, theirs.layers, strict=True):
        other.load_state_dict(torch_weights(mine.state_dict(), ATTENTION))
    if norm:
        norm.load_state_dict(ours.norm.state_dict())
    ids = torch.tensor([[1, 4, 2, 0, 0], [3, 8, 5, 7, 2]])
    output = ours(ids, encoder.padding_mask(ids, 0))
    wanted = theirs(ours.embed(ids), src_key_padding_mask=ids == 0)
    torch.testing.assert_close(output[ids != 0], wanted[ids != 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_padding_does_not_change_real_tokens(norm_first):
    model, ids = _encoder(norm_first), torch.tensor([[1, 4, 2], [3, 8, 5]])
    alone = model(ids)
    padded = F.pad(ids, (0, 4))
    seen = model(padded, encoder.padding_mask(padded, 0))
    torch.testing.assert_close(seen[:, :3], alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(padded)[:, :3], alone, atol=1e-4)


def test_an_encoder_reads_both_ways():
    model, ids = _encoder(), torch.tensor([[1, 4, 2, 6]])
    other = torch.tensor([[1, 4, 2, 7]])
    assert not torch.allclose(model(ids)[:, 0], model(other)[:, 0])


def test_classifier_gives_scores_that_do_not_depend_on_padding():
    model = encoder.Classifier(_encoder(), D_MODEL, n_classes=4, pad_id=0)
    ids = torch.tensor([[1, 4, 2], [3, 8, 5]])
    scores = model(ids)
    assert scores.shape == (2, 4)
    assert not torch.allclose(scores.exp().sum(-1), torch.ones(2))
    torch.testing.assert_close(model(F.pad(ids, (0, 3))), scores, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_weight_of_a_classifier():
    model = encoder.Classifier(_encoder(), D_MODEL, n_classes=4, pad_id=0)
    F.cross_entropy(model(torch.tensor([[1, 4, 0], [3, 8, 5]])), torch.tensor([1, 3])).backward()
    assert all(bool(weight.grad.any()) for weight in model.parameters())
