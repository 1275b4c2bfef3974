"""Tokens a second: our cache beside Hugging Face's, and both beside reading everything anew.

    python benchmarks/generation.py [runs]

One text, greedy, 250 new tokens, by a GPT of 4 layers, d 128, 4 heads and a context of 256, on one
thread. Ours and Hugging Face's have the same weights and must write the same tokens. The ways take
turns, so that a busy machine disturbs all of them; what counts is processor time. The ratios are
medians of the ratios of single rounds.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
import transformers
from torch import Tensor, nn

from course_utils import decoder, modern, sampling
from course_utils.families import renaming
from course_utils.runs import kernels

LAYERS, D_MODEL, HEADS, CONTEXT, VOCABULARY = 4, 128, 4, 256, 256
N_NEW, PROMPT = 250, 6

Way = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure all ways in turn and print the medians."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    prompt = torch.randint(VOCABULARY, (1, PROMPT))
    with torch.inference_mode():
        ways = all_ways()
        check({name: way(prompt) for name, way in ways.items()})
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                with kernels.fused() if "fused" in name else nullcontext():
                    start = time.process_time()
                    way(prompt)
                    seconds[name].append(time.process_time() - start)
    print(table(seconds))


def all_ways() -> dict[str, Way]:
    """The ways to go on, by what they are called in the table. The first is the one to compare."""
    theirs = random_gpt2()
    ours = decoder.gpt(VOCABULARY, D_MODEL, HEADS, LAYERS, CONTEXT).eval()
    renaming.fill(ours, theirs.state_dict(), renaming.GPT2)
    newer = modern.modern_gpt(VOCABULARY, D_MODEL, HEADS, LAYERS).eval()
    for weight in newer.parameters():
        nn.init.normal_(weight, std=0.1)
    cached, newer_cached = (sampling.CachedModel(model, CONTEXT) for model in (ours, newer))
    return {
        "ours, cache, fused kernels": partial(write, cached),
        "ours, cache, explicit parts": partial(write, cached),
        "ours, no cache, fused kernels": partial(write, ours),
        "ours, no cache, explicit parts": partial(write, ours),
        "Hugging Face, cache": partial(write_theirs, theirs, cache=True),
        "Hugging Face, no cache": partial(write_theirs, theirs, cache=False),
        "modern block, cache, fused kernels": partial(write, newer_cached),
        "modern block, no cache, fused kernels": partial(write, newer),
    }


def random_gpt2() -> nn.Module:
    """Their GPT-2 with the activation of ours, and weights large enough to say something."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=D_MODEL,
        n_layer=LAYERS,
        n_head=HEADS,
        activation_function="gelu",
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
    return model


def write(model: Callable[[Tensor], Tensor], prompt: Tensor) -> Tensor:
    """A text by ours."""
    return sampling.generate(model, prompt, N_NEW, sampling.greedy)


def write_theirs(model: nn.Module, prompt: Tensor, cache: bool) -> Tensor:
    """A text by Hugging Face's."""
    settings = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    return model.generate(prompt, attention_mask=mask, use_cache=cache, **settings)


def check(texts: dict[str, Tensor]) -> None:
    """All texts of the same weights must be the same."""
    for kind in (True, False):
        same = {name: text for name, text in texts.items() if name.startswith("modern") is kind}
        first = next(iter(same.values()))
        for name, text in same.items():
            if not torch.equal(text, first):
                raise SystemExit(f"{name}: another text than {next(iter(same))}")
        print(f"{len(same)} ways, one text, {first.unique().numel()} different tokens\n")


def table(seconds: dict[str, list[float]]) -> str:
    """Markdown: tokens a second, and how many times as fast the first way is."""
    first = next(iter(seconds.values()))
    lines = [
        f"{LAYERS} layers, d {D_MODEL}, {HEADS} heads, {N_NEW} tokens, median of {len(first)}",
        "",
        "| way | tokens a second | ours, cached and fused, is |",
        "| --- | --- | --- |",
    ]
    for name, each in seconds.items():
        speed = N_NEW / statistics.median(each)
        ratio = statistics.median(one / ours for one, ours in zip(each, first, strict=True))
        lines.append(f"| {name} | {speed:.0f} | {ratio:.1f}x |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
