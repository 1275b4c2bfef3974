"""attention.softmax: scores become shares."""

import math

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.softmax",
    used_by="`attention_weights`, and so by every attention head of every model in this course",
    hints=(
        "Two steps: make every score positive with `torch.exp`, then divide by the sum.",
        "The sum runs along `dim` only. `keepdim=True` keeps the axis, so that the division "
        "broadcasts.",
        "`exp(1000)` is infinite. Subtract the maximum along `dim` first: the factor that this "
        "takes out of the numerator it also takes out of the sum.",
        "The maximum along an axis, as a tensor that broadcasts: `scores.amax(dim, keepdim=True)`.",
    ),
)


def _softmax_by_torch(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, dim)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, scores: Tensor, point: str = "", **dim: int) -> Case:
        call = f"softmax(scores, dim={dim['dim']})" if dim else "softmax(scores)"
        return Case(title, {"scores": scores, **dim}, _softmax_by_torch, shown=call, point=point)

    normal = inputs.normal
    small, heads = torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0]]), 5 * normal(2, 3, 4, 5)
    huge = torch.tensor([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1000.0]])
    along = "`dim` may be any axis: the largest score and the sum are both taken along it."
    far = (
        "Scores may be in the thousands, above 0 in one row and below 0 in the next. Subtract from "
        "each row its own largest: exp then neither overflows nor leaves nothing but zeros."
    )
    hidden = (
        "A score of minus infinity gets the weight 0 and leaves the others alone: exp does so by "
        "itself. Replace it by no other number, and take no 0 times it."
    )
    nothing = (
        "A row of nothing but minus infinity has no answer. It gives NaN, which says so: neither "
        "zeros nor equal shares."
    )
    dtypes = points.SAME_DTYPE
    return [
        case("one row", torch.tensor([1.0, 2.0, 4.0])),
        case("two rows of three scores", small),
        case("scores of a batch with heads", heads),
        case("down the columns", small, along, dim=0),
        case("the same along axis 1", heads, along, dim=1),
        case("the same along axis -2", heads, along, dim=-2),
        case("huge scores", huge, far),
        case("huge scores in float64", torch.tensor([[1e5, 99_999.0, 0.0]]).double(), far),
        case("minus infinity", torch.tensor([[1.0, -torch.inf, 2.0]]), hidden),
        Case(
            "a row of minus infinity has no answer",
            {"scores": torch.tensor([[1.0, 2.0, 0.0], [-torch.inf] * 3])},
            lambda scores: torch.softmax(scores.detach(), -1),  # nor has it a gradient
            point=nothing,
        ),
        case("as many queries as keys", 5 * normal(2, 4, 4), points.EQUAL_SIZES),
        case("a transposed view", normal(5, 4).T, points.OTHER_ORDER),
        case("a single score", torch.tensor([[7.0]]), points.AXIS_OF_ONE),
        case("one row in a batch", normal(1, 1, 4), points.AXIS_OF_ONE),
        case("float64", normal(3, 4, dtype=torch.float64), dtypes),
        case("bfloat16", normal(3, 4, dtype=torch.bfloat16), dtypes),
    ]


@exercise.mistake(
    "You take exp of the scores as they are. exp(89) is already more than a float32 can "
    "hold, and infinity divided by infinity is NaN. Subtract the largest score first."
)
def overflow(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


@exercise.mistake(
    "You cut large scores off at 50, so that exp cannot overflow, but then scores of 1000 "
    "and 999 get equal weights. Subtract the largest score instead: it changes nothing."
)
def clamped(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores.clamp(-50, 50), dim)


@exercise.mistake(
    "You subtract the same maximum everywhere. Rows that are far below it become exp of a "
    "huge negative number, all zeros, and 0 / 0 is NaN. Take the maximum along `dim`."
)
def one_maximum_for_all(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum(dim, keepdim=True)


@exercise.mistake(
    "Your columns sum to 1 where the rows should. Normalise along `dim`: with the default "
    "-1 that is over the keys, for each query on its own."
)
def softmax_over_queries(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -2 if scores.ndim > 1 else -1)


@exercise.mistake(
    "You always normalise along the last axis. Pass `dim` on to the maximum and the sum."
)
def ignores_dim(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -1)


@exercise.mistake(
    "You divide by the sum of the whole tensor, so only all rows together sum to 1. Sum "
    "along `dim`, and keep the axis with `keepdim=True`."
)
def sums_over_everything(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum()


@exercise.mistake(
    "You divide the scores by their sum without exponentiating them, so weights can be "
    "negative or larger than 1. Take exp first."
)
def normalise_without_exp(scores: Tensor, dim: int = -1) -> Tensor:
    return scores / scores.sum(dim, keepdim=True)


@exercise.mistake(
    "You return the exponentials. They are positive, but they do not sum to 1. Divide by "
    "their sum along `dim`."
)
def exp_without_normalising(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.exp(scores - scores.amax(dim, keepdim=True))


@exercise.mistake(
    "The sum has one axis less than the scores, so the division meets the wrong axis: an "
    "error, or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`."
)
def forgot_keepdim(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim)


@exercise.mistake(
    "You turn NaN into 0. In a row of minus infinity there is nothing to share out, and NaN says "
    "so. Zeros would hide the fault that led there: leave the NaN."
)
def nan_becomes_zero(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, dim).nan_to_num(0.0)


@exercise.mistake(
    "A row of minus infinity gets equal shares from you, although nothing in it may be chosen. "
    "Leave minus infinity as it is: such a row becomes NaN, which says that it has no answer."
)
def nothing_shared_equally(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores.clamp_min(torch.finfo(scores.dtype).min), dim)


@exercise.mistake(
    "You compute in float32, whatever comes in. That helps bfloat16, but of float64 half the "
    "digits are lost. Compute in the dtype of `scores`."
)
def computes_in_float32(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores.float(), dim).to(scores.dtype)


@exercise.mistake("You return the logarithms of the weights. Take exp at the end.")
def log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.log_softmax(scores, dim)


@exercise.mistake(
    "Your weights are right, but `scores -= …` changes the caller's tensor. Write "
    "`scores = scores - …`, which makes a new one."
)
def changes_the_scores(scores: Tensor, dim: int = -1) -> Tensor:
    scores -= scores.amax(dim, keepdim=True).clone()
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


@exercise.mistake(
    "Your weights are right, but `/=` writes over the exponentials, which the gradient of "
    "exp still needs: training would stop here. Write `exponentials / …` instead."
)
def divides_in_place(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    exponentials /= exponentials.sum(dim, keepdim=True)
    return exponentials


@exercise.mistake(
    "Your weights are right, but the sum is cut off from the scores by `detach` or `no_grad`, so "
    "the gradient is wrong. Every weight depends on all the scores, through the sum."
)
def sum_cut_off(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True).detach())
    return exponentials / exponentials.sum(dim, keepdim=True).detach()


@exercise.alternative
def softmax_by_logsumexp(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.exp(scores - torch.logsumexp(scores, dim, keepdim=True))


@exercise.alternative
def softmax_by_log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.log_softmax(scores, dim).exp()


@exercise.alternative
def softmax_with_detached_maximum(scores: Tensor, dim: int = -1) -> Tensor:
    maximum, _ = scores.detach().max(dim, keepdim=True)
    exponentials = math.e ** (scores - maximum)
    return exponentials / torch.sum(exponentials, dim=dim, keepdim=True)
