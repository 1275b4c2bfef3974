"""The village: exact probabilities though the topic is hidden, and sentences that are broken."""

import math
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import sampling
from course_utils.corpora import village, village_grammar, village_words

DATA = Path(__file__).parents[2] / "data"
LONGEST_SENTENCE = (
    "between you and me , tom said that nell said that otto lost and mended the very very shiny"
    " cart and the very very rusty bell in the barn with ivy , and not for the first time ."
)


def drawn(n: int, seed: str = "tests") -> list[list[str]]:
    random = Random(seed)
    return [village.sample(random) for _ in range(n)]


def states(words: list[str]) -> list[village_grammar.State]:
    """The state before every word of a text, and before <end>."""
    found = [village_grammar.BEGINNING]
    for word in words:
        found.append(village_grammar.after(found[-1], word))
    return found


# --- Probabilities -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers())
def test_what_was_drawn_can_be_read_and_coded(seed):
    words = village.sample(Random(seed))
    assert words == village.sample(Random(seed))
    assert village.SHORTEST <= len(words) <= village.LONGEST
    assert math.isfinite(village.log_probability(words))
    assert not any(village.broken(words))
    assert village.decode(village.encode(words)) == words
    assert village.next_words(words) == {village.END: pytest.approx(1.0)}


def test_next_words_sum_to_one_and_their_product_is_the_probability_of_the_text():
    for words in drawn(3):
        total = 0.0
        for place, word in enumerate([*words, village.END]):
            next_words = village.next_words(words[:place])
            assert math.isclose(sum(next_words.values()), 1.0)
            assert all(probability > 0 for probability in next_words.values())
            total += math.log(next_words[word])
        assert math.isclose(total, village.log_probability(words))


def test_a_text_is_as_probable_as_on_average_over_its_topics():
    """No Bayes: every topic by itself, from the first word to the last."""
    for words in drawn(30):
        steps = [*words, village.END]
        rows = [village_grammar.row(state) for state in states(words)]
        of_topic = sum(
            np.log(row[:, village_words.ID_OF[word]]) for row, word in zip(rows, steps, strict=True)
        )
        best = of_topic.max()
        expected = best + math.log(np.exp(of_topic - best).mean())
        assert math.isclose(expected, village.log_probability(words))
        posterior = np.exp(of_topic - best) / np.exp(of_topic - best).sum()
        found = village.topics(words)
        assert list(found) == village_words.TOPICS
        assert np.allclose(list(found.values()), posterior)


def test_a_word_tells_the_next_state():
    """Where two ways on share a word, they lead to the same state."""
    n_shared = 0
    for words in drawn(40):
        for state in states(words):
            ways = state.ways(state)
            assert math.isclose(sum(way.share for way in ways), 1.0)
            assert all(way.share > 0 for way in ways)
            for word in {word for way in ways for word in way.table.words}:
                after = [way.then(state, word) for way in ways if word in way.table]
                assert all(each == after[0] for each in after), (word, state)
                n_shared += len(after) > 1
    assert n_shared > 1000


def test_rows_are_probabilities_for_every_topic():
    for words in drawn(20):
        for state in states(words):
            found = village_grammar.row(state)
            assert found.shape == (len(village_words.TOPICS), len(village.VOCABULARY))
            assert np.allclose(found.sum(1), 1.0) and (found >= 0).all()
            assert ((found > 0) == (found[:1] > 0)).all(), "a topic makes words rare, never away"


def test_rows_from_a_cache_are_those_without_it():
    caches = [each for each in vars(village_grammar).values() if hasattr(each, "cache_clear")]
    assert len(caches) > 8
    before = [(s, village_grammar.row(s)) for words in drawn(12) for s in states(words)]
    for index, (state, kept) in enumerate(before):
        if index % 4 == 0:
            for each in caches:
                each.cache_clear()
        assert np.array_equal(village_grammar.row(state), kept)


