"""scaling.fit_power_law: a straight line on logarithmic paper."""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong

exercise = Exercise(
    "scaling.fit_power_law",
    used_by="every line on the log-log plots",
    hints=(
        "Take the logarithm of both sides: log(loss - floor) = log a - alpha · log n. That is a "
        "straight line in log n.",
        "The line with the least squares goes through the mean point. Its slope is the sum of "
        "(x - mean x) · (y - mean y), divided by the sum of (x - mean x)².",
        "The line falls with -alpha, so alpha is minus the slope. Its height at log n = 0 is log "
        "a, so `math.exp` of it is a.",
        "Both results are Python numbers: `.item()` makes one of a tensor.",
    ),
)


def _measured(part: Part, n: Tensor, loss: Tensor, *floor: float, **named: float) -> Any:
    """Losses that were measured have no gradient, and can be given to NumPy.

    Tensors are rounded, whatever their dtype: that they are no floats is what is said of them.
    """
    fitted = part(n.detach(), loss.detach(), *floor, **named)
    if not isinstance(fitted, tuple):
        return fitted
    short = (torch.tensor(_short(one.item())) if _is_number(one) else one for one in fitted)
    return tuple(short)


def _to_four_digits(part: Part, *given: Any, **named: Any) -> Any:
    """Where a number is float32, all of it may be computed in float32, or none."""
    fitted = _measured(part, *given, **named)
    if not isinstance(fitted, tuple):
        return fitted
    return tuple(_short(one) if isinstance(one, float) else one for one in fitted)


def _not_in_logarithms(part: Part, n: Tensor, loss: Tensor) -> Any:
    """As `_measured`. Raises Wrong where a is its own logarithm, whatever else is wrong."""
    fitted, (a, _) = _measured(part, n, loss), line_by_numpy(n, loss)
    height = fitted[0] if isinstance(fitted, tuple) and fitted else None
    if isinstance(height, float) and math.isclose(height, math.log(a), rel_tol=1e-3):
        raise Wrong(
            f"Your a is {height:.4g}. That is the logarithm of the one that is asked for, {a:.4g}: "
            "the line has log a for its height, so take the exponential."
        )
    return fitted


def _is_number(one: Any) -> bool:
    return isinstance(one, Tensor) and one.numel() == 1


def _short(number: float) -> float:
    return float(f"{number:.4g}")


@exercise.cases
def cases() -> list[Case]:
    single, double = torch.float32, torch.float64

    def case(
        title: str, n: list, loss: list, point: str = "", n_in: Any = double, loss_in: Any = double,
        use: Any = None, **floor: float,
    ) -> Case:  # fmt: skip
        numbers = {"n": torch.tensor(n, dtype=n_in), "loss": torch.tensor(loss, dtype=loss_in)}
        call = "fit_power_law(n, loss" + "".join(f", floor={value}" for value in floor.values())
        use = use or (_to_four_digits if single in (n_in, loss_in) else _measured)
        oracle = functools.partial(use, line_by_numpy)
        return Case(title, numbers | floor, oracle, use, f"{call})", point=point)

    measured = [3.91, 3.26, 2.74, 2.57, 2.31, 2.27, 2.12]
    sizes = [1e3, 3e3, 1.1e4, 2.7e4, 9e4, 2.2e5, 8e5]
    four, fall = [4.0, 16.0, 64.0, 256.0], [4.0, 2.0, 1.0, 0.5]
    with_floor = (
        "`floor` is what stays of the loss however large n is: subtract it from the loss itself, "
        "before the logarithm."
    )
    order = "The runs come in any order: no place in the list is the smallest or the largest."
    two = "Two sizes are enough for a line: nothing is divided by their number less 2."
    below = "What is above the floor may be below 1, and its logarithm negative: that is no error."
    grows = "The loss may grow with n. Then alpha, minus the slope, is negative."
    alike = (
        "Sizes and losses may be float32, float64, or one of each: `.double()` makes both alike, "
        "and the sums exact enough."
    )
    return [
        case("a line without noise", four, fall, use=_not_in_logarithms),
        case("measured, with noise", sizes, measured),
        case("large models", [7.7e5, 1.2e7, 3e8, 1.5e9], [5.1, 3.9, 3.4, 2.9]),
        case("above a floor of 2", four, [2 + one for one in fall], with_floor, floor=2.0),
        case("measured, with a known floor", sizes, measured, with_floor, floor=1.7),
        case("in no order", [9e4, 1e3, 8e5, 2.7e4], [2.31, 3.91, 2.12, 2.57], order),
        case("two sizes", [50.0, 300.0], [3.0, 2.5], two),
        case("less than 1", [20.0, 70.0, 500.0], [0.31, 0.16, 0.07], below),
        case("a loss that grows", [10.0, 100.0, 1000.0], [1.0, 1.3, 1.9], grows),
        case("float32", sizes, measured, alike, single, single),
        case("sizes in float64, losses in float32", sizes, measured, alike, double, single),
        case("sizes in float32, losses in float64", sizes, measured, alike, single, double),
    ]


