"""Expressions of ours that may stand where the learner's own go wrong."""

import ast
import copy
import inspect
import sys
import textwrap
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import Tensor

from course_utils.engine import parts
from course_utils.engine.explaining.edits import Place, is_read, size
from course_utils.engine.explaining.recording import functions, same
from course_utils.engine.explaining.trial import (
    FILENAME,
    FIRST_LOOK,
    TooSlow,
    Trial,
    copies,
    quiet,
    time_limit,
)

OURS = "our version"
LARGEST = 0.6
"""The share of a version of ours that may be put into the learner's, and of theirs to give way."""

FROM_EXPRESSIONS = (
    ast.BinOp,
    ast.Call,
    ast.Subscript,
    ast.Attribute,
    ast.UnaryOp,
    ast.Compare,
    ast.IfExp,
    ast.Tuple,
)


def transplants(
    trial: Trial, definition: ast.FunctionDef, places: list[Place]
) -> Iterator[tuple[int, Place, ast.AST]]:
    """Every expression of ours in every place of the learner's where an expression is read."""
    theirs = local_values(trial, trial.tree, FILENAME)
    in_reach = set(theirs) | {argument.arg for argument in definition.args.args}
    room = LARGEST * sum(map(size, definition.body))
    into = [one for one in places if _takes_an_expression(one) and size(one.get()) <= room]
    for donor in donors(trial, theirs, in_reach):
        text = ast.unparse(donor)
        for place in into:
            if ast.unparse(place.get()) != text:
                yield 4 + size(donor) // 4, place, copy.deepcopy(donor)


def donors(trial: Trial, theirs: dict[str, Any], in_reach: set[str]) -> list[ast.expr]:
    """Expressions of our versions in the learner's names, each once, the small ones first."""
    found: dict[str, ast.expr] = {}
    for tree in our_versions(trial):
        ours = local_values(trial, tree, OURS)
        renamed = {name: _equal_name(value, theirs) for name, value in ours.items()}
        for definition in functions(tree):
            written = _written_once(definition)
            whole = sum(map(size, definition.body))
            for node in ast.walk(definition):
                if isinstance(node, FROM_EXPRESSIONS) and is_read(node):
                    fitted = _Fitting(renamed, dict(written), in_reach).fit(node)
                    if fitted is not None and size(fitted) <= max(LARGEST * whole, 8):
                        found.setdefault(ast.unparse(fitted), fitted)
    return sorted(found.values(), key=size)


def our_versions(trial: Trial) -> list[ast.Module]:
    """Syntax trees of the reference and of those alternatives that are plain functions."""
    sources = [parts.reference_source(trial.exercise.part)]
    name = trial.exercise.name
    for alternative in trial.exercise.alternatives:
        if inspect.isfunction(alternative) and not inspect.isclass(
            parts.reference(trial.exercise.part)
        ):
            sources.append(inspect.getsource(alternative))
    trees = [ast.parse(textwrap.dedent(source)) for source in sources]
    definitions = [(tree, tree.body[0]) for tree in trees]
    for _, definition in definitions:
        if isinstance(definition, ast.FunctionDef | ast.ClassDef):
            definition.name, definition.decorator_list = name, []
    return [tree for tree, one in definitions if isinstance(one, ast.FunctionDef | ast.ClassDef)]


def local_values(trial: Trial, tree: ast.Module, filename: str) -> dict[str, Any]:
    """What the names of a version hold when it returns, in the first case that fails."""
    found: dict[str, Any] = {}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_filename == filename:
            found.update(frame.f_locals)

    case = trial.first_failing
    try:
        with quiet(), time_limit(FIRST_LOOK):
            part = trial.part_of(compile(tree, filename, "exec"))
            sys.setprofile(look)
            case.use(part, **copies(case))
    except (Exception, SystemExit, TooSlow):
        pass
    finally:
        sys.setprofile(None)
    return found


def _equal_name(value: Any, names: dict[str, Any]) -> str:
    """The learner's name for a value, or an empty string."""
    if not isinstance(value, Tensor):
        return ""
    equal = (name for name, one in names.items() if isinstance(one, Tensor) and same(one, value))
    return next(equal, "")


def _written_once(definition: ast.FunctionDef) -> dict[str, ast.expr]:
    """The expression behind each name that is assigned in one place."""
    written: dict[str, list[ast.expr]] = {}
    for node in ast.walk(definition):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            written.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in written.items() if len(values) == 1}


class _Fitting(ast.NodeTransformer):
    """Puts the learner's names for ours; where there is none, the expression behind our name."""

    def __init__(self, renamed: dict[str, str], written: dict[str, ast.expr], in_reach: set[str]):
        self.renamed, self.written, self.in_reach = renamed, written, in_reach
        self.fits = True

    def fit(self, node: ast.expr) -> ast.expr | None:
        fitted = self.visit(copy.deepcopy(node))
        return fitted if self.fits else None

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.renamed:
            other = self.renamed[node.id]
            if other:
                return ast.Name(other, ast.Load())
            if node.id in self.written:
                behind = copy.deepcopy(self.written.pop(node.id))  # once: it may use itself
                return self.visit(behind)
            self.fits = self.fits and node.id in self.in_reach
        return node


def _takes_an_expression(place: Place) -> bool:
    node = place.get()
    return (
        isinstance(node, ast.expr)
        and is_read(node)
        and not isinstance(node, ast.Starred | ast.Slice)
        and not (isinstance(place.parent, ast.Call) and place.field == "func")
    )
