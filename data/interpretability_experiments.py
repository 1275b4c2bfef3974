"""What notebook 11 has no time for: the story-teller from other first weights, and its circuit.

    .venv/bin/python data/interpretability_experiments.py [seeds] [growing]

runs them, or the named ones, and writes `interpretability_experiments.json` beside this script.
"""

import runpy
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from course_utils import attention, decoder, interpretability, modern, positions
from course_utils.corpora import stories, story_forms
from course_utils.families import pretrained
from course_utils.projection import Embedding, Linear
from course_utils.runs import kernels, loop, optimisers
from course_utils.runs.experiments import write_down

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "interpretability_experiments.json"
FORMS = {"place": story_forms.WHERE, "colour": story_forms.COLOUR}
HEADS = [(layer, head) for layer in range(2) for head in range(2)]
SUBSETS = [set_ for size in range(5) for set_ in combinations(HEADS, size)]


def teller(seed: int) -> decoder.GPT:
    """The shipped story-teller for seed 0, else the same recipe from other first weights."""
    if seed == 0:
        return pretrained.stories_model()
    script = runpy.run_path(str(FOLDER / "train_stories_model.py"))
    script["batches"].__globals__["SEED"] = seed  # of the weights, and of what is told
    model = script["new_model"]()
    plan = loop.Schedule(steps=2400, warmup=48, seed=seed)
    with kernels.fused():
        loop.train(model, optimisers.muon_and_adamw(model), script["batches"], plan)
    return model.eval()


def drawn(seed: int, n_rows: int) -> list[dict[str, str]]:
    """Stories that ask for the thing that was moved, or for the other one."""
    random = Random(seed)
    rows = [story_forms.draw(random) for _ in range(n_rows)]
    return [row | {"asked": random.choice([row["ball"], row["kite"]])} for row in rows]


def told(form: str, rows: Sequence[dict[str, str]]) -> Int[Tensor, "batch tokens"]:
    """The stories as ids, up to the word before the answer."""
    return torch.stack([stories.encode([stories.START, *story_forms.fill(form, r)]) for r in rows])


def circuit(model: decoder.GPT, seed: int, n_rows: int = 100) -> list[dict[str, Any]]:
    """Right answers with each set of heads, the others at their mean over other stories."""
    found = []
    for kind, form in FORMS.items():
        rows, others = drawn(0, n_rows), told(form, drawn(99, n_rows))
        means = [heads.mean((0, 1)) for heads in interpretability.head_outputs(model, others)]
        ids = told(form, rows)
        answers = stories.encode([story_forms.answer(form, row) for row in rows])
        for kept in SUBSETS:
            with ExitStack() as until, torch.no_grad():
                for layer, head in set(HEADS) - set(kept):
                    mean = means[layer][head]
                    until.enter_context(interpretability.ablate_head(model, layer, head, mean))
                right = (model(ids)[:, -1].argmax(-1) == answers).double().mean().item()
            names = [f"{layer}.{head}" for layer, head in kept]
            found.append({"seed": seed, "kind": kind, "kept": names, "right": round(right, 3)})
    return found


def seeds() -> list[dict[str, Any]]:
    """The circuits of three story-tellers."""
    return [row for seed in range(3) for row in circuit(teller(seed), seed)]


# --- Heads that grow: as in section 11 of the notebook -------------------------------------------


class AttentionOnly(nn.Module):
    """A block without a feed-forward net."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm = modern.RMSNorm(d_model)
        self.attention = positions.RotaryAttention(d_model, n_heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.attention(self.norm(x), mask=mask)


WORDS, PERIOD, LENGTH = 50, 20, 48


def repeating(n_rows: int, period: int, generator: torch.Generator) -> Int[Tensor, "batch tokens"]:
    """Random tokens that repeat themselves after `period`."""
    once = torch.randint(WORDS, (n_rows, period), generator=generator)
    return once.repeat(1, LENGTH // period + 1)[:, :LENGTH]


def loss_of(model: nn.Module, rows: Int[Tensor, "batch tokens"], period: int) -> Tensor:
    """Nats a token, from the second time on."""
    logits = model(rows[:, :-1])[:, period:]
    return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, period + 1 :].flatten())


def grow(n_layers: int, seed: int, periods: Sequence[int], steps: int = 240) -> list[dict]:
    """Train, and look every 20 steps: loss, best previous-token and best induction score."""
    torch.manual_seed(seed)
    blocks = [AttentionOnly(64, 2) for _ in range(n_layers)]
    head = Linear(64, WORDS, bias=False)
    model = decoder.GPT(Embedding(WORDS, 64), blocks, modern.RMSNorm(64), head)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    generator, random = torch.Generator().manual_seed(seed), Random(seed)
    test, log = repeating(32, PERIOD, torch.Generator().manual_seed(99)), []
    for step in range(steps + 1):
        if step % 20 == 0:
            with torch.no_grad(), attention.record() as maps:
                loss = loss_of(model, test, PERIOD).item()
            before = max(interpretability.head_scores(m)["previous"].max() for m in maps.values())
            copy = max(interpretability.induction_score(m, PERIOD).max() for m in maps.values())
            scores = {"previous": before.item(), "induction": copy.item()}
            log.append({"step": step, "loss": loss, **scores})
        period = random.choice(periods)
        optimiser.zero_grad()
        loss_of(model, repeating(32, period, generator), period).backward()
        optimiser.step()
    return log


def growing() -> list[dict[str, Any]]:
    """One layer and two, three seeds, the period varied; and one layer that always has 20."""
    varied: Sequence[int] = range(10, 30)
    plan = [(n_layers, seed, varied) for n_layers in (1, 2) for seed in range(3)]
    plan += [(1, seed, [PERIOD]) for seed in range(3)]
    return [
        {"n_layers": n_layers, "seed": seed, "varied": len(periods) > 1, **grow(*each)[-1]}
        for each in plan
        for n_layers, seed, periods in [each]
    ]


EXPERIMENTS = {each.__name__: each for each in (seeds, growing)}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
