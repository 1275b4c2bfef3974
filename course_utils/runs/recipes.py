"""Whole runs: a model and an optimiser that fit a corpus, trained in a folder, taken up and used.

`python -m course_utils train` and `sample` are these functions with a command line in front.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_utils import decoder, modern, sampling, training
from course_utils.families import pretrained
from course_utils.runs import checkpoints, kernels, optimisers, sources

COURSE = Path(__file__).parents[2]

# --- Presets -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Preset:
    """All numbers of a run. Two runs with equal ones, on one machine, end with equal weights."""

    parts: str = "modern"  # of the model: "modern" as in `modern.py`, "gpt2" as in `decoder.py`
    tied: bool = True  # GPT-2's parts only: the head has the weights of the embedding
    d_model: int
    n_layers: int
    n_heads: int
    block: int  # tokens in a row
    batch: int  # rows at once
    accumulation: int = 1  # so many times in every step
    steps: int
    n_buckets: int = 0  # rows of the table of n-grams; 0 for none
    longest: int = 3  # n-gram
    drop: float = 0.0  # share of the n-grams that are not found, in training
    muon_lr: float = 0.02  # for the matrices of modern blocks
    adamw_lr: float = 8e-3  # for everything else
    weight_decay: float = 0.0
    warmup: float = 0.02  # share of the steps
    floor: float = 0.0  # learning rate at the end, as a share of its peak
    evaluate_every: int = 100
    save_every: int = 100
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = "d_model n_layers n_heads block batch accumulation steps"
        for name in [*at_least_one.split(), "evaluate_every", "save_every"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads = {self.n_heads}")
        if self.parts not in ("modern", "gpt2"):
            raise ValueError(f'parts must be "modern" or "gpt2", got {self.parts!r}')

    @property
    def tokens_a_step(self) -> int:
        """How many tokens the model learns from before its weights change."""
        return self.batch * self.block * self.accumulation


PRESETS = {
    # Seconds on one core of a laptop. A small model that makes more steps learns more, and few long
    # rows tell more than many short ones. With thousands of steps on a small text, let `drop` be
    # 0.65: the table would learn the text by heart.
    "tiny": Preset(
        d_model=64, n_layers=2, n_heads=2, block=256, batch=3, steps=220, n_buckets=32768,
        longest=5, adamw_lr=1.6e-2, weight_decay=0.1,
    ),
    # Minutes. The larger a model, the smaller the steps that it can stand.
    "small": Preset(
        d_model=128, n_layers=4, n_heads=4, block=128, batch=12, steps=2000, n_buckets=8192,
        adamw_lr=6e-3,
    ),
    # GPT-2's parts, so small that a processor can train them: the sizes that nanoGPT takes there.
    "nano": Preset(
        parts="gpt2", tied=False, d_model=128, n_layers=4, n_heads=4, block=64, batch=12,
        steps=2000, adamw_lr=1e-3, weight_decay=0.1, warmup=0.05, floor=0.1,
    ),
    # The smallest GPT-2 (Radford et al. 2019), with 10 thousand million tokens: hours on a big GPU.
    # The numbers that its paper does not give are those of GPT-3 (Brown et al. 2020, table 2.1 and
    # appendix B) of the same size: half a million tokens a step, 6e-4 falling to a tenth, decay.
    "gpt2": Preset(
        parts="gpt2", d_model=768, n_layers=12, n_heads=12, block=1024, batch=16, accumulation=32,
        steps=20_000, adamw_lr=6e-4, weight_decay=0.1, floor=0.1, bfloat16=True,
        evaluate_every=250,
    ),
}  # fmt: skip

# What another corpus needs. A row of stories must hold a whole one, or nothing in it can be asked
# for. A story tells a fact in four words that follow each other, so n-grams of four hold facts.
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("tiny", "stories"): {
        "n_heads": 4, "block": 128, "batch": 16, "steps": 960, "n_buckets": 8192, "longest": 4,
        "adamw_lr": 2.4e-2, "weight_decay": 0.0,
    },
    ("small", "stories"): {"longest": 4},
    ("nano", "stories"): {"block": 128},
}  # fmt: skip


def preset(name: str, corpus: sources.Corpus, **changes: Any) -> Preset:
    """A preset as it suits a corpus, with changes of your own: `preset("tiny", corpus, steps=9)`.

    Raises ValueError where there is no such preset, or where a number makes no sense.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return replace(PRESETS[name], **(CHANGES.get((name, corpus.name), {}) | changes))


# --- The model and its optimiser -----------------------------------------------------------------


