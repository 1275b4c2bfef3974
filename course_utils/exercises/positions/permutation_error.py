"""positions.permutation_error: what a layer gives away about order."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "positions.permutation_error",
    used_by="the experiments of this notebook that ask whether a layer knows the order",
    hints=(
        "There are two ways to a shuffled answer: shuffle the tokens and then use the layer, or "
        "use the layer and then shuffle its answer. Compare the two.",
        "Tokens are on axis 1. `x[:, order]` has token `order[0]` first, then token `order[1]`, "
        "and so on. A layer's answer is shuffled in the same way.",
        "Take the difference of the two answers, its `.abs()`, its `.max()`, and make a Python "
        "number of it with `.item()`.",
    ),
)


Layer = Callable[[Tensor], Tensor]


def _use(part: Part, layer: Layer, x: Tensor, order: Tensor) -> Any:
    """Nobody asks for the gradient of a number, so `x` may go through NumPy."""
    return part(layer, x.detach(), order)


@dataclass(frozen=True)
class _Named:
    """A layer that is shown as what it does to a token."""

    says: str
    rule: Layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.rule(x)

    def __repr__(self) -> str:
        return self.says


def _largest_difference_by_loops(layer: Layer, x: Tensor, order: Tensor) -> float:
    """Token `order[place]` of the answer is what the shuffled answer should have at `place`."""
    answers, shuffled = (layer(given).tolist() for given in (x, x[:, order]))
    return max(
        abs(one - other)
        for answer, after in zip(answers, shuffled, strict=True)
        for place, source in enumerate(order.tolist())
        for one, other in zip(answer[source], after[place], strict=True)
    )


RUNNING_SUM = _Named("the sum of the tokens up to this one", lambda x: x.cumsum(1))
PLUS_MEAN = _Named("the token plus the mean of all tokens", lambda x: x + x.mean(1, keepdim=True))
MINUS_PREVIOUS = _Named("the token minus the one before it", lambda x: x - x.roll(1, 1))


def _wider_sums(x: Tensor) -> Tensor:
    """Six features from three, of the sum of the tokens up to this one."""
    return x.cumsum(1) @ inputs.normal(3, 6, seed=5, dtype=x.dtype)


def _falls_with_place(x: Tensor) -> Tensor:
    """Its first answer is raised a little when tokens are shuffled, its last is lowered a lot."""
    places = torch.arange(x.shape[1], dtype=x.dtype)
    return x - 10 * places.square()[:, None] * x.abs()


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, layer: Layer, x: Tensor, order: list[int], point: str = "") -> Case:
        arguments = {"layer": layer, "x": x, "order": torch.tensor(order)}
        return Case(title, arguments, _largest_difference_by_loops, _use, point=point)

    def random(*shape: int, seed: int = 0) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=torch.float64)

    small = torch.tensor([[[1.0], [2.0], [4.0]]])
    same_tokens = torch.cat((torch.ones(1, 4, 3), inputs.normal(1, 4, 3))).double()
    falls = _Named("the token, lowered more at later places", _falls_with_place)
    six_sums = _Named("six sums", _wider_sums)
    one_way = torch.tensor([[[3.0], [0.0], [0.0], [1.0]]])
    without_sign = (
        "A difference counts without its sign, whether the first answer is larger or the second: "
        "`.abs()` of each, then `.max()`."
    )
    wider = "The answer may be wider than `x`: only its axis 1, the tokens, is as in `x`."
    every = "The largest difference of all counts, whichever sentence it is in."
    equal = (
        "Tokens are on axis 1, also where there are as many of them as sentences or features: a "
        "wrong axis fits there as well."
    )
    nothing = (
        "Where nothing moves the two answers are equal, and the result is the number 0.0. Nothing "
        "is divided by it, and no token is looked for that has moved."
    )
    as_it_is = (
        "The difference is returned as it is: not cut off, not rounded, not relative to anything."
    )
    return [
        case("three tokens move, and a layer adds up", RUNNING_SUM, small, [1, 2, 0]),
        case("a layer that does not know the order", PLUS_MEAN, random(2, 5, 3), [3, 0, 4, 2, 1]),
        case("a layer that does", MINUS_PREVIOUS, random(2, 5, 3), [3, 0, 4, 2, 1]),
        case("the largest difference is negative", falls, one_way, [1, 2, 3, 0], without_sign),
        case("the largest difference is positive", falls, one_way, [3, 0, 1, 2], without_sign),
        case("a wider answer", six_sums, random(3, 4, 3), [2, 3, 1, 0], wider),
        case("only one sentence changes", RUNNING_SUM, same_tokens, [1, 2, 3, 0], every),
        case("as many tokens as features", RUNNING_SUM, random(2, 4, 4), [2, 0, 3, 1], equal),
        case("as many tokens as sentences", RUNNING_SUM, random(4, 4, 2), [2, 0, 3, 1], equal),
        case("nothing moves", RUNNING_SUM, random(2, 4, 3), [0, 1, 2, 3], nothing),
        case("one token", MINUS_PREVIOUS, random(2, 1, 3), [0], nothing),
        case("large numbers", RUNNING_SUM, 1000 * random(2, 4, 3), [2, 0, 3, 1], as_it_is),
        case(
            "a transposed view",
            RUNNING_SUM,
            random(2, 3, 5).mT,
            [3, 0, 4, 2, 1],
            points.OTHER_ORDER,
        ),
    ]


@exercise.mistake(
    "You shuffle the tokens and compare with the answer in the old order, so every token "
    "is compared with another one. Shuffle the second answer as well: `layer(x)[:, "
    "order]`."
)
def permutes_only_input(layer, x, order):
    return (layer(x[:, order]) - layer(x)).abs().max().item()


@exercise.mistake(
    "You give the layer the tokens in the old order both times, so it never sees them "
    "shuffled. One of the two answers is `layer(x[:, order])`."
)
def permutes_only_output(layer, x, order):
    return (layer(x)[:, order] - layer(x)).abs().max().item()


@exercise.mistake(
    "You shuffle the last axis: the numbers inside a vector. Tokens are on axis 1: `x[:, order]`."
)
def permutes_features(layer, x, order):
    return (layer(x[..., order]) - layer(x)[..., order]).abs().max().item()


@exercise.mistake(
    "You shuffle axis 0: whole sentences change places, and every layer treats those "
    "alike. Tokens are on axis 1: `x[:, order]`."
)
def permutes_batch(layer, x, order):
    return (layer(x[order]) - layer(x)[order]).abs().max().item()


@exercise.mistake(
    "`order` and its inverse stand in each other's place. `layer(x[:, order])` is undone by "
    "`[:, order.argsort()]`; or else the other answer is shuffled by `order` itself: "
    "`layer(x)[:, order]`."
)
def shuffles_again(layer, x, order):
    return (layer(x[:, order])[:, order] - layer(x)).abs().max().item()


@exercise.mistake(
    "You average each answer first. A mean over the tokens is the same in any order, so "
    "the differences you look for are gone. Subtract first, number by number."
)
def compares_means(layer, x, order):
    return (layer(x[:, order]).mean() - layer(x).mean()).abs().item()


@exercise.mistake(
    "You compare the largest number of one answer with the largest of the other. Two quite "
    "different answers can have the same one. Subtract first, number by number."
)
def compares_the_largest(layer, x, order):
    return abs(layer(x[:, order]).abs().max().item() - layer(x)[:, order].abs().max().item())


@exercise.mistake(
    "You compare the largest number of one answer with the largest of the other. Two quite "
    "different answers can have the same one. Subtract first, then take `.abs().max()`."
)
def compares_the_maxima(layer, x, order):
    return abs(layer(x[:, order]).max().item() - layer(x)[:, order].max().item())


@exercise.mistake(
    "You compare the first sentence only. The largest difference counts, whichever sentence it is "
    "in: take it over all axes."
)
def first_sentence_only(layer, x, order):
    return (layer(x[:, order])[0] - layer(x)[0, order]).abs().max().item()


@exercise.mistake(
    "You take the mean of the differences. One token that is far off would hide among many "
    "that are right: take the largest, `.max()`."
)
def mean_difference(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).abs().mean().item()


@exercise.mistake(
    "You take the norm of the differences, which grows with their number, so layers cannot "
    "be compared. Take the largest: `.abs().max()`."
)
def norm_of_difference(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).norm().item()


@exercise.mistake(
    "You take the largest difference with its sign, so one of -5 counts for less than one "
    "of 0. Take `.abs()` before `.max()`."
)
def forgot_abs(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).max().item()


@exercise.mistake(
    "You return a tensor with one number in it. The result should be a Python number: put "
    "`.item()` behind it."
)
def returns_tensor(layer, x, order):
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max()


@exercise.mistake(
    "You return True or False. How large the difference is tells more: return the largest "
    "absolute difference."
)
def says_whether_equal(layer, x, order):
    return torch.allclose(layer(x[:, order]), layer(x)[:, order])


@exercise.alternative
def error_by_shuffling_back(layer, x, order):
    back = layer(x[:, order])[:, order.argsort()]
    return torch.dist(back, layer(x), p=math.inf).item()


@exercise.alternative
def error_by_numpy(layer, x, order):
    before, after = layer(x[:, order]).numpy(), layer(x).numpy()[:, order.numpy()]
    return float(np.abs(before - after).max())


@exercise.alternative
def error_by_permutation_matrix(layer, x, order):
    matrix = F.one_hot(order, len(order)).to(x.dtype)
    gap = (layer(matrix @ x) - matrix @ layer(x)).detach()
    return max(gap.amax().item(), -gap.amin().item())


@exercise.alternative
def error_by_index_select(layer, x, order):
    before, after = layer(x.index_select(1, order)), layer(x).index_select(1, order)
    return torch.linalg.vector_norm((before - after).double(), ord=math.inf).item()
