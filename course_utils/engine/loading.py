"""What happens at `import course_utils`: the saved parts take their places."""

import os
from contextlib import suppress

from course_utils import exercises
from course_utils.engine import completes, install, parts, source, store
from course_utils.engine.checker import checker
from course_utils.engine.source import CellProblem
from course_utils.engine.store import Saved
from course_utils.engine.verdict import Verdict


def load_saved_parts() -> list[str]:
    """Install every saved part that is as it was when it passed, and check the others once more.

    Gives sentences on what could not be used. Whatever is in the files, nothing is raised.
    """
    parts.references()
    saved = saved_parts()
    problems = unreadable()
    problems += filter(None, [_take(one) for one in saved if one.as_it_passed])
    problems += filter(None, [_check_again(one) for one in saved if not one.as_it_passed])
    return [f"{problem}: the package's own version stands in" for problem in problems] + retired()


def retired() -> list[str]:
    """Put aside what was saved of parts that the course no longer has; a sentence for each."""
    found = [one.part for one in store.load() if one.part in exercises.RETIRED]
    return [_put_aside(part) for part in found]


def _put_aside(part: str) -> str:
    try:
        where = f"your text is kept in {store.put_aside(part)}"
    except OSError as error:
        where = f"your text stays in {store.path_of(part)} ({error.strerror})"
    return f"{part} is no part any more, {exercises.RETIRED[part]}: {where}"


def saved_parts() -> list[Saved]:
    """The saved parts that the course knows."""
    return [one for one in store.load() if one.part in exercises.PARTS]


def unreadable() -> list[str]:
    """A sentence for every file that should hold parts and holds none."""
    return [f"{path} holds no part that can be read" for path in store.unreadable()]


def summary(problems: list[str]) -> str:
    """The line that the import prints, and one more for every problem."""
    mine, all_parts = completes.count()
    lines = [f"course_utils: {mine} of {all_parts} parts are yours"]
    return "\n".join(lines + [f"  {problem}" for problem in problems])


def _take(saved: Saved) -> str:
    try:
        found = source.part_source(saved.source, saved.part)
        install.install(saved.part, found.text, f"{store.path_of(saved.part)} ({saved.part})")
    except (Exception, SystemExit) as error:
        install.uninstall(saved.part)
        reason = str(error).split("\n")[0] or type(error).__name__
        return f"{saved.part} in {store.path_of(saved.part)} does not load ({reason})"
    return ""


def check_saved(saved: Saved) -> Verdict:
    """Check a saved part once more, as if its cell had been run again."""
    try:
        found = source.part_source(saved.source, saved.part)
    except CellProblem as problem:
        return Verdict(saved.part, "wrong", str(problem))
    return checker.examine(saved.part, found.text)


def _check_again(saved: Saved) -> str:
    """A part whose text was changed in the file since it passed, or that passed an older check."""
    verdict = check_saved(saved)
    if verdict.state != "right":
        return f"{saved.part} in {store.path_of(saved.part)} no longer passes: {verdict.headline}"
    problem = _take(saved)
    if not problem:
        with suppress(OSError):  # where it cannot be saved, it is checked again next time
            store.save(saved.part, saved.source)
    return problem


def wanted() -> bool:
    """Whether saved parts are to be used at all: COURSE_UTILS_PARTS=reference says no."""
    return os.environ.get("COURSE_UTILS_PARTS") != "reference"
