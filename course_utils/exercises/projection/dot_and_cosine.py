"""projection.dot_and_cosine: how much, and how well, two vectors point the same way."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "projection.dot_and_cosine",
    used_by="the pictures of this notebook. A dot product of every row with every row is also what "
    "attention starts with",
    hints=(
        "All dot products at once are one matrix product: `a @ b.T` has a row for every vector of "
        "`a` and a column for every vector of `b`.",
        "The cosine is the dot product divided by both lengths. `a.norm(dim=-1)` gives one length "
        "for every vector of `a`.",
        "You need a table with the product of every length of `a` and every length of `b`: "
        "`torch.outer(lengths_a, lengths_b)`, or `lengths_a[:, None] * lengths_b`.",
        "A vector of zeros has length 0, and 0 / 0 is NaN. Let the divisor not get smaller than a "
        "tiny number: `.clamp_min(1e-8)`.",
    ),
)


def _dot_and_cosine_by_torch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.einsum("nd,md->nm", a, b), F.cosine_similarity(a[:, None], b[None], dim=-1)


def _dot_and_cosine_by_numpy(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = a.detach().numpy(), b.detach().numpy()
    dots = np.inner(rows, columns)
    lengths = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
    cosines = dots / np.maximum(lengths, 1e-8)
    return torch.from_numpy(dots), torch.from_numpy(cosines)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        a: Tensor,
        b: Tensor,
        oracle: Callable = _dot_and_cosine_by_torch,
        point: str = "",
    ) -> Case:
        return Case(title, {"a": a, "b": b}, oracle, point=point)

    def two(*size: int, others: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        more = (others, *size[1:])
        return inputs.normal(*size, dtype=dtype), inputs.normal(*more, seed=1, dtype=dtype)

    short = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    long = torch.tensor([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, -5.0], [1.0, 2.0, 2.0]])
    zeros = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    tiny = torch.tensor([[3e-10, 4e-10, 0.0]])  # against length 1: a guard for each length will do
    small_a, small_b = two(4, 6, others=3)
    tall_a, tall_b = two(6, 3, others=6)
    double_a, double_b = two(4, 3, others=2, dtype=torch.float64)
    equal = (
        "As many vectors in `a` as in `b`: still every row meets every column, and a length of `a` "
        "belongs to a row of the table, a length of `b` to a column."
    )
    floor = (
        "A product of lengths below 1e-8 counts as 1e-8, and every other product is used as it is: "
        "the floor is a smallest divisor. With a vector of zeros the cosine is 0, not 0 / 0."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    # At a vector of zeros the cosine has no gradient to compare, so NumPy is the oracle there.
    by_numpy = _dot_and_cosine_by_numpy
    return [
        case("two vectors against four", short, long),
        case("longer vectors", 3 * small_a, 3 * small_b),
        case("five vectors against two", *two(5, 4, others=2)),
        case("three vectors against three", *two(3, 4, others=3), point=equal),
        case("one vector against three", *two(1, 5, others=3), point=of_one),
        case("three vectors against one", *two(3, 5, others=1), point=of_one),
        case("vectors of a single number", *two(3, 1, others=2), point=of_one),
        case("a vector of zeros", zeros, long, by_numpy, floor),
        case("a vector that is almost zero", tiny, F.normalize(long), by_numpy, floor),
        case("nothing but zeros", zeros, torch.zeros(2, 3), by_numpy, floor),
        case("short vectors", 0.1 * small_a, 0.1 * small_b, point=floor),
        case("transposed views", tall_a.T, tall_b.T, point=points.OTHER_ORDER),
        case("float64", 100 * double_a, 100 * double_b, point=dtypes),
        case("bfloat16", *two(2, 4, others=3, dtype=torch.bfloat16), point=dtypes),
    ]


def _safe(dots: Tensor, lengths: Tensor) -> Tensor:
    return dots / lengths.clamp_min(1e-8)


@exercise.mistake(
    "`*` multiplies numbers that stand in the same place; it is not a matrix product. Use "
    "`@`, with `b` transposed."
)
def elementwise_star(a: Tensor, b: Tensor) -> tuple:
    dots = a * b
    return dots, _safe(dots, a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))


@exercise.mistake(
    "You multiply row 0 of `a` with row 0 of `b`, row 1 with row 1. Every row of `a` "
    "should meet every row of `b`: `a @ b.T`."
)
def row_with_row(a: Tensor, b: Tensor) -> tuple:
    dots = (a * b).sum(-1)
    return dots, _safe(dots, a.norm(dim=-1) * b.norm(dim=-1))


@exercise.mistake(
    "Your cosines are still the dot products. Divide them by the lengths of both vectors."
)
def dot_called_cosine(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, dots


@exercise.mistake(
    "You take lengths along axis 0, so you measure one feature across all vectors. A "
    "vector is a row: take the norm along the last axis, `dim=-1`."
)
def norm_over_wrong_axis(a: Tensor, b: Tensor) -> tuple:
    return a @ b.T, _safe(a, a.norm(dim=0)) @ _safe(b, b.norm(dim=0)).T


@exercise.mistake(
    "`norm()` without `dim` gives one length for the whole matrix. Each vector has a "
    "length of its own: `dim=-1`."
)
def norm_of_everything(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.norm() * b.norm())


@exercise.mistake(
    "`norm()` without `dim` gives one length for all vectors of `b`. Each vector has a length of "
    "its own: `dim=-1`."
)
def norm_of_all_of_b(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.norm(dim=-1, keepdim=True) * b.norm())


@exercise.mistake("You divide by the lengths of `a` only. Divide by the lengths of `b` as well.")
def only_first_length(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.norm(dim=-1, keepdim=True))


@exercise.mistake(
    "You divide by the squares of the lengths. The length is the square root of the sum of squares."
)
def squared_lengths(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, (a * a).sum(-1)[:, None] * (b * b).sum(-1))


@exercise.mistake(
    "You add up absolute values. The length is the root of the sum of squares, as Pythagoras says: "
    "`a.norm(dim=-1)`."
)
def sums_of_absolute_values(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.abs().sum(-1)[:, None] * b.abs().sum(-1))


def _lengths(a: Tensor, b: Tensor) -> Tensor:
    return a.norm(dim=-1)[:, None] * b.norm(dim=-1)


@exercise.mistake(
    "With a vector of zeros you divide 0 by 0, which is NaN. Keep the divisor above zero, "
    "or put 0 there."
)
def zero_vector_gives_nan(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, dots / _lengths(a, b)


@exercise.mistake(
    "Both tables are right, but you return them the wrong way round: dot products first, "
    "then cosines."
)
def returned_the_wrong_way_round(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return _safe(dots, _lengths(a, b)), dots


@exercise.mistake(
    "Your tables are transposed. Vectors of `a` go down the rows, vectors of `b` along the "
    "columns: `a @ b.T`."
)
def rows_and_columns_swapped(a: Tensor, b: Tensor) -> tuple:
    dots = b @ a.T
    return dots, _safe(dots, _lengths(b, a))


@exercise.mistake("You return the cosines alone. Return two tables: dot products, then cosines.")
def only_cosine(a: Tensor, b: Tensor) -> Tensor:
    return _safe(a @ b.T, _lengths(a, b))


@exercise.mistake(
    "You add 1e-8 to every product of lengths, so cosines of short vectors come out too small. It "
    "is the smallest divisor that is allowed: `.clamp_min(1e-8)`."
)
def epsilon_added(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, dots / (_lengths(a, b) + 1e-8)


@exercise.mistake(
    "You guard against zeros, but hardly against lengths that are almost 0. A product of lengths "
    "below 1e-8 counts as 1e-8: `.clamp_min(1e-8)`. The guard of `F.normalize` is 1e-12."
)
def tiny_lengths_not_guarded(a: Tensor, b: Tensor) -> tuple:
    return a @ b.T, F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


@exercise.mistake(
    "Your values are right, but the lengths are cut off from the vectors: no gradient flows "
    "through them. `.item()`, `.detach()`, `torch.tensor(…)` and `no_grad` cut. Let the lengths "
    "stay the tensors that `norm` gives."
)
def lengths_cut_off(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, _lengths(a, b).detach())


@exercise.alternative
def dot_and_cosine_with_maximum(a: Tensor, b: Tensor) -> tuple:
    dots = (a[:, None] * b).sum(-1)
    length_a, length_b = a.square().sum(-1).sqrt(), b.square().sum(-1).sqrt()
    lengths = torch.outer(length_a, length_b)
    return dots, dots / torch.maximum(lengths, torch.full_like(lengths, 1e-8))


@exercise.alternative
def dot_and_cosine_in_loops(a: Tensor, b: Tensor) -> tuple:
    dots = torch.stack([torch.stack([torch.dot(row, column) for column in b]) for row in a])
    cosines = [[F.cosine_similarity(row, column, dim=0) for column in b] for row in a]
    return dots, torch.stack([torch.stack(row) for row in cosines])


@exercise.alternative
def dot_and_cosine_with_where(a: Tensor, b: Tensor) -> tuple:
    dots = torch.einsum("id,jd->ij", a, b)
    lengths = torch.linalg.vector_norm(a, dim=1, keepdim=True) @ b.norm(dim=1, keepdim=True).T
    return dots, dots / torch.where(lengths < 1e-8, 1e-8, lengths)
