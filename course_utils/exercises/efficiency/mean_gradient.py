"""efficiency.mean_gradient: what all machines step with."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "efficiency.mean_gradient",
    used_by="the step of several machines that have read different numbers of rows",
    hints=(
        "A machine's gradient times its number of rows is the sum over its rows. Sums can be "
        "added up.",
        "So: the sum of all `gradient * n`, divided by the number of all rows.",
        "A machine without rows may have NaN, and NaN times 0 is NaN: leave it out before you "
        "multiply.",
        "`sum(gradient * n for gradient, n in zip(gradients, n_rows) if n) / sum(n_rows)`",
    ),
)


def _by_numpy(*arguments: Any) -> Tensor:
    """The weighted mean over machines."""
    *gradients, n_rows = arguments
    counted = [(one, n) for one, n in zip(gradients, n_rows, strict=True) if n]
    stacked = np.stack([one.detach().double().numpy() for one, _ in counted])
    mean = np.average(stacked, axis=0, weights=[n for _, n in counted])
    return torch.from_numpy(np.asarray(mean)).to(gradients[0].dtype)


def _use(part: Part, n_rows: list[int] | tuple[int, ...], **gradients: Tensor) -> Any:
    return part([one.detach() for one in gradients.values()], n_rows)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_rows: Sequence[int], *gradients: Tensor, point: str = "") -> Case:
        named = {f"gradient{number}": one for number, one in enumerate(gradients)}
        call = f"mean_gradient([{', '.join(named)}], {n_rows})"
        return Case(title, named | {"n_rows": n_rows}, _by_numpy, _use, call, point=point)

    def drawn(*shape: int, n: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        return [3 * inputs.normal(*shape, seed=number, dtype=dtype) for number in range(n)]

    unequal = (
        "A row counts as much wherever it is read: a machine with more rows counts for more, by "
        "its share of all rows."
    )
    no_rows = (
        "A machine that has read no row does not count, neither in the sum nor in what it is "
        "divided by."
    )
    nothing_read = (
        "A machine that has read no row does not count. Its gradient may be NaN, and NaN times 0 "
        "is NaN: leave it out."
    )
    whatever = (
        "A machine that has read no row does not count, whatever its gradient is. That it has no "
        "rows is told by its number of rows, not by its gradient."
    )
    any_shape = "A gradient has the shape of its weight, which may be any, and so has the mean."
    one_alone = "One machine alone has the mean already."
    nan = torch.full((2, 3), torch.nan)
    one, two, three, four = drawn(2, 3, n=4)
    return [
        case("two machines, as many rows", [4, 4], one, two),
        case("three machines, as many rows", [2, 2, 2], *drawn(2, 4, n=3)),
        case("one row each", [1, 1, 1, 1, 1], *drawn(3, 2, n=5)),
        case("three rows and one", [3, 1], one, two, point=unequal),
        case("the second has more", [2, 7, 3], one, two, three, point=unequal),
        case("very unequal", [1, 1000, 30, 5], one, two, three, four, point=unequal),
        case("rows in a tuple", (5, 2), *drawn(4, n=2), point=unequal),
        case("many rows", [30_000_001, 70_000_003], *drawn(3, n=2), point=unequal),
        case("one machine", [6], three, point=one_alone),
        case("one machine, one row", [1], drawn(4, 1, n=1)[0], point=one_alone),
        case("one has no rows, and zeros", [3, 0, 2], one, torch.zeros(2, 3), two, point=no_rows),
        case("the last has no rows", [3, 5, 0], one, two, nan, point=nothing_read),
        case("the first has no rows", [0, 2, 1], nan, three, four, point=nothing_read),
        case("only one has rows", [0, 4, 0], nan, four, nan, point=nothing_read),
        case(
            "infinite, without rows",
            [2, 0, 3],
            one,
            torch.full((2, 3), math.inf),
            two,
            point=whatever,
        ),
        case("a single number", [2, 3], *drawn(n=2), point=any_shape),
        case("a bias", [5, 1, 2], *drawn(5, n=3), point=any_shape),
        case("three axes", [2, 6], *drawn(3, 1, 2, n=2), point=any_shape),
        case("as many machines as numbers", [1, 2, 4], *drawn(3, n=3), point=points.EQUAL_SIZES),
        case("a transposed view", [4, 1], one.T, two.T, point=points.OTHER_ORDER),
        case("float64", [1, 2], *drawn(2, 3, n=2, dtype=torch.float64), point=points.FLOAT64),
        _of_a_batch(),
    ]


def _of_a_batch() -> Case:
    """The gradients of a real model: what comes out is the gradient of the whole batch."""
    whole = (
        "What comes out is the gradient of the mean loss over the whole batch, as one machine that "
        "has all rows would find it."
    )
    arguments = {
        "x": inputs.normal(9, 3),
        "targets": inputs.normal(9, 2, seed=1),
        "weight": inputs.normal(2, 3, seed=2),
        "n_rows": [4, 3, 2],
    }
    call = "mean_gradient(gradients of the mean loss over 4, 3 and 2 rows, [4, 3, 2])"
    return Case("a batch of nine rows", arguments, _whole_batch, _in_shares, call, point=whole)


def _gradient(x: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    weight = weight.detach().clone().requires_grad_()
    F.mse_loss(torch.tanh(F.linear(x.detach(), weight)), targets.detach()).backward()
    assert weight.grad is not None
    return weight.grad


def _in_shares(part: Part, x: Tensor, targets: Tensor, weight: Tensor, n_rows: list[int]) -> Any:
    shares = zip(x.split(n_rows), targets.split(n_rows), strict=True)
    return part([_gradient(rows, wanted, weight) for rows, wanted in shares], n_rows)


def _whole_batch(x: Tensor, targets: Tensor, weight: Tensor, n_rows: list[int]) -> Tensor:
    return _gradient(x, targets, weight)


@exercise.holds
def gradients_stay(part: Part) -> None:
    """A list is not watched for changes within its tensors."""
    given = [inputs.normal(2, 2), inputs.normal(2, 2, seed=1)]
    before = [one.clone() for one in given]
    part(given, [1, 3])
    if len(given) != 2 or not all(map(torch.equal, before, given)):
        raise Wrong(
            "Your code changes the gradients that it is given: the machines still have them. Make "
            "a new tensor."
        )


def _counted(gradients, n_rows):
    return [(gradient, n) for gradient, n in zip(gradients, n_rows, strict=True) if n]


def weighted(gradients, n_rows, weigh=lambda n: n, total=None):
    """Right. `weigh` says how much a machine counts, `total` what the sum is divided by."""
    pairs = _counted(gradients, n_rows)
    added = sum(gradient * weigh(n) for gradient, n in pairs)
    return added / (sum(weigh(n) for _, n in pairs) if total is None else total)


@exercise.mistake(
    "You add the gradients up. With four machines the step is four times as long: what is wanted "
    "is their mean, weighed by rows."
)
def sum_not_mean(gradients, n_rows):
    return weighted(gradients, n_rows, weigh=lambda n: 1, total=1)


@exercise.mistake(
    "You divide by the number of machines. A row on a machine with few rows then counts for more "
    "than one in a crowd: weigh by `n_rows`."
)
def unweighted_shards(gradients, n_rows):
    return weighted(gradients, n_rows, weigh=lambda n: 1)


@exercise.mistake(
    "You divide by the number of all machines, also of those that have read nothing, and weigh "
    "all the others alike. Weigh by rows, and divide by the number of rows."
)
def unweighted_over_all(gradients, n_rows):
    return weighted(gradients, n_rows, weigh=lambda n: 1, total=len(n_rows))


@exercise.mistake(
    "You weigh by rows, and do not divide by the number of all rows: that is the sum over all rows."
)
def sum_over_rows(gradients, n_rows):
    return weighted(gradients, n_rows, total=1)


@exercise.mistake(
    "You weigh by rows, and divide by the number of machines. Divide by the number of all rows."
)
def divides_by_machines(gradients, n_rows):
    return weighted(gradients, n_rows, total=len(n_rows))


@exercise.mistake(
    "You add the gradients up and divide by the number of rows. They are means already: multiply "
    "each with its rows first."
)
def never_multiplied(gradients, n_rows):
    return weighted(gradients, n_rows, weigh=lambda n: 1, total=sum(n_rows))


@exercise.mistake(
    "You weigh by 1 / rows: the fewer rows, the more a machine counts. It is the other way round."
)
def weighed_by_the_inverse(gradients, n_rows):
    return weighted(gradients, n_rows, weigh=lambda n: 1 / n)


@exercise.mistake(
    "A machine that has no rows may have NaN as its gradient, and NaN times 0 is NaN. Leave it out "
    "before you multiply."
)
def nan_times_zero(gradients, n_rows):
    return sum(one * n for one, n in zip(gradients, n_rows, strict=True)) / sum(n_rows)


@exercise.mistake("You return the gradient of the machine that has most rows. All rows count.")
def largest_share_only(gradients, n_rows):
    return max(_counted(gradients, n_rows), key=lambda pair: pair[1])[0].clone()


@exercise.mistake("You take the mean over all numbers too. A gradient has the shape of its weight.")
def mean_over_everything(gradients, n_rows):
    return weighted(gradients, n_rows).mean()


@exercise.mistake(
    "You average two at a time, so the last ones count for more than the first. Add all up, then "
    "divide once."
)
def pair_by_pair(gradients, n_rows):
    (mean, _), *others = _counted(gradients, n_rows)
    for gradient, _ in others:
        mean = (mean + gradient) / 2
    return mean


@exercise.alternative
def mean_in_a_loop(gradients, n_rows):
    total = torch.zeros_like(gradients[0])
    rows = 0
    for gradient, n in zip(gradients, n_rows, strict=True):
        if n > 0:
            total += gradient * n
            rows += n
    return total / rows


@exercise.alternative
def mean_by_tensordot(gradients, n_rows):
    stacked = torch.stack(list(gradients))
    shares = torch.tensor(n_rows, dtype=torch.float64)
    shares = (shares / shares.sum()).to(stacked.dtype)
    stacked = torch.where(shares.view(-1, *[1] * (stacked.ndim - 1)) > 0, stacked, 0)
    return torch.tensordot(shares, stacked, dims=1)


@exercise.alternative
def mean_so_far(gradients, n_rows):
    """A running mean: each machine moves it by its share of the rows so far."""
    mean, seen = None, 0
    for i in range(len(gradients)):
        if n_rows[i] == 0:
            continue
        seen += n_rows[i]
        step = n_rows[i] / seen
        mean = gradients[i].clone() if mean is None else mean + step * (gradients[i] - mean)
    return mean


@exercise.alternative
def mean_without_nan(gradients, n_rows):
    return sum(g.nan_to_num() * n for g, n in zip(gradients, n_rows, strict=True)) / sum(n_rows)
