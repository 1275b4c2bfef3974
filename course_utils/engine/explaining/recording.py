"""Runs a source with every intermediate value noted down."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isclose
from typing import Any

import torch
from torch import Tensor

NOTE = "_note_"
"""The name of the function that the recorded source calls with every value."""


@dataclass
class Recording:
    """The expressions of a source in the order of evaluation, with the values that each had.

    `replaced` gives an expression another value than its own, by its number.
    """

    nodes: list[ast.expr] = field(default_factory=list)
    values: dict[int, list[Any]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    replaced: dict[int, Any] = field(default_factory=dict)

    def note(self, number: int, value: Any) -> Any:
        if number not in self.values:
            self.order.append(number)
        self.values.setdefault(number, []).append(_kept(value))
        return self.replaced.get(number, value)

    def clear(self) -> None:
        self.values, self.order = {}, []


def recorded(tree: ast.Module, recording: Recording) -> ast.Module:
    """A copy of the tree that hands every value of every function in it to `recording.note`."""
    tree = copy.deepcopy(tree)
    for definition in functions(tree):
        definition.body = [_Noting(recording).visit(one) for one in definition.body]
    return ast.fix_missing_locations(tree)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """The outermost functions of a source, and the methods of its classes but for `__init__`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node)


def telling(value: Any) -> bool:
    """Whether equal values are hardly an accident: several different numbers, or an odd one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float):
        return value % 0.5 != 0
    if not isinstance(value, Tensor) or value.numel() < 3:
        return False
    return bool((value != value.flatten()[0]).any())


def same(one: Any, other: Any) -> bool:
    """Whether two values have one shape and the same numbers, as far as their dtype can tell."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return isinstance(one, float) and isinstance(other, float) and isclose(one, other)
    if one.shape != other.shape or one.is_floating_point() != other.is_floating_point():
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5, equal_nan=True)


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


class _Noting(ast.NodeTransformer):
    """Wraps what is computed, not what is named: calls, operators, subscripts, attributes."""

    WRAPPED = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript, ast.Compare, ast.IfExp, ast.BoolOp)

    def __init__(self, recording: Recording):
        self.recording = recording

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.FunctionDef):  # its body only
            node.body = [self.visit(one) for one in node.body]
            return node
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.Lambda | ast.ClassDef):
            return node
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super":
            return node
        if isinstance(node, ast.AnnAssign):
            node.value = self.visit(node.value) if node.value else None
            return node
        original: Any = copy.deepcopy(node) if isinstance(node, self.WRAPPED) else node
        self.generic_visit(node)
        is_read = not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
        if not (isinstance(node, self.WRAPPED) and is_read):
            return node
        return self._wrapped(node, original)

    def _wrapped(self, node: ast.expr, original: ast.expr) -> ast.expr:
        self.recording.nodes.append(original)
        number = ast.Constant(len(self.recording.nodes) - 1)
        return ast.copy_location(ast.Call(ast.Name(NOTE, ast.Load()), [number, node], []), node)
