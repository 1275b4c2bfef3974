"""Run the experiment of notebook 10 that takes too long for it, and write down what came out.

COURSE_UTILS_PARTS=reference python data/tokenization_experiments.py models

The results go to tokenization_experiments.json beside this script. All models are GPTs with equal
blocks that learn the docstrings of Python's standard library, `corpora.docstrings`.
"""

import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from course_utils import decoder, modern, scaling, tokenization, training
from course_utils.corpora import docstrings
from course_utils.corpora.text import Characters, Text, crops
from course_utils.runs import baselines, kernels, optimisers
from course_utils.runs.experiments import write_down

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (0, 1, 2)
D_MODEL, N_HEADS, N_LAYERS = 96, 4, 2
N_ROWS, N_TOKENS = 8, 128
FLOPS = 8e11  # for each model: a quarter of a minute of one core

Coder = Characters | tokenization.Tokenizer


def coders(text: Text) -> dict[str, Coder]:
    """The tokenizers that are compared. All but the characters have seen the training text only."""
    return {
        "characters": Characters.of(text.training + text.validation),
        "bytes": tokenization.Bytes(),
        "BPE 1,024": tokenization.BPE.train(text.training, 1024),
        "BPE 4,096": tokenization.BPE.train(text.training, 4096),
        "words 4,096": tokenization.Words.train(text.training, 4096),
    }


def left_out(coder: Coder, text: Text) -> float:
    """Nats to spell the words that are [UNK] to a tokenizer of words; 0 for others."""
    if not isinstance(coder, tokenization.Words):
        return 0.0
    known = set(coder.vocabulary)
    unknown = [word for word in tokenization.pretokenize(text.validation) if word not in known]
    rare = [word for word in set(tokenization.pretokenize(text.training)) if word not in known]
    return baselines.spelling(unknown, sorted(rare))


def rows_of(ids: Int[Tensor, " all"]) -> Int[Tensor, "rows tokens+1"]:
    """The text in rows one after the other; the last token of each begins the next."""
    n_rows = (len(ids) - 1) // N_TOKENS
    return ids[: n_rows * N_TOKENS + 1].unfold(0, N_TOKENS + 1, N_TOKENS)


@torch.no_grad()
def loss_on(model: decoder.GPT, ids: Int[Tensor, " all"]) -> float:
    """Nats a token."""
    return training.evaluate(
        model.eval(), [decoder.shift_targets(rows) for rows in rows_of(ids).split(16)]
    )


def trained(name: str, coder: Coder, text: Text, seed: int) -> dict[str, Any]:
    """One model, trained for `FLOPS`, and what it pays for the validation text."""
    read, asked = coder.encode(text.training), coder.encode(text.validation)
    size = len(coder.vocabulary)
    sizes = scaling.Sizes(size, D_MODEL, N_HEADS, N_LAYERS, N_TOKENS)
    a_step = N_ROWS * N_TOKENS * scaling.flops_per_token(sizes, N_TOKENS, training=True)
    steps = round(FLOPS / a_step)
    torch.manual_seed(seed)
    model = modern.modern_gpt(size, D_MODEL, N_HEADS, N_LAYERS)
    optimiser = optimisers.muon_and_adamw(model, muon_lr=0.02, adamw_lr=8e-3)
    started = time.process_time()
    with kernels.fused():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = training.lr_at_step(step, group["peak_lr"], steps // 20, steps)
            rows = crops(read, seed, step, N_ROWS, N_TOKENS + 1)
            training.train_step(model, [decoder.shift_targets(rows)], optimiser, 1.0)
        seconds = time.process_time() - started
        nats = loss_on(model, asked)
    n_bytes = len(text.validation.encode())
    spelled = left_out(coder, text)
    return {
        **{"tokenizer": name, "seed": seed, "vocabulary": size, "steps": steps},
        **{"n": sum(each.numel() for each in model.parameters()), "seconds": round(seconds, 1)},
        **{"tokens": len(asked), "bytes": n_bytes, "nats_a_token": round(nats, 4)},
        "bits_per_byte": round(baselines.bits_per_byte(nats * len(asked) + spelled, n_bytes), 4),
        "without_spelling": round(baselines.bits_per_byte(nats * len(asked), n_bytes), 4),
        "python": platform.python_version(),
    }


def models() -> list[dict[str, Any]]:
    """A model for each tokenizer and seed, all for the same FLOPs."""
    text = docstrings.read()
    made = coders(text)
    return [trained(name, coder, text, seed) for name, coder in made.items() for seed in SEEDS]


EXPERIMENTS = {each.__name__: each for each in (models,)}


if __name__ == "__main__":
    write_down(EXPERIMENTS, RESULTS, sys.argv[1:])
