"""projection.batched_shapes: what the shape of a product will be."""

from collections.abc import Sequence

import torch

from course_utils.exercises.exercise import Case, Exercise

Shape = Sequence[int]

exercise = Exercise(
    "projection.batched_shapes",
    used_by="the questions about shapes in this notebook",
    hints=(
        "Cut each shape in two: its last two axes are a matrix, everything before them counts "
        "copies of matrices. `*batch, rows, inner = shape` does it in one line.",
        "The matrices: [rows, inner] @ [inner, columns] gives [rows, columns]. Where the two inner "
        "sizes differ, return None.",
        "The batch axes: write one shape below the other, right-aligned, and fill the shorter one "
        "with 1 on the left.",
        "Two sizes of a batch axis fit if they are equal or if one of them is 1. The result has "
        "the one that is not 1. `zip` walks over both at once.",
    ),
)


def _shape_of_product(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    try:
        return tuple((torch.empty(shape_a) @ torch.empty(shape_b)).shape)
    except RuntimeError:
        return None


@exercise.cases
def cases() -> list[Case]:
    pairs: dict[str, tuple[Shape, Shape]] = {
        "two matrices": ((2, 3), (3, 4)),
        "two matrices that do not fit": ((2, 3), (4, 3)),
        "a batch of each": ((5, 2, 3), (5, 3, 4)),
        "a batch and a single matrix": ((5, 2, 3), (3, 4)),
        "a single matrix and a batch": ((2, 3), (5, 3, 4)),
        "batches of different sizes": ((5, 2, 3), (6, 3, 4)),
        "the inner sizes do not fit": ((5, 2, 3), (5, 2, 4)),
        "a batch of one": ((1, 2, 3), (5, 3, 4)),
        "the second batch is one": ((5, 2, 3), (1, 3, 4)),
        "both batches are one": ((1, 2, 3), (1, 3, 4)),
        "an empty batch and a batch of one": ((0, 2, 3), (1, 3, 4)),
        "a batch of one and an empty batch": ((1, 2, 3), (0, 3, 4)),
        "a batch of two is not repeated": ((2, 5, 3), (4, 3, 6)),
        "nor is it in the other one": ((6, 5, 3), (2, 3, 4)),
        "batches with heads": ((6, 5, 2, 3), (6, 5, 3, 4)),
        "each is repeated along another axis": ((6, 1, 2, 3), (1, 5, 3, 4)),
        "batch axes are aligned from the right": ((6, 5, 2, 3), (5, 3, 4)),
        "aligned from the left they would fit": ((6, 5, 2, 3), (6, 3, 4)),
        "only one of two batch axes fits": ((6, 5, 2, 3), (6, 7, 3, 4)),
        "only the last batch axis fits": ((7, 5, 2, 3), (6, 5, 3, 4)),
        "three batch axes and one": ((7, 1, 5, 2, 3), (6, 1, 3, 4)),
        "no repeating inside the product": ((5, 2, 1), (5, 3, 4)),
        "nor in the other one": ((2, 3), (1, 4)),
        "row times column": ((1, 3), (3, 1)),
        "column times row": ((4, 1), (1, 2)),
        "equal shapes": ((4, 4), (4, 4)),
        "two shapes of tensors": (torch.Size((8, 2, 3)), torch.Size((8, 3, 5))),
        "two lists": ([6, 1, 2, 3], [5, 3, 4]),
        "a list and a tuple": ([5, 2, 3], (5, 3, 4)),
        "a tuple and a list": ((2, 3), [5, 3, 4]),
    }
    return [
        Case(
            title,
            {"shape_a": a, "shape_b": b},
            _shape_of_product,
            shown=f"batched_shapes({_written(a)}, {_written(b)})",
        )
        for title, (a, b) in pairs.items()
    ]


def _written(shape: Shape) -> str:
    return str(shape if isinstance(shape, list) else tuple(shape))


def _broadcast(a: Shape, b: Shape) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(tuple(a), tuple(b)))
    except RuntimeError:
        return None


