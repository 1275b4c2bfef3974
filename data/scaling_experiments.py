"""Run the experiments of notebook 09 about scaling laws, and write down what came out.

python data/scaling_experiments.py           all of them, about ten minutes on two cores
python data/scaling_experiments.py sizes     only those that are named

The results go to scaling_experiments.json beside this script. All models are GPTs of one block that
learn `corpora.facts`.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_utils import decoder, projection, scaling, training
from course_utils.corpora import facts
from course_utils.runs import optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1)
WIDTHS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((8, 12, 16, 20, 32), (0, 1, 2)),
    **dict.fromkeys((56, 92), SEEDS),
}  # and seeds
EDGES = (0, *(round(10 ** (tenths / 5)) for tenths in range(5, 25)), facts.N_FACTS)

# --- Runs ----------------------------------------------------------------------------------------


def gpt(d_model: int, seed: int) -> decoder.GPT:
    """One block that reads three words, with heads of width 4, and a head for the colours alone."""
    torch.manual_seed(seed)
    model = decoder.gpt(len(facts.VOCABULARY), d_model, d_model // 4, 1, 3)
    model.head = projection.Linear(d_model, len(facts.COLOURS), bias=False)
    training.init_weights(model, 1)
    return model


def cost(d_model: int) -> int:
    """FLOPs of one telling in training: three tokens."""
    sizes = scaling.Sizes(len(facts.COLOURS), d_model, d_model // 4, 1, 3)
    return 3 * scaling.flops_per_token(sizes, 3, training=True)


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    """Muon for matrices, AdamW for the rest: on facts it keeps more than AdamW alone."""
    return optimisers.muon_and_adamw(model, muon_lr=0.04, adamw_lr=0.02)


def set_rate(optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Warm-up for a twentieth of the run, then a cosine down to 0."""
    for group in optimiser.param_groups:
        group["lr"] = training.lr_at_step(step, group["peak_lr"], steps // 20, steps)


def parameters(model: nn.Module) -> dict[str, int]:
    """How many there are, and how many without the tables of words and places."""
    n = sum(each.numel() for each in model.parameters())
    tables = sum(each.numel() for each in model.embed.parameters())  # type: ignore[union-attr, misc]
    return {"n": n, "n_without_embedding": n - tables}


# --- The experiments -----------------------------------------------------------------------------


def sizes() -> list[dict[str, Any]]:
    """Seven sizes, each trained as long as the others, on facts of every rank in every step.

    Every core of the machine trains one at a time, the largest first.
    """
    runs = [(d_model, seed) for d_model, seeds in WIDTHS.items() for seed in seeds][::-1]
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return list(pool.map(sized, *zip(*runs, strict=True)))[::-1]


def longer() -> list[dict[str, Any]]:
    """The smallest and the largest, both ends of the line, with twice the steps."""
    return [sized(d_model, seed=0, steps=1600) for d_model in (8, 92)]


def sized(d_model: int, seed: int, steps: int = 800, n_rows: int = 500) -> dict[str, Any]:
    """Train one size on facts of all ranks.

    `by_rank` is the share known between two `EDGES`, `losses` what is above the floor, as means of
    40 steps each.
    """
    model = gpt(d_model, seed)
    optimiser = optimiser_of(model)
    words, colours, _ = facts.world()
    losses = []
    started = time.process_time()
    for step in range(steps):
        set_rate(optimiser, step, steps)
        ranks, weights = facts.every_band(seed, step, n_rows)
        logits = model(words[ranks])[:, -1]
        loss = (weights * facts.expected_loss(logits, colours[ranks])).sum()
        optimiser.zero_grad()
        loss.backward()
        training.clip_gradients(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item() - facts.floor() * weights.sum().item())
    seconds = round(time.process_time() - started, 1)
    excess, known = facts.examine(model)
    return {
        **{"d_model": d_model, "seed": seed, **parameters(model), "seconds": seconds},
        **{"excess": round(excess, 5), "known": round(known.sum().item())},
        "by_rank": [round(known[low:high].mean().item(), 3) for low, high in pairwise(EDGES)],
        "losses": [round(sum(losses[at : at + 40]) / 40, 4) for at in range(0, steps, 40)],
    }


def budgets() -> list[dict[str, Any]]:
    """The same FLOPs for small models that hear much, and for large ones that hear little."""
    plan = {
        2.5e9: (4, 8, 12, 16, 24),
        1e10: (8, 12, 16, 24, 36),
        4e10: (12, 16, 24, 32, 48),
        1.6e11: (16, 24, 32, 44, 64),
    }
    return [
        spent(flops, d_model, seed)
        for flops, widths in plan.items()
        for d_model in widths
        for seed in SEEDS
    ]


def spent(flops: float, d_model: int, seed: int, steps: int = 500) -> dict[str, Any]:
    """Spend a budget on tellings, each heard once, in always as many steps."""
    model = gpt(d_model, seed)
    optimiser = optimiser_of(model)
    n_rows = round(flops / cost(d_model) / steps)
    started = time.process_time()
    for step in range(steps):
        set_rate(optimiser, step, steps)
        training.train_step(model, [facts.batch(seed, step, n_rows)], optimiser, 1.0)
    seconds = round(time.process_time() - started, 1)
    return {
        **{"flops": flops, "tellings": steps * n_rows, "d_model": d_model, "seed": seed},
        **{**parameters(model), "seconds": seconds},
        "excess": round(facts.examine(model).excess, 5),
    }


EXPERIMENTS = {each.__name__: each for each in (sizes, longer, budgets)}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
