"""`course_utils.sampling`: filters, generation, beam search, and a cache that changes nothing."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, modern, positions, sampling
from course_utils.exercises.inputs import integers
from course_utils.exercises.sampling.KVCache import CacheByJoining
from course_utils.runs import kernels

VOCABULARY, CONTEXT = 7, 12


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These tensors are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randomise(model: nn.Module) -> nn.Module:
    """Large weights everywhere: next tokens that are neither sure nor evenly likely."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 2 * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return model.eval()


MODELS = {
    "gpt": lambda: decoder.gpt(VOCABULARY, 12, 3, 2, CONTEXT),
    "modern": lambda: modern.modern_gpt(VOCABULARY, 12, 3, 2),
    "n-grams": lambda: modern.modern_gpt(VOCABULARY, 12, 3, 2, n_buckets=29),
}


@pytest.fixture(params=MODELS)
def model(request) -> nn.Module:
    return randomise(MODELS[request.param]())


# --- How sure the model is -----------------------------------------------------------------------


def test_an_even_choice_has_the_entropy_log_v_and_a_sure_one_none():
    logits = torch.tensor([[2.0] * 5, [0.0, -math.inf, -math.inf, -math.inf, -math.inf]])
    torch.testing.assert_close(sampling.entropy(logits), torch.tensor([math.log(5), 0.0]))


def test_a_model_can_be_sure_and_wrong():
    logits, target = torch.tensor([[8.0, 0.0, 0.0, 0.0]]), torch.tensor([2])
    assert sampling.entropy(logits).item() == pytest.approx(0.009, abs=5e-4)
    assert sampling.perplexity(logits, target) == pytest.approx(2984, abs=1)


def test_perplexity_of_a_fair_choice_is_the_number_of_tokens():
    assert sampling.perplexity(torch.zeros(2, 3, 9), integers(2, 3, below=9)) == pytest.approx(9)


# --- Filters -------------------------------------------------------------------------------------


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def test_the_token_that_crosses_p_is_kept():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert kept(sampling.top_p(logits, 0.4)) == [[0]]
    assert kept(sampling.top_p(logits, 0.6)) == [[0, 1]]
    assert kept(sampling.top_p(logits, 1e-9)) == [[0]]


def test_p_of_one_keeps_even_what_rounding_would_lose():
    logits = torch.tensor([[40.0, 0.0, 1.0, 20.0]])
    assert kept(sampling.top_p(logits, 1.0)) == [[0, 1, 2, 3]]


def test_the_order_of_temperature_and_top_p_matters():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0, -2.0]])
    heated = sampling.top_p(sampling.apply_temperature(logits, 2.5), 0.9)
    cut = sampling.apply_temperature(sampling.top_p(logits, 0.9), 2.5)
    assert (len(kept(heated)[0]), len(kept(cut)[0])) == (5, 3)


def test_min_p_moves_with_the_best_token_and_epsilon_does_not():
    sure, unsure = torch.tensor([[0.9, 0.06, 0.04]]).log(), torch.tensor([[0.4, 0.3, 0.3]]).log()
    assert kept(sampling.min_p(sure, 0.1)) == [[0]]
    assert kept(sampling.min_p(unsure, 0.1)) == [[0, 1, 2]]
    assert kept(sampling.epsilon_cutoff(sure, 0.05)) == [[0, 1]]
    assert kept(sampling.epsilon_cutoff(unsure, 0.5)) == [[0]]


def test_repetition_depends_on_a_shift_of_all_logits_and_presence_does_not():
    logits, said = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0]])
    first = lambda scores: scores.softmax(-1)[0, 0].item()  # noqa: E731
    for penalties, same in (({"repetition": 1.3}, False), ({"presence": 0.5}, True)):
        here = first(sampling.penalise(logits, said, **penalties))
        there = first(sampling.penalise(logits + 10, said, **penalties))
        assert (here == pytest.approx(there, abs=1e-5)) is same


def test_a_negative_temperature_is_refused():
    with pytest.raises(ValueError, match=r"temperature must not be negative, got -0\.5"):
        sampling.apply_temperature(torch.zeros(1, 3), -0.5)


def test_a_sampler_draws_what_is_left_as_often_as_it_is_likely():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(20_000, 1)
    generator = torch.Generator().manual_seed(0)
    draw = sampling.sampler(lambda scores: sampling.top_k(scores, 2), generator=generator)
    drawn = draw(logits, torch.zeros(20_000, 1, dtype=torch.long))
    shares = drawn.bincount(minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.375, 0, 0]), atol=0.015, rtol=0)


def test_a_sampler_penalises_before_it_filters():
    penalty = lambda scores, text: sampling.penalise(scores, text, presence=9.0)  # noqa: E731
    draw = sampling.sampler(lambda scores: sampling.top_k(scores, 1), penalty=penalty)
    assert draw(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 2]])).tolist() == [1]


# --- Text ----------------------------------------------------------------------------------------