def test_draws_agree_with_the_probabilities():
    """Chi-square of some states that a text passes, over words expected 5 times or more.

    With 10,000 draws a word of probability 0.1 that is drawn with 0.12 adds 44 to it.
    """
    random, n, n_tested = Random(1), 10_000, 0
    words = drawn(1, "chi-square")[0]
    for state in states(words)[:40:4]:
        topic = n_tested % len(village_words.TOPICS)
        expected = n * village_grammar.row(state)[topic]
        seen = Counter(village_grammar.draw(state, topic, random)[0] for _ in range(n))
        counts = np.array([seen[word] for word in village.VOCABULARY])
        assert (counts[expected == 0] == 0).all()
        common = expected >= 5
        chi_square = ((counts - expected)[common] ** 2 / expected[common]).sum()
        freedom = max(1, common.sum() - 1)
        assert chi_square < freedom + 4.5 * math.sqrt(2 * freedom) + 10
        n_tested += 1
    assert n_tested == 10


def test_first_words_agree_with_the_mean_over_topics():
    n = 400
    seen = Counter(words[0] for words in drawn(n, "first"))
    for word, probability in village.next_words([]).items():
        assert abs(seen[word] - n * probability) < 5 * math.sqrt(n * probability) + 1, word


def test_the_mean_cost_of_draws_is_the_entropy_of_the_next_words():
    """-log p of a word and the entropy at its place differ by chance alone.

    Were the rows those of a source flatter or sharper by 0.35 nats a word, this would fail.
    """
    difference = []
    for words in drawn(40, "entropy"):
        for place in range(0, len(words), 11):
            p = village.next_words(words[:place])
            entropy = -sum(x * math.log(x) for x in p.values())
            difference.append(-math.log(p[words[place]]) - entropy)
    assert abs(np.mean(difference)) < 4.5 * np.std(difference) / math.sqrt(len(difference))
    assert 4.5 * np.std(difference) / math.sqrt(len(difference)) < 0.35


# --- Sentences -----------------------------------------------------------------------------------


def test_the_longest_sentence():
    words = LONGEST_SENTENCE.split()
    assert len(words) == village_grammar.LONGEST_SENTENCE
    assert village.broken(words) == [False]
    sentences = " ".join(" ".join(words) for words in drawn(300)).replace("!", ".").split(".")
    assert max(len(each.split()) + 1 for each in sentences) <= village_grammar.LONGEST_SENTENCE


@pytest.mark.parametrize(
    "text",
    [
        "nell tasted the hen .",  # that is no food
        "nell lost his hat .",
        "nell lost the hat . he lost the hat .",
        "nell lost the stale hat .",
        "nell lost the hat and the hat .",
        "nell lost the hat with nell .",
        "nell lost and lost the hat .",
        "nell said that tom said that ivy said that tom lost the hat .",
        "nell lost the hat and the coin and the hat .",
        "nell lost the hat ,",
        "she lost the hat .",
        "of course .",
        "nell lost the spaceship .",
        "nell went to the hat .",
        ", .",
        "<bos> nell lost the hat .",
        "<end> nell lost the hat .",
    ],
)
def test_a_broken_sentence_cannot_be(text):
    words = text.split()
    assert village.log_probability(words) == -math.inf
    if text.endswith(",") or words[0] == village.END:
        return
    assert village.broken(words)[-1] and not any(village.broken(words)[:-1])
    with pytest.raises(ValueError, match=r"^words: word \d+, '.*' cannot stand there; .* can"):
        village.next_words(words)


def test_reading_goes_on_behind_a_broken_sentence():
    whole = "nell lost the hat ."
    for broken in ("nell lost hat the .", "the .", ".", "!", "nell lost the hat <end> ."):
        words = f"{whole} {broken} {whole} {broken} {whole}".split()
        assert village.broken(words) == [False, True, False, True, False], broken
    assert village.broken([]) == []
    assert village.broken([village.END]) == []
    assert village.broken(f"{whole} nell lost".split()) == [False, False]
    assert village.broken(f"{whole} nell nell".split()) == [False, True]
    assert village.broken([*whole.split(), village.END]) == [False]
    assert village.broken(whole.split() * 60) == [False] * 60, "however long"
    named = "nell lost the hat with tom tom . he lost the hat .".split()
    assert village.broken(named) == [True, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(village.VOCABULARY), max_size=30))
def test_any_words_are_read(words):
    found = village.broken(words)
    assert len(found) <= len(words)
    if not any(found) and village.END not in words:
        assert village.next_words(words)


