"""Run the experiments of notebook 09 on shape and "emergence", and write down what came out.

python data/shape_experiments.py           all of them, about eight minutes
python data/shape_experiments.py heads     only those that are named

The results go to shape_experiments.json beside this script. All train GPTs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_utils import decoder, training
from course_utils.corpora import stories
from course_utils.runs import kernels, optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
CONTEXT = stories.LONGEST + 1  # the longest story, and the token before or behind it

# --- Runs ----------------------------------------------------------------------------------------


def run(
    model: nn.Module,
    optimiser: Optimizer,
    batches: Callable[[int], training.Batch],
    steps: int,
    watch: Callable[[int], None] = lambda step: None,
) -> float:
    """Train; the learning rate rises, stays, and falls to 0. Returns seconds of the processor."""
    started = time.process_time()
    for step in range(steps):
        share = min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.5 * steps))
        for group in optimiser.param_groups:
            group["lr"] = share * group["peak_lr"]
        training.train_step(model, [batches(step)], optimiser, 1.0)
        watch(step)
    return round(time.process_time() - started, 1)


def sizes_of(model: decoder.GPT) -> dict[str, int]:
    """How many numbers the model learns, and how many of them are in its blocks."""
    n_blocks = sum(each.numel() for each in model.blocks.parameters())
    n = sum(each.numel() for each in model.parameters())
    return {"n": n, "n_without_embedding": n_blocks}


# --- Shapes --------------------------------------------------------------------------------------


def story_batch(seed: int, step: int) -> training.Batch:
    """Eight rows. That a row goes on with another story is not asked for."""
    inputs, targets = decoder.shift_targets(stories.batch(seed, step, 8, CONTEXT + 1))
    return inputs, targets.masked_fill(targets == stories.VOCABULARY.index(stories.START), -100)


def story_rows(texts: list[list[str]]) -> training.Batch:
    """Whole stories; what is behind their end does not count."""
    rows = [stories.encode([stories.START, *words, stories.END]) for words in texts]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    inputs, targets = decoder.shift_targets(ids)
    return inputs.clamp_min(0), targets


def shapes() -> list[dict[str, Any]]:
    """About 60,000 parameters in one block or in two, four, eight; at the better of two rates."""
    found = []
    for n_layers, d_model in ((1, 52), (2, 40), (4, 30), (8, 22)):
        for seed in SEEDS:
            tries = [of_shape(n_layers, d_model, share, seed) for share in (2.0, 4.0)]
            found.append(min(tries, key=lambda each: each["excess"]))
    return found


def of_shape(n_layers: int, d_model: int, share: float, seed: int) -> dict[str, Any]:
    """A GPT of GPT-2's parts that reads stories; its rates are a share of the usual ones."""
    held_out = stories.validation(100)
    torch.manual_seed(seed)
    model = decoder.gpt(len(stories.VOCABULARY), d_model, 2, n_layers, CONTEXT)
    training.init_weights(model, n_layers)
    optimiser = optimisers.muon_and_adamw(model, 0.02 * share, 8e-3 * share)
    seconds = run(model, optimiser, lambda step: story_batch(seed, step), steps=300)
    excess = training.evaluate(model, [story_rows(held_out)]) - stories.floor(held_out).per_token
    shape = {"n_layers": n_layers, "d_model": d_model, "seed": seed, "share": share}
    return shape | sizes_of(model) | {"excess": round(excess, 4), "seconds": seconds}


# --- Heads ---------------------------------------------------------------------------------------

N_PLAYERS, N_CARDS, MOVES = 8, 4, 32


def game(n_games: int, random: torch.Generator) -> training.Batch:
    """Players at a round table play cards. After each move: what did the next two play last?

    A token is a player and a card. An answer is two cards, and counts once both have played.
    """
    player = torch.randint(N_PLAYERS, (n_games, MOVES), generator=random)
    card = torch.randint(N_CARDS, (n_games, MOVES), generator=random)
    moves = torch.arange(MOVES).expand(n_games, MOVES)
    last = torch.stack(
        [torch.where(player == each, moves, -1).cummax(1).values for each in range(N_PLAYERS)], -1
    )  # [games, moves, players]: when each of them has played last
    first, second = (
        last.gather(-1, ((player + away) % N_PLAYERS)[..., None])[..., 0] for away in (1, 2)
    )
    answer = card.gather(1, first.clamp_min(0)) * N_CARDS + card.gather(1, second.clamp_min(0))
    return player * N_CARDS + card, answer.masked_fill((first < 0) | (second < 0), -100)


def heads() -> list[dict[str, Any]]:
    """One block of width 64 with 1 to 64 heads on the game: loss on the way, and seconds."""
    return [of_heads(n_heads, seed) for n_heads in (1, 2, 4, 8, 16, 32, 64) for seed in SEEDS]