def test_every_token_is_chosen_from_the_logits_at_the_last_place(model):
    ids = integers(3, 2, below=VOCABULARY)
    text = sampling.generate(model, ids, 6, sampling.greedy)
    assert torch.equal(text[:, :2], ids)
    for place in range(2, 8):
        assert torch.equal(text[:, place], model(text[:, :place])[:, -1].argmax(-1))


def test_a_text_may_grow_beyond_the_context():
    model = randomise(MODELS["gpt"]())
    text = sampling.generate(model, integers(2, 5, below=VOCABULARY), 20, sampling.greedy, CONTEXT)
    assert text.shape == (2, 25)
    for place in range(5, 25):
        seen = text[:, max(0, place - CONTEXT) : place]
        assert torch.equal(text[:, place], model(seen)[:, -1].argmax(-1))


def test_a_stream_says_what_generate_adds(model):
    ids = integers(2, 3, below=VOCABULARY)
    text = sampling.generate(model, ids, 5, sampling.greedy)
    streamed = list(sampling.stream(model, ids, 5, sampling.greedy))
    assert torch.equal(torch.stack(streamed, dim=1), text[:, 3:])


# --- beam_search ---------------------------------------------------------------------------------


def every_text(model, ids: Tensor, n_new: int, alpha: float, end: int | None):
    """All continuations with their scores, best first: a brute force."""
    found = {}
    for new in itertools.product(range(VOCABULARY), repeat=n_new):
        if end in new:
            new = new[: new.index(end) + 1]
        text = torch.cat((ids, torch.tensor(new)))
        log_p = model(text[None])[0].log_softmax(-1)[len(ids) - 1 : -1]
        total = sum(log_p[place, token].item() for place, token in enumerate(new))
        found[tuple(text.tolist())] = total / len(new) ** alpha
    return sorted(found.items(), key=lambda one: -one[1])


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("end", [None, 2])
def test_a_beam_that_is_wide_enough_finds_the_best_of_all(model, end, alpha):
    """A width of V^(n-1) loses nothing before the last step."""
    ids, n_new = integers(3, below=VOCABULARY), 3
    wanted = every_text(model, ids, n_new, alpha, end)
    found = sampling.beam_search(model, ids, n_new, VOCABULARY ** (n_new - 1), alpha, end)
    for (text, score), (row, found_score) in zip(wanted[:10], found, strict=False):
        assert row.tolist() == list(text)
        assert found_score == pytest.approx(score, abs=1e-5)


def tree(ids: Tensor) -> Tensor:
    """A has .6 and B .4; behind A x has .35 and y .65, halved; behind B x has .9."""
    table = torch.tensor([[0.6, 0.4, 0.0], [0.35, 0.33, 0.32], [0.9, 0.05, 0.05]])
    state = torch.zeros_like(ids[:, -1]) if ids.shape[1] == 1 else ids[:, -1] + 1
    return table[state][:, None].log().expand(-1, ids.shape[1], -1)


def test_two_beams_find_what_greedy_search_misses():
    start = torch.tensor([0])
    (greedy, score), *none = sampling.beam_search(tree, start, 2, width=1, alpha=0.0)
    assert (greedy.tolist(), math.exp(score), none) == ([0, 0, 0], pytest.approx(0.21), [])
    (best, score), _ = sampling.beam_search(tree, start, 2, width=2, alpha=0.0)
    assert (best.tolist(), math.exp(score)) == ([0, 1, 0], pytest.approx(0.36))


def test_one_beam_is_greedy_search(model):
    ids = integers(4, below=VOCABULARY)
    ((text, _),) = sampling.beam_search(model, ids, 8, width=1)
    assert torch.equal(text, sampling.generate(model, ids[None], 8, sampling.greedy)[0])


