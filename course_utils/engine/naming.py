"""Finds the known mistake that a wrong version of a part behaves like."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from course_utils.engine.comparing import close, same_result
from course_utils.engine.observing import Outcome, expected, observe
from course_utils.exercises import Case, Exercise, Mistake
from course_utils.exercises.exercise import Part

PROBES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x + 100,
    lambda x: x - 100,
    lambda x: x / 4,
    lambda x: -x,
)
"""How the numbers of a case are changed, to see whether two versions go on giving the same."""


def recognise(exercise: Exercise, part: Part, cases: Sequence[Case]) -> Mistake | None:
    """The known mistake that behaves like `part` in every case, if there is one."""
    seen = [observe(part, case) for case in cases]
    wanted = [expected(case) for case in cases]
    values_right = all(map(same_result, wanted, seen))
    same = _same_effects if values_right else same_result
    only_nan = _only_nan(cases, wanted, seen)
    for mistake in exercise.mistakes:
        pairs = zip(cases, seen, strict=True)
        if all(same(observe(mistake.part, case), one) for case, one in pairs) and (
            not only_nan or _alike_elsewhere(mistake.part, part, only_nan)
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
    if _only_nan(cases, wanted, seen):
        return None
    found, most = None, 0
    for mistake in exercise.mistakes:
        evidence = _evidence(mistake.part, cases, seen, wanted)
        if evidence > most:
            found, most = mistake, evidence
    return found


def where_it_fails(exercise: Exercise, part: Part, cases: Sequence[Case]) -> Mistake | None:
    """The one known mistake that gives the same wherever `part` is wrong; elsewhere it may differ.

    Of the cases that fail, at least half must have several different numbers.
    """
    pairs = [(case, observe(part, case)) for case in cases]
    failing = [(case, seen) for case, seen in pairs if not same_result(expected(case), seen)]
    rich = sum(_many_numbers(seen.value) for _, seen in failing)
    if not failing or rich < len(failing) / 2:
        return None
    alike = [
        mistake
        for mistake in exercise.mistakes
        if all(same_result(observe(mistake.part, case), seen) for case, seen in failing)
    ]
    return alike[0] if len(alike) == 1 else None


def _many_numbers(value: object) -> bool:
    tensors = value if isinstance(value, tuple) else (value,)
    return any(isinstance(one, Tensor) and _is_rich(one) for one in tensors)


def _is_rich(value: Tensor) -> bool:
    return value.is_floating_point() and len(value.detach()[value.isfinite()].unique()) > 2


def _evidence(
    mistake: Part, cases: Sequence[Case], seen: Sequence[Outcome], wanted: Sequence[Outcome]
) -> int:
    """The number of cases that speak for a mistake; 0 as soon as one speaks against it."""
    evidence = 0
    for case, two, right in zip(cases, seen, wanted, strict=True):
        one = observe(mistake, case)
        if not _may_be_same(one, two, right):
            return 0
        evidence += _shares_wrong_value(one, two, right)
        evidence -= _no_answer(two) and not _no_answer(one)
    return evidence


def _only_nan(
    cases: Sequence[Case], wanted: Sequence[Outcome], seen: Sequence[Outcome]
) -> list[Case]:
    """The cases that fail, where NaN is all that is wrong in them; none where there is more."""
    triples = list(zip(cases, wanted, seen, strict=True))
    failing = [three for three in triples if not same_result(three[1], three[2])]
    only_nan = [case for case, right, one in failing if same_result(right, _filled(right, one))]
    return only_nan if len(only_nan) == len(failing) else []


def _filled(wanted: Outcome, seen: Outcome) -> Outcome:
    """What was seen, with the right numbers where it is NaN."""
    right, value = wanted.value, seen.value
    if isinstance(right, tuple) and isinstance(value, tuple) and len(right) == len(value):
        return replace(seen, value=tuple(map(_without_nan, right, value)))
    return replace(seen, value=_without_nan(right, value))


def _without_nan(right: object, value: object) -> object:
    if isinstance(right, float) and isinstance(value, float):
        return right if value != value else value
    if not (isinstance(right, Tensor) and isinstance(value, Tensor)):
        return value
    if right.shape != value.shape or right.dtype != value.dtype or not value.is_floating_point():
        return value
    return torch.where(value.isnan(), right, value)


def _alike_elsewhere(mistake: Part, part: Part, cases: Sequence[Case]) -> bool:
    """Whether two versions are NaN at the same places for other numbers, too.

    Many a mistake gives NaN somewhere. For another reason, it will be somewhere else.
    """
    for case in map(_changed, cases):
        for other in case:
            one, two = observe(mistake, other), observe(part, other)
            if one.error is None and two.error is None and not same_result(one, two):
                return False
    return True


def _changed(case: Case) -> Iterator[Case]:
    for change in PROBES:
        arguments = {
            name: change(value)
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for name, value in case.arguments.items()
        }
        yield replace(case, arguments=arguments)


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
