"""sampling.apply_temperature: bolder or more cautious."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.apply_temperature",
    used_by="`python -m course_utils sample` and the playground",
    hints=(
        "Divide every logit by the temperature. Below 1 the distances between them grow, and "
        "softmax becomes surer.",
        "Dividing by 0 does not work. Temperature 0 stands for the limit: the best token alone is "
        "left. `logits.argmax(-1, keepdim=True)` finds it.",
        "For temperature 0, begin with `torch.full_like(logits, -math.inf)` and `scatter` the best "
        "token's logit into it.",
        "`if temperature < 0: raise ValueError(…)` comes first.",
    ),
)


def _temperature_by_hand(logits: Tensor, temperature: float) -> Tensor:
    rows = logits.tolist()
    if not temperature:
        return shared.keep(logits, [[row.index(max(row))] for row in rows])
    return torch.tensor([[one / temperature for one in row] for row in rows], dtype=logits.dtype)


def _left(part: Part, **arguments: Any) -> Any:
    """Probabilities where the temperature is 0: which logit the best token has is all the same."""
    logits = shared.numbers_alone(part, **arguments)
    if arguments["temperature"] or not (isinstance(logits, Tensor) and logits.is_floating_point()):
        return logits
    empty = (logits == -math.inf).all(-1, keepdim=True)  # softmax would make NaN of such a row
    return torch.where(empty, 0, logits.softmax(-1))


@exercise.cases
def cases() -> list[Case]:
    @torch.no_grad()
    def oracle(logits: Tensor, temperature: float) -> Tensor:
        return _left(_temperature_by_hand, logits=logits, temperature=temperature)

    def case(title: str, logits: Tensor, temperature: float, point: str = "") -> Case:
        arguments = {"logits": logits, "temperature": temperature}
        call = f"apply_temperature(logits, {temperature})"
        return Case(title, arguments, oracle, _left, call, point=point)

    normal = inputs.normal
    ties = torch.tensor([[1.0, 4.0, 4.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-5.0, -1.0, -3.0, -1.0]])
    at_zero = (
        "At temperature 0, or 0.0, nothing is divided: each row keeps its own best token, "
        "`argmax(-1)`, and all its other tokens become minus infinity."
    )
    first = (
        "Where several tokens are best, temperature 0 keeps the first of them alone: `argmax` "
        "finds one, `logits == best` finds all."
    )
    small = (
        "Every temperature above 0 is divided by as it is, however small: no limit, nothing "
        "added. Only 0 itself is special."
    )
    at_zero_in_64 = (
        "The dtype stays at temperature 0, too: `torch.full` and `torch.zeros` make float32 unless "
        "they are told; `torch.full_like` takes that of the logits."
    )
    return [
        case("sharper", shared.SMALL, 0.5),
        case("flatter", shared.SMALL, 2.0),
        case("as it is", shared.SMALL, 1.0),
        case("a whole number", normal(3, 6), 3),
        case("very hot", normal(4, 4), 50.0),
        case("nothing but the best", normal(3, 6), 0.0, at_zero),
        case("zero, as a whole number", normal(3, 6), 0, at_zero),
        case("removed tokens at zero", shared.REMOVED.flip(-1), 0.0, at_zero),
        case("two are best", ties[:1], 0, first),
        case("several rows, several best", ties, 0, first),
        case("very cold", 5 * normal(3, 6), 0.01, small),
        case("hardly above zero", 5 * normal(3, 6), 1e-6, small),
        case("removed tokens", shared.REMOVED, 0.7, shared.STAYS_REMOVED),
        case("a transposed view", normal(5, 3).T, 1.5, points.OTHER_ORDER),
        case("float64", normal(2, 5, dtype=torch.float64), 0.3, points.FLOAT64),
        case("float64 at zero", normal(1, 5, dtype=torch.float64), 0, at_zero_in_64),
    ]


@exercise.holds
def _refuses_below_zero(part: Part) -> None:
    for temperature in (-0.5, -2):
        try:
            part(torch.tensor([[1.0, 2.0, 0.0]]), temperature)
        except ValueError:
            continue
        raise Wrong(
            f"A temperature of {temperature} turns good tokens into bad ones. Raise a ValueError "
            "where it is negative."
        )


@exercise.mistake("You multiply with the temperature, so hot is cold. Divide.")
def multiplies(logits, temperature):
    return _temperature_by_hand(logits, 1 / temperature if temperature else 0)


@exercise.mistake(
    "You divide probabilities. Softmax comes last, after the division: before it, all that "
    "you change is the sum."
)
def divides_probabilities(logits, temperature):
    return logits.softmax(-1) / temperature if temperature else _temperature_by_hand(logits, 0)


@exercise.mistake(
    "You divide by 0, which gives infinities, and softmax makes NaN of them. At 0 keep the "
    "best token and remove the others."
)
def nan_at_zero(logits, temperature):
    return logits / torch.tensor(float(temperature), dtype=logits.dtype)


@exercise.mistake(
    "You use a tiny temperature in place of 0. Where two tokens are nearly as good, or "
    "equal, both stay. At 0 exactly one is left: the first of the best."
)
def tiny_in_place_of_zero(logits, temperature):
    return logits / max(temperature, 1e-4)


@exercise.mistake(
    "You add a small number to the temperature. All results change a little, and 0 is no "
    "longer greedy."
)
def adds_something(logits, temperature):
    return logits / (temperature + 1e-6)


@exercise.mistake(
    "Temperature 0 changes nothing here. It is the coldest of all: only the best is left."
)
def zero_leaves_it_alone(logits, temperature):
    return logits / temperature if temperature else logits.clone()


@exercise.mistake(
    "At 0 you keep all tokens that share the best score, and chance would decide. Keep the "
    "first of them."
)
def keeps_all_that_are_best(logits, temperature):
    if temperature:
        return logits / temperature
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True), -math.inf)


@exercise.mistake(
    "At 0 you look for the best logit of the whole batch. Every row has its own: use axis -1."
)
def best_of_the_batch(logits, temperature):
    if temperature:
        return logits / temperature
    return logits.masked_fill(logits < logits.max(), -math.inf)


@exercise.mistake(
    "At 0 one token of the whole batch is left, and in all other rows nothing. Every row has a "
    "best token of its own: `argmax(-1)`. Without an axis `argmax` looks through all rows."
)
def one_of_the_batch(logits, temperature):
    if temperature:
        return logits / temperature
    left = torch.full_like(logits, -math.inf).flatten()
    left[logits.argmax()] = logits.max()
    return left.view(logits.shape)


@exercise.mistake(
    "At 0 you return the number of the best token. A filter gives logits of the same shape."
)
def number_of_the_best(logits, temperature):
    return logits / temperature if temperature else logits.argmax(-1)


@exercise.mistake(
    "At 0 you return zeros and a one. As logits those are close together. What is removed "
    "has minus infinity."
)
def one_hot_at_zero(logits, temperature):
    if temperature:
        return logits / temperature
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


@exercise.mistake(shared.PROBABILITIES)
def returns_probabilities(logits, temperature):
    return _temperature_by_hand(logits, temperature).softmax(-1)


@exercise.mistake(
    "Your numbers are right, but `/=` or `div_` writes them into the caller's logits. "
    "Make a new tensor."
)
def in_place(logits, temperature):
    return logits.div_(temperature) if temperature else _temperature_by_hand(logits, 0)


@exercise.alternative
def temperature_by_one_hot(logits, temperature):
    if temperature < 0:
        raise ValueError("temperature must not be negative")
    if temperature > 0:
        return logits * (1.0 / temperature)
    best = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    return torch.where(best, logits, -math.inf)


@exercise.alternative
def temperature_in_plain_python(logits, temperature):
    if temperature < 0:
        raise ValueError("temperature must not be negative")
    rows = logits.tolist()
    if temperature:
        rows = [[logit / temperature for logit in row] for row in rows]
    else:
        firsts = [row.index(max(row)) for row in rows]
        places = range(logits.shape[-1])
        rows = [
            [row[i] if i == first else -math.inf for i in places]
            for row, first in zip(rows, firsts, strict=True)
        ]
    return torch.tensor(rows, dtype=logits.dtype)


@exercise.alternative
def temperature_by_places(logits, temperature):
    if not temperature >= 0:
        raise ValueError("temperature must not be negative")
    if temperature != 0:
        return torch.div(logits, temperature)
    places = torch.arange(logits.shape[-1])
    return logits.masked_fill(places != logits.argmax(-1)[:, None], float("-inf"))


@exercise.alternative
def temperature_by_log_one_hot(logits, temperature):
    if temperature < 0:
        raise ValueError(temperature)
    if temperature:
        return logits / temperature
    return F.one_hot(logits.argmax(-1), logits.shape[1]).to(logits.dtype).log()
