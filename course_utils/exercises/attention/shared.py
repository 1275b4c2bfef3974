"""What the exercises of `course_utils.attention` share."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Part

ANY_AXES = (
    "Any axes may stand before the last two, or none: sentences, sentences and heads. Count axes "
    "from the end, -2 and -1, and let `@` do the rest."
)
BROADCAST = (
    "A mask and a bias may leave axes out, or have size 1 there: they broadcast to the scores by "
    "themselves. Add, drop and turn no axes of theirs."
)


def counting(*shape: int) -> Tensor:
    """0, 1, 2 … in reading order, so that one sees where every number went."""
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def added_to_scores(query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """What a mask and a bias add to every score, as one tensor for torch's own function."""
    total = query.new_zeros(*query.shape[:-1], key.shape[-2])
    if bias is not None:
        total = total + bias
    return total if mask is None else torch.where(mask, total, -torch.inf)


def attended_by_torch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    added = added_to_scores(query, key, mask, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def weights_by_torch(
    query: Tensor, key: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Values that are the rows of the identity come out as the weights themselves."""
    n_keys = key.shape[-2]
    identity = torch.eye(n_keys, dtype=key.dtype).expand(*key.shape[:-2], n_keys, n_keys)
    return attended_by_torch(query, key, identity, mask, bias)


SMALL = {
    "query": torch.tensor([[[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 0.0, -1.0]]]),
    "key": torch.tensor([[[1.0, 0.0, 0.0, 2.0], [0.0, 2.0, 1.0, 0.0], [2.0, 1.0, 1.0, 1.0]]]),
}
SMALL_MASK = torch.tensor([[True, True, False], [False, True, True]])
NOTHING_FOR_ONE = torch.tensor([[False, False, False], [False, True, True]])
NOTHING_FOR_ANY = torch.zeros(2, 3, dtype=torch.bool)
SMALL_BIAS = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.0, 1.0]])


def queries_and_keys(
    n_queries: int, n_keys: int, d_head: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Queries and keys of 2 sentences and 3 heads, with scores that are far apart.

    They are views, as `split_heads` leaves them.
    """
    return {
        "query": 2 * inputs.normal(2, n_queries, 3, d_head, dtype=dtype).transpose(1, 2),
        "key": inputs.normal(2, n_keys, 3, d_head, seed=1, dtype=dtype).transpose(1, 2),
    }


def random_mask(*shape: int) -> Tensor:
    """Random True and False. Every row has both, so that its inverse leaves something too."""
    mask = inputs.boolean(*shape)
    mask[..., -1] &= ~mask.all(-1)
    return mask


def situations() -> list[tuple[str, dict[str, Tensor], dict[str, Tensor | None], str]]:
    """Title, queries and keys, mask and bias, and the point.

    They are for `attention_weights` and for what stands on it.
    """
    normal = inputs.normal
    heads = queries_and_keys(4, 6, 5)
    causal = torch.ones(4, 6, dtype=torch.bool).tril(1)
    low = {  # float64: gradients of such scores are too rough in float32
        "query": torch.tensor([[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]]).double(),
        "key": torch.tensor([[[-1e3, -1e3, -1e3], [-1e3, -1002.0, -1e3], [0.0] * 3]]).double(),
    }
    flipped = {"query": 2 * normal(2, 5, 4).mT, "key": normal(2, 5, 6, seed=1).mT}
    flat = {"query": normal(3, 5), "key": normal(4, 5, seed=1)}
    zeros = {**SMALL, "query": 0 * SMALL["query"]}
    double, half = (queries_and_keys(2, 4, 5, dtype) for dtype in (torch.float64, torch.bfloat16))
    one_query, one_key = queries_and_keys(1, 6, 7), queries_and_keys(4, 1, 5)
    turned: dict[str, Tensor | None] = {"mask": random_mask(4, 6).T.contiguous().T}
    both = (
        "A mask and a bias may be given at once: each has an `if` of its own, and what the mask "
        "hides stays hidden, whatever the bias adds."
    )
    lowest = (
        "All scores may be far below 0, and what is hidden must be lower still: minus infinity, "
        "set before the softmax. A score of 0 or -100 would be the highest there."
    )
    zero = "A score of 0 is a score like any other. What is hidden the mask says, and it alone."
    return [
        ("two queries, three keys", SMALL, {}, ""),
        ("a mask", SMALL, {"mask": SMALL_MASK}, ""),
        ("a bias", SMALL, {"mask": None, "bias": SMALL_BIAS}, ""),
        ("a batch with heads", heads, {}, ""),
        ("a causal mask", heads, {"mask": causal}, ""),
        ("a mask and a bias", SMALL, {"mask": SMALL_MASK, "bias": SMALL_BIAS}, both),
        ("both", heads, {"mask": random_mask(2, 1, 4, 6), "bias": normal(2, 1, 1, 6)}, both),
        ("the mask hides all but very low scores", low, {"mask": SMALL_MASK[:1]}, lowest),
        ("a query of zeros", zeros, {"mask": SMALL_MASK}, zero),
        ("a mask for the keys", heads, {"mask": random_mask(1, 6)}, BROADCAST),
        ("a padding mask for each sentence", heads, {"mask": random_mask(2, 1, 1, 6)}, BROADCAST),
        ("a mask for each head", heads, {"mask": random_mask(2, 3, 4, 6)}, BROADCAST),
        (
            "a mask for each head, for all sentences",
            heads,
            {"mask": random_mask(3, 4, 6)},
            BROADCAST,
        ),
        ("a bias for each head", heads, {"mask": None, "bias": 2 * normal(3, 4, 6)}, BROADCAST),
        (
            "as many queries as keys",
            queries_and_keys(5, 5, 4),
            {"mask": random_mask(5, 5)},
            points.EQUAL_SIZES,
        ),
        ("one query", one_query, {"mask": random_mask(2, 1, 1, 6)}, points.AXIS_OF_ONE),
        ("one key", one_key, {}, points.AXIS_OF_ONE),
        ("no batch at all", flat, {"mask": random_mask(3, 4)}, ANY_AXES),
        ("transposed views", flipped, turned, points.OTHER_ORDER),
        ("float64", double, {"mask": random_mask(2, 4)}, points.SAME_DTYPE),
        ("bfloat16", half, {"mask": random_mask(2, 4)}, points.SAME_DTYPE),
    ]


def shown_call(name: str, arguments: dict[str, Any]) -> str:
    given = [key if value is not None else f"{key}=None" for key, value in arguments.items()]
    return f"{name}({', '.join(given)})"


def cases_of_nothing(name: str, arguments: dict[str, Tensor], oracle: Part) -> list[Case]:
    """A query may look at nothing. What is forbidden must not count: NaN and 0 are both right."""
    masks = {
        "one query may look at nothing": NOTHING_FOR_ONE,
        "no query may look at anything": NOTHING_FOR_ANY,
    }
    return [
        Case(
            title,
            arguments | {"mask": mask},
            lambda *given: oracle(*given).detach().nan_to_num(0.0),  # a gradient would be NaN
            lambda part, **given: part(**given).nan_to_num(0.0),
            shown_call(name, arguments | {"mask": mask}),
            point="Where a query may look at nothing, forbidden keys still get nothing. A large "
            "negative number in all their places makes them equal: fill with minus infinity.",
        )
        for title, mask in masks.items()
    ]


def weigh(query, key, mask, bias, divisor=None, dim=-1):
    """The formula once more, with a divisor and an axis that the mistakes below choose."""
    divisor = query.shape[-1] ** 0.5 if divisor is None else divisor
    added = added_to_scores(query, key, mask, bias)
    return torch.softmax(query @ key.mT / divisor + added, dim)
