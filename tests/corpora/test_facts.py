"""The facts corpus: how often each is told, what it costs not to know it, and that models learn."""

import json
import math
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from course_utils import decoder, projection, scaling, training
from course_utils.corpora import facts

DATA = Path(__file__).parents[2] / "data"
script = SimpleNamespace(**runpy.run_path(str(DATA / "scaling_experiments.py")))
results = json.loads((DATA / "scaling_experiments.json").read_text())

WORLD = facts.world()
RANK_OF = torch.empty(40, 40, 40, dtype=torch.long)
RANK_OF[tuple((WORLD.words - torch.tensor([0, 40, 80])).T)] = torch.arange(facts.N_FACTS)


def slope(function, low: int, high: int) -> float:
    """Exponent of a power law through two of its points."""
    return math.log(function(high) / function(low)) / math.log(high / low)


# --- The world -----------------------------------------------------------------------------------


def test_every_fact_is_there_once():
    assert len({tuple(row) for row in WORLD.words.tolist()}) == facts.N_FACTS == 40**3
    firsts = (0, 40, 80)
    for column, first in zip(WORLD.words.T, firsts, strict=True):
        assert set(column.tolist()) == set(range(first, first + 40))


def test_words_have_numbers_and_are_all_different():
    assert facts.decode(facts.encode(["mia", "kite", "oslo"])) == ["mia", "kite", "oslo"]
    assert len(set(facts.VOCABULARY) | set(facts.COLOURS)) == 120 + 16


def test_the_world_is_always_the_same():
    """The results in data/ are about this one."""
    assert facts.decode(WORLD.words[0]) == ["finn", "bag", "bern"]
    assert facts.COLOURS[WORLD.colours[0]] == "pink"


def test_the_share_of_a_fact_follows_from_its_rank():
    shares = np.arange(1, 64001) ** -1.5
    assert np.allclose(WORLD.shares, shares / shares.sum())


def test_colours_are_dealt_evenly_and_whatever_the_rank():
    counts = torch.bincount(WORLD.colours, minlength=16)
    assert counts.min() > 3800 and counts.max() < 4200
    assert torch.bincount(WORLD.colours[:1600], minlength=16).min() > 60


def test_the_floor_is_the_entropy_of_a_telling():
    p = np.full(16, 0.1 / 16)
    p[3] += 0.9
    assert facts.floor() == pytest.approx(-(p * np.log(p)).sum())
    assert facts.guess() == pytest.approx(-np.log(1 / 16))


def test_whoever_knows_all_or_nothing():
    assert facts.excess_when_known(0) == pytest.approx(facts.guess() - facts.floor())
    assert facts.excess_when_known(facts.N_FACTS) == 0


def test_the_law_in_what_is_known():
    """The derived exponent is that of a world without end: what is behind our last fact lacks."""
    behind = (facts.guess() - facts.floor()) * 2 * 64000**-0.5 / (np.arange(1, 64001) ** -1.5).sum()
    endless = slope(lambda n: facts.excess_when_known(n) + behind, 300, 3000)
    assert endless == pytest.approx(-0.5, abs=0.002)
    assert slope(facts.excess_when_known, 300, 3000) == pytest.approx(-0.58, abs=0.01)


def test_what_was_never_heard():
    """The sum over all facts, against tellings that are drawn."""
    random = np.random.default_rng(0)
    p = WORLD.shares.numpy()
    shares = []
    for _ in range(20):
        heard = np.zeros(facts.N_FACTS, dtype=bool)
        heard[random.choice(facts.N_FACTS, 1000, p=p)] = True
        shares.append(p[~heard].sum())
    assert facts.unheard(1000) == pytest.approx(np.mean(shares), rel=0.03)
    assert facts.unheard(0) == pytest.approx(1)


def test_the_law_in_what_was_heard():
    assert slope(facts.unheard, 100, 1000) == pytest.approx(-1 / 3, abs=0.03)


# --- To train on ---------------------------------------------------------------------------------


def ranks(words: Tensor) -> Tensor:
    """The rank of each fact, from 0."""
    return RANK_OF[tuple((words - torch.tensor([0, 40, 80])).T)]


def test_a_batch_is_decided_by_its_arguments():
    first = facts.batch(0, 0, 64)
    assert all(torch.equal(*pair) for pair in zip(first, facts.batch(0, 0, 64), strict=True))
    assert not torch.equal(first[0], facts.batch(0, 1, 64)[0])
    assert not torch.equal(first[0], facts.batch(1, 0, 64)[0])
    assert not torch.equal(facts.batch(0, 1, 64)[0], facts.batch(1, 0, 64)[0])


def test_only_the_colour_counts():
    words, targets = facts.batch(0, 0, 64)
    assert words.shape == targets.shape == (64, 3)
    assert (targets[:, :2] == -100).all() and (targets[:, 2] >= 0).all()


def test_facts_are_told_as_often_as_they_should():
    told = ranks(facts.batch(0, 0, 200_000)[0])
    counts = torch.bincount(told, minlength=facts.N_FACTS)
    assert torch.allclose(counts[:20] / 200_000, WORLD.shares[:20].float(), rtol=0.1)
    assert (told >= 1000).double().mean() == pytest.approx(
        WORLD.shares[1000:].sum().item(), rel=0.05
    )


def test_one_telling_in_ten_is_a_slip():
    words, targets = facts.batch(0, 0, 200_000)
    wrong = targets[:, 2] != WORLD.colours[ranks(words)]
    assert wrong.double().mean() == pytest.approx(0.1 * 15 / 16, rel=0.03)
    assert torch.bincount(targets[wrong, 2], minlength=16).min() > 0.04 * wrong.sum()


