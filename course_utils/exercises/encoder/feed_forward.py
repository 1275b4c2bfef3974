"""encoder.feed_forward: up, a bend, and down again."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import encoder
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise

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
        return Case(title, arguments, feed_forward_by_torch, shown=call)

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
