"""The stories corpus: one derivation a text, exact probabilities, and facts that can be checked."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.corpora import choices, stories, story_grammar

STORY = (
    "one sunny morning mia and tom met by the lake ."
    " mia hid a small ball in a box . the ball was red ."
    " tom put some socks in a bag . the socks were blue ."
    " mia laughed because she liked the ball ."
    " later tom found the ball in the box and he put the ball in a tent ."
    " where is the ball ? the ball is in the tent ."
    " what colour are the socks ? the socks are blue ."
    " what colour is the ball ? the ball is red ."
    " where are the socks ? the socks are in the bag ."
    " they all went home ."
)
LIKED = "mia laughed because she liked the ball ."  # what else could be said instead?
N_SENTENCES = 10  # as `read` counts them: two that belong together are one


def drawn(n: int, seed: str = "tests") -> list[list[str]]:
    random = Random(seed)
    return [stories.sample(random) for _ in range(n)]


# --- Probabilities -------------------------------------------------------------------------------


class Recorder(choices.Teller):
    """Tells a story, and notes every choice and the probability of all."""

    def __init__(self, random: Random):
        super().__init__(random)
        self.steps: list[tuple[str, str]] = []
        self.log_probability = 0.0

    def note(self, label: str, options: choices.Options) -> str:
        text = super().__call__(options)
        self.steps.append((label, text))
        self.log_probability += math.log(options.probability[text])
        return text

    def __call__(self, options):
        return self.note(options.label, options)

    def fact(self, kind, right, others):
        return self.note(kind, right)


class Rehearsal(Recorder):
    """Takes the options whose numbers are given, and then always the first one."""

    def __init__(self, numbers: list[int]):
        super().__init__(Random(0))
        self.numbers = iter(numbers)
        self.taken: list[tuple[int, int]] = []  # number, and how many there were

    def note(self, label: str, options: choices.Options) -> str:
        number = next(self.numbers, 0)
        self.taken.append((number, len(options.entries)))
        text, words = options.entries[number]
        self.words += words
        self.log_probability += math.log(options.probability[text])
        return text


def all_ways(tell: Callable[[Rehearsal], object]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Everything that `tell` can say, and the probability of the choices that lead to it."""
    numbers: list[int] | None = []
    while numbers is not None:
        rehearsal = Rehearsal(numbers)
        tell(rehearsal)
        yield tuple(rehearsal.words), math.exp(rehearsal.log_probability)
        taken = rehearsal.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        numbers = [number for number, _ in taken]
        if numbers:
            numbers[-1] += 1
        else:
            numbers = None


@settings(max_examples=200, deadline=None)
@given(st.integers())
def test_what_was_told_is_read_back_choice_by_choice(seed):
    told = Recorder(Random(seed))
    story_grammar.tell(told)
    assert told.words == stories.sample(Random(seed)) == stories.sample(Random(seed))
    assert stories.derivation(told.words) == told.steps
    assert math.isclose(stories.log_probability(told.words), told.log_probability)


def test_thousands_of_stories_are_read_back_choice_by_choice():
    random, texts = Random(5), set()
    for _ in range(2000):
        told = Recorder(random)
        story_grammar.tell(told)
        assert stories.derivation(told.words) == told.steps
        assert math.isclose(stories.log_probability(told.words), told.log_probability)
        texts.add(tuple(told.words))
    assert len(texts) > 1990


def test_next_words_sum_to_one_and_their_product_is_the_probability_of_the_story():
    for words in drawn(25):
        total = 0.0
        for place, word in enumerate([*words, stories.END]):
            next_words = stories.next_words(words[:place])
            assert math.isclose(sum(next_words.values()), 1.0)
            assert all(probability > 0 for probability in next_words.values())
            total += math.log(next_words[word])
        assert math.isclose(total, stories.log_probability(words))


