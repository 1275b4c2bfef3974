"""From the text of a notebook cell to the source of a part."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from course_utils.engine.parts import is_part

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class CellProblem(Exception):
    """What is wrong with a cell before any of it has run, as a sentence for the learner."""

    def __init__(self, sentence: str, line: int = 0, text: str = ""):
        super().__init__(sentence)
        self.line, self.text = line, text


@dataclass(frozen=True)
class PartSource:
    """The definition of a part and of all that it uses from its cell, in `blocks` of lines.

    `in_cell` has the cell's line numbers: what is left out is blank. `names` are those that the
    source binds beside the part's own. `imports` are statements that were added, and `gap` is the
    line of `in_cell`, counted from 0, in which they may stand.
    """

    part: str
    in_cell: str
    blocks: tuple[str, ...]
    names: frozenset[str]
    unfinished: bool
    gap: int
    imports: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The source without gaps, as it is saved."""
        first = sum(block.startswith("from __future__") for block in self.blocks)
        added = ["\n".join(self.imports)] if self.imports else []
        return "\n\n\n".join([*self.blocks[:first], *added, *self.blocks[first:]]) + "\n"

    def importing(self, statements: Sequence[str]) -> "PartSource":
        """The same source with imports before it."""
        lines = self.in_cell.split("\n")
        lines[self.gap] = "; ".join(statements)
        return replace(self, in_cell="\n".join(lines), imports=tuple(statements))


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
    futures = [one.end_lineno or 0 for one in statements if is_future(one)]
    free = set(range(max(futures, default=0), len(lines) + 1)) - numbers
    return PartSource(
        part,
        "\n".join(in_place) + "\n",
        tuple("\n".join(lines[number] for number in block) for block in kept),
        frozenset(bound for one in statements for bound in bound_by(one)) - {definition.name},
        _unfinished(definition),
        min(free),
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
