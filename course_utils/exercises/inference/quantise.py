"""inference.quantise: weights as whole numbers, with a scale for each row."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.sampling.shared import numbers_alone

exercise = Exercise(
    "inference.quantise",
    used_by="`QuantisedLinear` and `IntegerLinear`, for every linear map of a model",
    hints=(
        "With 4 bits the numbers go from -7 to 7: the largest is `2 ** (bits - 1) - 1`. The scale "
        "of a row is what a step of 1 is worth there.",
        "`weight.abs().amax(1, keepdim=True)` is the largest size in every row. Divided by the "
        "largest number it is the scale, [d_out, 1].",
        "`weight / scale`, then `.round()`, then `.to(torch.int8)`. In a row of zeros that would "
        "be 0 / 0: divide by 1 there, as with `scale.where(scale > 0, 1)`.",
    ),
)

Quantised = tuple[Tensor, Tensor]


def _row_by_row(weight: Tensor, bits: int) -> Quantised:
    """By NumPy, one row after the other."""
    limit, rows = 2 ** (bits - 1) - 1, weight.detach().numpy()
    scales = [np.abs(row).max() / limit for row in rows]
    numbers = [
        np.rint(row / scale) if scale else 0 * row for row, scale in zip(rows, scales, strict=True)
    ]
    scale = torch.tensor(np.array(scales, dtype=rows.dtype))[:, None]
    return torch.tensor(np.array(numbers)).to(torch.int8), scale


def _as_weights(found: Any) -> Any:
    """The numbers, and the weights that they stand for. What is no such pair is left as it is."""
    if isinstance(found, tuple) and len(found) == 2 and all(isinstance(x, Tensor) for x in found):
        return found[0], found[0] * found[1]
    return found


@exercise.cases
def cases() -> list[Case]:
    names = "The whole numbers", "The scales"

    def case(title: str, weight: Tensor, bits: int, point: str = "") -> Case:
        arguments, call = {"weight": weight, "bits": bits}, f"quantise(weight, {bits})"
        return Case(title, arguments, _row_by_row, numbers_alone, call, names, point)

    def without_scale(title: str, weight: Tensor, bits: int, point: str) -> Case:
        """The scale of a row of zeros is free, as long as it is a number."""
        return Case(
            title,
            {"weight": weight, "bits": bits},
            lambda weight, bits: _as_weights(_row_by_row(weight, bits)),
            lambda part, **given: _as_weights(numbers_alone(part, **given)),
            f"numbers, scale = quantise(weight, {bits})\nnumbers, numbers * scale",
            ("The whole numbers", "The weights that they stand for"),
            point,
        )

    normal = inputs.normal
    small = torch.tensor([[0.4, -1.0, 0.27], [8.0, 3.4, -2.3]])
    sizes = torch.tensor([[0.01], [1.0], [30.0], [400.0]])
    own = (
        "Every row has a scale of its own, by its own largest size: a row of small weights keeps "
        "all its bits beside a row of large ones."
    )
    zeros = (
        "A row of zeros has nothing to scale by: its numbers are 0, and the scale is any number, "
        "but not NaN."
    )
    tiny = (
        "Only a row of zeros is special. A row of small weights is not: whatever is added to the "
        "scale against 0 / 0, or is its smallest value, must be far smaller still."
    )
    fewer = "`bits` says how many steps there are: from 2 bits, with -1, 0 and 1, to 8."
    negative = "The largest size may be that of a negative weight: take `abs` before the maximum."
    positive = (
        "Where all weights of a row have one sign the range stays the same on both sides of 0, so "
        "that 0 stays 0."
    )
    whole = torch.arange(-127, 128).float()[None] * torch.tensor([[0.5], [-2.0]])
    return [
        case("two rows, eight bits", small, 8),
        case("two rows, four bits", small, 4),
        case("more rows than columns", normal(7, 3), 8),
        case("more columns than rows", normal(3, 11), 8),
        case("six bits", normal(4, 9), 6, fewer),
        case("three bits", 3 * normal(5, 8), 3, fewer),
        case("two bits", normal(4, 10), 2, fewer),
        case("rows of very different size", sizes * normal(4, 6), 8, own),
        case("rows of different size, four bits", sizes * normal(4, 13), 4, own),
        case("as many rows as columns", sizes * normal(4, 4), 8, points.EQUAL_SIZES),
        case("the largest are negative", -normal(3, 5).abs() - normal(3, 5), 5, negative),
        case("negative only", -normal(3, 6).abs(), 8, positive),
        case("positive only", normal(3, 6).abs() + 2, 4, positive),
        case("one row", normal(1, 7), 8, points.AXIS_OF_ONE),
        case("one column", normal(5, 1), 8, points.AXIS_OF_ONE),
        case("small weights", 1e-4 * normal(3, 6), 8, tiny),
        case("smaller weights", 1e-6 * normal(3, 6), 4, tiny),
        case("whole numbers come back", whole, 8),
        case("a transposed view", normal(6, 4).T, 8, points.OTHER_ORDER),
        case("float64", normal(3, 6, dtype=torch.float64), 8, points.FLOAT64),
        without_scale("a row of zeros", _with_zeros(normal(3, 5)), 8, zeros),
        without_scale("nothing but zeros", torch.zeros(2, 4), 3, zeros),
    ]


def _with_zeros(weight: Tensor) -> Tensor:
    weight[1] = 0
    return weight


@exercise.holds
def is_no_further_off_than_half_a_step(part: Part) -> None:
    weight = inputs.normal(8, 100, seed=3)
    numbers, scale = part(weight, 3)
    if ((numbers * scale - weight).abs() > scale * 0.5001).any():
        raise Wrong("A weight is further from its whole number than half a step: round to nearest.")


class NaNAsBytes(TorchFunctionMode):
    """Notes whether NaN is made a whole number while this is on."""

    happened = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.int8:
            given = [one for one in args if isinstance(one, Tensor)]
            self.happened |= any(bool(one.isnan().any()) for one in given)
        return result


@exercise.holds
def makes_no_byte_of_nan(part: Part) -> None:
    with NaNAsBytes() as noticed:
        part(torch.tensor([[0.0, 0.0], [0.5, -2.0]]), 8)
    if noticed.happened:
        raise Wrong(
            "In a row of zeros you compute 0 / 0, which is NaN, and make a byte of it. Here that "
            "came out as 0; another machine may make something else of it. Divide by 1 there."
        )


def _limit(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def _by_scale(weight: Tensor, scale: Tensor, limit: float = 127) -> Quantised:
    """Right, with the right scale."""
    numbers = (weight / scale.where(scale > 0, 1)).round().clamp(-limit, limit)
    return numbers.to(torch.int8), scale


def _largest(weight: Tensor) -> Tensor:
    return weight.abs().amax(1, keepdim=True)


@exercise.mistake(
    "You use one scale for all rows. A single large row then takes the steps away from all others: "
    "take the maximum of every row, `amax(1, keepdim=True)`."
)
def one_scale_for_all(weight, bits):
    scale = weight.abs().max() / _limit(bits)
    return _by_scale(weight, scale.expand(len(weight), 1).clone())


@exercise.mistake(
    "You round the weights as they are and clip what is too large. Divide by the scale first, so "
    "that the largest weight of a row becomes the largest number."
)
def clips_not_scales(weight, bits):
    limit = _limit(bits)
    numbers = weight.round().clamp(-limit, limit).to(torch.int8)
    return numbers, torch.ones_like(weight[:, :1])


@exercise.mistake(
    "You spread the numbers between the smallest and the largest weight of a row. The range here "
    "is the same on both sides of 0, so that 0 stays 0 and no shift has to be kept."
)
def unsigned_range(weight, bits):
    low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    numbers = ((weight - low) / scale.where(scale > 0, 1)).round() - 2 ** (bits - 1)
    return numbers.to(torch.int8), scale


@exercise.mistake(
    "You divide by 2^(bits - 1). The largest whole number of 8 bits is 127, not 128: one less."
)
def one_too_many(weight, bits):
    return _by_scale(weight, _largest(weight) / 2 ** (bits - 1), _limit(bits))


@exercise.mistake(
    "You divide by 2^(bits - 1), and the largest weight becomes 128, which int8 turns into -128. "
    "The largest number is one less."
)
def overflows(weight, bits):
    scale = _largest(weight) / 2 ** (bits - 1)
    numbers = (weight / scale.where(scale > 0, 1)).round()
    return numbers.to(torch.int64).to(torch.int8), scale


@exercise.mistake(
    "You count 2^bits - 1 numbers on one side of 0. A bit is needed for the sign: the largest "
    "number is 2^(bits - 1) - 1."
)
def no_bit_for_the_sign(weight, bits):
    scale = _largest(weight) / (2**bits - 1)
    numbers = (weight / scale.where(scale > 0, 1)).round()
    return numbers.to(torch.int64).to(torch.int8), scale


@exercise.mistake(
    "You do not round: `.to(torch.int8)` cuts off what stands behind the point, so every number is "
    "too near to 0. `.round()` first."
)
def cut_off(weight, bits):
    scale = _largest(weight) / _limit(bits)
    return (weight / scale.where(scale > 0, 1)).to(torch.int8), scale


@exercise.mistake("You round down. To the nearest: `.round()`.")
def rounded_down(weight, bits):
    scale = _largest(weight) / _limit(bits)
    return (weight / scale.where(scale > 0, 1)).floor().to(torch.int8), scale


@exercise.mistake(
    "You have a scale for each column. An output belongs to a row, so a row's scale can be "
    "multiplied after the product: maximum along axis 1."
)
def one_scale_a_column(weight, bits):
    scale = weight.abs().amax(0, keepdim=True) / _limit(bits)
    return _by_scale(weight, scale)


@exercise.mistake(
    "Your scales are [d_out]. They are wanted as a column, [d_out, 1], so that numbers · scale is "
    "right: `keepdim=True`."
)
def forgot_keepdim(weight, bits):
    numbers, scale = _by_scale(weight, _largest(weight) / _limit(bits))
    return numbers, scale[:, 0]


@exercise.mistake(
    "You return what the weights were multiplied with. The scale is the way back: weight ≈ "
    "numbers · scale."
)
def scale_upside_down(weight, bits):
    numbers, scale = _by_scale(weight, _largest(weight) / _limit(bits))
    return numbers, 1 / scale


@exercise.mistake(
    "You take the largest weight, not the largest size: a weight far below 0 does not fit then. "
    "`abs` comes before the maximum."
)
def forgot_abs(weight, bits):
    scale = weight.amax(1, keepdim=True) / _limit(bits)
    return (weight / scale.where(scale != 0, 1)).round().to(torch.int64).to(torch.int8), scale


@exercise.mistake("Your numbers are still floats. `.to(torch.int8)` makes them bytes.")
def still_floats(weight, bits):
    numbers, scale = _by_scale(weight, _largest(weight) / _limit(bits))
    return numbers.to(weight.dtype), scale


@exercise.mistake(
    "You return weights, rounded. The whole numbers themselves are wanted, and the scales beside "
    "them."
)
def weights_again(weight, bits):
    numbers, scale = _by_scale(weight, _largest(weight) / _limit(bits))
    return numbers * scale, scale


@exercise.mistake("You always use 8 bits. `bits` says how many.")
def always_eight(weight, bits):
    return _by_scale(weight, _largest(weight) / 127)


@exercise.mistake("You return the scales first. The whole numbers come first.")
def swapped(weight, bits):
    return _by_scale(weight, _largest(weight) / _limit(bits))[::-1]


@exercise.alternative
def quantise_row_by_row(weight, bits):
    limit = 2 ** (bits - 1) - 1
    numbers, scales = [], []
    for row in weight:
        largest = row.abs().max().item()
        step = largest / limit if largest > 0 else 1.0
        scales.append([step])
        numbers.append([round(entry / step) for entry in row.tolist()])
    scale = torch.tensor(scales, dtype=weight.dtype)
    return torch.tensor(numbers, dtype=torch.int8), scale


@exercise.alternative
def quantise_clamped(weight, bits):
    """As libraries do: a smallest scale, and a clamp that changes nothing here."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().max(dim=1, keepdim=True)[0].div(top).clamp(min=1e-12)
    return torch.clamp(torch.round(weight / scale), -top, top).to(torch.int8), scale


@exercise.alternative
def quantise_by_numpy(weight, bits):
    w = weight.numpy()
    scale = np.linalg.norm(w, ord=np.inf, axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    safe = np.where(scale == 0, 1, scale).astype(w.dtype)
    return torch.from_numpy(np.rint(w / safe).astype(np.int8)), torch.from_numpy(safe)


@exercise.alternative
def quantise_by_nan(weight, bits):
    largest = torch.maximum(weight.amax(1), -weight.amin(1)).unsqueeze(1)
    normed = (weight / largest).nan_to_num(0.0)
    limit = (1 << (bits - 1)) - 1
    return (normed * limit).round().to(torch.int8), largest / limit
