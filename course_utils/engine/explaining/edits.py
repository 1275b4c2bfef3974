"""What people write by accident, and back: small changes of a syntax tree.

`accidents` are the mutants by which the checks are tried. A repair tries them too, since most of
them undo each other, and then `amends`, which put back what an accident leaves out.
"""

import ast
import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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
SAYS_WHERE = (ast.stmt, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.IfExp, ast.Subscript)
"""Nodes large enough to be recognised by a reader."""

SYMMETRIC = ("max", "min", "outer", "transpose")
"""Functions whose first two arguments may change places."""

KIN = (
    {"sum", "mean", "amax", "amin", "prod", "logsumexp", "cumsum"},
    {"max", "min", "amax", "amin", "argmax", "argmin"},
    {"var", "std", "norm"},
    {"exp", "log", "sqrt", "rsqrt", "square", "abs", "exp2", "log2", "log10", "log1p", "expm1"},
    {"sin", "cos", "tan"},
    {"softmax", "log_softmax", "sigmoid"},
    {"relu", "gelu", "silu", "tanh", "sigmoid"},
    {"tril", "triu"},
    {"any", "all"},
    {"zeros", "ones", "empty"},
    {"zeros_like", "ones_like", "empty_like"},
    {"stack", "cat"},
    {"floor", "ceil", "round", "trunc"},
    {"clamp_min", "clamp_max"},
    {"log", "log2", "log10"},
    {"view", "reshape"},
    {"repeat", "repeat_interleave", "tile"},
)
"""Functions that are taken for one another."""

REDUCTIONS = {"sum", "mean", "amax", "amin", "max", "min", "norm", "var", "std", "logsumexp"}


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


# --- where to change something -------------------------------------------------------------------


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


# --- by accident ---------------------------------------------------------------------------------


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
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        yield _with(node, test=ast.Constant(True))
    elif isinstance(node, ast.For):
        yield _with(node, body=[*node.body, ast.Break()])
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
        yield _with(node, keywords=_without(node.keywords, index))
    for index in range(len(node.args)):
        yield _with(node, args=_without(node.args, index))
    if ast.unparse(node.func).split(".")[-1] not in SYMMETRIC:
        for index in range(len(node.args) - 1):
            yield _with(node, args=_swapped(node.args, index))
    if node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    if isinstance(node.func, ast.Attribute):
        yield node.func.value
        for name in OTHER_FUNCTIONS.get(node.func.attr, ()):
            yield _with(node, func=_with(node.func, attr=name))


