"""Many steps of training, which can be stopped at any moment and taken up again."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from course_utils import training
from course_utils.runs import checkpoints, locks, seeds
from course_utils.training import Batch


@dataclass(frozen=True)
class Schedule:
    """How long a run is, and how its learning rate goes.

    Its peak is the `peak_lr` of each parameter group of the optimiser, or the group's `lr` where
    there is none; `floor` is the share of it at the end.
    """

    steps: int
    warmup: int = 0
    floor: float = 0.0
    max_norm: float = 1.0
    evaluate_every: int = 100
    save_every: int = 100
    seed: int = 0


class NotFiniteError(ArithmeticError):
    """A number became infinite or no number at all. Says in which module, and in which step."""


def train(
    model: nn.Module,
    optimiser: Optimizer,
    batches: Callable[[int], Sequence[Batch]],
    schedule: Schedule,
    validate: Callable[[nn.Module], float] | None = None,
    folder: Path | str | None = None,
) -> list[dict[str, float]]:
    """Train from where `folder` was left, or from the start, to the end of the schedule.

    `batches(step)` gives the micro-batches of a step, the same ones whenever it is asked. So a run
    that is killed and started again ends with the same weights, to the bit. Returns the log, a
    record for every step; `folder` keeps it as JSON lines, beside the newest checkpoint. Raises
    NotFiniteError before a step that would spoil the weights.
    """
    with nullcontext() if folder is None else locks.in_use(folder):
        return _go_on(model, optimiser, batches, schedule, validate, folder)


def _go_on(
    model: nn.Module,
    optimiser: Optimizer,
    batches: Callable[[int], Sequence[Batch]],
    schedule: Schedule,
    validate: Callable[[nn.Module], float] | None,
    folder: Path | str | None,
) -> list[dict[str, float]]:
    first = 0 if folder is None else checkpoints.load(folder, model, optimiser)
    log = checkpoints.Log(folder, first)
    model.train()
    bar = {"file": sys.stdout, "unit": "step", "mininterval": 0.5, "dynamic_ncols": True}
    with tqdm(range(first, schedule.steps), initial=first, total=schedule.steps, **bar) as steps:
        for step in steps:
            # Dropout, too, can be resumed.
            torch.manual_seed(seeds.for_torch(schedule.seed * 1_000_003 + step))
            _set_learning_rates(optimiser, step, schedule)
            micro_batches = batches(step)
            with _refusing_nan(model, optimiser, micro_batches, step):
                loss, norm = training.train_step(model, micro_batches, optimiser, schedule.max_norm)
            record = {"step": step, "loss": loss, "norm": norm}
            if validate is not None and _is_due(step, schedule.evaluate_every, schedule.steps):
                record["validation"] = validate(model)
            log.write(record)
            steps.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if folder is not None and _is_due(step, schedule.save_every, schedule.steps):
                checkpoints.save(folder, step + 1, model, optimiser)
    return log.records


def _is_due(step: int, every: int, last: int) -> bool:
    return (step + 1) % every == 0 or step + 1 == last


def _set_learning_rates(optimiser: Optimizer, step: int, schedule: Schedule) -> None:
    for group in optimiser.param_groups:
        peak = group.setdefault("peak_lr", group["lr"])
        floor = schedule.floor * peak
        group["lr"] = training.lr_at_step(step, peak, schedule.warmup, schedule.steps, floor)


@contextmanager
def _refusing_nan(
    model: nn.Module, optimiser: Optimizer, micro_batches: Sequence[Batch], step: int
) -> Iterator[None]:
    """Before the weights change, see that every gradient is finite; if not, say what made it so."""

    def refuse(*_: object) -> None:
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        if not is_finite(gradients):
            raise NotFiniteError(f"step {step}: {first_not_finite(model, micro_batches)}")

    hook = optimiser.register_step_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()


def is_finite(gradients: Iterable[Tensor]) -> bool:
    """Whether the gradients' length is a finite number, and with it every one of them."""
    return bool(nn.utils.get_total_norm(gradients).isfinite())


@torch.no_grad()
def first_not_finite(model: nn.Module, micro_batches: Sequence[Batch]) -> str:
    """Which weight, module or gradient is the first that is not finite, in words."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the weight {name} is not finite, already before this step"
    found: list[str] = []
    paths = {module: name or "the model itself" for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: tuple, output: object) -> None:
        if not found and isinstance(output, Tensor) and not output.isfinite().all():
            found.append(paths[module])

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    for inputs, _ in micro_batches:
        model(inputs)
    for hook in hooks:
        hook.remove()
    if found:
        return f"the first module whose output is not finite is {found[0]}"
    spoilt = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    if not spoilt:
        return "all outputs and gradients are finite, but the gradients' length is not"
    return f"all outputs are finite, but the gradient of {spoilt[-1]} is not"
