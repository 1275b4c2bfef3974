"""encoder.layer_norm: each token to mean 0 and variance 1."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "encoder.layer_norm",
    used_by="`LayerNorm`, which stands twice in every block and once at the end of a model",
    hints=(
        "Each token is treated alone: its own mean and its own variance, over its features. Those "
        "are the last axis.",
        "Subtract the mean first. The variance is then the mean of the squares of what is left. "
        "`keepdim=True` lets both broadcast.",
        "Divide by the root of variance plus `eps`, with `eps` under the root. Then multiply with "
        "`gain` and add `bias`: they broadcast over all tokens by themselves.",
    ),
)


def _without_gradient(*given: Tensor) -> Tensor:
    """Where the mean is large torch's own gradient has too few digits to compare with."""
    return layer_norm_by_torch(*given).detach()


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, x: Tensor, oracle: Part | None = None, point: str = "", **given: Any
    ) -> Case:
        gain = 2 * normal(x.shape[-1], seed=1, dtype=x.dtype)
        bias = 3 * normal(x.shape[-1], seed=2, dtype=x.dtype)
        arguments = {"x": x, "gain": gain, "bias": bias, **given}
        eps = f", eps={given['eps']}" if "eps" in given else ""
        oracle = oracle or layer_norm_by_torch
        shown = f"layer_norm(x, gain, bias{eps})"
        return Case(title, arguments, oracle, shown=shown, point=point)

    normal = inputs.normal
    small = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, -4.0, 4.0, 8.0]])
    gain, bias = torch.tensor([[2.0, 1.0, -1.0, 3.0], [0.0, 10.0, 20.0, -5.0]])
    own = (
        "Each token has a mean and a variance of its own, whatever axes stand before its features."
    )
    with_eps = (
        "`eps` is added to the variance, under the root, of every token: one whose features are "
        "nearly equal shows it."
    )
    far = "Where the mean is large, subtract it before you square, or digits are lost."
    alone = "`x` may be one token without an axis before its features."
    short = "bfloat16 comes back as bfloat16, and as exact as it can hold: compute in float32."
    return [
        case("two tokens", small, gain=gain, bias=bias),
        case("a batch", 3 * normal(2, 3, 5) + 4, point=own),
        case("four axes", normal(2, 3, 4, 5), point=own),
        case("as many sentences, tokens and features", normal(4, 4, 4) - 2, point=own),
        case("another eps", normal(3, 5), eps=0.5, point=with_eps),
        case("a large eps", 2 * normal(3, 4), eps=4.0, point=with_eps),
        case("features that hardly differ", 1e-3 * normal(3, 5), point=with_eps),
        case("all features equal", torch.full((2, 4), 7.0), point=with_eps),
        case("a mean far from 0", small + 1e4, _without_gradient, far, gain=gain, bias=bias),
        case("one token alone", normal(6), point=alone),
        case("one sentence of one token", normal(1, 1, 5), point=points.AXIS_OF_ONE),
        case("a transposed view", normal(5, 3).mT, point=points.OTHER_ORDER),
        case("bfloat16", normal(3, 8, dtype=torch.bfloat16), point=short),
    ]


@exercise.holds
def _keeps_the_digits_of_float64(part: Part) -> None:
    x, gain, bias = (inputs.normal(3, 5, seed=seed, dtype=torch.float64) for seed in range(3))
    seen, wanted = part(x, gain[0], bias[0]), layer_norm_by_torch(x, gain[0], bias[0])
    if seen.dtype != x.dtype or not torch.allclose(seen, wanted, rtol=1e-8, atol=1e-9):
        raise Wrong(
            "Your numbers are right in float32, but float64 does not come back as exact as it "
            "came: something on the way is float32. Compute in the dtype of `x`, or in the wider "
            "of the two: `torch.promote_types(x.dtype, torch.float32)`."
        )


def _normalised(x, gain, bias, eps=1e-5, over=-1, correction=0):
    """The formula, over axes and with a variance that the mistakes below choose."""
    mean = x.mean(over, keepdim=True)
    variance = x.var(over, keepdim=True, correction=correction)
    return (x - mean) * torch.rsqrt(variance + eps) * gain + bias


@exercise.mistake(
    "You divide the squares by d_model - 1, as `torch.var` and `torch.std` do if nobody "
    "stops them. Layer norm divides by d_model: pass `correction=0`, or take the mean."
)
def unbiased_variance(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, correction=1)


@exercise.mistake(
    "You normalise along the first axis: each feature is compared with the same feature of "
    "other tokens, and one sentence changes another. Use the last axis, `-1`."
)
def normalises_over_batch_or_time(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=0)


@exercise.mistake(
    "You normalise along the tokens, axis -2, so what a token becomes depends on its "
    "neighbours. Use the features, axis -1."
)
def normalises_over_time(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=-2)


@exercise.mistake(
    "You normalise along axis 1, which is the tokens where there is a batch, and something "
    "else elsewhere. The features are always the last axis: -1."
)
def normalises_over_axis_one(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=1)


