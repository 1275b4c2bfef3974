"""training.adamw_step: one update of one weight."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "training.adamw_step",
    used_by="`optimisers.AdamW`, for every parameter in every step",
    hints=(
        "First the two running means: the new one is beta times the old plus (1 - beta) times what "
        "has just come, the gradient or its square.",
        "Both began at 0, so at first they are too small. After `step` steps they are short of "
        "1 - beta^step: divide by that, but return them undivided.",
        "The direction is the corrected mean, divided by the root of the corrected square plus "
        "`eps`. So every number moves by about `lr`, however small its gradient.",
        "The decay is no part of that: the new parameter is parameter - lr · (direction + "
        "weight_decay · parameter).",
    ),
)


def _five_steps(part: Part, **given: Any) -> Any:
    """The part five times, each time with what it gave the time before and another gradient."""
    for count in range(5):
        weight, mean, square = part(**given)
        gradient = given["gradient"].roll(1, -1) * (1.5 - count / 2)
        later = {"parameter": weight, "mean": mean, "square": square, "gradient": gradient}
        given |= later | {"step": given["step"] + 1}
    return weight, mean, square


def _by_names(use: Part, names: list[str], *values: Any) -> Any:
    """torch in place of the part, used in the same way."""
    return use(adamw_by_torch, **dict(zip(names, values, strict=True)))


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        *shape: int,
        step: int = 3,
        lr: float = 0.01,
        dtype: torch.dtype = torch.float32,
        gradient_scale: float = 1.0,
        use: Part | None = None,
        **settings: Any,
    ) -> Case:
        arguments = {
            "parameter": inputs.normal(*shape, dtype=dtype),
            "gradient": gradient_scale * inputs.normal(*shape, seed=1, dtype=dtype),
            "mean": gradient_scale * inputs.normal(*shape, seed=2, dtype=dtype),
            "square": gradient_scale**2 * (0.1 + inputs.normal(*shape, seed=3, dtype=dtype) ** 2),
            "step": step,
            "lr": lr,
            **settings,
        }
        given = {"step": step, "lr": lr} | settings
        call = ", ".join(f"{name}={value}" for name, value in given.items())
        shown = f"adamw_step(parameter, gradient, mean, square, {call})"
        if use is None:
            return Case(title, arguments, adamw_by_torch, shown=shown)
        oracle = partial(_by_names, use, list(arguments))
        return Case(title, arguments, oracle, use, f"{shown}, five times")

    low: dict[str, Any] = {"betas": (0.5, 0.8), "eps": 1e-8, "weight_decay": 0.0}
    decay: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.5}
    small = {
        "parameter": torch.tensor([1.0, -2.0, 3.0]),
        "gradient": torch.tensor([0.5, -1.0, 0.0]),
        "mean": torch.zeros(3),
        "square": torch.zeros(3),
        "step": 1,
        "lr": 0.1,
    }
    call = "adamw_step(parameter, gradient, mean, square, step=1, lr=0.1)"
    return [
        Case("the first step", small, adamw_by_torch, shown=call),
        case("a later step", 3, 4),
        case("other betas", 3, 4, **low),
        case("weight decay", 2, 5, lr=0.1, **decay),
        case("weight decay, first step", 2, 5, step=1, lr=0.2, **decay),
        case("a large eps", 3, 4, lr=0.1, betas=(0.8, 0.9), eps=0.5),
        case("tiny gradients", 4, 3, lr=0.1, gradient_scale=1e-6, betas=(0.9, 0.99), eps=1e-6),
        case("after a thousand steps", 3, 2, step=1000, lr=0.05, **low),
        case("five steps", 3, 4, step=1, lr=0.1, use=_five_steps, **decay),
        case("everything at once", 2, 3, 4, step=2, betas=(0.7, 0.9), eps=0.3, weight_decay=0.2),
        case("no decay, no movement", 3, gradient_scale=0.0, betas=(0.9, 0.99), eps=1e-3),
        case("a single number", step=2, **decay),
        case("float64", 3, 4, step=4, dtype=torch.float64, **decay),
        case("bfloat16", 3, 4, lr=0.1, dtype=torch.bfloat16, **decay),
    ]


BETAS = (0.9, 0.999)


def _part_of(steps: type["_AdamWInSteps"]) -> Part:
    """The part that makes these steps."""

    def part(parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0):
        given = (parameter, gradient, mean, square, step, lr, betas, eps, weight_decay)
        return steps(*given).run()

    part.__name__ = steps.__name__
    return part


@dataclass
class _AdamWInSteps:
    """Right: the part in steps. Each version below does one of them otherwise."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    step: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    def run(self):
        self.mean, self.square = self.averages()
        return self.moved(self.direction(*self.unbiased())), self.mean, self.square

    def averages(self):
        mean = self.mean.lerp(self.gradient, 1 - self.betas[0])
        return mean, self.square.lerp(self.gradient.square(), 1 - self.betas[1])

    def unbiased(self):
        beta1, beta2 = self.betas
        return self.mean / (1 - beta1**self.step), self.square / (1 - beta2**self.step)

    def direction(self, mean, square):
        return mean / (square.sqrt() + self.eps)

    def moved(self, direction):
        return self.parameter - self.lr * (direction + self.weight_decay * self.parameter)


