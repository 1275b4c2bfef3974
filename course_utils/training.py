"""Notebook 07: training. How wrong the model is, which way is better, and how far to go that way.

From top to bottom: how a gradient is found, the loss and its gradient, the first weights, the parts
of one step, the step, and how wrong the model is on texts that it does not learn from.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]
"""What the model reads, and what it must say at each place."""

NOT_COUNTED = -100  # as a target: a place at which nothing is asked. torch has the same number


class Scalar:
    """One number that remembers what it was made of, and how strongly it depends on each."""

    def __init__(self, value: float, parents: "tuple[Scalar, ...]" = (), slopes: tuple = ()):
        self.value = value
        self.parents = parents
        self.slopes = slopes  # d self / d parent, one for each parent
        self.grad = 0.0  # d end / d self, once `end.backward()` was called

    def __add__(self, other: "Scalar") -> "Scalar":
        """Sum: if either parent rises by a little, the sum rises by as much."""
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other: "Scalar") -> "Scalar":
        """Product of both values, with its parents and slopes."""
        return Scalar(self.value * other.value, (self, other), (other.value, self.value))

    def exp(self) -> "Scalar":
        """e to the power of the value, with its parent and slope."""
        power = math.exp(self.value)
        return Scalar(power, (self,), (power,))

    def log(self) -> "Scalar":
        """Natural logarithm of the value, with its parent and slope."""
        return Scalar(math.log(self.value), (self,), (1 / self.value,))

    def backward(self) -> None:
        """Add d self / d number to `grad` of every number that this one was made of.

        Its own is 1. A number passes its gradient on once it has heard from all that use it. Two
        formulas may share the numbers that they begin with, and no others.
        """
        order: list[Scalar] = []
        seen: set[Scalar] = set()

        def visit(number: Scalar) -> None:
            if number not in seen:
                seen.add(number)
                for parent in number.parents:
                    visit(parent)
                order.append(number)  # behind all that it was made of

        visit(self)
        self.grad = 1.0
        for number in reversed(order):
            for parent, slope in zip(number.parents, number.slopes, strict=True):
                parent.grad += slope * number.grad


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


# --- How wrong it is -----------------------------------------------------------------------------


def n_counted(targets: Int[Tensor, "*batch"]) -> int:
    """How many of the targets count."""
    return int((targets != NOT_COUNTED).sum())


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Mean loss over every target of the batches, in nats. Dropout rests meanwhile.

    Raises ValueError where there is no target.
    """
    was_training = model.training
    model.eval()
    total, n_targets = 0.0, 0
    for inputs, targets in batches:
        count = n_counted(targets)
        if count:
            total += cross_entropy(model(inputs), targets).item() * count
            n_targets += count
    model.train(was_training)
    if n_targets == 0:
        raise ValueError(f"batches must hold targets that are not {NOT_COUNTED}, got none")
    return total / n_targets
