"""Where numbers leave the computation, so that no gradient comes back through them."""

import ast
import copy
from typing import Any

from torch import Tensor

from course_utils.engine.explaining.trial import (
    FILENAME,
    FIRST_LOOK,
    TooSlow,
    Trial,
    quiet,
    time_limit,
)
from course_utils.engine.observing import observe

WATCH = "_watch_"
"""The name of the function that is given what leaves."""
LEAVES = ("item", "detach", "tolist", "numpy")


def leaving(trial: Trial, headline: str) -> ast.expr | None:
    """The first place at which a value that a gradient should reach leaves the computation.

    It is looked for only where the headline says that a gradient is missing or wrong, and said only
    of a value that really carries one in the first case that fails.
    """
    if not headline.startswith("The values are right") or "gradient" not in headline:
        return None
    nodes = list(ast.walk(trial.tree))
    found = [
        (node.lineno, node.col_offset, number)
        for number, node in enumerate(nodes)
        if isinstance(node, ast.expr) and _holder(node) is not None
    ]
    places = (number for _, _, number in sorted(found) if _carries(trial, number))
    first = next(places, None)
    return None if first is None else nodes[first]  # type: ignore[return-value]


def _holder(node: ast.AST) -> tuple[Any, str] | None:
    """Where `x` of `x.item()`, `x.data` or `Parameter(x)` is held: the node, and its field."""
    match node:
        case ast.Attribute(attr="data"):
            return node, "value"
        case ast.Call(func=ast.Attribute(attr="Parameter"), args=[_, *_]):
            return node, "args"
        case ast.Call(func=ast.Attribute(attr=name)) if name in LEAVES:
            return node.func, "value"
    return None


def _carries(trial: Trial, number: int) -> bool:
    """Whether what leaves at the node of this number would bring a gradient back."""
    tree = copy.deepcopy(trial.tree)
    holder = _holder(list(ast.walk(tree))[number])
    assert holder is not None
    node, field = holder
    if field == "args":
        node.args[0] = _watched(node.args[0])
    else:
        node.value = _watched(node.value)
    seen: list[bool] = []

    def watch(value: Any) -> Any:
        seen.append(isinstance(value, Tensor) and value.requires_grad)
        return value

    code = compile(ast.fix_missing_locations(tree), FILENAME, "exec")
    try:
        with quiet(), time_limit(FIRST_LOOK):
            observe(trial.part_of(code, **{WATCH: watch}), trial.first_failing)
    except (Exception, SystemExit, TooSlow):
        return False
    return any(seen)


def _watched(value: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(WATCH, ast.Load()), [value], [])
