"""training.clip_gradients: no step is too long."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.training import shared

exercise = Exercise(
    "training.clip_gradients",
    used_by="`train_step`: one strange batch cannot throw the model far off",
    hints=(
        "Think of all gradients as one long vector. Its length is the root of the sum of all "
        "squares, over all parameters.",
        "Collect the gradients in a list first: `[p.grad for p in parameters if p.grad is not "
        "None]`. A generator can be read only once.",
        "Only if the length is above `max_norm`, multiply every gradient with the same number, "
        "max_norm / length. `gradient.mul_(…)` does it in place.",
        "Return the length from before, as a float: `math.sqrt` makes one of a tensor.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        gradients: Sequence[Tensor | None],
        max_norm: float,
        point: str = "",
        hand_over: Callable[[list], Any] = list,
    ) -> Case:
        named = {f"gradient{number}": each for number, each in enumerate(gradients)}
        arguments = {**named, "max_norm": max_norm}
        call = f"(clip_gradients(parameters, {max_norm}), *gradients)"
        given = (f"`{name}`, after your code," for name, each in named.items() if each is not None)
        use = partial(_use_clip_gradients, hand_over)
        values = "The length that you return", *given
        return Case(title, arguments, _clip_by_torch, use, call, values, point)

    def drawn(*shapes: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
        return [scale * inputs.normal(*shape, seed=i) for i, shape in enumerate(shapes)]

    three_four = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0], [-4.0]])]
    some = drawn((12,), (5,), (7,))
    uneven = [0.1 * some[0], 10 * some[1], some[2]]
    together = (
        "All gradients have one length together, and all are multiplied with one number: measure "
        "to the end first, then scale. What is scaled while others are still being measured is "
        "scaled by something else."
    )
    left_alone = (
        "Gradients whose length is not above `max_norm` stay as they are, those of length 0 too. "
        "The length is returned all the same."
    )
    read_once = (
        "`parameters` may be a generator, as `model.parameters()` is: it can be read once. Make a "
        "list first."
    )
    none_there = (
        "A parameter that took no part has the gradient None: pass over it and go on with the "
        "next. Where none has a gradient the length is 0.0."
    )
    any_axes = (
        "A gradient may have any number of axes, none too: what counts is the sum of the squares "
        "of all its numbers. `torch.linalg.norm(…, ord=2)` of a matrix is something else."
    )
    return [
        case("length 5, at most 1", three_four, 1.0, together),
        case("length 5, at most 2.5", three_four, 2.5, together),
        case("length 5, at most 10", three_four, 10.0, left_alone),
        case("length 5, at most 5", three_four, 5.0, left_alone),
        case("one number", [torch.tensor(-7.0)], 2.0, any_axes),
        case("one matrix", [torch.tensor([[3.0, 0.0], [0.0, 4.0]])], 2.0, any_axes),
        case("one parameter of three axes", drawn((2, 3, 2)), 0.8, any_axes),
        case("one parameter", some[2:], 0.8),
        case("another parameter", some[:1], 0.3),
        case("three parameters", some, 0.5, together),
        case("some large, some small", uneven, 3.0, together),
        case("only small ones", drawn((4,), (5,), scale=0.02), 1.0, left_alone),
        case("no limit", some, math.inf, left_alone),
        case("a generator, as `model.parameters()` gives", [10 * some[1]], 1.0, read_once, iter),
        case("a generator of one small vector", [some[2]], 0.5, read_once, iter),
        case("a parameter without a gradient", [some[0], None], 0.7, none_there),
        case("the first without a gradient", [None, some[2], some[0]], 40.0, none_there),
        case("gradients that are 0", [torch.zeros(3), torch.zeros(2, 2)], 1.0, left_alone),
        case("float64", [some[0].double()], 1.0, "Gradients may be float64: scale them as such."),
        case("no gradients at all", [None, None], 1.0, none_there),
    ]


def _use_clip_gradients(
    hand_over: Callable[[list], Any], part: Part, max_norm: float, **gradients: Tensor | None
) -> tuple[Tensor, ...]:
    parameters = _with_gradients(gradients.values())
    held = [parameter.grad for parameter in parameters]
    try:
        norm = part(hand_over(parameters), max_norm)
    except Exception as error:
        if None not in held:
            raise
        none_at_all = "No parameter has a gradient here, and your code stops. The length is 0."
        one = "One of the parameters has no gradient: its `grad` is None, and your code stops."
        said = one if _gradients_of(parameters) else none_at_all
        raise Wrong(said).with_traceback(error.__traceback__) from None
    if not all(bool((parameter == 1).all()) for parameter in parameters):
        raise Wrong("Your code changes the parameters. It is their gradients that are scaled.")
    if any(parameter.grad is not one for parameter, one in zip(parameters, held, strict=True)):
        raise Wrong(
            "Your code puts a new tensor into `grad`, so whoever holds the old one does not see "
            "it. Scale the numbers where they are: `gradient.mul_(…)`."
        )
    return _norm_and_gradients(parameters, shared.a_float("clip_gradients", norm))


def _with_gradients(gradients: Iterable[Tensor | None]) -> list[nn.Parameter]:
    """Parameters of ones with these gradients. None gives one without a gradient."""
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.ones(2) if gradient is None else torch.ones_like(gradient))
        parameter.grad = None if gradient is None else gradient.detach().clone()
        parameters.append(parameter)
    return parameters


def _gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _norm_and_gradients(parameters: list[nn.Parameter], norm: float) -> tuple[Tensor, ...]:
    """All as float32: torch adds 1e-6 to the length before it divides, which is right as well."""
    found = [gradient.float() for gradient in _gradients_of(parameters)]
    return torch.tensor(norm, dtype=torch.float32), *found


def _clip_by_torch(*arguments: Any) -> tuple[Tensor, ...]:
    *gradients, max_norm = arguments
    parameters = _with_gradients(gradients)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return _norm_and_gradients(parameters, float(norm))


def _length(gradients):
    return math.sqrt(sum(gradient.detach().double().square().sum() for gradient in gradients))


def _in_steps(parameters, max_norm, length=_length, factor=None):
    """Right. The mistakes below measure or scale otherwise."""
    gradients = _gradients_of(parameters)
    norm = length(gradients)
    if norm > max_norm:
        _scale(gradients, factor(norm) if factor else max_norm / norm)
    return norm


def _scale(gradients, factor):
    for gradient in gradients:
        gradient.mul_(factor)


@exercise.mistake(
    "You limit every number by itself, which changes the direction of the step. Measure the length "
    "of all of them together and scale all alike."
)
def clips_each_element(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        gradient.clamp_(-max_norm, max_norm)
    return norm


@exercise.mistake(
    "You clip every parameter's gradient by itself, which changes the direction of the step. There "
    "is one length, that of all of them together."
)
def clips_each_tensor(parameters, max_norm):
    parameters = list(parameters)
    norm = _length(_gradients_of(parameters))
    for parameter in parameters:
        _in_steps([parameter], max_norm)
    return norm


@exercise.mistake(
    "You always scale to `max_norm`, so small gradients grow. Near the end of training that would "
    "keep the steps large. Scale only where the length is above it."
)
def scales_up_small(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    _scale(gradients, max_norm / norm if norm else 1.0)
    return norm


@exercise.mistake(
    "A parameter that took no part has no gradient: its `grad` is None. Leave it out: "
    "`if p.grad is not None`."
)
def crashes_without_gradient(parameters, max_norm):
    gradients = [parameter.grad for parameter in parameters]
    norm = sum(gradient.norm() ** 2 for gradient in gradients) ** 0.5
    _scale(gradients, min(1.0, max_norm / max(norm, 1e-12)))
    return float(norm)


@exercise.mistake(
    "Where no parameter has a gradient your list is empty. Its `sum` is the number 0, no tensor: "
    "`torch.sqrt` and `.item()` refuse it, as `torch.stack` does an empty list. `math.sqrt` takes "
    "any number; or return 0.0 first."
)
def crashes_without_any(parameters, max_norm):
    def length(gradients):
        return sum(gradient.square().sum() for gradient in gradients).sqrt().item()

    return _in_steps(parameters, max_norm, length)


@exercise.mistake(
    "Your second loop over `parameters` finds nothing: `model.parameters()` is a generator, and "
    "can be read only once. Make a list first."
)
def loops_a_generator_twice(parameters, max_norm):
    norm = _length(_gradients_of(parameters))
    return _in_steps(parameters, max_norm, lambda gradients: norm)


@exercise.mistake(
    "You return the length after clipping. The one before says how wild the batch was: keep it "
    "before you scale."
)
def returns_clipped_norm(parameters, max_norm):
    parameters = list(parameters)
    _in_steps(parameters, max_norm)
    return _length(_gradients_of(parameters))


@exercise.mistake("You take the sum of squares for the length. The length is its root.")
def forgot_root(parameters, max_norm):
    return _in_steps(parameters, max_norm, lambda gradients: _length(gradients) ** 2)


@exercise.mistake(
    "You add up the lengths of the single gradients. Lengths do not add up, squares do: the root "
    "of the sum of all squares."
)
def sum_of_norms(parameters, max_norm):
    return _in_steps(
        parameters, max_norm, lambda gradients: sum(_length([one]) for one in gradients)
    )


@exercise.mistake("You take the largest number. The length is the root of the sum of all squares.")
def largest_number(parameters, max_norm):
    def largest(gradients):
        return max((float(each.abs().max()) for each in gradients), default=0.0)

    return _in_steps(parameters, max_norm, largest)


@exercise.mistake("You measure the parameters. Measure their gradients: `p.grad`.")
def norm_of_parameters(parameters, max_norm):
    parameters = list(parameters)
    return _in_steps(parameters, max_norm, lambda gradients: _length(parameters))


@exercise.mistake(
    "You measure, but the gradients stay as they were. Scale them in place: `gradient.mul_(…)`; "
    "`gradient = gradient * …` makes a tensor that nobody sees."
)
def measures_only(parameters, max_norm):
    return _length(_gradients_of(parameters))


@exercise.mistake(
    "`p.grad = …` puts a new tensor there. Whoever holds the old one, as you do in a list of "
    "gradients, does not see it. `p.grad.mul_(…)` scales the numbers where they are."
)
def new_gradients(parameters, max_norm):
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = _length(_gradients_of(parameters))
    if norm > max_norm:
        for parameter in parameters:
            parameter.grad = parameter.grad * (max_norm / norm)
    return norm


@exercise.mistake("You multiply with `max_norm` and do not divide by the length.")
def forgot_to_divide(parameters, max_norm):
    return _in_steps(parameters, max_norm, factor=lambda norm: max_norm)


@exercise.mistake("You divide by the length, so it becomes 1. It should become `max_norm`.")
def makes_length_one(parameters, max_norm):
    return _in_steps(parameters, max_norm, factor=lambda norm: 1 / norm)


@exercise.mistake(
    "You lengthen gradients that are shorter than `max_norm`. Those stay as they are: only longer "
    "ones are scaled, down to it."
)
def the_other_way_round(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    if 0 < norm <= max_norm:
        _scale(gradients, max_norm / norm)
    return norm


@exercise.mistake("You divide by the length even where it is 0. Compare first.")
def divides_by_zero(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    _scale(gradients, min(1.0, max_norm / norm))
    return norm


@exercise.mistake("You return a tensor. Return a float: `.item()`, `float(…)` or `math.sqrt`.")
def norm_as_tensor(parameters, max_norm):
    return torch.tensor(_in_steps(parameters, max_norm))


@exercise.alternative
def clip_by_torch_itself(parameters, max_norm):
    return nn.utils.clip_grad_norm_(parameters, max_norm).item()


@exercise.alternative
def clip_by_foreach(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return float(norm)


@exercise.alternative
def clip_by_copying(parameters, max_norm):
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = math.hypot(*(parameter.grad.norm().item() for parameter in parameters))
    for parameter in parameters:
        parameter.grad.copy_(parameter.grad * min(1.0, max_norm / max(norm, 1e-12)))
    return norm
