"""training.accumulate: many small batches count as one."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from course_utils import training
from course_utils.exercises import inputs, points
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
        "`share.backward()`, and add `share.item()` to the total. Leave out what has a count of 0.",
    ),
)

LossFn = Callable[[Tensor, Tensor], Tensor]


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        point: str = "",
        loss_fn: LossFn = shared.cross_entropy_of_words,
        left_over: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        use = partial(_loss_and_gradients, loss_fn, sizes, left_over)
        arguments = {"ids": ids, "targets": targets, **shared.words_weights(dtype)}
        call = f"(accumulate(model, micro_batches of {list(sizes)} rows, loss_fn), *gradients)"
        oracle = partial(_one_large_batch, loss_fn, left_over)
        values = shared.names_of("The loss that you return", "The gradient of `{}`")
        return Case(title, arguments, oracle, use, call, values, point)

    ids = inputs.integers(6, 4, below=6)
    targets = inputs.integers(6, 4, below=6, seed=1)
    padded = shared.PADDED_IDS, shared.PADDED_TARGETS
    with_empty = padded[0].clone(), padded[1].clone()
    with_empty[0][1:3], with_empty[1][1:3] = shared.PADDING, -100
    one_empty = with_empty[0][:3], with_empty[1][:3], (1, 2)
    shares = (
        "Each micro-batch has a share in the mean: its targets that are not -100, of those of the "
        "whole list. The whole is counted before the first `backward`; a sum so far is too small."
    )
    added = (
        "`backward` adds to the gradients that are there already, and those stay whole: scale the "
        "loss, not `grad`."
    )
    given_loss = "The loss is `loss_fn`, whatever that computes."
    nothing_counts = (
        "In a micro-batch no target may count: its mean is NaN, so leave it out before it is added "
        "to anything."
    )
    return [
        case("one alone", ids[:2], targets[:2], (2,)),
        case("one alone, with padding", *padded, (4,)),
        case("two of the same size", ids[:2], targets[:2], (1, 1), shares),
        case("three of the same size", ids, targets, (2, 2, 2), shares),
        case("some with more rows", ids, targets, (1, 3, 2), shares),
        case("some with more padding", *padded, (1, 1, 1, 1), shares),
        case("more rows and more padding", *padded, (1, 3), shares),
        case("gradients that are there already", ids, targets, (6,), added, left_over=0.5),
        case("another loss", ids, targets, (6,), given_loss, _mean_improbability),
        case("another loss, with padding", *padded, (4,), given_loss, _mean_improbability),
        case("float64", *padded, (4,), points.FLOAT64, dtype=torch.float64),
        case("one in which no target counts", *one_empty, nothing_counts),
    ]


def _mean_improbability(logits: Tensor, targets: Tensor) -> Tensor:
    """Another loss: 1 - p of the targets that count."""
    counted = targets != -100
    chosen = torch.softmax(logits[counted], -1).gather(-1, targets[counted][:, None])
    return 1 - chosen.mean()


def _loss_and_gradients(
    loss_fn: LossFn,
    sizes: Sequence[int],
    left_over: float,
    part: Part,
    ids: Tensor,
    targets: Tensor,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """`left_over` fills the gradients that are there already, where it is not 0."""
    model = shared.Words(max(sizes), **weights)
    if left_over:
        for each in model.parameters():
            each.grad = torch.full_like(each, left_over)
    found = part(model, shared.in_micro_batches(ids, targets, sizes), loss_fn)
    loss = shared.a_float("accumulate", found)
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    if len(gradients) < 3:
        raise Wrong("After your code has run, the weights have no gradients. Who calls `backward`?")
    if model.is_kept():
        raise Wrong(
            "Your numbers are right, but after `backward` the steps that led to the loss are still "
            "kept in memory."
        )
    return torch.tensor(loss, dtype=torch.float32), *gradients


def _one_large_batch(loss_fn: LossFn, left_over: float, *arguments: Tensor) -> tuple[Tensor, ...]:
    ids, targets, *weights = (each.detach() for each in arguments)
    weights = [weight.requires_grad_() for weight in weights]
    loss = loss_fn(shared.words_logits(ids, *weights), targets)
    gradients = torch.autograd.grad(loss, weights)
    return loss.detach().float(), *(gradient + left_over for gradient in gradients)


def _learn(loss, share):
    (loss * share).backward()
    return loss.item() * share


def in_steps(model, micro_batches, loss_fn, share=None, counts=None, learn=_learn, total=sum):
    """Right. Each mistake does one of the steps otherwise."""
    counts = counts or [int((targets != -100).sum()) for _, targets in micro_batches]
    losses = []
    for (ids, targets), count in zip(micro_batches, counts, strict=True):
        part = share(count, counts) if share else count / sum(counts)
        if part:
            losses.append(learn(loss_fn(model(ids), targets), part))
    return total(losses)


@exercise.mistake(
    "You add up the losses as they are: with four micro-batches the gradients are four times too "
    "long. Each counts by its share of the targets."
)
def forgot_divide(model, micro_batches, loss_fn):
    return in_steps(model, micro_batches, loss_fn, share=lambda count, counts: 1.0)


@exercise.mistake(
    "The loss that you return is right, but `backward` is called on the whole loss of each "
    "micro-batch. Take the share first, then call `backward`."
)
def forgot_divide_gradients(model, micro_batches, loss_fn):
    own = {"learn": lambda loss, share: _learn(loss, 1.0) * share}
    return in_steps(model, micro_batches, loss_fn, **own)


@exercise.mistake(
    "You divide by the number of micro-batches. A target in a micro-batch with much padding then "
    "weighs more than others: weigh by the number of targets."
)
def mean_of_means(model, micro_batches, loss_fn):
    return in_steps(model, micro_batches, loss_fn, share=lambda count, counts: 1 / len(counts))


@exercise.mistake("You weigh by all targets, padding included. Only those that are not -100 count.")
def counts_ignored(model, micro_batches, loss_fn):
    rows = [len(targets) for _, targets in micro_batches]
    return in_steps(model, micro_batches, loss_fn, counts=rows)


@exercise.mistake(
    "You count the targets that are above 0. Word 0 is a word like any other: all that are not "
    "-100 count."
)
def counts_above_zero(model, micro_batches, loss_fn):
    above = [int((targets > 0).sum()) for _, targets in micro_batches]
    return in_steps(model, micro_batches, loss_fn, counts=above)


@exercise.mistake("You multiply with the number of targets and do not divide by the number of all.")
def times_counts(model, micro_batches, loss_fn):
    return in_steps(model, micro_batches, loss_fn, share=lambda count, counts: count)


@exercise.mistake(
    "In one micro-batch no target counts. Its mean is 0 / 0, which is NaN, and so is all that it "
    "is added to, even times 0. Leave that micro-batch out."
)
def mean_over_no_target(model, micro_batches, loss_fn):
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    total = 0.0
    for (ids, targets), count in zip(micro_batches, counts, strict=True):
        total += _learn(loss_fn(model(ids), targets), count / sum(counts))
    return total


@exercise.mistake(
    "You clear the gradients before every micro-batch, so only the last one is learned from. They "
    "must add up."
)
def zero_grad_inside(model, micro_batches, loss_fn):
    def learn(loss, share):
        model.zero_grad()
        return _learn(loss, share)

    return in_steps(model, micro_batches, loss_fn, learn=learn)


@exercise.mistake(
    "You clear the gradients that are there. This part adds to them: it is `train_step` that "
    "begins with fresh ones."
)
def zero_grad_first(model, micro_batches, loss_fn):
    model.zero_grad()
    return in_steps(model, micro_batches, loss_fn)


@exercise.mistake(
    "You divide the gradients at the end, and with them what was there before. Take the share of "
    "each loss instead."
)
def divides_gradients_afterwards(model, micro_batches, loss_fn):
    n_targets = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    total = times_counts(model, micro_batches, loss_fn)
    for parameter in model.parameters():
        parameter.grad /= n_targets
    return total / n_targets


def _learn_and_return_whole(loss, share):
    return _learn(loss, share) / share


@exercise.mistake(
    "Your gradients are right, but you return the loss of the last micro-batch. Return the mean "
    "over all targets."
)
def returns_last_loss(model, micro_batches, loss_fn):
    own = {"learn": _learn_and_return_whole, "total": lambda losses: losses[-1]}
    return in_steps(model, micro_batches, loss_fn, **own)


@exercise.mistake(
    "Your gradients are right, but you return the sum of the losses. Add up the shares."
)
def returns_sum_of_losses(model, micro_batches, loss_fn):
    return in_steps(model, micro_batches, loss_fn, learn=_learn_and_return_whole)


@exercise.mistake(
    "Your gradients are right, but you return the mean of the losses. Each counts by its share of "
    "the targets."
)
def returns_mean_of_losses(model, micro_batches, loss_fn):
    return returns_sum_of_losses(model, micro_batches, loss_fn) / len(micro_batches)


@exercise.mistake("You return a tensor. Return a float: `.item()`.")
def loss_as_tensor(model, micro_batches, loss_fn):
    return torch.tensor(in_steps(model, micro_batches, loss_fn))


@exercise.mistake("You return from inside the loop: only the first micro-batch is read.")
def first_only(model, micro_batches, loss_fn):
    n_targets = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    own = {"share": lambda count, counts: count / n_targets}
    return in_steps(model, micro_batches[:1], loss_fn, **own)


@exercise.mistake("You never call `backward`, so there is no gradient.")
def no_backward(model, micro_batches, loss_fn):
    own = {"learn": lambda loss, share: loss.item() * share}
    return in_steps(model, micro_batches, loss_fn, **own)


@exercise.mistake(
    "You add up all losses and call `backward` at the end. The gradients are right, but all "
    "micro-batches are kept until then, as if it were one large batch."
)
def backward_at_the_end(model, micro_batches, loss_fn):
    total = in_steps(model, micro_batches, loss_fn, learn=lambda loss, share: loss * share)
    total.backward()
    return total.item()


@exercise.mistake(
    "With `retain_graph=True` torch keeps all that led to the loss. Nobody needs it after "
    "`backward`: leave it out."
)
def graph_kept(model, micro_batches, loss_fn):
    def learn(loss, share):
        (loss * share).backward(retain_graph=True)
        return loss.item() * share

    return in_steps(model, micro_batches, loss_fn, learn=learn)


@exercise.mistake("You use `cross_entropy`. Use the `loss_fn` that you are given.")
def always_cross_entropy(model, micro_batches, loss_fn):
    return in_steps(model, micro_batches, training.cross_entropy)


@exercise.mistake(
    "Under `torch.no_grad()` torch does not note what it computes, so `backward` has no way to go."
)
def without_gradient(model, micro_batches, loss_fn):
    with torch.no_grad():
        return in_steps(model, micro_batches, loss_fn)


@exercise.alternative
def accumulate_by_counting_first(model, micro_batches, loss_fn):
    counted = [targets.ne(-100).sum().item() for _, targets in micro_batches]
    losses = []
    for (ids, targets), number in zip(micro_batches, counted, strict=True):
        if number == 0:
            continue
        loss = loss_fn(model(ids), targets).mul(number / sum(counted))
        loss.backward()
        losses.append(float(loss.detach()))
    return math.fsum(losses)


@exercise.alternative
def accumulate_by_weighted_backward(model, micro_batches, loss_fn):
    n_targets = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    total = 0.0
    for ids, targets in micro_batches:
        loss = loss_fn(model(ids), targets)
        share = int((targets != -100).sum()) / n_targets
        if share:
            loss.backward(gradient=torch.full_like(loss, share))
            total += share * loss.item()
    return total


@exercise.alternative
def accumulate_by_autograd(model, micro_batches, loss_fn):
    micro_batches = [batch for batch in micro_batches if (batch[1] != -100).any()]
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    parameters, total = list(model.parameters()), 0.0
    for (ids, targets), count in zip(micro_batches, counts, strict=True):
        loss = loss_fn(model(ids), targets) / (sum(counts) / count)
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        total += loss.item()
    return total
