"""training.accumulate: many small batches count as one."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from course_utils import training
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.training import shared

exercise = Exercise(
    "training.accumulate",
    used_by="`train_step`: a batch that does not fit into memory is read in pieces",
    hints=(
        "`backward` adds to the gradients that are there. So call it for every micro-batch, one "
        "after the other, and nothing has to be kept in between.",
        "`loss_fn` gives the mean over the targets of its micro-batch. In the large batch that "
        "micro-batch has a share: its targets that count, of all that count.",
        "`int((targets != -100).sum())` counts them. You need the number of all before the first "
        "`backward`, so go through the list once to count.",
        "In the loop: `share = loss_fn(model(inputs), targets) * count / sum(counts)`, "
        "`share.backward()`, and add `share.item()` to the total.",
    ),
)


def _mean_improbability(logits: Tensor, targets: Tensor) -> Tensor:
    """Another loss: 1 - p of the targets that count."""
    counted = targets != -100
    chosen = torch.softmax(logits[counted], -1).gather(-1, targets[counted][:, None])
    return 1 - chosen.mean()


def _use_accumulate(
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    sizes: Sequence[int],
    left_over: float,
    part: Part,
    ids: Tensor,
    targets: Tensor,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """Loss and gradients. `left_over` fills the gradients that are there already, where not 0."""
    model = shared.Words(**weights)
    if left_over:
        for each in model.parameters():
            each.grad = torch.full_like(each, left_over)
    loss = shared.a_float(
        "accumulate", part(model, shared.in_micro_batches(ids, targets, sizes), loss_fn)
    )
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    if len(gradients) < 3:
        raise Wrong("After your code has run, the weights have no gradients. Who calls `backward`?")
    if _is_kept(model.outputs[-1]):
        raise Wrong(
            "Your numbers are right, but after `backward` the steps that led to the loss are still "
            "kept in memory."
        )
    return torch.tensor(loss, dtype=torch.float32), *gradients


def _is_kept(output: Tensor) -> bool:
    """Whether one could still go back from here: torch forgets the way when `backward` is done."""
    try:
        output.sum().backward()
    except RuntimeError:
        return False
    return True


def _one_large_batch(
    loss_fn: Callable[[Tensor, Tensor], Tensor], left_over: float, *arguments: Tensor
) -> tuple[Tensor, ...]:
    ids, targets, *weights = (each.detach() for each in arguments)
    weights = [weight.requires_grad_() for weight in weights]
    loss = loss_fn(shared.words_logits(ids, *weights), targets)
    gradients = torch.autograd.grad(loss, weights)
    return loss.detach().float(), *(gradient + left_over for gradient in gradients)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        loss_fn: Callable[[Tensor, Tensor], Tensor] = shared.cross_entropy_of_words,
        left_over: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        use = partial(_use_accumulate, loss_fn, sizes, left_over)
        arguments = {"ids": ids, "targets": targets, **shared.words_weights(dtype)}
        call = f"(accumulate(model, micro_batches of {list(sizes)} rows, loss_fn), *gradients)"
        return Case(title, arguments, partial(_one_large_batch, loss_fn, left_over), use, call)

    ids = inputs.integers(6, 4, below=6)
    targets = inputs.integers(6, 4, below=6, seed=1)
    padded = shared.PADDED_IDS, shared.PADDED_TARGETS
    return [
        case("two of the same size", ids[:2], targets[:2], (1, 1)),
        case("one alone", ids[:3], targets[:3], (3,)),
        case("three of the same size", ids, targets, (2, 2, 2)),
        case("some with more rows", ids, targets, (1, 3, 2)),
        case("some with more padding", *padded, (1, 1, 1, 1)),
        case("more rows and more padding", *padded, (1, 3)),
        case("gradients that are there already", ids, targets, (2, 4), left_over=0.5),
        case("another loss", ids, targets, (4, 2), _mean_improbability),
        case("another loss, with padding", *padded, (2, 2), _mean_improbability, left_over=-1.0),
        case("float64", *padded, (3, 1), dtype=torch.float64),
    ]


@exercise.mistake(
    "You add up the losses as they are: with four micro-batches the gradients are four "
    "times too long. Each counts by its share of the targets."
)
def forgot_divide(model, micro_batches, loss_fn):
    return shared.accumulate_with(model, micro_batches, loss_fn, [1.0] * len(micro_batches))


@exercise.mistake(
    "The loss that you return is right, but `backward` is called on the whole loss of each "
    "micro-batch. Take the share first, then call `backward`."
)
def forgot_divide_gradients(model, micro_batches, loss_fn):
    shares, total = shared.right_shares(micro_batches), 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        loss.backward()
        total += loss.item() * share
    return total


@exercise.mistake(
    "You divide by the number of micro-batches. A target in a micro-batch with much "
    "padding then weighs more than others: weigh by the number of targets."
)
def mean_of_means(model, micro_batches, loss_fn):
    n = len(micro_batches)
    return shared.accumulate_with(model, micro_batches, loss_fn, [1 / n] * n)


@exercise.mistake("You weigh by all targets, padding included. Only those that are not -100 count.")
def counts_ignored(model, micro_batches, loss_fn):
    rows = [len(targets) for _, targets in micro_batches]
    return shared.accumulate_with(model, micro_batches, loss_fn, [row / sum(rows) for row in rows])


@exercise.mistake("You multiply with the number of targets and do not divide by the number of all.")
def times_counts(model, micro_batches, loss_fn):
    return shared.accumulate_with(
        model, micro_batches, loss_fn, shared.target_counts(micro_batches)
    )


@exercise.mistake(
    "You clear the gradients before every micro-batch, so only the last one is learned "
    "from. They must add up."
)
def zero_grad_inside(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(
        micro_batches, shared.right_shares(micro_batches), strict=True
    ):
        model.zero_grad()
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total += loss.item()
    return total


@exercise.mistake(
    "You clear the gradients that are there. This part adds to them: it is `train_step` "
    "that begins with fresh ones."
)
def zero_grad_first(model, micro_batches, loss_fn):
    model.zero_grad()
    return shared.accumulate_with(model, micro_batches, loss_fn, shared.right_shares(micro_batches))


@exercise.mistake(
    "You divide the gradients at the end, and with them what was there before. Take the "
    "share of each loss instead."
)
def divides_gradients_afterwards(model, micro_batches, loss_fn):
    counts = shared.target_counts(micro_batches)
    total = shared.accumulate_with(model, micro_batches, loss_fn, counts)
    for parameter in model.parameters():
        parameter.grad /= sum(counts)
    return total / sum(counts)


@exercise.mistake(
    "Your gradients are right, but you return the loss of the last micro-batch. Return the "
    "mean over all targets."
)
def returns_last_loss(model, micro_batches, loss_fn):
    shares = shared.right_shares(micro_batches)
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        (loss * share).backward()
    return loss.item()


@exercise.mistake(
    "Your gradients are right, but you return the sum of the losses. Add up the shares."
)
def returns_sum_of_losses(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(
        micro_batches, shared.right_shares(micro_batches), strict=True
    ):
        loss = loss_fn(model(ids), targets)
        (loss * share).backward()
        total += loss.item()
    return total


@exercise.mistake(
    "Your gradients are right, but you return the mean of the losses. Each counts by its "
    "share of the targets."
)
def returns_mean_of_losses(model, micro_batches, loss_fn):
    return returns_sum_of_losses(model, micro_batches, loss_fn) / len(micro_batches)


@exercise.mistake("You return a tensor. Return a float: `.item()`.")
def loss_as_tensor(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(
        micro_batches, shared.right_shares(micro_batches), strict=True
    ):
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total = total + loss.detach()
    return total


@exercise.mistake("You return from inside the loop: only the first micro-batch is read.")
def first_only(model, micro_batches, loss_fn):
    return shared.accumulate_with(
        model, micro_batches[:1], loss_fn, shared.right_shares(micro_batches)[:1]
    )


@exercise.mistake("You never call `backward`, so there is no gradient.")
def no_backward(model, micro_batches, loss_fn):
    shares = shared.right_shares(micro_batches)
    losses = [
        loss_fn(model(ids), targets).item() * share
        for (ids, targets), share in zip(micro_batches, shares, strict=True)
    ]
    return sum(losses)


@exercise.mistake(
    "You add up all losses and call `backward` at the end. The gradients are right, but "
    "all micro-batches are kept until then, as if it were one large batch."
)
def backward_at_the_end(model, micro_batches, loss_fn):
    shares = shared.right_shares(micro_batches)
    losses = [
        loss_fn(model(ids), targets) * share
        for (ids, targets), share in zip(micro_batches, shares, strict=True)
    ]
    total = sum(losses)
    total.backward()
    return total.item()


@exercise.mistake(
    "With `retain_graph=True` torch keeps all that led to the loss. Nobody needs it after "
    "`backward`: leave it out."
)
def graph_kept(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(
        micro_batches, shared.right_shares(micro_batches), strict=True
    ):
        loss = loss_fn(model(ids), targets) * share
        loss.backward(retain_graph=True)
        total += loss.item()
    return total


@exercise.mistake("You use `cross_entropy`. Use the `loss_fn` that you are given.")
def always_cross_entropy(model, micro_batches, loss_fn):
    shares = shared.right_shares(micro_batches)
    return shared.accumulate_with(model, micro_batches, training.cross_entropy, shares)


@exercise.mistake(
    "Under `torch.no_grad()` torch does not note what it computes, so `backward` has no way to go."
)
def without_gradient(model, micro_batches, loss_fn):
    with torch.no_grad():
        return shared.accumulate_with(
            model, micro_batches, loss_fn, shared.right_shares(micro_batches)
        )


@exercise.alternative
def accumulate_by_counting_first(model, micro_batches, loss_fn):
    everything = sum(targets.ne(-100).sum().item() for _, targets in micro_batches)
    losses = []
    for ids, targets in micro_batches:
        weight = targets.ne(-100).float().sum().item() / everything
        loss = loss_fn(model(ids), targets).mul(weight)
        loss.backward()
        losses.append(float(loss.detach()))
    return math.fsum(losses)


@exercise.alternative
def accumulate_by_weighted_backward(model, micro_batches, loss_fn):
    shares, total = shared.right_shares(micro_batches), 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        loss.backward(gradient=torch.full_like(loss, share))
        total += share * loss.item()
    return total


@exercise.alternative
def accumulate_by_autograd(model, micro_batches, loss_fn):
    counts, parameters, total = shared.target_counts(micro_batches), list(model.parameters()), 0.0
    for index, (ids, targets) in enumerate(micro_batches):
        loss = loss_fn(model(ids), targets) / (sum(counts) / counts[index])
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        total += loss.item()
    return total
