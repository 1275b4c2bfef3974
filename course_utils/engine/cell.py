"""Finds the text that running code was made from: a notebook cell, a file, a string.

No front end is asked. Whoever runs a text holds it (IPython, `%%time`, `%run`, `exec`), so it
stands in a variable of one of the callers, or else in the file that the code names.
"""

import __future__

import ast
import linecache
import os
import warnings
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def text_of(frame: FrameType) -> str:
    """The text that the code of a frame was compiled from; empty where nobody has it."""
    made = _shapes(frame.f_code)
    names = {shape[0] for shape in made if not shape[0].startswith("<")} or {"completes"}
    futures = frame.f_code.co_flags & FUTURES
    for text in _texts(frame):
        if all(name in text for name in names) and any(
            made <= shapes for shapes in _compiled(text, futures)
        ):
            return text
    return ""


def _texts(frame: FrameType) -> Iterator[str]:
    """Texts that may be the one, the likeliest first."""
    filename = frame.f_code.co_filename
    if os.path.isfile(filename):
        yield "".join(linecache.getlines(filename))
    caller = frame.f_back
    while caller:
        yield from [value for value in caller.f_locals.values() if isinstance(value, str)]
        caller = caller.f_back
    yield "".join(linecache.getlines(filename))


def _compiled(text: str, futures: int) -> list[set[tuple[Any, ...]]]:
    """The shapes in a text as a whole, and those when each of its statements is compiled alone.

    The second is what IPython does. Behind `import torch`, Python compiles `torch.zeros(2)`
    otherwise where it has seen the import.
    """
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | futures
    how: dict[str, Any] = {"filename": "text", "mode": "exec", "dont_inherit": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = compile(text.removeprefix("\ufeff"), flags=flags | ast.PyCF_ONLY_AST, **how)
            whole = _shapes(compile(tree, flags=flags, **how))
            alone = [ast.Module([statement], []) for statement in tree.body]
            return [whole, set().union(*(_shapes(compile(x, flags=flags, **how)) for x in alone))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _shapes(code: CodeType) -> set[tuple[Any, ...]]:
    """What each function and class inside some code does, wherever its lines stand."""
    inner = _inner(code)
    return set(map(_shape, inner)).union(*map(_shapes, inner))


def _shape(code: CodeType) -> tuple[Any, ...]:
    where = code.co_qualname  # `%%timeit` runs a cell inside a function of its own
    constants = [one for one in code.co_consts if not isinstance(one, CodeType) and one != where]
    inner = tuple(map(_shape, _inner(code)))
    return code.co_name, code.co_code, code.co_names, repr(constants), inner


def _inner(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]
