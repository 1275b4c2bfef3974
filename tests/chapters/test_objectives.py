"""`course_utils.objectives` against torch, transformers, the papers' examples, and counting."""

import math
from collections import Counter
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import decoder, encoder, objectives
from course_utils.exercises.inputs import boolean, integers, normal


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def may_be(count: int, n: int, p: float) -> bool:
    """Whether chance may give `count` of `n`: it is further off once in two million times."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


# --- hidden tokens -------------------------------------------------------------------------------

MASK, VOCABULARY, N = 4, 20_000, 200_000


def of_ours(ids: Tensor, p: float, special: Tensor) -> tuple[Tensor, Tensor]:
    return objectives.mask_tokens(ids, p, MASK, VOCABULARY, special, seeded(1))


def of_transformers(ids: Tensor, p: float, special: Tensor) -> tuple[Tensor, Tensor]:
    """As BERT's data are made there, with a tokenizer of as many words."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[MASK]": MASK} | {f"w{n}": n for n in range(VOCABULARY) if n != MASK}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "w0")),
        mask_token="[MASK]",
    )
    assert (tokenizer.mask_token_id, len(tokenizer)) == (MASK, VOCABULARY)
    torch.manual_seed(1)
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=p)
    return collator.torch_mask_tokens(ids.clone(), special.clone())


