"""Exercise of notebook 00: a warm-up, to see how exercises work."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Mistake

# --- shape_of ------------------------------------------------------------------------------------


def _known(sizes: tuple[int, ...]) -> Callable[[Tensor], tuple[int, ...]]:
    """The oracle: we made the tensor, so we know its sizes."""
    return lambda x: sizes


def _shape_of_cases() -> list[Case]:
    def case(title: str, x: Tensor, *sizes: int) -> Case:
        return Case(title, {"x": x}, _known(sizes))

    counted = torch.arange(24.0).reshape(2, 3, 4)
    return [
        case("2 sequences of 3 tokens with 4 features", counted, 2, 3, 4),
        case("other sizes", torch.zeros(7, 2, 5), 7, 2, 5),
        case("the first two axes swapped", counted.transpose(0, 1), 3, 2, 4),
        case("one sequence of one token", torch.zeros(1, 1, 6), 1, 1, 6),
        case("no tokens", torch.zeros(2, 0, 3), 2, 0, 3),
        case("bfloat16", torch.zeros(4, 6, 3, dtype=torch.bfloat16), 4, 6, 3),
    ]


def _swapped_batch_time(x: Tensor) -> tuple:
    return x.shape[1], x.shape[0], x.shape[2]


def _returns_numel(x: Tensor) -> int:
    return x.numel()


def _returns_tensor_not_tuple(x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


def _tuple_of_tensors(x: Tensor) -> tuple:
    return tuple(torch.tensor(x.shape))


def _returns_list(x: Tensor) -> list:
    return list(x.shape)


def _number_of_axes(x: Tensor) -> int:
    return x.ndim


def _only_the_length(x: Tensor) -> int:
    return len(x)


def _batch_left_out(x: Tensor) -> tuple:
    return tuple(x.shape[1:])


def _backwards(x: Tensor) -> tuple:
    return tuple(reversed(x.shape))


def _sizes_of_the_example(x: Tensor) -> tuple:
    return 2, 4, 8


def _by_index(x: Tensor) -> tuple:
    return x.shape[0], x.shape[1], x.shape[2]


def _by_size(x: Tensor) -> tuple:
    return tuple(x.size(axis) for axis in range(x.dim()))


def _torch_size(x: Tensor) -> tuple:
    return x.shape


def _by_counting(x: Tensor) -> tuple:
    return len(x), len(x[0]), len(x.mT[0])


SHAPE_OF = Exercise(
    part="start_here.shape_of",
    notebook="00",
    used_by="no other part. It is here so that you can see how exercises work",
    cases=_shape_of_cases,
    hints=(
        "Every tensor knows its sizes. Look for the attribute that holds them: try `x.shape` in a "
        "cell of its own.",
        "`x.shape` has one entry for each axis. You can unpack it like a tuple: "
        "`first, second, third = ...`",
        "The order is batch, tokens, d_model. Return the three numbers with commas between them: "
        "that makes a tuple.",
    ),
    mistakes=(
        Mistake(
            "swapped_batch_time",
            "Your first two numbers are swapped. Axis 0 counts the sequences (batch), axis 1 the "
            "tokens of each: batch first.",
            _swapped_batch_time,
        ),
        Mistake(
            "returns_numel",
            "You return how many numbers the tensor holds in all. Return the size of each axis.",
            _returns_numel,
        ),
        Mistake(
            "returns_tensor_not_tuple",
            "Your sizes are right, but they are in a tensor. Sizes are plain Python integers: "
            "return them as a tuple, without `torch.tensor`.",
            _returns_tensor_not_tuple,
        ),
        Mistake(
            "tuple_of_tensors",
            "You return a tuple, but each of its entries is a tensor. `x.shape` has plain integers "
            "already: use them as they are.",
            _tuple_of_tensors,
        ),
        Mistake(
            "returns_list",
            "Your sizes are right, but they are in a list. A shape is a tuple: use round brackets, "
            "or `tuple(...)`.",
            _returns_list,
        ),
        Mistake(
            "number_of_axes",
            "You return how many axes the tensor has. Return how long each of them is.",
            _number_of_axes,
        ),
        Mistake(
            "only_the_length",
            "`len` gives the size of the first axis alone. Return all three sizes.",
            _only_the_length,
        ),
        Mistake(
            "batch_left_out",
            "You return tokens and d_model only. The batch, axis 0, comes before them.",
            _batch_left_out,
        ),
        Mistake(
            "backwards",
            "Your sizes run from the last axis to the first. Return them in the order of the axes: "
            "batch, tokens, d_model.",
            _backwards,
        ),
        Mistake(
            "sizes_of_the_example",
            "You return the sizes of the example in the docstring, whatever `x` is. Ask `x` "
            "itself.",
            _sizes_of_the_example,
        ),
    ),
    alternatives=(_by_index, _by_size, _torch_size, _by_counting),
)

EXERCISES: tuple[Exercise, ...] = (SHAPE_OF,)
