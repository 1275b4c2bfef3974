"""How soon the `tiny` preset learns what a usual GPT-2 learns, and what it learns in equal time.

python benchmarks/training.py [--seeds 3] [--text FILE]
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from pydoc_data import topics
from typing import Any

import plain_gpt2
import torch
import transformers
from torch import Tensor, nn

from course_utils import decoder, training
from course_utils.corpora import text
from course_utils.runs import baselines, building, kernels, loop, optimisers, presets, sources

PLAIN, HUGGING_FACE = "GPT-2 in plain torch", "Hugging Face's GPT-2"
# The preset's run for the plain model's loss, and the one for its time. What is read many times can
# be learned by heart, so in the long run two n-grams in three are not found.
SHORT: dict[str, Any] = {"steps": 220, "drop": 0.0}
LONG: dict[str, Any] = {"steps": 3600, "drop": 0.65}
ROUNDS, STEPS_A_ROUND = 9, 10  # of the comparison of single steps


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--text", help="a text file, in place of Python's own documentation")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(chosen.text or Path(folder, "topics.txt"))
        if not chosen.text:
            path.write_text("\n\n".join(topics.topics.values()), encoding="utf-8")
        corpus = sources.TextFile.open(path)
        print_steps(corpus)
        print_runs(corpus, text.read(path), chosen.seeds)


# --- One step ------------------------------------------------------------------------------------


def print_steps(corpus: sources.TextFile) -> None:
    """Processor time of a step, the models taking turns."""
    batch = corpus.batch(0, 0, plain_gpt2.BATCH, plain_gpt2.CONTEXT)
    vocabulary = len(corpus.vocabulary)
    ours = our_step(vocabulary, batch)
    steps = {
        PLAIN: (plain_step(plain_gpt2.PlainGPT2(vocabulary), batch), False),
        HUGGING_FACE: (plain_step(HuggingFace(vocabulary), batch), False),
        "`decoder.gpt`, explicit parts": (ours, False),
        "`decoder.gpt`, fused kernels": (ours, True),
        "preset `tiny`": (preset_step(corpus), True),
    }
    rounds = [{name: seconds(*each) for name, each in steps.items()} for _ in range(ROUNDS)]
    print("| one step | ms | times the first |\n| --- | --- | --- |")
    for name in steps:
        ms = statistics.median(each[name] for each in rounds) / STEPS_A_ROUND * 1000
        ratio = statistics.median(each[name] / each[PLAIN] for each in rounds)
        print(f"| {name} | {ms:.1f} | {ratio:.2f} |")


def seconds(step: Callable[[], object], fused: bool) -> float:
    """Processor time of some steps, after one that warms up."""
    with kernels.fused() if fused else nullcontext():
        step()
        start = time.process_time()
        for _ in range(STEPS_A_ROUND):
            step()
        return time.process_time() - start


def plain_step(model: nn.Module, batch: training.Batch) -> Callable[[], object]:
    """A step as it is usually written."""
    return partial(plain_gpt2.step, model, plain_gpt2.adamw(model), *batch)


def our_step(vocabulary: int, batch: training.Batch) -> Callable[[], object]:
    """A step of the course's GPT with the same dimensions."""
    model = decoder.gpt(
        vocabulary, plain_gpt2.WIDTH, plain_gpt2.HEADS, plain_gpt2.LAYERS, plain_gpt2.CONTEXT
    )
    optimiser = optimisers.AdamW(model.parameters(), plain_gpt2.PEAK, weight_decay=0.1)
    return partial(training.train_step, model, [batch], optimiser, 1.0)


def preset_step(corpus: sources.TextFile) -> Callable[[], object]:
    """A step of the preset, with its own model, optimiser and shape of batch."""
    preset = presets.preset("tiny", corpus)
    model = building.build(preset, len(corpus.vocabulary))
    batch = corpus.batch(0, 0, preset.batch, preset.block)
    return partial(training.train_step, model, [batch], building.optimiser(preset, model), 1.0)


