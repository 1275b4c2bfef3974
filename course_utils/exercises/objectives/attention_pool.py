"""objectives.attention_pool: one query asks all tokens of a text."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "objectives.attention_pool",
    used_by="the head that learns which tokens to look at",
    hints=(
        "It is attention as you know it, with one query. Keys and values are both the tokens "
        "themselves, `x`.",
        "The scores are the dot products of `query` with every token, divided by √d_model. Masked "
        "tokens get minus infinity before the softmax, which goes over the tokens of each text.",
        "`attention.scaled_dot_product_attention` does it all: give it a query "
        "[batch, 1, d_model], such as `query.expand(len(x), 1, -1)`, and a mask "
        "[batch, 1, tokens].",
        "The result has an axis of one query, which goes: `[:, 0]`.",
    ),
)


def _by_torch(x: Tensor, query: Tensor, mask: Tensor) -> Tensor:
    asking = query.repeat(len(x), 1, 1)
    return F.scaled_dot_product_attention(asking, x, x, attn_mask=mask.unsqueeze(1)).squeeze(1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, query: Tensor, mask: Tensor, point: str = "") -> Case:
        given = {"x": x, "query": query, "mask": mask}
        return Case(title, given, _by_torch, shown="attention_pool(x, query, mask)", point=point)

    def seen(*shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.bool)

    normal = inputs.normal
    small = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [8.0, 4.0]], [[2.0, 5.0], [4.0, 2.0], [9.0, 9]]])
    lengths = torch.arange(4) < torch.tensor([[4], [2], [1]])
    x, query = normal(3, 4, 5), 2 * normal(5, seed=1)
    hidden = (
        "Tokens where `mask` is False get no weight at all, in each text its own ones. They get "
        "minus infinity before the softmax, so that the weights of the others sum to 1."
    )
    anywhere = "The tokens that may be seen stand anywhere: go by `mask`, not by counting."
    huge = (
        "A hidden token gives nothing, however large its score would be: hide it before the "
        "softmax, and with minus infinity."
    )
    low = (
        "All scores that are seen may be far below 0. A hidden token must still get nothing: 0, or "
        "a large negative number, is not low enough."
    )
    one_seen = "Where one token alone is seen, the result is that token, whatever the query."
    even = "With a query of zeros all scores are equal, and the result is the mean of what is seen."
    sharp = (
        "Scores of several hundred are nothing special: `attention.softmax` subtracts the largest "
        "first, and nothing overflows."
    )
    its_axes = (
        "Axes have their place, also where all sizes are equal: tokens are axis 1 of `x`, and the "
        "features, which the query meets, are the last."
    )
    whole = 20.0 + inputs.integers(3, 4, 4, below=40)  # their scores are exact
    far = torch.where(lengths[..., None], x, 40 * query)
    return [
        case("two texts of three tokens", small, torch.tensor([0.2, -0.3]), seen(2, 3)),
        case("three texts", x, query, seen(3, 4)),
        case("three lengths", x, query, lengths, hidden),
        case("hidden tokens in front", x, query, lengths.flip(1), anywhere),
        case("hidden tokens anywhere", x, query, inputs.boolean(3, 4), anywhere),
        case("more texts than tokens", normal(6, 3, 4), normal(4, seed=1), seen(6, 3)),
        case("another query", x, normal(5, seed=2), seen(3, 4)),
        case("the query would like what is hidden", far, query, lengths, huge),
        case("all scores are low", whole, -64 * torch.ones(4), lengths, low),
        case("one token is seen", x, query, F.one_hot(torch.tensor([2, 0, 3])).bool(), one_seen),
        case("a query of zeros", x, torch.zeros(5), lengths, even),
        case("large scores", 30 * x, 20 * query, lengths, sharp),
        case("all sizes are equal", normal(4, 4, 4), normal(4, seed=1), seen(4, 4), its_axes),
        case(
            "all sizes are equal, some tokens hidden",
            normal(4, 4, 4),
            normal(4, seed=1),
            torch.ones(4, 4).tril(1).bool(),
            its_axes,
        ),
        case("one text", x[:1], query, seen(1, 4), points.AXIS_OF_ONE),
        case("one token", x[:, :1], query, seen(3, 1), points.AXIS_OF_ONE),
        case("one feature", normal(3, 4, 1), normal(1, seed=1), lengths, points.AXIS_OF_ONE),
        case("many features", normal(2, 3, 64), normal(64, seed=1), seen(2, 3)),
        case("a transposed view", normal(3, 5, 4).mT, query, lengths, points.OTHER_ORDER),
        case("float64", x.double(), query.double(), lengths, points.FLOAT64),
    ]


def _pooled(x, query, mask, scale=None, dim=1, hidden=-math.inf):
    """Right, but for what is named."""
    scores = x @ query * (1 / math.sqrt(len(query)) if scale is None else scale)
    weights = scores.masked_fill(~mask, hidden).softmax(dim)
    return (weights[..., None] * x).sum(1)


@exercise.mistake(
    "You do not use `mask`: padding has a share in your vector, and a sentence has another one in "
    "every batch. Hide it before the softmax."
)
def no_mask(x, query, mask):
    return _pooled(x, query, torch.ones_like(mask))


@exercise.mistake(
    "You look where `mask` is False. True means that the query may look: hide the others, `~mask`."
)
def mask_inverted(x, query, mask):
    return _pooled(x, query, ~mask)


@exercise.mistake(
    "Your softmax goes over the features: each feature of a token gets a weight. There is one "
    "weight a token, from its dot product with the query."
)
def softmax_over_features(x, query, mask):
    weights = (x * query / math.sqrt(len(query))).softmax(-1) * mask[..., None]
    return (weights * x).sum(1)


@exercise.mistake(
    "Your softmax goes over the batch. The weights of the tokens of one text sum to 1: axis 1 of "
    "the scores [batch, tokens]."
)
def softmax_over_the_batch(x, query, mask):
    return _pooled(x, query, mask, dim=0)


@exercise.mistake(
    "You add the tokens up as they are. Each is multiplied with its weight first, and the weights "
    "come from the query."
)
def sum_not_weighted(x, query, mask):
    return (x * mask[..., None]).sum(1)


@exercise.mistake(
    "You take the mean: the query has no say. Its dot products with the tokens decide how much of "
    "each comes in."
)
def plain_mean(x, query, mask):
    return _pooled(x, 0 * query, mask)


@exercise.mistake(
    "You do not scale the scores. As everywhere, they are divided by √d_model, here the size of "
    "the query."
)
def not_scaled(x, query, mask):
    return _pooled(x, query, mask, scale=1.0)


@exercise.mistake("You divide the scores by d_model. It is its root: √d_model.")
def divided_by_d_model(x, query, mask):
    return _pooled(x, query, mask, scale=1 / len(query))


@exercise.mistake(
    "You weigh with the scores themselves. Take their softmax over the tokens first: weights are "
    "positive and sum to 1."
)
def no_softmax(x, query, mask):
    scores = x @ query / math.sqrt(len(query)) * mask
    return (scores[..., None] * x).sum(1)


@exercise.mistake(
    "You set the weights of hidden tokens to 0 after the softmax, so what is left sums to less "
    "than 1. Hide them before it, with minus infinity."
)
def mask_after_softmax(x, query, mask):
    weights = (x @ query / math.sqrt(len(query))).softmax(1) * mask
    return (weights[..., None] * x).sum(1)


@exercise.mistake(
    "Hidden tokens get the score 0, which may be better than that of a token that is seen. Give "
    "them minus infinity."
)
def hidden_scores_are_zero(x, query, mask):
    return _pooled(x, query, mask, hidden=0.0)


@exercise.mistake(
    "Hidden tokens get a large negative score. Where all others have a lower one, they win: give "
    "them minus infinity."
)
def hides_with_a_finite_number(x, query, mask):
    return _pooled(x, query, mask, hidden=-1e3)


@exercise.mistake(
    "You take the token with the largest score. Its position carries no gradient, so the query "
    "could not learn: mix all of them, by softmax."
)
def takes_the_best(x, query, mask):
    best = (x @ query).masked_fill(~mask, -math.inf).argmax(1)
    return x[torch.arange(len(x)), best]


@exercise.mistake(
    "Your numbers are right, but the axis of the single query is still there. The result has the "
    "shape [batch, d_model]: `[:, 0]`."
)
def keeps_the_axis(x, query, mask):
    return _pooled(x, query, mask)[:, None]


@exercise.mistake("You return the weights. Mix the tokens with them.")
def returns_the_weights(x, query, mask):
    return (x @ query / math.sqrt(len(query))).masked_fill(~mask, -math.inf).softmax(1)


@exercise.alternative
def pool_by_einsum(x, query, mask):
    scores = torch.einsum("btd,d->bt", x, query) * query.shape[0] ** -0.5
    weights = torch.softmax(scores.masked_fill(mask.logical_not(), float("-inf")), dim=-1)
    return torch.einsum("bt,btd->bd", weights, x)


@exercise.alternative
def pool_text_by_text(x, query, mask):
    pooled = []
    for text, seen in zip(x, mask, strict=True):
        tokens = text[seen]
        scores = tokens @ query / math.sqrt(tokens.shape[1])
        weights = torch.exp(scores - scores.max())
        weights = weights / weights.sum()
        pooled.append(sum(w * token for w, token in zip(weights, tokens, strict=True)))
    return torch.stack(pooled)


@exercise.alternative
def pool_by_matmul(x, query, mask):
    scores = torch.matmul(x, query.view(-1, 1)) / math.sqrt(query.numel())
    scores = torch.where(mask.unsqueeze(-1), scores, -torch.inf)
    return torch.matmul(torch.softmax(scores, dim=1).transpose(1, 2), x).squeeze(1)


@exercise.alternative
def pool_by_the_fused_call(x, query, mask):
    query = query[None, None, None].expand(x.shape[0], 1, 1, -1)
    x = x[:, None]
    out = F.scaled_dot_product_attention(query, x, x, attn_mask=mask[:, None, None, :])
    return out[:, 0, 0]