def one_head() -> list[dict[str, Any]]:
    """One head at other rates, and for five times as long: is it badly tuned, unable or slow?"""
    rates = [of_heads(1, seed, share=share) for share in (0.5, 2.0, 4.0) for seed in SEEDS]
    return rates + [of_heads(1, seed, steps=1500) for seed in SEEDS]


def of_heads(n_heads: int, seed: int, steps: int = 300, share: float = 1.0) -> dict[str, Any]:
    """One block with so many heads; its loss on 500 games after a quarter, half, all steps."""
    held_out = game(500, torch.Generator().manual_seed(1000))
    torch.manual_seed(seed)
    model = decoder.gpt(N_PLAYERS * N_CARDS, 64, n_heads, 1, MOVES)
    training.init_weights(model, 1)
    random, losses = torch.Generator().manual_seed(seed), {}

    def watch(step: int) -> None:
        if step + 1 in (steps // 4, steps // 2, steps):
            losses[step + 1] = round(training.evaluate(model, [held_out]), 4)

    optimiser = optimisers.muon_and_adamw(model, 0.02 * share, 4e-3 * share)
    seconds = run(model, optimiser, lambda step: game(16, random), steps, watch)
    shape = {"n_heads": n_heads, "seed": seed, "steps": steps, "share": share}
    return shape | sizes_of(model) | {"losses": losses, "seconds": seconds}


# --- Addition ------------------------------------------------------------------------------------

PLUS, EQUALS = 10, 11  # after the ten digits


def digits_of(numbers: Tensor, n_digits: int) -> Tensor:
    """Digits of each number, the highest first."""
    return torch.stack([numbers // 10**place % 10 for place in reversed(range(n_digits))], -1)


def sums(n_sums: int, random: torch.Generator) -> training.Batch:
    """Rows such as 345+678=1023. Only the four digits of the answer are asked for."""
    a, b = torch.randint(1000, (2, n_sums), generator=random)
    signs = torch.tensor([[PLUS], [EQUALS]]).expand(2, n_sums)[..., None]
    row = [digits_of(a, 3), signs[0], digits_of(b, 3), signs[1], digits_of(a + b, 4)]
    inputs, targets = decoder.shift_targets(torch.cat(row, -1))
    return inputs, targets.index_fill(1, torch.arange(7), -100)


@torch.no_grad()
def graded(model: nn.Module, exam: training.Batch) -> dict[str, Any]:
    """Share of sums with each digit right, with all four, of tens of sums all right; the loss."""
    inputs, targets = exam
    right = model(inputs)[:, 7:].argmax(-1) == targets[:, 7:]
    every = right.all(1)
    return {
        "digits": [round(share, 4) for share in right.float().mean(0).tolist()],
        "exact": round(every.float().mean().item(), 4),
        "ten": round(every.view(-1, 10).all(1).float().mean().item(), 4),
        "loss": round(training.evaluate(model, [exam]), 4),
    }


def adder(d_model: int, seed: int, steps: int, every: int) -> dict[str, Any]:
    """A GPT with two blocks that learns to add; its grades on 2,000 other sums."""
    exam = sums(2000, torch.Generator().manual_seed(1000))
    torch.manual_seed(seed)
    model = decoder.gpt(12, d_model, 4, 2, 11)
    training.init_weights(model, 2)
    random, grades = torch.Generator().manual_seed(seed), {}

    def watch(step: int) -> None:
        if (step + 1) % every == 0:
            grades[step + 1] = graded(model, exam)

    optimiser = optimisers.muon_and_adamw(model, 0.02, 4e-3)
    seconds = run(model, optimiser, lambda step: sums(64, random), steps, watch)
    shape = {"d_model": d_model, "seed": seed, "steps": steps}
    return shape | sizes_of(model) | {"seconds": seconds, "grades": grades}


def addition() -> list[dict[str, Any]]:
    """One model that learns to add, watched every ten steps."""
    return [adder(64, seed, 300, every=10) for seed in (0, 1, 2)]


def addition_sizes() -> list[dict[str, Any]]:
    """Six sizes that learn to add, the two smallest also for five times as long; last grades."""
    plans = [(width, 300) for width in (8, 16, 20, 24, 32, 48)] + [(16, 1500), (8, 1500)]
    return [adder(width, seed, steps, every=steps) for width, steps in plans for seed in (0, 1, 2)]


EXPERIMENTS = {
    "shapes": shapes,
    "heads": heads,
    "one_head": one_head,
    "addition": addition,
    "addition_sizes": addition_sizes,
}


if __name__ == "__main__":
    with kernels.fused():
        write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
