"""From the text of a notebook cell to the source of a part."""

import ast
import builtins
import dis
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from course_utils.engine.parts import is_part

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

USUAL_IMPORTS = {
    "F": "from torch.nn import functional as F",
    "einops": "import einops",
    "math": "import math",
    "nn": "from torch import nn",
    "np": "import numpy as np",
    "rearrange": "from einops import rearrange",
    "torch": "import torch",
}


NOTEBOOK_ONLY = ("display", "get_ipython")
"""Names that are builtins in a notebook, but not where a saved part is used."""


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


def part_source(cell: str, part: str, line: int = 0) -> PartSource:
    """Keep the part of a cell that defines `part`. A CellProblem says why it cannot be done.

    `line` is that of the decorator which is running, where one is.
    """
    cell = tidy(cell)
    tree = _parsed(cell)
    definition = _completing(tree, part, line)
    _refuse_other_forms(tree, definition, part)
    assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
    completing = [one for one in definition.decorator_list if _is_completing(one, line)]
    dropped = {number for one in completing for number in range(*_span(one))}
    definition.decorator_list = [x for x in definition.decorator_list if x not in completing]
    lines = cell.split("\n")
    _refuse_what_is_never_reached(definition, lines)
    statements = _needed(tree, definition)
    kept = [[n for n in range(*_span(one)) if n not in dropped] for one in statements]
    numbers = set().union(*kept)
    in_place = [text if number in numbers else "" for number, text in enumerate(lines)]
    blocks = ["\n".join(lines[number] for number in block) for block in kept]
    return PartSource(
        part,
        "\n".join(in_place) + "\n",
        "\n\n\n".join(blocks) + "\n",
        frozenset(bound for one in statements for bound in bound_by(one)) - {definition.name},
        _unfinished(definition),
    )


def tidy(text: str) -> str:
    """The text with line ends of one kind: those at which Python ends a line, and no others."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def readable(cell: str) -> bool:
    """Whether Python can compile a cell."""
    try:
        _parsed(cell)
    except CellProblem:
        return False
    return True


def _parsed(cell: str) -> ast.Module:
    try:
        compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return ast.parse(cell)
    except SyntaxError as error:
        line = error.lineno or 0
        sentence = f"Python cannot read line {line}: {error.msg}."
        raise CellProblem(sentence, line, error.text or "") from None
    except UnicodeError:
        raise CellProblem("Python cannot read this: some of its bytes are not UTF-8.") from None
    except ValueError as error:
        raise CellProblem(f"Python cannot read this: {error}.") from None
    except (RecursionError, MemoryError):
        raise CellProblem("Python cannot read this: it is nested too deep.") from None


def missing_names(
    source: PartSource, namespace: Mapping[str, Any], notebook: Mapping[str, Any]
) -> None:
    """Raise a CellProblem for a name that the notebook knows, but not the part's module."""
    for name in sorted(_globals(compile(source.in_cell, "cell", "exec"))):
        if name in namespace or name in source.names:
            continue
        if name in NOTEBOOK_ONLY:
            raise CellProblem(
                f"Your code uses `{name}`, which only notebooks have. To look at a value, use "
                "`print`: this panel shows what is printed."
            )
        if hasattr(builtins, name):
            continue
        module, own = source.part.split(".")
        if name in (own, "exit", "quit"):  # IPython has its own exit
            continue
        if name == module:
            raise CellProblem(_own_module(module, own, _attributes_of(name, source.in_cell)))
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


# --- reading the syntax tree ---------------------------------------------------------------------


def completed_part(statement: ast.stmt) -> str:
    """The part that a decorated definition completes, or an empty string."""
    decorators = statement.decorator_list if isinstance(statement, Definition) else []
    return next(filter(None, map(_part_named_by, decorators)), "")


def _part_named_by(decorator: ast.expr) -> str:
    """The part in `@completes("…")`, whatever name `completes` goes by."""
    arguments = decorator.args if isinstance(decorator, ast.Call) else []
    values = [one.value for one in arguments if isinstance(one, ast.Constant)]
    return str(values[0]) if values and is_part(values[0]) else ""


def _is_completing(decorator: ast.expr, line: int) -> bool:
    return _is_at(decorator, line) or bool(_part_named_by(decorator))


def _is_at(decorator: ast.expr, line: int) -> bool:
    return decorator.lineno <= line <= (decorator.end_lineno or 0)


def _completing(tree: ast.Module, part: str, line: int) -> Definition | None:
    definitions = [node for node in ast.walk(tree) if isinstance(node, Definition)]
    name = part.split(".")[1]
    for chosen in (
        [one for one in definitions if any(_is_at(deco, line) for deco in one.decorator_list)],
        [one for one in definitions if completed_part(one) == part],
        [one for one in definitions if one.name == name],  # a saved part has no decorator
    ):
        if chosen:
            return chosen[-1]
    return None


def _refuse_other_forms(tree: ast.Module, definition: Definition | None, part: str) -> None:
    """A part is one `def` or `class`, under its own name, at the left margin."""
    name = part.split(".")[1]
    if definition is None and any(name in bound_by(one) for one in tree.body):
        raise CellProblem(f"`{name}` is given a value here. Write it out, with `def` or `class`.")
    if definition is None or definition.name != name:
        found = f"it defines `{definition.name}`" if definition else "it does not"
        raise CellProblem(f"This cell should define `{name}`, and {found}.")
    if isinstance(definition, ast.AsyncFunctionDef):
        raise CellProblem(f"Write `def {name}`, not `async def {name}`: there is nothing to await.")
    if definition not in tree.body:
        raise CellProblem(f"Define `{name}` at the left margin of its cell, in no other block.")


def _refuse_what_is_never_reached(definition: Definition, lines: list[str]) -> None:
    """An answer that was written below the blank's `raise`."""
    for function in _functions(definition):
        for statement in function.body[:-1]:
            if _raises_not_implemented(statement) and not all(map(_says_nothing, function.body)):
                line = statement.lineno
                sentence = f"Delete line {line}: nothing below `raise` in a function is reached."
                raise CellProblem(sentence, line, lines[line - 1])


def _needed(tree: ast.Module, definition: Definition) -> list[ast.stmt]:
    """The definition and the statements that bind what it uses, directly or through others."""
    binders: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if not completed_part(statement):
            for name in bound_by(statement):
                binders.setdefault(name, []).append(statement)
    needed: list[ast.stmt] = [definition]
    for statement in needed:  # grows while it is read
        for name in _used(statement):
            needed += [one for one in binders.get(name, []) if one not in needed]
    return sorted({*filter(is_future, tree.body), *needed}, key=lambda statement: statement.lineno)


def is_future(statement: ast.stmt) -> bool:
    """Whether a statement is `from __future__ import …`."""
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def bound_by(statement: ast.stmt) -> Iterator[str]:
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
                yield from bound_by(node)


def _used(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _span(node: ast.stmt | ast.expr) -> tuple[int, int]:
    """The lines of a statement, counted from 0, and the first that is not: for `range`."""
    decorators = node.decorator_list if isinstance(node, Definition) else []
    first = min(one.lineno for one in [node, *decorators])
    return first - 1, node.end_lineno or first


def _unfinished(definition: Definition) -> bool:
    """Whether a body is still nothing but `...`, `pass` or `NotImplementedError`."""
    return any(all(map(_says_nothing, function.body)) for function in _functions(definition))


def _functions(definition: Definition) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(definition) if isinstance(node, ast.FunctionDef)]


def _says_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass) or _raises_not_implemented(statement)


def _raises_not_implemented(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement)


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