def _product(batch: Shape | None, shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    """The last two axes of the product behind these batch axes."""
    if batch is None or shape_a[-1] != shape_b[-2]:
        return None
    return (*batch, shape_a[-2], shape_b[-1])


def _aligned(shape_a: Shape, shape_b: Shape) -> list[tuple[int, int]]:
    """The batch axes of both, filled with 1 on the left."""
    length = max(len(shape_a), len(shape_b)) - 2
    batches = [[1] * (length + 2 - len(shape)) + list(shape[:-2]) for shape in (shape_a, shape_b)]
    return list(zip(*batches, strict=True))


@exercise.mistake(
    "You multiply the first two axes. `@` multiplies the last two; the axes before them "
    "count matrices."
)
def multiplies_first_axes(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[1] != shape_b[0]:
        return None
    return (shape_a[0], shape_b[1], *shape_a[2:])


@exercise.mistake(
    "You demand equal batch axes. An axis of size 1, or one that is missing on the left, "
    "is repeated to fit."
)
def no_broadcast(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    same = tuple(shape_a[:-2]) == tuple(shape_b[:-2])
    return _product(shape_a[:-2] if same else None, shape_a, shape_b)


@exercise.mistake(
    "You use the rule of `*`, where all axes are aligned. In `A @ B` the last two axes are "
    "multiplied as matrices; only those before them follow that rule."
)
def elementwise_rule(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _broadcast(shape_a, shape_b)


@exercise.mistake(
    "You never compare the inner sizes: the last of A and the last but one of B must be equal."
)
def inner_sizes_not_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    batch = _broadcast(shape_a[:-2], shape_b[:-2])
    return None if batch is None else (*batch, shape_a[-2], shape_b[-1])


@exercise.mistake(
    "You compare the last axis of both shapes, as for A Bᵀ. The last axis of A meets the "
    "last but one of B."
)
def last_axes_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    *batch_b, rows, inner = shape_b
    return batched_shapes_by_broadcast_shapes(shape_a, (*batch_b, inner, rows))


@exercise.mistake(
    "You align the batch axes from the left. They are aligned from the right, and missing "
    "ones are added on the left."
)
def aligned_from_the_left(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    length = max(len(shape_a), len(shape_b)) - 2
    batches = ((*shape[:-2], *[1] * length)[:length] for shape in (shape_a, shape_b))
    return _product(_broadcast(*batches), shape_a, shape_b)


@exercise.mistake("You take the batch axes from A alone. B can have more of them, or larger ones.")
def batch_of_the_first(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _product(shape_a[:-2], shape_a, shape_b)


@exercise.mistake("You return the matrix's two axes alone. The batch axes come before them.")
def batch_forgotten(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _product((), shape_a, shape_b)


@exercise.mistake(
    "You take the larger of two batch sizes without asking whether they fit. Sizes 5 and 6 "
    "do not: only 1 is repeated."
)
def batches_not_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _product([max(sizes) for sizes in _aligned(shape_a, shape_b)], shape_a, shape_b)


@exercise.mistake(
    "You take the larger of two batch sizes. Beside an axis of size 0 the 1 is larger, but it is "
    "the 1 that gives way: take the size that is not 1."
)
def larger_than_nothing(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    sizes = _aligned(shape_a, shape_b)
    fits = all(a == b or 1 in (a, b) for a, b in sizes)
    return _product([max(pair) for pair in sizes] if fits else None, shape_a, shape_b)


@exercise.mistake(
    "You repeat a batch axis of 2 to fit one of 4, since 2 divides 4. Only an axis of size 1 is "
    "repeated."
)
def repeats_what_divides(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    sizes = _aligned(shape_a, shape_b)
    fits = all(max(pair) % min(pair) == 0 for pair in sizes)
    return _product([max(pair) for pair in sizes] if fits else None, shape_a, shape_b)


@exercise.mistake(
    "Your code stops with an error where the product does not exist. Return None there."
)
def error_instead_of_none(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return tuple((torch.empty(shape_a) @ torch.empty(shape_b)).shape)


@exercise.mistake(
    "Your code works for tuples, but a shape may be a list as well, and Python does not add the "
    "two. Begin with `tuple(...)`, or unpack with `*`."
)
def needs_tuples(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    length = max(len(shape_a), len(shape_b))
    ones = ((1,) * (length - len(shape)) + shape[:-2] for shape in (shape_a, shape_b))  # type: ignore[operator]
    return _product(_broadcast(*ones), shape_a, shape_b)


@exercise.alternative
def batched_shapes_on_meta(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    """Tensors on the device "meta" have a shape and no numbers."""
    a, b = (torch.empty(shape, device="meta") for shape in (shape_a, shape_b))
    try:
        return (a @ b).shape
    except RuntimeError:
        return None


@exercise.alternative
def batched_shapes_by_broadcast_shapes(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _product(_broadcast(shape_a[:-2], shape_b[:-2]), shape_a, shape_b)


@exercise.alternative
def batched_shapes_from_the_right(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[-1] != shape_b[-2]:
        return None
    result = [shape_a[-2], shape_b[-1]]
    for axis in range(3, max(len(shape_a), len(shape_b)) + 1):
        size_a = shape_a[-axis] if axis <= len(shape_a) else 1
        size_b = shape_b[-axis] if axis <= len(shape_b) else 1
        if 1 not in (size_a, size_b) and size_a != size_b:
            return None
        result.insert(0, size_b if size_a == 1 else size_a)
    return tuple(result)
