"""modern.swiglu: a feed-forward net with a gate."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import projection
from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "modern.swiglu",
    used_by="`SwiGLU`, the feed-forward net of Llama, Mistral and Qwen, and every expert",
    hints=(
        "Three maps. Two go from d_model to d_hidden, both from `x`: the gate and the way up. The "
        "third brings their product back.",
        "SiLU is applied to the gate and to nothing else: `gate * torch.sigmoid(gate)`.",
        "`projection.linear(x, w_gate)` is the gate, `projection.linear(x, w_up)` the way up. "
        "Multiply SiLU of the first by the second, number by number, and apply `w_down`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, d_hidden: int, point: str = "", **given: Any) -> Case:
        d_model = x.shape[-1]
        weights = {
            "w_gate": normal(d_hidden, d_model, seed=1, dtype=x.dtype),
            "w_up": normal(d_hidden, d_model, seed=2, dtype=x.dtype),
            "w_down": normal(d_model, d_hidden, seed=3, dtype=x.dtype),
        }
        shown = "swiglu(x, w_gate, w_up, w_down)"
        return Case(title, {"x": x, **weights, **given}, swiglu_by_torch, shown=shown, point=point)

    normal = inputs.normal
    small = {
        "w_gate": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]),
        "w_up": torch.tensor([[2.0, 1.0], [0.0, -1.0], [1.0, 1.0]]),
        "w_down": torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
    }
    stored = (
        "A weight is [d_out, d_in], also where both are equal: its sizes do not tell which way "
        "round it lies. `projection.linear` takes it as it is."
    )
    last_axis = (
        "All maps work on the last axis, whatever stands before it: nothing, one axis, or three."
    )
    far = (
        "A gate may be far from 0, on both sides: exp of 100 is infinite in float32, and infinity "
        "over infinity is NaN. `torch.sigmoid` sees to it."
    )
    views = {"w_gate": normal(4, 6).T, "w_up": normal(4, 6, seed=1).T}
    return [
        case("two tokens", torch.tensor([[[1.0, -1.0], [2.0, 0.5]]]), 3, "", **small),
        case("wider than the tokens", normal(2, 3, 4), 10),
        case("narrower than the tokens", normal(2, 4, 5), 3),
        case("as wide as the tokens", normal(2, 3, 4), 4, stored),
        case("as many tokens as features", normal(2, 4, 4), 6, last_axis),
        case("everything of the same size", normal(3, 3, 3), 3, stored),
        case("one token alone", normal(4), 6, last_axis),
        case("four axes", normal(2, 2, 3, 4), 5, last_axis),
        case("one hidden feature", normal(2, 3, 4), 1, points.AXIS_OF_ONE),
        case("large numbers", 8 * normal(2, 3, 4), 5),
        replace(case("very large numbers", 90 * normal(2, 3, 4), 5, far), **_values_only()),
        case("zeros", torch.zeros(2, 3), 5),
        case("transposed views", normal(2, 4, 5).mT, 6, points.OTHER_ORDER, **views),
        case("float64", normal(2, 3, 4, dtype=torch.float64), 6, points.FLOAT64),
        case("bfloat16", normal(2, 3, 4, dtype=torch.bfloat16), 6, points.SAME_DTYPE),
    ]


def _values_only() -> dict[str, Any]:
    """Some ways to write SiLU have no gradient that far out, and are right all the same."""

    def use(part: Any, **tensors: Tensor) -> Tensor:
        return part(**{name: each.detach() for name, each in tensors.items()})

    def oracle(*tensors: Tensor) -> Tensor:
        return swiglu_by_torch(*(each.detach() for each in tensors))

    return {"use": use, "oracle": oracle}


def _gated(activate: Any) -> Any:
    """The net, with what becomes of the gate and the way up chosen by a mistake."""

    def net(x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        return F.linear(activate(F.linear(x, w_gate), F.linear(x, w_up)), w_down)

    return net


@exercise.mistake(
    "You have no gate: SiLU is applied to the way up, and `w_gate` is not used. Multiply what "
    "`w_up` gives by SiLU of what `w_gate` gives."
)
def no_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.silu(up))(x, w_gate, w_up, w_down)


@exercise.mistake("You do not use `w_up`. The gate multiplies something: what `w_up` gives.")
def only_the_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.silu(gate))(x, w_gate, w_up, w_down)


@exercise.mistake(
    "You multiply the two without an activation. Apply SiLU to the gate first: z · sigmoid(z)."
)
def gate_without_activation(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: gate * up)(x, w_gate, w_up, w_down)


@exercise.mistake(
    "Your gate is a sigmoid, as in the first gated nets (GLU). SwiGLU has SiLU there: multiply the "
    "sigmoid by the gate itself."
)
def sigmoid_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: gate.sigmoid() * up)(x, w_gate, w_up, w_down)


@exercise.mistake("Your gate goes through GELU: that is GEGLU. SwiGLU has SiLU, z · sigmoid(z).")
def gelu_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.gelu(gate) * up)(x, w_gate, w_up, w_down)


@exercise.mistake("Your gate goes through ReLU: that is ReGLU. SwiGLU has SiLU, z · sigmoid(z).")
def relu_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: gate.relu() * up)(x, w_gate, w_up, w_down)


@exercise.mistake(
    "You apply SiLU to the way up, and the gate stays as it is. It is the other way round: SiLU of "
    "the gate."
)
def activates_the_way_up(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: gate * F.silu(up))(x, w_gate, w_up, w_down)


@exercise.mistake("You apply SiLU to both. Only the gate goes through it.")
def activates_both(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.silu(gate) * F.silu(up))(x, w_gate, w_up, w_down)


@exercise.mistake(
    "You apply SiLU to the product. It goes to the gate alone, before they are multiplied."
)
def activates_the_product(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.silu(gate * up))(x, w_gate, w_up, w_down)


@exercise.mistake(
    "You use `w_gate` twice, for the gate and for the way up. The second map is `w_up`."
)
def same_matrix_twice(x, w_gate, w_up, w_down):
    return swiglu_by_torch(x, w_gate, w_gate, w_down)


@exercise.mistake(
    "You use `w_up` twice, for the gate and for the way up. The gate's map is `w_gate`."
)
def same_way_up_twice(x, w_gate, w_up, w_down):
    return swiglu_by_torch(x, w_up, w_up, w_down)


@exercise.mistake("You add the gate to the way up. A gate multiplies.")
def adds_the_gate(x, w_gate, w_up, w_down):
    return _gated(lambda gate, up: F.silu(gate) + up)(x, w_gate, w_up, w_down)


@exercise.mistake(
    "You take the way up from the gate's output, or from `x` times the gate. Both maps read `x`."
)
def gates_the_input(x, w_gate, w_up, w_down):
    gate = F.silu(F.linear(x, w_gate))
    return F.linear(F.linear(gate, w_up) if w_up.shape[-1] == gate.shape[-1] else gate, w_down)


@exercise.mistake(
    "You multiply with the weights as they are stored, [d_out, d_in]. The shapes fit only where "
    "both are equal. Use `projection.linear`, or transpose."
)
def forgot_transpose(x, w_gate, w_up, w_down):
    return (F.silu(x @ w_gate) * (x @ w_up)) @ w_down


@exercise.mistake("You return the wide features. Bring them back to d_model with `w_down`.")
def only_widens(x, w_gate, w_up, w_down):
    return F.silu(F.linear(x, w_gate)) * F.linear(x, w_up)


@exercise.mistake("You add `x` to the output. `residual_step` does that, and would add it again.")
def adds_the_input(x, w_gate, w_up, w_down):
    return x + swiglu_by_torch(x, w_gate, w_up, w_down)


@exercise.alternative
def swiglu_by_torch(x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
    return F.linear(F.silu(F.linear(x, w_gate)) * F.linear(x, w_up), w_down)


@exercise.alternative
def swiglu_fused(x, w_gate, w_up, w_down):
    """Both ways up in one product, as it is often stored."""
    gate, up = projection.linear(x, torch.cat((w_gate, w_up))).chunk(2, dim=-1)
    return projection.linear(up * gate.sigmoid() * gate, w_down)


@exercise.alternative
def swiglu_by_einsum(x, w_gate, w_up, w_down):
    gate = torch.einsum("...d,hd->...h", x, w_gate)
    up = torch.einsum("...d,hd->...h", x, w_up)
    return torch.einsum("...h,dh->...d", gate / (1 + torch.exp(-gate)) * up, w_down)


@exercise.alternative
def swiglu_neuron_by_neuron(x, w_gate, w_up, w_down):
    out = torch.zeros_like(x)
    for h in range(w_gate.shape[0]):
        gate = (x * w_gate[h]).sum(-1, keepdim=True)
        up = (x * w_up[h]).sum(-1, keepdim=True)
        out = out + gate * torch.sigmoid(gate) * up * w_down[:, h]
    return out
