"""Runs a version of a part against its exercise and says what is wrong with it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from course_utils.engine.comparing import Difference, compare, error_sentence, same_result, show
from course_utils.engine.explaining.recording import telling
from course_utils.engine.explaining.relations import relation
from course_utils.engine.explaining.which_cases import points_missed, which_cases
from course_utils.engine.naming import recognise, resembling
from course_utils.engine.observing import Outcome, expected, observe, snapshot
from course_utils.engine.signatures import signature_problem
from course_utils.engine.verdict import Verdict
from course_utils.exercises import Case, Exercise, Wrong
from course_utils.exercises.exercise import Part

CHANGED_LATER = (
    "What your code returned was right, and a later call has changed it. Make something new in "
    "every call."
)
TOO_MUCH_MEMORY = "Your code asked for more memory than a check may use."


def check(exercise: Exercise, part: Part) -> Verdict:
    """Run every case and property of the exercise; stop at the first that fails."""
    cases = exercise.make_cases()
    problem = signature_problem(exercise, part)
    if problem:
        return Verdict(exercise.part, "wrong", problem)
    given: list[Kept] = []
    for case in [*cases, cases[0]]:  # the first once more: a part must not remember its last call
        wanted = expected(case)
        seen = observe(part, case)
        given.append(Kept(seen.value, snapshot(seen.value)))
        if case is cases[0] and isinstance(seen.error, NotImplementedError):
            return Verdict(exercise.part, "unfinished", "Not written yet.")
        if seen.error is not None and _out_of_memory(seen.error):
            return Verdict(exercise.part, "wrong", TOO_MUCH_MEMORY, lines=_lines_of(seen.error))
        difference = compare(wanted, seen, case.values)
        if difference:
            return _explain(exercise, part, cases, Fault(case, seen, difference))
    if any(not same_result(Outcome(one.value), Outcome(one.then)) for one in given):
        return Verdict(exercise.part, "wrong", CHANGED_LATER)
    for holds in exercise.properties:
        try:
            holds(part)
        except Wrong as wrong:
            return Verdict(exercise.part, "wrong", str(wrong))
        except Exception as error:
            return stopped(exercise, error)
    return Verdict(exercise.part, "right", "Right.")


class Kept(NamedTuple):
    """What a part returned, and how it was then."""

    value: Any
    then: Any


def stopped(exercise: Exercise, error: BaseException) -> Verdict:
    """The verdict on code that stopped with an error."""
    return Verdict(exercise.part, "wrong", error_sentence(error), lines=_lines_of(error))


@dataclass(frozen=True)
class Fault:
    """A case, what was seen in it, and in what that is wrong."""

    case: Case
    seen: Outcome
    difference: Difference


def _explain(exercise: Exercise, part: Part, cases: Sequence[Case], first: Fault) -> Verdict:
    mistake = recognise(exercise, part, cases) or resembling(exercise, part, cases)
    fault = (mistake and _in_common(mistake.part, part, cases)) or first
    case, seen = fault.case, fault.seen
    wrong = [] if mistake else [bool(compare(expected(one), observe(part, one))) for one in cases]
    point = "" if mistake else points_missed(cases, wrong)
    which = "" if mistake or point else which_cases(cases, wrong)
    return Verdict(
        exercise.part,
        "wrong",
        fault.difference.sentence,
        case=case.title,
        call=case.shown or f"{exercise.name}({', '.join(case.arguments)})",
        inputs=tuple((name, show(value)) for name, value in case.arguments.items()),
        expected=fault.difference.expected,
        got=fault.difference.got,
        mistake=mistake.name if mistake else "",
        says=mistake.says if mistake else "",
        lines=_lines_of(seen.error) if seen.error else (),
        relation=_relation(part, fault) or which,
        point=point,
    )


def _relation(part: Part, fault: Fault) -> str:
    """What the wrong result has to do with the right one, where it has."""
    wanted, seen = expected(fault.case).value, fault.seen
    if seen.error is not None:
        return ""
    again, other = observe(part, fault.case), observe(part, fault.case, seed=1)
    # A verdict, True or False, may rest on numbers that were drawn to find it.
    if telling(wanted) and same_result(again, seen) and not same_result(other, seen):
        return "Your code is random: called twice with the same inputs, it gives different numbers."
    return relation(wanted, seen.value, fault.case.arguments)


def _in_common(known: Part, part: Part, cases: Sequence[Case]) -> Fault | None:
    """The first fault of `part` that the known mistake has as well: what is shown is what is said.

    A part may be wrong in several ways, and its first case in another way than the one named.
    """
    for case in cases:
        wanted, seen = expected(case), observe(part, case)
        difference = compare(wanted, seen, case.values)
        other = compare(wanted, observe(known, case), case.values)
        if difference and other and difference.sentence == other.sentence:
            return Fault(case, seen, difference)
    return None


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _lines_of(error: BaseException) -> tuple[tuple[int, str], ...]:
    """Numbers and texts of the learner's own lines on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return tuple(
        (frame.lineno or 0, frame.line or "")
        for frame in frames
        if frame.filename.startswith("your cell")
    )
