"""What the calls that go wrong have in common, and those that go right have not."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import Case

AT_MOST = 3
"""Calls that are named."""
POINTS = 2
"""Where more is missed at once than so many points, the fault is likely to be something else."""


def points_missed(cases: Sequence[Case], wrong: Sequence[bool]) -> str:
    """What the wrong calls ask beyond the plain ones, if it is little and those are right."""
    bad, good = _sorted_out(cases, wrong)
    missed = list(dict.fromkeys(case.point for case in bad))
    if not good or not 0 < len(missed) <= POINTS or "" in missed:
        return ""
    return f"{_counted(cases, good)} Wrong: {_titles(bad[:AT_MOST])}. {' '.join(missed)}"


def which_cases(cases: Sequence[Case], wrong: Sequence[bool]) -> str:
    """A sentence on which calls are right; empty where all or none are."""
    bad, good = _sorted_out(cases, wrong)
    if not bad or not good:
        return ""
    counted = _counted(cases, good)
    common = _common(bad, good)
    if common:
        return f"{counted} It goes wrong just where {common}."
    if len(bad) <= AT_MOST:
        return f"{counted} Wrong: {_titles(bad)}."
    if len(good) <= AT_MOST:
        return f"{counted} Right: {_titles(good)}."
    return f"{counted} Right, for example: {_titles(good[:2])}. Wrong: {_titles(bad[:2])}."


def _sorted_out(cases: Sequence[Case], wrong: Sequence[bool]) -> tuple[list[Case], list[Case]]:
    """The wrong calls and the right ones."""
    bad = [case for case, is_wrong in zip(cases, wrong, strict=True) if is_wrong]
    good = [case for case, is_wrong in zip(cases, wrong, strict=True) if not is_wrong]
    return bad, good


def _counted(cases: Sequence[Case], good: Sequence[Case]) -> str:
    return f"{len(good)} of {len(cases)} calls {'is' if len(good) == 1 else 'are'} right."


def _titles(cases: Sequence[Case]) -> str:
    return "; ".join(f"“{case.title}”" for case in cases)


def _common(bad: Sequence[Case], good: Sequence[Case]) -> str:
    """The one thing that is true of all wrong calls and of no right one, if it is no accident."""
    if min(len(bad), len(good)) < 2:
        return ""
    of_each = [set(_features(case)) for case in bad]
    shared = set.intersection(*of_each).difference(*(_features(case) for case in good))
    return shared.pop() if len(shared) == 1 else ""


def _features(case: Case) -> Iterator[str]:
    for name, value in case.arguments.items():
        if value is None:
            yield f"`{name}` is None"
        else:
            yield f"`{name}` is given"
        yield from _of_value(name, value)


def _of_value(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool | str):
        yield f"`{name}` is {value!r}"
    elif isinstance(value, int | float):
        yield f"`{name}` is {value:g}"
        yield f"`{name}` is {'negative' if value < 0 else 'not negative'}"
        yield f"`{name}` is {'more than 1' if value > 1 else 'at most 1'}"
    elif isinstance(value, Tensor):
        yield f"`{name}` has {value.ndim} axes"
        yield f"`{name}` has the dtype {value.dtype}"
        if value.dtype == torch.bool:
            yield f"`{name}` {'is True everywhere' if value.all() else 'has a False'}"
        elif value.is_floating_point() and not value.isfinite().all():
            yield f"`{name}` has numbers that are not finite"
        for axis, size in enumerate(value.shape):
            yield f"axis {axis} of `{name}` has {'more than 1 entry' if size > 1 else '1 entry'}"