class HuggingFace(nn.Module):
    """Their GPT-2, of the same dimensions, behind the interface of ours."""

    def __init__(self, vocabulary: int):
        super().__init__()
        config = transformers.GPT2Config(
            vocab_size=vocabulary,
            n_positions=plain_gpt2.CONTEXT,
            n_embd=plain_gpt2.WIDTH,
            n_layer=plain_gpt2.LAYERS,
            n_head=plain_gpt2.HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.model = transformers.GPT2LMHeadModel(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids).logits


# --- Whole runs ----------------------------------------------------------------------------------

Result = tuple[float, float, float]
"""Processor seconds of a run, and the loss on all that was kept for testing: in rows as long as
those of the training, and in rows as long as the plain model's."""


def print_runs(corpus: sources.TextFile, split: text.Text, n_seeds: int) -> None:
    """Every run once for each seed, in turn; medians, and the lowest and highest loss."""
    ids = corpus.tokenizer.encode(split.training)
    runs: dict[str, Callable[[int], Result]] = {
        PLAIN: lambda seed: plain_run(plain_gpt2.PlainGPT2, corpus, ids, seed),
        HUGGING_FACE: lambda seed: plain_run(HuggingFace, corpus, ids, seed),
        f"preset `tiny`, {SHORT['steps']} steps": lambda seed: preset_run(corpus, SHORT, seed),
        f"preset `tiny`, {LONG['steps']} steps": lambda seed: preset_run(corpus, LONG, seed),
    }
    results = [{name: run(seed) for name, run in runs.items()} for seed in range(n_seeds)]
    print(
        "\n| run | processor seconds | share of the first | loss | below the first | rows of 64 |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in runs:
        spent = statistics.median(each[name][0] for each in results)
        share = statistics.median(each[PLAIN][0] / each[name][0] for each in results)
        found = [each[name][1] for each in results]
        below = statistics.median(each[PLAIN][1] - each[name][1] for each in results)
        in_short_rows = statistics.median(each[name][2] for each in results)
        print(
            f"| {name} | {spent:.1f} | 1/{share:.1f} | {statistics.median(found):.3f}"
            f" ({min(found):.3f}–{max(found):.3f}) | {below:.3f} | {in_short_rows:.3f} |"
        )
    print_counts(ids, corpus.tokenizer.encode(split.validation), len(corpus.vocabulary))


def print_counts(training_ids: Tensor, validation_ids: Tensor, vocabulary: int) -> None:
    """What guessing and counting come to."""
    print(f"| uniform | 0 | | {baselines.uniform(vocabulary):.3f} | | |")
    for name, order in (("unigram", 1), ("5-gram", 5)):
        start = time.process_time()
        model = baselines.NGram(training_ids, order, vocabulary)
        spent = time.process_time() - start
        print(f"| {name} | {spent:.1f} | | {model.loss(validation_ids):.3f} | | |")


def plain_run(
    kind: Callable[[int], nn.Module], corpus: sources.TextFile, ids: Tensor, seed: int
) -> Result:
    """Train as is usual."""
    torch.manual_seed(seed)
    model = kind(len(corpus.vocabulary))
    start = time.process_time()
    plain_gpt2.train(model, ids, seed)
    spent = time.process_time() - start
    return spent, *losses(model, corpus, plain_gpt2.CONTEXT)


def preset_run(corpus: sources.TextFile, changes: dict[str, Any], seed: int) -> Result:
    """Train with the loop of the course."""
    preset = presets.preset("tiny", corpus, seed=seed, **changes)
    model = building.build(preset, len(corpus.vocabulary))
    optimiser = building.optimiser(preset, model)
    schedule = loop.Schedule(
        preset.steps,
        warmup=round(preset.warmup * preset.steps),
        floor=preset.floor,
        seed=seed,
    )

    def batches(step: int) -> list[training.Batch]:
        return [corpus.batch(seed, step, preset.batch, preset.block)]

    with kernels.fused(), redirect_stdout(io.StringIO()):  # no progress bars between the tables
        start = time.process_time()
        loop.train(model, optimiser, batches, schedule)
        spent = time.process_time() - start
    return spent, *losses(model, corpus, preset.block)


def losses(model: nn.Module, corpus: sources.TextFile, block: int) -> tuple[float, float]:
    """Loss on all that was kept for testing, in rows of `block` and of the plain model's length."""
    long, short = (
        training.evaluate(model, corpus.validation(length))
        for length in (block, plain_gpt2.CONTEXT)
    )
    return long, short


if __name__ == "__main__":
    main()
