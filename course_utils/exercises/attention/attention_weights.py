"""attention.attention_weights: scaled, masked scores become shares."""

import math

import torch
from torch.nn import functional as F

from course_utils.exercises.attention import shared
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.attention_weights",
    used_by="`scaled_dot_product_attention`; every heatmap shows what it returns",
    hints=(
        "Four steps, each one or two lines: scores, scale, what is added or hidden, softmax over "
        "the keys.",
        "You have the parts: `attention_scores(query, key)` times `score_scale(…)`. The size of a "
        "head is `query.shape[-1]`.",
        "`bias` is added to the scaled scores. Where `mask` is False the score becomes minus "
        "infinity, so that exp makes an exact 0 of it. Both may be None.",
        "`scores.masked_fill(~mask, -math.inf)` hides. It comes before the softmax, so that the "
        "weights that are left sum to 1.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, given: dict, extra: dict, point: str) -> Case:
        arguments = {**given, **extra}
        call = shared.shown_call(exercise.name, arguments)
        return Case(title, arguments, shared.weights_by_torch, shown=call, point=point)

    return [
        *(case(*situation) for situation in shared.situations()),
        *shared.cases_of_nothing(exercise.name, shared.SMALL, shared.weights_by_torch),
    ]


@exercise.mistake(
    "You do not scale the scores. Their variance then grows with d_head, and the softmax "
    "gets close to one-hot. Multiply by `score_scale(query.shape[-1])`."
)
def forgot_scale(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=1.0)


@exercise.mistake(
    "You divide by d_head, not by its square root, so the weights come out too equal."
)
def scale_by_d(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=query.shape[-1])


@exercise.mistake(
    "You divide by the root of d_model, which is n_heads · d_head. A dot product here has "
    "d_head terms: use the last axis of `query` alone."
)
def scale_by_d_model(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=(query.shape[1] * query.shape[-1]) ** 0.5)


@exercise.mistake(
    "You divide by the root of the number of keys. A dot product has as many terms as a "
    "query has features: use `query.shape[-1]`."
)
def scale_by_tokens(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=key.shape[-2] ** 0.5)


@exercise.mistake(
    "You measure the variance of these queries and keys, so the same query and key get another "
    "score in other company. The scale depends on d_head alone: `score_scale(query.shape[-1])`."
)
def scale_of_what_is_measured(query, key, mask=None, bias=None):
    measured = query.var().item() * key.var().item()
    return shared.weigh(query, key, mask, bias, divisor=(query.shape[-1] * measured) ** 0.5)


@exercise.mistake("You multiply by √d_head where you should divide. The scale is smaller than 1.")
def scale_upside_down(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=query.shape[-1] ** -0.5)


@exercise.mistake(
    "Your columns sum to 1 where the rows should: each query shares out its own attention "
    "over the keys. Use `dim=-1`."
)
def softmax_over_queries(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, dim=-2)


def _scaled(query, key, bias):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores if bias is None else scores + bias


@exercise.mistake("You return scores. The softmax over the keys makes weights of them.")
def forgot_softmax(query, key, mask=None, bias=None):
    return _scaled(query, key, None) + shared.added_to_scores(query, key, mask, bias)


@exercise.mistake(
    "You hide what the mask allows. True means that the query may look at the key, so "
    "fill where the mask is False: `~mask`."
)
def mask_inverted(query, key, mask=None, bias=None):
    return shared.weigh(query, key, None if mask is None else ~mask, bias)


@exercise.mistake("You do not use the mask. Where it is False the weight should be 0.")
def mask_ignored(query, key, mask=None, bias=None):
    return shared.weigh(query, key, None, bias)


@exercise.mistake(
    "You hide weights after the softmax, so the rows no longer sum to 1. Hide the scores "
    "before it, with minus infinity."
)
def mask_after_softmax(query, key, mask=None, bias=None):
    weights = shared.weigh(query, key, None, bias)
    return weights if mask is None else weights * mask


@exercise.mistake(
    "You hide weights after the softmax and divide by what is left. Where a hidden score "
    "was far the largest, nothing is left: 0 / 0 is NaN. Hide scores before the softmax."
)
def mask_renormalised(query, key, mask=None, bias=None):
    weights = mask_after_softmax(query, key, mask, bias)
    return weights / weights.sum(-1, keepdim=True)


@exercise.mistake(
    "You set hidden scores to 0 (or to a tiny number: 1e-9 is not -1e9). A score of 0 is "
    "an ordinary score, and exp(0) is 1. Set them to minus infinity."
)
def mask_multiplied_into_scores(query, key, mask=None, bias=None):
    scores = _scaled(query, key, bias)
    return torch.softmax(scores if mask is None else scores * mask, -1)


@exercise.mistake(
    "You add the mask to the scores as if it were a bias: True adds 1 and nothing is "
    "hidden. Set the scores to minus infinity where the mask is False."
)
def mask_adds_one(query, key, mask=None, bias=None):
    scores = _scaled(query, key, bias)
    return torch.softmax(scores if mask is None else scores + mask, -1)


@exercise.mistake(
    "You hide scores with a large negative number. Where a query may look at nothing, all its "
    "scores are that number, and forbidden keys share its attention. Fill with `-math.inf`."
)
def hides_with_a_finite_number(query, key, mask=None, bias=None):
    scores = _scaled(query, key, bias)
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores if mask is None else scores.masked_fill(~mask, lowest), -1)


