"""What Python says about itself: the docstrings of its standard library, as installed here.

Real English, with names and bits of code, on every machine that runs the course. Each version of
Python has slightly different ones.
"""

import ast
import sysconfig
from functools import cache
from pathlib import Path

from course_utils.corpora.text import Text

EVERY = 10  # one module in so many is kept for testing


@cache
def read() -> Text:
    """Most modules to learn from, every tenth to test with; what is said twice is kept once.

    About 0.8 and 0.1 MB. Raises FileNotFoundError where Python came without its source.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(folder.glob("*.py"))
    if not modules:
        raise FileNotFoundError(f"there is no source of the standard library in {folder}")
    parts: tuple[list[str], list[str]] = ([], [])
    seen: set[str] = set()
    for place, module in enumerate(modules):
        for docstring in _docstrings(module):
            if docstring not in seen:
                seen.add(docstring)
                parts[place % EVERY == EVERY - 1].append(docstring)
    return Text(*("\n\n".join(part) for part in parts))


def _docstrings(module: Path) -> list[str]:
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    found = (ast.get_docstring(node) for node in nodes if isinstance(node, documented))
    return [docstring for docstring in found if docstring]
