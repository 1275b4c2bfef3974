"""Exercises of notebook 03: from scores to weights, and the whole of multi-head attention."""

import math
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, encoder
from course_utils.exercises import inputs, layers
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong
from course_utils.projection import Linear

# --- softmax -------------------------------------------------------------------------------------


def _softmax_cases() -> list[Case]:
    def case(title: str, scores: Tensor, **dim: int) -> Case:
        call = f"softmax(scores, dim={dim['dim']})" if dim else "softmax(scores)"
        return Case(title, {"scores": scores, **dim}, _softmax_by_torch, shown=call)

    normal = inputs.normal
    return [
        case("one row", torch.tensor([1.0, 2.0, 4.0])),
        case("two rows of three scores", torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0]])),
        case("down the columns", torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0]]), dim=0),
        case("huge scores", torch.tensor([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1000.0]])),
        case("minus infinity", torch.tensor([[1.0, -torch.inf, 2.0]])),
        case("scores of a batch with heads", 5 * normal(2, 3, 4, 5)),
        case("the same along axis 1", 5 * normal(2, 3, 4, 5), dim=1),
        case("the same along axis -2", 5 * normal(2, 3, 4, 5), dim=-2),
        case("as many queries as keys", 5 * normal(2, 4, 4)),
        case("a transposed view", normal(5, 4).T),
        case("float64", normal(3, 4, dtype=torch.float64)),
        case("bfloat16", normal(3, 4, dtype=torch.bfloat16)),
        case("a single score", torch.tensor([[7.0]])),
    ]


def _softmax_by_torch(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, dim)


