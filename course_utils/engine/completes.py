"""What a notebook calls: `completes`, `hint`, `solution`, `reset`, `progress`."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from course_utils import exercises
from course_utils.engine import cell, console, install, parts, source, store
from course_utils.engine.checker import checker
from course_utils.engine.imports import with_imports
from course_utils.engine.panel import Note, Panel
from course_utils.engine.source import CellProblem, PartSource
from course_utils.engine.verdict import Verdict
from course_utils.exercises.exercise import Part


class NotYours(Exception):
    """In strict mode: a version of a part that did not pass its check."""


def completes(part: str) -> Callable[[Part], Any]:
    """Decorator of an exercise cell: check the definition and, if it is right, use it from now on.

    It gives back the version of the part that is in use: yours, or else the reference.
    """
    exercises.known(part)

    def complete(definition: Part) -> Any:
        frame = sys._getframe(1)
        return attempt(part, cell.text_of(frame), frame.f_globals, frame.f_lineno)

    return complete


def attempt(part: str, text: str, names: Mapping[str, Any], line: int = 0) -> Any:
    """Check what a cell defines, say what was found, and give back the version now in use.

    `names` are what the cell could see, `line` is that of the decorator that runs, where one does.
    """
    verdict, foot = judge(part, text, names, line)
    exercise = exercises.find(part)
    helpful = verdict.state != "right"
    panel = Panel(
        verdict,
        foot,
        exercise.hints if helpful else (),
        parts.reference_source(part) if helpful else "",
    )
    _show(panel)
    if helpful and os.environ.get("COURSE_UTILS_STRICT") == "1":
        raise NotYours(repr(panel))
    return parts.in_use(part)


def judge(part: str, text: str, names: Mapping[str, Any], line: int = 0) -> tuple[Verdict, str]:
    """The verdict on a cell, and a sentence on what is in use now. A right version is installed."""
    verdict, found = examine(part, text, names, line)
    if found is None or verdict.state != "right":
        return verdict, _stands_in(part)
    install.install(part, found.in_cell, install.cell_name(part))
    return verdict, _keep(found)


def examine(
    part: str, text: str, names: Mapping[str, Any], line: int = 0
) -> tuple[Verdict, PartSource | None]:
    """The verdict on a cell and, where it can be read, the source of the part. Nothing is kept."""
    try:
        found = _part_source(part, text, line)
        if found.unfinished:
            return Verdict(part, "unfinished", "Not written yet."), found
        found = with_imports(found, parts.namespace(part), names)
    except CellProblem as problem:
        lines = ((problem.line, problem.text),) if problem.line else ()
        return Verdict(part, "wrong", str(problem), lines=lines), None
    return checker.examine(part, found.in_cell), found


def hint(part: str) -> Note:
    """The next hint for a part; after the last one, the first again."""
    hints = exercises.find(part).hints
    number = _hints_given.get(part, 0) % len(hints)
    _hints_given[part] = number + 1
    return Note(f"Hint {number + 1} of {len(hints)} for `{part}`", hints[number])


_hints_given: dict[str, int] = {}


def solution(part: str) -> Note:
    """The reference of a part, as it stands in the package."""
    return Note(f"The solution of `{part}`", parts.reference_source(part), code=True)


def reset(part: str) -> Note:
    """Use the reference again. Your version is not lost: its text is put aside."""
    if part == "all":
        names = [saved.part for saved in store.load()]
        kept = _put_aside(names)
        for one in exercises.PARTS:
            install.uninstall(one)
        return Note(f"{len(names)} parts are blank again", kept)
    exercises.known(part)
    kept = _put_aside([part])
    install.uninstall(part)
    return Note(f"`{part}` is blank again", kept)


def progress(lit: str | list[str] | None = None) -> Any:
    """The map of the transformer with your parts filled in. `lit` marks a module or some parts."""
    from course_utils.views import PartState, progress_map

    states = [
        PartState(part, exercises.notebook_of(part), parts.is_yours(part))
        for part in exercises.PARTS
    ]
    return progress_map(states, lit=lit)


def count() -> tuple[int, int]:
    """How many parts are yours, and how many there are."""
    return sum(map(parts.is_yours, exercises.PARTS)), len(exercises.PARTS)


# --- sentences and surroundings ------------------------------------------------------------------


def _part_source(part: str, text: str, line: int) -> PartSource:
    if not text:
        raise CellProblem(
            "The text of your code is not kept where it ran, at Python's own prompt or in `exec`, "
            "and a part is saved as text. Put it in a notebook cell or a file."
        )
    found = source.part_source(text, part, line)
    if store.MARK.search(found.text):
        raise CellProblem("A line of your code looks like those between saved parts. Change it.")
    return found


def _keep(found: PartSource) -> str:
    """Save a part that passed, and say so."""
    mine, all_parts = count()
    exercise = exercises.find(found.part)
    counted = f"{mine} of {all_parts} parts are yours."
    used = f"Used by {exercise.used_by}. {counted} {_next(found.part)}"
    try:
        path = store.save(found.part, found.text)
    except OSError as error:
        return (
            f"It is in use until this kernel stops, but it could not be saved in {store.home()} "
            f"({error.strerror or error}). Set COURSE_UTILS_HOME to a folder that you may write "
            f"to. {used}"
        )
    imports = "".join(f", with `{statement}`" for statement in found.imports)
    return f"Saved in `{_short(path)}`{imports}. {used}"


def _next(part: str) -> str:
    names = list(exercises.PARTS)
    later = names[names.index(part) + 1 :] + names
    open_parts = [name for name in later if not parts.is_yours(name)]
    if not open_parts:
        return "Every part is yours."
    return f"Next: `{open_parts[0]}` in notebook {exercises.notebook_of(open_parts[0])}."


def _stands_in(part: str) -> str:
    if parts.is_yours(part):
        return "Your version that passed before stays in use."
    return "Until it is right, the package uses its own version, so everything below works."


def _put_aside(names: list[str]) -> str:
    """Put the saved texts of parts aside, and say where they are."""
    files, problems = [], []
    for part in names:
        try:
            files.append(store.put_aside(part))
        except OSError as error:
            problems.append(
                f"`{_short(store.path_of(part))}` could not be changed ({error.strerror or error})."
            )
    kept = [f"`{_short(path)}`" for path in files if path]
    if kept:
        problems.insert(0, f"Your text is kept in {', '.join(kept)}.")
    return " ".join(problems) or "Nothing of yours was saved."


def _short(path: Path) -> str:
    """The path as one would say it: from the course's folder where it is inside, else whole."""
    course = Path(__file__).parents[2]
    return str(path.relative_to(course)) if path.is_relative_to(course) else str(path)


def _shell() -> Any:
    """The running IPython, if this is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _show(panel: Panel) -> None:
    if _shell() is None:
        console.say(panel)
    else:
        from IPython.display import display

        display(panel)
