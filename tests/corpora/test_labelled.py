"""The labelled corpus: labels that are right, splits that do not overlap, rows that fit."""

from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.corpora import labelled, sentences


@pytest.mark.parametrize(
    ("sentence", "text", "answer"),
    [
        ("the car is red", "the car", "one"),
        ("my big old dogs wait outside", "my big old dogs", "many"),
        ("the cars near the old dog are fast", "the cars near the old dog", "many"),
        ("the car near the small dogs moves again", "the car near the small dogs", "one"),
    ],
)
def test_number_asks_for_the_subject_and_hides_the_verb(sentence, text, answer):
    found = labelled.example(sentence.split(), "number")
    assert found.words == tuple(text.split())
    assert labelled.CLASSES["number"][found.label] == answer


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [
        ("the car is red", "red"),
        ("the old car is red", "old"),
        ("the car near the new dog is old", "new"),
        ("the big car moves slowly", "none"),
    ],
)
def test_state_asks_for_the_first_word_of_state(sentence, answer):
    found = labelled.example(sentence.split(), "state")
    assert found.words == tuple(sentence.split())
    assert labelled.CLASSES["state"][found.label] == answer


@given(st.integers())
def test_the_hidden_verb_agrees_with_the_label(seed):
    words = sentences.sample(Random(seed))
    found = labelled.example(words)
    verb = words[len(found.words)]
    one = verb == "is" or verb in sentences.GRAMMAR["IT_ACTS"]
    assert labelled.CLASSES["number"][found.label] == ("one" if one else "many")


@pytest.mark.parametrize("question", labelled.CLASSES)
def test_a_split_is_what_was_asked_for(question):
    training, validation = labelled.split(Random(0), 300, 100, question)
    assert (len(training), len(validation)) == (300, 100)
    texts = [example.words for example in training + validation]
    assert len(set(texts)) == 400, "a text occurs twice"
    assert (training, validation) == labelled.split(Random(0), 300, 100, question)
    assert (training, validation) != labelled.split(Random(1), 300, 100, question)


def test_no_class_is_rare_and_the_bag_of_words_is_not_enough():
    training, _ = labelled.split(Random(0), 3000, 1)
    shares = Counter(example.label for example in training)
    assert min(shares.values()) > 0.45 * len(training)
    answers: dict[frozenset, set[int]] = {}
    for example in training:
        bag = frozenset(Counter(example.words).items())
        answers.setdefault(bag, set()).add(example.label)
    assert any(len(labels) == 2 for labels in answers.values())


def test_every_class_of_state_occurs():
    training, _ = labelled.split(Random(0), 2000, 1, "state")
    assert {example.label for example in training} == set(range(len(labelled.CLASSES["state"])))


def test_words_have_the_same_ids_as_in_the_sentences():
    assert (*sentences.VOCABULARY, labelled.PAD) == labelled.VOCABULARY
    assert len(sentences.VOCABULARY) == labelled.PAD_ID
    words = ["the", "car"]
    assert torch.equal(labelled.encode(words), sentences.encode(words))


def test_rows_are_padded_to_the_longest():
    ids = labelled.pad([["the", "car"], ["the", "old", "car"]])
    assert ids.dtype == torch.long
    assert ids.shape == (2, 3)
    assert ids[0, 2] == labelled.PAD_ID
    assert (ids != labelled.PAD_ID).sum() == 5


def test_batches_hold_every_example_once():
    training, _ = labelled.split(Random(0), 50, 10)
    seen: Counter[tuple] = Counter()
    sizes = []
    for ids, labels in labelled.batches(Random(1), training, 16):
        keep = ids != labelled.PAD_ID
        assert keep.all(dim=0).sum() >= 2, "every text has two words"
        assert keep[:, -1].any(), "no column of padding only"
        sizes.append(len(ids))
        for row, real, label in zip(ids, keep, labels, strict=True):
            words = [labelled.VOCABULARY[index] for index in row[real]]
            seen[(*words, label.item())] += 1
    assert sizes == [16, 16, 16, 2]
    assert seen == Counter((*example.words, example.label) for example in training)


def test_batches_are_shuffled_by_the_seed_alone():
    training, _ = labelled.split(Random(0), 40, 10)
    first, again, other = (
        torch.cat([labels for _, labels in labelled.batches(Random(seed), training, 8)])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labelled.split(Random(0), 0, 5), "n_training must be at least 1, got 0"),
        (lambda: labelled.split(Random(0), 5, -1), "n_validation must be at least 1, got -1"),
        (lambda: labelled.split(Random(0), 5, 5, "colour"), "one of number, state, got 'colour'"),
        (lambda: labelled.example(["the", "car"]), "'the car' can go on"),
        (lambda: labelled.example(["the", "is"]), "'is' cannot follow 'the'"),
        (lambda: labelled.pad([["the", "Car"]]), "'Car' is not one of"),
        (lambda: labelled.pad([]), "at least one text"),
        (lambda: labelled.pad([["the"], []]), "every text at least one word"),
        (lambda: list(labelled.batches(Random(0), [], 0)), "size must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_with_a_clear_message(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_it_says_when_there_are_not_enough_texts(monkeypatch):
    monkeypatch.setattr(labelled, "_MOST_DRAWS", 1)
    with pytest.raises(ValueError, match=r"1000 different texts are wanted.*ask for fewer"):
        labelled.split(Random(0), 900, 100)
