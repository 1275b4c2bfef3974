"""training.adamw_step: one update of one weight."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from course_utils.exercises import inputs, points
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


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        tensors: dict[str, Tensor],
        point: str = "",
        use: Part | None = None,
        **given: Any,
    ) -> Case:
        settings = {"step": 3, "lr": 0.01} | given
        arguments = tensors | settings
        named = ", ".join(f"{name}={value}" for name, value in settings.items())
        call = f"adamw_step(parameter, gradient, mean, square, {named})"
        if use is None:
            return Case(title, arguments, adamw_by_torch, shown=call, point=point)
        oracle = partial(_by_names, use, list(arguments))
        return Case(title, arguments, oracle, use, f"{call}, five times", point=point)

    def drawn(
        *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        return {
            "parameter": inputs.normal(*shape, dtype=dtype),
            "gradient": scale * inputs.normal(*shape, seed=1, dtype=dtype),
            "mean": scale * inputs.normal(*shape, seed=2, dtype=dtype),
            "square": scale**2 * (0.1 + inputs.normal(*shape, seed=3, dtype=dtype) ** 2),
        }

    first = {
        "parameter": torch.tensor([1.0, -2.0, 3.0]),
        "gradient": torch.tensor([0.5, -1.0, 0.0]),
        "mean": torch.zeros(3),
        "square": torch.zeros(3),
    }
    usual: dict[str, Any] = {"betas": (0.9, 0.999)}
    decay: dict[str, Any] = {**usual, "eps": 1e-8, "weight_decay": 0.5}
    tiny = drawn(4, 3, scale=1e-6)
    by_its_own = (
        "The decay is no part of the gradient: lr · weight_decay · the parameter that was given is "
        "subtracted besides, nothing divides it, and the parameter may have any number of axes."
    )
    at_the_root = (
        "`eps` is added to the root of the corrected square, as it is: √square + eps. Where "
        "gradients are tiny or `eps` is large it decides how far a step goes."
    )
    as_given = (
        "Both betas are those that you are given: the first is the mean's, the second the square's."
    )
    handed_on = (
        "The means that are returned go into the next step: the new ones, not divided by 1 - "
        "beta^step, and nothing that was given is written into."
    )
    any_shape = "A parameter may have any number of axes, none too."
    return [
        case("the first step", first, step=1, lr=0.1),
        case("a later step", drawn(3, 4)),
        case("other betas", drawn(3, 4), as_given, betas=(0.5, 0.8)),
        case("weight decay", drawn(2, 5), by_its_own, lr=0.1, **decay),
        case("weight decay, first step", drawn(2, 5), by_its_own, step=1, lr=0.2, **decay),
        case("weight decay of a vector", drawn(5), by_its_own, lr=0.1, **decay),
        case("weight decay of a single number", drawn(), by_its_own, lr=0.1, **decay),
        case("a large eps", drawn(3, 4), at_the_root, lr=0.1, **usual, eps=0.5),
        case("tiny gradients", tiny, at_the_root, lr=0.1, **usual, eps=1e-6),
        case("after a thousand steps", drawn(3, 2), step=1000, lr=0.05),
        case("five steps", drawn(3, 4), handed_on, _five_steps, step=1, lr=0.1),
        case("three axes", drawn(2, 3, 4), any_shape, step=2),
        case("no decay, no movement", drawn(3, scale=0.0), at_the_root, **usual, eps=1e-3),
        case("a single number", drawn(), any_shape, step=2),
        case("float64", drawn(3, 4, dtype=torch.float64), points.FLOAT64, step=4),
        case("bfloat16", drawn(3, 4, dtype=torch.bfloat16), points.SAME_DTYPE, lr=0.1),
    ]


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


@dataclass
class _InSteps:
    """Right. Each mistake has one of the steps of its own."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    step: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

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


def _instead_of(step: str) -> Callable[[Part], Part]:
    """Makes a part of a method: all other steps are right."""

    def decorate(method: Part) -> Part:
        steps = type(method.__name__, (_InSteps,), {step: method})

        def part(*args: Any, **named: Any) -> Any:
            return steps(*args, **named).run()

        part.__name__ = method.__name__
        part.__signature__ = inspect.signature(_InSteps)  # type: ignore[attr-defined]
        return part

    return decorate


