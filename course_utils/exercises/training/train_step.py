"""training.train_step: from a batch to new weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from course_utils import training
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.training import accumulate, shared

exercise = Exercise(
    "training.train_step",
    used_by="`train`, for every step of every run",
    hints=(
        "Four things happen, in this order: clear the gradients, make new ones, clip them, step.",
        "`optimiser.zero_grad()` clears them. `accumulate(model, micro_batches, cross_entropy)` "
        "makes new ones and returns the loss.",
        "`clip_gradients(model.parameters(), max_norm)` clips them and returns the length that "
        "they had. Then `optimiser.step()`, and return both numbers.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        max_norm: float = 100.0,
        point: str = "",
        n_steps: int = 1,
        left_over: float = 0.0,
        make_optimiser: Callable[..., Optimizer] = partial(SGD, lr=0.5),  # noqa: B008
    ) -> Case:
        use = partial(_use_train_step, make_optimiser, sizes, n_steps, left_over)
        arguments = {"ids": ids, "targets": targets, "max_norm": max_norm, **shared.words_weights()}
        oracle = partial(_train_step_by_torch, make_optimiser, n_steps)
        given = f"model, micro_batches of {list(sizes)} rows, optimiser, {max_norm}"
        call = f"(*train_step({given}), *weights)"
        lengths = "The loss that you return", "The length that you return"
        values = shared.names_of(*lengths, "The weight `{}`, after your code,")
        return Case(title, arguments, oracle, use, call, values, point)

    ids = inputs.integers(6, 4, below=6)
    targets = inputs.integers(6, 4, below=6, seed=1)
    padded = shared.PADDED_IDS, shared.PADDED_TARGETS
    momentum = partial(SGD, lr=0.3, momentum=0.9)
    adamw = partial(AdamW, lr=0.05, weight_decay=0.1)

    def two_groups(weights: Iterable[nn.Parameter]) -> Optimizer:
        first, *others = weights
        groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.2}, {"params": others}]
        return SGD(groups, lr=0.5)

    clipped = (
        "The gradients of `model.parameters()` are clipped together, when all of them are there "
        "and before the step. What is returned is the length that they had before."
    )
    one_step = (
        "All micro-batches make one step, and `accumulate` weighs them by their targets: neither a "
        "step nor a mean for each."
    )
    cleared = (
        "Whatever lies in `grad` when a step begins does not count: clear it before `accumulate`, "
        "not after the step."
    )
    any_optimiser = (
        "The optimiser may be any, and keep something between its steps: call `step()` once and "
        "write into no weight yourself."
    )
    any_axes = (
        "The logits may be [batch, classes], one target a text: `cross_entropy` takes any number "
        "of axes before the classes."
    )

    def without_the_table(weights: Iterable[nn.Parameter]) -> Optimizer:
        return SGD(list(weights)[1:], lr=0.5)

    three: dict[str, Any] = {"point": any_optimiser, "n_steps": 3}
    return [
        case("one micro-batch, not clipped", ids[:2], targets[:2], (2,)),
        case("one micro-batch with padding", *padded, (4,)),
        case("one micro-batch, clipped", ids[:2], targets[:2], (2,), 0.1, clipped),
        case("no limit", *padded, (4,), math.inf, clipped),
        case("three micro-batches", ids, targets, (2, 2, 2), point=one_step),
        case("some with more padding", *padded, (1, 1, 2), point=one_step),
        case("three micro-batches, clipped", ids, targets, (1, 3, 2), 0.2, clipped),
        case("gradients that are there already", *padded, (4,), point=cleared, left_over=0.3),
        case(
            "two groups, and gradients that are there already",
            *padded,
            (4,),
            point=cleared,
            left_over=0.3,
            make_optimiser=two_groups,
        ),
        case("three steps", ids, targets, (6,), point=cleared, n_steps=3),
        case("three steps with momentum", *padded, (4,), make_optimiser=momentum, **three),
        case("three steps of AdamW", *padded, (4,), make_optimiser=adamw, **three),
        case("two groups of weights", *padded, (4,), 0.2, clipped, make_optimiser=two_groups),
        case(
            "a weight that the optimiser does not hold",
            *padded,
            (4,),
            0.2,
            clipped,
            make_optimiser=without_the_table,
        ),
        case("a classifier", ids[:, 0], targets[:, 0], (6,), point=any_axes),
    ]


def _use_train_step(
    make_optimiser: Callable[..., Optimizer],
    sizes: Sequence[int],
    n_steps: int,
    left_over: float,
    part: Part,
    ids: Tensor,
    targets: Tensor,
    max_norm: float,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """Loss and length of the last step, and the weights after it.

    `left_over` fills the gradients that are there already, where it is not 0.
    """
    model = shared.Words(max(sizes), **weights)
    if left_over:
        for each in model.parameters():
            each.grad = torch.full_like(each, left_over)
    optimiser = make_optimiser(model.parameters())
    optimiser.register_step_pre_hook(partial(_is_ready, model))
    batches = shared.in_micro_batches(ids, targets, sizes)
    for _ in range(n_steps):
        loss, norm = _loss_and_norm(part(model, batches, optimiser, max_norm))
    weights_then = [each.detach().clone() for each in model.parameters()]
    return torch.tensor(loss), torch.tensor(norm), *weights_then


def _is_ready(model: shared.Words, *_: Any) -> None:
    if not model.outputs:
        raise Wrong("Your code calls `optimiser.step()` before the model has read anything.")
    if not any(each.grad is not None and each.grad.any() for each in model.parameters()):
        raise Wrong("When your code calls `optimiser.step()` there are no gradients.")


def _loss_and_norm(found: Any) -> tuple[float, float]:
    if found is None:
        raise Wrong("`train_step` should return two floats, yours returns None.")
    if not isinstance(found, tuple) or len(found) != 2:
        raise Wrong("`train_step` should return two floats: the loss, and the gradients' length.")
    loss, norm = found
    return shared.a_float("train_step", loss), shared.a_float("train_step", norm)


def _train_step_by_torch(
    make_optimiser: Callable[..., Optimizer], n_steps: int, *arguments: Any
) -> tuple[Tensor, ...]:
    """One large batch, in plain torch."""
    ids, targets, max_norm, *values = arguments
    weights = [nn.Parameter(value.detach().clone()) for value in values]
    optimiser = make_optimiser(weights)
    for _ in range(n_steps):
        optimiser.zero_grad()
        loss = shared.cross_entropy_of_words(shared.words_logits(ids, *weights), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, max_norm)
        optimiser.step()
    return loss.detach(), norm, *(weight.detach() for weight in weights)


def _accumulated(model, micro_batches):
    return training.accumulate(model, micro_batches, training.cross_entropy)


def _clipped(model, max_norm):
    return training.clip_gradients(model.parameters(), max_norm)


def _in_steps(model, micro_batches, optimiser, max_norm, accumulate=_accumulated, clip=_clipped):
    """Right. The mistakes below do a step otherwise, or in another order."""
    optimiser.zero_grad()
    loss = accumulate(model, micro_batches)
    norm = clip(model, max_norm)
    optimiser.step()
    return loss, norm


@exercise.mistake(
    "You never clear the gradients. `backward` adds to them, so every step also takes all steps "
    "before it. Begin with `optimiser.zero_grad()`."
)
def no_zero_grad(model, micro_batches, optimiser, max_norm):
    loss, norm = _accumulated(model, micro_batches), _clipped(model, max_norm)
    optimiser.step()
    return loss, norm


@exercise.mistake(
    "You clear the gradients after the step, so whatever lay there before the first one is taken "
    "too. Begin with `optimiser.zero_grad()`."
)
def zero_grad_at_the_end(model, micro_batches, optimiser, max_norm):
    found = no_zero_grad(model, micro_batches, optimiser, max_norm)
    optimiser.zero_grad()
    return found


@exercise.mistake(
    "Before the first `backward` a weight has no gradient that could be filled with 0: its `grad` "
    "is None. `optimiser.zero_grad()` knows that."
)
def fills_with_zeros_by_hand(model, micro_batches, optimiser, max_norm):
    for parameter in model.parameters():
        parameter.grad.zero_()
    return no_zero_grad(model, micro_batches, optimiser, max_norm)


@exercise.mistake(
    "You clear the gradients between `backward` and the step, so nothing moves. Clear them at the "
    "beginning."
)
def zero_grad_before_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss, norm = _accumulated(model, micro_batches), _clipped(model, max_norm)
    optimiser.zero_grad()
    optimiser.step()
    return loss, norm


@exercise.mistake("You step before there are gradients. First `accumulate`, then clip, then step.")
def step_before_backward(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    optimiser.step()
    return _accumulated(model, micro_batches), _clipped(model, max_norm)


@exercise.mistake("You never call `optimiser.step()`, so the weights stay what they are.")
def forgets_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    return _accumulated(model, micro_batches), _clipped(model, max_norm)


@exercise.mistake(
    "You clip after the step, when the gradients have done their work. Clip before it."
)
def clips_after_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss = _accumulated(model, micro_batches)
    optimiser.step()
    return loss, _clipped(model, max_norm)


@exercise.mistake(
    "You clip before there are new gradients. Clip between `accumulate` and the step."
)
def clips_stale_gradients(model, micro_batches, optimiser, max_norm):
    norm = _clipped(model, max_norm)
    return _in_steps(model, micro_batches, optimiser, math.inf)[0], norm


@exercise.mistake(
    "You clip the weights of `param_groups[0]` only. An optimiser may have several groups: "
    "`model.parameters()` gives all weights."
)
def clips_first_group_only(model, micro_batches, optimiser, max_norm):
    def clip(model, max_norm):
        return training.clip_gradients(optimiser.param_groups[0]["params"], max_norm)

    return _in_steps(model, micro_batches, optimiser, max_norm, clip=clip)


@exercise.mistake(
    "You clip each group of the optimiser by itself, which changes the direction of the step. "
    "There is one length, that of all gradients together: `model.parameters()`."
)
def clips_each_group(model, micro_batches, optimiser, max_norm):
    def clip(model, max_norm):
        groups = [group["params"] for group in optimiser.param_groups]
        return math.hypot(*(training.clip_gradients(group, max_norm) for group in groups))

    return _in_steps(model, micro_batches, optimiser, max_norm, clip=clip)


@exercise.mistake("You always clip at 1. Use the `max_norm` that you are given.")
def always_clips_to_one(model, micro_batches, optimiser, max_norm):
    return _in_steps(model, micro_batches, optimiser, 1.0)


@exercise.mistake(
    "Your step is right, but you return the length after clipping. `clip_gradients` returns the "
    "one before: it shows how wild the batch was."
)
def returns_norm_after_clipping(model, micro_batches, optimiser, max_norm):
    loss, _ = _in_steps(model, micro_batches, optimiser, max_norm)
    return loss, _clipped(model, math.inf)


@exercise.mistake("Your step is right, but you return the length first. It is loss, length.")
def returns_swapped(model, micro_batches, optimiser, max_norm):
    return _in_steps(model, micro_batches, optimiser, max_norm)[::-1]


@exercise.mistake("Your step is right, but you return one number. Return two: loss, length.")
def returns_loss_only(model, micro_batches, optimiser, max_norm):
    return _in_steps(model, micro_batches, optimiser, max_norm)[0]


@exercise.mistake(
    "You compute the loss again after the step. The one that `accumulate` returned is meant, and "
    "costs nothing."
)
def returns_loss_after_step(model, micro_batches, optimiser, max_norm):
    _, norm = _in_steps(model, micro_batches, optimiser, max_norm)
    ids, targets = (torch.cat(each) for each in zip(*micro_batches, strict=True))
    with torch.no_grad():
        return training.cross_entropy(model(ids), targets).item(), norm


@exercise.mistake("You read the first micro-batch only. All of them make one step.")
def first_micro_batch_only(model, micro_batches, optimiser, max_norm):
    return _in_steps(model, micro_batches[:1], optimiser, max_norm)


@exercise.mistake("You make a step for every micro-batch. All of them together make one.")
def step_for_each_micro_batch(model, micro_batches, optimiser, max_norm):
    found = [_in_steps(model, [batch], optimiser, max_norm) for batch in micro_batches]
    losses, norms = zip(*found, strict=True)
    return sum(losses) / len(losses), norms[-1]


@exercise.mistake(
    "You clip after every micro-batch. Clip once, when all gradients have been added."
)
def clips_each_micro_batch(model, micro_batches, optimiser, max_norm):
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    optimiser.zero_grad()
    total = 0.0
    for (ids, targets), count in zip(micro_batches, counts, strict=True):
        loss = training.cross_entropy(model(ids), targets) * count / sum(counts)
        loss.backward()
        total += loss.item()
        norm = _clipped(model, max_norm)
    optimiser.step()
    return total, norm


@exercise.mistake(
    "You divide by the number of micro-batches, padding or not. `accumulate` knows how much each "
    "of them counts."
)
def mean_of_means(model, micro_batches, optimiser, max_norm):
    def mean(model, micro_batches):
        return accumulate.mean_of_means(model, micro_batches, training.cross_entropy)

    return _in_steps(model, micro_batches, optimiser, max_norm, accumulate=mean)


@exercise.alternative
def train_step_in_order(model, micro_batches, optimiser, max_norm):
    model.zero_grad()
    loss = training.accumulate(model, micro_batches, training.cross_entropy)
    norm = training.clip_gradients(model.parameters(), max_norm=max_norm)
    optimiser.step()
    return loss, norm


@exercise.alternative
def train_step_in_plain_torch(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad(set_to_none=False)
    n_targets = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    total = 0.0
    for ids, targets in micro_batches:
        logits = model(ids)
        loss = (
            F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum") / n_targets
        )
        loss.backward()
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimiser.step()
    return total, norm.item()


@exercise.alternative
def train_step_zeroes_twice(model, micro_batches, optimiser, max_norm):
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    for one in parameters:
        one.grad = None
    loss = training.accumulate(model, micro_batches, loss_fn=training.cross_entropy)
    norm = training.clip_gradients(model.parameters(), max_norm)
    optimiser.step()
    optimiser.zero_grad()
    return loss, norm