# --- As a model ----------------------------------------------------------------------------------


def test_the_source_takes_the_place_of_a_model():
    start = torch.stack([village.encode([village.START, *words[:9]]) for words in drawn(3)])
    source = village.Source()
    ids = sampling.generate(source, start, 12, sampling.greedy)
    for row in ids:
        _, *words = village.decode(row)
        for place in range(9, 21):
            next_words = village.next_words(words[:place])
            assert math.isclose(next_words[words[place]], max(next_words.values()), rel_tol=1e-6)
    again = village.Source()(ids)  # nothing of it was read before
    assert torch.equal(again, source(ids))
    assert torch.allclose(again.exp().sum(-1), torch.ones(3, 1))
    [(best, _), *_] = sampling.beam_search(source, start[0], 12, 3)
    assert not any(village.broken(village.decode(best)[1:]))


# --- Rows, texts to read, errors -----------------------------------------------------------------


def test_batches_and_validation():
    rows = village.batch(3, 4, 5, 60)
    assert rows.shape == (5, 60) and torch.equal(rows, village.batch(3, 4, 5, 60))
    assert not torch.equal(rows, village.batch(3, 5, 5, 60))
    assert not torch.equal(rows, village.batch(4, 4, 5, 60))
    long = village.decode(village.batch(0, 0, 1, 400)[0])
    assert long[0] == village.START
    first = long[1 : long.index(village.END)]
    assert math.isfinite(village.log_probability(first))
    assert long[len(first) + 2] == village.START
    texts = village.validation(20)
    assert texts[:5] == village.validation(5)
    trained = {tuple(each) for step in range(40) for each in village.batch(0, step, 5, 12).tolist()}
    assert not trained & {tuple(village.encode([village.START, *t[:11]]).tolist()) for t in texts}


def test_the_floor_is_the_mean_cost_of_a_token():
    texts = village.validation(4)
    nats = -sum(map(village.log_probability, texts))
    n_tokens = sum(len(words) + 1 for words in texts)
    assert math.isclose(village.floor(texts).per_token, nats / n_tokens)
    assert 1.2 < village.floor(village.validation(60)).per_token < 1.6


def test_words_are_lower_case_and_all_different():
    words = village.VOCABULARY
    assert len(set(words)) == len(words) == 320
    assert all(word == word.lower() for word in words)
    kinds = [village_words.NAMES, village_words.VERBS, village_words.CLASS_OF]
    kinds += [village_words.ADJECTIVES, village_words.ALL_PLACES]
    assert sum(map(len, kinds)) == len(set().union(*kinds)), "a word is of one kind"


def test_a_text_as_people_write_it():
    words = "on sunday , nell lost the hat , i was there . oh dear ! she lost it .".split()
    assert village.text(words) == "On Sunday, Nell lost the hat, I was there. Oh dear! She lost it."


def test_the_file_has_the_texts_of_the_validation_set():
    lines = (DATA / "village.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [village.text(words) for words in village.validation(len(lines))]
    assert len(lines) == 100


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: village.log_probability("nell"), TypeError, "words must be a list"),
        (lambda: village.next_words("nell"), TypeError, "words must be a list"),
        (lambda: village.broken("nell"), TypeError, "words must be a list"),
        (lambda: village.text("nell"), TypeError, "words must be a list"),
        (lambda: village.encode(["Nell"]), ValueError, "words: 'Nell' .*corpora.village.VOC"),
        (lambda: village.decode([320]), ValueError, "ids: 320 is not between 0 and 319"),
        (lambda: village.next_words(["nell", "the"]), ValueError, "words: word 1, 'the' cannot"),
        (lambda: village.batch(0, 0, 1, 0), ValueError, "n_tokens must be at least 1, got 0"),
        (lambda: village.floor([]), ValueError, "texts is empty"),
        (lambda: village.floor([["nell"]]), ValueError, "texts: number 0 is none of ours: nell"),
        (lambda: village.Source()(torch.tensor([[5, 6]])), ValueError, "ids: a text begins with"),
        (lambda: village.Source()(torch.tensor([[0, 2]])), ValueError, "'.' cannot stand there"),
    ],
)
def test_errors_name_what_was_wrong(call, error, says):
    with pytest.raises(error, match=says):
        call()