@exercise.mistake(
    "You use the running means as they are. They began at 0 and are too small at first: divide "
    "them by 1 - beta^step."
)
@_instead_of("unbiased")
def no_bias_correction(self):
    return self.mean, self.square


@exercise.mistake(
    "You correct the mean and not the square, so the first steps are far too long. Divide both, "
    "each with its own beta."
)
@_instead_of("unbiased")
def corrects_mean_only(self):
    return self.mean / (1 - self.betas[0] ** self.step), self.square


@exercise.mistake(
    "You correct the square and not the mean, so the first steps are too short. Divide both, each "
    "with its own beta."
)
@_instead_of("unbiased")
def corrects_square_only(self):
    return self.mean, self.square / (1 - self.betas[1] ** self.step)


@exercise.mistake(
    "Your correction is one step behind, and divides by 0 in the first. `step` counts from 1 "
    "already."
)
@_instead_of("unbiased")
def steps_from_zero(self):
    self.step -= 1
    return _InSteps.unbiased(self)


@exercise.mistake(
    "You add the decay to the gradient. Then it is divided by the root as well, and large "
    "gradients switch it off. In AdamW it pulls at the parameter itself."
)
@_instead_of("run")
def l2_instead_of_decoupled(self):
    self.gradient = self.gradient + self.weight_decay * self.parameter
    self.weight_decay = 0.0
    return _InSteps.run(self)


@exercise.mistake(
    "Your decay is not multiplied with `lr`. As the rate falls, the decay falls with it."
)
@_instead_of("moved")
def decay_without_lr(self, direction):
    return self.parameter - self.lr * direction - self.weight_decay * self.parameter


@exercise.mistake("You do not use `weight_decay`.")
@_instead_of("moved")
def ignores_decay(self, direction):
    return self.parameter - self.lr * direction


@exercise.mistake("You decay the parameter after its step. Decay the one that you were given.")
@_instead_of("moved")
def decays_the_new_one(self, direction):
    return (self.parameter - self.lr * direction) * (1 - self.lr * self.weight_decay)


@exercise.mistake("You add the direction, so the loss rises. Subtract it.")
@_instead_of("moved")
def goes_uphill(self, direction):
    return _InSteps.moved(self, -direction)


@exercise.mistake(
    "You add `eps` before taking the root. Here it is added to the root: √square + eps."
)
@_instead_of("direction")
def eps_inside_root(self, mean, square):
    return mean / (square + self.eps).sqrt()


@exercise.mistake(
    "You add `eps` to the root of the square before it is corrected, so it weighs more in the "
    "first steps. Correct first."
)
@_instead_of("direction")
def eps_before_correction(self, mean, square):
    root = math.sqrt(1 - self.betas[1] ** self.step)
    return mean * root / (self.square.sqrt() + self.eps)


@exercise.mistake("You swapped the betas. The first is the mean's, the second the square's.")
@_instead_of("run")
def betas_swapped(self):
    self.betas = self.betas[::-1]
    return _InSteps.run(self)


@exercise.mistake(
    "You keep 1 - beta of the old and take beta of the new, so your means forget almost "
    "everything. It is the other way round."
)
@_instead_of("averages")
def shares_swapped(self):
    beta1, beta2 = self.betas
    return self.mean.lerp(self.gradient, beta1), self.square.lerp(self.gradient**2, beta2)


@exercise.mistake(
    "Your second mean keeps 1 - beta of the old and takes beta of the new, so it remembers hardly "
    "anything. It is the other way round: `lerp` takes the share of what is new."
)
@_instead_of("averages")
def shares_of_square_swapped(self):
    beta1, beta2 = self.betas
    return self.mean.lerp(self.gradient, 1 - beta1), self.square.lerp(self.gradient**2, beta2)


@exercise.mistake(
    "Your first mean keeps 1 - beta of the old and takes beta of the new, so it remembers hardly "
    "anything. It is the other way round: `lerp` takes the share of what is new."
)
@_instead_of("averages")
def shares_of_mean_swapped(self):
    beta1, beta2 = self.betas
    return self.mean.lerp(self.gradient, beta1), self.square.lerp(self.gradient**2, 1 - beta2)


@exercise.mistake("You add the gradient whole. A running mean takes (1 - beta) of it.")
@_instead_of("averages")
def sums_instead_of_means(self):
    beta1, beta2 = self.betas
    return beta1 * self.mean + self.gradient, beta2 * self.square + self.gradient**2


