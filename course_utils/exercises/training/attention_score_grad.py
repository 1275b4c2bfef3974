"""training.attention_score_grad: what flows back through a softmax."""

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "training.attention_score_grad",
    used_by="notebook 07, where it agrees with what `backward` computes",
    hints=(
        "Each row is a softmax of its own. If one score rises, its weight rises and all others of "
        "the row fall: so the gradient has two terms.",
        "The derivative of weight i by score j is P_i · (1 if i = j else 0) - P_i · P_j. Multiply "
        "with the gradient of weight i and sum over i.",
        "What comes out is P · (dP - mean), where mean is the row's mean of dP, weighted with P. "
        "The weights of a row add up to 1, so it is the sum of P · dP.",
        "`.sum(-1, keepdim=True)` keeps the axis, so that the mean of a row meets its own row.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, weights: Tensor, weights_grad: Tensor, point: str = "") -> Case:
        arguments = {"weights": weights, "weights_grad": weights_grad}
        call = "attention_score_grad(weights, weights_grad)"
        return Case(title, arguments, score_grad_by_autograd, shown=call, point=point)

    def drawn(
        *shape: int, scale: float = 2.0, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(scale * inputs.normal(*shape, dtype=torch.float64), -1)
        return weights.to(dtype), 3 * inputs.normal(*shape, seed=1, dtype=dtype)

    normal = inputs.normal
    last_axis = (
        "Each row, the last axis, is a softmax of its own, whatever stands before it, also where "
        "all sizes are equal."
    )
    no_weight = (
        "A weight may be 0, as behind a mask, and then its score gets the gradient 0. Dividing by "
        "a weight or taking its logarithm gives NaN there."
    )
    nothing = (
        "Where nothing can move, with one key alone or the same gradient for every weight, the "
        "scores get exactly 0: the row's mean is weighted with P."
    )
    single = torch.float32
    causal = normal(1, 2, 4, 4).masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf)
    of_weights, of_gradient = drawn(1, 2, 4, 5, dtype=single)
    views = of_weights.mT.contiguous().mT, of_gradient.mT.contiguous().mT
    small = torch.tensor([[[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]])
    small_grad = torch.tensor([[[[4.0, 0.0, 8.0], [10.0, 0.0, -10.0]]]])
    even, certain = torch.full((1, 1, 3, 4), 0.25), torch.eye(3, 4)[None, None]
    uneven = drawn(1, 2, 4, 5)[0].float()
    return [
        case("two queries, three keys", small, small_grad),
        case("two texts, three heads", *drawn(2, 3, 4, 5, dtype=single)),
        case("two axes", *drawn(3, 5, dtype=single), last_axis),
        case("three axes", *drawn(2, 4, 5, dtype=single), last_axis),
        case("as many queries as keys", *drawn(2, 3, 4, 4, dtype=single), last_axis),
        case("everything of the same size", *drawn(3, 3, 3, 3, dtype=single), last_axis),
        case("a causal mask", torch.softmax(causal, -1), normal(1, 2, 4, 4, seed=1), no_weight),
        case("even weights", even, 5 * normal(1, 1, 3, 4)),
        case("all weight on one key", certain, 5 * normal(1, 1, 3, 4), no_weight),
        case("one key alone", torch.ones(2, 1, 3, 1), normal(2, 1, 3, 1), nothing),
        case("every weight has the same gradient", uneven, torch.full((1, 2, 4, 5), 7.0), nothing),
        case("very uneven weights", *drawn(1, 1, 3, 6, scale=8.0, dtype=single)),
        case("transposed views", *views, points.OTHER_ORDER),
        case("float64", *drawn(1, 2, 3, 4), points.FLOAT64),
        case("bfloat16", *drawn(1, 2, 3, 4, dtype=torch.bfloat16), points.SAME_DTYPE),
    ]


@exercise.mistake(
    "You use P · (1 - P), as if every weight depended on its own score only. That is a "
    "sigmoid. In a softmax one score moves all weights of its row."
)
def elementwise_sigmoid_like(weights, weights_grad):
    return weights * (1 - weights) * weights_grad


@exercise.mistake(
    "You return P · dP. If a score rises, all other weights of its row fall: subtract the "
    "row's weighted mean from dP first."
)
def forgot_row_term(weights, weights_grad):
    return weights * weights_grad


@exercise.mistake(
    "You sum over the queries, axis -2. Softmax went along the keys, so its way back does "
    "too: axis -1."
)
def sum_over_queries(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum(-2, keepdim=True))


@exercise.mistake(
    "You sum over axis 1, which is the keys only where nothing stands before the queries. With a "
    "batch it is something else: the keys are always the last axis, -1."
)
def sum_over_axis_one(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum(1, keepdim=True))


@exercise.mistake(
    "You set everything above the diagonal to 0, as if all attention were causal. Where a key was "
    "hidden its weight is 0, and the gradient comes out as 0 by itself."
)
def as_if_causal(weights, weights_grad):
    mean = (weights * weights_grad).sum(-1, keepdim=True)
    return (weights * (weights_grad - mean)).tril()


@exercise.mistake(
    "You take one sum of the whole tensor. Every row has its own: `sum(-1, keepdim=True)`."
)
def sum_over_everything(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum())


@exercise.mistake(
    "Your sums have one axis less than the weights, so they meet the wrong axis: an error, "
    "or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`."
)
def forgot_keepdim(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum(-1))


@exercise.mistake(
    "You subtract the plain mean of the gradients. Weigh them with P: the sum of P · dP."
)
def plain_mean(weights, weights_grad):
    return weights * (weights_grad - weights_grad.mean(-1, keepdim=True))


@exercise.mistake(
    "You take the mean of P · dP. The weights add up to 1 already, so their weighted mean "
    "is the sum."
)
def mean_of_products(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).mean(-1, keepdim=True))


@exercise.mistake(
    "You return dP minus the weighted mean. Multiply that with P: a score that gets no "
    "weight hardly matters."
)
def not_weighted_outside(weights, weights_grad):
    return weights_grad - (weights * weights_grad).sum(-1, keepdim=True)


@exercise.mistake(
    "You subtract the same number from every P · dP. The row's mean is multiplied with P "
    "as well: P · (dP - mean)."
)
def row_term_not_weighted(weights, weights_grad):
    products = weights * weights_grad
    return products - products.sum(-1, keepdim=True)


@exercise.mistake(
    "You subtract the other way round: training would go uphill. It is dP minus the mean."
)
def sign_flipped(weights, weights_grad):
    return weights * ((weights * weights_grad).sum(-1, keepdim=True) - weights_grad)


@exercise.mistake(
    "That is the way back through a log-softmax. Here the weights themselves were used: "
    "P · (dP - mean)."
)
def gradient_of_log_softmax(weights, weights_grad):
    return weights_grad - weights * weights_grad.sum(-1, keepdim=True)


@exercise.mistake(
    "Your numbers are right, but `-=` changes the caller's gradient. Write `weights_grad - …`."
)
def subtracts_in_place(weights, weights_grad):
    weights_grad -= (weights * weights_grad).sum(-1, keepdim=True)
    return weights * weights_grad


@exercise.mistake(
    "You compute in float32, so half of the digits of float64 are lost. Compute in the dtype of "
    "the weights."
)
def computes_in_float32(weights, weights_grad):
    probabilities, gradient = weights.float(), weights_grad.float()
    mean = (probabilities * gradient).sum(-1, keepdim=True)
    return (probabilities * (gradient - mean)).to(weights.dtype)


@exercise.alternative
def score_grad_by_autograd(weights: Tensor, weights_grad: Tensor) -> Tensor:
    """torch's own way back through a softmax that gives these weights."""
    scores = weights.detach().double().log().requires_grad_()
    softmax = torch.softmax(scores, -1)
    (gradient,) = torch.autograd.grad(softmax, scores, weights_grad.detach().double())
    return gradient.to(weights.dtype)


@exercise.alternative
def score_grad_by_jacobian(weights, weights_grad):
    jacobian = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    return torch.einsum("...ij,...j->...i", jacobian, weights_grad)


@exercise.alternative
def score_grad_by_rows(weights, weights_grad):
    rows = zip(
        weights.reshape(-1, weights.shape[-1]),
        weights_grad.reshape(-1, weights.shape[-1]),
        strict=True,
    )
    return torch.stack([p * (dp - p @ dp) for p, dp in rows]).view(weights.shape)


@exercise.alternative
def score_grad_multiplied_out(weights, weights_grad):
    products = weights_grad * weights
    return products - weights * products.sum(dim=-1, keepdim=True)
