"""Our filters, `generate`, `beam_search` and cache are Hugging Face's: same logits in, same out."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from course_utils import decoder, families, sampling
from course_utils.families import comparing, renaming
from course_utils.runs import kernels

transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')
logits_process = pytest.importorskip("transformers.generation.logits_process")

VOCABULARY, CONTEXT = 11, 24
SEEDS = range(4)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As everywhere in the tests: these tensors are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- Filters, on 1,000 rows each -----------------------------------------------------------------

ROWS = [
    scale * torch.randn(250, size, generator=torch.Generator().manual_seed(size))
    for scale, size in ((0.5, 50), (2.0, 50), (4.0, 7), (1.5, 300))
]
TEXTS = [
    torch.randint(rows.shape[1], (250, 20), generator=torch.Generator().manual_seed(0))
    for rows in ROWS
]

SETTINGS = [
    *(("apply_temperature", "TemperatureLogitsWarper", one) for one in (0.1, 0.7, 1.0, 1.3, 5.0)),
    *(("top_k", "TopKLogitsWarper", one) for one in (1, 2, 5, 7, 40, 1000)),
    *(("top_p", "TopPLogitsWarper", one) for one in (1e-6, 0.1, 0.5, 0.9, 0.99, 1.0)),
    *(("min_p", "MinPLogitsWarper", one) for one in (0.0, 0.01, 0.1, 0.5, 1.0)),
    *(("epsilon_cutoff", "EpsilonLogitsWarper", one) for one in (1e-6, 3e-4, 0.02, 0.2, 0.9)),
]


def same(ours: Tensor, theirs: Tensor) -> bool:
    """The same tokens are left, with the same logits."""
    kept = ours.isfinite()
    return torch.equal(kept, theirs.isfinite()) and torch.allclose(ours[kept], theirs[kept])


@pytest.mark.parametrize(("ours", "theirs", "setting"), SETTINGS)
def test_a_filter_is_theirs(ours: str, theirs: str, setting: float) -> None:
    for rows, texts in zip(ROWS, TEXTS, strict=True):
        wanted = getattr(logits_process, theirs)(setting)(texts, rows)
        assert same(getattr(sampling, ours)(rows, setting), wanted)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_filters_in_a_row_are_theirs(order: tuple[int, ...]) -> None:
    settings = [SETTINGS[0], SETTINGS[7], SETTINGS[14], SETTINGS[19]]
    for rows, texts in zip(ROWS, TEXTS, strict=True):
        ours = theirs = rows
        for name, their_name, setting in (settings[index] for index in order):
            ours = getattr(sampling, name)(ours, setting)
            theirs = getattr(logits_process, their_name)(setting)(texts, theirs)
        assert same(ours, theirs)


@pytest.mark.parametrize("repetition", [0.8, 1.0, 1.2, 3.0])
def test_the_repetition_penalty_is_theirs(repetition: float) -> None:
    for rows, texts in zip(ROWS, TEXTS, strict=True):
        wanted = logits_process.RepetitionPenaltyLogitsProcessor(repetition)(texts, rows)
        assert same(sampling.penalise(rows, texts, repetition=repetition), wanted)


@pytest.mark.parametrize(("presence", "frequency"), [(0.6, 0.0), (0.0, 0.3), (1.0, -0.2)])
def test_presence_and_frequency_are_what_their_formula_says(
    presence: float, frequency: float
) -> None:
    """z - presence · [said] - frequency · (how often): Hugging Face has no such processor."""
    for rows, texts in zip(ROWS, TEXTS, strict=True):
        wanted = rows.clone()
        for row, text in zip(wanted, texts.tolist(), strict=True):
            for token in set(text):
                row[token] -= presence + frequency * text.count(token)
        found = sampling.penalise(rows, texts, presence=presence, frequency=frequency)
        torch.testing.assert_close(found, wanted)


# --- Models --------------------------------------------------------------------------------------


def their_gpt(seed: int = 0, vocabulary: int = VOCABULARY, sharp: float = 3.0):
    """A small GPT-2 whose next tokens are neither sure nor evenly likely."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    comparing.randomise(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.lm_head.weight *= sharp
    return model.eval()


def our_gpt(theirs) -> decoder.GPT:
    """Our GPT-2 with the same weights."""
    ours = families.gpt2(theirs.config.to_dict())
    renaming.fill(ours, theirs.state_dict(), renaming.GPT2)
    return ours.eval()


def prompts(rows: int, tokens: int, vocabulary: int = VOCABULARY, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (rows, tokens), generator=generator)


def logits_of(theirs) -> Callable[[Tensor], Tensor]:
    return lambda ids: theirs(ids).logits


