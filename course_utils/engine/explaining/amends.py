"""What a repair tries beside accidents: what was left out, and what was taken for its kin."""

import ast
import copy
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from course_utils.engine.explaining.accidents import OTHER_FUNCTIONS, OTHER_OPERATORS
from course_utils.engine.explaining.edits import (
    called,
    is_read,
    method,
    named,
    swapped,
    with_fields,
    with_keyword,
    without,
)

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
    {"ge", "gt", "le", "lt"},
    {"maximum", "minimum"},
    {"roll", "flip"},
    {"cumsum", "cumprod"},
    {"normal_", "trunc_normal_", "uniform_"},
    {"xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_"},
)
"""Functions that are taken for one another."""
REDUCTIONS = {"sum", "mean", "amax", "amin", "max", "min", "norm", "var", "std", "logsumexp"}


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
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        yield with_fields(node, test=_is_given(node.test))
    elif isinstance(node, ast.For):
        yield from (
            with_fields(node, iter=method(node.iter, f"unbind({axis})")) for axis in (1, -1)
        )
        yield from _in_two_loops(node)
        if len(node.body) > 1:  # what is done anew in every round, done once
            rest = with_fields(node, body=node.body[1:])
            yield ast.If(ast.Constant(True), copy.deepcopy([node.body[0], rest]), [])
    yield from _other_assignments(node)
    yield from _every_time(node)
    yield from made_anew(node)


def _in_two_loops(node: ast.For) -> Iterator[ast.AST]:
    """What is done too early inside a loop, done in a second one."""
    for index in range(1, len(node.body)):
        halves = [with_fields(node, body=part) for part in (node.body[:index], node.body[index:])]
        yield ast.If(ast.Constant(True), copy.deepcopy(halves), [])


def _other_assignments(node: ast.stmt) -> Iterator[ast.AST]:
    """Names of `a, b = …` in each other's place, and for `a = b = …` a value for each of them."""
    if not isinstance(node, ast.Assign):
        return
    target = node.targets[0]
    if isinstance(target, ast.Tuple):
        for index in range(len(target.elts) - 1):
            yield with_fields(node, targets=[with_fields(target, elts=swapped(target.elts, index))])
    if len(node.targets) == 2:
        values = [node.value, copy.deepcopy(node.value)]
        yield ast.Assign([ast.Tuple(node.targets, ast.Store())], ast.Tuple(values, ast.Load()))


def _every_time(node: ast.stmt) -> Iterator[ast.AST]:
    """For `a[i] += b`, which writes a place once, however often `i` names it."""
    if not (isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)):
        return
    if isinstance(node.target, ast.Subscript):
        where = node.target.slice
        indices = where.elts if isinstance(where, ast.Tuple) else [where]
        if not any(isinstance(one, ast.Slice) for one in indices):
            tensor, places = ast.unparse(node.target.value), ", ".join(map(ast.unparse, indices))
            more = f"{tensor}.new_zeros(()) + {ast.unparse(node.value)}"
            put = f"{tensor}.index_put_(({places},), {more}, accumulate=True)"
            yield ast.parse(put).body[0]


def _is_given(node: ast.expr) -> ast.expr:
    return ast.Compare(node, [ast.IsNot()], [ast.Constant(None)])