def _other_expressions(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
        if not isinstance(node.op, COMMUTATIVE):
            yield _with(node, left=node.right, right=node.left)
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
            yield _with(node, elts=_without(node.elts, index))
        for index in range(len(node.elts) - 1):
            yield _with(node, elts=_swapped(node.elts, index))


# --- and back ------------------------------------------------------------------------------------


def amends(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may have been before something was left out of it, or taken for its kin."""
    if isinstance(node, ast.stmt):
        yield from _amended_statements(node)
    elif isinstance(node, ast.cmpop):
        comparisons = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
        if isinstance(node, comparisons):
            known = OTHER_OPERATORS[type(node)]
            yield from (one() for one in comparisons if one not in (type(node), *known))
    elif isinstance(node, ast.operator):
        others = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult, ast.FloorDiv)
        known = OTHER_OPERATORS.get(type(node), ())
        yield from (one() for one in others if one not in (type(node), *known))
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _amended_constants(node.value))
    elif isinstance(node, ast.Slice):
        yield from _amended_slices(node)
    elif isinstance(node, ast.expr) and not isinstance(getattr(node, "ctx", None), ast.Store):
        yield from _amended_expressions(node)


def _amended_statements(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr):
        yield ast.Return(node.value)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            yield ast.Assign([ast.Name(called.value.id, ast.Store())], node.value)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        yield ast.Return(node.value)
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    elif isinstance(node, ast.With):
        yield ast.If(ast.Constant(True), node.body, [])
    yield from made_anew(node)


def made_anew(node: ast.AST) -> Iterator[ast.AST]:
    """The same without writing over a tensor: `x = x + y` for `x += y`, `exp` for `exp_`."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        read = ast.Name(node.target.id, ast.Load())
        yield ast.Assign([node.target], ast.BinOp(read, node.op, node.value))
    elif isinstance(node, ast.Call):
        name = called(node)
        if name.endswith("_") and not name.startswith("_"):
            yield _named(node, name.rstrip("_"))


def _amended_constants(value: Any) -> list[Any]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    if isinstance(value, int):
        return [one for one in (-1, -2, -3, 2, 3, value + 2, 2 * value) if one != value]
    return [one for one in (1e-5, value * value, value / 10, 10 * value) if one != value]


def _amended_slices(node: ast.Slice) -> Iterator[ast.AST]:
    if node.lower is not None:
        yield _with(node, lower=None)
        yield _with(node, lower=None, upper=ast.UnaryOp(ast.USub(), node.lower))
        yield _with(node, lower=ast.UnaryOp(ast.USub(), node.lower))
    if node.upper is not None:
        yield _with(node, upper=None)
        yield _with(node, upper=ast.UnaryOp(ast.USub(), node.upper))
        yield _with(node, lower=node.upper, upper=node.lower)


def _amended_expressions(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        yield from _amended_calls(node)
    if isinstance(node, ast.BinOp):
        yield from _other_brackets(node)
    if isinstance(node, ast.List):
        yield ast.Tuple(node.elts, ast.Load())
    if isinstance(node, ast.Attribute | ast.Name | ast.Call | ast.BinOp | ast.Subscript):
        yield from (_method(node, name) for name in ("mT", "sqrt()", "square()", "clone()"))
        yield from (
            _method(node, call)
            for call in (
                "transpose(-2, -1)",
                "transpose(1, 2)",
                "unsqueeze(-1)",
                "unsqueeze(0)",
                "unsqueeze(1)",
                "squeeze(-1)",
                "reciprocal()",
                "item()",
                "tolist()",
                "contiguous()",
                "float()",
                "bool()",
                "long()",
            )
        )
    if isinstance(node, ast.Name | ast.Call | ast.Compare | ast.Subscript | ast.BinOp):
        yield ast.UnaryOp(ast.USub(), node)
        yield ast.UnaryOp(ast.Invert(), node)
        yield ast.BinOp(ast.Constant(1), ast.Sub(), node)
        yield ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield ast.BinOp(node, ast.Sub(), ast.Constant(1))
    if isinstance(node, ast.Name):
        backwards = ast.Slice(step=ast.UnaryOp(ast.USub(), ast.Constant(1)))
        yield ast.Subscript(node, backwards, ast.Load())
    if isinstance(node, ast.Name | ast.Call | ast.Tuple):
        yield from (ast.Call(ast.Name(kind, ast.Load()), [node], []) for kind in KINDS_OF_RESULT)


def with_names(node: ast.AST, names: Iterable[str]) -> Iterator[ast.AST]:
    """A factor that was left out, or the dtype that a new tensor should have."""
    read = [ast.Name(name, ast.Load()) for name in names]
    if isinstance(node, ast.Attribute | ast.Name) and is_read(node):
        yield from (ast.BinOp(node, ast.Mult(), name) for name in read)
    elif isinstance(node, ast.Call) and called(node) in NEW_TENSORS:
        dtypes = (ast.Attribute(name, "dtype", ast.Load()) for name in read)
        yield from (
            _with(node, keywords=[*node.keywords, ast.keyword("dtype", dtype)]) for dtype in dtypes
        )


NEW_TENSORS = ("arange", "empty", "eye", "full", "ones", "tensor", "zeros")
OF_ALL_AXES = ("all", "any", "argmax", "argmin", "squeeze")
KINDS_OF_RESULT = ("tuple", "list", "int", "float", "bool")


def _amended_calls(node: ast.Call) -> Iterator[ast.AST]:
    name = called(node)
    given = {keyword.arg for keyword in node.keywords}
    if name in REDUCTIONS:
        if "keepdim" not in given:
            yield _keyword(node, "keepdim", True)
        if not node.args and "dim" not in given:
            yield from (_keyword(node, "dim", dim) for dim in (-1, 0, 1, -2))
            yield _with(_keyword(node, "dim", -1), keywords=_both(node, -1))
    if name in OF_ALL_AXES and "dim" not in given and _names_no_axis(node):
        yield from (_keyword(node, "dim", dim) for dim in (-1, 0, 1))
        if name != "squeeze":
            yield _with(_keyword(node, "dim", -1), keywords=_both(node, -1))
    if name in ("var", "std") and not given & {"unbiased", "correction"}:
        yield _keyword(node, "unbiased", False)
    if name in ("softmax", "log_softmax", "cumsum", "cat", "stack") and "dim" not in given:
        yield from (_keyword(node, "dim", dim) for dim in (-1, 0, 1, -2))
    yield from made_anew(node)
    for kin in KIN:
        if name in kin:
            known = OTHER_FUNCTIONS.get(name, ())
            yield from (_named(node, one) for one in sorted(kin - {name, *known}))


def _names_no_axis(node: ast.Call) -> bool:
    """`x.any()` and `torch.any(x)`."""
    of_torch = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "torch"
    return len(node.args) == int(of_torch)


def all_alike(nodes: list[ast.Call]) -> Iterator[list[ast.AST]]:
    """Calls of one function, all changed in one way: left out, or put in its kin's place."""
    if all(node.args and not isinstance(node.args[0], ast.Starred) for node in nodes):
        yield [node.args[0] for node in nodes]
    if all(isinstance(node.func, ast.Attribute) for node in nodes):
        yield [node.func.value for node in nodes]  # type: ignore[attr-defined]
    for other in sorted({one for kin in KIN if called(nodes[0]) in kin for one in kin}):
        yield [_named(node, other) for node in nodes]


def _both(node: ast.Call, dim: int) -> list[ast.keyword]:
    added = {"dim": dim, "keepdim": True}
    return node.keywords + [ast.keyword(name, ast.Constant(one)) for name, one in added.items()]


def _other_brackets(node: ast.BinOp) -> Iterator[ast.AST]:
    """`(a + b) * c` for `a + (b * c)`, and back."""
    if isinstance(node.right, ast.BinOp):
        inner = node.right
        yield ast.BinOp(ast.BinOp(node.left, node.op, inner.left), inner.op, inner.right)
    if isinstance(node.left, ast.BinOp):
        inner = node.left
        yield ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, node.op, node.right))
    if isinstance(node.left, ast.Call) and isinstance(node.left.func, ast.Attribute):
        call = node.left  # `a.sqrt() + b` for `(a + b).sqrt()`
        whole = ast.BinOp(node.left.func.value, node.op, node.right)
        yield _with(call, func=_with(call.func, value=whole))


def size(node: ast.AST) -> int:
    """How many expressions a node has in it."""
    return sum(isinstance(one, ast.expr) for one in ast.walk(node))


def is_read(node: ast.AST) -> bool:
    """Whether a name, attribute or subscript is read, not written."""
    return isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(node.func).split(".")[-1]


def _named(node: ast.Call, name: str) -> ast.Call:
    if isinstance(node.func, ast.Attribute):
        return _with(node, func=_with(node.func, attr=name))
    return _with(node, func=ast.Name(name, ast.Load()))


def _keyword(node: ast.Call, name: str, value: Any) -> ast.Call:
    return _with(node, keywords=[*node.keywords, ast.keyword(name, ast.Constant(value))])


def _method(node: ast.expr, call: str) -> ast.expr:
    """`node.call`, where `call` is written as in Python."""
    tree = ast.parse(f"it.{call}", mode="eval").body
    attribute = tree.func if isinstance(tree, ast.Call) else tree
    attribute.value = node  # type: ignore[attr-defined]
    return tree


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _without(nodes: list, index: int) -> list:
    return nodes[:index] + nodes[index + 1 :]


def _swapped(nodes: list, index: int) -> list:
    return [*nodes[:index], nodes[index + 1], nodes[index], *nodes[index + 2 :]]