@exercise.mistake(
    "You use the running means as they are. They began at 0 and are too small at first: "
    "divide them by 1 - beta^step."
)
@_part_of
class NoBiasCorrection(_AdamWInSteps):
    def unbiased(self):
        return self.mean, self.square


@exercise.mistake(
    "You correct the mean and not the square, so the first steps are far too long. Divide "
    "both, each with its own beta."
)
@_part_of
class CorrectsMeanOnly(_AdamWInSteps):
    def unbiased(self):
        return super().unbiased()[0], self.square


@exercise.mistake(
    "You correct the square and not the mean, so the first steps are too short. Divide "
    "both, each with its own beta."
)
@_part_of
class CorrectsSquareOnly(_AdamWInSteps):
    def unbiased(self):
        return self.mean, super().unbiased()[1]


@exercise.mistake(
    "Your correction is one step behind, and divides by 0 in the first. `step` counts from "
    "1 already."
)
@_part_of
class StepsFromZero(_AdamWInSteps):
    def unbiased(self):
        self.step -= 1
        return super().unbiased()


@exercise.mistake(
    "You add the decay to the gradient. Then it is divided by the root as well, and large "
    "gradients switch it off. In AdamW it pulls at the parameter itself."
)
@_part_of
class L2InsteadOfDecoupled(_AdamWInSteps):
    def run(self):
        self.gradient = self.gradient + self.weight_decay * self.parameter
        self.weight_decay = 0.0
        return super().run()


@exercise.mistake(
    "Your decay is not multiplied with `lr`. As the rate falls, the decay falls with it."
)
@_part_of
class DecayWithoutLr(_AdamWInSteps):
    def moved(self, direction):
        return self.parameter - self.lr * direction - self.weight_decay * self.parameter


@exercise.mistake("You do not use `weight_decay`.")
@_part_of
class IgnoresDecay(_AdamWInSteps):
    def moved(self, direction):
        return self.parameter - self.lr * direction


@exercise.mistake("You decay the parameter after its step. Decay the one that you were given.")
@_part_of
class DecaysTheNewOne(_AdamWInSteps):
    def moved(self, direction):
        return (self.parameter - self.lr * direction) * (1 - self.lr * self.weight_decay)


@exercise.mistake("You add the direction, so the loss rises. Subtract it.")
@_part_of
class GoesUphill(_AdamWInSteps):
    def moved(self, direction):
        return super().moved(-direction)


@exercise.mistake(
    "You add `eps` before taking the root. Here it is added to the root: √square + eps."
)
@_part_of
class EpsInsideRoot(_AdamWInSteps):
    def direction(self, mean, square):
        return mean / (square + self.eps).sqrt()


@exercise.mistake(
    "You add `eps` to the root of the square before it is corrected, so it weighs more in "
    "the first steps. Correct first."
)
@_part_of
class EpsBeforeCorrection(_AdamWInSteps):
    def direction(self, mean, square):
        root = math.sqrt(1 - self.betas[1] ** self.step)
        return mean * root / (self.square.sqrt() + self.eps)


@exercise.mistake("You swapped the betas. The first is the mean's, the second the square's.")
@_part_of
class BetasSwapped(_AdamWInSteps):
    def run(self):
        self.betas = self.betas[::-1]
        return super().run()