def made_anew(node: ast.AST) -> Iterator[ast.AST]:
    """The same without writing over a tensor: `x = x + y` for `x += y`, `exp` for `exp_`."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        read = ast.Name(node.target.id, ast.Load())
        yield ast.Assign([node.target], ast.BinOp(read, node.op, node.value))
    elif isinstance(node, ast.Call):
        name = called(node)
        if name.endswith("_") and not name.startswith("_"):
            yield named(node, name.rstrip("_"))


def _amended_constants(value: Any) -> list[Any]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    if isinstance(value, int):
        return [one for one in (-1, -2, -3, 2, 3, value + 2, 2 * value) if one != value]
    return [one for one in (1e-5, value * value, value / 10, 10 * value) if one != value]


def _amended_slices(node: ast.Slice) -> Iterator[ast.AST]:
    if node.lower is not None:
        yield with_fields(node, lower=None)
        yield with_fields(node, lower=None, upper=ast.UnaryOp(ast.USub(), node.lower))
        yield with_fields(node, lower=ast.UnaryOp(ast.USub(), node.lower))
    if node.upper is not None:
        yield with_fields(node, upper=None)
        yield with_fields(node, upper=ast.UnaryOp(ast.USub(), node.upper))
        yield with_fields(node, lower=node.upper, upper=node.lower)


def _amended_expressions(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        yield from _amended_calls(node)
    if isinstance(node, ast.BinOp):
        yield from _other_brackets(node)
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and len(node.values) == 2:
        yield ast.IfExp(_is_given(node.values[0]), *node.values)
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        loop, *others = node.generators
        for axis in (1, -1):
            along = with_fields(loop, iter=method(loop.iter, f"unbind({axis})"))
            yield with_fields(node, generators=[along, *others])
    if isinstance(node, ast.List):
        yield ast.Tuple(node.elts, ast.Load())
    if isinstance(node, ast.Attribute | ast.Name | ast.Call | ast.BinOp | ast.Subscript):
        yield from (method(node, name) for name in ("mT", "sqrt()", "square()", "clone()"))
        yield from (
            method(node, call)
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
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield from read
    elif isinstance(node, ast.Call) and called(node) in NEW_TENSORS:
        dtypes = (ast.Attribute(name, "dtype", ast.Load()) for name in read)
        yield from (
            with_fields(node, keywords=[*node.keywords, ast.keyword("dtype", dtype)])
            for dtype in dtypes
        )


NEW_TENSORS = ("arange", "empty", "eye", "full", "ones", "tensor", "zeros")
OF_ALL_AXES = ("all", "any", "argmax", "argmin", "squeeze")
KINDS_OF_RESULT = ("tuple", "list", "int", "float", "bool")


def _amended_calls(node: ast.Call) -> Iterator[ast.AST]:
    name = called(node)
    given = {keyword.arg for keyword in node.keywords}
    if name in REDUCTIONS:
        if "keepdim" not in given:
            yield with_keyword(node, "keepdim", True)
        if not node.args and "dim" not in given:
            yield from (with_keyword(node, "dim", dim) for dim in (-1, 0, 1, -2))
            yield with_fields(with_keyword(node, "dim", -1), keywords=_both(node, -1))
    if name in OF_ALL_AXES and "dim" not in given and _names_no_axis(node):
        yield from (with_keyword(node, "dim", dim) for dim in (-1, 0, 1))
        if name != "squeeze":
            yield with_fields(with_keyword(node, "dim", -1), keywords=_both(node, -1))
    if name in ("var", "std") and not given & {"unbiased", "correction"}:
        yield with_keyword(node, "unbiased", False)
    if name in ("softmax", "log_softmax", "cumsum", "cat", "stack") and "dim" not in given:
        yield from (with_keyword(node, "dim", dim) for dim in (-1, 0, 1, -2))
    yield from made_anew(node)
    yield from _other_equations(node)
    yield from _as_operators(node)
    for kin in KIN:
        if name in kin:
            known = OTHER_FUNCTIONS.get(name, ())
            yield from (named(node, one) for one in sorted(kin - {name, *known}))


def _other_equations(node: ast.Call) -> Iterator[ast.AST]:
    """Of `einsum("ij,jk->ik", …)`: two letters of a tensor in each other's place, or one less."""
    if called(node) == "einsum" and node.args and isinstance(node.args[0], ast.Constant):
        for equation in _equations(str(node.args[0].value)):
            yield with_fields(node, args=[ast.Constant(equation), *node.args[1:]])


def _as_operators(node: ast.Call) -> Iterator[ast.AST]:
    """A sum for `clamp` and its kin, and `@` for `inner` and its."""
    name, operands = called(node), _operands(node)
    if len(operands) != 2:
        return
    if name in ("clamp", "clamp_min", "maximum"):
        yield ast.BinOp(operands[0], ast.Add(), operands[1])
    elif name in ("inner", "dot", "mm", "bmm", "matmul", "outer"):
        yield ast.BinOp(operands[0], ast.MatMult(), operands[1])
        yield ast.BinOp(operands[0], ast.MatMult(), method(operands[1], "mT"))


def _equations(equation: str) -> Iterator[str]:
    terms = equation.replace(" ", "").replace("->", ",").split(",")
    for which, term in enumerate(terms):
        letters = re.findall(r"\.\.\.|\w", term)
        others = [[letters[order] for order in swap] for swap in _swaps(len(letters))]
        if which == len(terms) - 1:
            others += [without(letters, index) for index in range(len(letters))]
        for other in others:
            changed = [*terms[:which], "".join(other), *terms[which + 1 :]]
            yield f"{','.join(changed[:-1])}->{changed[-1]}"


def _swaps(n: int) -> Iterator[list[int]]:
    """All orders of n things in which two are in each other's place."""
    for one, other in itertools.combinations(range(n), 2):
        order = list(range(n))
        order[one], order[other] = other, one
        yield order


def _operands(node: ast.Call) -> list[ast.expr]:
    """What a function of torch or a method of a tensor is given, the tensor first."""
    of_torch = not isinstance(node.func, ast.Attribute) or _is_module(node.func.value)
    given = [*node.args, *(one.value for one in node.keywords)]
    return given if of_torch else [node.func.value, *given]  # type: ignore[attr-defined]


def _is_module(node: ast.expr) -> bool:
    return ast.unparse(node) in ("torch", "F", "torch.nn.functional", "math")


def _names_no_axis(node: ast.Call) -> bool:
    """`x.any()` and `torch.any(x)`."""
    return len(_operands(node)) - len(node.keywords) == 1


def all_alike(nodes: list[ast.Call]) -> Iterator[list[ast.AST]]:
    """Calls of one function, all changed in one way: left out, or put in its kin's place."""
    if all(node.args and not isinstance(node.args[0], ast.Starred) for node in nodes):
        yield [node.args[0] for node in nodes]
    if all(isinstance(node.func, ast.Attribute) for node in nodes):
        yield [node.func.value for node in nodes]  # type: ignore[attr-defined]
    for other in sorted({one for kin in KIN if called(nodes[0]) in kin for one in kin}):
        yield [named(node, other) for node in nodes]


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
        yield with_fields(call, func=with_fields(call.func, value=whole))