@exercise.mistake(
    "Your second mean is of the gradient too, so its root can be NaN. It is the mean of the "
    "gradient's square."
)
@_instead_of("averages")
def forgot_square(self):
    beta1, beta2 = self.betas
    return self.mean.lerp(self.gradient, 1 - beta1), self.square.lerp(self.gradient, 1 - beta2)


@exercise.mistake("You divide by the square. Divide by its root, which has the gradient's unit.")
@_instead_of("direction")
def forgot_root(self, mean, square):
    return mean / (square + self.eps)


@exercise.mistake("You step along the gradient of this batch. Step along the running mean.")
@_instead_of("direction")
def uses_the_gradient(self, mean, square):
    return self.gradient / (square.sqrt() + self.eps)


@exercise.mistake("You step with the means from before. Bring them up to date first.")
@_instead_of("run")
def uses_old_means(self):
    return self.moved(self.direction(*self.unbiased())), *self.averages()


@exercise.mistake(
    "You return the corrected means. The next step would correct them once more: return them as "
    "they are."
)
@_instead_of("run")
def returns_unbiased(self):
    return _InSteps.run(self)[0], *self.unbiased()


@exercise.mistake(
    "Your parameter is right, but you return the means that you were given. Return the new ones, "
    "or they stay 0 for ever."
)
@_instead_of("run")
def returns_old_means(self):
    old = self.mean, self.square
    return _InSteps.run(self)[0], *old


@exercise.mistake(
    "You return the parameter alone. The next step needs both means: return all three."
)
@_instead_of("run")
def returns_parameter_only(self):
    return _InSteps.run(self)[0]


@exercise.mistake(
    "Your numbers are right, but `mul_` and `add_` change the caller's tensors. Without the "
    "underscore they make new ones."
)
@_instead_of("averages")
def changes_in_place(self):
    beta1, beta2 = self.betas
    self.square.mul_(beta2).add_(self.gradient**2, alpha=1 - beta2)
    return self.mean.mul_(beta1).add_(self.gradient, alpha=1 - beta1), self.square


@exercise.alternative
@_instead_of("run")
def adamw_by_torch(self):
    weight = nn.Parameter(self.parameter.detach().clone())
    weight.grad = self.gradient.detach().clone()
    optimiser = AdamW([weight], self.lr, self.betas, self.eps, self.weight_decay)
    means = self.mean.detach().clone(), self.square.detach().clone()
    state = {"step": torch.tensor(self.step - 1.0), "exp_avg": means[0], "exp_avg_sq": means[1]}
    optimiser.state[weight] = state
    optimiser.step()
    return weight.detach(), *means


@exercise.alternative
@_instead_of("moved")
def adamw_in_steps(self, direction):
    return self.parameter * (1 - self.lr * self.weight_decay) - self.lr * direction


@exercise.alternative
@_instead_of("run")
def adamw_by_lerp(self):
    mean = torch.lerp(self.mean, self.gradient, 1 - self.betas[0])
    square = torch.lerp(self.square, self.gradient * self.gradient, 1 - self.betas[1])
    decayed = self.parameter * (1 - self.lr * self.weight_decay)
    denominator = (square / (1 - self.betas[1] ** self.step)) ** 0.5 + self.eps
    return decayed - self.lr / (1 - self.betas[0] ** self.step) * mean / denominator, mean, square


@exercise.alternative
@torch.no_grad()
def adamw_by_addcdiv(
    parameter, gradient, mean, square, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
):
    new, mean, square = parameter.clone(), mean.clone(), square.clone()
    mean.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    denominator = (square.sqrt() / math.sqrt(1 - betas[1] ** step)).add_(eps)
    new.mul_(1 - lr * weight_decay).addcdiv_(mean, denominator, value=-lr / (1 - betas[0] ** step))
    return new, mean, square


@exercise.alternative
def adamw_by_eps_hat(
    parameter, gradient, mean, square, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
):
    beta1, beta2 = betas
    mean = gradient + beta1 * (mean - gradient)
    square = gradient.square() + beta2 * (square - gradient.square())
    root = math.sqrt(1 - beta2**step)
    rate = lr * root / (1 - beta1**step)
    change = rate * mean / (square.sqrt() + eps * root)
    return parameter - change - lr * weight_decay * parameter, mean, square
