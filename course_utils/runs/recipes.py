"""Whole runs: a model and an optimiser that fit a corpus, trained in a folder, and loaded again.

`python -m course_utils train` and `sample` are this with a command line in front.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_utils import decoder, training
from course_utils.runs import building, checkpoints, folders, kernels, loop, presets, sources


def train(
    corpus: sources.Corpus,
    preset: presets.Preset,
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
    where the folder holds a run with other settings, or is in use.
    """
    with folders.claimed(folder, corpus, preset):
        device = device or default_device()
        model, changes = _start(corpus, preset, folder, device, parallel)
        if preset.bfloat16:
            building.use_bfloat16(model, device)
        if compiled:
            model.compile()  # in place: the weights keep their names

        def batches(step: int) -> list[training.Batch]:
            first = step * preset.accumulation
            numbers = range(first, first + preset.accumulation)
            drawn = [corpus.batch(preset.seed, i, preset.batch, preset.block) for i in numbers]
            return _moved(_own_rows(drawn, parallel), device)

        held_out = _moved(corpus.validation(preset.block), device)
        with kernels.fused() if fused else nullcontext(), _together(parallel):
            return loop.train(
                model,
                changes,
                batches,
                _schedule(preset),
                lambda model: training.evaluate(model, held_out),
                folder,
            )


def default_device() -> str:
    """The GPU where there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _schedule(preset: presets.Preset) -> loop.Schedule:
    return loop.Schedule(
        steps=preset.steps,
        warmup=round(preset.warmup * preset.steps),
        floor=preset.floor,
        evaluate_every=preset.evaluate_every,
        save_every=preset.save_every,
        seed=preset.seed,
    )


def _moved(batches: Sequence[training.Batch], device: str) -> list[training.Batch]:
    return [(_on(device, inputs), _on(device, targets)) for inputs, targets in batches]


def _on(device: str, ids: Tensor) -> Tensor:
    """To a GPU from pinned memory: the processor does not wait for it."""
    if device.startswith("cuda"):
        return ids.pin_memory().to(device, non_blocking=True)
    return ids.to(device)


# --- One process, or several. `distributed` takes a second to import: only where it is needed ----


def _start(
    corpus: sources.Corpus,
    preset: presets.Preset,
    folder: Path | str,
    device: str,
    parallel: str | None,
) -> tuple[nn.Module, Optimizer]:
    """The model, or this process's share of it, and the optimiser for that."""
    whole = building.build(preset, len(corpus.vocabulary)).to(device)
    changes = building.optimiser(preset, whole)
    newest = checkpoints.newest(folder)
    if parallel is None and (newest is None or newest.is_file()):
        return whole, changes

    from course_utils.runs import distributed

    distributed.take_over(folder, whole, changes)
    if parallel is None:
        return whole, changes
    model = distributed.spread(whole, parallel, device)
    return model, building.optimiser(preset, distributed.own(model))


def _own_rows(batches: list[training.Batch], parallel: str | None) -> list[training.Batch]:
    if parallel is None:
        return batches

    from course_utils.runs import distributed

    return distributed.share(batches, parallel)


def _together(parallel: str | None) -> AbstractContextManager:
    if parallel is None:
        return nullcontext()

    from course_utils.runs import distributed

    return distributed.together(parallel)


def check_parallel(
    corpus: sources.Corpus, preset: presets.Preset, mode: str, compiled: bool = False
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
        model = building.build(preset, len(corpus.vocabulary))
    distributed.check(model, mode, preset.batch)


# --- Loading -------------------------------------------------------------------------------------


def load(folder: Path | str) -> tuple[decoder.GPT, sources.Corpus]:
    """The model of a run at its newest checkpoint, ready to use, and what it was trained on.

    Raises FileNotFoundError where there is no run, or no checkpoint yet.
    """
    corpus, preset = folders.settings(folder)
    model = building.build(preset, len(corpus.vocabulary))
    while (path := checkpoints.newest(folder)) is not None:
        try:
            _take_weights(path, model)
            return model.eval(), corpus
        except Exception:
            if path.exists():
                raise
            # Else the run goes on beside us, and has a newer one already.
    raise FileNotFoundError(f"folder: the run in {folder} has no checkpoint yet")


def _take_weights(path: Path, model: nn.Module) -> None:
    if path.is_dir():
        from course_utils.runs import distributed

        distributed.load_model(path, model)
    else:
        checkpoints.load_model(path, model)
