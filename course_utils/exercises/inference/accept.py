"""inference.accept: whether the draft's guess may stay."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.sampling.shared import numbers_alone

exercise = Exercise(
    "inference.accept",
    used_by="`speculate`, for every guess",
    hints=(
        "Two numbers decide: how probable the token is under the target, and under the draft that "
        "drew it. If the target likes it at least as well, it stays.",
        "Otherwise it stays with probability p / q. A number drawn evenly between 0 and 1 is "
        "below r with probability r.",
        "`uniform < target[token] / draft[token]`: a ratio above 1 is then always above `uniform`, "
        "and one of 0 never is. Make a bool of it.",
    ),
)


def _in_python(target: Tensor, draft: Tensor, token: int, uniform: float) -> bool:
    p, q = target.tolist()[token], draft.tolist()[token]
    return True if p >= q else uniform < p / q


GRID = [number / 20 + 0.0123 for number in range(19)]


def _on_a_grid(part: Part, target: Tensor, draft: Tensor) -> Any:
    """How often every token stays, of some numbers that lie evenly between 0 and 1."""
    return tuple(
        sum(bool(part(target, draft, token, uniform)) for uniform in GRID)
        for token in range(len(target))
    )


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, p: Tensor, q: Tensor, token: int, uniform: float, point: str = "") -> Case:
        arguments = {"target": p, "draft": q, "token": token, "uniform": uniform}
        call = f"accept(target, draft, {token}, {uniform})"
        return Case(title, arguments, _in_python, numbers_alone, call, point=point)

    def of_all(title: str, p: Tensor, q: Tensor, point: str = "") -> Case:
        return Case(
            title,
            {"target": p, "draft": q},
            lambda p, q: _on_a_grid(_in_python, p.detach(), q.detach()),
            lambda part, target, draft: _on_a_grid(part, target.detach(), draft.detach()),
            "how often each token stays, of 19 values of `uniform` between 0 and 1",
            tuple(f"How often token {token} stays" for token in range(len(p))),
            point,
        )

    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.25, 0.4, 0.3, 0.05])
    spread = torch.tensor([0.02, 0.08, 0.1, 0.3, 0.2, 0.3]), torch.full((6,), 1 / 6)
    sure = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.3, 0.1, 0.6])
    double = p.double(), q.double()
    more = "A token that the target likes at least as well as the draft stays, whatever `uniform`."
    less = (
        "A token that the draft likes better stays with probability p / q: where `uniform` < p / q."
    )
    never = (
        "A token that the target never gives never stays, also where `uniform` is 0: ask for "
        "smaller, not for smaller or equal."
    )
    its_own = "`token` says which entry of both counts, whichever is the largest."
    zero = "A `uniform` of 0 accepts whatever the target may give at all."
    loves = (
        "The target's favourite is a token like the others: where the draft likes it still better, "
        "it stays with probability p / q only."
    )
    seldom = (
        "Probabilities may be tiny, as those of rare tokens are: what is added to them changes "
        "their ratio. `draft[token]` is never 0: the draft has drawn it."
    )
    loved = torch.tensor([0.1, 0.6, 0.3]), torch.tensor([0.15, 0.75, 0.1])
    rare = torch.tensor([1e-7, 0.6, 1e-6, 0.4]), torch.tensor([2e-7, 0.4, 1e-6, 0.6])
    return [
        case("the draft likes it better, a small number", p, q, 1, 0.3),
        case("the draft likes it better, a large number", p, q, 1, 0.7),
        case("the target likes it better", p, q, 0, 0.6),
        case("both like it as well", p, q, 2, 0.95, more),
        case("the target likes it better, nearly 1", p, q, 0, 0.999999, more),
        case("just below the ratio", p, q, 1, 0.49, less),
        case("just above the ratio", p, q, 1, 0.51, less),
        case("a small ratio", spread[0], spread[1], 0, 0.1, less),
        case("a small ratio, a larger number", spread[0], spread[1], 0, 0.15, less),
        case("a target that is sure, of another token", *sure, 0, 0.01, never),
        case("a target that is sure, of this token", *sure, 2, 0.99, more),
        case("the target never gives it, and 0 is drawn", p, q, 3, 0.0, never),
        case("a small ratio, and 0 is drawn", spread[0], spread[1], 0, 0.0, zero),
        case("the last of two tokens", torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8]), 1, 0.2),
        case("float64", *double, 1, 0.6),
        case("the target's favourite, which the draft likes still better", *loved, 1, 0.9, loves),
        case("the target's favourite, and a smaller number", *loved, 1, 0.7, loves),
        case("rare tokens", *rare, 0, 0.4, seldom),
        case("rare tokens, and a larger number", *rare, 0, 0.6, seldom),
        case("a rare token, liked as well by both", *rare, 2, 0.9, seldom),
        of_all("all tokens", p, q, its_own),
        of_all("all of six tokens", *spread, its_own),
        of_all("all of six tokens, the other way round", *spread[::-1], its_own),
    ]


@exercise.mistake(
    "Your ratio stands on its head: q / p. You keep what the target likes less. It is the target's "
    "probability, divided by the draft's."
)
def accepts_when_q_over_p(target, draft, token, uniform):
    return bool(uniform * target[token] < draft[token])


@exercise.mistake(
    "Everything stays. The text is then the draft's, not the target's: refuse where `uniform` is "
    "not below p / q."
)
def always_accepts(target, draft, token, uniform):
    return True


@exercise.mistake(
    "You turn the comparison around: you keep where `uniform` is above p / q. It is below r with "
    "probability r."
)
def above_the_ratio(target, draft, token, uniform):
    return bool(uniform * draft[token] > target[token])


@exercise.mistake(
    "You keep a token only where the target likes it at least as well. That is no chance: a token "
    "with a smaller ratio stays, too, with probability p / q."
)
def without_chance(target, draft, token, uniform):
    return bool(target[token] >= draft[token])


@exercise.mistake(
    "You keep with probability p, not p / q. The draft has chosen the token with probability q "
    "already: divide by it."
)
def forgot_the_draft(target, draft, token, uniform):
    return bool(uniform < target[token])


@exercise.mistake(
    "You keep where `uniform` is below q. How well the target likes the token must count: p / q."
)
def forgot_the_target(target, draft, token, uniform):
    return bool(uniform < draft[token])


@exercise.mistake(
    "You keep what is the target's best token, and nothing else. That is right for temperature 0 "
    "alone; here chance decides, with p / q."
)
def only_the_best(target, draft, token, uniform):
    return int(target.argmax()) == token


@exercise.mistake(
    "A token that the target never gives stays when 0 is drawn: 0 is not below 0. Ask for "
    "`<`, not `<=`."
)
def smaller_or_equal(target, draft, token, uniform):
    return bool(uniform * draft[token] <= target[token])


@exercise.mistake("You compare with the difference p - q. The chance to stay is the ratio p / q.")
def difference(target, draft, token, uniform):
    return bool(uniform < target[token] - draft[token])


@exercise.mistake(
    "You draw a number of your own. Chance comes from `uniform` alone, so that a run can be "
    "repeated."
)
def draws_its_own(target, draft, token, uniform):
    return bool(torch.rand(()) * draft[token] < target[token])


@exercise.mistake("You return a tensor. A bool is wanted: `bool(…)`.")
def returns_a_tensor(target, draft, token, uniform):
    return uniform * draft[token] < target[token]


@exercise.mistake("You say whether the token is refused. True means that it stays.")
def says_refused(target, draft, token, uniform):
    return not uniform * draft[token] < target[token]


@exercise.alternative
def accept_by_ratio(target, draft, token, uniform):
    ratio = (target[token] / draft[token]).item()
    return uniform < min(1.0, ratio)


@exercise.alternative
def accept_in_two_cases(target, draft, token, uniform):
    p, q = float(target[token]), float(draft[token])
    if p >= q:
        return True
    return uniform * q < p


@exercise.alternative
def accept_by_the_chance_to_refuse(target, draft, token, uniform):
    refused = torch.clamp(1 - target / draft, min=0)[token].item()
    return 1 - uniform > refused


@exercise.alternative
def accept_by_numpy(target, draft, token, uniform):
    p, q = target.numpy()[token], draft.numpy()[token]
    return bool(uniform * q < p)