@exercise.mistake(
    "You keep 1 - beta of the old and take beta of the new, so your means forget almost "
    "everything. It is the other way round."
)
@_part_of
class SharesSwapped(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        square = self.square.lerp(self.gradient.square(), beta2)
        return self.mean.lerp(self.gradient, beta1), square


@exercise.mistake("You add the gradient whole. A running mean takes (1 - beta) of it.")
@_part_of
class SumsInsteadOfMeans(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        return beta1 * self.mean + self.gradient, beta2 * self.square + self.gradient**2


@exercise.mistake(
    "Your second mean is of the gradient too, so its root can be NaN. It is the mean of "
    "the gradient's square."
)
@_part_of
class ForgotSquare(_AdamWInSteps):
    def averages(self):
        return super().averages()[0], self.square.lerp(self.gradient, 1 - self.betas[1])


@exercise.mistake("You divide by the square. Divide by its root, which has the gradient's unit.")
@_part_of
class ForgotRoot(_AdamWInSteps):
    def direction(self, mean, square):
        return mean / (square + self.eps)


@exercise.mistake("You step along the gradient of this batch. Step along the running mean.")
@_part_of
class UsesTheGradient(_AdamWInSteps):
    def direction(self, mean, square):
        return super().direction(self.gradient, square)


@exercise.mistake("You step with the means from before. Bring them up to date first.")
@_part_of
class UsesOldMeans(_AdamWInSteps):
    def run(self):
        return self.moved(self.direction(*self.unbiased())), *self.averages()


@exercise.mistake(
    "You return the corrected means. The next step would correct them once more: return "
    "them as they are."
)
@_part_of
class ReturnsUnbiased(_AdamWInSteps):
    def run(self):
        return super().run()[0], *self.unbiased()


@exercise.mistake(
    "Your parameter is right, but you return the means that you were given. Return the new "
    "ones, or they stay 0 for ever."
)
@_part_of
class ReturnsOldMeans(_AdamWInSteps):
    def run(self):
        mean, square = self.mean, self.square
        return super().run()[0], mean, square


@exercise.mistake(
    "You return the parameter alone. The next step needs both means: return all three."
)
@_part_of
class ReturnsParameterOnly(_AdamWInSteps):
    def run(self):
        return super().run()[0]


@exercise.mistake(
    "Your numbers are right, but `mul_` and `add_` change the caller's tensors. Without "
    "the underscore they make new ones."
)
@_part_of
class ChangesInPlace(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        self.square.mul_(beta2).add_(self.gradient**2, alpha=1 - beta2)
        return self.mean.mul_(beta1).add_(self.gradient, alpha=1 - beta1), self.square


@exercise.alternative
def adamw_by_torch(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tensor, ...]:
    weight = nn.Parameter(parameter.detach().clone())
    weight.grad = gradient.detach().clone()
    optimiser = AdamW([weight], lr, betas, eps, weight_decay)
    averages = {"exp_avg": mean.detach().clone(), "exp_avg_sq": square.detach().clone()}
    optimiser.state[weight] = {"step": torch.tensor(step - 1.0), **averages}
    optimiser.step()
    return weight.detach(), *averages.values()


exercise.alternative(_part_of(_AdamWInSteps))


@exercise.alternative
def adamw_by_lerp(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    mean = torch.lerp(mean, gradient, 1 - betas[0])
    square = torch.lerp(square, gradient * gradient, 1 - betas[1])
    decayed = parameter * (1 - lr * weight_decay)
    denominator = (square / (1 - betas[1] ** step)) ** 0.5 + eps
    return decayed - lr / (1 - betas[0] ** step) * mean / denominator, mean, square


@exercise.alternative
@torch.no_grad()
def adamw_by_addcdiv(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    new, mean, square = parameter.clone(), mean.clone(), square.clone()
    mean.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    denominator = (square.sqrt() / math.sqrt(1 - betas[1] ** step)).add_(eps)
    new.mul_(1 - lr * weight_decay).addcdiv_(mean, denominator, value=-lr / (1 - betas[0] ** step))
    return new, mean, square


@exercise.alternative
def adamw_by_eps_hat(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    beta1, beta2 = betas
    mean = gradient + beta1 * (mean - gradient)
    square = gradient.square() + beta2 * (square - gradient.square())
    root = math.sqrt(1 - beta2**step)
    rate = lr * root / (1 - beta1**step)
    change = rate * mean / (square.sqrt() + eps * root)
    return parameter - change - lr * weight_decay * parameter, mean, square
