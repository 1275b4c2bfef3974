"""interpretability.induction_score: who looks at what came after the same token?"""

import torch
from torch import Tensor

from course_utils.exercises import points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.interpretability import shared

exercise = Exercise(
    "interpretability.induction_score",
    used_by="the curve that rises when the loss on repetitions falls",
    hints=(
        "Write a text that repeats itself, a b c a b c, and ask at the second b (place 4, period "
        "3): where did b stand before, and what followed it there? That place is the key.",
        "The query t looks for the key t - period + 1. In the matrix all these pairs lie on one "
        "diagonal, period - 1 below the main one.",
        "`weights.diagonal(offset, dim1=-2, dim2=-1)` takes a diagonal; below the main one the "
        "offset is negative. The first pair on this one is that of query period - 1: it is no "
        "repetition yet.",
        "Drop that first pair with `[..., 1:]`, then take the mean over batch and rows.",
    ),
)


def _by_brute_force(weights: Tensor, period: int) -> Tensor:
    n_texts, n_heads, n_tokens, _ = weights.shape
    found = torch.zeros(n_heads, dtype=weights.dtype)
    for head in range(n_heads):
        values = [
            weights[text, head, query, query - period + 1]
            for text in range(n_texts)
            for query in range(period, n_tokens)
        ]
        found[head] = torch.stack(values).mean()
    return found


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, weights: Tensor, period: int, point: str = "") -> Case:
        return Case(title, {"weights": weights, "period": period}, _by_brute_force, point=point)

    one = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.75, 0.25, 0], [0.25, 0, 0.5, 0.25]])
    cut = (
        "The text need not end with a whole period: every token from `period` on is a row, "
        "however many there are."
    )
    thrice = (
        "Where the text is repeated more than once, each row looks one period back, not to the "
        "first period."
    )
    last = "The second half may have one token only: then there is one row."
    neighbour = (
        "With period 1 every token is the same one, and what followed it is the query's own place."
    )
    return [
        case("a b a b", one[None, None], 2),
        case("period 3, two heads", shared.causal_map(1, 2, 6, 6), 3),
        case("period 4, three texts", shared.causal_map(3, 2, 8, 8, seed=1), 4),
        case("period 5, many heads", shared.causal_map(2, 5, 10, 10, seed=2), 5),
        case("a period of 3, and 8 tokens", shared.causal_map(2, 3, 8, 8, seed=3), 3, cut),
        case("a period of 6, and 8 tokens", shared.causal_map(2, 3, 8, 8, seed=4), 6, cut),
        case("three times 3", shared.causal_map(1, 2, 9, 9, seed=5), 3, thrice),
        case("four times 2", shared.causal_map(2, 2, 8, 8, seed=6), 2, thrice),
        case("one token more than a period", shared.causal_map(2, 3, 5, 5, seed=7), 4, last),
        case("a period of 1", shared.causal_map(1, 2, 4, 4, seed=8), 1, neighbour),
        case(
            "as many texts as heads as tokens",
            shared.causal_map(6, 6, 6, 6, seed=9),
            3,
            points.EQUAL_SIZES,
        ),
        case(
            "numbers in another order in memory",
            shared.causal_map(3, 2, 6, 6, seed=10).transpose(0, 1),
            3,
            points.OTHER_ORDER,
        ),
        case("float64", shared.causal_map(2, 2, 6, 6, dtype=torch.float64), 3, points.FLOAT64),
    ]


@exercise.mistake(
    "You look at the same token one period ago, t - period. An induction head looks at what came "
    "after it, t - period + 1: that is what it copies."
)
def offset_period(weights, period):
    return weights.diagonal(-period, dim1=-2, dim2=-1).mean((0, -1))


@exercise.mistake(
    "Your diagonal has one pair too many: that of query period - 1 and key 0. At that place "
    "nothing has been repeated yet. Rows begin at `period`."
)
def begins_one_too_early(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1).mean((0, -1))


@exercise.mistake(
    "You divide by all tokens of the text. Only those from `period` on are rows here: the first "
    "period has nothing to repeat."
)
def includes_first_period(weights, period):
    found = weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].sum(-1)
    return (found / weights.shape[-1]).mean(0)


@exercise.mistake(
    "You look two places after the same token, t - period + 2. What followed it stands one place "
    "after it."
)
def one_too_far(weights, period):
    keys = (torch.arange(period, weights.shape[-1]) - period + 2).clamp_max(weights.shape[-1] - 1)
    return weights[..., torch.arange(period, weights.shape[-1]), keys].mean((0, -1))


@exercise.mistake(
    "You look one place before the same token, t - period - 1. What followed it stands one place "
    "after it: t - period + 1."
)
def before_instead_of_after(weights, period):
    queries = torch.arange(period, weights.shape[-1])
    return weights[..., queries, (queries - period - 1).clamp_min(0)].mean((0, -1))


@exercise.mistake(
    "You use `weights[..., key, query]`, with the axes exchanged. The row is the query: the later "
    "token comes first."
)
def queries_and_keys_exchanged(weights, period):
    return weights.mT.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].mean((0, -1))


@exercise.mistake(
    "You add up the rows. A score is a mean over texts and rows, so that it is at most 1."
)
def sums_the_rows(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].sum((0, -1))


@exercise.mistake(
    "You count every look at any earlier token. Only the one place after the same token, one "
    "period ago, counts."
)
def any_repetition(weights, period):
    return weights[..., period:, :].tril(period - 1).sum(-1).mean((0, -1))


@exercise.mistake(
    "You count the rows whose largest weight is at that place. The score is the mean of the "
    "weights themselves: 0.4 and 0.9 are not the same."
)
def counts_the_largest(weights, period):
    rows = torch.arange(period, weights.shape[-1])
    found = weights[..., period:, :].argmax(-1) == rows - period + 1
    return found.to(weights.dtype).mean((0, -1))


@exercise.alternative
def by_loop(weights, period):
    found = []
    for query in range(period, weights.shape[-1]):
        found.append(weights[:, :, query, query - period + 1])
    return torch.stack(found, dim=-1).mean(dim=-1).mean(dim=0)


@exercise.alternative
def by_indices(weights, period):
    queries = torch.arange(period, weights.size(-1), device=weights.device)
    return weights[:, :, queries, queries - (period - 1)].mean(dim=(0, 2))


@exercise.alternative
def by_mask(weights, period):
    n_tokens = weights.shape[-1]
    place = torch.arange(n_tokens)
    wanted = (place[:, None] - place == period - 1) & (place[:, None] >= period)
    return (weights * wanted).sum((0, 2, 3)) / (len(weights) * (n_tokens - period))


@exercise.alternative
def by_rows_that_are_cut_off(weights, period):
    repeated = weights[:, :, period:, 1:]
    return torch.einsum("bhqq->h", repeated[..., : repeated.shape[-2]]) / (
        repeated.shape[0] * repeated.shape[2]
    )
