"""start_here.shape_of: the sizes of three axes."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises import points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "start_here.shape_of",
    used_by="no other part. It is here so that you can see how exercises work",
    hints=(
        "Every tensor knows its sizes. Look for the attribute that holds them: try `x.shape` in a "
        "cell of its own.",
        "`x.shape` has one entry for each axis. You can unpack it like a tuple: "
        "`first, second, third = ...`",
        "The order is batch, tokens, d_model. Return the three numbers with commas between them: "
        "that makes a tuple.",
    ),
)


def _known(sizes: tuple[int, ...]) -> Callable[[Tensor], tuple[int, ...]]:
    """The oracle: we made the tensor, so we know its sizes."""
    return lambda x: sizes


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, *sizes: int, point: str = "") -> Case:
        return Case(title, {"x": x}, _known(sizes), point=point)

    counted = torch.arange(24.0).reshape(2, 3, 4)
    as_it_is = (
        "The sizes are those of the axes as they are now. How the numbers lie in memory (`stride`, "
        "`data_ptr`) does not say them."
    )
    empty = (
        "An axis may be empty: its size is then 0, and there is no first token to look at. "
        "`x.shape` says so."
    )
    any_dtype = "Sizes do not depend on the dtype. NumPy, for one, knows no bfloat16."
    return [
        case("2 sequences of 3 tokens with 4 features", counted, 2, 3, 4),
        case("other sizes", torch.zeros(7, 2, 5), 7, 2, 5),
        case("more tokens than sequences", torch.zeros(3, 9, 2), 3, 9, 2),
        case("the first two axes swapped", counted.transpose(0, 1), 3, 2, 4, point=as_it_is),
        case("every other feature", counted[..., ::2], 2, 3, 2, point=as_it_is),
        case("one sequence of one token", torch.zeros(1, 1, 6), 1, 1, 6, point=points.AXIS_OF_ONE),
        case("one feature", torch.zeros(3, 4, 1), 3, 4, 1, point=points.AXIS_OF_ONE),
        case("no tokens", torch.zeros(2, 0, 3), 2, 0, 3, point=empty),
        case("bfloat16", torch.zeros(4, 6, 3).bfloat16(), 4, 6, 3, point=any_dtype),
    ]


@exercise.holds
def _plain_integers(part: Part) -> None:
    kinds = {type(size).__name__ for size in part(torch.zeros(2, 3, 4))}
    if kinds != {"int"}:
        raise Wrong(
            f"Your sizes are right, but of the type {', '.join(sorted(kinds))}. `x.shape` has "
            "plain Python integers already: use them as they are."
        )


@exercise.mistake(
    "Your first two numbers are swapped. Axis 0 counts the sequences (batch), axis 1 the "
    "tokens of each: batch first."
)
def swapped_batch_time(x: Tensor) -> tuple:
    return x.shape[1], x.shape[0], x.shape[2]


@exercise.mistake(
    "You return how many numbers the tensor holds in all. Return the size of each axis."
)
def returns_numel(x: Tensor) -> int:
    return x.numel()


@exercise.mistake(
    "Your sizes are right, but they are in a tensor. Sizes are plain Python integers: "
    "return them as a tuple, without `torch.tensor`."
)
def returns_tensor_not_tuple(x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


@exercise.mistake(
    "You return a tuple, but each of its entries is a tensor. `x.shape` has plain integers "
    "already: use them as they are."
)
def tuple_of_tensors(x: Tensor) -> tuple:
    return tuple(torch.tensor(x.shape))


@exercise.mistake(
    "Your sizes are right, but they are in a list. A shape is a tuple: use round brackets, "
    "or `tuple(...)`."
)
def returns_list(x: Tensor) -> list:
    return list(x.shape)


@exercise.mistake("You return how many axes the tensor has. Return how long each of them is.")
def number_of_axes(x: Tensor) -> int:
    return x.ndim


@exercise.mistake("`len` gives the size of the first axis alone. Return all three sizes.")
def only_the_length(x: Tensor) -> int:
    return len(x)


@exercise.mistake("You return tokens and d_model only. The batch, axis 0, comes before them.")
def batch_left_out(x: Tensor) -> tuple:
    return tuple(x.shape[1:])


@exercise.mistake(
    "Your sizes run from the last axis to the first. Return them in the order of the axes: "
    "batch, tokens, d_model."
)
def backwards(x: Tensor) -> tuple:
    return tuple(reversed(x.shape))


@exercise.mistake(
    "You return the sizes of the example in the docstring, whatever `x` is. Ask `x` itself."
)
def sizes_of_the_example(x: Tensor) -> tuple:
    return 2, 4, 8


@exercise.alternative
def by_index(x: Tensor) -> tuple:
    return x.shape[0], x.shape[1], x.shape[2]


@exercise.alternative
def by_size(x: Tensor) -> tuple:
    return tuple(x.size(axis) for axis in range(x.dim()))


@exercise.alternative
def torch_size(x: Tensor) -> tuple:
    return x.shape


@exercise.alternative
def by_counting(x: Tensor) -> tuple:
    return len(x), len(x[0]), len(x.mT[0])
