"""What people write by accident: the mutants by which the checks are tried.

A repair tries them too, since most of them undo each other.
"""

import ast
from collections.abc import Iterator
from typing import Any

from course_utils.engine.explaining.edits import (
    swapped,
    with_fields,
    without,
)

OTHER_OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div, ast.MatMult),
    ast.Div: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Mod,),
    ast.Pow: (ast.Mult,),
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt, ast.Gt),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
OTHER_FUNCTIONS = {
    "amax": ("amin", "mean"),
    "clamp_min": ("clamp_max",),
    "exp": ("sigmoid", "square"),
    "max": ("min",),
    "sqrt": ("log", "exp"),
    "sum": ("mean", "amax"),
}
COMMUTATIVE = (ast.Add, ast.Mult)
SYMMETRIC = ("max", "min", "outer", "transpose")
"""Functions whose first two arguments may change places."""


def accidents(node: ast.AST, variables: dict[str, list[str]]) -> Iterator[ast.AST]:
    """What people write by accident instead of a node."""
    if isinstance(node, ast.stmt):
        yield from _other_statements(node)
    elif isinstance(node, ast.operator | ast.cmpop | ast.boolop):
        yield from (operator() for operator in OTHER_OPERATORS.get(type(node), ()))
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_constants(node.value))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from (ast.Name(name, node.ctx) for name in variables.get(node.id, ()))
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.expr) and not isinstance(getattr(node, "ctx", None), ast.Store):
        yield from _other_expressions(node)


def _other_statements(node: ast.stmt) -> Iterator[ast.AST]:
    yield ast.Pass()
    if isinstance(node, ast.If):
        yield with_fields(node, test=ast.UnaryOp(ast.Not(), node.test))
        yield with_fields(node, test=ast.Constant(True))
    elif isinstance(node, ast.For):
        yield with_fields(node, body=[*node.body, ast.Break()])
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        yield from (
            ast.Return(entry) for entry in node.value.elts if not isinstance(entry, ast.Starred)
        )


def _other_constants(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [other for other in (value + 1, value - 1, -value, 0, 1) if other != value]
    if isinstance(value, float):
        return [other for other in (2 * value, value / 2, -value, 0.0, 1.0) if other != value]
    return []


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    for index in range(len(node.keywords)):
        yield with_fields(node, keywords=without(node.keywords, index))
    for index in range(len(node.args)):
        yield with_fields(node, args=without(node.args, index))
    if ast.unparse(node.func).split(".")[-1] not in SYMMETRIC:
        for index in range(len(node.args) - 1):
            yield with_fields(node, args=swapped(node.args, index))
    if node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    if isinstance(node.func, ast.Attribute):
        yield node.func.value
        for name in OTHER_FUNCTIONS.get(node.func.attr, ()):
            yield with_fields(node, func=with_fields(node.func, attr=name))


def _other_expressions(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
        if not isinstance(node.op, COMMUTATIVE):
            yield with_fields(node, left=node.right, right=node.left)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.Compare):
        yield ast.UnaryOp(ast.Not(), node)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Attribute | ast.Subscript):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List):
        for index in range(len(node.elts)):
            yield with_fields(node, elts=without(node.elts, index))
        for index in range(len(node.elts) - 1):
            yield with_fields(node, elts=swapped(node.elts, index))