@exercise.mistake(
    "You take the softmax in float32, whatever comes in. That helps bfloat16, but of float64 half "
    "the digits are lost. Compute in the dtype of the query."
)
def softmax_in_float32(query, key, mask=None, bias=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    hidden = scores + shared.added_to_scores(query, key, mask, bias)
    return torch.softmax(hidden, -1, dtype=torch.float32).to(query.dtype)


@exercise.mistake("You do not use the bias. Add it to the scaled scores.")
def bias_ignored(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, None)


@exercise.mistake(
    "You use neither mask nor bias. Each may be None: then there is nothing to do. Else "
    "add the bias to the scaled scores, and hide scores where the mask is False."
)
def mask_and_bias_ignored(query, key, mask=None, bias=None):
    return shared.weigh(query, key, None, None)


@exercise.mistake(
    "You add the bias first and scale both. The bias would then mean something else for "
    "every size of head. Scale the scores, then add."
)
def bias_before_scale(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, None if bias is None else bias / query.shape[-1] ** 0.5)


@exercise.mistake(
    "You add the bias to the weights, so they no longer sum to 1. Add it to the scores."
)
def bias_after_softmax(query, key, mask=None, bias=None):
    weights = shared.weigh(query, key, mask, None)
    return weights if bias is None else weights + bias


@exercise.mistake(
    "With a mask you forget the bias. Both can be given, so each needs an `if` of its own."
)
def only_one_of_both(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias if mask is None else None)


@exercise.mistake(
    "Without a mask you forget the bias: it is added only where a mask is given as well. Each "
    "needs an `if` of its own."
)
def bias_only_with_a_mask(query, key, mask=None, bias=None):
    return shared.weigh(query, key, mask, None if mask is None else bias)


@exercise.mistake(
    "Where no mask is given you hide what comes later. Without a mask every query sees every key: "
    "whoever wants a causal mask gives one."
)
def causal_without_a_mask(query, key, mask=None, bias=None):
    causal = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    return shared.weigh(query, key, causal if mask is None else mask, bias)


@exercise.mistake(
    "You multiply the mask by minus infinity. For an allowed key that is 0 times infinity, which "
    "is NaN. Choose instead: `scores.masked_fill(~mask, -math.inf)`."
)
def mask_times_infinity(query, key, mask=None, bias=None):
    scores = _scaled(query, key, bias)
    return torch.softmax(scores if mask is None else scores + ~mask * -math.inf, -1)


@exercise.alternative
def weights_with_a_billion(query, key, mask=None, bias=None):
    scores = torch.einsum("...qd,...kd->...qk", query / math.sqrt(query.shape[-1]), key)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = torch.where(mask, scores, -1e9)
    weights = torch.softmax(scores, -1)
    return weights if mask is None else weights * mask  # nothing for what is forbidden


@exercise.alternative
def weights_with_an_added_mask(query, key, mask=None, bias=None):
    scores = torch.matmul(query, key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, -math.inf)
    if bias is not None:
        scores = scores + bias
    return F.softmax(scores, dim=-1)


@exercise.alternative
def weights_query_by_query(query, key, mask=None, bias=None):
    rows = []
    added = shared.added_to_scores(query, key, mask, bias)
    for one, more in zip(query.unbind(-2), added.unbind(-2), strict=True):
        scores = (key * one.unsqueeze(-2)).sum(-1) / query.shape[-1] ** 0.5 + more
        rows.append(torch.softmax(scores, -1))
    return torch.stack(rows, -2)