def generated(theirs, ids: Tensor, n_new: int, **settings):
    """Their `generate`, which would stop at an end and cut to 50 tokens if nobody stopped it."""
    defaults = {"max_new_tokens": n_new, "pad_token_id": 0, "top_k": 0, "do_sample": False}
    mask = torch.ones_like(ids)  # or else tokens 0 in the prompt are taken for padding
    return theirs.generate(ids, attention_mask=mask, **(defaults | settings))


# --- generate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_text_is_theirs(seed: int, rows: int) -> None:
    theirs, ids = their_gpt(seed), prompts(rows, 1 + seed, seed=seed)
    wanted = generated(theirs, ids, 12)
    assert torch.equal(sampling.generate(our_gpt(theirs), ids, 12, sampling.greedy), wanted)
    cached = sampling.CachedModel(our_gpt(theirs), CONTEXT)
    assert torch.equal(sampling.generate(cached, ids, 12, sampling.greedy), wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_sampled_text_is_theirs_with_the_same_random_numbers(seed: int) -> None:
    """Penalty first, then the filters in the order in which they apply them."""
    theirs, ids = their_gpt(seed, 40, sharp=1.0), prompts(3, 4, 40, seed)
    torch.manual_seed(seed)
    settings = {"temperature": 0.9, "top_k": 12, "top_p": 0.8, "repetition_penalty": 1.2}
    wanted = generated(theirs, ids, 15, do_sample=True, **settings)
    choose = sampling.sampler(
        lambda logits: sampling.apply_temperature(logits, 0.9),
        lambda logits: sampling.top_k(logits, 12),
        lambda logits: sampling.top_p(logits, 0.8),
        penalty=lambda logits, text: sampling.penalise(logits, text, repetition=1.2),
    )
    torch.manual_seed(seed)
    assert torch.equal(sampling.generate(logits_of(theirs), ids, 15, choose), wanted)
    assert wanted[:, 4:].unique().numel() > 10


# --- beam_search ---------------------------------------------------------------------------------


def their_beams(theirs, ids: Tensor, n_new: int, width: int, alpha: float, end: int | None):
    found = generated(
        theirs, ids[None], n_new, num_beams=width, num_return_sequences=width,
        length_penalty=alpha, early_stopping=False, eos_token_id=end,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    rows = [row.tolist() for row in found.sequences]
    for row in rows:
        if end in row[len(ids) :]:
            del row[row.index(end, len(ids)) + 1 :]
    return [row[: len(ids) + n_new] for row in rows], found.sequences_scores


@pytest.mark.parametrize("end", [None, 4, 9])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("n_new", [1, 5, 12])
def test_beams_are_theirs(n_new: int, width: int, alpha: float, end: int | None) -> None:
    for seed in SEEDS:
        theirs, ids = their_gpt(seed), prompts(1, 2 + seed, seed=seed)[0]
        if width == 1:  # which is another algorithm there, without scores
            wanted, scores = (
                [generated(theirs, ids[None], n_new, eos_token_id=end)[0].tolist()],
                None,
            )
        else:
            wanted, scores = their_beams(theirs, ids, n_new, width, alpha, end)
        for model in (logits_of(theirs), sampling.CachedModel(our_gpt(theirs), CONTEXT)):
            found = sampling.beam_search(model, ids, n_new, width, alpha, end)
            assert [row.tolist() for row, _ in found] == wanted
            if scores is not None:
                torch.testing.assert_close(torch.tensor([score for _, score in found]), scores)


def test_some_of_these_searches_end_before_the_last_step() -> None:
    """Or else the rule that ends them was not compared."""
    lengths = []
    for seed in SEEDS:
        theirs, steps = their_gpt(seed), []
        model = lambda ids: steps.append(1) or theirs(ids).logits  # noqa: B023, E731
        sampling.beam_search(model, prompts(1, 2 + seed, seed=seed)[0], 12, 2, 0.0, end=4)
        lengths.append(len(steps))
    assert min(lengths) < 12, lengths


# --- The cache -----------------------------------------------------------------------------------


def test_cached_logits_are_theirs() -> None:
    """Token by token, and several at once behind a cache that is not empty."""
    theirs, ids = their_gpt(), prompts(3, 16)
    ours, cache = sampling.CachedModel(our_gpt(theirs), CONTEXT), transformers.DynamicCache()
    for start, end in ((0, 1), (1, 2), (2, 6), (6, 7), (7, 8), (8, 16)):
        with torch.no_grad():
            wanted = theirs(ids[:, start:end], past_key_values=cache, use_cache=True).logits
        torch.testing.assert_close(ours(ids[:, :end]), wanted, rtol=1e-5, atol=1e-5)


def test_fused_kernels_change_nothing() -> None:
    theirs, ids = their_gpt(), prompts(2, 3)
    with kernels.fused():
        cached = sampling.CachedModel(our_gpt(theirs), CONTEXT)
        found = sampling.generate(cached, ids, 15, sampling.greedy)
    assert torch.equal(found, generated(theirs, ids, 15))
