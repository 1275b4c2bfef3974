"""Run the experiments of notebook 05 that take too long for it, and write down what came out.

python data/encoder_experiments.py          all of them, about 25 minutes
python data/encoder_experiments.py minilm   only those that are named

The results go to encoder_experiments.json beside this script.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import encoder, families, positions, projection
from course_utils.corpora import labelled
from course_utils.runs.experiments import Experiment, write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
RATES = (3e-3, 3e-4, 1e-4, 3e-5)
KINDS = ("pre-norm", "post-norm", "no residual")
CONTROL_RATES = (3e-4, 3e-5)
N_BLOCKS, D_MODEL, MOST_STEPS, GOAL = 12, 48, 1000, 0.95
COIN, PATIENCE = 0.6, 20  # a run gives up when so many measurements in a row are below
QUESTIONS = (
    "The car is red.",
    "The automobile has a red colour.",
    "My old dog waits outside.",
    "A hound is sitting in front of the house.",
)


class NoResidual(encoder.TransformerBlock):
    """A block whose parts replace the stream instead of adding to it."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.attention(self.norm1(x), mask=mask)
        return self.feed_forward(self.norm2(x))


class SeesItselfOnly(nn.Module):
    """Attention in which every token looks at nothing but itself, whatever the mask."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attention(x, mask=torch.eye(x.shape[1], dtype=torch.bool))


def blocks(kind: str) -> Iterator[encoder.TransformerBlock]:
    """Twelve blocks of a kind."""
    for _ in range(N_BLOCKS):
        block = encoder.block(D_MODEL, 4, norm_first=kind != "post-norm")
        if "sees itself only" in kind:
            block.attention = SeesItselfOnly(block.attention)
        if "no residual" in kind:
            block = NoResidual(block.attention, block.feed_forward, block.norm1, block.norm2)
        yield block


def classifier(kind: str, seed: int) -> encoder.Classifier:
    """A reader of twelve blocks that says whether a subject is one or many."""
    torch.manual_seed(seed)
    table = projection.Embedding(len(labelled.VOCABULARY), D_MODEL)
    embed = positions.InputEmbedding(table, positions.LearnedPositions(16, D_MODEL))
    norm = nn.Identity() if kind == "post-norm" else encoder.LayerNorm(D_MODEL)
    reader = encoder.Encoder(embed, blocks(kind), norm)
    return encoder.Classifier(reader, D_MODEL, n_classes=2, pad_id=labelled.PAD_ID)


def depth(seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
    """Twelve blocks, three kinds, the same rates: steps until 95 % of unseen texts are right."""
    return [reach_the_goal(kind, rate, seed) for seed in seeds for kind in KINDS for rate in RATES]


def itself_only(seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
    """The control: no token looks at another, so words stay apart, without residual and with it."""
    kinds = ("pre-norm, sees itself only", "no residual, sees itself only")
    return [
        reach_the_goal(kind, rate, seed)
        for seed in seeds
        for kind in kinds
        for rate in CONTROL_RATES
    ]


def reach_the_goal(kind: str, rate: float, seed: int) -> dict[str, Any]:
    """One run with Adam, to the goal, or else to 1000 steps or 500 in a row at the coin.

    `steps` is None where the goal was not reached.
    """
    training, validation = labelled.split(Random(0), 2000, 500)
    ids, labels = labelled.tensors(validation)
    model, random = classifier(kind, seed), Random(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    accuracies: list[float] = []
    batches: Iterator[tuple[Tensor, Tensor]] = iter(())
    for step in range(1, MOST_STEPS + 1):
        given = next(batches, None)
        if given is None:
            batches = labelled.batches(random, training, 32)
            given = next(batches)
        loss = F.cross_entropy(model(given[0]), given[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            with torch.no_grad():
                right = (model(ids).argmax(dim=-1) == labels).float().mean().item()
            accuracies.append(round(right, 3))
            last = accuracies[-PATIENCE:]
            if right >= GOAL or (len(last) == PATIENCE and max(last) < COIN):
                break
    reached = step if accuracies[-1] >= GOAL else None
    run = {"kind": kind, "rate": rate, "seed": seed, "steps": reached, "accuracies": accuracies}
    print(run, flush=True)
    return run


def minilm() -> list[dict[str, Any]]:
    """Cosines of four sentences with each other, by MiniLM, whose package must be installed."""
    with torch.no_grad():
        vectors = families.minilm()(QUESTIONS)
    return [
        {"sentence": sentence, "cosines": [round(cosine, 2) for cosine in row]}
        for sentence, row in zip(QUESTIONS, (vectors @ vectors.T).tolist(), strict=True)
    ]


EXPERIMENTS: dict[str, Experiment] = {
    "depth": depth,
    "itself_only": itself_only,
    "minilm": minilm,
}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