@pytest.mark.parametrize("hide", [of_ours, of_transformers])
@pytest.mark.parametrize("p", [0.15, 0.5])
def test_as_many_tokens_are_hidden_as_in_bert(hide, p):
    """Ours and those of transformers pass the same test."""
    ids = integers(500, N // 500, below=VOCABULARY - 10) + 10
    special = boolean(500, N // 500)
    inputs, labels = hide(ids, p, special)
    asked = labels != -100
    assert not (asked & special).any()
    assert torch.equal(labels[asked], ids[asked])
    assert torch.equal(inputs[~asked], ids[~asked])
    assert may_be(int(asked.sum()), int((~special).sum()), p)
    masked, same = (inputs == MASK) & asked, (inputs == ids) & asked
    n = int(asked.sum())
    assert may_be(int(masked.sum()), n, 0.8)
    assert may_be(int(same.sum()), n, 0.1)
    assert may_be(int((asked & ~masked & ~same).sum()), n, 0.1)


def test_random_tokens_are_drawn_evenly():
    ids = torch.full((50, 4000), 3)
    inputs, _ = objectives.mask_tokens(ids, 1.0, 0, 8, torch.zeros_like(ids).bool(), seeded())
    counts = torch.bincount(inputs.flatten(), minlength=9).tolist()
    for token in (1, 2, 4, 5, 6, 7):
        assert may_be(counts[token], ids.numel(), 0.1 / 8)
    assert may_be(counts[0], ids.numel(), 0.8 + 0.1 / 8)
    assert may_be(counts[3], ids.numel(), 0.1 + 0.1 / 8)
    assert counts[8] == 0


def test_a_masked_model_looks_both_ways_and_not_at_padding():
    torch.manual_seed(0)
    model = objectives.masked_model(11, 16, 2, 2, context=9)
    ids = integers(2, 9, below=10) + 1
    other = ids.clone()
    other[:, -1] = other[:, -1] % 10 + 1
    assert ((model(ids) - model(other)).abs().amax(-1) > 0).all()
    padded = F.pad(ids[:, :6], (0, 3))
    mask = encoder.padding_mask(padded, 0)
    torch.testing.assert_close(model(padded, mask)[:, :6], model(ids[:, :6]))


def test_a_masked_model_is_as_large_as_a_gpt():
    of_gpt, of_masked = (
        sum(weight.numel() for weight in build(11, 16, 2, 3, 9).parameters())
        for build in (decoder.gpt, objectives.masked_model)
    )
    assert of_gpt == of_masked


# --- spans ---------------------------------------------------------------------------------------


def words_of(text: str) -> tuple[list[int], list[str]]:
    words = text.split()
    return list(range(len(words))), words


def test_t5s_own_example():
    """Raffel et al. 2020, figure 2."""
    ids, words = words_of("Thank you for inviting me to your party last week . <X> <Y> <Z>")
    source, target = objectives.span_corrupt(ids[:11], [(2, 2), (8, 1)], 11)
    assert [words[n] for n in source] == "Thank you <X> me to your party <Y> week .".split()
    assert [words[n] for n in target] == "<X> for inviting <Y> last <Z>".split()


def test_barts_own_example():
    """Lewis et al. 2019, figure 2: a span of two tokens, and one of none."""
    ids, words = words_of("A B C . D E . _")
    source = objectives.infill(ids[:7], [(1, 2), (5, 0)], 7)
    assert [words[n] for n in source] == "A _ . D _ E .".split()


def test_source_and_target_are_as_long_as_t5s():
    """In T5's code 568 tokens give 512 that are read, with </s>, and 114 that are written."""
    lengths = objectives.even_lengths(568, seeded())
    assert (sum(lengths), len(lengths), min(lengths) >= 1) == (85, 28, True)
    spans = objectives.draw_spans(568, lengths, seeded())
    source, target = objectives.span_corrupt(list(range(568)), spans, 1000)
    assert (len(source) + 1, len(target)) == (512, 114)
    assert len(objectives.even_lengths(512, seeded())) == 26  # of 77 tokens


def test_nothing_is_lost():
    """What the target hides, put back into the source, gives the text."""
    for seed in range(20):
        ids = integers(60, below=50, seed=seed).tolist()
        lengths = objectives.even_lengths(60, seeded(seed), share=0.4)
        spans = objectives.draw_spans(60, lengths, seeded(seed))
        source, target = objectives.span_corrupt(ids, spans, 100)
        hidden: dict[int, list[int]] = {}
        for token in target:
            if token >= 100:
                hidden[token] = []
            else:
                hidden[max(hidden)].append(token)
        assert [one for token in source for one in hidden.get(token, [token])] == ids


def test_spans_are_anywhere_and_do_not_touch():
    """Every place of three spans that do not touch is as frequent as every other."""
    lengths, n_tokens, n_drawn = (2, 0, 1), 7, 6000
    possible = {
        tuple(zip(starts, lengths, strict=True))
        for starts in combinations(range(n_tokens + 1), 3)
        if starts[0] + 2 < starts[1] < starts[2] <= n_tokens - 1
    }
    generator = seeded()
    drawn = Counter(
        tuple(objectives.draw_spans(n_tokens, lengths, generator)) for _ in range(n_drawn)
    )
    assert set(drawn) == possible
    assert all(may_be(count, n_drawn, 1 / len(possible)) for count in drawn.values())


def test_as_many_spans_as_fit_and_not_one_more():
    assert objectives.draw_spans(5, (1, 1, 1), seeded()) == [(0, 1), (2, 1), (4, 1)]
    assert objectives.draw_spans(5, (), seeded()) == []
    with pytest.raises(ValueError, match=r"n_tokens must be at least 5 .* got 4"):
        objectives.draw_spans(4, (1, 1, 1), seeded())


def test_every_way_to_cut_is_as_frequent():
    generator, n_drawn = seeded(), 4000
    drawn = Counter(
        tuple(objectives.even_lengths(20, generator, share=0.3, mean=2.0)) for _ in range(n_drawn)
    )
    assert len(drawn) == math.comb(5, 2)  # 6 tokens in 3 spans
    assert all(may_be(count, n_drawn, 1 / 10) for count in drawn.values())
    assert objectives.even_lengths(3, generator) == [1]


def test_barts_lengths_are_poisson():
    generator = seeded()
    drawn = [objectives.poisson_lengths(20_000, generator) for _ in range(5)]
    assert {sum(lengths) for lengths in drawn} == {6000}
    whole = [length for lengths in drawn for length in lengths[:-1]]
    counts = Counter(whole)
    for length in range(10):
        assert may_be(counts[length], len(whole), math.exp(-3) * 3**length / math.factorial(length))


def test_an_encoder_decoder_reads_all_and_writes_from_the_left():
    torch.manual_seed(0)
    model = objectives.seq2seq(11, 16, 2, 2, context=9)
    source, target = integers(2, 9, below=11), integers(2, 5, below=11, seed=1)
    before = model(source, target)
    assert before.shape == (2, 5, 11)
    other = target.clone()
    other[:, 3] = (other[:, 3] + 1) % 11
    assert torch.equal(model(source, other)[:, :3], before[:, :3])
    assert not torch.equal(model(source, other)[:, 3], before[:, 3])
    source[:, -1] = (source[:, -1] + 1) % 11
    assert ((model(source, target) - before).abs().amax(-1) > 0).all()
    assert model.embed is model.encoder.embed


# --- one vector for a text -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_attention_pool_is_torchs_attention_with_one_query(scale):
    x, query, mask = normal(3, 5, 6), scale * normal(6, seed=1), boolean(3, 5)
    asking = query.expand(3, 1, 6)
    expected = F.scaled_dot_product_attention(asking, x, x, mask[:, None])[:, 0]
    torch.testing.assert_close(objectives.attention_pool(x, query, mask), expected)


def test_without_a_query_attention_pool_is_the_mean():
    x, mask = normal(3, 5, 6), boolean(3, 5)
    pooled = objectives.attention_pool(x, torch.zeros(6), mask)
    torch.testing.assert_close(pooled, encoder.mean_pool(x, mask))


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_info_nce_is_torchs_cross_entropy_both_ways(temperature):
    a, b = 3 * normal(6, 4), normal(6, 4, seed=1)
    logits = F.normalize(a) @ F.normalize(b).T / temperature
    own = torch.arange(6)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(objectives.info_nce(a, b, temperature), expected)


def test_info_nce_is_clips_loss():
    clip = pytest.importorskip("transformers.models.clip.modeling_clip")
    a, b = normal(5, 4), normal(5, 4, seed=1)
    expected = clip.image_text_contrastive_loss(F.normalize(b) @ F.normalize(a).T / 0.07)
    torch.testing.assert_close(objectives.info_nce(a, b, 0.07), expected)


def test_info_nce_falls_from_chance_to_nothing():
    same, apart = torch.ones(8, 8), torch.eye(8)
    chance = objectives.info_nce(same, same, 0.1).item()
    assert chance == pytest.approx(math.log(8), abs=1e-5)
    assert objectives.info_nce(apart, apart, 0.01).item() == pytest.approx(0, abs=1e-6)
