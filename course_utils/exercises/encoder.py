"""Exercises of notebook 05: the transformer block, and what an encoder needs besides."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils import attention, decoder, encoder
from course_utils.exercises import inputs, layers
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong
from course_utils.projection import Linear

# --- layer_norm ----------------------------------------------------------------------------------


def _layer_norm_by_torch(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


def _layer_norm_cases() -> list[Case]:
    def case(title: str, x: Tensor, **eps: float) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        gain = 2 * inputs.normal(d_model, seed=1, dtype=dtype)
        bias = 3 * inputs.normal(d_model, seed=2, dtype=dtype)
        arguments = {"x": x, "gain": gain, "bias": bias, **eps}
        call = f"layer_norm(x, gain, bias{', eps=' + str(eps['eps']) if eps else ''})"
        return Case(title, arguments, _layer_norm_by_torch, shown=call)

    normal = inputs.normal
    small = {
        "x": torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, -4.0, 4.0, 8.0]]),
        "gain": torch.tensor([2.0, 1.0, -1.0, 3.0]),
        "bias": torch.tensor([0.0, 10.0, 20.0, -5.0]),
    }
    double = normal(2, 3, 5, dtype=torch.float64)
    return [
        Case("two tokens", small, _layer_norm_by_torch, shown="layer_norm(x, gain, bias)"),
        case("a batch", 3 * normal(2, 3, 5) + 4),
        case("four axes", normal(2, 3, 4, 5)),
        case("as many sentences, tokens and features", normal(4, 4, 4) - 2),
        case("another eps", normal(2, 3, 5), eps=0.5),
        case("a large eps", 2 * normal(3, 4), eps=4.0),
        case("features that hardly differ", 1e-3 * normal(2, 3, 5, dtype=torch.float64) + 1),
        case("all features equal", torch.full((2, 4), 7.0)),
        case("one token alone", normal(6)),
        case("one sentence of one token", normal(1, 1, 5)),
        case("a transposed view", normal(2, 5, 3).mT),
        case("float64", double),
        case("bfloat16", normal(2, 3, 8, dtype=torch.bfloat16)),
    ]


def _normalised(x, gain, bias, eps=1e-5, over=-1, correction=0):
    """The formula, over axes and with a variance that the mistakes below choose."""
    mean = x.mean(over, keepdim=True)
    variance = x.var(over, keepdim=True, correction=correction)
    return (x - mean) * torch.rsqrt(variance + eps) * gain + bias


def _unbiased_variance(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, correction=1)


def _over_the_first_axis(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=0)


def _over_time(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=-2)


def _over_axis_one(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=1)


def _forgot_keepdim(x, gain, bias, eps=1e-5):
    return (x - x.mean(-1)) / torch.sqrt(x.var(-1, correction=0) + eps) * gain + bias


def _over_all_tokens(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=(0, 1))


def _over_everything(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps, over=tuple(range(x.ndim)))


def _eps_outside_sqrt(x, gain, bias, eps=1e-5):
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (variance.sqrt() + eps) * gain + bias


def _torchs_deviation_plus_eps(x, gain, bias, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) * gain + bias


def _ignores_eps(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias)


def _no_eps(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, 0.0)


def _eps_squared(x, gain, bias, eps=1e-5):
    return _normalised(x, gain, bias, eps * eps)


def _divides_by_variance(x, gain, bias, eps=1e-5):
    variance = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (variance + eps) * gain + bias


def _sum_of_squares(x, gain, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).sum(-1, keepdim=True) + eps) * gain + bias


def _rms_norm(x, gain, bias, eps=1e-5):
    return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


def _not_centred(x, gain, bias, eps=1e-5):
    return x * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + eps) * gain + bias


def _mean_of_squares(x, gain, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) * torch.rsqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


def _no_gain_and_bias(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _forgot_gain(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], None, bias, eps)


def _forgot_bias(x, gain, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, None, eps)


def _shifts_before_scaling(x, gain, bias, eps=1e-5):
    return (F.layer_norm(x, x.shape[-1:], eps=eps) + bias) * gain


def _gain_plus_one(x, gain, bias, eps=1e-5):
    return _layer_norm_by_torch(x, 1 + gain, bias, eps)


def _centres_in_place(x, gain, bias, eps=1e-5):
    x -= x.mean(-1, keepdim=True)
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * gain + bias


def _detached_statistics(x, gain, bias, eps=1e-5):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean.detach()) / torch.sqrt(variance.detach() + eps) * gain + bias


def _norm_by_var_mean(x, gain, bias, eps=1e-5):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(bias, (x - mean) * (variance + eps).rsqrt(), gain)


def _norm_by_centring_matrix(x, gain, bias, eps=1e-5):
    d_model = x.shape[-1]
    centre = torch.eye(d_model, dtype=x.dtype) - 1 / d_model
    centred = x @ centre
    squares = torch.einsum("...d,...d->...", centred, centred)[..., None] / d_model
    return gain * (centred * (squares + eps) ** -0.5) + bias


LAYER_NORM = Exercise(
    part="encoder.layer_norm",
    notebook="05",
    used_by="`LayerNorm`, which stands twice in every block and once at the end of a model",
    cases=_layer_norm_cases,
    hints=(
        "Each token is treated alone: its own mean and its own variance, over its features. Those "
        "are the last axis.",
        "Subtract the mean first. The variance is then the mean of the squares of what is left. "
        "`keepdim=True` lets both broadcast.",
        "Divide by the root of variance plus `eps`, with `eps` under the root. Then multiply with "
        "`gain` and add `bias`: they broadcast over all tokens by themselves.",
    ),
    mistakes=(
        Mistake(
            "unbiased_variance",
            "You divide the squares by d_model - 1, as `torch.var` and `torch.std` do if nobody "
            "stops them. Layer norm divides by d_model: pass `correction=0`, or take the mean.",
            _unbiased_variance,
        ),
        Mistake(
            "normalises_over_batch_or_time",
            "You normalise along the first axis: each feature is compared with the same feature of "
            "other tokens, and one sentence changes another. Use the last axis, `-1`.",
            _over_the_first_axis,
        ),
        Mistake(
            "normalises_over_time",
            "You normalise along the tokens, axis -2, so what a token becomes depends on its "
            "neighbours. Use the features, axis -1.",
            _over_time,
        ),
        Mistake(
            "normalises_over_axis_one",
            "You normalise along axis 1, which is the tokens where there is a batch, and something "
            "else elsewhere. The features are always the last axis: -1.",
            _over_axis_one,
        ),
        Mistake(
            "forgot_keepdim",
            "Mean and variance have one axis less than `x`, so they meet the wrong axis: an error, "
            "or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`.",
            _forgot_keepdim,
        ),
        Mistake(
            "normalises_over_all_tokens",
            "You normalise each feature over batch and tokens. That is batch norm. Layer norm goes "
            "over the features of one token: axis -1.",
            _over_all_tokens,
        ),
        Mistake(
            "normalises_over_everything",
            "You take one mean and one variance for the whole tensor. Every token has its own: "
            "`x.mean(-1, keepdim=True)`.",
            _over_everything,
        ),
        Mistake(
            "eps_outside_sqrt",
            "You add `eps` to the root. It belongs under the root: √(variance + eps). The "
            "difference is large where a token's features are almost equal.",
            _eps_outside_sqrt,
        ),
        Mistake(
            "torchs_deviation_plus_eps",
            "You use `x.std()` plus `eps`. `std` divides by d_model - 1, and `eps` belongs under "
            "the root. Compute the variance with `correction=0`, and then √(variance + eps).",
            _torchs_deviation_plus_eps,
        ),
        Mistake(
            "ignores_eps",
            "You always use 1e-5. Use the `eps` that you are given.",
            _ignores_eps,
        ),
        Mistake(
            "no_eps",
            "You leave `eps` out. Where all features of a token are equal its variance is 0, and "
            "0 / 0 is NaN. Add `eps` to the variance.",
            _no_eps,
        ),
        Mistake(
            "eps_squared",
            "You square `eps`. It is added to the variance as it is.",
            _eps_squared,
        ),
        Mistake(
            "divides_by_variance",
            "You divide by the variance. Divide by its root, the standard deviation: only that "
            "gives the result the variance 1.",
            _divides_by_variance,
        ),
        Mistake(
            "sum_of_squares",
            "You add the squares up without dividing by their number. Then wide tokens come out "
            "smaller than narrow ones. The variance is the mean of the squares.",
            _sum_of_squares,
        ),
        Mistake(
            "rms_norm",
            "You divide by the root of the mean square and never subtract the mean. That is RMS "
            "norm, which later models use. Layer norm subtracts the mean first.",
            _rms_norm,
        ),
        Mistake(
            "not_centred",
            "You divide by the right number, but the mean is still in there. Divide x - mean.",
            _not_centred,
        ),
        Mistake(
            "mean_of_squares",
            "You subtract the mean, but your variance is the mean of x², of the numbers before "
            "that. Square what is left after subtracting.",
            _mean_of_squares,
        ),
        Mistake(
            "no_gain_and_bias",
            "You normalise and stop there. Multiply with `gain` and add `bias`.",
            _no_gain_and_bias,
        ),
        Mistake("forgot_gain", "You add `bias` but do not multiply with `gain`.", _forgot_gain),
        Mistake("forgot_bias", "You multiply with `gain` but do not add `bias`.", _forgot_bias),
        Mistake(
            "shifts_before_scaling",
            "You add `bias` first and multiply both with `gain`. Scale first, then shift.",
            _shifts_before_scaling,
        ),
        Mistake(
            "gain_plus_one",
            "You multiply with 1 + gain. Some models keep their gains so. Here `gain` is the "
            "factor itself.",
            _gain_plus_one,
        ),
        Mistake(
            "centres_in_place",
            "Your numbers are right, but `x -= …` changes the caller's tensor, which the residual "
            "connection still needs. Write `centred = x - …`.",
            _centres_in_place,
        ),
        Mistake(
            "detached_statistics",
            "Your numbers are right, but mean and variance are detached. They depend on x, and "
            "the gradient has to know.",
            _detached_statistics,
        ),
    ),
    alternatives=(_layer_norm_by_torch, _norm_by_var_mean, _norm_by_centring_matrix),
)

# --- feed_forward --------------------------------------------------------------------------------


def _feed_forward_by_torch(
    x: Tensor, w_up: Tensor, b_up: Tensor, w_down: Tensor, b_down: Tensor
) -> Tensor:
    return F.linear(F.gelu(F.linear(x, w_up, b_up)), w_down, b_down)


def _feed_forward_cases() -> list[Case]:
    def case(title: str, x: Tensor, d_hidden: int, **given: Tensor) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        weights = {
            "w_up": inputs.normal(d_hidden, d_model, seed=1, dtype=dtype),
            "b_up": inputs.normal(d_hidden, seed=2, dtype=dtype),
            "w_down": inputs.normal(d_model, d_hidden, seed=3, dtype=dtype),
            "b_down": 3 * inputs.normal(d_model, seed=4, dtype=dtype),
        }
        arguments = {"x": x, **weights, **given}
        call = "feed_forward(x, w_up, b_up, w_down, b_down)"
        return Case(title, arguments, _feed_forward_by_torch, shown=call)

    normal = inputs.normal
    small = {
        "w_up": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]),
        "b_up": torch.tensor([0.0, 0.0, 1.0]),
        "w_down": torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
        "b_down": torch.tensor([0.0, 10.0]),
    }
    views = {"w_up": normal(4, 6).T, "w_down": normal(6, 4, seed=1).T}
    return [
        case("two tokens", torch.tensor([[[1.0, -1.0], [2.0, 0.5]]]), 3, **small),
        case("four times as wide", normal(2, 3, 4), 16),
        case("narrower than the tokens", normal(2, 4, 5), 3),
        case("as wide as the tokens", normal(2, 3, 4), 4),
        case("as many tokens as features", normal(2, 4, 4), 6),
        case("everything of the same size", normal(3, 3, 3), 3),
        case("one token alone", normal(4), 6),
        case("four axes", normal(2, 2, 3, 4), 5),
        case("large numbers", 10 * normal(2, 3, 4), 5),
        case("transposed views", normal(2, 4, 5).mT, 6, **views),
        case("float64", normal(2, 3, 4, dtype=torch.float64), 6),
        case("bfloat16", normal(2, 3, 4, dtype=torch.bfloat16), 4),
    ]


def _no_activation(x, w_up, b_up, w_down, b_down):
    return F.linear(F.linear(x, w_up, b_up), w_down, b_down)


def _activation_after_down(x, w_up, b_up, w_down, b_down):
    return F.gelu(F.linear(F.linear(x, w_up, b_up), w_down, b_down))


def _activation_twice(x, w_up, b_up, w_down, b_down):
    return F.gelu(_feed_forward_by_torch(x, w_up, b_up, w_down, b_down))


def _activation_first(x, w_up, b_up, w_down, b_down):
    return F.linear(F.linear(F.gelu(x), w_up, b_up), w_down, b_down)


def _mixes_tokens(x, w_up, b_up, w_down, b_down):
    return _feed_forward_by_torch(x.transpose(-1, -2), w_up, b_up, w_down, b_down).mT


def _relu(x, w_up, b_up, w_down, b_down):
    return F.linear(F.relu(F.linear(x, w_up, b_up)), w_down, b_down)


def _gelu_by_tanh(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up, b_up), approximate="tanh"), w_down, b_down)


def _silu(x, w_up, b_up, w_down, b_down):
    return F.linear(F.silu(F.linear(x, w_up, b_up)), w_down, b_down)


def _biases_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)), w_down)


def _up_bias_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)), w_down, b_down)


def _down_bias_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up, b_up)), w_down)


def _bias_after_activation(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)) + b_up, w_down, b_down)


def _forgot_transpose(x, w_up, b_up, w_down, b_down):
    return F.gelu(x @ w_up + b_up) @ w_down + b_down


def _only_widens(x, w_up, b_up, w_down, b_down):
    return F.gelu(F.linear(x, w_up, b_up))


def _adds_the_input(x, w_up, b_up, w_down, b_down):
    return x + _feed_forward_by_torch(x, w_up, b_up, w_down, b_down)


def _feed_forward_by_matmul(x, w_up, b_up, w_down, b_down):
    hidden = encoder.gelu(x @ w_up.T + b_up)
    return hidden @ w_down.T + b_down


def _feed_forward_neuron_by_neuron(x, w_up, b_up, w_down, b_down):
    neurons = zip(w_up, b_up, w_down.T, strict=True)
    return b_down + sum(
        F.gelu((x * reads).sum(-1, keepdim=True) + bias) * writes for reads, bias, writes in neurons
    )


FEED_FORWARD = Exercise(
    part="encoder.feed_forward",
    notebook="05",
    used_by="`FeedForward`, the second half of every block",
    cases=_feed_forward_cases,
    hints=(
        "Three steps: up, activation, down. Each works on the features of one token, whatever the "
        "other tokens are.",
        "`projection.linear(x, w_up, b_up)` is the way up. It gives d_hidden features for every "
        "token.",
        "`gelu(…)` goes between the two maps, on the wide features. Nothing comes after the second "
        "map.",
    ),
    mistakes=(
        Mistake(
            "no_activation",
            "You apply two linear maps and nothing between them. Two such maps are one: the wide "
            "middle adds nothing. Apply `gelu` after the way up.",
            _no_activation,
        ),
        Mistake(
            "activation_after_down",
            "You apply GELU at the end. Then the two maps before it are only one, and hardly "
            "anything negative could be added to the stream. It goes between the maps.",
            _activation_after_down,
        ),
        Mistake(
            "activation_twice",
            "You apply GELU a second time, at the end. What is added to the stream must be free to "
            "be negative: only the wide features go through it.",
            _activation_twice,
        ),
        Mistake(
            "activation_first",
            "You apply GELU to the input and then two linear maps, which are one. It goes between "
            "the maps.",
            _activation_first,
        ),
        Mistake(
            "mixes_tokens",
            "Your maps run along the tokens, which fits only where there are as many tokens as "
            "features. Apply them to the last axis. Attention is what moves between tokens.",
            _mixes_tokens,
        ),
        Mistake(
            "relu",
            "You use ReLU, as the paper of 2017 did. Here it is GELU: `gelu(…)`.",
            _relu,
        ),
        Mistake(
            "gelu_by_tanh",
            "You use the approximation of GELU with tanh, as GPT-2 did. It is off by up to 0.0005. "
            "Use this module's `gelu`.",
            _gelu_by_tanh,
        ),
        Mistake(
            "silu",
            "You use x times its sigmoid, which is SiLU. GELU is x times the share of a normal "
            "distribution below x: use `gelu`.",
            _silu,
        ),
        Mistake(
            "biases_ignored",
            "You leave out both biases. `projection.linear` takes one as its third argument.",
            _biases_ignored,
        ),
        Mistake("up_bias_ignored", "You leave out `b_up`.", _up_bias_ignored),
        Mistake("down_bias_ignored", "You leave out `b_down`.", _down_bias_ignored),
        Mistake(
            "bias_after_activation",
            "You add `b_up` after GELU. It belongs to the map, before it: the bias decides where "
            "GELU bends.",
            _bias_after_activation,
        ),
        Mistake(
            "forgot_transpose",
            "You multiply with the weights as they are stored, [d_out, d_in]. The shapes fit only "
            "where both are equal. Use `projection.linear`, or transpose.",
            _forgot_transpose,
        ),
        Mistake(
            "only_widens",
            "You return the wide features. Bring them back to d_model with `w_down`.",
            _only_widens,
        ),
        Mistake(
            "adds_the_input",
            "You add `x` to the output. `residual_step` does that, and would add it again.",
            _adds_the_input,
        ),
    ),
    alternatives=(_feed_forward_by_torch, _feed_forward_by_matmul, _feed_forward_neuron_by_neuron),
)

# --- residual_step -------------------------------------------------------------------------------


def _doubled(x: Tensor) -> Tensor:
    return 2 * x + 1


def _halved(x: Tensor) -> Tensor:
    return (x - 4) / 2


def _use_functions(part: Part, x: Tensor, **how: bool) -> Any:
    return part(x, _doubled, _halved, **how)


def _step_of_functions(x: Tensor, norm_first: bool = True) -> Tensor:
    """x + 2 (x - 4) / 2 + 1, or (x + 2 x + 1 - 4) / 2."""
    return 2 * x - 3 if norm_first else 1.5 * x - 1.5


def _use_step(
    part: Part, x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, norm_first: bool
) -> Any:
    calls = []

    def sublayer(stream: Tensor) -> Tensor:
        calls.append("sublayer")
        return _attend_and_map(stream, weight)

    def norm(stream: Tensor) -> Tensor:
        calls.append("norm")
        return F.layer_norm(stream, gain.shape, gain, bias)

    result = part(x, sublayer, norm, norm_first)
    if isinstance(result, Tensor) and len(set(calls)) < len(calls):
        raise Wrong(f"Call the sublayer once and the norm once. Yours calls: {', '.join(calls)}.")
    return result


def _attend_and_map(stream: Tensor, weight: Tensor) -> Tensor:
    """A sublayer that mixes tokens and features."""
    return F.scaled_dot_product_attention(stream, stream, F.linear(stream, weight))


def _step_by_torch(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, norm_first: bool
) -> Tensor:
    if norm_first:
        return torch.add(x, _attend_and_map(F.layer_norm(x, gain.shape, gain, bias), weight))
    return F.layer_norm(torch.add(x, _attend_and_map(x, weight)), gain.shape, gain, bias)


def _residual_step_cases() -> list[Case]:
    def small(title: str, **how: bool) -> Case:
        arguments = {"x": torch.tensor([[[1.0, 2.0], [-3.0, 5.0]]]), **how}
        extra = "".join(f", {name}={value}" for name, value in how.items())
        call = f"residual_step(x, lambda x: 2 * x + 1, lambda x: (x - 4) / 2{extra})"
        return Case(title, arguments, _step_of_functions, _use_functions, call)

    def case(title: str, x: Tensor, norm_first: bool) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        arguments = {
            "x": x,
            "weight": inputs.normal(d_model, d_model, seed=1, dtype=dtype),
            "gain": 2 * inputs.normal(d_model, seed=2, dtype=dtype),
            "bias": 2 * inputs.normal(d_model, seed=3, dtype=dtype),
            "norm_first": norm_first,
        }
        call = f"residual_step(x, sublayer, norm, {norm_first})"
        return Case(title, arguments, _step_by_torch, _use_step, call)

    normal = inputs.normal
    return [
        small("two plain functions"),
        small("the same, post-norm", norm_first=False),
        small("the same, pre-norm", norm_first=True),
        case("pre-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), True),
        case("post-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), False),
        case("pre-norm, one token", normal(3, 1, 5) + 2, True),
        case("post-norm, a transposed view", normal(2, 5, 3).mT, False),
        case("pre-norm, float64", normal(2, 3, 4, dtype=torch.float64), True),
        case("post-norm, float64", normal(2, 3, 4, dtype=torch.float64), False),
    ]


def _forgot_residual(x, sublayer, norm, norm_first=True):
    return sublayer(norm(x)) if norm_first else norm(sublayer(x))


def _always_pre(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x))


def _always_post(x, sublayer, norm, norm_first=True):
    return norm(x + sublayer(x))


def _inverted_choice(x, sublayer, norm, norm_first=True):
    return norm(x + sublayer(x)) if norm_first else x + sublayer(norm(x))


def _post_as_pre(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else norm(x) + sublayer(x)


def _residual_from_normed(x, sublayer, norm, norm_first=True):
    if norm_first:
        x = norm(x)
        return x + sublayer(x)
    return norm(x + sublayer(x))


def _norm_on_output(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else x + norm(sublayer(x))


def _norm_after_sublayer_first(x, sublayer, norm, norm_first=True):
    return x + norm(sublayer(x)) if norm_first else norm(x + sublayer(x))


def _both_norms(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else norm(x + sublayer(norm(x)))


def _no_norm(x, sublayer, norm, norm_first=True):
    return x + sublayer(x)


def _adds_in_place(x, sublayer, norm, norm_first=True):
    if norm_first:
        x += sublayer(norm(x))
        return x
    x += sublayer(x)
    return norm(x)


def _subtracts(x, sublayer, norm, norm_first=True):
    return x - sublayer(norm(x)) if norm_first else norm(x - sublayer(x))


def _step_with_branches(x, sublayer, norm, norm_first=True):
    if norm_first:
        written = sublayer(norm(x))
        return written + x
    x = x + sublayer(x)
    return norm(x)


def _step_with_two_places(x, sublayer, norm, norm_first=True):
    def nothing(stream):
        return stream

    before, after = (norm, nothing) if norm_first else (nothing, norm)
    return after(torch.stack([x, sublayer(before(x))]).sum(0))


RESIDUAL_STEP = Exercise(
    part="encoder.residual_step",
    notebook="05",
    used_by="`TransformerBlock` and `DecoderBlock`: twice or three times in every block",
    cases=_residual_step_cases,
    hints=(
        "In both orders there is one sum: the stream `x` as it came, plus what the sublayer makes.",
        "Pre-norm: the sublayer reads `norm(x)`, and its output is added to `x` itself.",
        "Post-norm: the sublayer reads `x`, and the norm comes after the sum, around all of it.",
    ),
    mistakes=(
        Mistake(
            "forgot_residual",
            "You return what the sublayer makes without the stream that it read. Add `x`: what is "
            "not added is lost for all later blocks.",
            _forgot_residual,
        ),
        Mistake(
            "always_pre",
            "You do not look at `norm_first`: yours is always pre-norm. Where it is False the norm "
            "comes last: `norm(x + sublayer(x))`.",
            _always_pre,
        ),
        Mistake(
            "always_post",
            "You do not look at `norm_first`: yours is always post-norm. Where it is True the "
            "sublayer reads `norm(x)`, and nothing comes after the sum.",
            _always_post,
        ),
        Mistake(
            "inverted_choice",
            "Both orders are there, but each where the other belongs. `norm_first` means that the "
            "norm comes before the sublayer.",
            _inverted_choice,
        ),
        Mistake(
            "post_as_pre",
            "Your post-norm is norm(x) + f(x). The norm of 2017 goes around the whole sum: "
            "norm(x + f(x)).",
            _post_as_pre,
        ),
        Mistake(
            "residual_from_normed",
            "Your pre-norm adds to the normed stream: norm(x) + f(norm(x)). Only the sublayer "
            "reads the norm. Add to `x` itself, which runs through all blocks untouched.",
            _residual_from_normed,
        ),
        Mistake(
            "norm_on_output",
            "Your post-norm is x + norm(f(x)). The norm goes around the sum: norm(x + f(x)).",
            _norm_on_output,
        ),
        Mistake(
            "norm_after_sublayer_first",
            "Your pre-norm is x + norm(f(x)). The norm comes before the sublayer: x + f(norm(x)).",
            _norm_after_sublayer_first,
        ),
        Mistake(
            "both_norms",
            "Your post-norm has a norm before the sublayer too. There is one: norm(x + f(x)).",
            _both_norms,
        ),
        Mistake("no_norm", "You never use `norm`.", _no_norm),
        Mistake("subtracts", "You subtract what the sublayer makes. Add it.", _subtracts),
        Mistake(
            "adds_in_place",
            "Your numbers are right, but `x += …` changes the caller's tensor. Write `x + …`.",
            _adds_in_place,
        ),
    ),
    alternatives=(_step_with_branches, _step_with_two_places),
)

# --- TransformerBlock ----------------------------------------------------------------------------

MakeParts = Callable[[], dict[str, nn.Module]]


def _use_block(
    make_parts: MakeParts,
    part: Part,
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    block = part(**make_parts(), norm_first=norm_first)
    given = {} if mask is None else {"mask": mask}
    return layers.call(block, weights, x, **given)


def _use_block_again(
    make_parts: MakeParts,
    part: Part,
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    """As `_use_block`, after the same block has answered for a longer sequence."""
    block = part(**make_parts(), norm_first=norm_first)
    longer = torch.cat([x, x], dim=1)
    layers.call(block, weights, longer, torch.ones(longer.shape[1], longer.shape[1]).bool())
    return layers.call(block, weights, x, mask)


def _simple_parts() -> dict[str, nn.Module]:
    return {
        "attention": layers.MeanAttention(),
        "feed_forward": Linear(3, 3),
        "norm1": encoder.LayerNorm(3),
        "norm2": encoder.LayerNorm(3),
    }


def _other_parts() -> dict[str, nn.Module]:
    return {
        "attention": layers.MeanAttention(),
        "feed_forward": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)),
        "norm1": nn.RMSNorm(4),
        "norm2": nn.RMSNorm(4),
    }


SIMPLE_BLOCK = {
    "feed_forward.weight": torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]),
    "feed_forward.bias": torch.tensor([0.0, 1.0, 0.0]),
    "norm1.weight": torch.tensor([1.0, 2.0, 3.0]),
    "norm1.bias": torch.tensor([0.0, 5.0, 0.0]),
    "norm2.weight": torch.tensor([2.0, 2.0, -1.0]),
    "norm2.bias": torch.tensor([0.0, 0.0, 4.0]),
}


def _mean_of_visible(x: Tensor, mask: Tensor | None) -> Tensor:
    """For every token the mean of those that it may look at, one at a time."""
    tokens = range(x.shape[1])
    rows = [[j for j in tokens if mask is None or mask[i, j]] for i in tokens]
    return torch.stack([x[:, visible].mean(1) for visible in rows], 1)


def _simple_block_by_torch(
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    weight: Tensor,
    bias: Tensor,
    *norms: Tensor,
) -> Tensor:
    gain1, bias1, gain2, bias2 = norms
    normed = F.layer_norm(x, gain1.shape, gain1, bias1)
    x = x + _mean_of_visible(normed, mask)
    return x + F.linear(F.layer_norm(x, gain2.shape, gain2, bias2), weight, bias)


def _other_block_by_torch(
    x: Tensor, mask: Tensor | None, norm_first: bool, *weights: Tensor
) -> Tensor:
    w_up, b_up, w_down, b_down, gain1, gain2 = weights
    x = F.rms_norm(x + _mean_of_visible(x, mask), gain1.shape, gain1)
    made = F.linear(torch.tanh(F.linear(x, w_up, b_up)), w_down, b_down)
    return F.rms_norm(x + made, gain2.shape, gain2)


def block_by_torch(
    x: Tensor, mask: Tensor | None, norm_first: bool, n_heads: int, weights: dict[str, Tensor]
) -> Tensor:
    """A block of the usual parts as torch's own `nn.TransformerEncoderLayer`."""
    theirs = nn.TransformerEncoderLayer(
        x.shape[-1],
        n_heads,
        len(weights["feed_forward.up.bias"]),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        device="meta",
    )
    added = layers.torch_mask(mask, x, x, n_heads)
    renamed = layers.torch_weights(weights, {"attention": "self_attn"})
    return functional_call(theirs, renamed, (x,), {"src_mask": added})


