"""Small changes of a syntax tree: where they can be made, and how.

What changes there are is in `accidents.py` and `amends.py`.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SAYS_WHERE = (ast.stmt, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.IfExp, ast.Subscript)
"""Nodes large enough to be recognised by a reader."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a node stands: in a field of its parent, at an index where the field is a list.

    `around` is the expression or statement around it that tells a reader where it is.
    """

    parent: ast.AST
    field: str
    index: int | None
    around: ast.AST

    def get(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


class OneConstant(ast.NodeTransformer):
    """Makes one constant of a minus and a number."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        number = node.operand.value if isinstance(node.operand, ast.Constant) else None
        if isinstance(node.op, ast.USub) and isinstance(number, int | float):
            return ast.copy_location(ast.Constant(-number), node)
        return node


def places(definition: ast.FunctionDef) -> Iterator[Place]:
    """Every place in the body, but for the docstring, annotations and texts of errors."""
    waiting = [
        Place(definition, "body", index, definition)
        for index, statement in enumerate(definition.body)
        if not _is_docstring(statement)
    ]
    for place in waiting:  # grows while it is read
        yield place
        node = place.get()
        around = node if isinstance(node, SAYS_WHERE) else place.around
        for field, value in ast.iter_fields(node):
            if field == "annotation" or isinstance(node, ast.Raise):
                continue
            if isinstance(value, ast.AST):
                waiting.append(Place(node, field, None, around))
            elif isinstance(value, list):
                entries = (index for index, one in enumerate(value) if isinstance(one, ast.AST))
                waiting += [Place(node, field, index, around) for index in entries]


def variables(definition: ast.FunctionDef) -> dict[str, list[str]]:
    """For each parameter the other parameters, and for each local variable the other ones."""
    parameters = [one.arg for one in definition.args.args if one.arg != "self"]
    stored = {
        node.id: None
        for node in ast.walk(definition)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    kinds = [parameters, [name for name in stored if name not in parameters]]
    return {name: [one for one in kind if one != name] for kind in kinds for name in kind}


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


# --- nodes like another --------------------------------------------------------------------------


def size(node: ast.AST) -> int:
    """How many expressions a node has in it."""
    return sum(isinstance(one, ast.expr) for one in ast.walk(node))


def is_read(node: ast.AST) -> bool:
    """Whether a name, attribute or subscript is read, not written."""
    return isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(node.func).split(".")[-1]


def named(node: ast.Call, name: str) -> ast.Call:
    if isinstance(node.func, ast.Attribute):
        return with_fields(node, func=with_fields(node.func, attr=name))
    return with_fields(node, func=ast.Name(name, ast.Load()))


def with_keyword(node: ast.Call, name: str, value: Any) -> ast.Call:
    return with_fields(node, keywords=[*node.keywords, ast.keyword(name, ast.Constant(value))])


def method(node: ast.expr, call: str) -> ast.expr:
    """`node.call`, where `call` is written as in Python."""
    tree = ast.parse(f"it.{call}", mode="eval").body
    attribute = tree.func if isinstance(tree, ast.Call) else tree
    attribute.value = node  # type: ignore[attr-defined]
    return tree


def with_fields(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def without(nodes: list, index: int) -> list:
    return nodes[:index] + nodes[index + 1 :]


def swapped(nodes: list, index: int) -> list:
    return [*nodes[:index], nodes[index + 1], nodes[index], *nodes[index + 2 :]]
