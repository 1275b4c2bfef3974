"""training.Scalar: numbers that know how an end depends on them."""

import math
from collections.abc import Callable
from typing import Any

import torch

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "training.Scalar",
    used_by="notebook 07: p − y and the way back through attention come out of it",
    hints=(
        "A slope says by how much the result rises if that parent rises by a little. For a · b it "
        "is b in the place of a, and a in the place of b. eˣ rises by eˣ, ln x by 1/x.",
        "`backward` needs an order in which every number comes behind all that it was made of. "
        "Visit the parents first, then append the number itself; remember whom you have visited.",
        "Then walk through that order from its end, beginning with `self.grad = 1.0`: each number "
        "gives each parent slope · its own gradient.",
        "A number that is used twice hears twice: "
        "`for parent, slope in zip(number.parents, number.slopes): parent.grad += slope * "
        "number.grad`.",
    ),
    methods=("__mul__", "exp", "log", "backward"),
)


def _softmax_loss(a: Any, b: Any, c: Any) -> Any:
    return (a.exp() + b.exp() + c.exp()).log() + b * _number(b, -1.0)


def _number(like: Any, value: float) -> Any:
    """A constant of the kind that `like` is."""
    return type(like)(value) if not isinstance(like, torch.Tensor) else torch.tensor(value).double()


def _doubled(a: Any) -> Any:
    """Each number is the sum of the one before and itself: 2¹² paths, and twelve numbers."""
    for _ in range(12):
        a = a + a
    return a


def _zigzag(a: Any, b: Any) -> Any:
    """Short and long ways to the same numbers."""
    c = a * b
    d = c + a
    e = d * c
    return (e + d) * c + a


def _near_then_far(a: Any, b: Any) -> Any:
    """The sum hears c at once, and once more through its product."""
    c = a * b
    return c + c * a


def _logs(a: Any, b: Any) -> Any:
    return (a * b).log() * (a + b).log()


FORMULAS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "a * b": (lambda a, b: a * b, (3.0, -2.0)),
    "a.exp()": (lambda a: a.exp(), (0.5,)),
    "a.log()": (lambda a: a.log(), (0.2,)),
    "a + b": (lambda a, b: a + b, (3.0, -2.0)),
    "a * a": (lambda a: a * a, (3.0,)),
    "a * b + a": (lambda a, b: a * b + a, (2.0, 5.0)),
    "(a + b) * b * a": (lambda a, b: (a + b) * b * a, (1.5, -4.0)),
    "a.exp() * a": (lambda a: a.exp() * a, (-1.2,)),
    "(a * b).log() * (a + b).log()": (_logs, (1.5, 3.0)),
    "(a.exp() + b.exp() + c.exp()).log() + b * Scalar(-1.0)": (_softmax_loss, (1.0, -0.5, 2.0)),
    "c = a * b; d = c + a; e = d * c; (e + d) * c + a": (_zigzag, (0.7, -1.3)),
    "c = a * b; c + c * a": (_near_then_far, (1.4, -0.6)),
    "a = a + a, twelve times": (_doubled, (1.0,)),
    "a + b * c, where c does not matter": (lambda a, b, c: a + b * c, (1.0, 0.0, 4.0)),
}


TWICE = (
    "A number that is used twice hears twice: what arrives is added to its `grad`, from every use "
    "and for every parent, and both parents may be one number."
)
ORDER = (
    "A number passes its gradient on once, when it has heard from all that use it. Put all numbers "
    "in an order in which each comes behind its parents, and walk it from the end."
)
ZERO = "A value or a gradient may be 0, and is passed on like any other: leave no parent out."
POINTS = {
    "a * a": TWICE,
    "a * b + a": TWICE,
    "(a + b) * b * a": TWICE,
    "a.exp() * a": TWICE,
    "(a * b).log() * (a + b).log()": TWICE,
    "(a.exp() + b.exp() + c.exp()).log() + b * Scalar(-1.0)": TWICE,
    "c = a * b; d = c + a; e = d * c; (e + d) * c + a": ORDER,
    "c = a * b; c + c * a": ORDER,
    "a = a + a, twelve times": ORDER,
    "a + b * c, where c does not matter": ZERO,
}
"""What a formula asks beyond one use of each number."""


