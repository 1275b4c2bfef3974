"""modern.rms_norm: each token to mean square 1."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "modern.rms_norm",
    used_by="`RMSNorm`, the norm of every model in this notebook",
    hints=(
        "Each token is treated alone. Square its features, take their mean over the last axis, and "
        "the root of that. Then divide the token by it.",
        "`(x * x).mean(-1, keepdim=True)` is the mean square; `keepdim=True` lets it broadcast. "
        "`eps` is added to it, under the root.",
        "`torch.rsqrt(…)` is 1 / root. Where there is a gain, multiply with it at the end: it "
        "broadcasts over all tokens by itself. `gain is None` tells whether there is one.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, point: str = "", **given: Any) -> Case:
        said = "".join(
            f", {name}" if name == "gain" else f", eps={value}" for name, value in given.items()
        )
        said = said if "gain" in given else said.replace(", eps", ", None, eps")
        shown = f"rms_norm(x{said})"
        arguments = {"x": x, "gain": None, **given} if given else {"x": x}
        return Case(title, arguments, rms_norm_by_torch, shown=shown, point=point)

    normal = inputs.normal
    small = torch.tensor([[1.0, 2.0, 2.0, 4.0], [0.0, -4.0, 4.0, 8.0]])
    gain = torch.tensor([2.0, 1.0, -1.0, 3.0])
    own = "Each token has a mean square of its own, whatever axes stand before its features."
    with_eps = (
        "`eps` is added to the mean square, under the root, of every token: one whose features are "
        "small shows it."
    )
    far = "The mean is left where it is: features that are all alike come out as 1, or as -1."
    alone = "`x` may be one token without an axis before its features."
    given = "`gain` may be left out or None. Where it is given, every feature has a factor."
    zeros = "A token of zeros stays one: `eps` keeps the root away from 0."
    return [
        case("two tokens", small),
        case("two tokens, with a gain", small, gain=gain),
        case("a batch", 3 * normal(2, 3, 5) + 4, own, gain=normal(5, seed=1)),
        case("four axes", normal(2, 3, 4, 5), own),
        case("as many sentences, tokens and features", normal(4, 4, 4) - 2, own, gain=gain),
        case("no gain, said so", normal(2, 6), given, gain=None),
        case("another eps", normal(3, 5), with_eps, eps=0.5),
        case("a large eps, and a gain", 2 * normal(3, 4), with_eps, gain=gain, eps=4.0),
        case("small features", 1e-3 * normal(3, 5), with_eps),
        case("a token of zeros", torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]), zeros),
        case("features that are all alike", torch.tensor([[7.0] * 4, [-3.0] * 4]), far, gain=gain),
        case("large features", 1e4 * normal(2, 6), own),
        case("one token alone", normal(6), alone, gain=normal(6, seed=1)),
        case("one sentence of one token", normal(1, 1, 5), points.AXIS_OF_ONE),
        case("tokens of one feature", normal(2, 3, 1), points.AXIS_OF_ONE),
        case("a transposed view", normal(5, 3).mT, points.OTHER_ORDER),
        case("float64", normal(3, 5, dtype=torch.float64), points.FLOAT64),
        case("bfloat16", normal(3, 8, dtype=torch.bfloat16), points.SAME_DTYPE),
    ]


def _scaled(normed: Tensor, gain: Tensor | None) -> Tensor:
    return normed if gain is None else normed * gain


def _mean_square(x: Tensor) -> Tensor:
    return (x * x).mean(-1, keepdim=True)


@exercise.mistake(
    "You subtract the mean before you square: that is layer norm without a bias. RMSNorm leaves "
    "the mean alone."
)
def subtracts_mean(x, gain=None, eps=1e-6):
    return rms_norm_by_torch(x - x.mean(-1, keepdim=True), gain, eps)


@exercise.mistake(
    "You divide by the standard deviation, which is taken around the mean. RMSNorm takes the root "
    "of the mean of x², and no mean is subtracted."
)
def std_instead_of_rms(x, gain=None, eps=1e-6):
    return _scaled(x * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + eps), gain)


@exercise.mistake(
    "You divide by `std`, which is taken around the mean and divides by d - 1. RMSNorm takes the "
    "root of the mean of x²."
)
def unbiased_std(x, gain=None, eps=1e-6):
    return _scaled(x * torch.rsqrt(x.var(-1, keepdim=True) + eps), gain)


@exercise.mistake(
    "You add `eps` to the root. It belongs under it, to the mean square: with large `eps` or small "
    "features that is another number."
)
def eps_outside(x, gain=None, eps=1e-6):
    return _scaled(x / (_mean_square(x).sqrt() + eps), gain)


@exercise.mistake("You leave `eps` out. It is added to the mean square, under the root.")
def no_eps(x, gain=None, eps=1e-6):
    return _scaled(x / _mean_square(x).sqrt(), gain)


@exercise.mistake("You always use 1e-6, whatever `eps` is given.")
def eps_ignored(x, gain=None, eps=1e-6):
    return rms_norm_by_torch(x, gain)


@exercise.mistake("You divide by the mean square itself. Take its root: `sqrt`, or `rsqrt`.")
def no_root(x, gain=None, eps=1e-6):
    return _scaled(x / (_mean_square(x) + eps), gain)


@exercise.mistake(
    "You divide by the length of the token: the root of the sum of the squares. It is the root of "
    "their mean, so that a feature has size 1 on average, however many there are."
)
def sum_instead_of_mean(x, gain=None, eps=1e-6):
    return _scaled(x * torch.rsqrt((x * x).sum(-1, keepdim=True) + eps), gain)


@exercise.mistake(
    "You take one mean square for all tokens together. Each token has its own: `mean(-1, "
    "keepdim=True)`."
)
def one_for_all_tokens(x, gain=None, eps=1e-6):
    return _scaled(x * torch.rsqrt((x * x).mean() + eps), gain)


@exercise.mistake(
    "You take the mean square along the first axis, so each feature is compared with the same "
    "feature elsewhere. A token is normed alone, over its last axis."
)
def along_the_first_axis(x, gain=None, eps=1e-6):
    return _scaled(x * torch.rsqrt((x * x).mean(0, keepdim=True) + eps), gain)


@exercise.mistake(
    "You leave `gain` out. Where it is given, every feature is multiplied by its own."
)
def gain_ignored(x, gain=None, eps=1e-6):
    return rms_norm_by_torch(x, None, eps)


@exercise.mistake(
    "You multiply by 1 + gain, as Gemma does, whose gain starts at 0. Here it starts at 1: "
    "multiply by `gain` itself."
)
def one_plus_gain(x, gain=None, eps=1e-6):
    return rms_norm_by_torch(x, None if gain is None else 1 + gain, eps)


@exercise.mistake(
    "You divide by the mean of the absolute values. Square, take the mean, then the root."
)
def mean_absolute(x, gain=None, eps=1e-6):
    return _scaled(x / (x.abs().mean(-1, keepdim=True) + eps), gain)


@exercise.mistake(
    "You change `x` itself: `x *= …`, or `out=x`. Whoever gave it still needs it: return a new "
    "tensor."
)
def in_place(x, gain=None, eps=1e-6):
    return x.copy_(rms_norm_by_torch(x.detach().clone(), gain, eps))


@exercise.alternative
def rms_norm_by_torch(x: Tensor, gain: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], gain, eps)


@exercise.alternative
def rms_norm_token_by_token(x, gain=None, eps=1e-6):
    d = x.shape[-1]
    tokens = [
        token / (sum(number**2 for number in token) / d + eps) ** 0.5 for token in x.reshape(-1, d)
    ]
    normed = torch.stack(tokens).reshape(x.shape)
    if gain is not None:
        normed = normed * gain
    return normed


@exercise.alternative
def rms_norm_by_length(x, gain=None, eps=1e-6):
    d = x.size(-1)
    ones = torch.ones(d, dtype=x.dtype)
    root = torch.sqrt(torch.einsum("...d,...d->...", x, x) / d + eps)
    return torch.einsum("...d,...,d->...d", x, 1 / root, ones if gain is None else gain)


@exercise.alternative
def rms_norm_in_float32(x, gain=None, eps=1e-6):
    """As Llama does."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = (wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)).to(x.dtype)
    return normed if gain is None else gain * normed
