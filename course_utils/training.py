"""Notebook 07: training. How wrong the model is, which way is better, and how far to go that way.

From top to bottom: the loss and its gradient, the first weights, the parts of one step, the step,
and a run of many steps that can be stopped and taken up again.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from course_utils.runs import checkpoints

Batch = tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]
"""What the model reads, and what it must say at each place."""


def cross_entropy(
    logits: Float[Tensor, "*batch vocabulary"],
    targets: Int[Tensor, "*batch"],
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """Mean of -log p(target) in nats, where p is the softmax of the logits.

    Targets that are `ignore_index` do not count, neither in the sum nor in the number.
    """
    counted = targets != ignore_index
    logits, targets = logits[counted], targets[counted]  # [n, vocabulary], [n]
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    return (logits.logsumexp(-1) - chosen).mean()


def attention_score_grad(
    weights: Float[Tensor, "*batch query key"], weights_grad: Float[Tensor, "*batch query key"]
) -> Float[Tensor, "*batch query key"]:
    """Gradient of the scores, given the attention weights and the gradient of those weights.

    Softmax of each row, backwards: a score matters by how far its weight's gradient is from the
    row's weighted mean.
    """
    mean = (weights * weights_grad).sum(-1, keepdim=True)
    return weights * (weights_grad - mean)


def init_weights(model: nn.Module, n_layers: int) -> None:
    """Draw the first weights, in place (Radford et al. 2019, §2.3).

    Matrices and tables are normal with standard deviation 0.02. Those that write to the residual
    stream (`w_o`, `down`) are divided by √(2 · n_layers), so that the stream does not grow with
    depth. Biases are 0. Gains of norms stay as they are.
    """
    for name, parameter in model.named_parameters():
        writes_to_stream = name.endswith(("w_o.weight", "down.weight"))
        if parameter.ndim > 1:
            std = 0.02 / math.sqrt(2 * n_layers) if writes_to_stream else 0.02
            nn.init.normal_(parameter, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


# --- The parts of a step -------------------------------------------------------------------------


def lr_at_step(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Learning rate of a step: up in a straight line, then down along half a cosine.

    Steps count from 0. Step `warmup` - 1 is the first at `peak`, and from step `total` on it is
    `floor` (Loshchilov & Hutter 2017, §3; warm-up as in Vaswani et al. 2017, §5.3).
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return floor
    progress = (step - warmup) / (total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients together, in place, so that their length is at most `max_norm`.

    Returns the length that they had: the root of the sum of all squares, over all parameters
    (Pascanu et al. 2013, §3.2). Parameters without a gradient are left out.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = math.sqrt(sum((gradient**2).sum() for gradient in gradients))
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def adamw_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    mean: Float[Tensor, "*shape"],
    square: Float[Tensor, "*shape"],
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The next parameter, and the next running means of the gradient and of its square.

    `step` counts from 1. Both means start at 0, so they are divided by what they are short of.
    The decay is no part of the gradient: it pulls the parameter itself towards 0
    (Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2).
    """
    beta1, beta2 = betas
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    unbiased_mean = mean / (1 - beta1**step)
    unbiased_square = square / (1 - beta2**step)
    direction = unbiased_mean / (unbiased_square.sqrt() + eps)
    return parameter - lr * (direction + weight_decay * parameter), mean, square


def accumulate(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """Add to the gradients those of the mean loss over all micro-batches; return that mean.

    `loss_fn` gives the mean over the targets that are not -100. A micro-batch with more of them
    counts for more: the result is that of one large batch. Each is forgotten before the next.
    """
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    total = 0.0
    for (inputs, targets), count in zip(micro_batches, counts, strict=True):
        if count:  # the mean over no target is NaN
            share = loss_fn(model(inputs), targets) * count / sum(counts)
            share.backward()
            total += share.item()
    return total


def train_step(
    model: nn.Module, micro_batches: Sequence[Batch], optimiser: Optimizer, max_norm: float
) -> tuple[float, float]:
    """One step: fresh gradients, clipped, and applied. Returns the loss and the gradients' length.

    The length is the one before clipping.
    """
    optimiser.zero_grad()
    loss = accumulate(model, micro_batches, cross_entropy)
    norm = clip_gradients(model.parameters(), max_norm)
    optimiser.step()
    return loss, norm


# --- A run ---------------------------------------------------------------------------------------


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


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Mean loss over every target of the batches, in nats. Dropout rests meanwhile.

    Raises ValueError where there is no target.
    """
    was_training = model.training
    model.eval()
    total, n_targets = 0.0, 0
    for inputs, targets in batches:
        count = int((targets != -100).sum())
        if count:
            total += cross_entropy(model(inputs), targets).item() * count
            n_targets += count
    model.train(was_training)
    if n_targets == 0:
        raise ValueError("batches must hold targets that are not -100, got none")
    return total / n_targets


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
    first = 0 if folder is None else checkpoints.load(folder, model, optimiser)
    log = checkpoints.Log(folder, first)
    model.train()
    bar = {"file": sys.stdout, "unit": "step", "mininterval": 0.5, "dynamic_ncols": True}
    with tqdm(range(first, schedule.steps), initial=first, total=schedule.steps, **bar) as steps:
        for step in steps:
            torch.manual_seed(schedule.seed * 1_000_003 + step)  # dropout, too, can be resumed
            _set_learning_rates(optimiser, step, schedule)
            micro_batches = batches(step)
            with _refusing_nan(model, optimiser, micro_batches, step):
                loss, norm = train_step(model, micro_batches, optimiser, schedule.max_norm)
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
        group["lr"] = lr_at_step(step, peak, schedule.warmup, schedule.steps, schedule.floor * peak)


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
