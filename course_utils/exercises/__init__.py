"""The exercises, one module per notebook, in the order of the course."""

from functools import cache
from importlib import import_module

from course_utils.exercises.exercise import Case, Exercise, Mistake, Wrong

NOTEBOOKS = (
    "start_here",
    "projection",
    "queries_keys_values",
    "softmax_scaling",
    "positional_encoding",
    "encoder",
    "decoder",
    "training",
    "sampling",
    "scaling",
)


@cache
def all_exercises() -> tuple[Exercise, ...]:
    """Every exercise of the course, in order."""
    modules = [import_module(f"course_utils.exercises.{name}") for name in NOTEBOOKS]
    return tuple(exercise for module in modules for exercise in module.EXERCISES)


def find(part: str) -> Exercise:
    """The exercise of a part such as "attention.softmax". An unknown name is a KeyError."""
    for exercise in all_exercises():
        if exercise.part == part:
            return exercise
    known = ", ".join(exercise.part for exercise in all_exercises())
    raise KeyError(f"there is no part {part!r}. The parts are: {known}")


__all__ = ["Case", "Exercise", "Mistake", "Wrong", "all_exercises", "find"]
