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

    Of a class these are the methods that its exercise names; if it names none, the first one after
    `__init__`, such as `forward`.
    """
    source = reference_source(part)
    lines = source.split("\n")
    for definition in reversed(_left_to_write(part, ast.parse(source).body[0])):
        docstring, *body = definition.body
        indent = " " * docstring.col_offset
        raises = f'{indent}raise NotImplementedError("your turn")'
        lines[docstring.end_lineno : body[-1].end_lineno] = [raises]
    return "\n".join(lines) + "\n"


def _left_to_write(part: str, definition: ast.stmt) -> list[ast.FunctionDef]:
    """The functions whose bodies the learner writes, from top to bottom."""
    if isinstance(definition, ast.FunctionDef):
        return [definition]
    assert isinstance(definition, ast.ClassDef)
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
    others = [method for method in methods if method.name != "__init__"]
    named = exercises.find(part).methods or (others[0].name,)
    return [method for method in methods if method.name in named]


def namespace(part: str) -> dict[str, Any]:
    """The namespace of the module that a part belongs to."""
    return vars(import_module(home(part)[0]))
