"""Puts the learner's version of a part in the reference's place, and back."""

import linecache

from course_utils import exercises
from course_utils.engine import parts


def install(part: str, source: str, filename: str) -> None:
    """Execute the source in the part's module: every user of the part has it at once.

    `filename` is what tracebacks show, with the source's own lines.
    """
    parts.references()
    run(part, source, filename)


def run(part: str, source: str, filename: str) -> None:
    """Execute the source where the part lives, so that it sees what it will see for good."""
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)  # no mtime: never dropped
    exec(compile(source, filename, "exec"), parts.namespace(part))


def uninstall(part: str) -> None:
    """Put the reference back."""
    parts.namespace(part)[exercises.find(part).name] = parts.reference(part)


def cell_name(part: str) -> str:
    """The file name under which a cell's lines appear in tracebacks."""
    return f"your cell ({part})"
