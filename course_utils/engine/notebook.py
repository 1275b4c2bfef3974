"""Hooks into IPython, so that a broken exercise cell gets its panel and "Run All" goes on."""

import ast
import re
from typing import Any

from course_utils.engine import cell, completes, parts
from course_utils.engine.checker import checker
from course_utils.engine.source import completed_part, readable, tidy

COMPLETES = re.compile(r"^@[\w.]+\(\s*[\"'](\w+\.\w+)[\"']\s*\)", re.M)
CALL = "__import__('course_utils.engine.notebook', fromlist=['x'])"


def hook(shell: Any) -> None:
    """Watch the cells of a running IPython, and start the worker while the learner reads."""
    if not any(isinstance(one, _Guard) for one in shell.ast_transformers):
        shell.input_transformers_cleanup.append(python_lines)
        shell.input_transformers_post.append(replace_unreadable)
        shell.ast_transformers.append(_Guard())
        checker.start()


def python_lines(lines: list[str]) -> list[str]:
    """The lines as Python ends them: IPython also cuts at U+2028 and others, even in a string."""
    return re.findall(r"[^\n]*\n|[^\n]+", tidy("".join(lines)))


def replace_unreadable(lines: list[str]) -> list[str]:
    """An exercise cell that Python cannot read becomes a call that shows its panel."""
    text = "".join(lines)
    mark = COMPLETES.search(text)
    if not mark or not _known(mark[1]) or readable(text):
        return lines
    return [f"{mark[1].split('.')[1]} = {CALL}.broken_cell({mark[1]!r}, {text!r})\n"]


def broken_cell(part: str, text: str) -> Any:
    """Show the panel of a cell that could not even be defined; give back the part in use."""
    return completes.attempt(part, text, {})


def failed_definition(part: str, error: Exception) -> Any:
    """The definition stopped while it was being made in the notebook: say why, as for any cell."""
    if isinstance(error, completes.NotYours):
        raise error
    assert error.__traceback__
    frame = error.__traceback__.tb_frame
    return completes.attempt(part, cell.text_of(frame), frame.f_globals)


class _Guard(ast.NodeTransformer):
    """Puts a `try` around every definition that completes a part."""

    def visit_Module(self, module: ast.Module) -> ast.Module:
        module.body = [self._guarded(statement) for statement in module.body]
        return ast.fix_missing_locations(module)

    def _guarded(self, statement: ast.stmt) -> ast.stmt:
        part = completed_part(statement)
        if not _known(part):
            return statement
        handler = f"{part.split('.')[1]} = {CALL}.failed_definition({part!r}, _error)"
        guard = ast.parse(f"try:\n    pass\nexcept Exception as _error:\n    {handler}").body[0]
        assert isinstance(guard, ast.Try)
        guard.body = [statement]
        return ast.copy_location(guard, statement)


def _known(part: str) -> bool:
    return parts.is_part(part) and bool(parts.references())
