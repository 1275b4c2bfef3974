"""attention.mix_values: values are mixed in the shares that the weights say."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.attention import shared
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.mix_values",
    used_by="`scaled_dot_product_attention`: its last step",
    hints=(
        "For one query: take every value, multiply it by the query's weight for its token, and add "
        "them all up.",
        "A row of `weights` belongs to a query and has a number for every key. A row of `value` "
        "belongs to a key. A sum of rows with weights is a matrix product.",
        "The sizes say the order: [query, key] times [key, d_value] gives [query, d_value]. "
        "Nothing has to be transposed.",
    ),
)


def _mixed_by_einsum(weights: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("...qk,...kd->...qd", weights, value)


def _random_weights(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights that are far from equal. Each row sums to 1."""
    return torch.softmax(2 * inputs.normal(*shape, dtype=dtype), -1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, weights: Tensor, value: Tensor, point: str = "") -> Case:
        return Case(title, {"weights": weights, "value": value}, _mixed_by_einsum, point=point)

    def two(*size: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        values = (*size[:-2], size[-1], width)
        return _random_weights(*size, dtype=dtype), inputs.normal(*values, dtype=dtype)

    small = torch.tensor(
        [[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], [[0.25, 0.75, 0.0], [0.5, 0.0, 0.5]]]
    )
    values = torch.tensor([[4.0, 0.0], [0.0, 8.0], [-4.0, 4.0]]).repeat(2, 1, 1)
    switched_off = small * torch.tensor([1.0, 0.0, 1.0])
    split = _random_weights(2, 4, 3, 6), inputs.normal(2, 6, 3, 5)
    as_they_are = (
        "Weights are used as they are. A row need not sum to 1, where somebody switches a key off, "
        "and a weight may be below 0 or above 1."
    )
    equal = (
        "Where sizes are equal nothing stops a wrong order: a row of `weights` belongs to a query, "
        "and the sum runs over the keys."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    below = 2 * inputs.normal(2, 3, 4), inputs.normal(2, 4, 5)
    turned = _random_weights(2, 3, 4).mT, inputs.normal(2, 5, 3).mT
    return [
        case("two queries, three values", small, values),
        case("a batch of sentences", *two(2, 3, 4, width=5)),
        case("more queries", *two(3, 6, 2, width=4)),
        case("a key is switched off: rows no longer sum to 1", switched_off, values, as_they_are),
        case("weights below 0 and above 1", *below, as_they_are),
        case("a batch with heads", *two(2, 3, 4, 6, width=5), shared.ANY_AXES),
        case("no batch at all", *two(3, 4, width=5), shared.ANY_AXES),
        case("as many queries, keys, features", *two(2, 4, 4, width=4), equal),
        case("one sentence", *two(1, 3, 4, width=5), of_one),
        case("one query", *two(2, 1, 4, width=5), of_one),
        case("one key", *two(2, 4, 1, width=5), of_one),
        case("values of one feature", *two(2, 4, 3, width=1), of_one),
        case(
            "heads as `split_heads` leaves them",
            split[0].transpose(1, 2),
            split[1].transpose(1, 2),
            points.OTHER_ORDER,
        ),
        case("transposed views", *turned, points.OTHER_ORDER),
        case("float64", *two(2, 3, 4, width=5, dtype=torch.float64), dtypes),
        case("bfloat16", *two(2, 3, 4, width=5, dtype=torch.bfloat16), dtypes),
    ]


@exercise.mistake(
    "You turn the weights round, so each query uses what the others gave to its own token. "
    "Rows of `weights` belong to queries: use it as it is."
)
def weights_transposed(weights: Tensor, value: Tensor) -> Tensor:
    return weights.mT @ value


@exercise.mistake(
    "You add up the values and never use the weights, so every query gets the same. "
    "Multiply each value by the query's weight for it."
)
def sum_instead_of_weighted(weights: Tensor, value: Tensor) -> Tensor:
    return value.sum(-2, keepdim=True).expand(*weights.shape[:-1], value.shape[-1])


@exercise.mistake(
    "You average the values and never use the weights, so every query gets the same. "
    "Multiply each value by the query's weight for it, then add."
)
def mean_instead_of_weighted(weights: Tensor, value: Tensor) -> Tensor:
    return value.mean(-2, keepdim=True).expand(*weights.shape[:-1], value.shape[-1])


@exercise.mistake(
    "`*` multiplies number by number and adds nothing up. Use the matrix product `@`."
)
def elementwise_star(weights: Tensor, value: Tensor) -> Tensor:
    return weights * value


@exercise.mistake(
    "You divide the weights by their sum. They are already what they should be, and when "
    "somebody switches a key off to see what happens, your division would undo it."
)
def normalises_again(weights: Tensor, value: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True) @ value


@exercise.mistake(
    "You cut the weights off at 0 and 1. Use them as they are: somebody may subtract what one head "
    "does, with weights below 0."
)
def weights_cut_off(weights: Tensor, value: Tensor) -> Tensor:
    return weights.clamp(0, 1) @ value


@exercise.mistake(
    "You take the softmax of the weights, which are already the result of a softmax. A "
    "second one makes them nearly equal. Use the weights as they are."
)
def softmax_again(weights: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(weights, -1) @ value


@exercise.mistake(
    "You fetch the value with the largest weight and drop the rest. No gradient reaches "
    "the weights that way, so nothing learns where to look. Mix all the values."
)
def only_the_largest(weights: Tensor, value: Tensor) -> Tensor:
    chosen = F.one_hot(weights.argmax(-1), weights.shape[-1])
    return chosen.to(value.dtype) @ value


@exercise.mistake(
    "You turn the values round, so weights for tokens meet features. The sizes already "
    "fit: [query, key] times [key, d_value]."
)
def value_transposed(weights: Tensor, value: Tensor) -> Tensor:
    return weights @ value.mT


@exercise.mistake(
    "`torch.bmm` takes three axes, no more and no less. With heads there are four: `@` takes any "
    "number."
)
def three_axes_only(weights: Tensor, value: Tensor) -> Tensor:
    return torch.bmm(weights, value)


@exercise.mistake(
    "You average over the keys, so every number is too small by their number. The weights are the "
    "shares already: add up."
)
def averages_over_keys(weights: Tensor, value: Tensor) -> Tensor:
    return weights @ value / value.shape[-2]


@exercise.mistake(
    "Your result has a row for every key, as `value` has. It should have one for every query: take "
    "its shape from `weights`, and only its width from `value`."
)
def a_row_for_every_key(weights: Tensor, value: Tensor) -> Tensor:
    mixed = torch.zeros_like(value)
    mixed[..., : weights.shape[-2], :] = weights @ value
    return mixed


@exercise.alternative
def mixed_by_broadcasting(weights: Tensor, value: Tensor) -> Tensor:
    return (weights.unsqueeze(-1) * value.unsqueeze(-3)).sum(-2)


@exercise.alternative
def mixed_key_by_key(weights: Tensor, value: Tensor) -> Tensor:
    pairs = zip(weights.split(1, -1), value.split(1, -2), strict=True)
    return torch.stack([weight * one for weight, one in pairs]).sum(0)
