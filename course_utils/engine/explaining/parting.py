"""Where a learner's numbers part from ours, in the first case that fails.

Suzuki et al. 2017 (TraceDiff) do so for scalars; tensors are matched by shape and numbers, whatever
they are called.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from course_utils.engine.explaining import donors
from course_utils.engine.explaining.recording import NOTE, Recording, recorded, same, telling
from course_utils.engine.explaining.trial import (
    FILENAME,
    FIRST_LOOK,
    TooSlow,
    Trial,
    copies,
    quiet,
    time_limit,
)


@dataclass(frozen=True)
class Parting:
    """An expression that is none of ours, and with one of ours in its place the result is right.

    `made_of` are names in it whose value is none of ours either, each with the line that gives it.
    """

    line: int
    expression: str
    made_of: tuple[tuple[str, int], ...] = ()


def parting(trial: Trial) -> Parting | None:
    """The first of the learner's values that need only be one of ours for all to be right."""
    ours = [value for tree in donors.our_versions(trial) for value in _values(trial, tree)]
    recording = Recording()
    code = compile(recorded(trial.tree, recording), FILENAME, "exec")
    _run(trial, code, recording)
    once = [number for number in recording.order if len(recording.values[number]) == 1]
    theirs = {number: recording.values[number][0] for number in once}
    strange = [number for number in once if _is_none_of(theirs[number], ours)]
    number = _cured_by_ours(trial, code, recording, strange, theirs, ours)
    if number is None:
        return None
    node = recording.nodes[number]
    last = {one: recording.values[one][-1] for one in recording.order}
    not_ours = [recording.nodes[one] for one, value in last.items() if _is_none_of(value, ours)]
    made_of = tuple(_made_of(trial.tree, node, not_ours))
    return Parting(node.lineno, trial.first_line_of(node), made_of)


def _is_none_of(value: Any, ours: list[Tensor]) -> bool:
    return telling(value) and not any(same(value, one) for one in ours)


def _made_of(
    tree: ast.Module, node: ast.expr, not_ours: list[ast.expr]
) -> Iterator[tuple[str, int]]:
    """Names in an expression that one statement before it gives a value which is none of ours."""
    read = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    places = {(one.lineno, ast.unparse(one)) for one in not_ours}
    found: dict[str, list[int]] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            line, name = statement.lineno, statement.targets[0].id
            if (line, ast.unparse(statement.value)) in places and name in read:
                found.setdefault(name, []).append(line)
    for name, lines in found.items():
        if len(lines) == 1 and lines[0] < node.lineno:
            yield name, lines[0]


def lines_as_ours(trial: Trial) -> set[int]:
    """The lines whose statement gives one of our values, in the first case that fails."""
    ours = [value for tree in donors.our_versions(trial) for value in _values(trial, tree)]
    recording = Recording()
    _run(trial, compile(recorded(trial.tree, recording), FILENAME, "exec"), recording)
    last = {recording.nodes[number].lineno: number for number in recording.order}
    values = {line: recording.values[number] for line, number in last.items()}
    return {
        line
        for line, (value, *more) in values.items()
        if not more and telling(value) and any(same(value, one) for one in ours)
    }


def _values(trial: Trial, tree: ast.Module) -> list[Tensor]:
    """All telling values of a version of ours."""
    recording = Recording()
    _run(trial, compile(recorded(tree, recording), donors.OURS, "exec"), recording)
    return [value for values in recording.values.values() for value in values if telling(value)]


def _run(trial: Trial, code: Any, recording: Recording) -> Any:
    """What the version makes of the first failing case; None where it stops."""
    case = trial.first_failing
    recording.clear()
    try:
        with quiet(), time_limit(FIRST_LOOK):
            return case.use(trial.part_of(code, **{NOTE: recording.note}), **copies(case))
    except (Exception, SystemExit, TooSlow):
        return None


def _cured_by_ours(
    trial: Trial,
    code: Any,
    recording: Recording,
    strange: list[int],
    theirs: dict[int, Tensor],
    ours: list[Tensor],
) -> int | None:
    """The first value that need only be one of ours for the result to be right."""
    inner = [value for value in ours if not trial.is_right_value(value)]
    for number in strange[:-1]:  # ours in place of the result itself tells nothing
        for value in _other_values(theirs[number], inner):
            if trial.time_is_up:
                return None
            recording.replaced = {number: value}
            result = _run(trial, code, recording)
            recording.replaced = {}
            if result is not None and trial.is_right_value(result):
                return number
    return None


def _other_values(value: Tensor, ours: list[Tensor]) -> Iterator[Tensor]:
    return (one for one in ours if _kind(one) == _kind(value))


def _kind(value: Any) -> tuple:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else (type(value),)