# --- The cache -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("ends", [range(1, 11), (1, 2, 6, 10), (4, 5, 10), (10,)], ids=str)
def test_cached_logits_are_those_of_the_whole_text(model, rows, ends):
    ids, cached = integers(rows, 10, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    start = 0
    for end in ends:
        wanted = model(ids[:, :end])[:, start:]
        torch.testing.assert_close(cached(ids[:, :end]), wanted, rtol=1e-5, atol=1e-5)
        start = end


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("tokens", [1, 5])
def test_a_cached_model_writes_the_same_text(model, rows, tokens):
    ids, cached = integers(rows, tokens, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    for context, n_new in ((None, CONTEXT - tokens), (CONTEXT, 20), (CONTEXT, 9)):
        wanted = sampling.generate(model, ids, n_new, sampling.greedy, context)
        found = sampling.generate(cached, ids, n_new, sampling.greedy, context)
        assert torch.equal(found, wanted)
    other = integers(rows + 1, 4, below=VOCABULARY, seed=1)
    wanted = sampling.generate(model, other, 8, sampling.greedy)
    assert torch.equal(sampling.generate(cached, other, 8, sampling.greedy), wanted)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_cached_model_finds_the_same_beams(model, width):
    cached = sampling.CachedModel(model, CONTEXT)
    for seed in range(3):
        ids = integers(3, below=VOCABULARY, seed=seed)
        wanted = sampling.beam_search(model, ids, 8, width, 0.6, end=seed)
        found = sampling.beam_search(cached, ids, 8, width, 0.6, end=seed)
        assert [row.tolist() for row, _ in found] == [row.tolist() for row, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted])


@torch.no_grad()
def test_rows_may_be_dropped_doubled_and_changed_about(model):
    ids, cached = integers(3, 4, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids)
    for rows in ([2, 0, 0, 1], [3, 3], [1, 0, 1]):
        ids = torch.cat((ids[rows], integers(len(rows), 1, below=VOCABULARY)), dim=1)
        answer = cached(ids)
        assert answer.shape[1] == 1
        torch.testing.assert_close(answer, model(ids)[:, -1:], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_text_that_does_not_go_on_is_read_anew(model):
    ids, cached = integers(2, 6, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids)
    shorter, changed = ids[:, :4], torch.cat(((ids[:, :1] + 1) % VOCABULARY, ids), dim=1)
    for other in (shorter, changed, changed, integers(3, 8, below=VOCABULARY)):
        torch.testing.assert_close(cached(other), model(other), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_text_that_is_changed_in_place_is_noticed(model):
    ids, cached = integers(1, 6, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids)
    ids[0, 0] = (ids[0, 0] + 1) % VOCABULARY
    longer = torch.cat((ids, ids[:, :1]), dim=1)
    torch.testing.assert_close(cached(longer), model(longer), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cache", [sampling.KVCache, CacheByJoining])
@pytest.mark.parametrize("kept", [0, 1, 4, 6])
def test_a_cached_model_can_go_back(model, rows, cache, kept, monkeypatch):
    monkeypatch.setattr(sampling, "KVCache", cache)
    ids, cached = integers(rows, 6, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids)
    cached.rewind(kept)
    new = integers(rows, 3, below=VOCABULARY, seed=1)
    other = torch.cat((ids[:, :kept], new), dim=1)
    answer = cached(other)
    assert answer.shape[1] == 3
    torch.testing.assert_close(answer, model(other)[:, kept:], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_back_at_the_beginning_there_may_be_more_texts(model):
    ids, cached = integers(3, 4, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids[:1])
    cached.rewind(0)
    torch.testing.assert_close(cached(ids), model(ids), rtol=1e-5, atol=1e-5)


def test_it_cannot_go_back_to_where_it_has_not_been(model):
    cached = sampling.CachedModel(model, CONTEXT)
    cached.rewind(0)
    cached(integers(1, 4, below=VOCABULARY))
    for n_tokens in (5, -1):
        with pytest.raises(ValueError, match=f"from 0 to 4, which were read, got {n_tokens}"):
            cached.rewind(n_tokens)


@torch.no_grad()
def test_an_interrupted_reading_is_begun_again(model, monkeypatch):
    ids, cached = integers(1, 6, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids[:, :5])

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cached.model.blocks[1].attention.cache, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cached(ids)
    torch.testing.assert_close(cached(ids), model(ids), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_cached_model_has_the_weights_of_the_model(model):
    ids, cached = integers(1, 6, below=VOCABULARY), sampling.CachedModel(model, CONTEXT)
    cached(ids)
    for parameter in model.parameters():
        parameter += 0.1
    torch.testing.assert_close(cached(ids), model(ids), rtol=1e-5, atol=1e-5)
    assert type(model.blocks[0].attention) is not sampling.CachedAttention


def test_no_more_is_read_than_the_context_has_room_for(model):
    cached = sampling.CachedModel(model, 8)
    with pytest.raises(ValueError, match="key brings the tokens to 9, but context is 8"):
        sampling.generate(cached, integers(1, 4, below=VOCABULARY), 6, sampling.greedy)


def test_an_attention_that_cannot_be_cached_is_refused():
    block = encoder.block(12, 3)
    block.attention = positions.BiasedAttention(12, 3, 4)
    model = MODELS["gpt"]()
    model.blocks[1] = block
    with pytest.raises(TypeError, match="can go on from a cache, got BiasedAttention"):
        sampling.CachedModel(model, CONTEXT)


@pytest.mark.parametrize("name", MODELS)
def test_fused_kernels_write_the_same_text(name):
    model, ids = randomise(MODELS[name]()), integers(2, 3, below=VOCABULARY)
    wanted = sampling.generate(model, ids, 9, sampling.greedy)
    with kernels.fused(), torch.inference_mode():
        cached = sampling.CachedModel(model, CONTEXT)
        assert torch.equal(sampling.generate(cached, ids, 9, sampling.greedy), wanted)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (sampling, "KVCache"),
        (sampling, "read_on"),
        (attention, "softmax"),
        (attention, "split_heads"),
        (attention, "project_qkv"),
        (encoder, "residual_step"),
    ],
)
def test_a_learners_part_is_what_runs(module, name, monkeypatch):
    part, called = getattr(module, name), []

    def watched(*args: object, **kwargs: object) -> object:
        called.append(name)
        return part(*args, **kwargs)

    monkeypatch.setattr(module, name, watched)
    cached = sampling.CachedModel(randomise(MODELS["gpt"]()), CONTEXT)
    sampling.generate(cached, integers(1, 3, below=VOCABULARY), 2, sampling.greedy)
    assert called
