"""Training steps of GPT-2 124M: ours beside Hugging Face's, on a GPU, in one run.

    python benchmarks/gpt2.py [--compile] [--rows 16] [--steps 10] [--rounds 7]
    python benchmarks/gpt2.py --preset nano --vocabulary 256   # small enough for a processor

Both start with the same random weights, read the same rows, and must find the same loss. They take
turns. On a GPU the clock on the wall counts, on a processor its time, on one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import plain_gpt2
import torch
import transformers
from torch import Tensor, nn

from course_utils import decoder, scaling, training
from course_utils.families import renaming
from course_utils.runs import building, kernels, memory, presets, recipes

OURS, THEIRS = "ours, fused kernels", "Hugging Face, SDPA"
# Operations a second with dense matrices in bfloat16, as the maker publishes them (SXM modules).
PUBLISHED = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


def main() -> None:
    """Compare the losses, then print the table."""
    chosen = arguments()
    preset, device = presets.PRESETS[chosen.preset], chosen.device
    if device == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = chosen.rows or preset.batch
    ids = torch.randint(chosen.vocabulary, (rows, preset.block + 1), device=device)
    batch = decoder.shift_targets(ids)
    numbers = "bfloat16" if preset.bfloat16 else "float32"
    print(f"{device_name(device)}, products in {numbers}{', compiled' * chosen.compile}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with kernels.fused():
        compare(preset, chosen.vocabulary, batch)
        held = {name: memory_of(name, preset, chosen.vocabulary, batch) for name in (OURS, THEIRS)}
        spent = measure(preset, batch, chosen)
    peaks = matrix_peak(device, getattr(torch, numbers)), published_peak(device)
    print(f"{rows} rows of {preset.block} tokens, median of {chosen.rounds}; a large", end=" ")
    print(f"product of matrices makes {peaks[0] / 1e12:.3g} TFLOP/s\n")
    work = work_per_token(preset, chosen.vocabulary)
    print(table(spent, held, rows * preset.block, work, peaks))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Training steps of GPT-2: ours and others'.")
    sizes = [name for name, preset in presets.PRESETS.items() if preset.parts == "gpt2"]
    parser.add_argument("--preset", default="gpt2", choices=sizes)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--rows", type=int, help="at once, in place of the preset's")
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="compile both models")
    parser.add_argument("--device", default=recipes.default_device())
    return parser.parse_args()


# --- Two models, one interface -------------------------------------------------------------------


class Logits(nn.Module):
    """From ids to float32 logits, with products in bfloat16 where that is wanted."""

    def __init__(self, model: nn.Module, bfloat16: bool):
        super().__init__()
        self.model = model
        self.bfloat16 = bfloat16

    def forward(self, ids: Tensor) -> Tensor:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.bfloat16):
            found = self.model(ids)
        return (found if isinstance(found, Tensor) else found.logits).float()


def models(
    preset: presets.Preset, vocabulary: int, device: str | torch.device, bfloat16: bool
) -> dict[str, Logits]:
    """Both, with the same random weights. Their activation is that of ours, without dropout."""
    torch.manual_seed(preset.seed)
    theirs = transformers.GPT2LMHeadModel(their_config(preset, vocabulary))
    ours = building.build(preset, vocabulary)
    renaming.fill(ours, theirs.state_dict(), renaming.GPT2)
    both = {OURS: ours, THEIRS: theirs}
    return {name: Logits(model, bfloat16).to(device) for name, model in both.items()}


def their_config(preset: presets.Preset, vocabulary: int) -> transformers.GPT2Config:
    """The sizes of a preset, in Hugging Face's words."""
    return transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=preset.block,
        n_embd=preset.d_model,
        n_layer=preset.n_layers,
        n_head=preset.n_heads,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=preset.tied,
        attn_implementation="sdpa",
    )


def compare(preset: presets.Preset, vocabulary: int, batch: training.Batch) -> None:
    """Both must find the same loss, in float32."""
    both = models(preset, vocabulary, batch[0].device, bfloat16=False).values()
    ours, theirs = (training.evaluate(model, [batch]) for model in both)
    print(f"loss of the same weights: {ours:.6f} and {theirs:.6f}\n")
    if abs(ours - theirs) > 1e-4:
        raise SystemExit("the two models do not compute the same")


