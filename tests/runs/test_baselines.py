"""`course_utils.runs.baselines` against closed forms and an n-gram model written another way."""

import gzip
import lzma
import math
import zlib
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.runs import baselines

VOCABULARY = 4
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40)


def witten_bell(training: list[int], context: list[int], token: int) -> float:
    """The definition, counted anew for every question (Witten & Bell 1991)."""
    n = len(context)
    after = [
        training[place + n]
        for place in range(len(training) - n)
        if training[place : place + n] == context
    ]
    shorter = witten_bell(training, context[1:], token) if context else 1 / VOCABULARY
    if not after:
        return shorter
    kinds = len(set(after))
    keep = len(after) / (len(after) + kinds)
    return keep * after.count(token) / len(after) + (1 - keep) * shorter


@settings(max_examples=50, deadline=None)
@given(texts, texts, st.integers(1, 4))
def test_it_is_witten_bell(training, ids, order):
    model = baselines.NGram(training, order, VOCABULARY)
    losses = []
    for place, token in enumerate(ids):
        context = ids[max(0, place - order + 1) : place]
        expected = [witten_bell(training, context, each) for each in range(VOCABULARY)]
        found = model.probabilities(ids[:place])
        assert found.sum().item() == pytest.approx(1, abs=1e-12)
        assert found.tolist() == pytest.approx(expected, abs=1e-12)
        losses.append(-math.log(expected[token]))
    assert model.loss(ids) == pytest.approx(sum(losses) / len(losses))


def test_a_worked_example():
    """After "a" came "b" twice and "c" once: 3 seen, 2 kinds. One token of 6 is a "b" … twice."""
    a, b, c = range(3)
    model = baselines.NGram([a, b, a, b, a, c], order=2, vocabulary=3)
    alone = (2 + 3 * 1 / 3) / (6 + 3)  # p(b): seen 2 of 6, 3 kinds, and 1/3 behind it
    assert model.probabilities([])[b].item() == pytest.approx(alone)
    assert model.probabilities([a])[b].item() == pytest.approx((2 + 2 * alone) / (3 + 2))


def test_uniform_and_unigram():
    assert baselines.uniform(8) == pytest.approx(math.log(8))
    ids = [0, 0, 0, 1] * 500
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert baselines.unigram(ids, ids, 2) == pytest.approx(entropy, abs=1e-3)


def test_the_loss_falls_with_the_order_on_text():
    text = "the car is red. the cars are blue. a red car is near the house. " * 20
    ids = torch.tensor([ord(letter) for letter in text])
    losses = [baselines.NGram(ids[:900], order, 128).loss(ids[900:]) for order in range(1, 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == baselines.unigram(ids[:900], ids[900:], 128) < baselines.uniform(128)


def test_what_was_never_seen_is_not_impossible():
    model = baselines.NGram([0, 1, 0, 1], order=3, vocabulary=1000)
    assert math.isfinite(model.loss([999, 998, 0]))
    assert model.probabilities([999, 998])[5] > 0


def test_lists_and_tensors_are_the_same():
    training, ids = [0, 1, 2, 1, 0], [1, 2, 2]
    one = baselines.NGram(training, 2, 3)
    other = baselines.NGram(torch.tensor(training), 2, 3)
    assert one.loss(ids) == other.loss(torch.tensor(ids))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], 0, 2), ValueError, "order must be at least 1, got 0"),
        (([], 2, 2), ValueError, "training_ids is empty"),
        (([0, 5], 2, 3), ValueError, "training_ids must lie between 0 and 2.*got 0 to 5"),
        (([-1, 0], 2, 3), ValueError, "training_ids must lie between 0 and 2"),
        ((["a"], 2, 3), TypeError, "training_ids must hold whole numbers, got 'a'"),
        ((torch.tensor([0.5]), 2, 3), TypeError, "training_ids must hold whole numbers, got 0.5"),
        ((torch.zeros(2, 3).long(), 2, 3), ValueError, r"one axis, got the shape \[2, 3\]"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        baselines.NGram(*arguments)


def test_bad_questions_are_refused():
    model = baselines.NGram([0, 1], 2, 2)
    with pytest.raises(ValueError, match="ids is empty"):
        model.loss([])
    with pytest.raises(ValueError, match="context must lie between 0 and 1"):
        model.probabilities([7])
    with pytest.raises(ValueError, match="vocabulary must be at least 1, got 0"):
        baselines.uniform(0)


# --- Bits per byte -------------------------------------------------------------------------------


def random_letters(n: int, letters: str = "abcdefgh", seed: int = 0) -> str:
    return "".join(Random(seed).choices(letters, k=n))


def test_a_fair_choice_among_256_bytes_is_8_bits():
    n_bytes = 1000
    assert baselines.bits_per_byte(n_bytes * baselines.uniform(256), n_bytes) == pytest.approx(8)
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"):
        baselines.bits_per_byte(1.0, 0)


def test_a_loss_in_bits_does_not_depend_on_how_the_text_is_cut():
    """Pairs of independent letters as tokens: half as many, each twice as dear."""
    letters = torch.randint(4, (40_000,), generator=torch.Generator().manual_seed(0))
    pairs = letters[::2] * 4 + letters[1::2]
    one = baselines.unigram(letters, letters, 4) * len(letters)
    other = baselines.unigram(pairs, pairs, 16) * len(pairs)
    bits = [baselines.bits_per_byte(nats, len(letters)) for nats in (one, other)]
    assert bits == pytest.approx([2, 2], abs=0.01)


def test_gzip_alone_and_after_a_text():
    text = random_letters(20_000)
    alone = baselines.compressed_bits_per_byte(text)
    assert 3 < alone < 3.7  # 8 letters are 3 bits each, if a compressor is perfect
    assert alone == pytest.approx(8 * len(gzip.compress(text.encode())) / 20_000, abs=0.01)
    assert baselines.compressed_bits_per_byte(text, after=text) < 0.2
    told_before = random_letters(32_000, seed=1) + text
    dictionary = zlib.compressobj(9, wbits=31 - 16, zdict=told_before.encode())
    by_dictionary = dictionary.compress(text.encode()) + dictionary.flush()
    found = baselines.compressed_bits_per_byte(text, after=told_before)
    assert found == pytest.approx(8 * len(by_dictionary) / 20_000, abs=0.05)


def test_gzip_forgets_what_is_far_and_xz_does_not():
    text = random_letters(5000)
    after = text + random_letters(40_000, seed=1)
    assert baselines.compressed_bits_per_byte(text, after) > 3
    assert baselines.compressed_bits_per_byte(text, after, lzma.compress) < 0.2


def test_a_byte_is_not_a_character():
    assert baselines.compressed_bits_per_byte("é" * 50) == pytest.approx(
        8 * (len(gzip.compress(("é" * 50).encode())) - len(gzip.compress(b""))) / 100
    )
    with pytest.raises(ValueError, match="text is empty"):
        baselines.compressed_bits_per_byte("", after="a")


def test_words_are_spelled_by_a_5_gram_of_bytes_and_an_end():
    assert baselines.spelling([], ["car"]) == 0
    ids = [*b"car", 256, *b"red", 256]
    model = baselines.NGram(ids, 5, 257)
    assert baselines.spelling(["red", "rad"], ["car", "red"]) == pytest.approx(
        model.loss([*b"red", 256, *b"rad", 256]) * 8
    )
    known, unlike = (
        baselines.spelling(["cars"], ["car", "stars"]),
        baselines.spelling(["xyzq"], ["car", "stars"]),
    )
    assert known < unlike < 5 * math.log(257) * 2
