"""The names that a part takes from outside of its cell, and the imports that it needs for them."""

import ast
import builtins
import dis
import inspect
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

from course_utils.engine.source import CellProblem, PartSource

USUAL_IMPORTS = {
    "F": "from torch.nn import functional as F",
    "einops": "import einops",
    "math": "import math",
    "nn": "from torch import nn",
    "np": "import numpy as np",
    "rearrange": "from einops import rearrange",
    "Tensor": "from torch import Tensor",
    "torch": "import torch",
}

NOTEBOOK_ONLY = ("display", "get_ipython")
"""Names that are builtins in a notebook, but not where a saved part is used."""


def with_imports(
    source: PartSource, namespace: Mapping[str, Any], notebook: Mapping[str, Any]
) -> PartSource:
    """The source with the imports of names that the notebook knows, but not the part's module.

    A CellProblem says which name is defined where a saved part cannot find it.
    """
    statements = [
        statement
        for name in sorted(_globals(compile(source.in_cell, "cell", "exec")))
        if name not in namespace and name not in source.names
        for statement in _found(name, source, notebook)
    ]
    return source.importing(statements) if statements else source


def _found(name: str, source: PartSource, notebook: Mapping[str, Any]) -> list[str]:
    """The import that gives a part a name, if it needs one."""
    module, own = source.part.split(".")
    if name in NOTEBOOK_ONLY:
        raise CellProblem(
            f"Your code uses `{name}`, which only notebooks have. To look at a value, use "
            "`print`: this panel shows what is printed."
        )
    if hasattr(builtins, name) or name in (own, "exit", "quit"):  # IPython has its own exit
        return []
    if name == module:
        raise CellProblem(_own_module(module, own, _attributes_of(name, source.in_cell)))
    statement = _import_of(name, notebook.get(name))
    if not statement and name in notebook:
        raise CellProblem(
            f"Your code uses `{name}`, defined in another cell. Move it into this one: a part "
            "takes along what its own cell defines, and nothing else."
        )
    return [statement] if statement else []


def _own_module(module: str, own: str, used: list[str]) -> str:
    """The sentence for code that uses the module whose part it becomes."""
    if own in used:
        return (
            f"Your code uses `{module}.{own}`, which is what you are writing: it would call itself "
            "for ever. Write out what it does."
        )
    if not used:
        return f"Your code uses `{module}`, and becomes part of `{module}` itself."
    return (
        f"Your code uses `{module}.{used[0]}`. It becomes part of `{module}` itself: "
        f"write `{used[0]}` alone."
    )


def _globals(code: CodeType) -> set[str]:
    """Names that compiled code looks up outside its own functions."""
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    class_names = {"__name__", "__module__", "__qualname__"}
    local = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_NAME"
    }
    return (names | {name for one in inner for name in _globals(one)}) - class_names - local


def _attributes_of(name: str, text: str) -> list[str]:
    """The attributes of `name` that a source uses."""
    return [
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    ]


def _import_of(name: str, value: Any) -> str:
    """The import statement that gives `name` the value it has in the notebook."""
    if isinstance(value, ModuleType):
        full = value.__name__
        return f"import {full}" if full == name else f"import {full} as {name}"
    home = getattr(value, "__module__", None)
    if (
        isinstance(home, str)
        and home not in ("__main__", "builtins")
        and hasattr(value, "__name__")
    ):
        return f"from {home} import {name}" if inspect.getmodule(value) else ""
    return USUAL_IMPORTS.get(name, "") if value is None else ""
