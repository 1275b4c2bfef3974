"""The parts of the course: the references that the package ships, and the versions in use."""

import ast
import inspect
import sys
from functools import cache
from importlib import import_module
from typing import Any

from course_utils import exercises


@cache
def references() -> dict[str, Any]:
    """The reference of every part, read once, before any learner's version is installed."""
    modules = {one.part: import_module(one.module_name) for one in exercises.all_exercises()}
    return {part: shipped(module.__name__)[part.split(".")[1]] for part, module in modules.items()}


@cache
def shipped(module_name: str) -> dict[str, Any]:
    """What a module of the course held before any learner's version was installed."""
    return dict(vars(sys.modules[module_name]))


def is_part(name: Any) -> bool:
    """Whether the course has a part of this name."""
    return name in {exercise.part for exercise in exercises.all_exercises()}


def reference(part: str) -> Any:
    """The version of a part that the package ships."""
    exercises.find(part)  # an unknown name is an error that lists the names
    return references()[part]


def in_use(part: str) -> Any:
    """The version of a part that the package uses now: the learner's, or else the reference."""
    exercise = exercises.find(part)
    return getattr(import_module(exercise.module_name), exercise.name)


def is_yours(part: str) -> bool:
    """Whether the learner's version of a part is in use."""
    return in_use(part) is not reference(part)


def reference_source(part: str) -> str:
    """Source of the reference: the solution that is shown."""
    return inspect.getsource(reference(part))


def blank(part: str) -> str:
    """The exercise as it is given: the reference with its body left to write.

    Of a class it is the first method after `__init__`, such as `forward`.
    """
    source = reference_source(part)
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    if isinstance(definition, ast.ClassDef):
        methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
        definition = next(method for method in methods if method.name != "__init__")
    docstring, *body = definition.body
    lines = source.split("\n")
    indent = " " * docstring.col_offset
    kept = lines[: docstring.end_lineno]
    rest = lines[body[-1].end_lineno :]
    return "\n".join([*kept, f'{indent}raise NotImplementedError("your turn")', *rest]) + "\n"


def namespace(part: str) -> dict[str, Any]:
    """The namespace of the module that a part belongs to."""
    return vars(sys.modules[exercises.find(part).module_name])