@pytest.fixture
def small_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few words of a kind, and only what must be in the middle of a story."""
    tables = {
        "_NAMES": "mia tom", "_COLOURS": "red blue", "_PLACES": "box bag tent", "_ARTICLE": "a",
        "_WEATHER": "cold", "_TIME": "day", "_MEETING": "met", "_SETTING": "outside", "_PUT": "hid",
    }  # fmt: skip
    for name, words in tables.items():
        label = getattr(story_grammar, name).label
        monkeypatch.setattr(story_grammar, name, choices.Options(label, words.split()))
    monkeypatch.setattr(story_grammar, "_OPENING", choices.Options("opening", ["one"]))
    monkeypatch.setattr(
        story_grammar, "_CLOSING", choices.Options("closing", story_grammar.CLOSINGS[:1])
    )
    nouns = {"a": choices.Options("thing", ["ball", "cup"])}
    monkeypatch.setattr(story_grammar, "_NOUNS_BEHIND", nouns)
    monkeypatch.setattr(story_grammar, "_THEN", ["then"])
    monkeypatch.setattr(story_grammar, "SIZES", [])
    monkeypatch.setattr(story_grammar, "_LONGEST_MIDDLE", 1)
    caches = (story_grammar._sized, story_grammar._middle, story_grammar._questions)
    for table in caches:
        table.cache_clear()
    yield
    monkeypatch.undo()
    for table in caches:
        table.cache_clear()


def test_all_stories_of_a_small_grammar_are_different_and_sum_to_one(small_grammar):
    found = list(all_ways(story_grammar.tell))
    names, first, second, move, order = 2, 2 * 2 * 2 * 3, 2 * 1 * 1 * 2, 2 * 2 * 1, 24
    assert len(found) == names * first * second * move * order
    assert len({words for words, _ in found}) == len(found), "one text, two derivations"
    assert math.isclose(sum(probability for _, probability in found), 1.0)
    for words, probability in found[::7]:
        assert math.isclose(math.exp(stories.log_probability(words)), probability)
    assert set(stories.next_words(found[0][0][:-1])) == {"."}


def state_after(words: str) -> story_grammar.State:
    """What is known after the sentences of the story above up to `words`."""
    before, found, _ = STORY.partition(words)
    assert found
    parser, state = choices.Parser((before + found).split()), story_grammar.State()
    while parser.n_words < len(parser.words):
        story_grammar.sentence(parser, state)
    return state


@pytest.mark.parametrize(
    ("words", "at_least"),
    [("were blue .", 400), ("liked the ball .", 200), ("in a tent .", 4), ("in the tent .", 3)],
)
def test_all_ways_to_say_the_next_sentence_are_different_and_sum_to_one(words, at_least):
    state = state_after(words)
    found = list(all_ways(lambda choose: story_grammar.sentence(choose, deepcopy(state))))
    texts = {text for text, _ in found}
    assert len(texts) == len(found) >= at_least
    assert math.isclose(sum(probability for _, probability in found), 1.0)
    beginnings = {text[:n] for text in texts for n in range(len(text))}
    assert not beginnings & texts, "where a sentence ends, another one goes on"


def test_options_must_not_begin_with_each_other():
    for texts in (["a b", "a"], ["a", "a b"], ["a b", "a b c"]):
        with pytest.raises(ValueError, match="begins with 'a"):
            choices.Options("letters", texts)


def test_frequencies_agree_with_the_probabilities():
    texts, n = drawn(8000), 8000
    for place in (1, 5, 12):
        for word, seen in Counter(words[place] for words in texts[::2]).items():
            said = [words[:place] for words in texts[1::200]]
            expected = sum(stories.next_words(text).get(word, 0.0) for text in said) / len(said)
            assert abs(seen / (n / 2) - expected) < 0.1, (place, word)


# --- The story of the docstrings -----------------------------------------------------------------


def test_it_can_be_told():
    assert math.isfinite(stories.log_probability(STORY.split()))
    assert stories.read(STORY.split()).consistent


def test_what_can_follow():
    told = STORY[: STORY.index(LIKED)].split()
    assert {"later", "mia", "tom", "the", "outside"} <= set(stories.next_words(told))
    assert "where" not in stories.next_words(told), "something must be moved first"
    asked = STORY[: STORY.index("tent . what")].split()
    assert stories.next_words(asked) == {"tent": 1.0}
    assert stories.next_words(STORY.split()) == {stories.END: 1.0}
    assert math.isclose(stories.next_words(["one", "sunny", "day"])["mia"], 1 / 16)


def test_reading_it_as_people_write_it():
    written = stories.text(STORY.split())
    assert written.startswith("One sunny morning Mia and Tom met by the lake. Mia hid a small")
    assert " Where is the ball? The ball is in the tent. What" in written
    assert stories.text([]) == ""
    assert stories.n_characters(STORY.split()) == len(written) + 1


@given(st.integers())
@settings(max_examples=50, deadline=None)
def test_the_written_form_tells_the_words(seed):
    words = stories.sample(Random(seed))
    assert stories.text(words).lower().replace(".", " .").replace("?", " ?").split() == words


# --- Facts ---------------------------------------------------------------------------------------


def test_stories_of_ours_keep_every_fact():
    kinds = Counter()
    for words in drawn(500):
        for text in (words, [*words, stories.END]):
            reading = stories.read(text)
            assert reading.consistent and reading.complete
            assert reading.n_grammatical == reading.n_sentences == words.count(".") - 2
        kinds.update(kind for kind, _ in reading.facts)
    assert set(kinds) == set("agreement pronoun colour place person thing question new".split())


@pytest.mark.parametrize(
    ("right", "wrong", "kinds"),
    [
        ("ball is in the tent", "ball is in the box", "place"),
        ("ball is in the tent", "ball is in the jar", "place"),
        ("ball in the box", "ball in the bag", "place"),
        ("ball is red", "ball is blue", "colour"),
        ("socks are blue", "socks are pink", "colour"),
        ("liked the ball", "liked the kite", "thing"),
        ("ball is in the tent", "ball are in the tent", "agreement"),
        ("socks were blue", "socks was blue", "agreement"),
        ("put some socks", "put a socks", "agreement"),
        ("because she", "because he", "pronoun"),
        ("and he put", "and she put", "pronoun"),
        ("later tom found", "later zoe found", "person pronoun"),
        ("he put the ball", "he put the kite", "thing"),
        ("tom found the ball", "tom found the kite", "thing thing place"),  # the ball was not moved
        ("the ball is in the tent", "the kite is in the tent", "question"),
        ("socks were blue", "socks were red", "new colour"),
        ("the socks were blue", "the gloves were blue", "thing"),
        ("ball in a tent", "ball in a bag", "new place"),  # and so the tent is wrong later
    ],
)
def test_broken_facts_are_found_by_their_kind(right, wrong, kinds):
    assert right in STORY
    words = STORY.replace(right, wrong, 1).split()
    reading = stories.read(words)
    assert [kind for kind, kept in reading.facts if not kept] == kinds.split()
    assert reading.complete and not reading.consistent
    assert reading.n_grammatical == reading.n_sentences == N_SENTENCES
    assert stories.log_probability(words) == -math.inf


@pytest.mark.parametrize(
    ("sentence", "wrong", "kind"),
    [
        ("mia was happy and she danced .", "he", "pronoun"),
        ("the ball was red and new .", "were", "agreement"),
        ("the ball was red and new .", "blue", "colour"),
        ("the ball was small and new .", "big", "colour"),
        ("the socks were blue and new .", "was", "agreement"),
        ("the socks were blue and new .", "small", "colour"),
    ],
)
def test_facts_of_other_sentences(sentence, wrong, kind):
    told = STORY.replace(LIKED, sentence)
    assert stories.read(told.split()).consistent and LIKED in STORY
    rights = {"he": "she", "were": "was", "was": "were", "big": "small"}
    right = rights.get(wrong) or ("red" if " red " in sentence else "blue")
    words = STORY.replace(LIKED, sentence.replace(f" {right} ", f" {wrong} ", 1)).split()
    broken = [broken for broken, kept in stories.read(words).facts if not kept]
    assert broken[0] == kind
    assert stories.log_probability(words) == -math.inf


@pytest.mark.parametrize(
    ("right", "wrong", "n_grammatical", "n_sentences"),
    [
        ("liked the ball", "liked a ball", 9, 10),
        ("laughed because", "laughed because because", 9, 10),
        ("one sunny", "sunny", 9, 10),
        ("later tom", "later a a", 9, 10),
        ("they all went home .", "they all went home", 9, 9),
        ("they all went home .", "", 9, 9),
        ("they all went home .", "they all went home . they all went home .", 11, 11),
        (LIKED, "", 9, 9),
        (" where are the socks ? the socks are in the bag .", "", 9, 9),
        ("where is the ball", "where is the kite", 10, 10),
        ("one sunny morning mia and tom met by the lake . ", "", 9, 9),
        ("the ball was red .", "the ball red .", 9, 10),
        (" the socks were blue .", "", 8, 9),
    ],
)
def test_reading_goes_on_after_what_is_no_story(right, wrong, n_grammatical, n_sentences):
    assert right in STORY
    reading = stories.read(STORY.replace(right, wrong, 1).split())
    assert (reading.n_grammatical, reading.n_sentences) == (n_grammatical, n_sentences)
    assert reading.complete == (right == LIKED)


@given(st.lists(st.sampled_from(stories.VOCABULARY), max_size=60))
def test_any_words_can_be_read(words):
    reading = stories.read(words)
    assert 0 <= reading.n_grammatical <= reading.n_sentences <= words.count(".")
    assert not reading.complete


@given(st.integers(), st.data())
@settings(max_examples=100, deadline=None)
def test_sentences_of_ours_can_be_read_in_any_order(seed, data):
    told = " ".join(stories.sample(Random(seed))).replace(" . the", " , the").split(" . ")
    shuffled = " . ".join(data.draw(st.permutations(told)))
    words = f"{shuffled} .".replace(",", ".").replace(". .", ".").split()
    assert stories.read(words).n_grammatical >= len(told) - 1


# --- Questions -----------------------------------------------------------------------------------


def test_every_fact_is_asked_for_once_and_cannot_be_guessed():
    for words in drawn(300):
        questions = stories.questions(words)
        things = {stories.next_words(each.words) and each.words[-4:] for each in questions}
        assert Counter(each.kind for each in questions) == {"place": 2, "colour": 2}
        for each in questions:
            assert list(each.words) == words[: len(each.words)]
            assert each.answer == words[len(each.words)]
            assert stories.next_words(each.words) == {each.answer: 1.0}
            assert len(each.candidates) == len(set(each.candidates)) >= 2
            assert each.answer in each.candidates
            assert set(each.candidates) <= set(each.words)
            assert each.words[each.source] == each.answer
        assert len(things) >= 3


def test_the_questions_of_the_story_above():
    words = STORY.split()
    first, second, third, fourth = stories.questions(words)
    assert (first.kind, first.answer, first.candidates) == ("place", "tent", ("box", "bag", "tent"))
    assert words[first.source - 3 : first.source + 1] == ["ball", "in", "a", "tent"]
    assert (second.kind, second.answer, second.candidates) == ("colour", "blue", ("red", "blue"))
    assert words[second.source - 2 : second.source + 1] == ["socks", "were", "blue"]
    assert words[third.source - 2 : third.source + 1] == ["ball", "was", "red"]
    assert words[fourth.source - 3 : fourth.source + 1] == ["socks", "in", "a", "bag"]


def test_the_source_is_where_it_was_said_last():
    again = STORY.replace(LIKED, "the ball was red and new .").split()
    colour = stories.questions(again)[2]
    assert again[colour.source : colour.source + 2] == ["red", "and"]
    moved = "then mia found the ball in the box and she hid the ball in a jar ."
    twice = STORY.replace(LIKED, moved).replace("found the ball in the box and he", "found the ball"
                                                " in the jar and he")  # fmt: skip
    twice = twice.replace(
        "then mia found the ball in the jar", "then mia found the ball in the box"
    )
    question = stories.questions(twice.split())[0]
    assert question.answer == "tent"
    assert question.source == twice.split().index("tent")
    assert question.candidates == ("box", "bag", "jar", "tent")


# --- Words, numbers, rows ------------------------------------------------------------------------


def test_every_word_of_the_vocabulary_occurs_and_no_other():
    seen = Counter(word for words in drawn(3000) for word in words)
    assert set(seen) == set(stories.VOCABULARY) - {stories.START, stories.END}
    assert len(set(stories.VOCABULARY)) == len(stories.VOCABULARY)
    assert 190 <= len(stories.VOCABULARY) <= 350
    assert stories.encode(stories.VOCABULARY).tolist() == list(range(len(stories.VOCABULARY)))
    assert stories.decode(stories.encode(STORY.split())) == STORY.split()
    assert stories.encode([]).dtype == torch.long


def test_a_story_is_short_enough():
    lengths = [len(words) for words in drawn(5000)]
    assert max(lengths) <= stories.LONGEST
    assert max(lengths) >= stories.LONGEST - 2


def test_rows_are_stories_for_training_one_after_another():
    rows = stories.batch(3, 7, n_rows=20, n_tokens=300)
    assert rows.shape == (20, 300) and rows.dtype == torch.long
    assert torch.equal(rows, stories.batch(3, 7, 20, 300))
    assert not torch.equal(rows, stories.batch(3, 8, 20, 300))
    assert not torch.equal(rows, stories.batch(4, 7, 20, 300))
    for row in rows:
        start, *words = stories.decode(row)
        assert start == stories.START
        story = words[: words.index(stories.END)]
        assert stories.read(story).consistent
        assert not stories.held_out(story)
        assert words[len(story) + 1] == stories.START


def test_validation_and_training_have_no_story_in_common():
    validation = stories.validation(60)
    assert validation[:10] == stories.validation(10)
    assert all(map(stories.held_out, validation))
    assert all(stories.read(words).consistent for words in validation)
    assert len({tuple(words) for words in validation}) == 60
    share = sum(map(stories.held_out, drawn(3000))) / 3000
    assert 0.07 < share < 0.13


def test_the_floor_is_the_exact_loss_of_these_stories():
    texts = drawn(20)
    nats = tokens = 0.0
    for words in texts:
        for place, word in enumerate([*words, stories.END]):
            nats -= math.log(stories.next_words(words[:place])[word])
            tokens += 1
    found = stories.floor(texts)
    assert math.isclose(found.per_token, nats / tokens)
    lines = "".join(stories.text(words) + "\n" for words in texts)
    assert math.isclose(found.per_character, nats / len(lines))


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: stories.encode(["the", "Ball"]), ValueError, "'Ball'.*VOCABULARY"),
        (lambda: stories.encode("the ball"), TypeError, "split"),
        (lambda: stories.text("the ball"), TypeError, "split"),
        (lambda: stories.read("the ball"), TypeError, "split"),
        (lambda: stories.questions("the ball"), TypeError, "split"),
        (lambda: stories.derivation("the ball"), TypeError, "split"),
        (lambda: stories.log_probability("the ball"), TypeError, "split"),
        (lambda: stories.next_words("the ball"), TypeError, "split"),
        (lambda: stories.next_words(["one", "day"]), ValueError, "word 1, 'day'.*'one'.*sunny"),
        (lambda: stories.next_words([*STORY.split(), "the"]), ValueError, "over before word"),
        (lambda: stories.derivation(["two"]), ValueError, "word 0, 'two'.*the start.*one, that"),
        (lambda: stories.derivation(["one"]), ValueError, "too early.*cold.*can follow"),
        (lambda: stories.questions(["one"]), ValueError, "too early.*cold.*can follow"),
        (lambda: stories.decode([0, 999]), ValueError, "999 is not between 0 and"),
        (lambda: stories.floor([]), ValueError, "stories.*empty"),
        (lambda: stories.floor([["the", "ball"]]), ValueError, "stories: number 0"),
        (lambda: stories.batch(0, 0, 4, 0), ValueError, "n_tokens.*0"),
    ],
)
def test_errors_name_what_was_wrong(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("text", ["", "one", "one sunny day", STORY + " .", STORY[4:], "<bos>"])
def test_other_texts_have_probability_zero(text):
    assert stories.log_probability(text.split()) == -math.inf
