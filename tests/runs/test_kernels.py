"""Fused kernels beside those who look inside."""

import pytest
import torch

from course_utils import attention, decoder
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
