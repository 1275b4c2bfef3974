"""What a notebook calls: `completes`, `hint`, `solution`, `reset`, `progress`."""

import inspect
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course_utils import exercises
from course_utils.engine import install, parts, source, store
from course_utils.engine.checker import checker
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
    exercises.find(part)

    def complete(definition: Part) -> Any:
        return attempt(part, cell_text(definition))

    return complete


def attempt(part: str, cell: str) -> Any:
    """Check what a cell defines, say what was found, and give back the version now in use."""
    verdict, foot = judge(part, cell)
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


def judge(part: str, cell: str) -> tuple[Verdict, str]:
    """The verdict on a cell, and a sentence on what is in use now. A right version is installed."""
    try:
        found = source.part_source(cell, part)
        if found.unfinished:
            return Verdict(part, "unfinished", "Not written yet."), _stands_in(part)
        source.missing_names(found, parts.namespace(part), _notebook_names())
        _refuse_taken_names(found)
    except CellProblem as problem:
        lines = ((problem.line, problem.text),) if problem.line else ()
        return Verdict(part, "wrong", str(problem), lines=lines), _stands_in(part)
    verdict = checker.examine(part, found.in_cell)
    if verdict.state != "right":
        return verdict, _stands_in(part)
    install.install(part, found.in_cell, install.cell_name(part))
    return verdict, _keep(found)


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
        mine = [saved.part for saved in store.load()]
        kept = [store.put_aside(one) for one in mine]
        for exercise in exercises.all_exercises():
            install.uninstall(exercise.part)
        return Note(f"{len(mine)} parts are blank again", _where(kept))
    exercises.find(part)
    kept = [store.put_aside(part)]
    install.uninstall(part)
    return Note(f"`{part}` is blank again", _where(kept))


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
    names = [exercise.part for exercise in exercises.all_exercises()]
    return sum(map(parts.is_yours, names)), len(names)


def cell_text(definition: Part) -> str:
    """The whole source that a definition stands in: its notebook cell, or its file."""
    if _shell() is None:
        return inspect.getsource(inspect.getmodule(definition) or definition)
    return running_cell()


def running_cell() -> str:
    """The source of the notebook cell that is running now, as Python without magics."""
    shell = _shell()
    seen = started_cells[-1] if started_cells else shell.history_manager.input_hist_raw[-1]
    return shell.transform_cell(seen)


started_cells: deque[str] = deque(maxlen=1)
"""The cell that started last. Empty only in the cell that imports the course."""


# --- sentences and surroundings ------------------------------------------------------------------


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
    return f"Saved in `{_short(path)}`. {used}"


def _next(part: str) -> str:
    names = [exercise.part for exercise in exercises.all_exercises()]
    later = names[names.index(part) + 1 :] + names
    open_parts = [name for name in later if not parts.is_yours(name)]
    if not open_parts:
        return "Every part is yours."
    return f"Next: `{open_parts[0]}` in notebook {exercises.notebook_of(open_parts[0])}."


def _stands_in(part: str) -> str:
    if parts.is_yours(part):
        return "Your version that passed before stays in use."
    return "Until it is right, the package uses its own version, so everything below works."


def _where(kept: list[Path | None]) -> str:
    files = [path for path in kept if path]
    if not files:
        return "Nothing of yours was saved."
    return "Your text is kept in " + ", ".join(f"`{_short(path)}`" for path in files)


def _short(path: Path) -> str:
    """The path as one would say it: from the course's folder where it is inside, else whole."""
    course = Path(__file__).parents[2]
    return str(path.relative_to(course)) if path.is_relative_to(course) else str(path)


def _refuse_taken_names(found: PartSource) -> None:
    """A helper of one part may not replace another part's helper of the same name."""
    module = found.part.split(".")[0]
    for saved in store.load():
        if saved.part == found.part or saved.part.split(".")[0] != module:
            continue
        try:
            other = source.part_source(saved.source, saved.part)
        except CellProblem:
            continue
        for name in sorted(found.names & other.names):
            if source.definition_of(name, found.text) != source.definition_of(name, other.text):
                raise CellProblem(
                    f"Your version of `{saved.part}` has a helper `{name}` already, which does "
                    "something else. Give this one another name."
                )


def _shell() -> Any:
    """The running IPython, if this is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _notebook_names() -> dict[str, Any]:
    shell = _shell()
    return shell.user_ns if shell else vars(sys.modules["__main__"])


def _show(panel: Panel) -> None:
    if _shell() is None:
        print(panel)
    else:
        from IPython.display import display

        display(panel)