def test_every_band_stands_for_all_facts():
    chosen = facts.every_band(0, 0, 400)[0]
    assert [((chosen >= a) & (chosen < b)).sum() for a, b in pairwise(facts.BANDS)] == [400] * 4
    assert len(set(chosen.tolist())) == len(chosen)
    of_all = torch.arange(facts.N_FACTS) % 7 / WORLD.shares.sqrt()  # anything that is not constant
    drawn = [facts.every_band(0, step, 400) for step in range(400)]
    estimates = [(weights * of_all[chosen]).sum().item() for chosen, weights in drawn]
    assert np.mean(estimates) == pytest.approx((WORLD.shares * of_all).sum().item(), rel=0.02)


def test_a_band_that_is_taken_whole_weighs_its_shares():
    chosen, weights = facts.every_band(0, 0, 500)
    assert torch.equal(chosen[:500].sort().values, torch.arange(500))
    assert torch.allclose(weights[:500], WORLD.shares[chosen[:500]].float())


def test_the_expected_loss_is_the_mean_over_what_may_be_told():
    logits = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    colours = torch.tensor([3, 0, 15, 7, 3])
    p = torch.full((5, 16), 0.1 / 16, dtype=torch.float64)
    p[torch.arange(5), colours] += 0.9
    told = logits.repeat(16, 1), torch.arange(16).repeat_interleave(5)
    losses = nn.functional.cross_entropy(*told, reduction="none").view(16, 5).T
    assert torch.allclose(facts.expected_loss(logits, colours), (p * losses).sum(1))


# --- What a model knows --------------------------------------------------------------------------


class Knower(nn.Module):
    """Knows the first facts as well as they can be known, and nothing of the others."""

    def __init__(self, n_known: int):
        super().__init__()
        self.n_known = n_known

    def forward(self, words: Tensor) -> Tensor:
        rank = ranks(words)
        p = torch.full((len(words), 16), 0.1 / 16, dtype=torch.float64)
        p[torch.arange(len(words)), WORLD.colours[rank]] += 0.9
        p[rank >= self.n_known] = 1 / 16
        return p.log()[:, None].expand(-1, 3, -1)


@pytest.mark.parametrize("n_known", [0, 1, 700, 64000])
def test_a_model_that_knows_the_first_facts(n_known):
    found = facts.examine(Knower(n_known))
    assert found.excess == pytest.approx(facts.excess_when_known(n_known), abs=1e-9)
    assert torch.equal(found.known, (torch.arange(facts.N_FACTS) < n_known).float())


class Guesser(nn.Module):
    """Is sure of the same colour, whatever is asked."""

    def forward(self, words: Tensor) -> Tensor:
        return 9 * nn.functional.one_hot(torch.full(words.shape, 5), 16).float()


def test_bold_guesses_are_no_knowledge():
    found = facts.examine(Guesser())
    assert abs(found.known.sum()) < 0.01 * facts.N_FACTS < (found.known > 0).sum()
    assert found.excess > facts.excess_when_known(0)


def small(d_model: int) -> decoder.GPT:
    torch.manual_seed(0)
    model = decoder.gpt(len(facts.VOCABULARY), d_model, 2, 1, 3)
    model.head = projection.Linear(d_model, len(facts.COLOURS), bias=False)
    training.init_weights(model, 1)
    return model


def after_a_few_steps(d_model: int) -> facts.Knowledge:
    model = small(d_model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for step in range(60):
        training.train_step(model, [facts.batch(0, step, 256)], optimiser, 1.0)
    return facts.examine(model)


def test_models_learn_what_is_told_most():
    before, after = facts.examine(small(16)), after_a_few_steps(16)
    assert before.excess == pytest.approx(facts.excess_when_known(0), rel=0.1)
    assert after.excess < 0.25 * before.excess
    assert after.known[:5].eq(1).all() and after.known[1000:].mean().abs() < 0.02


def test_a_larger_model_learns_more():
    assert after_a_few_steps(16).excess < 0.9 * after_a_few_steps(4).excess


# --- The experiments with them (data/scaling_experiments.py) -------------------------------------


def test_the_script_still_trains():
    larger, smaller = (script.sized(d_model, 0, steps=60, n_rows=50) for d_model in (16, 4))
    assert larger["excess"] < 0.9 * smaller["excess"] < facts.excess_when_known(0)
    assert larger["known"] > smaller["known"]
    assert larger.keys() == results["sizes"][0].keys()


def test_a_budget_is_what_it_says():
    found = script.spent(2e7, 8, 0, steps=4)
    assert found["tellings"] * script.cost(8) == pytest.approx(2e7, rel=0.02)
    assert found.keys() == results["budgets"][0].keys()


def test_its_flops_are_about_six_for_each_parameter_and_token():
    for run in results["budgets"]:
        six = 6 * run["n_without_embedding"] * 3 * run["tellings"]
        assert six == pytest.approx(run["flops"], rel=0.15)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_law_that_it_found_is_straight(seed):
    runs = [run for run in results["sizes"] if run["seed"] == seed]
    n, excess = (torch.tensor([float(run[name]) for run in runs]) for name in ("n", "excess"))
    assert n[-1] / n[0] > 10**1.5
    alpha = scaling.fit_power_law(n, excess)[1]
    assert alpha == pytest.approx(0.5, abs=0.1)
    assert np.corrcoef(n.log(), excess.log())[0, 1] ** 2 > 0.98


def test_every_budget_has_a_valley():
    for flops in {run["flops"] for run in results["budgets"]}:
        runs = [run for run in results["budgets"] if run["flops"] == flops and run["seed"] == 0]
        best = min(range(len(runs)), key=lambda place: runs[place]["excess"])
        assert 0 < best < len(runs) - 1
