"""Puts the learner's version of a part in the reference's place, and back."""

import ast
import linecache

from course_utils.engine import parts
from course_utils.engine.source import bound_by, is_future


def install(part: str, source: str, filename: str) -> None:
    """Execute the source in the part's module: every user of the part has it at once.

    `filename` is what tracebacks show, with the source's own lines.
    """
    parts.references()
    run(part, source, filename)


def run(part: str, source: str, filename: str) -> None:
    """Execute the source where the part lives, so that it sees what it will see for good.

    Only the part itself gets into the module: a helper called `sum` is nobody else's `sum`.
    """
    lines = [line + "\n" for line in source.split("\n")]
    linecache.cache[filename] = (len(source), None, lines, filename)  # no mtime: never dropped
    code = compile(_in_a_function(source, parts.home(part)[1]), filename, "exec")
    made: dict = {}
    exec(code, parts.namespace(part), made)
    made["cell"]()


def uninstall(part: str) -> None:
    """Put the reference back, and all else in its module that a learner's code may have changed."""
    namespace = parts.namespace(part)
    module_name, own_name = parts.home(part)
    namespace[own_name] = parts.reference(part)
    for name, value in parts.shipped(module_name).items():
        if not parts.is_part(f"{module_name.split('.')[1]}.{name}"):
            namespace[name] = value


def cell_name(part: str) -> str:
    """The file name under which a cell's lines appear in tracebacks."""
    return f"your cell ({part})"


def _in_a_function(source: str, name: str) -> ast.Module:
    """The source as the body of a function, whose only global is the part."""
    tree = ast.parse(source)
    own = {bound for statement in tree.body for bound in bound_by(statement)} - {name}
    futures = [one for one in tree.body if is_future(one)]
    body = [_LocalNames(own).visit(one) for one in tree.body if one not in futures]
    function = ast.parse("def cell(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [ast.Global([name]), *body]
    return ast.fix_missing_locations(ast.Module([*futures, function], []))


class _LocalNames(ast.NodeTransformer):
    """What a cell calls `global` and binds itself is a local name of the function around it."""

    def __init__(self, own: set[str]):
        self.own = own

    def visit_Global(self, node: ast.Global) -> list[ast.stmt]:
        ours = [name for name in node.names if name in self.own]
        others = [name for name in node.names if name not in self.own]
        statements = [ast.Nonlocal(ours)] * bool(ours) + [ast.Global(others)] * bool(others)
        return [ast.copy_location(one, node) for one in statements]
