"""The sentences corpus: its probabilities are exact, and its errors say what to do."""

import math
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.corpora import sentences


def derivations(rest: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every text that `rest` can become, and the probability of the derivation that leads to it.

    A plain walk through the grammar that knows nothing of reading from left to right.
    """
    if not rest:
        yield (), 1.0
        return
    first, *later = rest
    for option, probability in sentences.GRAMMAR.get(first, {}).items():
        for words, conditional in derivations((*option.split(), *later)):
            yield words, probability * conditional
    if first not in sentences.GRAMMAR:
        for words, probability in derivations(tuple(later)):
            yield (first, *words), probability


def count(symbol: str) -> int:
    """How many derivations a symbol has."""
    options = sentences.GRAMMAR.get(symbol)
    if options is None:
        return 1
    return sum(math.prod(map(count, option.split())) for option in options)


@pytest.fixture
def two_words_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same grammar with two nouns, two states and so on: small enough to list whole."""
    for symbol in ("ONE", "MANY", "STATE", "IT_ACTS", "THEY_ACT", "MANNER"):
        two = list(sentences.GRAMMAR[symbol])[:2]
        monkeypatch.setitem(sentences.GRAMMAR, symbol, dict.fromkeys(two, 0.5))
    sentences._ways_on.cache_clear()
    yield
    monkeypatch.undo()
    sentences._ways_on.cache_clear()


def test_every_text_of_a_small_grammar_has_one_derivation_and_its_probability(
    two_words_of_each_kind,
):
    listed = list(derivations(("SENTENCE",)))
    assert len(listed) == count("SENTENCE") > 10_000
    assert len({words for words, _ in listed}) == len(listed), "one text, two derivations"
    for words, probability in listed:
        assert math.isclose(math.exp(sentences.log_probability(words)), probability)
    assert math.isclose(sum(probability for _, probability in listed), 1.0)
    entropy = -sum(probability * math.log(probability) for _, probability in listed)
    assert math.isclose(sentences.entropy(), entropy)


def test_the_probabilities_of_all_sentences_sum_to_one():
    texts, total = set(), 0.0
    for index, (words, probability) in enumerate(derivations(("SENTENCE",))):
        texts.add(hash(words))
        total += probability
        if index % 101 == 0:
            assert math.isclose(math.exp(sentences.log_probability(words)), probability)
    assert len(texts) == count("SENTENCE") == 1_002_240
    assert math.isclose(total, 1.0)


def test_the_next_word_always_tells_which_option_was_taken():
    rests, unread = set(), [("SENTENCE", sentences.END)]
    while unread:
        rest = unread.pop()
        rests.add(rest)
        ways = sentences._ways_on(rest)
        # Two options that began with the same word would overwrite each other, and leave a gap.
        assert math.isclose(sum(probability for probability, _ in ways.values()), bool(rest))
        unread += [after for _, after in ways.values() if after not in rests]
    assert len(rests) > 10


def test_options_of_every_symbol_sum_to_one():
    for symbol, options in sentences.GRAMMAR.items():
        assert math.isclose(sum(options.values()), 1.0), symbol


@given(st.integers())
def test_what_is_drawn_can_be_read_and_coded(seed):
    words = sentences.sample(Random(seed))
    assert words == sentences.sample(Random(seed))
    assert len(words) + 2 <= sentences.ROW_LENGTH
    steps = [sentences.next_words(words[:place])[word] for place, word in enumerate(words)]
    assert sentences.next_words(words) == {sentences.END: 1.0}
    assert math.isclose(sentences.log_probability(words), math.log(math.prod(steps)))
    assert sentences.decode(sentences.encode(words)) == words


def test_the_longest_sentence_fills_a_row():
    longest = "the big old car near the big old dog waits here"
    assert math.isfinite(sentences.log_probability(longest.split()))
    assert len(longest.split()) + 2 == sentences.ROW_LENGTH


def test_frequencies_agree_with_the_probabilities():
    random, n = Random(0), 60_000
    seen = Counter(" ".join(sentences.sample(random)) for _ in range(n))
    for text in ["the car is red", "the dogs are old", "the boats move slowly"]:
        expected = n * math.exp(sentences.log_probability(text.split()))
        assert abs(seen[text] - expected) < 5 * math.sqrt(expected), text
    mean = -sum(c * sentences.log_probability(text.split()) for text, c in seen.items()) / n
    assert abs(mean - sentences.entropy()) < 0.05


def test_the_sentences_of_the_course():
    the_car_is_red = 0.8 * 0.7 * 0.7 * 0.5 / 6 * 0.5 * 0.6 / 9
    found = sentences.log_probability(["the", "car", "is", "red"])
    assert math.isclose(found, math.log(the_car_is_red))
    distracted = ["the", "cars", "near", "the", "old", "dog"]
    assert set(sentences.next_words(distracted)) == {"are", "move", "wait", "stop"}
    assert math.isfinite(sentences.log_probability([*distracted, "are", "fast"]))


@pytest.mark.parametrize(
    "text",
    [
        "", "the", "the car", "the car are red", "the cars near the old dog is fast",
        "car is red", "the old big car is red", "the car is red .", "the car is red red",
        "The car is red", "SENTENCE", "the car near the dog near the cat is red", "<bos>",
    ],
)  # fmt: skip
def test_other_texts_have_probability_zero(text):
    assert sentences.log_probability(text.split()) == -math.inf


def test_words_are_lower_case_and_all_different():
    words = sentences.VOCABULARY
    assert len(words) == len(set(words)) == 42
    assert all(word == word.lower() for word in words)
    ids = sentences.encode(words)
    assert ids.tolist() == list(range(42))
    assert ids.dtype == torch.long
    assert sentences.encode([]).dtype == torch.long


def test_a_batch_is_rows_of_sentences_filled_up_with_full_stops():
    rows = sentences.batch(Random(3), 50)
    assert rows.shape == (50, sentences.ROW_LENGTH)
    assert torch.equal(rows, sentences.batch(Random(3), 50))
    random = Random(3)
    for row in rows:
        start, *words = sentences.decode(row)
        drawn = sentences.sample(random)
        assert start == sentences.START
        assert words == drawn + [sentences.END] * (sentences.ROW_LENGTH - 1 - len(drawn))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: sentences.encode(["the", "Car"]), ValueError, "'Car'.*VOCABULARY"),
        (lambda: sentences.encode("the car"), TypeError, "split"),
        (lambda: sentences.log_probability("the car"), TypeError, "split"),
        (lambda: sentences.next_words("the car"), TypeError, "split"),
        (lambda: sentences.next_words(["the", "car", "are"]), ValueError, "'are'.*'the car'.*is,"),
        (lambda: sentences.next_words(["car"]), ValueError, "'car'.*the start.*the, my"),
        (lambda: sentences.decode([0, 42]), ValueError, "42 is not between 0 and 41"),
        (lambda: sentences.decode(torch.tensor([-1])), ValueError, "-1 is not between"),
    ],
)
def test_errors_name_what_was_wrong(call, error, says):
    with pytest.raises(error, match=says):
        call()
