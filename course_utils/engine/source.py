"""From the text of a notebook cell to the source of a part."""

import ast
import builtins
import dis
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

Definition = ast.FunctionDef | ast.ClassDef

USUAL_IMPORTS = {
    "F": "from torch.nn import functional as F",
    "einops": "import einops",
    "math": "import math",
    "nn": "from torch import nn",
    "np": "import numpy as np",
    "rearrange": "from einops import rearrange",
    "torch": "import torch",
}


class CellProblem(Exception):
    """What is wrong with a cell before any of it has run, as a sentence for the learner."""

    def __init__(self, sentence: str, line: int = 0, text: str = ""):
        super().__init__(sentence)
        self.line, self.text = line, text


@dataclass(frozen=True)
class PartSource:
    """The definition of a part and of all that it uses from its cell.

    `in_cell` has the cell's line numbers (what is left out is blank), `text` has no gaps, and
    `names` are the names that the source binds beside the part's own.
    """

    part: str
    in_cell: str
    text: str
    names: frozenset[str]
    unfinished: bool


def part_source(cell: str, part: str) -> PartSource:
    """Keep the part of a cell that defines `part`. A CellProblem says why it cannot be done."""
    name = part.split(".")[1]
    try:
        compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        tree = ast.parse(cell)
    except SyntaxError as error:
        line = error.lineno or 0
        raise CellProblem(
            f"Python cannot read line {line}: {error.msg}.", line, error.text or ""
        ) from None
    definition = _completing(tree, part)
    if definition is None or definition.name != name:
        found = f"it defines `{definition.name}`" if definition else "it does not"
        raise CellProblem(f"This cell should define `{name}`, and {found}.")
    statements = _needed(tree, definition)
    names = {bound for statement in statements for bound in _bound(statement)} - {name}
    lines = cell.splitlines()
    kept = [lines[slice(*_span(statement))] for statement in statements]
    return PartSource(
        part,
        _in_place(lines, statements),
        "\n\n\n".join("\n".join(block) for block in kept) + "\n",
        frozenset(names),
        _unfinished(definition),
    )


def readable(cell: str) -> bool:
    """Whether Python can compile a cell."""
    try:
        compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return False
    return True


def missing_names(
    source: PartSource, namespace: Mapping[str, Any], notebook: Mapping[str, Any]
) -> None:
    """Raise a CellProblem for a name that the notebook knows, but not the part's module."""
    for name in sorted(_globals(compile(source.in_cell, "cell", "exec"))):
        if name in namespace or name in source.names or hasattr(builtins, name):
            continue
        if name in (source.part.split(".")[1], "exit", "quit"):  # IPython has its own exit
            continue
        module = source.part.split(".")[0]
        if name == module:
            part = _attribute_of(name, source.in_cell)
            raise CellProblem(
                f"Your code uses `{module}.{part}`. It becomes part of `{module}` itself: "
                f"write `{part}` alone."
            )
        statement = _import_of(name, notebook.get(name))
        if statement:
            raise CellProblem(
                f"Your code uses `{name}`, which its module does not import. "
                f"Add `{statement}` to the top of this cell."
            )
        if name in notebook:
            raise CellProblem(
                f"Your code uses `{name}`, defined in another cell. Move it into this one: a part "
                "takes along what its own cell defines, and nothing else."
            )


# --- reading the syntax tree ---------------------------------------------------------------------


def is_completes(node: ast.expr) -> bool:
    """Whether a decorator is `@completes(...)`, under whatever module it is reached."""
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return called == "completes"


def completed_part(statement: ast.stmt) -> str:
    """The part that a decorated definition completes, or an empty string."""
    if not isinstance(statement, Definition):
        return ""
    for decorator in statement.decorator_list:
        if is_completes(decorator):
            argument = decorator.args[0] if decorator.args else None  # type: ignore[attr-defined]
            return str(argument.value) if isinstance(argument, ast.Constant) else ""
    return ""


def _completing(tree: ast.Module, part: str) -> Definition | None:
    named = [node for node in tree.body if completed_part(node) == part]
    if not named:  # a saved part has no decorator
        name = part.split(".")[1]
        named = [n for n in tree.body if isinstance(n, Definition) and n.name == name]
    return named[-1] if named else None  # type: ignore[return-value]


def _needed(tree: ast.Module, definition: Definition) -> list[ast.stmt]:
    """The definition and the statements that bind what it uses, directly or through others."""
    binders: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if not completed_part(statement):
            for name in _bound(statement):
                binders.setdefault(name, []).append(statement)
    needed: list[ast.stmt] = [definition]
    for statement in needed:  # grows while it is read
        for name in _used(statement):
            needed += [one for one in binders.get(name, []) if one not in needed]
    futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    return sorted({*futures, *needed}, key=lambda statement: statement.lineno)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds in the namespace that it runs in."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.split(".")[0]
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.stmt) and node is not statement:
                yield from _bound(node)


def _used(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _span(statement: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement; other decorators than `completes` belong to it."""
    first = statement.lineno
    if isinstance(statement, Definition):
        others = [one.lineno for one in statement.decorator_list if not is_completes(one)]
        first = min([first, *others])
    return first - 1, statement.end_lineno or first


def _in_place(lines: list[str], statements: list[ast.stmt]) -> str:
    kept = {number for statement in statements for number in range(*_span(statement))}
    return "\n".join(line if number in kept else "" for number, line in enumerate(lines)) + "\n"


def _unfinished(definition: Definition) -> bool:
    """Whether a body is still nothing but `...`, `pass` or `NotImplementedError`."""
    functions = [node for node in ast.walk(definition) if isinstance(node, ast.FunctionDef)]
    return any(all(map(_says_nothing, function.body)) for function in functions)


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.dump(statement)
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


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


def _attribute_of(name: str, text: str) -> str:
    """The first attribute of `name` that a source uses."""
    return next(
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    )


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


def definition_of(name: str, text: str) -> str:
    """The statements that bind a name, without regard to layout and comments."""
    return "\n".join(ast.dump(one) for one in ast.parse(text).body if name in _bound(one))