def _uses(formula: Callable[..., Any]) -> Callable[..., dict[str, float]]:
    def use(part: Part, **values: float) -> dict[str, float]:
        leaves = {name: part(value) for name, value in values.items()}
        end = formula(*leaves.values())
        if not isinstance(end, part):  # type: ignore[arg-type]
            raise Wrong("The result of every operation is a new `Scalar`: return one.")
        end.backward()
        grads = {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
        return {
            key: _plain(number)
            for key, number in {"value": end.value, "grad": end.grad, **grads}.items()
        }

    return use


def _plain(number: Any) -> Any:
    """A float; anything else is left for the check to refuse."""
    return float(number) if isinstance(number, int | float) else number


def _by_torch(formula: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., dict]:
    def oracle(*values: float) -> dict[str, float]:
        leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]
        end = formula(*leaves)
        end.backward()
        grads = {
            f"{name}.grad": 0.0 if leaf.grad is None else leaf.grad.item()
            for name, leaf in zip(names, leaves, strict=True)
        }
        return {"value": end.item(), "grad": 1.0, **grads}

    return oracle


@exercise.cases
def cases() -> list[Case]:
    made = []
    for text, (formula, values) in FORMULAS.items():
        names = tuple("abc"[: len(values)])
        arguments = dict(zip(names, values, strict=True))
        shown = f"{text}, then backward() of the result"
        oracle, use = _by_torch(formula, names), _uses(formula)
        made.append(Case(text, arguments, oracle, use, shown, point=POINTS.get(text, "")))
    return made


@exercise.holds
def _leaves_what_others_added(part: Part) -> None:
    """Two ends that share a number both add to it."""
    a, b = part(2.0), part(3.0)
    (a * b).backward()
    (a * a).backward()
    if a.grad == 4.0:
        raise Wrong(
            "A second end that uses the same number, and its `backward`, wiped out what the first "
            "had added. Gradients add up until somebody sets them to 0."
        )
    if not math.isclose(a.grad, 7.0):
        raise Wrong(
            f"After `(a * b).backward()` and `(a * a).backward()` with a = 2, b = 3, `a.grad` "
            f"should be 3 + 4 = 7, yours is {a.grad}."
        )


