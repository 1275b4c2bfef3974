"""The exercises: a contents page, and one file a part, which is read when it is needed."""

from importlib import import_module

from course_utils.exercises.contents import PARTS, RETIRED, notebook_of
from course_utils.exercises.exercise import Case, Exercise, Mistake, Wrong


def find(part: str) -> Exercise:
    """The exercise of a part such as "attention.softmax". An unknown name is a KeyError."""
    known(part)
    return import_module(f"course_utils.exercises.{part}").exercise


def known(part: str) -> None:
    """Raise a KeyError that lists the parts, where there is no part of this name."""
    if part not in PARTS:
        raise KeyError(f"there is no part {part!r}. The parts are: {', '.join(PARTS)}")


def all_exercises() -> tuple[Exercise, ...]:
    """Every exercise of the course, in order. This reads all their files."""
    return tuple(map(find, PARTS))


__all__ = [
    "PARTS",
    "RETIRED",
    "Case",
    "Exercise",
    "Mistake",
    "Wrong",
    "all_exercises",
    "find",
    "known",
    "notebook_of",
]
