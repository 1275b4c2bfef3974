"""What the exercises of `course_utils.sampling` share."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part

IN_PLACE = (
    "Your numbers are right, but you write them into the caller's logits. Make a new tensor: "
    "`masked_fill`, without the underscore."
)
ZERO = (
    "Tokens that must go get the logit 0, which is a good score: softmax still gives them a "
    "chance. Give them minus infinity."
)
LARGE_NUMBER = (
    "Tokens that must go get a large negative number. Whoever looks for what is left asks for "
    "finite logits: give them minus infinity."
)
PROBABILITIES = (
    "You return probabilities. A filter takes logits and gives logits, so that the next filter can "
    "go on from there. Softmax comes at the very end."
)

STAYS_REMOVED = (
    "A token that is minus infinity already stays so, wherever in its row it stands; it must make "
    "no NaN of its neighbours, as ∞ - ∞ and ∞ · 0 do."
)


def numbers_alone(part: Part, **arguments: Any) -> Any:
    """Nobody learns through these parts, so NumPy and plain Python are right as well."""
    given = arguments.items()
    return part(**{name: v.detach() if isinstance(v, Tensor) else v for name, v in given})


def softmax_of_row(row: Tensor) -> list[float]:
    """Softmax of one row, in Python."""
    numbers = row.tolist()
    exponentials = [math.exp(number - max(numbers)) for number in numbers]
    return [each / sum(exponentials) for each in exponentials]


def keep(logits: Tensor, chosen: Iterable[Iterable[int]]) -> Tensor:
    """The logits of the chosen tokens; minus infinity elsewhere."""
    mask = torch.zeros(logits.shape, dtype=torch.bool)
    for row, tokens in zip(mask, chosen, strict=True):
        row[list(tokens)] = True
    return torch.where(mask, logits, -math.inf)


def logits_of(*rows: list[float]) -> Tensor:
    """Logits of these probabilities, a little shifted: no row sums to 1."""
    return torch.tensor(rows).log() + 0.5


def filter_cases(
    name: str,
    oracle: Callable[..., Tensor],
    argument: str,
    tables: Iterable[tuple[str, Tensor, Iterable[float], str]],
) -> list[Case]:
    """A case for each value of each table: title, logits, values of the argument, the point."""

    def case(title: str, logits: Tensor, value: float, point: str) -> Case:
        return Case(
            f"{title}, {value}",
            {"logits": logits, argument: value},
            torch.no_grad()(oracle),
            numbers_alone,
            f"{name}(logits, {value})",
            point=point,
        )

    return [
        case(title, logits, value, point)
        for title, logits, values, point in tables
        for value in values
    ]


def mistake_in_steps(exercise: Exercise) -> Callable[[str], Callable[[type], type]]:
    """`exercise.mistake` for classes whose objects are called as the part is, step by step."""

    def mistake(says: str) -> Callable[[type], type]:
        def add(steps: type) -> type:
            exercise.mistake(says)(steps())
            return steps

        return add

    return mistake


SMALL = logits_of([0.5, 0.3, 0.15, 0.05], [0.1, 0.22, 0.38, 0.3])
REMOVED = torch.tensor([[1.0, -math.inf, 3.0, 2.0, -math.inf], [0.5, 0.2, -math.inf, 2.5, 1.0]])
UNLIKELY = torch.tensor([[40.0, -200.0, 1.0, 20.0]])
"""Softmax in float32 gives the second token 0."""


def nucleus(row: Tensor, p: float, crossing: bool = True) -> list[int]:
    """Tokens from the best on, until they have p together."""
    probabilities = softmax_of_row(row)
    chosen, total = [], 0.0
    for token in sorted(range(len(row)), key=lambda one: -probabilities[one]):
        if total >= p < 1 or not (crossing or total + probabilities[token] <= p):
            break
        chosen.append(token)
        total += probabilities[token]
    return chosen


def top_p_by_hand(logits: Tensor, p: float) -> Tensor:
    return keep(logits, [nucleus(row, p) for row in logits])


def min_p_by_hand(logits: Tensor, share: float) -> Tensor:
    rows = [softmax_of_row(row) for row in logits]
    return keep(
        logits, [[i for i, one in enumerate(row) if one >= share * max(row)] for row in rows]
    )


class Teller:
    """A model without chance: what it says depends on every token that it reads, and its place."""

    def __init__(self, vocabulary: int = 7, longest: int | None = None, seed: int = 0):
        self.table = 2 * inputs.normal(13, vocabulary, seed=seed)
        self.longest = longest

    def __repr__(self) -> str:
        return "a small model"

    def __call__(self, ids: Tensor) -> Tensor:
        if self.longest and ids.shape[1] > self.longest:
            raise ValueError(f"the model reads {self.longest} tokens, and was given {ids.shape[1]}")
        if not len(ids):
            raise ValueError("the model was given no text to read")
        places = torch.arange(1, ids.shape[1] + 1)
        return self.table[((ids + 1) * places).cumsum(1) % 13]