@exercise.mistake(
    "Mean and variance have one axis less than `x`, so they meet the wrong axis: an error, "
    "or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`."
)
def forgot_keepdim(x, gain, bias, eps=1e-5):
    return (x - x.mean(-1)) / torch.sqrt(x.var(-1, correction=0) + eps) * gain + bias


@exercise.mistake(
    "You normalise each feature over batch and tokens. That is batch norm. Layer norm goes "
    "over the features of one token: axis -1."
)
def normalises_over_all_tokens(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=(0, 1))


@exercise.mistake(
    "You take one mean and one variance for the whole tensor. Every token has its own: "
    "`x.mean(-1, keepdim=True)`."
)
def normalises_over_everything(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=tuple(range(x.ndim)))


@exercise.mistake(
    "You add `eps` to the root. It belongs under the root: √(variance + eps). The "
    "difference is large where a token's features are almost equal."
)
def eps_outside_sqrt(x, gain, bias, eps=1e-5):
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (variance.sqrt() + eps) * gain + bias


@exercise.mistake(
    "You use `x.std()` plus `eps`. `std` divides by d_model - 1, and `eps` belongs under "
    "the root. Compute the variance with `correction=0`, and then √(variance + eps)."
)
def torchs_deviation_plus_eps(x, gain, bias, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) * gain + bias


@exercise.mistake("You always use 1e-5. Use the `eps` that you are given.")
def ignores_eps(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias)


@exercise.mistake(
    "You leave `eps` out. Where all features of a token are equal its variance is 0, and "
    "0 / 0 is NaN. Add `eps` to the variance."
)
def no_eps(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, 0.0)


@exercise.mistake("You square `eps`. It is added to the variance as it is.")
def eps_squared(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps * eps)


@exercise.mistake(
    "You divide by the variance. Divide by its root, the standard deviation: only that "
    "gives the result the variance 1."
)
def divides_by_variance(x, gain, bias, eps=1e-5):
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (variance + eps) * gain + bias


@exercise.mistake(
    "You add the squares up without dividing by their number. Then wide tokens come out "
    "smaller than narrow ones. The variance is the mean of the squares."
)
def sum_of_squares(x, gain, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).sum(-1, keepdim=True) + eps) * gain + bias


@exercise.mistake(
    "You divide by the root of the mean square and never subtract the mean. That is RMS "
    "norm, which later models use. Layer norm subtracts the mean first."
)
def rms_norm(x, gain, bias, eps=1e-5):
    return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


@exercise.mistake(
    "You divide by the right number, but the mean is still in there. Divide x - mean."
)
def not_centred(x, gain, bias, eps=1e-5):
    return x * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + eps) * gain + bias


@exercise.mistake(
    "You subtract the mean, but your variance is the mean of x², of the numbers before "
    "that. Square what is left after subtracting."
)
def mean_of_squares(x, gain, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) * torch.rsqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


@exercise.mistake(
    "Your variance is the mean of x² minus the square of the mean. On paper that is right, but "
    "where the mean is large two nearly equal numbers are subtracted and the digits are lost. "
    "Square x - mean, and take the mean of that."
)
def squares_before_centring(x, gain, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean * mean
    return (x - mean) / torch.sqrt(variance + eps) * gain + bias


@exercise.mistake("You normalise and stop there. Multiply with `gain` and add `bias`.")
def no_gain_and_bias(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], eps=eps)


@exercise.mistake("You add `bias` but do not multiply with `gain`.")
def forgot_gain(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], None, bias, eps)


@exercise.mistake("You multiply with `gain` but do not add `bias`.")
def forgot_bias(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, None, eps)


@exercise.mistake("You add `bias` first and multiply both with `gain`. Scale first, then shift.")
def shifts_before_scaling(x, gain, bias, eps=1e-5):
    return (F.layer_norm(x, x.shape[-1:], eps=eps) + bias) * gain


@exercise.mistake(
    "You multiply with 1 + gain. Some models keep their gains so. Here `gain` is the factor itself."
)
def gain_plus_one(x, gain, bias, eps=1e-5):
    return layer_norm_by_torch(x, 1 + gain, bias, eps)


@exercise.mistake(
    "Your numbers are right, but `x -= …` changes the caller's tensor, which the residual "
    "connection still needs. Write `centred = x - …`."
)
def centres_in_place(x, gain, bias, eps=1e-5):
    x -= x.mean(-1, keepdim=True)
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


@exercise.mistake(
    "Your numbers are right, but mean and variance are detached. They depend on x, and "
    "the gradient has to know."
)
def detached_statistics(x, gain, bias, eps=1e-5):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean.detach()) / torch.sqrt(variance.detach() + eps) * gain + bias


@exercise.alternative
def layer_norm_by_torch(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


@exercise.alternative
def norm_by_var_mean(x, gain, bias, eps=1e-5):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(bias, (x - mean) * (variance + eps).rsqrt(), gain)


@exercise.alternative
def norm_by_centring_matrix(x, gain, bias, eps=1e-5):
    d_model = x.shape[-1]
    centre = torch.eye(d_model, dtype=x.dtype) - 1 / d_model
    centred = x @ centre
    squares = torch.einsum("...d,...d->...", centred, centred)[..., None] / d_model
    return gain * (centred * (squares + eps) ** -0.5) + bias