def _usual_block_by_torch(
    n_heads: int,
    names: list[str],
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    *weights: Tensor,
) -> Tensor:
    return block_by_torch(x, mask, norm_first, n_heads, dict(zip(names, weights, strict=True)))


def _block_call(mask: Tensor | None, norm_first: bool) -> str:
    given = "x" if mask is None else "x, mask=mask"
    return f"TransformerBlock(attention, feed_forward, norm1, norm2, {norm_first})({given})"


def _block_cases() -> list[Case]:
    def case(
        title: str,
        x: Tensor,
        n_heads: int,
        mask: Tensor | None = None,
        norm_first: bool = True,
        use: Part = _use_block,
    ) -> Case:
        make_parts = partial(layers.block_parts, x.shape[-1], n_heads)
        weights = layers.random_weights(make_parts(), x.dtype)
        oracle = partial(_usual_block_by_torch, n_heads, list(weights))
        arguments = {"x": x, "mask": mask, "norm_first": norm_first, **weights}
        return Case(
            title, arguments, oracle, partial(use, make_parts), _block_call(mask, norm_first)
        )

    normal = inputs.normal
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    padding = torch.tensor([[True] * 3 + [False], [True] * 2 + [False] * 2])[:, None, None]
    small = {
        "x": torch.tensor([[[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]]),
        "mask": torch.ones(2, 2, dtype=torch.bool).tril(),
        "norm_first": True,
    }
    other = {"x": normal(2, 4, 4), "mask": causal, "norm_first": False}
    other |= layers.random_weights(_other_parts())
    x = normal(2, 4, 6)
    return [
        Case(
            "attention is a mean, the feed-forward net one map",
            small | SIMPLE_BLOCK,
            _simple_block_by_torch,
            partial(_use_block, _simple_parts),
            _block_call(causal, True),
        ),
        case("the usual parts, no mask", x, 3),
        case("post-norm", x, 3, norm_first=False),
        case("a causal mask", x, 2, causal),
        case("post-norm with a causal mask", x, 2, causal, norm_first=False),
        case("padding", x, 3, padding),
        case("one head, one sentence", normal(1, 4, 5), 1, causal),
        case("a mask for each head", x, 3, inputs.boolean(2, 3, 4, 4)),
        Case(
            "other parts: RMS norm, tanh",
            other,
            _other_block_by_torch,
            partial(_use_block, _other_parts),
            _block_call(causal, False),
        ),
        case("a second call of the same block", x, 3, causal, use=_use_block_again),
        case("one token", normal(3, 1, 6), 3),
        case("a transposed view", normal(2, 6, 4).mT, 2, causal),
        case("float64", normal(2, 4, 6, dtype=torch.float64), 2, causal),
    ]


def _works_inside_models(part: Part) -> None:
    with mock.patch.object(encoder, "TransformerBlock", part):
        model = decoder.gpt(vocabulary=7, d_model=6, n_heads=3, n_layers=2, context=5)
        blocks = [encoder.block(6, 3) for _ in range(2)]
    first = inputs.integers(2, 5, below=7)
    second = torch.cat([first[:, :-1], (first[:, -1:] + 1) % 7], 1)
    if not torch.allclose(model(first)[:, :-1], model(second)[:, :-1], atol=1e-5):
        raise Wrong("Alone your block is right, but inside a GPT a token sees those behind it.")
    x = inputs.normal(2, 5, 6)
    mask = torch.tensor([True, True, True, False, False])[None, None, None]
    padded, alone = x, x[:, :3]
    for block in blocks:
        padded, alone = block(padded, mask), block(alone)
    if not torch.allclose(padded[:, :3], alone, atol=1e-5):
        raise Wrong("Alone your block is right, but in an encoder padding changes real tokens.")


class _OneNormForBoth(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm1, self.norm_first)


class _NormsSwapped(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, self.norm2, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm1, self.norm_first)


class _Parallel(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return first + encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first) - x


class _FeedForwardAlone(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


class _AddsFirstInput(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        if self.norm_first:
            return x + self.feed_forward(self.norm2(first))
        return self.norm2(x + self.feed_forward(first))


class _ForgotResidual(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.attention(self.norm1(x), mask=mask)
            return self.feed_forward(self.norm2(x))
        x = self.norm1(self.attention(x, mask=mask))
        return self.norm2(self.feed_forward(x))


class _ResidualFromNormed(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        if not self.norm_first:
            return super().forward(x, mask)
        x = self.norm1(x)
        x = self.norm2(x + self.attention(x, mask=mask))
        return x + self.feed_forward(x)


class _BlockMaskNotPassedOn(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = encoder.residual_step(x, self.attention, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


class _MaskAsMemory(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = lambda stream: self.attention(stream, mask)  # noqa: E731
        x = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


class _CallsAttentionItself(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attended = self.attention(x, mask=mask)
        x = encoder.residual_step(x, attended, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


class _NormFirstIgnored(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.feed_forward(self.norm2(x))


class _AlwaysPostNorm(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = self.norm1(x + self.attention(x, mask=mask))
        return self.norm2(x + self.feed_forward(x))


class _FeedForwardFirst(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)
        return encoder.residual_step(x, attend, self.norm1, self.norm_first)


class _NoFeedForward(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        return encoder.residual_step(x, attend, self.norm1, self.norm_first)


class _NoNorms(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = x + self.attention(x, mask=mask)
        return x + self.feed_forward(x)


class _AttentionReadsUnnormed(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = lambda stream: self.attention(stream, x, mask=mask)  # noqa: E731
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(first, self.feed_forward, self.norm2, self.norm_first)


class _ReachesIntoNorms(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        def norm(layer):
            return lambda stream: encoder.layer_norm(stream, layer.weight, layer.bias)

        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, norm(self.norm1), self.norm_first)
        return encoder.residual_step(x, self.feed_forward, norm(self.norm2), self.norm_first)


class _BlockInBranches(encoder.TransformerBlock):
    """Right: both orders are written out."""

    def forward(self, x, mask=None):
        if self.norm_first:
            x = x + self.attention(self.norm1(x), mask=mask)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, None, mask))
        return self.norm2(x + self.feed_forward(x))


class _BlockInALoop(encoder.TransformerBlock):
    """Right: two sublayers and two norms, one step for each pair; the memory is said to be x."""

    def forward(self, x, mask=None):
        def attend(stream):
            return self.attention(stream, stream, mask=mask)

        pairs = ((attend, self.norm1), (self.feed_forward, self.norm2))
        for sublayer, norm in pairs:
            written = sublayer(norm(x) if self.norm_first else x)
            x = torch.add(x, written)
            x = x if self.norm_first else norm(x)
        return x


TRANSFORMER_BLOCK = Exercise(
    part="encoder.TransformerBlock",
    notebook="05",
    used_by="`block`, and so by every layer of `Encoder` and `GPT`",
    cases=_block_cases,
    hints=(
        "Two residual steps, one after the other: attention with `self.norm1`, then feed-forward "
        "with `self.norm2`. The second reads what the first returned.",
        "`residual_step(x, sublayer, norm, self.norm_first)` calls the sublayer with one argument. "
        "The feed-forward net can be given as it is: `self.feed_forward`.",
        "Attention needs its mask as well. `partial(self.attention, mask=mask)` is a function of "
        "one argument that passes it on, and so is `lambda t: self.attention(t, mask=mask)`.",
    ),
    mistakes=(
        Mistake(
            "one_norm_for_both",
            "You use `self.norm1` in both steps. Each step has a norm of its own, with its own "
            "gains: the second is `self.norm2`.",
            _OneNormForBoth,
        ),
        Mistake(
            "norms_swapped",
            "You use `self.norm2` around attention and `self.norm1` around the feed-forward net. "
            "Weights of other models would land in the wrong place.",
            _NormsSwapped,
        ),
        Mistake(
            "ffn_reads_old_x",
            "Your feed-forward net reads the block's input, beside attention. (Some models do so, "
            "to save time.) Here it reads what attention has just written: the steps follow each "
            "other.",
            _Parallel,
        ),
        Mistake(
            "attention_result_lost",
            "You compute the attention step and then go on with the old `x`, so it has no effect. "
            "Give the second step what the first returned.",
            _FeedForwardAlone,
        ),
        Mistake(
            "adds_first_input",
            "Your second step adds the block's input, not the stream after attention, so what "
            "attention wrote is lost. Add to what the first step returned.",
            _AddsFirstInput,
        ),
        Mistake(
            "forgot_residual",
            "You pass the stream through both sublayers without adding to it. `residual_step` "
            "adds.",
            _ForgotResidual,
        ),
        Mistake(
            "residual_from_normed",
            "You norm the stream itself and add to that. With pre-norm only the sublayer reads the "
            "norm: x + f(norm(x)).",
            _ResidualFromNormed,
        ),
        Mistake(
            "mask_not_passed_on",
            "You do not pass the mask on, so every token sees every other: the future, and padding "
            "too.",
            _BlockMaskNotPassedOn,
        ),
        Mistake(
            "mask_as_memory",
            "You call `self.attention(…, mask)`, but its second argument is `memory`. Pass the "
            "mask by name: `mask=mask`.",
            _MaskAsMemory,
        ),
        Mistake(
            "calls_attention_itself",
            "You give `residual_step` what attention returned. It wants the function, and calls it "
            "on what it has normed: `partial(self.attention, mask=mask)`.",
            _CallsAttentionItself,
        ),
        Mistake(
            "norm_first_ignored",
            "You do not look at `self.norm_first`: yours is always pre-norm. `residual_step` takes "
            "it as its last argument.",
            _NormFirstIgnored,
        ),
        Mistake(
            "always_post_norm",
            "You do not look at `self.norm_first`: yours is always post-norm. `residual_step` "
            "takes it as its last argument.",
            _AlwaysPostNorm,
        ),
        Mistake(
            "feed_forward_first",
            "Your feed-forward net comes before attention. First look around, then work on what "
            "was found.",
            _FeedForwardFirst,
        ),
        Mistake(
            "no_feed_forward",
            "You return after attention. The feed-forward net is the second half of the block.",
            _NoFeedForward,
        ),
        Mistake(
            "no_norms",
            "You never use the norms. Each step has one.",
            _NoNorms,
        ),
        Mistake(
            "attention_reads_unnormed",
            "Queries come from the normed stream, but keys and values from `x` as it was. In "
            "self-attention all three come from the same tensor: give `self.attention` one.",
            _AttentionReadsUnnormed,
        ),
        Mistake(
            "reaches_into_norms",
            "You take `weight` and `bias` out of the norms and call `layer_norm` yourself. A block "
            "may be given another norm: call `self.norm1(…)`.",
            _ReachesIntoNorms,
        ),
    ),
    alternatives=(_BlockInBranches, _BlockInALoop),
    properties=(_works_inside_models,),
)

# --- padding_mask --------------------------------------------------------------------------------


def _padding_mask_by_hand(ids: Tensor, pad_id: int) -> Tensor:
    return torch.tensor([[[[token != pad_id for token in row]]] for row in ids.tolist()])


def _padding_mask_cases() -> list[Case]:
    def case(title: str, ids: Tensor, pad_id: int) -> Case:
        call = f"padding_mask(ids, {pad_id})"
        arguments = {"ids": ids, "pad_id": pad_id}
        return Case(title, arguments, _padding_mask_by_hand, shown=call)

    some = inputs.integers(3, 5, below=4)
    return [
        case("the second sentence is shorter", torch.tensor([[5, 3, 8], [4, 7, 0]]), 0),
        case("another padding token", torch.tensor([[1, 2, 3, 9], [0, 9, 9, 9], [4, 0, 2, 1]]), 9),
        case("padding in front", torch.tensor([[2, 2, 6, 1], [7, 3, 0, 5]]), 2),
        case("no padding at all", torch.tensor([[5, 3, 8, 1], [4, 7, 6, 2]]), 0),
        case("tokens below and above the padding's", some, 2),
        case("a negative number for padding", torch.tensor([[3, 0, -1], [2, -1, -1]]), -1),
        case("a sentence of padding alone", torch.tensor([[0, 0, 0, 0], [1, 0, 2, 0]]), 0),
        case("as many sentences as tokens", inputs.integers(4, 4, below=3), 1),
        case("one token", torch.tensor([[3], [1], [3]]), 3),
        case("32-bit numbers", some.int(), 0),
        case("a transposed view", some.T, 1),
    ]


def _masks_queries(ids, pad_id):
    return (ids != pad_id)[:, None, :, None]


def _mask_upside_down(ids, pad_id):
    return (ids == pad_id)[:, None, None, :]


def _no_broadcast_axes(ids, pad_id):
    return ids != pad_id


def _one_axis_too_few(ids, pad_id):
    return (ids != pad_id)[:, None, :]


def _axes_in_front(ids, pad_id):
    return (ids != pad_id)[None, None]


def _axes_behind(ids, pad_id):
    return (ids != pad_id)[:, :, None, None]


def _always_zero(ids, pad_id):
    return (ids != 0)[:, None, None, :]


def _above_padding(ids, pad_id):
    return (ids > pad_id)[:, None, None, :]


def _as_numbers(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].float()


def _as_integers(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].long()


def _as_bias(ids, pad_id):
    return torch.zeros(ids.shape).masked_fill(ids == pad_id, -torch.inf)[:, None, None, :]


def _for_every_query(ids, pad_id):
    real = ids != pad_id
    return real[:, None, None, :].expand(-1, 1, ids.shape[1], -1)


def _both_real(ids, pad_id):
    real = ids != pad_id
    return real[:, None, None, :] & real[:, None, :, None]


def _mask_by_unsqueeze(ids, pad_id):
    return ids.ne(pad_id).unsqueeze(1).unsqueeze(2)


def _mask_by_reshape(ids, pad_id):
    batch, tokens = ids.shape
    return ~torch.eq(ids, pad_id).reshape(batch, 1, 1, tokens)


def _mask_by_where(ids, pad_id):
    keep = torch.where(ids == pad_id, False, True)
    return torch.stack([row[None, None] for row in keep])


def _padding_changes_nothing(part: Part) -> None:
    layer = attention.MultiHeadAttention(6, 3)
    x = inputs.normal(2, 5, 6)
    ids = torch.tensor([[4, 2, 3, 9, 9], [1, 0, 2, 9, 9]])
    if not torch.allclose(layer(x, mask=part(ids, 9))[:, :3], layer(x[:, :3]), atol=1e-5):
        raise Wrong("With your mask, padding still changes what attention gives for real tokens.")


PADDING_MASK = Exercise(
    part="encoder.padding_mask",
    notebook="05",
    used_by="`Classifier`, and every model that reads sentences of different lengths",
    cases=_padding_mask_cases,
    hints=(
        "Comparing a tensor with a number compares every entry: `ids != pad_id` is True at real "
        "tokens, with the shape [batch, tokens].",
        "Scores have four axes: [batch, heads, query, key]. What must not be looked at are keys, "
        "so the tokens belong on the last axis.",
        "Indexing with None makes an axis of size 1, which broadcasts: two of them go between "
        "batch and tokens, as in `[:, None, None, :]`.",
    ),
    mistakes=(
        Mistake(
            "masks_queries_not_keys",
            "Your tokens stand on the axis of the queries: padding may not ask, but it is still "
            "looked at. Put them on the last axis: [batch, 1, 1, tokens].",
            _masks_queries,
        ),
        Mistake(
            "inverted",
            "Yours is True at padding. True means: may be looked at. That is every real token.",
            _mask_upside_down,
        ),
        Mistake(
            "no_broadcast_axes",
            "Yours has two axes. Against scores of four it would be read as [query, key]. Put axes "
            "of size 1 for heads and queries between batch and tokens.",
            _no_broadcast_axes,
        ),
        Mistake(
            "one_axis_too_few",
            "Yours has three axes, so the batch would meet the heads. There are two axes between "
            "batch and tokens: heads and queries.",
            _one_axis_too_few,
        ),
        Mistake(
            "axes_in_front",
            "You put both new axes in front, so the batch would meet the queries. They go between "
            "batch and tokens.",
            _axes_in_front,
        ),
        Mistake(
            "axes_behind",
            "You put both new axes behind, so the tokens would meet the heads. They go between "
            "batch and tokens.",
            _axes_behind,
        ),
        Mistake(
            "always_zero",
            "You compare with 0. The padding token has the number `pad_id`, which may be any.",
            _always_zero,
        ),
        Mistake(
            "above_padding",
            "You keep tokens whose numbers are above `pad_id`. Those below it are real as well: "
            "keep all that are not equal to it.",
            _above_padding,
        ),
        Mistake(
            "as_numbers",
            "You return ones and zeros. A mask here is boolean: leave the comparison as it is.",
            _as_numbers,
        ),
        Mistake(
            "as_integers",
            "You return whole numbers, for which `~` does something else (~1 is -2). A mask here "
            "is boolean: leave the comparison as it is.",
            _as_integers,
        ),
        Mistake(
            "as_bias",
            "You return what could be added to the scores: 0 and minus infinity. A mask here is "
            "boolean, True at real tokens.",
            _as_bias,
        ),
        Mistake(
            "for_every_query",
            "You repeat the mask for every query. An axis of size 1 is enough, it broadcasts: "
            "[batch, 1, 1, tokens].",
            _for_every_query,
        ),
        Mistake(
            "both_real",
            "You hide everything from padded queries too. Their rows would have no key left, which "
            "gives NaN. Nobody reads them: hide the keys only, [batch, 1, 1, tokens].",
            _both_real,
        ),
    ),
    alternatives=(_mask_by_unsqueeze, _mask_by_reshape, _mask_by_where),
    properties=(_padding_changes_nothing,),
)

# --- mean_pool -----------------------------------------------------------------------------------


def _mean_pool_by_hand(x: Tensor, keep: Tensor) -> Tensor:
    rows = []
    for sentence, kept in zip(x, keep.tolist(), strict=True):
        tokens = [token for token, is_kept in zip(sentence, kept, strict=True) if is_kept]
        rows.append(torch.stack(tokens).mean(0))
    return torch.stack(rows)


def _mean_pool_cases() -> list[Case]:
    def case(title: str, x: Tensor, keep: Tensor) -> Case:
        return Case(title, {"x": x, "keep": keep}, _mean_pool_by_hand, shown="mean_pool(x, keep)")

    normal = inputs.normal
    small = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [8.0, 4.0]], [[2.0, 0.0], [4.0, 2.0], [9.0, 9]]])
    lengths = torch.arange(4) < torch.tensor([[4], [2], [1]])
    x = normal(3, 4, 5)
    return [
        case(
            "the second sentence is shorter", small, torch.tensor([[True] * 3, [True, True, False]])
        ),
        case("three lengths", x, lengths),
        case("nothing is padding", x, torch.ones(3, 4, dtype=torch.bool)),
        case("padding in front", x, lengths.flip(1)),
        case("padding anywhere", normal(4, 6, 3), inputs.boolean(4, 6)),
        case("large numbers in the padding", torch.where(lengths[..., None], x, 1e4), lengths),
        case(
            "as many sentences, tokens and features", normal(4, 4, 4), inputs.boolean(4, 4, seed=1)
        ),
        case("one sentence", normal(1, 4, 3), torch.tensor([[True, True, False, False]])),
        case("one token", normal(3, 1, 4), torch.ones(3, 1, dtype=torch.bool)),
        case("one feature", normal(3, 4, 1), lengths),
        case("a transposed view", normal(3, 5, 4).mT, lengths),
        case("float64", normal(3, 4, 5, dtype=torch.float64), lengths),
        case("bfloat16", normal(3, 4, 5, dtype=torch.bfloat16), lengths),
    ]


def _counts_padding(x, keep):
    return x.mean(1)


def _divides_by_tokens(x, keep):
    return (x * keep[..., None]).mean(1)


def _pools_features(x, keep):
    return x.mean(-1) * keep


def _pools_the_batch(x, keep):
    return (x * keep[..., None]).sum(0) / keep.sum(0)[:, None]


def _only_sums(x, keep):
    return (x * keep[..., None]).sum(1)


def _divides_by_all_that_are_kept(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum()


def _counts_wrong_axis(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum(0)[:, None]


def _forgot_count_axis(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum(1)


def _forgot_feature_axis(x, keep):
    return (x * keep).sum(1) / keep.sum(1)


def _pools_the_padding(x, keep):
    hidden = ~keep[..., None]
    return (x * hidden).sum(1) / hidden.sum(1)


def _sums_all_divides_by_kept(x, keep):
    return x.sum(1) / keep.sum(1, keepdim=True)


def _takes_the_largest(x, keep):
    return x.masked_fill(~keep[..., None], -torch.inf).amax(1)


def _takes_the_first(x, keep):
    return x[:, 0]


def _one_mean_for_all(x, keep):
    return x[keep].mean(0)


def _keeps_the_axis(x, keep):
    return _mean_pool_by_hand(x, keep)[:, None]


def _pools_by_weights(x, keep):
    weights = keep.to(x.dtype) / keep.sum(1, keepdim=True)
    return torch.einsum("bt,btd->bd", weights, x)


def _pools_by_masked_fill(x, keep):
    kept = x.masked_fill(~keep.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / keep.sum(dim=1, keepdim=True).clamp_min(1)


def _pools_by_softmax(x, keep):
    """Attention with equal scores is a mean."""
    weights = torch.zeros(keep.shape, dtype=x.dtype).masked_fill(~keep, -torch.inf).softmax(-1)
    return (weights[:, None] @ x)[:, 0]


MEAN_POOL = Exercise(
    part="encoder.mean_pool",
    notebook="05",
    used_by="`Classifier`: it makes one vector of a sentence of any length",
    cases=_mean_pool_cases,
    hints=(
        "A mean is a sum divided by a count. Tokens that are not kept add nothing to either.",
        "`keep[..., None]` has an axis for the features, so that it broadcasts against `x`. "
        "Multiplying with it (as numbers) makes 0 of every token that is not kept.",
        "Sum over the tokens, axis 1, and divide by how many are kept in each sentence, "
        "[batch, 1].",
    ),
    mistakes=(
        Mistake(
            "counts_padding",
            "You average over all tokens, padding too. The same sentence would get another vector "
            "for every amount of padding. Leave out what `keep` does not keep.",
            _counts_padding,
        ),
        Mistake(
            "divides_by_t",
            "You leave padding out of the sum but not out of the count, so short sentences get "
            "short vectors. Divide by the number of tokens that are kept.",
            _divides_by_tokens,
        ),
        Mistake(
            "pools_features",
            "You average over the features, so every token keeps one number. Average over the "
            "tokens, axis 1: the features stay.",
            _pools_features,
        ),
        Mistake(
            "pools_the_batch",
            "You average over the sentences, axis 0. Each sentence has a vector of its own: use "
            "the tokens, axis 1.",
            _pools_the_batch,
        ),
        Mistake(
            "only_sums",
            "You add the tokens up. Divide by how many there were, or long sentences get long "
            "vectors.",
            _only_sums,
        ),
        Mistake(
            "divides_by_all_that_are_kept",
            "You divide by the number of tokens that are kept in the whole batch. Count them for "
            "each sentence: along axis 1.",
            _divides_by_all_that_are_kept,
        ),
        Mistake(
            "counts_wrong_axis",
            "You count along the batch. Count the tokens that are kept in each sentence: axis 1.",
            _counts_wrong_axis,
        ),
        Mistake(
            "forgot_count_axis",
            "Your counts have the shape [batch], which meets the features. Give them an axis of "
            "size 1: [batch, 1].",
            _forgot_count_axis,
        ),
        Mistake(
            "forgot_feature_axis",
            "`x * keep` has no axis of features in `keep`: an error, or silently wrong numbers "
            "where the sizes happen to fit. Multiply with `keep[..., None]`.",
            _forgot_feature_axis,
        ),
        Mistake(
            "pools_the_padding",
            "You average what should be left out. True in `keep` means: a real token.",
            _pools_the_padding,
        ),
        Mistake(
            "sums_all_divides_by_kept",
            "You divide by the right count, but padding is still in your sum. Set it to 0 first.",
            _sums_all_divides_by_kept,
        ),
        Mistake(
            "takes_the_largest",
            "You take the largest number of each feature. That is max pooling. Take the mean.",
            _takes_the_largest,
        ),
        Mistake(
            "takes_the_first",
            "You take the first token, as BERT's classifier does. Take the mean of all that are "
            "kept.",
            _takes_the_first,
        ),
        Mistake(
            "one_mean_for_all",
            "`x[keep]` puts the tokens of all sentences into one row, so all are averaged together "
            "and the batch is lost. Multiply with `keep` instead.",
            _one_mean_for_all,
        ),
        Mistake(
            "keeps_the_axis",
            "Your numbers are right, but the axis of the tokens is still there. The result has the "
            "shape [batch, d_model].",
            _keeps_the_axis,
        ),
    ),
    alternatives=(_mean_pool_by_hand, _pools_by_weights, _pools_by_masked_fill, _pools_by_softmax),
)

EXERCISES: tuple[Exercise, ...] = (
    LAYER_NORM,
    FEED_FORWARD,
    RESIDUAL_STEP,
    TRANSFORMER_BLOCK,
    PADDING_MASK,
    MEAN_POOL,
)