class _Right:
    """The part in steps, which the mistakes below replace one by one."""

    def __init__(self, value, parents=(), slopes=()):
        self.value = value
        self.parents = parents
        self.slopes = slopes
        self.grad = 0.0

    def __add__(self, other):
        return type(self)(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        made = self.value * other.value
        return type(self)(made, (self, other), self.slopes_of_a_product(other))

    def slopes_of_a_product(self, other):
        return (other.value, self.value)

    def exp(self):
        return type(self)(math.exp(self.value), (self,), (self.slope_of_exp(),))

    def slope_of_exp(self):
        return math.exp(self.value)

    def log(self):
        return type(self)(math.log(self.value), (self,), (self.slope_of_log(),))

    def slope_of_log(self):
        return 1 / self.value

    def order(self):
        found: list = []
        self.visit(found)
        return found[::-1]

    def visit(self, found):
        if self not in found:
            for parent in self.parents:
                parent.visit(found)
            found.append(self)

    def backward(self):
        self.grad = 1.0
        for number in self.order():
            for parent, slope in zip(number.parents, number.slopes, strict=True):
                self.tell(parent, slope, number)

    def tell(self, parent, slope, number):
        parent.grad += slope * number.grad


@exercise.mistake(
    "You write a parent's gradient over what it had. A number that is used twice hears twice: "
    "add with `+=`."
)
class Overwrites(_Right):
    def tell(self, parent, slope, number):
        parent.grad = slope * number.grad


@exercise.mistake(
    "The slopes of your product are swapped. If a rises by a little, a · b rises by b times as "
    "much: the slope of a is b."
)
class SlopesSwapped(_Right):
    def slopes_of_a_product(self, other):
        return (self.value, other.value)


@exercise.mistake("The slopes of your product are those of a sum, 1 and 1. They are b and a.")
class ProductLikeASum(_Right):
    def slopes_of_a_product(self, other):
        return (1.0, 1.0)


@exercise.mistake("The slope of eˣ is eˣ itself, not x.")
class SlopeOfExpIsX(_Right):
    def slope_of_exp(self):
        return self.value


@exercise.mistake("The slope of eˣ is eˣ itself. It is no constant.")
class SlopeOfExpIsOne(_Right):
    def slope_of_exp(self):
        return 1.0


@exercise.mistake("The slope of ln x is 1/x. You take the logarithm.")
class SlopeOfLogIsLog(_Right):
    def slope_of_log(self):
        return math.log(self.value)


@exercise.mistake("The slope of ln x is 1/x, not x.")
class SlopeOfLogIsX(_Right):
    def slope_of_log(self):
        return self.value


@exercise.mistake(
    "You multiply with the parent's own gradient, which is still 0. What flows back is the "
    "gradient of the number that was made of it."
)
class ParentsOwnGradient(_Right):
    def tell(self, parent, slope, number):
        parent.grad += slope * parent.grad


@exercise.mistake(
    "You leave the slope out: every parent hears the same. Multiply slope and gradient."
)
class ForgotSlope(_Right):
    def tell(self, parent, slope, number):
        parent.grad += number.grad


@exercise.mistake("You pass on the slope alone. The chain rule multiplies it with `number.grad`.")
class SlopeAlone(_Right):
    def tell(self, parent, slope, number):
        parent.grad += slope


@exercise.mistake("The end's own gradient is 1. Yours starts at 0, so nothing flows back.")
class StartsAtZero(_Right):
    def backward(self):
        for number in self.order():
            for parent, slope in zip(number.parents, number.slopes, strict=True):
                self.tell(parent, slope, number)


@exercise.mistake(
    "Only the parents of the end hear anything. Either you stop after one step, or you go from the "
    "first number to the last: what flows back begins at the end, `reversed(order)`."
)
class FromTheFirst(_Right):
    def order(self):
        return super().order()[::-1]


@exercise.mistake(
    "A number passes its gradient on before it has heard from all that use it. Order the numbers "
    "so that each comes behind everything it was made of, then walk from the end."
)
class BreadthFirst(_Right):
    def order(self):
        found, waiting = [], [self]
        while waiting:
            number = waiting.pop(0)
            if number not in found:
                found.append(number)
                waiting += number.parents
        return found


@exercise.mistake(
    "A number passes its gradient on before it has heard from all that use it: you append it "
    "before its parents. Visit the parents first, append the number, and walk from the end."
)
class NumberBeforeItsParents(_Right):
    def order(self):
        return super().order()[::-1]

    def visit(self, found):
        if self not in found:
            found.append(self)
            for parent in self.parents:
                parent.visit(found)


@exercise.mistake(
    "You call `backward` of the parents, and each of them sets its own `grad` to 1. Only the end's "
    "is 1. Put all numbers in order first, then walk that order once."
)
class CallsBackwardOfParents(_Right):
    def backward(self):
        self.grad = 1.0
        for parent, slope in zip(self.parents, self.slopes, strict=True):
            self.tell(parent, slope, self)
            parent.backward()


@exercise.mistake(
    "You go on to the parents each time a number hears something, with all that it has heard so "
    "far: its first message is passed on twice. Put all numbers in order first, then walk that "
    "order once."
)
class GoesOnAtOnce(_Right):
    def backward(self):
        self.grad = 1.0
        self.go_on()

    def go_on(self):
        for parent, slope in zip(self.parents, self.slopes, strict=True):
            self.tell(parent, slope, self)
            parent.go_on()


@exercise.mistake(
    "A number that was visited before is visited again, so it passes its gradient on more than "
    "once. Remember whom you have visited."
)
class VisitsTwice(_Right):
    def visit(self, found):
        for parent in self.parents:
            parent.visit(found)
        found.append(self)


@exercise.mistake("You add up the same slope for both parents. Each parent has its own: use `zip`.")
class FirstSlopeForAll(_Right):
    def backward(self):
        self.grad = 1.0
        for number in self.order():
            for parent in number.parents:
                self.tell(parent, number.slopes[0], number)


@exercise.alternative
class ScalarBySums(_Right):
    """What flows to each number is summed up aside, and added at the end."""

    def backward(self):
        flows = {self: 1.0}
        for number in self.order():
            number.grad += flows[number]
            for parent, slope in zip(number.parents, number.slopes, strict=True):
                flows[parent] = flows.get(parent, 0.0) + slope * flows[number]


@exercise.alternative
class ScalarByCounting(_Right):
    """A number goes on when all that use it have spoken."""

    def order(self):
        users: dict = {}
        waiting, known = [self], {self}
        while waiting:
            for parent in waiting.pop().parents:
                users[parent] = users.get(parent, 0) + 1
                if parent not in known:
                    known.add(parent)
                    waiting.append(parent)
        found, ready = [], [self]
        while ready:
            number = ready.pop()
            found.append(number)
            for parent in number.parents:
                users[parent] -= 1
                if not users[parent]:
                    ready.append(parent)
        return found


@exercise.alternative
class ScalarByPaths(_Right):
    """Every path from the end is walked on its own: slow, and right."""

    def backward(self):
        self.walk(1.0)

    def walk(self, arriving):
        self.grad += arriving
        for parent, slope in zip(self.parents, self.slopes, strict=True):
            parent.walk(slope * arriving)
