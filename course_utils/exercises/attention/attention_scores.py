"""attention.attention_scores: every query meets every key."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.attention import shared
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
    def case(title: str, query: Tensor, key: Tensor, point: str = "") -> Case:
        return Case(title, {"query": query, "key": key}, _scores_by_einsum, point=point)

    def two(*size: int, keys: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        more = (*size[:-2], keys, size[-1])
        return inputs.normal(*size, dtype=dtype), inputs.normal(*more, seed=1, dtype=dtype)

    asks = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, -1.0]]])
    asked = torch.tensor([[1.0, 2.0], [0.0, 3.0], [-1.0, 1.0]]).repeat(2, 1, 1)
    split = inputs.normal(2, 4, 3, 5), inputs.normal(2, 6, 3, 5, seed=1)
    turned_query, turned_key = inputs.normal(2, 5, 3).mT, inputs.normal(2, 5, 4, seed=1).mT
    equal = (
        "Where sizes are equal nothing stops a wrong order: rows belong to queries, columns to "
        "keys, and the sum runs over the features."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    return [
        case("two queries, three keys", asks, asked),
        case("a batch of sentences", *two(2, 3, 5, keys=4)),
        case("more keys", *two(3, 2, 4, keys=7)),
        case("a batch with heads", *two(2, 3, 4, 5, keys=6), shared.ANY_AXES),
        case("as many heads, queries, keys", *two(2, 4, 4, 4, keys=4), shared.ANY_AXES),
        case("no batch at all", *two(3, 5, keys=4), shared.ANY_AXES),
        case("as many queries, keys, features", *two(2, 4, 4, keys=4), equal),
        case("one sentence", *two(1, 3, 5, keys=4), of_one),
        case("one query", *two(2, 1, 5, keys=4), of_one),
        case("one key", *two(2, 4, 5, keys=1), of_one),
        case("one feature", *two(2, 3, 1, keys=4), of_one),
        case(
            "heads as `split_heads` leaves them",
            split[0].transpose(1, 2),
            split[1].transpose(1, 2),
            points.OTHER_ORDER,
        ),
        case("transposed views", turned_query, turned_key, points.OTHER_ORDER),
        case("float64", *two(2, 3, 5, keys=4, dtype=torch.float64), dtypes),
        case("bfloat16", *two(2, 3, 5, keys=4, dtype=torch.bfloat16), dtypes),
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


@exercise.mistake(
    "Every sentence meets every other one, and the result has too many axes: so does "
    "`torch.inner`, and `tensordot` likewise. `@` keeps what stands before the last two axes "
    "apart."
)
def sentences_meet(query: Tensor, key: Tensor) -> Tensor:
    return torch.inner(query, key)


@exercise.mistake(
    "`torch.bmm` takes three axes, no more and no less. With heads there are four: `@` takes any "
    "number."
)
def three_axes_only(query: Tensor, key: Tensor) -> Tensor:
    return torch.bmm(query, key.mT)


@exercise.mistake(
    "`reshape` gives the keys the right shape but leaves their numbers in reading order, so "
    "numbers of different keys meet one query. Turn the axes: `key.transpose(-2, -1)`."
)
def reshaped_and_not_turned(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.reshape(*key.shape[:-2], key.shape[-1], key.shape[-2])


@exercise.mistake(
    "You hide later keys. A mask is a step of its own, which comes later and is not always there. "
    "Return the dot products as they are."
)
def hides_later_keys(query: Tensor, key: Tensor) -> Tensor:
    scores = query @ key.mT
    return scores.masked_fill(torch.ones_like(scores).tril() == 0, -math.inf)


@exercise.mistake(
    "You subtract the largest score of each row. That belongs to the softmax, which is a step of "
    "its own. Return the dot products as they are."
)
def largest_subtracted(query: Tensor, key: Tensor) -> Tensor:
    scores = query @ key.mT
    return scores - scores.amax(-1, keepdim=True)


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
