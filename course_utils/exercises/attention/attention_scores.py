"""attention.attention_scores: every query meets every key."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.attention_scores",
    used_by="`attention_weights`: every heatmap of this course starts as these scores",
    hints=(
        "A score is the dot product of one query with one key. Row i of the result belongs to "
        "query i, column j to key j.",
        "All dot products of two sets of vectors are one matrix product: rows times columns. The "
        "keys are rows, so they must be turned round first.",
        "Turn only the last two axes: `key.transpose(-2, -1)`. Counted from the end they are the "
        "same with heads and without.",
    ),
)


def _scores_by_einsum(query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("...qd,...kd->...qk", query, key)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, query: Tensor, key: Tensor) -> Case:
        return Case(title, {"query": query, "key": key}, _scores_by_einsum)

    normal = inputs.normal
    asks = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])
    asked = torch.tensor([[[1.0, 2.0], [0.0, 3.0], [-1.0, 1.0]]])
    return [
        case("two queries, three keys", asks, asked),
        case("a batch of sentences", normal(2, 3, 5), normal(2, 4, 5, seed=1)),
        case("a batch with heads", normal(2, 3, 4, 5), normal(2, 3, 6, 5, seed=1)),
        case(
            "heads as `split_heads` leaves them",
            normal(2, 4, 3, 5).transpose(1, 2),
            normal(2, 6, 3, 5, seed=1).transpose(1, 2),
        ),
        case("no batch at all", normal(3, 5), normal(4, 5, seed=1)),
        case("as many queries as keys", normal(2, 4, 4, 4), normal(2, 4, 4, 4, seed=1)),
        case("one query", normal(2, 3, 1, 5), normal(2, 3, 4, 5, seed=1)),
        case("one key", normal(2, 3, 4, 5), normal(2, 3, 1, 5, seed=1)),
        case("transposed views", normal(2, 5, 3).mT, normal(2, 5, 4, seed=1).mT),
        case(
            "float64",
            normal(2, 3, 5, dtype=torch.float64),
            normal(2, 4, 5, seed=1, dtype=torch.float64),
        ),
        case(
            "bfloat16",
            normal(2, 3, 5, dtype=torch.bfloat16),
            normal(2, 4, 5, seed=1, dtype=torch.bfloat16),
        ),
    ]


@exercise.mistake(
    "You swap axes 1 and 2. With heads, [batch, heads, tokens, features], these are heads "
    "and tokens. Count from the end: `transpose(-2, -1)`."
)
def transpose_1_2(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(1, 2)


@exercise.mistake(
    "`*` multiplies number by number, so nothing is summed and no query meets another "
    "token's key. Use the matrix product `@`."
)
def elementwise_star(query: Tensor, key: Tensor) -> Tensor:
    return query * key


@exercise.mistake(
    "You compare query i with key i only. Every query asks every key: that is a whole "
    "matrix of dot products, which `@` gives at once."
)
def row_with_its_own_key(query: Tensor, key: Tensor) -> Tensor:
    return (query * key).sum(-1)


@exercise.mistake(
    "You compute K Qᵀ, so the keys are the rows and the queries the columns. Rows should "
    "ask: put the query first."
)
def keys_ask_queries(query: Tensor, key: Tensor) -> Tensor:
    return key @ query.mT


@exercise.mistake(
    "You divide by √d_head here. Notebook 03 does that in a step of its own, so the scores "
    "would be scaled twice. Return the dot products as they are."
)
def scaled_already(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / math.sqrt(query.shape[-1])


@exercise.mistake(
    "You return weights: positive, each row sums to 1. The softmax is a step of its own. "
    "Return the dot products as they are."
)
def softmax_already(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT, -1)


@exercise.mistake(
    "You divide by the lengths of the vectors, so these are cosines, between -1 and 1. A "
    "long key should be able to score high: return the plain dot products."
)
def cosines(query: Tensor, key: Tensor) -> Tensor:
    return F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT


@exercise.mistake(
    "You multiply with `key` as it is, so query features meet key tokens. Turn the last "
    "two axes of `key` first."
)
def no_transpose(query: Tensor, key: Tensor) -> Tensor:
    return query @ key


@exercise.alternative
def scores_by_broadcasting(query: Tensor, key: Tensor) -> Tensor:
    return (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1)


@exercise.alternative
def scores_query_by_query(query: Tensor, key: Tensor) -> Tensor:
    rows = [(key @ one.unsqueeze(-1)).squeeze(-1) for one in query.unbind(-2)]
    return torch.stack(rows, -2)


@exercise.alternative
def scores_by_swapaxes(query: Tensor, key: Tensor) -> Tensor:
    return torch.matmul(key, query.swapaxes(-1, -2)).swapaxes(-1, -2)