def _overflow(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


def _clamped(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores.clamp(-50, 50), dim)


def _one_maximum_for_all(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum(dim, keepdim=True)


def _softmax_over_queries(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -2 if scores.ndim > 1 else -1)


def _ignores_dim(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -1)


def _sums_over_everything(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum()


def _normalise_without_exp(scores: Tensor, dim: int = -1) -> Tensor:
    return scores / scores.sum(dim, keepdim=True)


def _exp_without_normalising(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.exp(scores - scores.amax(dim, keepdim=True))


def _forgot_keepdim(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim)


def _log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.log_softmax(scores, dim)


def _changes_the_scores(scores: Tensor, dim: int = -1) -> Tensor:
    scores -= scores.amax(dim, keepdim=True).clone()
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


def _divides_in_place(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    exponentials /= exponentials.sum(dim, keepdim=True)
    return exponentials


def _softmax_by_logsumexp(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.exp(scores - torch.logsumexp(scores, dim, keepdim=True))


def _softmax_by_log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.log_softmax(scores, dim).exp()


def _softmax_with_detached_maximum(scores: Tensor, dim: int = -1) -> Tensor:
    maximum, _ = scores.detach().max(dim, keepdim=True)
    exponentials = math.e ** (scores - maximum)
    return exponentials / torch.sum(exponentials, dim=dim, keepdim=True)


SOFTMAX = Exercise(
    part="attention.softmax",
    notebook="03",
    used_by="`attention_weights`, and so by every attention head of every model in this course",
    cases=_softmax_cases,
    hints=(
        "Two steps: make every score positive with `torch.exp`, then divide by the sum.",
        "The sum runs along `dim` only. `keepdim=True` keeps the axis, so that the division "
        "broadcasts.",
        "`exp(1000)` is infinite. Subtract the maximum along `dim` first: the factor that this "
        "takes out of the numerator it also takes out of the sum.",
        "The maximum along an axis, as a tensor that broadcasts: `scores.amax(dim, keepdim=True)`.",
    ),
    mistakes=(
        Mistake(
            "overflow",
            "You take exp of the scores as they are. exp(89) is already more than a float32 can "
            "hold, and infinity divided by infinity is NaN. Subtract the largest score first.",
            _overflow,
        ),
        Mistake(
            "clamped",
            "You cut large scores off at 50, so that exp cannot overflow, but then scores of 1000 "
            "and 999 get equal weights. Subtract the largest score instead: it changes nothing.",
            _clamped,
        ),
        Mistake(
            "one_maximum_for_all",
            "You subtract the same maximum everywhere. Rows that are far below it become exp of a "
            "huge negative number, all zeros, and 0 / 0 is NaN. Take the maximum along `dim`.",
            _one_maximum_for_all,
        ),
        Mistake(
            "softmax_over_queries",
            "Your columns sum to 1 where the rows should. Normalise along `dim`: with the default "
            "-1 that is over the keys, for each query on its own.",
            _softmax_over_queries,
        ),
        Mistake(
            "ignores_dim",
            "You always normalise along the last axis. Pass `dim` on to the maximum and the sum.",
            _ignores_dim,
        ),
        Mistake(
            "sums_over_everything",
            "You divide by the sum of the whole tensor, so only all rows together sum to 1. Sum "
            "along `dim`, and keep the axis with `keepdim=True`.",
            _sums_over_everything,
        ),
        Mistake(
            "normalise_without_exp",
            "You divide the scores by their sum without exponentiating them, so weights can be "
            "negative or larger than 1. Take exp first.",
            _normalise_without_exp,
        ),
        Mistake(
            "exp_without_normalising",
            "You return the exponentials. They are positive, but they do not sum to 1. Divide by "
            "their sum along `dim`.",
            _exp_without_normalising,
        ),
        Mistake(
            "forgot_keepdim",
            "The sum has one axis less than the scores, so the division meets the wrong axis: an "
            "error, or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`.",
            _forgot_keepdim,
        ),
        Mistake(
            "log_softmax",
            "You return the logarithms of the weights. Take exp at the end.",
            _log_softmax,
        ),
        Mistake(
            "changes_the_scores",
            "Your weights are right, but `scores -= …` changes the caller's tensor. Write "
            "`scores = scores - …`, which makes a new one.",
            _changes_the_scores,
        ),
        Mistake(
            "divides_in_place",
            "Your weights are right, but `/=` writes over the exponentials, which the gradient of "
            "exp still needs: training would stop here. Write `exponentials / …` instead.",
            _divides_in_place,
        ),
    ),
    alternatives=(_softmax_by_logsumexp, _softmax_by_log_softmax, _softmax_with_detached_maximum),
)

# --- score_scale ---------------------------------------------------------------------------------


def _scale_by_counting(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    """Count all outcomes where every entry of query and key is plus or minus its deviation.

    Then every product is plus or minus √(var_q var_k), each half of the time, and of the 2^d_head
    equally likely sums C(d_head, k) have k negative terms.
    """
    squares = sum(math.comb(d_head, k) * (d_head - 2 * k) ** 2 for k in range(d_head + 1))
    variance = squares / 2**d_head * var_q * var_k
    return variance**-0.5


def _score_scale_cases() -> list[Case]:
    def case(title: str, *given: float) -> Case:
        arguments = dict(zip(("d_head", "var_q", "var_k"), given, strict=False))
        call = f"score_scale({', '.join(f'{name}={value}' for name, value in arguments.items())})"
        return Case(title, arguments, _scale_by_counting, shown=call)

    return [
        case("four terms", 4),
        case("sixty-four terms", 64),
        case("not a square", 10),
        case("a single term", 1),
        case("queries vary more", 4, 9.0, 1.0),
        case("keys vary less", 4, 1.0, 0.25),
        case("both vary", 6, 4.0, 0.5),
        case("one variance given", 25, 2.0),
    ]


def _divides_by_d(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (d_head * var_q * var_k)


def _divides_by_d_alone(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / d_head


def _multiplies(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(d_head * var_q * var_k)


def _multiplies_by_root_of_d(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(d_head)


def _forgot_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / math.sqrt(d_head)


def _variances_outside_the_root(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (math.sqrt(d_head) * var_q * var_k)


def _multiplies_by_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(var_q * var_k / d_head)


def _adds_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / math.sqrt(d_head * (var_q + var_k))


def _variance_not_deviation(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return d_head * var_q * var_k


def _returns_a_tensor(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> Tensor:
    return torch.rsqrt(torch.tensor(d_head * var_q * var_k))


def _scale_as_a_power(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return (d_head * var_q * var_k) ** -0.5


def _scale_by_deviations(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (math.sqrt(var_q) * math.sqrt(var_k) * math.sqrt(d_head))


SCORE_SCALE = Exercise(
    part="attention.score_scale",
    notebook="03",
    used_by="`attention_weights`: it multiplies the scores with this number",
    cases=_score_scale_cases,
    hints=(
        "The product of two independent numbers with mean 0 has the variance var_q · var_k. What "
        "is the variance of a sum of `d_head` such products?",
        "Independent terms add their variances: d_head · var_q · var_k. Multiplying a number by c "
        "multiplies its variance by c².",
        "So c² times that variance must be 1. Solve for c; `math.sqrt` gives a plain number.",
    ),
    mistakes=(
        Mistake(
            "divides_by_d",
            "You divide by the variance of the score. A factor c multiplies a variance by c², so "
            "the scores would end with variance 1 / d_head. Take the square root.",
            _divides_by_d,
        ),
        Mistake(
            "divides_by_d_alone",
            "You divide by d_head, so the scores would end with variance 1 / d_head instead of 1. "
            "Take the square root, and put `var_q` and `var_k` in.",
            _divides_by_d_alone,
        ),
        Mistake(
            "multiplies",
            "Your number is the standard deviation of the score. Multiplying by it makes large "
            "scores larger. Return 1 divided by it.",
            _multiplies,
        ),
        Mistake(
            "multiplies_by_root_of_d",
            "Your number is √d_head, the standard deviation of the score where queries and keys "
            "have variance 1. Return 1 divided by it, and put `var_q` and `var_k` in.",
            _multiplies_by_root_of_d,
        ),
        Mistake(
            "forgot_variances",
            "You use `d_head` only. That is right where queries and keys have variance 1. Put "
            "`var_q` and `var_k` under the root as well.",
            _forgot_variances,
        ),
        Mistake(
            "variances_outside_the_root",
            "You divide by the variances themselves. They belong under the root, beside `d_head`: "
            "the root of a variance is a standard deviation.",
            _variances_outside_the_root,
        ),
        Mistake(
            "multiplies_by_variances",
            "Your number grows with the variances, so scores that vary much would be stretched "
            "further. Divide by √(var_q · var_k) as well as by √d_head.",
            _multiplies_by_variances,
        ),
        Mistake(
            "adds_variances",
            "You add the two variances. Each term of the sum is a product of two independent "
            "numbers with mean 0, and its variance is the product of theirs.",
            _adds_variances,
        ),
        Mistake(
            "variance_not_deviation",
            "You return the variance of the score. Asked for is the factor that brings it to 1.",
            _variance_not_deviation,
        ),
        Mistake(
            "returns_a_tensor",
            "You return a tensor. Use `math.sqrt` instead of a function of torch, and the result "
            "is a plain number that fits tensors of every dtype.",
            _returns_a_tensor,
        ),
    ),
    alternatives=(_scale_as_a_power, _scale_by_deviations),
)

# --- attention_weights ---------------------------------------------------------------------------


def _added_to_scores(
    query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """What a mask and a bias add to every score, as one tensor for torch's own function."""
    total = query.new_zeros(*query.shape[:-1], key.shape[-2])
    if bias is not None:
        total = total + bias
    return total if mask is None else torch.where(mask, total, -torch.inf)


def _attended_by_torch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    added = _added_to_scores(query, key, mask, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def _weights_by_torch(
    query: Tensor, key: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Values that are the rows of the identity come out as the weights themselves."""
    n_keys = key.shape[-2]
    identity = torch.eye(n_keys, dtype=key.dtype).expand(*key.shape[:-2], n_keys, n_keys)
    return _attended_by_torch(query, key, identity, mask, bias)


SMALL = {
    "query": torch.tensor([[[2.0, 0.0, 1.0, 1.0], [0.0, 3.0, 0.0, -1.0]]]),
    "key": torch.tensor([[[1.0, 0.0, 0.0, 2.0], [0.0, 2.0, 1.0, 0.0], [2.0, 1.0, 1.0, 1.0]]]),
}
SMALL_MASK = torch.tensor([[True, True, False], [False, True, True]])
SMALL_BIAS = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.0, 1.0]])


def _heads(
    n_queries: int, n_keys: int, d_head: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Queries and keys of 2 sentences and 3 heads, with scores that are far apart."""
    return {
        "query": 2 * inputs.normal(2, 3, n_queries, d_head, dtype=dtype),
        "key": inputs.normal(2, 3, n_keys, d_head, seed=1, dtype=dtype),
    }


def _mask(*shape: int) -> Tensor:
    """Random True and False. Every row has both, so that its inverse leaves something too."""
    mask = inputs.boolean(*shape)
    mask[..., -1] &= ~mask.all(-1)
    return mask


def _situations() -> list[tuple[str, dict[str, Tensor], dict[str, Tensor | None]]]:
    """Title, queries and keys, mask and bias: for `attention_weights` and for what stands on it."""
    normal = inputs.normal
    heads = _heads(4, 6, 5)
    causal = torch.ones(4, 6, dtype=torch.bool).tril(1)
    low = {  # float64: gradients of such scores are too rough in float32
        "query": torch.tensor([[[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]]).double(),
        "key": torch.tensor([[[-1e3, -1e3, -1e3], [-1e3, -1002.0, -1e3], [0.0] * 3]]).double(),
    }
    flipped = {"query": 2 * normal(2, 5, 4).mT, "key": normal(2, 5, 6, seed=1).mT}
    flat = {"query": normal(3, 5), "key": normal(4, 5, seed=1)}
    return [
        ("two queries, three keys", SMALL, {}),
        ("a mask", SMALL, {"mask": SMALL_MASK}),
        ("a bias", SMALL, {"mask": None, "bias": SMALL_BIAS}),
        ("a mask and a bias", SMALL, {"mask": SMALL_MASK, "bias": SMALL_BIAS}),
        ("the mask hides all but very low scores", low, {"mask": SMALL_MASK[:1]}),
        ("a batch with heads", heads, {}),
        ("a causal mask", heads, {"mask": causal}),
        ("a mask for the keys", heads, {"mask": _mask(1, 6)}),
        ("a padding mask for each sentence", heads, {"mask": _mask(2, 1, 1, 6)}),
        ("a mask for each head", heads, {"mask": _mask(2, 3, 4, 6)}),
        ("a bias for each head", heads, {"mask": None, "bias": 2 * normal(3, 4, 6)}),
        ("both", heads, {"mask": _mask(2, 1, 4, 6), "bias": normal(2, 1, 1, 6)}),
        ("as many queries as keys", _heads(5, 5, 4), {"mask": _mask(5, 5)}),
        ("one query", _heads(1, 6, 7), {"mask": _mask(2, 1, 1, 6)}),
        ("one key", _heads(4, 1, 5), {}),
        ("no batch at all", flat, {"mask": _mask(3, 4)}),
        ("transposed views", flipped, {"mask": _mask(4, 6).T.contiguous().T}),
        ("float64", _heads(2, 4, 5, torch.float64), {"mask": _mask(2, 4)}),
        ("bfloat16", _heads(2, 4, 5, torch.bfloat16), {"mask": _mask(2, 4)}),
    ]


def _call(name: str, arguments: dict[str, Any]) -> str:
    given = [key if value is not None else f"{key}=None" for key, value in arguments.items()]
    return f"{name}({', '.join(given)})"


def _attention_weights_cases() -> list[Case]:
    cases = []
    for title, given, extra in _situations():
        arguments = {**given, **extra}
        call = _call("attention_weights", arguments)
        cases.append(Case(title, arguments, _weights_by_torch, shown=call))
    return cases


def _weigh(query, key, mask, bias, divisor=None, dim=-1):
    """The formula once more, with a divisor and an axis that the mistakes below choose."""
    divisor = query.shape[-1] ** 0.5 if divisor is None else divisor
    added = _added_to_scores(query, key, mask, bias)
    return torch.softmax(query @ key.mT / divisor + added, dim)


def _forgot_scale(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=1.0)


def _scale_by_d(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=query.shape[-1])


def _scale_by_d_model(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=(query.shape[1] * query.shape[-1]) ** 0.5)


def _scale_by_tokens(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=key.shape[-2] ** 0.5)


def _scale_upside_down(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=query.shape[-1] ** -0.5)


def _over_the_queries(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias, dim=-2)


def _forgot_softmax(query, key, mask=None, bias=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores + _added_to_scores(query, key, mask, bias)


def _mask_inverted(query, key, mask=None, bias=None):
    return _weigh(query, key, None if mask is None else ~mask, bias)


def _mask_ignored(query, key, mask=None, bias=None):
    return _weigh(query, key, None, bias)


def _mask_and_bias_ignored(query, key, mask=None, bias=None):
    return _weigh(query, key, None, None)


def _mask_after_softmax(query, key, mask=None, bias=None):
    weights = _weigh(query, key, None, bias)
    return weights if mask is None else weights * mask


def _mask_renormalised(query, key, mask=None, bias=None):
    weights = _mask_after_softmax(query, key, mask, bias)
    return weights / weights.sum(-1, keepdim=True)


def _mask_multiplied_into_scores(query, key, mask=None, bias=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    return torch.softmax(scores if mask is None else scores * mask, -1)


def _mask_adds_one(query, key, mask=None, bias=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    return torch.softmax(scores if mask is None else scores + mask, -1)


def _bias_ignored(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, None)


def _bias_before_scale(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, None if bias is None else bias / query.shape[-1] ** 0.5)


def _bias_after_softmax(query, key, mask=None, bias=None):
    weights = _weigh(query, key, mask, None)
    return weights if bias is None else weights + bias


def _only_one_of_both(query, key, mask=None, bias=None):
    return _weigh(query, key, mask, bias if mask is None else None)


def _weights_with_a_billion(query, key, mask=None, bias=None):
    scores = torch.einsum("...qd,...kd->...qk", query / math.sqrt(query.shape[-1]), key)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = torch.where(mask, scores, -1e9)
    return torch.softmax(scores, -1)


def _weights_with_an_added_mask(query, key, mask=None, bias=None):
    lowest = torch.finfo(query.dtype).min
    scores = torch.matmul(query, key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + lowest * (~mask).to(scores.dtype)
    if bias is not None:
        scores = scores + bias
    return F.softmax(scores, dim=-1)


def _weights_query_by_query(query, key, mask=None, bias=None):
    rows = []
    added = _added_to_scores(query, key, mask, bias)
    for one, more in zip(query.unbind(-2), added.unbind(-2), strict=True):
        scores = (key * one.unsqueeze(-2)).sum(-1) / query.shape[-1] ** 0.5 + more
        rows.append(torch.softmax(scores, -1))
    return torch.stack(rows, -2)


ATTENTION_WEIGHTS = Exercise(
    part="attention.attention_weights",
    notebook="03",
    used_by="`scaled_dot_product_attention`; every heatmap shows what it returns",
    cases=_attention_weights_cases,
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
    mistakes=(
        Mistake(
            "forgot_scale",
            "You do not scale the scores. Their variance then grows with d_head, and the softmax "
            "gets close to one-hot. Multiply by `score_scale(query.shape[-1])`.",
            _forgot_scale,
        ),
        Mistake(
            "scale_by_d",
            "You divide by d_head, not by its square root, so the weights come out too equal.",
            _scale_by_d,
        ),
        Mistake(
            "scale_by_d_model",
            "You divide by the root of d_model, which is n_heads · d_head. A dot product here has "
            "d_head terms: use the last axis of `query` alone.",
            _scale_by_d_model,
        ),
        Mistake(
            "scale_by_tokens",
            "You divide by the root of the number of keys. A dot product has as many terms as a "
            "query has features: use `query.shape[-1]`.",
            _scale_by_tokens,
        ),
        Mistake(
            "scale_upside_down",
            "You multiply by √d_head where you should divide. The scale is smaller than 1.",
            _scale_upside_down,
        ),
        Mistake(
            "softmax_over_queries",
            "Your columns sum to 1 where the rows should: each query shares out its own attention "
            "over the keys. Use `dim=-1`.",
            _over_the_queries,
        ),
        Mistake(
            "forgot_softmax",
            "You return scores. The softmax over the keys makes weights of them.",
            _forgot_softmax,
        ),
        Mistake(
            "mask_inverted",
            "You hide what the mask allows. True means that the query may look at the key, so "
            "fill where the mask is False: `~mask`.",
            _mask_inverted,
        ),
        Mistake(
            "mask_ignored",
            "You do not use the mask. Where it is False the weight should be 0.",
            _mask_ignored,
        ),
        Mistake(
            "mask_after_softmax",
            "You hide weights after the softmax, so the rows no longer sum to 1. Hide the scores "
            "before it, with minus infinity.",
            _mask_after_softmax,
        ),
        Mistake(
            "mask_renormalised",
            "You hide weights after the softmax and divide by what is left. Where a hidden score "
            "was far the largest, nothing is left: 0 / 0 is NaN. Hide scores before the softmax.",
            _mask_renormalised,
        ),
        Mistake(
            "mask_multiplied_into_scores",
            "You set hidden scores to 0 (or to a tiny number: 1e-9 is not -1e9). A score of 0 is "
            "an ordinary score, and exp(0) is 1. Set them to minus infinity.",
            _mask_multiplied_into_scores,
        ),
        Mistake(
            "mask_adds_one",
            "You add the mask to the scores as if it were a bias: True adds 1 and nothing is "
            "hidden. Set the scores to minus infinity where the mask is False.",
            _mask_adds_one,
        ),
        Mistake(
            "bias_ignored",
            "You do not use the bias. Add it to the scaled scores.",
            _bias_ignored,
        ),
        Mistake(
            "mask_and_bias_ignored",
            "You use neither mask nor bias. Each may be None: then there is nothing to do. Else "
            "add the bias to the scaled scores, and hide scores where the mask is False.",
            _mask_and_bias_ignored,
        ),
        Mistake(
            "bias_before_scale",
            "You add the bias first and scale both. The bias would then mean something else for "
            "every size of head. Scale the scores, then add.",
            _bias_before_scale,
        ),
        Mistake(
            "bias_after_softmax",
            "You add the bias to the weights, so they no longer sum to 1. Add it to the scores.",
            _bias_after_softmax,
        ),
        Mistake(
            "only_one_of_both",
            "With a mask you forget the bias. Both can be given, so each needs an `if` of its own.",
            _only_one_of_both,
        ),
    ),
    alternatives=(_weights_with_a_billion, _weights_with_an_added_mask, _weights_query_by_query),
)

# --- scaled_dot_product_attention ----------------------------------------------------------------

SMALL_VALUE = torch.tensor([[[4.0, 0.0], [0.0, 4.0], [-4.0, 2.0]]])


def _attention_cases() -> list[Case]:
    cases = []
    for title, given, extra in _situations():
        key = given["key"]
        value = inputs.normal(*key.shape[:-1], 8, seed=2, dtype=key.dtype)
        value = SMALL_VALUE if given is SMALL else value
        arguments = {**given, "value": value, **extra}
        call = _call("scaled_dot_product_attention", arguments)
        cases.append(Case(title, arguments, _attended_by_torch, shown=call))
    return cases


def _fused(query, key, value, mask=None, bias=None):
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    added = bias if mask is None else bias.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


def _spelled_out(query, key, value, mask=None, bias=None):
    return torch.einsum("...qk,...kd->...qd", _weights_by_torch(query, key, mask, bias), value)


def _mixed_before_dividing(query, key, value, mask=None, bias=None):
    scores = query @ key.mT * query.shape[-1] ** -0.5 + _added_to_scores(query, key, mask, bias)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return (exponentials @ value) / exponentials.sum(-1, keepdim=True)


def _keys_for_values(query, key, value, mask=None, bias=None):
    return _attended_by_torch(query, key, key, mask, bias)


def _keys_ask(query, key, value, mask=None, bias=None):
    return _weigh(key, query, mask, bias) @ value


def _weights_transposed(query, key, value, mask=None, bias=None):
    return _weigh(query, key, mask, bias).mT @ value


def _unscaled_attention(query, key, value, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=1.0) @ value


def _scale_by_d_value(query, key, value, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=value.shape[-1] ** 0.5) @ value


def _scales_twice(query, key, value, mask=None, bias=None):
    return _weigh(query, key, mask, bias, divisor=query.shape[-1]) @ value


def _mixes_scores(query, key, value, mask=None, bias=None):
    return _forgot_softmax(query, key, mask, bias) @ value


def _mask_not_passed_on(query, key, value, mask=None, bias=None):
    return _attended_by_torch(query, key, value, None, bias)


def _bias_not_passed_on(query, key, value, mask=None, bias=None):
    return _attended_by_torch(query, key, value, mask, None)


def _nothing_passed_on(query, key, value, mask=None, bias=None):
    return _attended_by_torch(query, key, value)


def _mask_and_bias_swapped(query, key, value, mask=None, bias=None):
    return attention.mix_values(attention.attention_weights(query, key, bias, mask), value)


def _attention_mask_inverted(query, key, value, mask=None, bias=None):
    return _mask_inverted(query, key, mask, bias) @ value


def _returns_weights_too(query, key, value, mask=None, bias=None):
    weights = _weigh(query, key, mask, bias)
    return weights @ value, weights


SCALED_DOT_PRODUCT_ATTENTION = Exercise(
    part="attention.scaled_dot_product_attention",
    notebook="03",
    used_by="`MultiHeadAttention`, for all heads at once",
    cases=_attention_cases,
    hints=(
        "You have both halves: the weights say how much of each value a query gets, and the values "
        "are then mixed with them.",
        "First `attention_weights`, which needs everything but the values. Do not forget to pass "
        "the mask and the bias on.",
        "`mix_values(weights, value)` does the rest. There is nothing left to scale or to sum.",
    ),
    mistakes=(
        Mistake(
            "keys_for_values",
            "You mix the keys. Keys only decide where to look; what is fetched are the values.",
            _keys_for_values,
        ),
        Mistake(
            "keys_ask",
            "You swapped query and key, so the keys ask. The query comes first.",
            _keys_ask,
        ),
        Mistake(
            "weights_transposed",
            "You turn the weights round before you mix. Their rows belong to queries already.",
            _weights_transposed,
        ),
        Mistake(
            "forgot_scale",
            "You do not scale the scores. Use `attention_weights`, which scales by 1/√d_head.",
            _unscaled_attention,
        ),
        Mistake(
            "scale_by_d_value",
            "You divide by the root of the values' size. A score is a dot product of a query and a "
            "key, so the size that counts is `query.shape[-1]`.",
            _scale_by_d_value,
        ),
        Mistake(
            "scales_twice",
            "You divide the scores by √d_head twice, so by d_head. `attention_weights` scales "
            "already.",
            _scales_twice,
        ),
        Mistake(
            "forgot_softmax",
            "You mix the values with scores. Weights are the softmax of the scores: positive, and "
            "each row sums to 1.",
            _mixes_scores,
        ),
        Mistake(
            "mask_not_passed_on",
            "You do not pass the mask on, so every query sees every key.",
            _mask_not_passed_on,
        ),
        Mistake(
            "bias_not_passed_on",
            "You do not pass the bias on to `attention_weights`.",
            _bias_not_passed_on,
        ),
        Mistake(
            "nothing_passed_on",
            "You pass neither mask nor bias on: `attention_weights` takes both after the key.",
            _nothing_passed_on,
        ),
        Mistake(
            "mask_and_bias_swapped",
            "You pass mask and bias on in the wrong order. The mask comes first, or name them: "
            "`mask=mask, bias=bias`.",
            _mask_and_bias_swapped,
        ),
        Mistake(
            "mask_inverted",
            "You hide what the mask allows. True means that the query may look at the key.",
            _attention_mask_inverted,
        ),
        Mistake(
            "returns_weights_too",
            "You return the weights as well. Return the mixed values alone: whoever wants to see "
            "the weights uses `attention.record()`.",
            _returns_weights_too,
        ),
    ),
    alternatives=(_fused, _spelled_out, _mixed_before_dividing),
)

# --- MultiHeadAttention --------------------------------------------------------------------------

PROJECTIONS = ("w_q", "w_k", "w_v", "w_o")


def _use_layer(
    part: Part,
    x: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    n_heads: int,
    **weights: Tensor,
) -> Any:
    """Build a layer, put the weights in, and ask it."""
    layer = part(x.shape[-1], n_heads)
    return _ask(layer, weights, x, memory, mask, bias)


def _use_layer_again(
    part: Part,
    x: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    n_heads: int,
    **weights: Tensor,
) -> Any:
    """As `_use_layer`, after the same layer has answered for a longer sequence."""
    layer = part(x.shape[-1], n_heads)
    longer = torch.cat([x, x], dim=1)
    _ask(layer, weights, longer, longer, None, None)
    return _ask(layer, weights, x, memory, mask, bias)


def _ask(
    layer: nn.Module,
    weights: dict[str, Tensor],
    x: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
) -> Any:
    given = {"memory": memory, "mask": mask, "bias": bias}
    given = {name: value for name, value in given.items() if value is not None}
    return layers.call(layer, weights, x, **given)


def _layer_by_torch(
    x: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    n_heads: int,
    *weights: Tensor,
) -> Tensor:
    """`F.multi_head_attention_forward`, which wants the batch second."""
    w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o = weights
    memory = x if memory is None else memory
    size = (x.shape[0], n_heads, x.shape[1], memory.shape[1])
    added = x.new_zeros(size) if bias is None else bias.expand(size)
    added = added if mask is None else torch.where(mask, added, -torch.inf)
    query, key = x.transpose(0, 1), memory.transpose(0, 1)
    output, _ = F.multi_head_attention_forward(
        query,
        key,
        value=key,
        embed_dim_to_check=x.shape[-1],
        num_heads=n_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([b_q, b_k, b_v]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=w_o,
        out_proj_bias=b_o,
        need_weights=False,
        attn_mask=added.flatten(0, 1),
        use_separate_proj_weight=True,
        q_proj_weight=w_q,
        k_proj_weight=w_k,
        v_proj_weight=w_v,
    )
    return output.transpose(0, 1)


def _random_layer(d_model: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights large enough that the attention is far from uniform, and biases."""
    weights = {}
    for seed, name in enumerate(PROJECTIONS):
        weight = inputs.normal(d_model, d_model, seed=20 + seed, dtype=dtype)
        weights[f"{name}.weight"] = 1.5 * weight / d_model**0.5
        weights[f"{name}.bias"] = inputs.normal(d_model, seed=30 + seed, dtype=dtype)
    return weights


SMALL_LAYER = {
    "w_q.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
    "w_q.bias": torch.tensor([0.0, 1.0]),
    "w_k.weight": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
    "w_k.bias": torch.tensor([0.0, 0.0]),
    "w_v.weight": torch.tensor([[2.0, 0.0], [0.0, -2.0]]),
    "w_v.bias": torch.tensor([1.0, 0.0]),
    "w_o.weight": torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
    "w_o.bias": torch.tensor([0.0, 3.0]),
}


def _multi_head_cases() -> list[Case]:
    def case(
        title: str,
        n_heads: int,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        use: Part = _use_layer,
        weights: dict[str, Tensor] | None = None,
    ) -> Case:
        given = {"memory": memory, "mask": mask, "bias": bias}
        named = [f"{name}={name}" for name, value in given.items() if value is not None]
        call = f"MultiHeadAttention({x.shape[-1]}, {n_heads})({', '.join(['x', *named])})"
        weights = weights or _random_layer(x.shape[-1], x.dtype)
        arguments = {"x": x, **given, "n_heads": n_heads, **weights}
        return Case(title, arguments, _layer_by_torch, use, call)

    normal = inputs.normal
    small = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]])
    x, memory = normal(2, 4, 6), normal(2, 5, 6, seed=1)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    double, half = normal(2, 3, 4, dtype=torch.float64), normal(2, 3, 4, dtype=torch.bfloat16)
    return [
        case("three tokens, two heads of one feature", 2, small, weights=SMALL_LAYER),
        case("one head", 1, normal(2, 4, 5)),
        case("three heads", 3, x),
        case("four heads", 4, normal(3, 2, 12)),
        case("a memory of another length", 3, x, memory),
        case("a causal mask", 2, x, mask=causal),
        case("a memory with padding", 3, x, memory, mask=_mask(2, 1, 1, 5)),
        case("a mask for each head", 3, x, memory, mask=_mask(2, 3, 4, 5)),
        case("a bias for each head", 2, x, bias=2 * normal(2, 4, 4)),
        case("all at once", 3, x, memory, _mask(4, 5), normal(2, 1, 4, 5)),
        case("as many tokens as heads", 3, normal(2, 3, 6)),
        case("a second call of the same layer", 2, x, use=_use_layer_again),
        case("one token", 3, normal(2, 1, 6)),
        case("a transposed view", 2, normal(2, 6, 5).mT),
        case("float64", 2, double),
        case("bfloat16", 2, half),
    ]


def _weights_can_be_seen(part: Part) -> None:
    layer = part(6, 3)
    with attention.record() as maps:
        layer(inputs.normal(2, 4, 6), inputs.normal(2, 5, 6))
    if [list(weights.shape) for weights in maps.values()] != [[2, 3, 4, 5]]:
        raise Wrong(
            "Your numbers are right, but no view could show your weights. Form those of all heads "
            "with one call of `scaled_dot_product_attention`, on [batch, heads, tokens, d_head]."
        )


def _works_inside_a_model(part: Part) -> None:
    with mock.patch.object(attention, "MultiHeadAttention", part):
        block = encoder.block(6, 3)
        model = decoder.gpt(vocabulary=7, d_model=6, n_heads=3, n_layers=2, context=5)
    block(inputs.normal(2, 4, 6), torch.ones(4, 4, dtype=torch.bool).tril())
    first = inputs.integers(2, 5, below=7)
    second = torch.cat([first[:, :-1], (first[:, -1:] + 1) % 7], 1)
    if not torch.allclose(model(first)[:, :-1], model(second)[:, :-1], atol=1e-5):
        raise Wrong(
            "Alone your layer is right, but inside a GPT a token sees the tokens behind it. Does "
            "your layer use the mask that it is given by name?"
        )


class _Layer(nn.Module):
    """Multi-head attention in small steps. Each version below does one of them otherwise."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.w_q = Linear(d_model, d_model)
        self.w_k = Linear(d_model, d_model)
        self.w_v = Linear(d_model, d_model)
        self.w_o = Linear(d_model, d_model)

    def forward(self, x, memory=None, mask=None, bias=None):
        query, key, value = map(self.split, self.project(x, x if memory is None else memory))
        return self.finish(self.attend(query, key, value, mask, bias))

    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), self.w_v(memory)

    def split(self, x):
        return torch.stack(x.chunk(self.n_heads, dim=-1), dim=1)

    def attend(self, query, key, value, mask, bias):
        return attention.scaled_dot_product_attention(query, key, value, mask, bias)

    def finish(self, heads):
        return self.w_o(torch.cat(heads.unbind(1), dim=-1))


class _MixedByEinsum(_Layer):
    """Right: the weights are formed, then einsum mixes and joins the heads and applies `w_o`."""

    def attend(self, query, key, value, mask, bias):
        weights = attention.attention_weights(query, key, mask, bias)
        return torch.einsum("bhqk,bhkd->bhqd", weights, value)

    def finish(self, heads):
        weight = self.w_o.weight.unflatten(1, (self.n_heads, -1))
        return torch.einsum("bhtd,ohd->bto", heads, weight) + self.w_o.bias


class _SplitWeights(_Layer):
    """Right: every head has its own slice of the weights, so nothing has to be split."""

    def project(self, x, memory):
        sources = ((self.w_q, x), (self.w_k, memory), (self.w_v, memory))
        query, key, value = (
            torch.stack([F.linear(of, *head) for head in self.slices(w)], 1) for w, of in sources
        )
        return query, key, value

    def slices(self, w):
        return list(zip(w.weight.chunk(self.n_heads), w.bias.chunk(self.n_heads), strict=True))

    def split(self, x):
        return x


class _SameWeight(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_q(memory), self.w_q(memory)


class _ValuesFromX(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), self.w_v(x)


class _MemoryIgnored(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(x), self.w_v(x)


class _ValuesNotProjected(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), memory


class _HeadsNotSplit(_Layer):
    def split(self, x):
        return x

    def finish(self, heads):
        return self.w_o(heads)


class _ReshapedHeads(_Layer):
    def split(self, x):
        batch, tokens, d_model = x.shape
        return x.reshape(batch, self.n_heads, tokens, d_model // self.n_heads)

    def finish(self, heads):
        return self.w_o(heads.reshape(heads.shape[0], heads.shape[2], -1))


class _MergedWithoutTranspose(_Layer):
    def finish(self, heads):
        return self.w_o(heads.reshape(heads.shape[0], heads.shape[2], -1))


class _MaskNotPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, None, bias)


class _BiasNotPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, mask, None)


class _NothingPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, None, None)


class _KeyAndValueSwapped(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, value, key, mask, bias)


class _NoneAsMemory(_Layer):
    def forward(self, x, memory=None, mask=None, bias=None):
        query, key, value = map(self.split, self.project(x, memory))
        return self.finish(self.attend(query, key, value, mask, bias))


class _ScaledByDModel(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query / self.n_heads**0.5, key, value, mask, bias)


class _NoOutputProjection(_Layer):
    def finish(self, heads):
        return torch.cat(heads.unbind(1), dim=-1)


class _AveragesHeads(_Layer):
    def finish(self, heads):
        return self.w_o(heads.mean(1))


class _ReturnsWeightsToo(_Layer):
    def attend(self, query, key, value, mask, bias):
        weights = attention.attention_weights(query, key, mask, bias)
        return super().attend(query, key, value, mask, bias), weights

    def finish(self, attended):
        heads, weights = attended
        return super().finish(heads), weights


class _AddsInput(_Layer):
    def forward(self, x, memory=None, mask=None, bias=None):
        return x + super().forward(x, memory, mask, bias)


MULTI_HEAD_ATTENTION = Exercise(
    part="attention.MultiHeadAttention",
    notebook="03",
    used_by="`encoder.TransformerBlock`, and so by every model of this course",
    cases=_multi_head_cases,
    hints=(
        "Five steps, and you have written four of them: project, split, attend, merge, and one "
        "last linear map, `self.w_o`.",
        "Without a memory the tokens ask each other: then `memory` is `x`.",
        "`project_qkv(x, memory, self.w_q, self.w_k, self.w_v)` gives all three. Each of them goes "
        "through `split_heads(…, self.n_heads)`.",
        "One call of `scaled_dot_product_attention` serves all heads: they are an axis like the "
        "batch. Pass the mask and the bias on. Then `merge_heads`, then `self.w_o`.",
    ),
    mistakes=(
        Mistake(
            "no_output_projection",
            "You return the heads side by side. `self.w_o` lets the heads work together: apply it "
            "to the merged heads.",
            _NoOutputProjection,
        ),
        Mistake(
            "averages_heads",
            "You average the heads, which leaves the width of one head. Put them side by side with "
            "`merge_heads`: `w_o` learns how to mix them.",
            _AveragesHeads,
        ),
        Mistake(
            "same_weight_three_times",
            "You use `w_q` for queries, keys and values. Each role has its own map.",
            _SameWeight,
        ),
        Mistake(
            "values_from_x_not_memory",
            "Your values come from `x`, your keys from `memory`. A weight that was found for a "
            "token of the memory must fetch that token's value: make both from `memory`.",
            _ValuesFromX,
        ),
        Mistake(
            "memory_ignored",
            "You never read `memory`: the tokens of `x` always ask each other. Where there is a "
            "memory, keys and values come from it.",
            _MemoryIgnored,
        ),
        Mistake(
            "values_not_projected",
            "You mix the tokens as they came in. The values are a projection too: `w_v`.",
            _ValuesNotProjected,
        ),
        Mistake(
            "heads_not_split",
            "You attend with all features at once, which is one large head. Split queries, keys "
            "and values with `split_heads(…, self.n_heads)`.",
            _HeadsNotSplit,
        ),
        Mistake(
            "reshape_without_transpose",
            "You reshape to heads and back without moving the axes. All shapes fit, but each head "
            "sees some of the tokens with all their features. Use `split_heads` and `merge_heads`.",
            _ReshapedHeads,
        ),
        Mistake(
            "merged_without_transpose",
            "You reshape the heads straight to [batch, tokens, d_model], which mixes tokens. Use "
            "`merge_heads`.",
            _MergedWithoutTranspose,
        ),
        Mistake(
            "mask_not_passed_on",
            "You do not pass the mask on, so every query sees every key.",
            _MaskNotPassedOn,
        ),
        Mistake(
            "bias_not_passed_on",
            "You do not pass the bias on to `scaled_dot_product_attention`.",
            _BiasNotPassedOn,
        ),
        Mistake(
            "nothing_passed_on",
            "You pass neither mask nor bias on: `scaled_dot_product_attention` takes both after "
            "the value.",
            _NothingPassedOn,
        ),
        Mistake(
            "key_and_value_swapped",
            "You swapped key and value: scores are made of queries and keys, and the values are "
            "mixed.",
            _KeyAndValueSwapped,
        ),
        Mistake(
            "none_as_memory",
            "Without a memory, `memory` is None, and you project None. Begin with "
            "`memory = x if memory is None else memory`.",
            _NoneAsMemory,
        ),
        Mistake(
            "scale_by_d_model",
            "You scale by the root of d_model. A head's dot product has d_head terms: leave the "
            "scaling to `scaled_dot_product_attention`.",
            _ScaledByDModel,
        ),
        Mistake(
            "returns_weights_too",
            "You return the weights as well. Return one tensor: whoever wants to see the weights "
            "uses `attention.record()`.",
            _ReturnsWeightsToo,
        ),
        Mistake(
            "adds_input",
            "You add `x` to the output. The residual connection belongs to the block around this "
            "layer, which would add it again.",
            _AddsInput,
        ),
    ),
    alternatives=(_MixedByEinsum, _SplitWeights),
    properties=(_weights_can_be_seen, _works_inside_a_model),
)

EXERCISES: tuple[Exercise, ...] = (
    SOFTMAX,
    SCORE_SCALE,
    ATTENTION_WEIGHTS,
    SCALED_DOT_PRODUCT_ATTENTION,
    MULTI_HEAD_ATTENTION,
)