def build(preset: Preset, vocabulary: int) -> decoder.GPT:
    """The model of a preset, untrained. The same for the same `preset.seed`."""
    torch.manual_seed(preset.seed)
    shape = vocabulary, preset.d_model, preset.n_heads, preset.n_layers
    if preset.parts == "modern":
        return modern.modern_gpt(*shape, preset.n_buckets, preset.longest, preset.drop)
    model = decoder.gpt(*shape, preset.block)
    if preset.tied:
        model.head.weight = model.embed.tokens.weight  # type: ignore[union-attr]
    training.init_weights(model, preset.n_layers)
    return model


def optimiser(preset: Preset, model: nn.Module) -> Optimizer:
    """Muon and AdamW for modern parts. AdamW alone for GPT-2's, where only matrices decay."""
    if preset.parts == "modern":
        return optimisers.muon_and_adamw(
            model, preset.muon_lr, preset.adamw_lr, preset.weight_decay
        )
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": preset.weight_decay}, {"params": vectors}]
    return optimisers.AdamW(groups, preset.adamw_lr, betas=(0.9, 0.95))


def n_parameters(model: nn.Module) -> int:
    """How many numbers the model learns. Tied ones count once."""
    return sum(each.numel() for each in model.parameters())


def _use_bfloat16(model: nn.Module, device: str) -> None:
    """Multiply matrices in bfloat16; weights, the stream and the logits stay in float32."""
    forward = model.forward
    kind = torch.device(device).type

    @wraps(forward)
    def narrow(ids: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            return forward(ids).float()

    model.forward = narrow


# --- Training ------------------------------------------------------------------------------------


def train(
    corpus: sources.Corpus,
    preset: Preset,
    folder: Path | str,
    device: str | None = None,
    compiled: bool = False,
    parallel: str | None = None,
    fused: bool = True,
) -> list[dict[str, float]]:
    """Train a model on a corpus in `folder`, or go on with the run that is there; return the log.

    A run that was stopped, at whatever moment, ends as if it had not been. `device` is the GPU
    where there is one. `compiled` takes a minute or two at first: for long runs. `parallel` is one
    of `distributed.MODES` where this is one of several processes, inside `distributed.processes`.
    `fused` has torch's kernels compute what the parts say, after a comparison. Raises ValueError
    where the folder holds a run with other settings.
    """
    from course_utils.runs import distributed  # a second, which other commands do not need

    if distributed.is_first():
        claim(folder, corpus, preset)
    device = device or default_device()
    model, changes = _start(corpus, preset, folder, device, parallel)
    if preset.bfloat16:
        _use_bfloat16(model, device)
    if compiled:
        model.compile()  # in place: the weights keep their names

    def batches(step: int) -> list[training.Batch]:
        first = step * preset.accumulation
        numbers = range(first, first + preset.accumulation)
        drawn = [corpus.batch(preset.seed, i, preset.batch, preset.block) for i in numbers]
        return _moved(distributed.share(drawn, parallel), device)

    held_out = _moved(corpus.validation(preset.block), device)
    with kernels.fused() if fused else nullcontext(), distributed.together(parallel):
        return training.train(
            model,
            changes,
            batches,
            _schedule(preset),
            lambda model: training.evaluate(model, held_out),
            folder,
        )


def _start(
    corpus: sources.Corpus, preset: Preset, folder: Path | str, device: str, parallel: str | None
) -> tuple[nn.Module, Optimizer]:
    """The model, or this process's share of it, and the optimiser for that."""
    from course_utils.runs import distributed

    whole = build(preset, len(corpus.vocabulary)).to(device)
    changes = optimiser(preset, whole)
    distributed.take_over(folder, whole, changes)
    if parallel is None:
        return whole, changes
    model = distributed.spread(whole, parallel, device)
    return model, optimiser(preset, distributed.own(model))


def check_parallel(
    corpus: sources.Corpus, preset: Preset, mode: str, compiled: bool = False
) -> None:
    """See that the processes that torchrun has started can share a run in this way.

    Raises ValueError where they cannot.
    """
    from course_utils.runs import distributed

    if preset.parts == "modern" and mode in ("fsdp", "tensor"):
        raise ValueError(
            f"parallel: {mode} cuts matrices, and Muon needs them whole. Take --preset nano or"
            " gpt2, whose optimiser is AdamW, or --parallel ddp or pipeline"
        )
    if compiled:
        raise ValueError("compile: a run in several processes is not compiled; leave it away")
    with torch.device("meta"):
        model = build(preset, len(corpus.vocabulary))
    distributed.check(model, mode, preset.batch)


def default_device() -> str:
    """The GPU where there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _schedule(preset: Preset) -> training.Schedule:
    return training.Schedule(
        steps=preset.steps,
        warmup=round(preset.warmup * preset.steps),
        floor=preset.floor,
        evaluate_every=preset.evaluate_every,
        save_every=preset.save_every,
        seed=preset.seed,
    )


def _moved(batches: Sequence[training.Batch], device: str) -> list[training.Batch]:
    return [(inputs.to(device), targets.to(device)) for inputs, targets in batches]


# --- Folders of runs -----------------------------------------------------------------------------


def runs_folder() -> Path:
    """Where runs are kept: COURSE_UTILS_RUNS, or `my_runs` beside the notebooks."""
    chosen = os.environ.get("COURSE_UTILS_RUNS")
    if chosen:
        return Path(chosen).expanduser()
    return (COURSE if (COURSE / "notebooks").is_dir() else Path.home()) / "my_runs"


def newest_checkpoint(folder: Path | str) -> Path | None:
    """The newest checkpoint of a run, a file or a folder of shards; None where there is none."""
    if not any(Path(folder).glob("shards_*")):
        return checkpoints.newest(folder)
    from course_utils.runs import distributed

    return distributed.newest(folder)


def newest_run() -> Path | None:
    """The run in `runs_folder()` that has the newest checkpoint."""
    found = [newest_checkpoint(each.parent) for each in runs_folder().glob("*/run.json")]
    newest = max(filter(None, found), key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent


def claim(folder: Path | str, corpus: sources.Corpus, preset: Preset) -> None:
    """Write the settings of a run to its folder, or see that they are those that are there.

    Raises ValueError with the first setting that differs.
    """
    path, settings = Path(folder, "run.json"), corpus.settings() | asdict(preset)
    if not path.exists():
        checkpoints.write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    there = _settings(path)
    for name, value in settings.items():
        if name != "path" and there.get(name) != value:
            raise ValueError(
                f"folder: {folder} holds a run with {name} = {there.get(name)!r}, and this one has"
                f" {name} = {value!r}. Give another folder, or the settings of that run"
            )


def settings(folder: Path | str) -> tuple[sources.Corpus, Preset]:
    """The corpus and the preset of the run in a folder.

    Raises FileNotFoundError where there is none, ValueError where its settings cannot be read.
    """
    path = Path(folder, "run.json")
    if not path.exists():
        raise FileNotFoundError(f"folder: there is no run in {folder} (no file run.json)")
    found = _settings(path)
    numbers = {name: found.pop(name) for name in Preset.__dataclass_fields__ if name in found}
    try:
        return sources.kept(found), Preset(**numbers)
    except (KeyError, TypeError) as error:
        raise ValueError(f"folder: {path} does not have the settings of a run: {error}") from None


def _settings(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} cannot be read: {error}") from None


def load(folder: Path | str) -> tuple[decoder.GPT, sources.Corpus]:
    """The model of a run at its newest checkpoint, ready to use, and what it was trained on.

    Raises FileNotFoundError where there is no run, or no checkpoint yet.
    """
    corpus, preset = settings(folder)
    path = newest_checkpoint(folder)
    if path is None:
        raise FileNotFoundError(f"folder: the run in {folder} has no checkpoint yet")
    model = build(preset, len(corpus.vocabulary))
    if path.is_dir():
        from course_utils.runs import distributed

        distributed.load_model(path, model)
    else:
        checkpoints.load_model(path, model)
    return model.eval(), corpus


# --- Writing -------------------------------------------------------------------------------------


def shipped() -> tuple[decoder.GPT, sources.Corpus]:
    """The story-teller that comes with the course, in the form of `load`."""
    return pretrained.stories_model(), sources.Stories()


def write(
    model: decoder.GPT,
    corpus: sources.Corpus,
    prompt: str,
    n_new: int,
    choose: sampling.Sampler,
    context: int,
) -> Iterator[str]:
    """Go on from a prompt, by at most `n_new` tokens: every piece of text as soon as it is there.

    It stops where the text ends. The model never sees more than `context` tokens: when so many are
    read, it forgets the first half of them.
    """
    ids = corpus.encode(prompt)
    said = corpus.decode(ids.tolist())
    for token in _tokens(model, ids[None], n_new, choose, context):
        if token == corpus.end:
            return
        ids = torch.cat((ids, torch.tensor([token])))
        whole = corpus.decode(ids.tolist())
        yield whole[len(said) :]
        said = whole


def _tokens(
    model: decoder.GPT, ids: Tensor, n_new: int, choose: sampling.Sampler, context: int
) -> Iterator[int]:
    while n_new > 0:
        if ids.shape[1] > context:
            ids = ids[:, -max(1, context // 2) :]
        room = min(n_new, context - ids.shape[1] + 1)
        for chosen in sampling.stream(sampling.CachedModel(model, context), ids, room, choose):
            ids = torch.cat((ids, chosen[:, None]), dim=1)
            yield int(chosen)
        n_new -= room
