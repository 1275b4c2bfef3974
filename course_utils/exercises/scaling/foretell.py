"""scaling.foretell: the loss of a model that nobody has trained yet."""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.scaling.fit_power_law import line_by_numpy

exercise = Exercise(
    "scaling.foretell",
    used_by="the forecast of the sixth run, from five small ones",
    hints=(
        "`fit_power_law` gives you the law of the runs that were made: its a and its alpha. Which "
        "floor does it need?",
        "The law is loss = floor + a · n^-alpha. Put `size` in the place of n.",
        "Two lines: `a, alpha = fit_power_law(n, loss, floor)`, and what the law says at `size`. "
        "The floor is a part of the loss: add it again.",
    ),
)


def by_numpy(n: Tensor, loss: Tensor, floor: float, size: float) -> float:
    """The oracle: NumPy's line through the logarithms, read off at log(size)."""
    x, y = n.detach().double().numpy(), loss.detach().double().numpy()
    line = np.polyfit(np.log(x), np.log(y - floor), 1)
    return floor + math.exp(float(np.polyval(line, math.log(size))))


def _measured(part: Part, n: Tensor, loss: Tensor, floor: float, size: float) -> Any:
    """Losses that were measured have no gradient, and can be given to NumPy."""
    return part(n.detach(), loss.detach(), floor, size)


def _to_four_digits(part: Part, *given: Any, **named: Any) -> Any:
    """Where losses are float32, all of it may be computed in float32, or none."""
    foretold = _measured(part, *given, **named)
    return float(f"{foretold:.4g}") if isinstance(foretold, float) else foretold


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, n: list, loss: list, floor: float, size: float, point: str = "",
        kind: Any = torch.float64,
    ) -> Case:  # fmt: skip
        runs = {"n": torch.tensor(n, dtype=kind), "loss": torch.tensor(loss, dtype=kind)}
        call = f"foretell(n, loss, floor={floor}, size={size:g})"
        given = runs | {"floor": floor, "size": size}
        use = _measured if kind == torch.float64 else _to_four_digits
        return Case(title, given, functools.partial(use, by_numpy), use, call, point=point)

    sizes, losses = [1e3, 3e3, 1.1e4, 2.7e4, 9e4], [3.91, 3.26, 2.74, 2.57, 2.31]
    no_floor = "The floor may be 0: it is given all the same, and nothing else stands for it."
    order = "The runs come in any order: the last one is not always the largest."
    any_size = (
        "`size` may be any: one that was run, one between, a smaller one. It is always the law "
        "that is asked for, not a run, and not a limit."
    )
    below = "What is above the floor may be below 1, and its logarithm negative: that is no error."
    grows = "The loss may grow with the size. Then alpha is negative, and the law says so, too."
    single = "Runs in float32 give a Python number as well, `.item()`, and as many digits."
    return [
        case("a line without noise", [4.0, 16.0, 64.0], [6.0, 4.0, 3.0], 2.0, 256.0),
        case("five runs with noise, and a sixth", sizes, losses, 1.7, 8e5),
        case("another floor, a larger size", sizes, losses, 1.2, 3e7),
        case("no floor", sizes, losses, 0.0, 8e5, no_floor),
        case("in no order", [9e4, 1e3, 2.7e4, 3e3], [2.31, 3.91, 2.57, 3.26], 0.9, 5e6, order),
        case("a size between those that were run", sizes, losses, 1.2, 5e3, any_size),
        case("a size that was run", sizes, losses, 1.2, 9e4, any_size),
        case("a smaller one", sizes, losses, 1.5, 200, any_size),
        case("losses below 1", [20.0, 70.0, 500.0], [0.31, 0.16, 0.07], 0.02, 3000.0, below),
        case("a loss that grows", [10.0, 100.0, 1000.0], [1.0, 1.3, 1.9], 0.4, 1e4, grows),
        case("float32", sizes, losses, 1.25, 3e6, single, torch.float32),
    ]


@exercise.mistake(
    "You leave the floor out at the end. The power law is what is *above* it: add it again."
)
def forgot_floor(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return a * size**-alpha


@exercise.mistake(
    "You do not use `floor` at all: the fit takes 0 for it. Then the law foretells losses that "
    "nobody can reach."
)
def ignores_floor(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss)
    return a * size**-alpha


@exercise.mistake(
    "You add the floor, but you have fitted without it. Give it to `fit_power_law`, too."
)
def fitted_without_floor(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss)
    return floor + a * size**-alpha


@exercise.mistake(
    "Your loss grows where it should fall: alpha is positive for a loss that falls, and the law "
    "has size to the power of minus alpha."
)
def sign(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return floor + a * size**alpha


@exercise.mistake("You take a for alpha and alpha for a. `fit_power_law` gives a first.")
def swapped(n, loss, floor, size):
    alpha, a = line_by_numpy(n, loss, floor)
    return floor + a * math.exp(-alpha * math.log(size))


@exercise.mistake("You return the loss of the last run. Asked for is the loss at `size`.")
def last_loss(n, loss, floor, size):
    return loss[-1].item()


@exercise.mistake(
    "You hang the law on your last run. That run has noise of its own: a, from the fit, hears all "
    "runs."
)
def from_the_last_run(n, loss, floor, size):
    alpha = line_by_numpy(n, loss, floor)[1]
    return floor + (loss[-1].item() - floor) * (size / n[-1].item()) ** -alpha


@exercise.mistake(
    "You shrink the whole loss by the power. Only what is above the floor follows the law."
)
def shrinks_the_floor(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return (floor + a) * size**-alpha


@exercise.mistake(
    "You return the logarithm of what is above the floor. Take its exponential, and add the floor."
)
def left_in_logarithms(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return floor + math.log(a) - alpha * math.log(size)


@exercise.mistake(
    "You lay a straight line through the losses themselves. On it the loss falls below zero in "
    "the end: use `fit_power_law`."
)
def straight_line(n, loss, floor, size):
    slope, height = np.polyfit(n.double().numpy(), loss.double().numpy(), 1)
    return float(height + slope * size)


@exercise.mistake("You subtract the floor at the end. The fit has taken it away: add it again.")
def subtracts_floor(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return a * size**-alpha - floor


@exercise.mistake("You return a tensor. The loss is a Python number: `.item()` makes one of it.")
def tensor_for_a_number(n, loss, floor, size):
    return torch.tensor(by_numpy(n, loss, floor, size), dtype=loss.dtype)


@exercise.alternative
def by_the_line(n, loss, floor, size):
    return by_numpy(n, loss, floor, size)


@exercise.alternative
def by_division(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return a / size**alpha + floor


@exercise.alternative
def from_the_middle(n, loss, floor, size):
    x, y = n.double().log(), (loss.double() - floor).log()
    alpha = line_by_numpy(n, loss, floor)[1]
    middle = x.mean().exp().item()
    return floor + y.mean().exp().item() * (size / middle) ** -alpha


@exercise.alternative
def by_tensors(n, loss, floor, size):
    a, alpha = line_by_numpy(n, loss, floor)
    return (floor + a * torch.tensor(float(size), dtype=torch.float64).pow(-alpha)).item()