@exercise.mistake(
    "Your alpha is the slope. The law says n^-alpha: where the loss falls, the slope is "
    "negative and alpha is positive."
)
def sign(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return a, -alpha


@exercise.mistake(
    "Your alpha is never negative. Where the loss grows with n it is: it is minus the "
    "slope, whatever that is."
)
def never_negative(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return a, abs(alpha)


def _line(x, y):
    """Slope and height at 0 of the line through points."""
    x, y = x.double(), y.double()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope.item(), (y.mean() - slope * x.mean()).item()


@exercise.mistake(
    "You lay a straight line through the numbers themselves. A power law is a straight "
    "line only where both axes are logarithms."
)
def fit_without_logs(n, loss, floor=0.0):
    slope, height = _line(n, loss - floor)
    return height, -slope


def _exp(height):
    """e^height, or infinity where that is too large."""
    return torch.tensor(height, dtype=torch.float64).exp().item()


@exercise.mistake(
    "You take the logarithm of the loss only. A straight line there is an exponential, "
    "a · e^(-alpha · n). Take that of n as well."
)
def exponential_fit(n, loss, floor=0.0):
    slope, height = _line(n, (loss - floor).log())
    return _exp(height), -slope


@exercise.mistake(
    "You take the logarithm of n only. A straight line there is a logarithm, which falls "
    "below zero in the end. Take that of the loss as well."
)
def logarithmic_fit(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss - floor)
    return height, -slope


@exercise.mistake(
    "You do not use `floor`. It is what remains of the loss however large n is: subtract "
    "it before you take the logarithm."
)
def ignores_floor(n, loss, floor=0.0):
    return line_by_numpy(n, loss)


@exercise.mistake(
    "You subtract the floor from the logarithm. It is a part of the loss: subtract first, "
    "then take the logarithm."
)
def floor_after_the_log(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss.log() - floor)
    return _exp(height), -slope


@exercise.mistake(
    "You subtract the logarithm of the floor. That divides the loss by it. Subtract the "
    "floor itself, then take the logarithm."
)
def log_of_floor_subtracted(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss.log() - (math.log(floor) if floor else 0.0))
    return _exp(height), -slope


@exercise.mistake(
    "You add the floor. The loss contains it already: the power law is what is left without it."
)
def adds_floor(n, loss, floor=0.0):
    return line_by_numpy(n, loss, -floor)


@exercise.mistake(
    "You add the floor to a. It is an addend of its own: loss = floor + a · n^-alpha."
)
def floor_in_a(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return a + floor, alpha


@exercise.mistake(
    "Your a is the height of the line. That is the logarithm of a: take its exponential."
)
def forgot_exp(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return math.log(a), alpha


def _mixed_bases(logarithm, power):
    """The mistake to take logarithms to one base, and powers of another."""

    def fit(n, loss, floor=0.0):
        a, alpha = line_by_numpy(n, loss, floor)
        return power ** math.log(a, logarithm), alpha

    shown = {math.e: "e"}.get
    return Mistake(
        f"log{shown(logarithm, logarithm)}_and_powers_of_{shown(power, power)}",
        f"You take logarithms to the base {shown(logarithm, logarithm)}, and powers of "
        f"{shown(power, power)}. Stay with one base; the slope is the same in all of them.",
        fit,
    )


exercise.mistakes += map(_mixed_bases, (10, 2, math.e, 2), (math.e, math.e, 10, 10))


@exercise.mistake(
    "You take the logarithm of n to the base 10, and that of the loss to the base e. Their "
    "slope mixes both: take one base for both axes."
)
def one_log_in_base_10(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return a, alpha * math.log(10)


@exercise.mistake(
    "Your alpha is right, but the height of the line has a wrong sign in it: it is mean y "
    "- slope · mean x."
)
def sign_in_the_intercept(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope, _ = _line(x, y)
    return _exp(y.mean().item() + slope * x.mean().item()), -slope


@exercise.mistake("You divide by the sum of x². Subtract the mean there as well: (x - mean x)².")
def denominator_not_centred(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x * x).sum()
    return (y.mean() - slope * x.mean()).exp().item(), -slope.item()


@exercise.mistake(
    "You take the slope for the height, and the height for the slope. `np.polyfit` gives "
    "the slope first."
)
def slope_and_intercept_swapped(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return math.exp(-alpha), -math.log(a)


@exercise.mistake(
    "Your line goes through the first and the last point. All points count, and the one "
    "with the least squares hears them all."
)
def first_and_last(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    return (y[0] - slope * x[0]).exp().item(), -slope.item()


@exercise.mistake(
    "Your slope is right, but you lay the line through the first point. It goes through "
    "the mean of all of them."
)
def line_through_the_first(n, loss, floor=0.0):
    alpha = line_by_numpy(n, loss, floor)[1]
    return ((loss[0].double() - floor) * n[0].double() ** alpha).item(), alpha


@exercise.mistake(
    "Your slope is right, but you take the means of n and of the loss, and then their "
    "logarithms. The line goes through the means of the logarithms."
)
def means_before_logs(n, loss, floor=0.0):
    alpha = line_by_numpy(n, loss, floor)[1]
    return ((loss.double() - floor).mean() * n.double().mean() ** alpha).item(), alpha


@exercise.mistake(
    "You explain n by the loss. With noise that is another line: the squares to make small "
    "are those of the loss."
)
def axes_swapped(n, loss, floor=0.0):
    slope, height = _line((loss.double() - floor).log(), n.double().log())
    return _exp(-height / slope), -1 / slope


@exercise.mistake(
    "You leave the means out, so your line goes through the origin and a is 1. Subtract "
    "the mean of each axis first."
)
def through_the_origin(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    return 1.0, -((x * y).sum() / (x * x).sum()).item()


@exercise.mistake(
    "Your slope is the correlation, which is never beyond 1. Divide the covariance by the "
    "variance of log n alone."
)
def correlation_for_slope(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    r = torch.corrcoef(torch.stack((x, y)))[0, 1]
    return (y.mean() - r * x.mean()).exp().item(), -r.item()


@exercise.mistake(
    "You divide a covariance over m - 1 by a variance over m. Use sums, or the same "
    "number for both."
)
def mixed_denominators(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = torch.cov(torch.stack((x, y)))[0, 1] / x.var(correction=0)
    return (y.mean() - slope * x.mean()).exp().item(), -slope.item()


@exercise.mistake(
    "Sizes and losses may have different dtypes, and a product of vectors takes two of one. "
    "`.double()` makes both alike."
)
def needs_one_dtype(n, loss, floor=0.0):
    x, y = n.log(), (loss - floor).log()
    x = x - x.mean()
    slope = (x @ (y - y.mean())) / (x @ x)
    return (y.mean() - slope * n.log().mean()).exp().item(), -slope.item()


@exercise.mistake("You give alpha first. Return a, then alpha.")
def alpha_first(n, loss, floor=0.0):
    a, alpha = line_by_numpy(n, loss, floor)
    return alpha, a


@exercise.mistake("You return tensors. `.item()` makes Python numbers of them.")
def tensors_for_numbers(n, loss, floor=0.0):
    return tuple(torch.tensor(one, dtype=loss.dtype) for one in line_by_numpy(n, loss, floor))


@exercise.mistake(
    "You subtract the floor in place: the losses that you were given are other ones "
    "afterwards. `loss - floor` makes a new tensor."
)
def changes_the_losses(n, loss, floor=0.0):
    loss -= floor
    return line_by_numpy(n, loss)


@exercise.alternative
def line_by_numpy(n: Tensor, loss: Tensor, floor: float = 0.0) -> tuple[float, float]:
    x, y = n.detach().double().numpy(), loss.detach().double().numpy()
    slope, height = np.polyfit(np.log(x), np.log(y - floor), 1)
    return math.exp(height), -float(slope)


@exercise.alternative
def fit_by_lstsq(n, loss, floor=0.0):
    n, loss = n.double(), loss.double()
    x = torch.stack((torch.ones_like(n), n.log()), dim=1)
    height, slope = torch.linalg.lstsq(x, torch.log(loss - floor)[:, None]).solution[:, 0]
    return height.exp().item(), -slope.item()


@exercise.alternative
def fit_by_covariance(n, loss, floor=0.0):
    x, y = torch.log(n.double()), torch.log(loss.double() - floor)
    covariance = torch.cov(torch.stack([x, y]))
    alpha = -covariance[0, 1] / covariance[0, 0]
    return float(torch.exp(y.mean() + alpha * x.mean())), float(alpha)


@exercise.alternative
def fit_in_base_10(n, loss, floor=0.0):
    x, y = n.double().log10(), (loss.double() - floor).log10()
    m = len(n)
    slope = (m * (x * y).sum() - x.sum() * y.sum()) / (m * (x * x).sum() - x.sum() ** 2)
    return 10 ** ((y.sum() - slope * x.sum()) / m).item(), -slope.item()


@exercise.alternative
def fit_point_by_point(n, loss, floor=0.0):
    points = [
        (math.log(i), math.log(j - floor)) for i, j in zip(n.tolist(), loss.tolist(), strict=True)
    ]
    x_mean, y_mean = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - x_mean) * (y - y_mean) for x, y in points)
    alpha = -above / sum((x - x_mean) ** 2 for x, _ in points)
    return math.exp(y_mean + alpha * x_mean), alpha
