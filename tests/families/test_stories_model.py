"""The model that tells stories: close to the floor, and it looks where the answer was told."""

from collections import defaultdict

import pytest
import torch
from torch import Tensor

from course_utils import attention, sampling
from course_utils.corpora import choices, stories, story_grammar
from course_utils.families import pretrained

UNSEEN = stories.validation(60)


@pytest.fixture(scope="module")
def model():
    return pretrained.stories_model()


@torch.no_grad()
def logits(model, words: list[str]) -> Tensor:
    """What the model expects after <bos> and after every word."""
    return model(stories.encode([stories.START, *words])[None])[0]


def test_its_loss_is_close_to_the_floor(model):
    total, n_tokens = 0.0, 0
    for words in UNSEEN:
        targets = stories.encode([*words, stories.END])
        loss = torch.nn.functional.cross_entropy(logits(model, words), targets)
        total, n_tokens = total + loss.item() * len(targets), n_tokens + len(targets)
    floor = stories.floor(UNSEEN).per_token
    assert floor < total / n_tokens < 1.05 * floor


@pytest.mark.parametrize("kind", ["place", "colour"])
def test_it_answers_where_guessing_does_not_help(model, kind: str):
    right, guesses, looks = [], [], defaultdict(list)
    for words in UNSEEN:
        with attention.record() as maps:
            expected = logits(model, words).argmax(-1)
        for question in stories.questions(words):
            if question.kind == kind:
                here = len(question.words)  # <bos> is token 0
                right.append(stories.VOCABULARY[expected[here]] == question.answer)
                guesses.append(1 / len(question.candidates))
                for name, weights in maps.items():
                    for head, row in enumerate(weights[0, :, here]):
                        looks[name, head].append(row.argmax().item() == 1 + question.source)
    assert sum(guesses) / len(guesses) <= 0.5
    assert sum(right) / len(right) >= 0.95
    assert max(sum(hits) for hits in looks.values()) >= 0.8 * len(right)


class Kept(choices.Parser):
    """Notes for every choice that is bound by a fact whether the model's best word keeps it."""

    def __init__(self, words: list[str], expected: list[str]):
        super().__init__(words)
        self.expected = expected
        self.kept: list[tuple[str, bool]] = []

    def fact(self, kind, right, others):
        best = self.expected[self.n_words]
        said = super().fact(kind, right, others)
        if len(right.probability) < len(others.probability):
            self.kept.append((kind, best in {text.split()[0] for text in right.probability}))
        return said


def test_it_keeps_the_facts(model):
    kept = defaultdict(list)
    for words in UNSEEN:
        reader = Kept(words, stories.decode(logits(model, words).argmax(-1)))
        story_grammar.tell(reader)
        for kind, is_kept in reader.kept:
            kept[kind].append(is_kept)
    for kind in ("agreement", "pronoun", "colour", "place", "thing", "question"):
        assert sum(kept[kind]) / len(kept[kind]) >= 0.99, kind


def test_its_sentences_are_grammatical(model):
    start = torch.full((40, 1), stories.VOCABULARY.index(stories.START))
    draw = sampling.sampler(generator=torch.Generator().manual_seed(0))
    cached = sampling.CachedModel(model, stories.LONGEST + 2)
    readings = []
    for row in sampling.generate(cached, start, stories.LONGEST + 1, draw):
        told = stories.decode(row[1:])
        end = told.index(stories.END) if stories.END in told else len(told)
        readings.append(stories.read(told[:end]))
    grammatical = sum(reading.n_grammatical for reading in readings)
    assert grammatical / sum(reading.n_sentences for reading in readings) >= 0.95
