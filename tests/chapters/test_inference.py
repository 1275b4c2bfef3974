"""`course_utils.inference` against torch, closed forms, and the distribution it promises."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import (
    decoder,
    encoder,
    families,
    inference,
    interpretability,
    modern,
    sampling,
)
from course_utils.exercises.inputs import integers, normal
from course_utils.families import renaming
from course_utils.families.comparing import filled
from course_utils.runs import baselines

# --- costs ---------------------------------------------------------------------------------------


def test_the_cache_has_as_many_bytes_as_are_counted():
    """Those of a real cache, with heads that share."""
    model = decoder.GPT(
        nn.Embedding(7, 24),
        [modern.block(24, 3), modern.block(24, 3)],
        nn.Identity(),
        nn.Linear(24, 7),
    )
    for block in model.blocks:
        block.attention = modern.GroupedAttention(24, 6, 2, d_head=10)
    cached = sampling.CachedModel(model, 11)
    cached(integers(5, 11, below=7))
    held = [getattr(block.attention.cache, name) for block in cached.model.blocks for name in KV]
    expected = sum(one.numel() * one.element_size() for one in held)
    assert inference.kv_cache_bytes(2, 2, 10, 11, 5) == expected
    assert inference.kv_cache_bytes(2, 2, 10, 11, 5, bytes_each=2) == expected // 2


KV = ("key", "value")


def test_a_step_takes_what_takes_longer():
    assert inference.step_seconds(6e9, 1e9, peak=2e9, bandwidth=1e9) == 3
    assert inference.step_seconds(6e9, 8e9, peak=2e9, bandwidth=1e9) == 8


# --- attention in blocks -------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 4, 9, 50])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_attention_in_blocks_is_torchs(block, scale):
    query, key, value = scale * normal(2, 3, 5, 8), normal(2, 3, 9, 8, seed=1), normal(2, 3, 9, 7)
    ours = inference.online_softmax_attention(query, key, value, block)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(query, key, value))


# --- fewer bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_number_is_further_off_than_half_a_step(bits):
    weight = normal(6, 50) * torch.tensor([[0.01], [1.0], [3.0], [90.0], [0.5], [0.0]])
    numbers, scale = inference.quantise(weight, bits)
    assert numbers.dtype == torch.int8
    assert numbers.abs().amax(1).tolist() == [2 ** (bits - 1) - 1] * 5 + [0]
    assert ((numbers * scale - weight).abs() <= scale / 2 * 1.0001).all()
    assert (numbers * scale).isfinite().all()


def test_a_quantised_model_is_a_copy_with_rounded_maps():
    model = modern.modern_gpt(13, 16, 2, 2)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ids = integers(2, 6, below=13)
    errors = [
        (inference.quantised(model, bits, kind)(ids) - model(ids)).abs().mean().item()
        for kind, bits in (
            (inference.QuantisedLinear, 8),
            (inference.IntegerLinear, 8),
            (inference.QuantisedLinear, 4),
        )
    ]
    assert 0 < errors[0] < errors[1] < errors[2] / 3
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    small = inference.quantised(model, 8)
    assert not any(isinstance(module, nn.Linear) for module in small.modules())


@pytest.mark.parametrize("kind", [inference.QuantisedLinear, inference.IntegerLinear])
def test_nets_that_read_the_weights_of_their_maps_can_be_quantised(kind):
    x = normal(2, 3, 16)
    for net in (modern.SwiGLU(16, 24), encoder.FeedForward(16, 64)):
        small = inference.quantised(net, 8, kind)
        torch.testing.assert_close(small(x), net(x), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("d_in", [2, 7, 16, 130])
@pytest.mark.parametrize("bias", [True, False])
def test_whole_numbers_are_multiplied_exactly(d_in, bias):
    """With input that needs no rounding there is nothing but the weights' own error."""
    layer = nn.Linear(d_in, 5, bias)
    x = torch.randint(-127, 128, (2, 3, d_in)).float()
    x[..., 0] = 127
    whole, weights = inference.IntegerLinear(layer, 8), inference.QuantisedLinear(layer, 8)
    torch.testing.assert_close(whole(x), weights(x), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(weights(x), layer(x), rtol=1e-2, atol=0.3 * d_in)


def test_a_map_of_one_number_is_no_matter_of_bytes():
    with pytest.raises(ValueError, match="at least 2 inputs, got 1"):
        inference.IntegerLinear(nn.Linear(1, 3), 8)


# --- guess ahead, then check ---------------------------------------------------------------------


class Table:
    """A model of a table: the logits of the next token depend on the last one alone."""

    def __init__(self, logits: Tensor):
        self.logits = logits
        self.n_read, self.n_calls = 0, 0

    def __call__(self, ids: Tensor) -> Tensor:
        new = ids[:, self.n_read :]
        self.n_read, self.n_calls = ids.shape[1], self.n_calls + 1
        return self.logits[new]

    def rewind(self, n_tokens: int) -> None:
        assert n_tokens <= self.n_read
        self.n_read = n_tokens


TARGET, DRAFT = 1.5 * normal(4, 4, seed=3), 1.5 * normal(4, 4, seed=4)


def chi_square(n_draws: int, n_tokens: int = 3, ahead: int = 2, seed: int = 0) -> float:
    """How far the frequencies of all texts lie from what the target says of each."""
    generator, prompt = torch.Generator().manual_seed(seed), torch.tensor([[0]])
    counts = torch.zeros(4**n_tokens)
    powers = 4 ** torch.arange(n_tokens)
    for _ in range(n_draws):
        target, draft = Table(TARGET), Table(DRAFT)
        text = inference.speculate(target, draft, prompt, n_tokens, ahead, generator=generator)
        counts[(text[0, 1:] * powers).sum()] += 1
    p, expected = TARGET.softmax(-1), torch.zeros(4**n_tokens)
    for text in torch.cartesian_prod(*[torch.arange(4)] * n_tokens):
        path = [0, *text.tolist()]
        chance = math.prod(p[a, b].item() for a, b in pairwise(path))
        expected[(text * powers).sum()] = n_draws * chance
    return ((counts - expected) ** 2 / expected).sum().item()


def test_the_text_has_the_targets_distribution():
    """63 degrees of freedom: above 110 with chance 2 in 10,000."""
    assert chi_square(6_000) < 110


def test_drawing_again_from_the_target_would_be_seen(monkeypatch):
    monkeypatch.setattr(inference, "leftover", lambda target, draft: target)
    assert chi_square(1_500) > 200


def test_a_step_has_the_targets_probabilities_exactly():
    """The chance of every token, summed over what may be guessed, accepted or refused."""
    p, q = TARGET[1].double().softmax(-1), DRAFT[1].double().softmax(-1)
    kept = q * (p / q).clamp_max(1)
    torch.testing.assert_close(kept + (1 - kept.sum()) * inference.leftover(p, q), p)
    for token in range(4):
        uniforms = (torch.arange(5000) / 5000).tolist()
        stays = [inference.accept(p, q, token, uniform) for uniform in uniforms]
        assert sum(stays) / 5000 == pytest.approx(min(1, (p[token] / q[token]).item()), abs=1e-3)


@pytest.mark.parametrize("ahead", [0, 1, 3, 30])
@pytest.mark.parametrize("kind", ["table", "model", "itself"])
def test_without_chance_the_text_is_the_greedy_one(ahead, kind):
    torch.manual_seed(0)
    model = decoder.gpt(11, 16, 2, 2, 24)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    small = decoder.gpt(11, 8, 1, 1, 24)
    counted = baselines.NGram(integers(200, below=11), 3, 11).probabilities
    draft = {
        "table": inference.TableDraft(counted, 2),
        "model": sampling.CachedModel(small, 24),
        "itself": sampling.CachedModel(model, 24),
    }[kind]
    ids = integers(1, 4, below=11)
    target = sampling.CachedModel(model, 24)
    pieces = list(inference.rounds(target, draft, ids, 20, ahead, [COLD]))
    text = torch.cat((ids, *pieces), dim=1)
    assert torch.equal(text, sampling.generate(model, ids, 20, sampling.greedy))
    if kind == "itself":
        assert len(pieces) == -(-20 // (ahead + 1))


def COLD(logits: Tensor) -> Tensor:  # noqa: N802
    return sampling.apply_temperature(logits, 0)


def test_filters_hold_for_the_target_and_the_draft():
    target, draft = Table(TARGET), Table(DRAFT)
    best_two = [lambda logits: sampling.top_k(logits, 2)]
    generator = torch.Generator().manual_seed(0)
    text = inference.speculate(
        target, draft, torch.tensor([[0]]), 400, 3, best_two, generator=generator
    )[0]
    allowed = TARGET.topk(2).indices
    assert all(after in allowed[before] for before, after in pairwise(text.tolist()))
    assert target.n_calls < 400


def test_several_rows_are_refused():
    with pytest.raises(ValueError, match="one row, got 2"):
        inference.speculate(Table(TARGET), Table(DRAFT), torch.zeros(2, 1).long(), 3, 1)


def test_a_table_looks_at_its_last_tokens_alone():
    asked = []

    def probabilities(context: tuple[int, ...]) -> Tensor:
        asked.append(context)
        return torch.tensor([0.25, 0.75])

    draft = inference.TableDraft(probabilities, 2)
    for text in ([0], [0, 1, 1], [1, 1, 1]):
        found = draft(torch.tensor([text]))
        torch.testing.assert_close(found.exp(), torch.tensor([[[0.25, 0.75]]]))
    assert asked == [(0,), (1, 1)]


# --- other searches ------------------------------------------------------------------------------
# transformers 5 has moved all three out; these are the tokens that its version 4.49.0 wrote with
# the same weights (penalty_alpha=.7, top_k=6 · dola_layers=[0] · num_beams=6, num_beam_groups=3,
# diversity_penalty=.7), each behind the prompt. Of several early layers it takes another one now
# and then: its divergence is that of the mean from each, the paper's that of each from the mean.

BY_CONTRAST = [8, 3, 8, 3, 3, 3, 3, 3, 3, 8, 8, 8]
BY_LAYERS = [19, 17, 20, 20, 17, 20, 17, 20, 17, 20, 17, 20]
BY_GROUPS = [
    [3, 3, 3, 3, 8, 3, 3, 3, 3, 3, 3, 3],
    [3, 3, 8, 3, 8, 3, 3, 3, 3, 3, 3, 3],
    [11, 8, 18, 8, 3, 8, 8, 8, 8, 8, 8, 8],
    [11, 11, 11, 8, 3, 8, 8, 8, 8, 8, 8, 8],
    [18, 3, 3, 18, 11, 18, 11, 18, 18, 18, 11, 11],
    [18, 3, 3, 18, 11, 18, 11, 18, 18, 18, 11, 18],
]
PROMPT = torch.tensor([[1, 2, 3, 9, 2]])


def gpt2(n_layers: int) -> decoder.GPT:
    """A GPT-2 with the weights of that comparison."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=23, n_embd=16, n_head=2, n_layer=n_layers, n_positions=64
    )
    config.tie_word_embeddings = False
    theirs = transformers.GPT2LMHeadModel(config)
    for number, weight in enumerate(theirs.parameters()):
        weight.data = 0.4 * normal(*weight.shape, seed=500 + number)
    theirs.transformer.ln_f.weight.data += 0.5
    return filled(families.gpt2(config.to_dict()), theirs, renaming.GPT2)


def small_model(n_layers: int = 2) -> decoder.GPT:
    torch.manual_seed(3)
    model = decoder.gpt(11, 16, 2, n_layers, 24).requires_grad_(False)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model


def test_contrastive_search_writes_what_transformers_wrote():
    text = inference.contrastive_search(gpt2(3), PROMPT, 12, k=6, alpha=0.7)
    assert text[0, 5:].tolist() == BY_CONTRAST


def test_contrasting_layers_writes_what_transformers_wrote():
    model = gpt2(1)
    model.norm = nn.Identity()  # theirs does not norm the early layer
    text = sampling.generate(inference.LayerContrast(model), PROMPT, 12, sampling.greedy)
    assert text[0, 5:].tolist() == BY_LAYERS


def test_diverse_beams_are_those_that_transformers_found():
    found = inference.diverse_beams(gpt2(3), PROMPT[0], 12, n_groups=3, width=2, strength=0.7)
    assert sorted(found[:, 5:].tolist()) == BY_GROUPS


@pytest.mark.parametrize("settings", [{"k": 5, "alpha": 0.0}, {"k": 1, "alpha": 0.6}])
def test_contrastive_search_without_contrast_is_greedy(settings):
    model, ids = small_model(), integers(3, 4, below=11)
    greedy = sampling.generate(model, ids, 12, sampling.greedy)
    assert torch.equal(inference.contrastive_search(model, ids, 12, **settings), greedy)
    assert len(greedy[:, 4:].unique()) > 3


def test_contrastive_search_weighs_what_it_says_it_weighs():
    """One step, candidate by candidate."""
    model, ids = small_model(), integers(2, 6, below=11)
    chosen = inference.contrastive_search(model, ids, 1, k=4, alpha=0.5)[:, -1]
    for row, token in zip(ids, chosen, strict=True):
        p = model(row[None])[0, -1].softmax(-1)
        worth = {}
        for candidate in p.topk(4).indices:
            longer = torch.cat((row, candidate[None]))[None]
            states = model.norm(interpretability.residual_stream(model, longer)[-1, 0])
            alike = F.cosine_similarity(states[:-1], states[-1:], dim=-1).max()
            worth[int(candidate)] = float(0.5 * p[candidate] - 0.5 * alike)
        assert int(token) == max(worth, key=worth.__getitem__)


def test_contrasting_layers_takes_the_one_that_differs_most():
    model, ids = small_model(n_layers=6), integers(2, 5, below=11)
    found = inference.LayerContrast(model, 0.2)(ids)
    assert found.shape == (2, 5, 11)
    stream = interpretability.residual_stream(model, ids)
    layers = model.head(model.norm(stream)).softmax(-1).double()
    for row in range(2):
        for place in range(5):
            *early, last = layers[:, row, place]
            far = [(entropy((e + last) / 2) - (entropy(e) + entropy(last)) / 2) for e in early]
            other = early[int(torch.stack(far).argmax())]
            expected = (last / other).log().masked_fill(last < 0.2 * last.max(), -math.inf)
            torch.testing.assert_close(found[row, place].double(), expected, atol=1e-4, rtol=1e-4)


def test_the_divergence_is_what_entropy_gains_by_mixing():
    p, q = normal(3, 7).softmax(-1), normal(3, 7, seed=1).softmax(-1)
    expected = [
        entropy((a + b) / 2) - (entropy(a) + entropy(b)) / 2 for a, b in zip(p, q, strict=True)
    ]
    torch.testing.assert_close(inference._divergence(p.log(), q.log()), torch.stack(expected))


def entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum()


def test_only_the_best_token_left_is_greedy():
    model, ids = small_model(), integers(2, 4, below=11)
    text = sampling.generate(inference.LayerContrast(model, 1.0), ids, 12, sampling.greedy)
    assert torch.equal(text, sampling.generate(model, ids, 12, sampling.greedy))


@pytest.mark.parametrize(("n_groups", "strength"), [(1, 3.0), (3, 0.0)])
def test_one_group_or_no_strength_is_beam_search(n_groups, strength):
    model, ids = small_model(), integers(4, below=11)
    found = inference.diverse_beams(model, ids, 9, n_groups, 4, strength)
    beams = torch.stack([text for text, _ in sampling.beam_search(model, ids, 9, 4)])
    assert torch.equal(found, beams.repeat(n_groups, 1))


def test_each_group_says_something_else_where_that_is_all_that_counts():
    ids = integers(4, below=11)
    found = inference.diverse_beams(sampling.CachedModel(small_model(), 24), ids, 9, 5, 1, 1e4)
    assert all(len(set(at.tolist())) == 5 for at in found[:, 4:].T)
