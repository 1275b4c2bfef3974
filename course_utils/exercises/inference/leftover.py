"""inference.leftover: what to draw from when a guess was refused."""

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling.shared import numbers_alone

exercise = Exercise(
    "inference.leftover",
    used_by="`speculate`, after a refusal",
    hints=(
        "Guesses that stay give a token x with probability min(p, q). How much of p is then still "
        "missing?",
        "It is p - min(p, q): what the target has more than the draft, and 0 where it has less. "
        "`clamp_min(0)`.",
        "Divide by the sum, so that it can be drawn from. Where the sum is 0 target and draft are "
        "the same: return `target`.",
    ),
)


def _token_by_token(target: Tensor, draft: Tensor) -> Tensor:
    """In plain Python: what is missing, p - min(p, q), of all that is missing."""
    p, q = target.tolist(), draft.tolist()
    missing = [one - min(one, other) for one, other in zip(p, q, strict=True)]
    total = sum(missing)
    shares = [one / total for one in missing] if total else p
    return torch.tensor(shares, dtype=target.dtype)


def _softmax(*shape: int, scale: float = 1.0, **more) -> Tensor:
    return (scale * inputs.normal(*shape, **more)).softmax(-1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, target: Tensor, draft: Tensor, point: str = "") -> Case:
        given, call = {"target": target, "draft": draft}, "leftover(target, draft)"
        return Case(title, given, _token_by_token, numbers_alone, call, point=point)

    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.25, 0.4, 0.3, 0.05])
    one_hot = torch.eye(5)
    clipped = (
        "Where the draft has more than the target nothing is left: 0, not a negative number, and "
        "not its size."
    )
    sums = "What is left sums to 1, however little it was."
    nothing = (
        "Where target and draft are the same nothing is missing: the sum is 0, and 0 / 0 is NaN. "
        "Return `target` then."
    )
    rounded = (
        "Rounding may leave the draft above the target everywhere, by next to nothing. Nothing is "
        "missing then, either: return `target`."
    )
    close = p + torch.tensor([0.002, -0.001, -0.001, 0.0])
    sure = "Where the target is sure of a token, all that is left is that token."
    even = torch.full((4,), 0.25)
    return [
        case("four tokens", p, q),
        case("the other way round", q, p),
        case("five tokens", _softmax(5), _softmax(5, seed=1)),
        case("two tokens", torch.tensor([0.3, 0.7]), torch.tensor([0.6, 0.4])),
        case("many tokens", _softmax(60, scale=2.0), _softmax(60, seed=1)),
        case("a draft that is sure", _softmax(5), one_hot[3], clipped),
        case(
            "a draft that is sure of what cannot be", torch.tensor([0.0, 0.4, 0.6]), torch.eye(3)[0]
        ),
        case("a target that is sure", one_hot[1], _softmax(5), sure),
        case("both sure, of others", one_hot[1], one_hot[4], sure),
        case("a draft without idea", p, even, clipped),
        case("a target without idea", even, p, clipped),
        case("little is left", close, p, sums),
        case("less is left", p, close, sums),
        case(
            "nothing in common", torch.tensor([0.0, 0.9, 0.0, 0.1]), torch.tensor([0.7, 0, 0.3, 0])
        ),
        case("the same", p, p.clone(), nothing),
        case("the same, and sure", one_hot[2], one_hot[2].clone(), nothing),
        case("one token", torch.ones(1), torch.ones(1), nothing),
        case("the same but for rounding", p, p * (1 + 2e-7), rounded),
        case(
            "not in line in memory",
            _softmax(2, 6).T[:, 0],
            _softmax(2, 6).T[:, 1],
            points.OTHER_ORDER,
        ),
        case("float64", p.double(), q.double(), points.FLOAT64),
    ]


def _or_target(left: Tensor, target: Tensor) -> Tensor:
    """What is left, and the target where that is nothing."""
    return left if left.isfinite().all() else target.clone()


def _normed(left: Tensor) -> Tensor:
    return left / left.sum()


