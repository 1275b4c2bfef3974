"""The model that talks like the village: near the floor, and it shows what samplers do."""

from functools import partial
from random import Random

import pytest
import torch

from course_utils import sampling
from course_utils.corpora import village
from course_utils.families import pretrained

N_PROMPT, N_NEW, N_TEXTS = 24, 80, 60


@pytest.fixture(scope="module")
def model():
    return pretrained.village_model()


@pytest.fixture(scope="module")
def prompts() -> torch.Tensor:
    random = Random("prompts")
    words = [village.sample(random)[:N_PROMPT] for _ in range(N_TEXTS)]
    return torch.stack([village.encode([village.START, *each]) for each in words])


def written(model, prompts, *filters, penalty=None) -> list[list[str]]:
    """Texts, prompts included."""
    choose = sampling.sampler(*filters, penalty=penalty, generator=torch.Generator().manual_seed(0))
    ids = sampling.generate(model, prompts, N_NEW, choose)
    return [village.decode(row)[1:] for row in ids]


def repetition(texts: list[list[str]]) -> float:
    """Share of the new 4-grams that were there before in the same text."""
    shares = []
    for words in texts:
        new = words[N_PROMPT:]
        grams = [tuple(new[place : place + 4]) for place in range(len(new) - 3)]
        shares.append(1 - len(set(grams)) / len(grams))
    return sum(shares) / len(shares)


def broken(texts: list[list[str]]) -> float:
    """Share of the sentences that the village cannot say, those of the prompts left out."""
    found = []
    for words in texts:
        n_before = sum(word in village.STOPS for word in words[:N_PROMPT])
        found += village.broken(words)[n_before:]
    return sum(found) / len(found)


def at(temperature: float):
    return partial(sampling.apply_temperature, temperature=temperature)


@torch.no_grad()
def test_its_loss_is_near_the_floor(model):
    texts = village.validation(60)
    total, n_tokens = 0.0, 0
    for words in texts:
        targets = village.encode([*words, village.END])
        logits = model(village.encode([village.START, *words])[None])[0]
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        n_tokens += len(targets)
    floor = village.floor(texts).per_token
    assert floor < total / n_tokens < 1.2 * floor


def test_what_is_best_at_every_step_goes_in_circles_in_the_source_as_well(model, prompts):
    cached = sampling.CachedModel(model, 128)
    best = written(cached, prompts, at(0))
    drawn = written(cached, prompts)
    exact = village.Source()
    assert repetition(best) > 0.7 and repetition(written(exact, prompts, at(0))) > 0.85
    assert repetition(drawn) < 0.08 and repetition(written(exact, prompts)) < 0.08
    assert broken(best) < 0.04 < 0.08 < broken(drawn)
    assert broken(written(exact, prompts)) == 0
    assert repetition(written(cached, prompts, at(0.5))) > 0.2


def test_a_penalty_helps_and_harms(model, prompts):
    cached = sampling.CachedModel(model, 128)
    best = {
        size: written(cached, prompts, at(0), penalty=partial(sampling.penalise, repetition=size))
        for size in (1.0, 1.2, 1.5, 2.0)
    }
    assert repetition(best[1.2]) < 0.75 * repetition(best[1.0])
    assert repetition(best[1.5]) < 0.03
    assert broken(best[2.0]) > 2 * broken(best[1.2])
