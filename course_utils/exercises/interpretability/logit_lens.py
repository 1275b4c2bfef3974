"""interpretability.logit_lens: what would the model say if it ended here?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.projection import Linear

exercise = Exercise(
    "interpretability.logit_lens",
    used_by="the table of what the model would say after each layer",
    hints=(
        "A GPT ends with `head(norm(x))`. Do here what it does there, for the vectors of every "
        "layer.",
        "`norm` and `head` are modules: call them. Both work on the last axis, whatever stands "
        "before it, so all layers can go through at once.",
        "No softmax: logits are asked for.",
    ),
)


class _RootMeanSquare(nn.Module):
    """A norm of another kind."""

    def __init__(self, gain: Tensor):
        super().__init__()
        self.weight = nn.Parameter(gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-5)


def _modules(hidden: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> tuple:
    d_model = hidden.shape[-1]
    gain = 1 + 0.5 * inputs.normal(d_model, seed=8, dtype=hidden.dtype)
    norm: nn.Module = nn.Identity()
    if kind == "layer":
        norm = nn.LayerNorm(d_model, dtype=hidden.dtype)
        norm.weight.data, norm.bias.data = gain, inputs.normal(d_model, seed=9, dtype=hidden.dtype)
    if kind == "rms":
        norm = _RootMeanSquare(gain)
    head = Linear(d_model, len(weight), bias=bias is not None, dtype=hidden.dtype)
    head.weight.data = weight.detach().clone()
    if bias is not None:
        head.bias.data = bias.detach().clone()
    return norm.requires_grad_(False), head.requires_grad_(False)


def _use(part: Part, hidden: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
    return part(hidden, *_modules(hidden, weight, bias, kind))


def _by_torch(hidden: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
    """Vector after vector. The head's weights are arguments: they are not asked for gradients."""
    norm, _ = _modules(hidden, weight, bias, kind)
    bias = None if bias is None else bias.detach()
    layers = [
        torch.stack([F.linear(norm(vector), weight.detach(), bias) for vector in layer])
        if len(layer)
        else hidden.new_zeros(0, len(weight))
        for layer in hidden
    ]
    return torch.stack(layers)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        hidden: Tensor,
        n_words: int,
        kind: str = "layer",
        biased: bool = False,
        point: str = "",
    ) -> Case:
        weight = inputs.normal(n_words, hidden.shape[-1], seed=5, dtype=hidden.dtype)
        bias = inputs.normal(n_words, seed=6, dtype=hidden.dtype) if biased else None
        arguments = {"hidden": hidden, "weight": weight, "bias": bias, "kind": kind}
        call = "logit_lens(hidden, norm, head)"
        return Case(title, arguments, _by_torch, _use, call, point=point)

    other_norm = "`norm` is called as it is: it may be of another kind, or do nothing."
    biased = (
        "A head may have a bias: call it, `head(…)`, where a product with its weight leaves it out."
    )
    return [
        case("two layers, three tokens", 3 * inputs.normal(2, 3, 4), 5),
        case("four layers, two tokens", 2 * inputs.normal(4, 2, 6, seed=1), 7),
        case(
            "one token", 2 * inputs.normal(3, 1, 4, seed=2), 6, point="A text may have one token."
        ),
        case("one layer", 2 * inputs.normal(1, 5, 4, seed=3), 6, point="There may be one layer."),
        case("as in Llama", 3 * inputs.normal(2, 3, 4, seed=4), 5, "rms", point=other_norm),
        case("no norm", 3 * inputs.normal(2, 3, 4, seed=4), 5, "none", point=other_norm),
        case("a head with a bias", inputs.normal(3, 2, 4, seed=5), 6, biased=True, point=biased),
        case("all sizes equal", inputs.normal(4, 4, 4, seed=6), 4, point=points.EQUAL_SIZES),
        case(
            "numbers in another order in memory",
            inputs.normal(3, 2, 4, seed=7).transpose(0, 1),
            5,
            point=points.OTHER_ORDER,
        ),
        case("float64", inputs.normal(2, 3, 4, seed=8).double(), 5, point=points.FLOAT64),
    ]


@exercise.mistake(
    "You leave out the norm. The head was trained on normed vectors, and those of early layers are "
    "much shorter than those of the last."
)
def no_final_norm(hidden, norm, head):
    return head(hidden)


@exercise.mistake(
    "You put the norm behind the head. It belongs before: the vectors are normed, then compared "
    "with each word."
)
def norm_of_logits(hidden, norm, head):
    logits = head(hidden)
    return F.layer_norm(logits, logits.shape[-1:])


@exercise.mistake(
    "You return probabilities over the words. Logits are asked for: leave the softmax out."
)
def softmax_over_words(hidden, norm, head):
    return head(norm(hidden)).softmax(-1)


@exercise.mistake(
    "You take a softmax over the tokens. The lens gives logits, and places have nothing to share."
)
def softmax_over_time(hidden, norm, head):
    return head(norm(hidden)).softmax(1)


@exercise.mistake(
    "Only the last layer is normed. Each layer is read as if it were the last: norm all of them."
)
def only_last_is_normed(hidden, norm, head):
    normed = torch.cat((hidden[:-1], norm(hidden[-1:])))
    return head(normed)


@exercise.mistake(
    "You norm over other numbers than `norm` does: over the layers or the tokens. A vector is the "
    "last axis: call `norm(hidden)`."
)
def norms_over_tokens(hidden, norm, head):
    mean, deviation = hidden.mean(1, keepdim=True), hidden.std(1, keepdim=True, correction=0)
    return head((hidden - mean) / (deviation + 1e-5))


@exercise.mistake(
    "You read what each layer added, not what is there after it. `hidden` is the stream itself: "
    "no differences are needed."
)
def differences(hidden, norm, head):
    return head(norm(torch.cat((hidden[:1], hidden.diff(dim=0)))))


@exercise.mistake("You leave out the head's bias. Call `head(…)`: it knows whether it has one.")
def no_bias(hidden, norm, head):
    return norm(hidden) @ head.weight.T


@exercise.alternative
def layer_by_layer(hidden, norm, head):
    return torch.stack([head(norm(layer)) for layer in hidden])


@exercise.alternative
def token_by_token(hidden, norm, head):
    rows = []
    for layer in hidden:
        rows.append(torch.stack([head(norm(vector)) for vector in layer]))
    return torch.stack(rows, dim=0)


@exercise.alternative
def by_the_weights(hidden, norm, head):
    logits = torch.einsum("ltd,vd->ltv", norm(hidden), head.weight)
    return logits if head.bias is None else logits + head.bias
