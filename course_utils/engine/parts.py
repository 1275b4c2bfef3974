"""The parts of the course: the references that the package ships, and the versions in use."""

import ast
import inspect
from functools import cache
from importlib import import_module
from typing import Any

from course_utils import exercises


@cache
def references() -> dict[str, Any]:
    """The reference of every part, read once, before any learner's version is installed."""
    homes = {part: home(part) for part in exercises.PARTS}
    return {part: shipped(module)[name] for part, (module, name) in homes.items()}


@cache
def shipped(module_name: str) -> dict[str, Any]:
    """What a module of the course held before any learner's version was installed."""
    return dict(vars(import_module(module_name)))


def is_part(name: Any) -> bool:
    """Whether the course has a part of this name."""
    return name in exercises.PARTS


def home(part: str) -> tuple[str, str]:
    """The module of a part, and its name there. An unknown part is a KeyError that lists them."""
    exercises.known(part)
    module, name = part.split(".")
    return f"course_utils.{module}", name


def reference(part: str) -> Any:
    """The version of a part that the package ships."""
    exercises.known(part)
    return references()[part]


def in_use(part: str) -> Any:
    """The version of a part that the package uses now: the learner's, or else the reference."""
    module, name = home(part)
    return getattr(import_module(module), name)


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
    return vars(import_module(home(part)[0]))
