"""Fused kernels beside those who look inside."""

import pytest
import torch
from torch.nn import functional as F

from course_utils import attention, decoder, modern, sampling
from course_utils.runs import kernels


@pytest.fixture
def model() -> decoder.GPT:
    torch.manual_seed(0)
    return decoder.gpt(11, d_model=12, n_heads=3, n_layers=2, context=8).eval()


def test_a_record_around_kernels_has_what_the_model_did_and_nothing_else(model):
    ids = torch.arange(6).view(2, 3)
    with attention.record() as wanted:
        model(ids)
    before = attention.scaled_dot_product_attention
    with attention.record() as maps, kernels.fused():
        model(ids)
    assert attention.scaled_dot_product_attention is before
    assert list(maps) == list(wanted) == ["blocks.0.attention", "blocks.1.attention"]
    for name, weights in maps.items():
        torch.testing.assert_close(weights, wanted[name])
    with kernels.fused(), attention.record() as inside:
        model(ids)
    assert list(inside) == list(wanted)
    with attention.record() as outer, attention.record() as inner, kernels.fused():
        model(ids)
    assert list(outer) == list(inner) == list(wanted)


def test_a_part_is_compared_while_it_is_recorded(model, monkeypatch):
    monkeypatch.setattr(attention, "score_scale", lambda d_head: 1.0)
    with (
        attention.record() as maps,
        pytest.raises(ValueError, match="scaled_dot_product_attention differs from torch's kernel"),
        kernels.fused(),
    ):
        pass
    assert maps == {}


@pytest.fixture
def asked(monkeypatch) -> list[tuple[bool, bool]]:
    """What torch's kernel of attention is asked: has it a mask, and is it told "causal"?"""
    calls: list[tuple[bool, bool]] = []
    attend = F.scaled_dot_product_attention

    def spy(query, key, value, mask=None, is_causal=False):
        calls.append((mask is not None, is_causal))
        return attend(query, key, value, mask, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return calls


def test_a_causal_model_needs_no_mask_inside_and_has_the_same_gradients(model, asked):
    ids = torch.arange(14).view(2, 7) % 11
    wanted = torch.autograd.grad(model(ids).square().sum(), list(model.parameters()))
    with kernels.fused():
        asked.clear()
        got = torch.autograd.grad(model(ids).square().sum(), list(model.parameters()))
    assert asked == [(False, True)] * 2
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_tokens_behind_a_cache_keep_their_mask(model, asked):
    ids = torch.arange(6)[None]
    cached = sampling.CachedModel(model, context=8)
    with kernels.fused():
        asked.clear()
        cached(ids[:, :3])
        behind = cached(ids)
    assert asked == [(False, True)] * 2 + [(True, False)] * 2
    torch.testing.assert_close(behind, model(ids)[:, 3:].detach())


def test_a_window_is_no_causal_mask(asked):
    torch.manual_seed(1)
    layer = modern.Windowed(modern.GroupedAttention(12, 3, 1), 2)
    x = torch.randn(1, 6, 12)
    wanted = layer(x, mask=decoder.causal_mask(6))
    with kernels.fused():
        asked.clear()
        got = layer(x, mask=decoder.causal_mask(6))
    assert asked == [(True, False)]
    torch.testing.assert_close(got, wanted)


def test_a_mask_that_differs_is_found(monkeypatch):
    full = lambda n_query, n_key: torch.ones(n_query, n_key, dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr(decoder, "causal_mask", full)
    with pytest.raises(ValueError, match="causal_mask differs"), kernels.fused():
        pass