def step_of(
    name: str, model: nn.Module, preset: presets.Preset, batch: training.Batch
) -> Callable[[], object]:
    """A step as it is made here, or as it is usually written: fused AdamW, clipping."""
    if name == OURS:
        optimiser = building.optimiser(preset, model)
        return partial(training.train_step, model, [batch], optimiser, 1.0)
    return partial(plain_gpt2.step, model, plain_gpt2.adamw(model), *batch)


# --- Measuring -----------------------------------------------------------------------------------


def memory_of(
    name: str, preset: presets.Preset, vocabulary: int, batch: training.Batch
) -> tuple[int, int]:
    """Bytes kept for the backward pass, and the most at any time (0 where that is not counted).

    The other model is not there meanwhile.
    """
    inputs, targets = batch
    model = models(preset, vocabulary, inputs.device, preset.bfloat16)[name]
    kept = memory.saved_bytes(model, lambda: training.cross_entropy(model(inputs), targets))
    step = step_of(name, model, preset, batch)
    if inputs.device.type != "cuda":
        return kept, 0
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    return kept, torch.cuda.max_memory_allocated()


def measure(
    preset: presets.Preset, batch: training.Batch, chosen: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of a step in every round. The first two steps of each model are not timed."""
    steps = {}
    for name, model in models(preset, chosen.vocabulary, chosen.device, preset.bfloat16).items():
        if chosen.compile:
            model.compile()
        steps[name] = step_of(name, model, preset, batch)
        seconds(steps[name], 2, chosen.device)
    rounds = [
        {name: seconds(step, chosen.steps, chosen.device) for name, step in steps.items()}
        for _ in range(chosen.rounds)
    ]
    return {name: [each[name] for each in rounds] for name in steps}


def seconds(work: Callable[[], object], times: int, device: str) -> float:
    """How long it takes once, done so many times."""
    start = clock(device)
    for _ in range(times):
        work()
    return (clock(device) - start) / times


def clock(device: str) -> float:
    """Seconds: of the wall, once a GPU has done all its work; else of the processor."""
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def matrix_peak(device: str, kind: torch.dtype) -> float:
    """Operations a second in the product of two large matrices."""
    size = 8192 if device.startswith("cuda") else 1024
    one, other = torch.randn(2, size, size, device=device, dtype=kind)
    multiply = partial(torch.mm, one, other)
    seconds(multiply, 3, device)
    return 2 * size**3 / statistics.median(seconds(multiply, 10, device) for _ in range(5))


def published_peak(device: str) -> float | None:
    """That of the maker in bfloat16, where we know it."""
    return next((flops for name, flops in PUBLISHED.items() if name in device_name(device)), None)


def work_per_token(preset: presets.Preset, vocabulary: int) -> int:
    """Operations for a token, forward and backward."""
    sizes = scaling.Sizes(
        vocabulary, preset.d_model, preset.n_heads, preset.n_layers, preset.block, preset.tied
    )
    return scaling.flops_per_token(sizes, preset.block, training=True)


def device_name(device: str) -> str:
    """What the maker calls it."""
    on_gpu = device.startswith("cuda")
    return torch.cuda.get_device_name(device) if on_gpu else f"{device}, one thread"


def table(
    spent: dict[str, list[float]],
    held: dict[str, tuple[int, int]],
    tokens: int,
    work: int,
    peaks: tuple[float, float | None],
) -> str:
    """Markdown: medians, and the ratio of times as the median of single rounds."""
    lines = [
        "| | tokens a second | times theirs | MFU | MFU, published peak | kept, MB | most, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in spent.items():
        speed = tokens / statistics.median(each)
        ratio = statistics.median(t / s for t, s in zip(spent[THEIRS], each, strict=True))
        shares = (f"{speed * work / peak:.1%}" if peak else "" for peak in peaks)
        memories = (f"{n / 1e6:,.0f}" if n else "" for n in held[name])
        cells = [name, f"{speed:,.0f}", f"{ratio:.2f}", *shares, *memories]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
