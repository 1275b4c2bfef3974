"""Finds the known mistake that a wrong version of a part behaves like."""

from collections.abc import Sequence

from torch import Tensor

from course_utils.engine.comparing import close, same_result
from course_utils.engine.observing import Outcome, expected, observe
from course_utils.exercises import Case, Exercise, Mistake
from course_utils.exercises.exercise import Part


def recognise(exercise: Exercise, part: Part, cases: Sequence[Case]) -> Mistake | None:
    """The known mistake that behaves like `part` in every case, if there is one."""
    seen = [observe(part, case) for case in cases]
    wanted = [expected(case) for case in cases]
    values_right = all(same_result(a, b) for a, b in zip(wanted, seen, strict=True))
    same = _same_effects if values_right else same_result
    for mistake in exercise.mistakes:
        if all(
            same(observe(mistake.part, case), one) for case, one in zip(cases, seen, strict=True)
        ):
            return mistake
    return None


def resembling(exercise: Exercise, part: Part, cases: Sequence[Case]) -> Mistake | None:
    """The known mistake that shares most wrong values with `part` and contradicts none of them.

    It names the mistake in code that also stops, or gives NaN, in a few cases where the mistake
    itself does not.
    """
    wanted = [expected(case) for case in cases]
    seen = [observe(part, case) for case in cases]
    found, most = None, 0
    for mistake in exercise.mistakes:
        made = [observe(mistake.part, case) for case in cases]
        outcomes = list(zip(made, seen, wanted, strict=True))
        excused = sum(_no_answer(two) and not _no_answer(one) for one, two, _ in outcomes)
        evidence = sum(_shares_wrong_value(*three) for three in outcomes) - excused
        if evidence > most and all(_may_be_same(*three) for three in outcomes):
            found, most = mistake, evidence
    return found


def _shares_wrong_value(made: Outcome, seen: Outcome, wanted: Outcome) -> bool:
    return seen.error is None and same_result(made, seen) and not same_result(wanted, seen)


def _may_be_same(made: Outcome, seen: Outcome, wanted: Outcome) -> bool:
    if same_result(made, seen) or _no_answer(seen):
        return True
    return _no_answer(made) and not same_result(wanted, seen)


def _no_answer(outcome: Outcome) -> bool:
    """Whether the code stopped, or gave NaN."""
    results = outcome.value if isinstance(outcome.value, tuple) else (outcome.value,)
    tensors = [one for one in results if isinstance(one, Tensor)]
    return outcome.error is not None or any(bool(one.isnan().any()) for one in tensors)


def _same_effects(one: Outcome, other: Outcome) -> bool:
    if not same_result(one, other) or one.changed != other.changed:
        return False
    if type(one.backward_error) is not type(other.backward_error):
        return False
    return all(
        _same_gradient(gradient, other.gradients.get(name))
        for name, gradient in one.gradients.items()
    )


def _same_gradient(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return close(one, other)
