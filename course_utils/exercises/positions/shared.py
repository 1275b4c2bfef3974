"""What the exercises of `course_utils.positions` share."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Part, Wrong


def frequencies(d_model: int, base: float) -> Tensor:
    return base ** (-torch.arange(0, d_model, 2) / d_model)


def case_of_numbers(
    name: str,
    oracle: Callable[..., Tensor],
    title: str,
    arguments: Mapping[str, float],
    point: str = "",
) -> Case:
    """A part that is given numbers, and shown with them."""
    shown = ", ".join(f"{one}={value:g}" for one, value in arguments.items())
    return Case(title, arguments, oracle, shown=f"{name}({shown})", point=point)


def gives_a_new_tensor(part: Part, *arguments: float) -> None:
    """Raise Wrong for a part that keeps its result and hands it out again."""
    first, second = part(*arguments), part(*arguments)
    if first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr():
        raise Wrong(
            "Your numbers are right, but two calls give the same tensor: whoever writes into one "
            "result changes the other. Make it anew at every call, or return a copy: `.clone()`."
        )
