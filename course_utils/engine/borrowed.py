"""Whether a version of a part leans on the one that it should replace."""

import inspect
import sys
from types import FrameType
from typing import Any

from course_utils.engine import parts
from course_utils.engine.observing import observe
from course_utils.exercises import Exercise
from course_utils.exercises.exercise import Part


def inherits(part: str, version: Any) -> bool:
    """Whether a version is the reference itself, or a class that inherits from it."""
    reference = parts.reference(part)
    return version is reference or (
        inspect.isclass(version) and inspect.isclass(reference) and issubclass(version, reference)
    )


def calls(exercise: Exercise, version: Part) -> bool:
    """Whether a version calls the reference in the first case, by whatever name it reaches it."""
    reference = parts.reference(exercise.part)
    functions = list(vars(reference).values()) if inspect.isclass(reference) else [reference]
    watched = {inspect.unwrap(one).__code__ for one in functions if inspect.isfunction(one)}
    seen = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen.append(frame.f_code)

    sys.setprofile(note)
    try:
        observe(version, exercise.make_cases()[0])
    finally:
        sys.setprofile(None)
    return any(code is one for one in watched for code in seen)
