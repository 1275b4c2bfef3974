"""`course_utils.runs.quick`: the logits of the plain way, in fewer calls."""

import pytest
import torch
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, modern, sampling
from course_utils.exercises.inputs import integers
from course_utils.exercises.sampling.KVCache import CacheByJoining
from course_utils.runs import kernels, quick

VOCABULARY, CONTEXT = 7, 12


def with_experts() -> decoder.GPT:
    model = modern.modern_gpt(VOCABULARY, 12, 3, 2)
    for block in model.blocks:
        block.feed_forward = modern.MixtureOfExperts(12, 24, n_experts=4, k=2)
    return model


MODELS = {
    "gpt": lambda: decoder.gpt(VOCABULARY, 12, 3, 2, CONTEXT),
    "modern": lambda: modern.modern_gpt(VOCABULARY, 12, 3, 2),
    "n-grams": lambda: modern.modern_gpt(VOCABULARY, 12, 3, 2, n_buckets=29),
    "experts": with_experts,
}


def randomise(model: nn.Module) -> nn.Module:
    """Large weights everywhere, biases and gains included."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 2 * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return model.eval()


@pytest.fixture(params=MODELS)
def model(request) -> nn.Module:
    return randomise(MODELS[request.param]())


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("ends", [range(1, 11), (1, 2, 6, 10), (4, 5, 10), (10,)], ids=str)
def test_logits_are_those_of_the_whole_text(model, rows, ends):
    ids, cached = integers(rows, 10, below=VOCABULARY), quick.cached(model, CONTEXT)
    assert type(cached) is quick.QuickModel
    start = 0
    for end in ends:
        close(cached(ids[:, :end]), model(ids[:, :end])[:, start:])
        start = end


@torch.no_grad()
@pytest.mark.parametrize("cache", [sampling.KVCache, CacheByJoining])
def test_it_goes_back_in_the_cache_in_use(model, cache, monkeypatch):
    monkeypatch.setattr(sampling, "KVCache", cache)
    ids, cached = integers(1, 9, below=VOCABULARY), quick.cached(model, CONTEXT)
    cached(ids[:, :8])
    cached.rewind(3)
    close(cached(ids), model(ids)[:, 3:])


def test_it_writes_the_same_text_and_finds_the_same_beams(model):
    ids = integers(1, 3, below=VOCABULARY)
    wanted = sampling.generate(model, ids, 9, sampling.greedy)
    beams = sampling.beam_search(model, ids[0], 6, width=3)
    with kernels.fused(), torch.inference_mode():
        cached = quick.cached(model, CONTEXT)
        assert torch.equal(sampling.generate(cached, ids, 9, sampling.greedy), wanted)
        found = sampling.beam_search(cached, ids[0], 6, width=3)
    assert [row.tolist() for row, _ in found] == [row.tolist() for row, _ in beams]


def test_one_token_of_one_text_takes_the_quick_way(model, monkeypatch):
    cached = quick.cached(model, CONTEXT)

    def never(*args: object) -> None:
        raise AssertionError("read_on was called")

    monkeypatch.setattr(sampling, "read_on", never)
    sampling.generate(cached, integers(1, 3, below=VOCABULARY), 4, sampling.greedy)


def with_shared_heads() -> decoder.GPT:
    model = MODELS["modern"]()
    model.blocks[1].attention = modern.GroupedAttention(12, 6, 3)
    return model


def with_norms_behind() -> decoder.GPT:
    model = MODELS["gpt"]()
    model.blocks[1] = encoder.block(12, 3, norm_first=False)
    return model


@torch.no_grad()
@pytest.mark.parametrize("make", [with_shared_heads, with_norms_behind])
def test_blocks_that_it_does_not_know_are_read_the_plain_way(make):
    model, ids = randomise(make()), integers(1, 5, below=VOCABULARY)
    cached = quick.cached(model, CONTEXT)
    assert type(cached) is sampling.CachedModel
    close(cached(ids), model(ids))


@torch.no_grad()
@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (encoder, "gelu", lambda x: nn.functional.gelu(x, approximate="tanh")),
        (encoder, "residual_step", lambda x, sublayer, norm, first: x + 2 * sublayer(norm(x))),
        (attention, "score_scale", lambda d_head: 1 / d_head),
    ],
)
def test_where_the_parts_in_use_say_otherwise_they_are_what_runs(module, name, other, monkeypatch):
    monkeypatch.setattr(module, name, other)
    model, ids = randomise(MODELS["gpt"]()), integers(1, 5, below=VOCABULARY)
    cached = quick.cached(model, CONTEXT)
    assert type(cached) is sampling.CachedModel
    close(cached(ids), model(ids))


@torch.no_grad()
@pytest.mark.parametrize("context", [1, 2])
def test_a_short_context_is_enough(context):
    model = randomise(decoder.gpt(VOCABULARY, 12, 3, 2, context))
    ids = integers(1, context, below=VOCABULARY)
    close(quick.cached(model, context)(ids), model(ids))
