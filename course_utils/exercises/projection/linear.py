"""projection.linear: a weighted sum for every output, and a bias."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "projection.linear",
    used_by="`Linear`, and so by every learned map of every model in this course",
    hints=(
        "Every row of `weight` asks the vector one question: its answer is their dot product. With "
        "`d_out` rows there are `d_out` answers.",
        "Rows of `x` against rows of `weight`: for `@` the second one must be transposed. Compare "
        "the shapes: [..., d_in] @ [d_in, d_out].",
        "`@` leaves all axes before the last two alone, so one line serves a vector, a sequence "
        "and a batch.",
        "The bias is added to the answers, and there may be none: test `bias is None`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, weight: Tensor, bias: Tensor | None, point: str = "") -> Case:
        return Case(title, {"x": x, "weight": weight, "bias": bias}, F.linear, point=point)

    def random(*size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return inputs.normal(*size, seed=seed, dtype=dtype)

    x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [2.0, -1.0, 0.0], [1.0, 1.0, 1.0]])
    bias = torch.tensor([10.0, 20.0, 30.0, 40.0])
    square = torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]])
    double, half = torch.float64, torch.bfloat16
    fits = (
        "A square weight is turned like every other: its sizes do not show which axis is which. "
        "The last axis of `weight` meets the last axis of `x`."
    )
    any_axes = (
        "`x` may have any axes before its features, or none: one vector, a sequence, a batch. "
        "`@` with `weight.T` on the right takes them all."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    return [
        case("two vectors of 3 numbers become two of 4", x, weight, None),
        case("the same with a bias", x, weight, bias),
        case("fewer numbers out than in", random(4, 6), random(2, 6, seed=1), bias[:2]),
        case("a square weight", x, square, bias[:3], fits),
        case("a single vector", x[0], weight, bias, any_axes),
        case("a batch of sequences", random(2, 3, 5), random(6, 5), random(6), any_axes),
        case("a batch with heads", random(2, 3, 4, 5), random(7, 5), None, any_axes),
        case("transposed views", random(2, 6, 3).mT, random(6, 4).T, bias, points.OTHER_ORDER),
        case("one vector in two axes", x[:1], weight, bias, of_one),
        case("one number out", random(3, 2), random(1, 2), torch.ones(1), of_one),
        case("one number in", random(3, 1), random(4, 1), bias, of_one),
        case(
            "float64",
            random(3, 4, dtype=double),
            random(2, 4, dtype=double, seed=1),
            random(2, dtype=double),
            dtypes,
        ),
        case(
            "bfloat16",
            random(2, 4, dtype=half),
            random(3, 4, dtype=half, seed=1),
            random(3, dtype=half),
            dtypes,
        ),
        case("bfloat16, no bias", random(2, 4, dtype=half), random(3, 4, dtype=half), None, dtypes),
    ]


def _plus(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


@exercise.mistake(
    "You multiply with `weight` as it is stored, [d_out, d_in]. The axis of size d_in must "
    "meet the last axis of `x`: use `weight.T`. With a square weight nothing warns you."
)
def forgot_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x @ weight, bias)


@exercise.mistake(
    "You add the bias to the input, before the multiplication. It belongs to the output: "
    "it has d_out numbers. Multiply first."
)
def bias_before_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x, bias) @ weight.T


@exercise.mistake(
    "You never add the bias. Add it after the multiplication wherever it is not None."
)
def bias_ignored(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T


@exercise.mistake("You subtract the bias. Add it.")
def bias_subtracted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T if bias is None else x @ weight.T - bias


@exercise.mistake(
    "You add the bias even where it is None, and a tensor and None cannot be added. Return "
    "the product alone in that case."
)
def bias_always_added(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T + bias  # type: ignore[operator]


@exercise.mistake(
    "`if bias` asks whether a tensor is true, which Python cannot say of several numbers. "
    "Ask `if bias is not None`."
)
def asks_whether_bias_is_true(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T + bias if bias else x @ weight.T


@exercise.mistake(
    "Your numbers are right, but all vectors stand in one long list. Keep the axes of `x` "
    "and change only the last one. `@` does so without any reshape."
)
def flattened_batch_lost(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x.reshape(-1, x.shape[-1]) @ weight.T, bias)


@exercise.mistake(
    "You compute `weight @ x`. That fits one column vector. Here the vectors are the rows "
    "of `x`: put `x` first and transpose the weight."
)
def weight_first(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(weight @ x, bias)


@exercise.mistake(
    "`torch.mm` multiplies two matrices and nothing else, but `x` can have one axis, or "
    "three, or four. `@` takes them all."
)
def only_matrices(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.mm(x, weight.T), bias)


@exercise.mistake(
    "`*` multiplies numbers that stand in the same place; it is not a matrix product. Use "
    "`@` with the transposed weight."
)
def multiplies_elementwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x * weight, bias)


@exercise.mistake(
    "You make a new `nn.Linear`, and its weights are random. Use the weight and the bias "
    "that you are given."
)
def makes_a_new_layer(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return nn.Linear(weight.shape[1], weight.shape[0])(x)


@exercise.mistake(
    "Your numbers are right, but weight and bias are cut off from those that you were given, so "
    "they could never be learned. `nn.Parameter(…)`, `.data` and `.detach()` cut. Compute with "
    "`weight` and `bias` themselves."
)
def wrapped_in_new_parameters(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x @ nn.Parameter(weight).T, None if bias is None else nn.Parameter(bias))


@exercise.alternative
def linear_by_einsum(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.einsum("...i,oi->...o", x, weight), bias)


@exercise.alternative
def linear_column_by_column(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.stack([(x * row).sum(-1) for row in weight], dim=-1), bias)


@exercise.alternative
def linear_flat_and_back(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    flat = _plus(x.reshape(-1, x.shape[-1]).mm(weight.t()), bias)
    return flat.reshape(*x.shape[:-1], weight.shape[0])


@exercise.alternative
def linear_as_columns(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = (weight @ x[..., None])[..., 0]
    if bias is not None:
        y += bias
    return y
