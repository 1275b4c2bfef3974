"""sampling.top_p: the best stay, until they have p together."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.top_p",
    used_by="`python -m course_utils sample` and the playground",
    hints=(
        "Sort the probabilities, the best first. A token stays if all better ones together have "
        "less than p.",
        "`cumsum` counts a token itself, too. Subtract its own probability to get what is before "
        "it: `probabilities.cumsum(-1) - probabilities`.",
        "`values, order = probabilities.sort(descending=True)`: `order` says whose they are. "
        "`torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, keep)` puts a mask back.",
        "`logits.masked_fill(~keep, -math.inf)` at the end. With p = 1 everything stays.",
    ),
)


def _left_per_row(logits: Any) -> Any:
    return logits.isfinite().sum(-1) if isinstance(logits, Tensor) else logits


@exercise.cases
def cases() -> list[Case]:
    normal = inputs.normal
    shuffled = shared.logits_of(
        [0.05, 0.3, 0.15, 0.5], [0.3, 0.1, 0.38, 0.22], [0.27, 0.24, 0.26, 0.23]
    )
    unlikely = torch.tensor([[40.0, 0.0, 1.0, 20.0]])
    one_stays = (
        "One token always stays: the one that crosses p is kept, even where it is the best and "
        "has more than p alone."
    )
    everything = (
        "p = 1 keeps everything, also what comes after the rounded probabilities have summed to "
        "1: return the logits as they are."
    )
    fewest = (
        "The fewest tokens that reach p stay, also of those that are equally probable: count "
        "places in the sorted order. `>=` the probability that crosses p keeps all that tie."
    )
    cases = shared.filter_cases(
        "top_p",
        shared.top_p_by_hand,
        "p",
        (
            ("four tokens", shared.SMALL, (0.6, 0.4, 0.85), ""),
            ("in no order", shuffled, (0.45, 0.7, 0.97), ""),
            ("so little that one is left", shuffled, (1e-4,), one_stays),
            ("everything", shuffled, (1.0, 1), everything),
            ("everything, however unlikely", unlikely, (1.0,), everything),
            ("rows that differ", 2 * normal(4, 9), (0.3, 0.75), ""),
            ("as many rows as tokens", 2 * normal(5, 5), (0.8,), ""),
            ("some are removed already", shared.REMOVED, (0.6, 0.95), shared.STAYS_REMOVED),
            ("a sure row", torch.tensor([[9.0, 0.0, 1.0], [0.0, 0.5, 0.2]]), (0.9,), one_stays),
            ("a transposed view", 2 * normal(6, 2).T, (0.7,), points.OTHER_ORDER),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.7,), points.FLOAT64),
        ),
    )
    alike = {"logits": torch.zeros(1, 4), "p": 0.5}
    count = lambda part, **given: _left_per_row(shared.numbers_alone(part, **given))  # noqa: E731
    oracle = lambda logits, p: torch.tensor([2])  # noqa: E731
    call = "top_p(logits, 0.5)"
    return [*cases, Case("how many of four alike", alike, oracle, count, call, point=fewest)]


@exercise.mistake(
    "You drop the token that crosses p, and where the best one alone has more than p, "
    "nothing is left. It is needed to reach p: keep it."
)
def drops_crossing_token(logits, p):
    return shared.keep(logits, [shared.nucleus(row, p + 1e-6, crossing=False) for row in logits])


@exercise.mistake(
    "You drop the token that crosses p, except where it is the best. It is needed to reach "
    "p: keep it. A token stays if those before it have less than p."
)
def drops_crossing_token_but_one(logits, p):
    kept = [shared.nucleus(row, p + 1e-6, crossing=False) or [int(row.argmax())] for row in logits]
    return shared.keep(logits, kept)


@exercise.mistake(
    "With p = 1 you lose tokens: their probabilities are so small that the sum is rounded "
    "to 1 before they are counted. Return the logits as they are where p is 1."
)
def loses_some_at_one(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


@exercise.mistake(
    "You add the probabilities up in the order of the vocabulary. Sort them first, the "
    "best in front."
)
def unsorted_cumsum(logits, p):
    probabilities = logits.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill(before >= p, -math.inf)


@exercise.mistake(
    "Your logits are sorted, so they belong to other tokens now. Bring them, or the mask, "
    "back to the old places with `scatter`."
)
def not_scattered_back(logits, p):
    ordered, _ = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return ordered.masked_fill(before >= p, -math.inf)


@exercise.mistake(
    "Your mask is in sorted order and your logits are not. `scatter` it back: `order` says "
    "where each entry belongs."
)
def sorted_mask_on_unsorted(logits, p):
    probabilities = logits.softmax(-1).sort(descending=True, stable=True).values
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill(before >= p, -math.inf)


@exercise.mistake(
    "You `gather` with `order`, which sorts once more. The way back is `scatter`, or "
    "`gather` with `order.argsort(-1)`."
)
def gathered_instead_of_scattered(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill((before >= p).gather(-1, order), -math.inf)


@exercise.mistake(
    "You `gather` with `order`, which sorts once more, wherever p is below 1. The way back is "
    "`scatter`, or `gather` with `order.argsort(-1)`."
)
def gathered_below_one(logits, p):
    return logits.clone() if p >= 1 else gathered_instead_of_scattered(logits, p)


@exercise.mistake("You begin with the least likely tokens. Sort with `descending=True`.")
def starts_with_the_worst(logits, p):
    probabilities, order = logits.softmax(-1).sort(stable=True)
    before = probabilities.cumsum(-1) - probabilities
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


@exercise.mistake("You add logits up. p is a probability: take the softmax first.")
def sums_logits(logits, p):
    ordered, order = logits.sort(descending=True, stable=True)
    keep = torch.zeros_like(logits, dtype=torch.bool)
    keep = keep.scatter(-1, order, ordered.cumsum(-1) - ordered < p)
    return logits.masked_fill(~keep, -math.inf)


@exercise.mistake(
    "You ask every token for the probability p. The tokens have it together: `cumsum`."
)
def each_at_least_p(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, -math.inf)


@exercise.mistake(
    "You keep one token after the one that crosses p. What counts is the sum before a "
    "token, without the token itself."
)
def one_too_many(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    before = F.pad(probabilities.cumsum(-1), (2, 0))[:, : logits.shape[-1]]
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


@exercise.mistake(
    "All rows keep as many tokens as the row that needs most. A surer row reaches p with fewer: "
    "count, or mask, row by row."
)
def as_many_in_every_row(logits, p):
    n_kept = max(len(shared.nucleus(row, p)) for row in logits)
    rank = logits.argsort(descending=True, stable=True).argsort(-1)
    return logits.masked_fill(rank >= n_kept, -math.inf)


@exercise.mistake("You remove what should stay. Turn the mask around.")
def removes_the_nucleus(logits, p):
    filtered = shared.top_p_by_hand(logits, p)
    return logits.masked_fill(filtered != -math.inf, -math.inf)


@exercise.mistake(shared.ZERO)
def zero_instead_of_minus_inf(logits, p):
    filtered = shared.top_p_by_hand(logits, p)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


@exercise.mistake(shared.LARGE_NUMBER)
def large_number(logits, p):
    return shared.top_p_by_hand(logits, p).clamp_min(-1e9)


@exercise.mistake(shared.PROBABILITIES)
def returns_probabilities(logits, p):
    return shared.top_p_by_hand(logits, p).softmax(-1)


@exercise.mistake(shared.IN_PLACE)
def in_place(logits, p):
    return logits.copy_(shared.top_p_by_hand(logits.detach().clone(), p))


@exercise.alternative
def top_p_shifted(logits, p):
    """As it is often written: remove what is above p, shifted by one."""
    if p == 1:
        return logits.clone()
    ordered, order = logits.sort(descending=True)
    remove = ordered.softmax(-1).cumsum(-1) >= p
    remove = torch.cat((torch.zeros_like(remove[:, :1]), remove[:, :-1]), dim=-1)
    return logits.masked_fill(remove.scatter(-1, order, remove), -math.inf)


@exercise.alternative
def top_p_from_the_worst(logits, p):
    ordered, order = logits.sort(dim=-1)
    remove = ordered.softmax(-1).cumsum(-1) <= 1 - p
    remove[:, -1] = False
    ordered = ordered.masked_fill(remove, -math.inf)
    return torch.zeros_like(logits).scatter(-1, order, ordered)


@exercise.alternative
def top_p_token_by_token(logits, p):
    filtered = torch.full_like(logits, -math.inf)
    for row, out in zip(logits, filtered, strict=True):
        total = 0.0
        for token in row.argsort(descending=True).tolist():
            if total < p or p >= 1:
                out[token] = row[token]
            total += row.softmax(0)[token].item()
    return filtered


@exercise.alternative
def top_p_by_threshold(logits, p):
    """The weakest probability that is still needed is the threshold."""
    probabilities = logits.softmax(-1)
    ordered, order = probabilities.sort(-1, descending=True)
    needed = ((ordered.cumsum(-1) < p).sum(-1, keepdim=True) + 1).clamp_max(logits.shape[-1])
    rank = order.argsort(-1)
    return torch.where((rank < needed) | (p >= 1), logits, -math.inf)
