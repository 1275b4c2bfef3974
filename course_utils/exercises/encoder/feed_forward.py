"""encoder.feed_forward: up, a bend, and down again."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import encoder
from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "encoder.feed_forward",
    used_by="`FeedForward`, the second half of every block",
    hints=(
        "Three steps: up, activation, down. Each works on the features of one token, whatever the "
        "other tokens are.",
        "`projection.linear(x, w_up, b_up)` is the way up. It gives d_hidden features for every "
        "token.",
        "`gelu(…)` goes between the two maps, on the wide features. Nothing comes after the second "
        "map.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, d_hidden: int, point: str = "", **given: Tensor) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        weights = {
            "w_up": inputs.normal(d_hidden, d_model, seed=1, dtype=dtype),
            "b_up": inputs.normal(d_hidden, seed=2, dtype=dtype),
            "w_down": inputs.normal(d_model, d_hidden, seed=3, dtype=dtype),
            "b_down": 3 * inputs.normal(d_model, seed=4, dtype=dtype),
        }
        arguments = {"x": x, **weights, **given}
        call = "feed_forward(x, w_up, b_up, w_down, b_down)"
        return Case(title, arguments, feed_forward_by_torch, shown=call, point=point)

    normal = inputs.normal
    small = {
        "w_up": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]),
        "b_up": torch.tensor([0.0, 0.0, 1.0]),
        "w_down": torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
        "b_down": torch.tensor([0.0, 10.0]),
    }
    stored = (
        "A weight is [d_out, d_in], also where both are equal: its sizes do not tell which way "
        "round it lies. `projection.linear` takes it as it is."
    )
    last_axis = (
        "Both maps work on the last axis, whatever stands before it: no axis at all, one, or three."
    )
    large = (
        "GELU holds for large numbers too, where `exp` by hand overflows or a formula is off: use "
        "this module's `gelu`."
    )
    views = {"w_up": normal(4, 6).T, "w_down": normal(6, 4, seed=1).T}
    return [
        case("two tokens", torch.tensor([[[1.0, -1.0], [2.0, 0.5]]]), 3, "", **small),
        case("four times as wide", normal(2, 3, 4), 16),
        case("narrower than the tokens", normal(2, 4, 5), 3),
        case("as wide as the tokens", normal(2, 3, 4), 4, stored),
        case("as many tokens as features", normal(2, 4, 4), 6, last_axis),
        case("everything of the same size", normal(3, 3, 3), 3, stored),
        case("one token alone", normal(4), 6, last_axis),
        case("four axes", normal(2, 2, 3, 4), 5, last_axis),
        case("large numbers", 10 * normal(2, 3, 4), 5, large),
        case("transposed views", normal(2, 4, 5).mT, 6, points.OTHER_ORDER, **views),
        case("float64", normal(2, 3, 4, dtype=torch.float64), 6, points.FLOAT64),
        case("bfloat16", normal(2, 3, 4, dtype=torch.bfloat16), 6, points.SAME_DTYPE),
    ]


@exercise.mistake(
    "You apply two linear maps and nothing between them. Two such maps are one: the wide "
    "middle adds nothing. Apply `gelu` after the way up."
)
def no_activation(x, w_up, b_up, w_down, b_down):
    return F.linear(F.linear(x, w_up, b_up), w_down, b_down)


@exercise.mistake(
    "You apply GELU at the end. Then the two maps before it are only one, and hardly "
    "anything negative could be added to the stream. It goes between the maps."
)
def activation_after_down(x, w_up, b_up, w_down, b_down):
    return F.gelu(F.linear(F.linear(x, w_up, b_up), w_down, b_down))


@exercise.mistake(
    "You apply GELU a second time, at the end. What is added to the stream must be free to "
    "be negative: only the wide features go through it."
)
def activation_twice(x, w_up, b_up, w_down, b_down):
    return F.gelu(feed_forward_by_torch(x, w_up, b_up, w_down, b_down))


@exercise.mistake(
    "You apply GELU to the input and then two linear maps, which are one. It goes between the maps."
)
def activation_first(x, w_up, b_up, w_down, b_down):
    return F.linear(F.linear(F.gelu(x), w_up, b_up), w_down, b_down)


@exercise.mistake(
    "Your maps run along the tokens, which fits only where there are as many tokens as "
    "features. Apply them to the last axis. Attention is what moves between tokens."
)
def mixes_tokens(x, w_up, b_up, w_down, b_down):
    return feed_forward_by_torch(x.transpose(-1, -2), w_up, b_up, w_down, b_down).mT


@exercise.mistake("You use ReLU, as the paper of 2017 did. Here it is GELU: `gelu(…)`.")
def relu(x, w_up, b_up, w_down, b_down):
    return F.linear(F.relu(F.linear(x, w_up, b_up)), w_down, b_down)


@exercise.mistake(
    "You use the approximation of GELU with tanh, as GPT-2 did. It is off by up to 0.0005. "
    "Use this module's `gelu`."
)
def gelu_by_tanh(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up, b_up), approximate="tanh"), w_down, b_down)


@exercise.mistake(
    "You use x times its sigmoid, which is SiLU. GELU is x times the share of a normal "
    "distribution below x: use `gelu`."
)
def silu(x, w_up, b_up, w_down, b_down):
    return F.linear(F.silu(F.linear(x, w_up, b_up)), w_down, b_down)


@exercise.mistake(
    "You use x times sigmoid(1.702 x), which is GELU roughly: off by up to 0.02. Use this module's "
    "`gelu`."
)
def gelu_by_sigmoid(x, w_up, b_up, w_down, b_down):
    wide = F.linear(x, w_up, b_up)
    return F.linear(wide * torch.sigmoid(1.702 * wide), w_down, b_down)


@exercise.mistake("You leave out both biases. `projection.linear` takes one as its third argument.")
def biases_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)), w_down)


@exercise.mistake("You leave out `b_up`.")
def up_bias_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)), w_down, b_down)


@exercise.mistake("You leave out `b_down`.")
def down_bias_ignored(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up, b_up)), w_down)


@exercise.mistake(
    "You add `b_up` after GELU. It belongs to the map, before it: the bias decides where "
    "GELU bends."
)
def bias_after_activation(x, w_up, b_up, w_down, b_down):
    return F.linear(F.gelu(F.linear(x, w_up)) + b_up, w_down, b_down)


@exercise.mistake(
    "You multiply with the weights as they are stored, [d_out, d_in]. The shapes fit only "
    "where both are equal. Use `projection.linear`, or transpose."
)
def forgot_transpose(x, w_up, b_up, w_down, b_down):
    return F.gelu(x @ w_up + b_up) @ w_down + b_down


@exercise.mistake("You return the wide features. Bring them back to d_model with `w_down`.")
def only_widens(x, w_up, b_up, w_down, b_down):
    return F.gelu(F.linear(x, w_up, b_up))


@exercise.mistake("You add `x` to the output. `residual_step` does that, and would add it again.")
def adds_the_input(x, w_up, b_up, w_down, b_down):
    return x + feed_forward_by_torch(x, w_up, b_up, w_down, b_down)


def _with_the_input(wrong: Part) -> Part:
    def both(x, w_up, b_up, w_down, b_down):
        return x + wrong(x, w_up, b_up, w_down, b_down)

    both.__name__ = f"{wrong.__name__}_and_adds_the_input"
    return both


def _add_with_the_input(*wrong: Part) -> None:
    """A mistake, and the input is added as well."""
    for mistake in [one for one in exercise.mistakes if one.part in wrong]:
        says = f"{mistake.says} And you add `x`: `residual_step` does that."
        exercise.mistake(says)(_with_the_input(mistake.part))


_add_with_the_input(
    *(no_activation, activation_after_down, relu, gelu_by_tanh, gelu_by_sigmoid),
    *(biases_ignored, bias_after_activation),
)


@exercise.alternative
def feed_forward_by_torch(
    x: Tensor, w_up: Tensor, b_up: Tensor, w_down: Tensor, b_down: Tensor
) -> Tensor:
    return F.linear(F.gelu(F.linear(x, w_up, b_up)), w_down, b_down)


@exercise.alternative
def feed_forward_by_matmul(x, w_up, b_up, w_down, b_down):
    hidden = encoder.gelu(x @ w_up.T + b_up)
    return hidden @ w_down.T + b_down


@exercise.alternative
def feed_forward_neuron_by_neuron(x, w_up, b_up, w_down, b_down):
    neurons = zip(w_up, b_up, w_down.T, strict=True)
    return b_down + sum(
        F.gelu((x * reads).sum(-1, keepdim=True) + bias) * writes for reads, bias, writes in neurons
    )