@exercise.mistake(
    "You draw from the target again. What the draft gives often would come twice as often as it "
    "should: only what is missing is left, (p - q)₊."
)
def resamples_from_p(target, draft):
    return target.clone()


@exercise.mistake("You do not divide by the sum. To be drawn from, it must sum to 1.")
def not_normalised(target, draft):
    left = (target - draft).clamp_min(0)
    return left if left.any() else target.clone()


@exercise.mistake(
    "You take the size of the difference. Where the draft has more than the target, nothing is "
    "missing: 0."
)
def size_of_the_difference(target, draft):
    return _or_target(_normed((target - draft).abs()), target)


@exercise.mistake(
    "You take q - p: what the draft gives too often. Missing is what it gives too seldom, p - q."
)
def the_other_way_round(target, draft):
    left = (draft - target).clamp_min(0)
    return _normed(left) if left.sum() > 1e-6 else target.clone()


@exercise.mistake(
    "You take the softmax of it. Then a token may be drawn of which nothing is missing. "
    "Divide by the sum."
)
def softmax_of_it(target, draft):
    left = (target - draft).clamp_min(0)
    return left.softmax(-1) if left.any() else target.clone()


@exercise.mistake(
    "You keep negative numbers. Where the draft has more than the target, nothing is left: "
    "`clamp_min(0)`."
)
def not_clipped(target, draft):
    left = target - draft
    return left / left.clamp_min(0).sum() if (left > 0).any() else target.clone()


@exercise.mistake(
    "You divide the difference by its sum before anything is cut off. Both sum to 1, so that is a "
    "division by 0, or by what rounding leaves of it. Cut off first."
)
def divided_by_nothing(target, draft):
    left = target - draft
    return left / left.sum() if left.any() else target.clone()


@exercise.mistake(
    "You cut off too late: the sum of all differences, by which you divide, is 0 but for rounding. "
    "First `clamp_min(0)`, then divide by the sum of that."
)
def cut_off_too_late(target, draft):
    left = target - draft
    return (left / left.sum()).clamp_min(0) if left.any() else target.clone()


@exercise.mistake(
    "Where target and draft are the same nothing is missing, and you compute 0 / 0. Return the "
    "target then."
)
def zero_by_zero(target, draft):
    return _normed((target - draft).clamp_min(0))


@exercise.mistake(
    "Where target and draft are the same you return zeros. Nobody can draw from them: return "
    "`target` then."
)
def zeros_where_nothing_is_left(target, draft):
    return (target - draft).clamp_min(0) / (target - draft).clamp_min(0).sum().clamp_min(1e-9)


@exercise.mistake(
    "You ask whether target and draft are equal. Rounding may leave the draft above the target "
    "everywhere: ask whether the sum of what is missing is 0."
)
def asks_for_equality(target, draft):
    return target.clone() if torch.equal(target, draft) else zero_by_zero(target, draft)


@exercise.mistake(
    "You keep the target's probability wherever it is above the draft's. What is missing there is "
    "only the difference, p - q."
)
def target_where_it_is_larger(target, draft):
    return _or_target(_normed(target * (target > draft)), target)


@exercise.alternative
def leftover_by_relu(target, draft):
    left = torch.relu(target - draft)
    if left.sum() == 0:
        return target
    return left / left.sum()


@exercise.alternative
def leftover_by_minimum(target, draft):
    missing = target - torch.minimum(target, draft)
    share_accepted = 1 - missing.sum()
    return (
        torch.where(share_accepted == 1, target, missing / missing.sum())
        if missing.any()
        else target
    )


@exercise.alternative
def leftover_in_a_loop(target, draft):
    left = [max(p - q, 0.0) for p, q in zip(target.tolist(), draft.tolist(), strict=True)]
    if not any(left):
        left = target.tolist()
    total = sum(left)
    return torch.tensor([one / total for one in left], dtype=target.dtype)


@exercise.alternative
def leftover_by_where(target, draft):
    left = torch.where(target > draft, target - draft, torch.zeros_like(target))
    total = float(left.sum())
    return target.clone() if total < 1e-12 else left.div(total)
