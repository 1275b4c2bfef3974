"""projection.is_linear: a map that keeps sums and multiples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Wrong

Function = Callable[[Tensor], Tensor]

exercise = Exercise(
    "projection.is_linear",
    used_by="the experiments of this notebook and of later ones that ask what is linear",
    hints=(
        "A function is linear if two things hold: f(x + y) = f(x) + f(y), and f(a x) = a f(x). You "
        "cannot try all vectors, but random ones give a function away quickly.",
        "Both rules are in one: f(a x + b y) = a f(x) + b f(y). Take `x` and `y` from "
        "`torch.randn(d)`, with positive and negative numbers, and `a` and `b` likewise.",
        "Rounding makes the two sides differ a little, and more for large numbers. Compare with "
        "`torch.allclose(left, right, rtol=1e-3, atol=1e-3)`, not with `==`.",
        "Repeat it a few times, with `torch.randn(d)` and with `100 * torch.randn(d)`: one pair of "
        "vectors can pass by chance. Return False as soon as one fails.",
    ),
)


@dataclass(frozen=True)
class _OfOneVector:
    """A function of one vector of `d` numbers that is shown as its formula."""

    formula: str
    rule: Function
    d: int

    def __call__(self, x: Tensor) -> Tensor:
        if list(x.shape) != [self.d]:
            raise Wrong(
                f"`f` takes one vector, here of the shape {[self.d]}. You call it with the shape "
                f"{list(x.shape)}. Draw each vector with `torch.randn(d)`."
            )
        return self.rule(x)

    def __repr__(self) -> str:
        return self.formula


@exercise.cases
def cases() -> list[Case]:
    def case(linear: bool, d: int, formula: str, rule: Function, point: str = "") -> Case:
        answer = "is linear" if linear else "is not linear"
        arguments = {"f": _OfOneVector(formula, rule, d), "d": d}
        return Case(f"{formula} {answer}", arguments, lambda f, d: linear, point=point)

    def yes(formula: str, rule: Function, point: str = "", d: int = 8) -> Case:
        return case(True, d, f"f(x) = {formula}", rule, point)

    def no(formula: str, rule: Function, point: str = "", d: int = 8) -> Case:
        return case(False, d, f"f(x) = {formula}", rule, point)

    def times(weight: Tensor) -> Function:
        return lambda x: weight.to(x.dtype) @ x

    def layer(x: Tensor) -> Tensor:
        return F.linear(x, nn.Parameter(weight))

    def last_squared(x: Tensor) -> Tensor:
        return torch.cat([x[:-1], x[-1:] ** 2])

    weight, offset = inputs.normal(3, 8), torch.tensor([2.0, 0.0, -1.0])
    line = F.normalize(inputs.normal(8, seed=2), dim=0)
    quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    rounded = (
        "Both sides are rounded, and more so for sums of large numbers. Compare them with a "
        "tolerance that grows with the numbers: `torch.allclose(left, right, rtol=1e-3, "
        "atol=1e-3)`."
    )
    affine = (
        "A function with an offset is affine, not linear. Differences hide the offset, f(x) - f(0) "
        "too, and so do factors that sum to 1: draw `a` and `b` apart from each other."
    )
    sums = (
        "Multiples of one vector are not enough: test sums of two different vectors, with positive "
        "and negative numbers in both."
    )
    small = (
        "Large vectors hide what is small, an offset of 0.1 or rounding to whole numbers. Try "
        "small ones as well, with a tolerance that is small beside the results."
    )
    far = (
        "Some functions bend only far from 0. Try large vectors as well, `100 * torch.randn(d)`, "
        "and let every try count."
    )
    each = "Compare the two sides number by number, not their sums or lengths, and all the numbers."
    same = (
        "`f` may return the very vector that it was given: whatever is then written into the "
        "result, with `+=` or `*=`, changes that vector."
    )
    learns = (
        "What a layer returns carries a gradient: `.numpy()` and writing in place refuse it. "
        "`with torch.no_grad():` or `.detach()` helps."
    )
    nothing = (
        "`f` may give 0 for every vector, and is then linear: nothing is divided by its result."
    )
    return [
        yes("3x", lambda x: 3 * x, rounded),
        no("x + 1", lambda x: x + 1, affine),
        no("x * x", lambda x: x * x),
        no("x * its first number", lambda x: x * x[..., :1]),
        no("softmax(x)", lambda x: x.softmax(-1)),
        yes("x turned by 90 degrees", times(quarter_turn), d=2),
        yes("x in reverse order", lambda x: x.flip(-1)),
        yes("W x, from 8 numbers to 3", times(weight), rounded),
        yes("x projected onto a line", times(torch.outer(line, line)), rounded),
        yes("x - mean of x", lambda x: x - x.mean(-1, keepdim=True), rounded),
        yes("the running sum of x", lambda x: x.cumsum(-1), rounded, d=64),
        yes("a layer without a bias", layer, learns),
        yes("x itself, the same tensor", lambda x: x, same),
        yes("0", lambda x: 0 * x, nothing),
        no("W x + b", lambda x: times(weight)(x) + offset.to(x.dtype), affine),
        no("1", lambda x: torch.ones_like(x), affine),
        no("x + 0.1", lambda x: x + 0.1, small),
        no("x in whole numbers", lambda x: x.round(), small),
        no("x, but 0 for its small numbers", lambda x: F.hardshrink(x, 0.5), small),
        no("|x|", lambda x: x.abs(), sums),
        no("relu(x)", lambda x: x.clamp_min(0), sums),
        no("the length of x", lambda x: x.norm(dim=-1), sums),
        no("the largest of x", lambda x: x.amax(-1), sums, d=64),
        no("smallest plus largest of x", lambda x: x.amin(-1) + x.amax(-1), sums),
        no("x sorted", lambda x: x.sort(dim=-1).values, each),
        no("x, its last number squared", last_squared, each),
        no("x, but never more than 1", lambda x: x.clamp_max(1), far),
        no("x, kept between -10 and 10", lambda x: x.clamp(-10, 10), far),
        yes("-2x, for single numbers", lambda x: -2 * x, points.AXIS_OF_ONE, d=1),
    ]


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-3)


def _adds(f: Function, x: Tensor, y: Tensor) -> bool:
    return _close(f(x + y), f(x) + f(y))


def _scales(f: Function, a: float, x: Tensor) -> bool:
    return _close(f(a * x), a * f(x))


def _both(f: Function, x: Tensor, y: Tensor, a: float = -3.0) -> bool:
    return _adds(f, x, y) and _scales(f, a, x)


@exercise.mistake(
    "You only test f(a x) = a f(x) with positive a. |x|, relu and sorting pass that. Use "
    "two vectors, f(x + y) = f(x) + f(y), and negative numbers too."
)
def only_homogeneity(f: Function, d: int) -> bool:
    return all(_scales(f, a, torch.randn(d)) for a in (0.5, 2.0, 30.0))


@exercise.mistake(
    "You only test f(a x) = a f(x). Functions that are not linear pass that, such as "
    "smallest plus largest. Test sums of two vectors as well."
)
def scales_by_any_number(f: Function, d: int) -> bool:
    return all(_scales(f, a, torch.randn(d)) for a in (2.0, -1.0, -30.0))


@exercise.mistake(
    "W x + b passes your test. It is affine, not linear: f(0) is b and not 0. Do not "
    "subtract the offset, do not only test differences, and draw both factors: with b = 1 - a the "
    "offset cancels."
)
def affine_counts_as_linear(f: Function, d: int) -> bool:
    zero = f(torch.zeros(d))
    return _adds(lambda x: f(x) - zero, 30 * torch.randn(d), 30 * torch.randn(d))


@exercise.mistake(
    "You only look whether f(0) is 0. That must hold, but x * x passes it as well. Test "
    "f(x + y) = f(x) + f(y) on random vectors."
)
def tests_one_point_zero(f: Function, d: int) -> bool:
    return not f(torch.zeros(d)).any()


@exercise.mistake(
    "Your random vectors have no negative numbers (`torch.rand` gives 0 to 1), so |x| and "
    "relu look like f(x) = x. Use `torch.randn`."
)
def only_positive_vectors(f: Function, d: int) -> bool:
    return all(_adds(f, size * torch.rand(d), size * torch.rand(d)) for size in (1, 1, 30))


@exercise.mistake(
    "Your vectors hold whole numbers only. Functions that bend in between, such as rounding, look "
    "linear there. Draw them with `torch.randn`."
)
def only_whole_numbers(f: Function, d: int) -> bool:
    return all(_both(f, *torch.randint(-9, 10, (2, d)).float()) for _ in range(9))


@exercise.mistake(
    "A function that bends only beyond 10 is linear for you. Either no vector is that large: try "
    "`100 * torch.randn(d)`. Or a later, small one overrules it: every try must count, so return "
    "False as soon as one fails."
)
def only_small_vectors(f: Function, d: int) -> bool:
    return all(_both(f, *torch.randn(2, d)) for _ in range(9))


@exercise.mistake(
    "You add up the numbers of the results before comparing them. A sorted vector has the "
    "same sum, yet sorting is not linear. Compare number by number."
)
def compares_sums(f: Function, d: int) -> bool:
    for size in (0.1, 1.0, 30.0) * 9:
        x, y = size * torch.randn(2, d)
        together, apart = f(x - 2 * y).sum(), f(x).sum() - 2 * f(y).sum()
        rounding = 1e-4 * (f(x).abs().sum() + f(y).abs().sum())
        if not (together - apart).abs() <= rounding:
            return False
    return True


@exercise.mistake(
    "You demand that both sides are exactly equal. Floating-point numbers are rounded, so "
    "they differ in the last digit. Use `torch.allclose`."
)
def demands_exact_equality(f: Function, d: int) -> bool:
    pairs = 30 * torch.randn(4, 2, d)
    return all(torch.equal(f(x + y), f(x) + f(y)) for x, y in pairs)


@exercise.mistake(
    "Your vectors are float64. The weights of a layer are float32, and the two cannot be "
    "multiplied. Draw with `torch.randn(d)`; compute in float64 after `f`, if you like."
)
def draws_float64(f: Function, d: int) -> bool:
    pairs = 10 * torch.randn(10, 2, d, dtype=torch.float64)
    return all(_both(f, x, y) for x, y in pairs)


@exercise.mistake(
    "`*=` and `+=` write into what `f` returned, and that may be the vector that you gave it, as "
    "for f(x) = x. Write `a * f(x) + b * f(y)`, which makes new tensors."
)
@torch.no_grad()
def changes_what_f_returns(f: Function, d: int) -> bool:
    for size in (1.0, 30.0):
        x, y = size * torch.randn(2, d)
        apart = f(x)
        apart *= -3.0
        apart += f(y)
        if not _close(f(-3.0 * x + y), apart):
            return False
    return True


@exercise.mistake(
    "Your answers are right, but each is a tensor. Make it a plain True or False with `bool(...)`."
)
def returns_tensor(f: Function, d: int) -> Tensor:
    return torch.tensor(is_linear_by_two_tests(f, d))


@exercise.mistake("You answer True to every function. Return False where the two sides differ.")
def always_true(f: Function, d: int) -> bool:
    return True


@exercise.alternative
def is_linear_by_two_tests(f: Function, d: int) -> bool:
    for size in (0.1, 1.0, 100.0):
        x, y = size * torch.randn(2, d)
        if not _both(f, x, y, torch.randn(()).item()):
            return False
    return True


@exercise.alternative
def is_linear_by_its_matrix(f: Function, d: int) -> bool:
    """A linear map is known by what it makes of the basis vectors."""
    matrix = torch.stack([f(basis) for basis in torch.eye(d)], dim=-1)
    vectors = [9 * torch.randn(d) for _ in range(5)]
    return all(torch.allclose(f(x), matrix @ x, atol=1e-4) for x in vectors)


@exercise.alternative
def is_linear_in_float64(f: Function, d: int) -> bool:
    pairs = 10 * torch.randn(10, 2, d)
    gaps = [f(x + 3 * y).double() - f(x).double() - 3 * f(y).double() for x, y in pairs]
    return all(gap.abs().max().item() < 1e-3 for gap in gaps)


@exercise.alternative
def is_linear_by_numpy(f: Function, d: int) -> bool:
    generator = np.random.default_rng(1)
    for _ in range(20):
        x, y = torch.from_numpy(generator.uniform(-9, 9, (2, d)).astype(np.float32))
        left, right = f(2 * x - 3 * y).detach(), 2 * f(x).detach() - 3 * f(y).detach()
        if not np.allclose(left, right, rtol=1e-2, atol=1e-2):
            return False
    return True
