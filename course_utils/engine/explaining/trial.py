"""One wrong version of a part, and how a changed one fares in its place."""

import ast
import copy
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import CodeType, FrameType
from typing import Any

import torch

from course_utils.engine import parts
from course_utils.engine.comparing import compare, same_result
from course_utils.engine.explaining.recording import telling
from course_utils.engine.observing import Outcome, expected, observe
from course_utils.exercises import Case, Exercise, Mistake
from course_utils.exercises.exercise import Part

FILENAME = "changed cell"
FIRST_LOOK, WHOLE_CHECK = 0.25, 1.0
"""Processor seconds that a version may take for the first failing case, and for all."""
IN_ALL = 3.0
"""Seconds that all explaining may take, also where the processor is busy with something else."""
TIMES_AS_LONG, AT_LEAST = 20, 0.02
"""What a changed version may take for the first failing case: so many times the learner's own."""


class TooSlow(BaseException):
    """Not an Exception: the check would take one for the code's own."""


class Trial:
    """The learner's source, the cases that it fails, and a place to try changed sources in."""

    def __init__(self, exercise: Exercise, source: str, seconds: float):
        self.exercise, self.source = exercise, source
        self.latest = time.monotonic() + IN_ALL
        self.more_time(seconds)
        self.cases = exercise.make_cases()
        self.tree = _without_annotations(ast.parse(source))
        # Now, without a limit: an import that is interrupted is broken for good.
        self.wanted: list[Outcome] = []
        self.failing = self._failing()
        self.first_look = self._first_look()
        self.known = [] if self.time_is_up else self._known()

    def more_time(self, seconds: float) -> None:
        """From now on, so many seconds of processor time, and twice as many of any time."""
        latest = min(self.latest, time.monotonic() + 2 * seconds)
        self.end = time.process_time() + seconds, latest

    def _failing(self) -> list[int]:
        """The numbers of the cases that the learner's own source fails, as far as time goes."""
        part, failing = self.part_of(self.tree), []
        for number, case in enumerate(self.cases):
            self.wanted.append(expected(case))
            if compare(self.wanted[number], observe(part, case)):
                failing.append(number)
            if failing and self.time_is_up:
                break
        return failing

    @cached_property
    def first_failing(self) -> Case:
        return self.cases[self.failing[0] if self.failing else 0]

    @cached_property
    def values_are_wrong(self) -> bool:
        """Whether the first failing case fails by its result, and not by what it does beside."""
        return not same_result(
            self.wanted_first, observe(self.part_of(self.tree), self.first_failing)
        )

    @property
    def wanted_first(self) -> Outcome:
        return self.wanted[self.failing[0] if self.failing else 0]

    @property
    def time_is_up(self) -> bool:
        return time.process_time() > self.end[0] or time.monotonic() > self.end[1]

    @cached_property
    def _lines(self) -> list[bytes]:
        """As positions in a syntax tree count: in bytes."""
        return [line.encode() for line in self.source.split("\n")]

    def first_line_of(self, node: ast.AST) -> str:
        """The learner's own text of a node: `ast.get_source_segment` reads all lines each time."""
        if not isinstance(node, ast.expr | ast.stmt) or node.end_lineno is None:
            return ""
        line = self._lines[node.lineno - 1]
        end = node.end_col_offset if node.end_lineno == node.lineno else len(line)
        return line[node.col_offset : end].decode()

    def part_of(self, tree: ast.Module | CodeType, **names: Any) -> Part:
        """What a changed source defines, in a namespace of its own."""
        namespace = {**parts.namespace(self.exercise.part), **names}
        code = tree if isinstance(tree, CodeType) else compile(tree, FILENAME, "exec")
        exec(code, namespace)
        return namespace[self.exercise.name]

    def fares(self, tree: ast.Module) -> str:
        """`right` where all is right, `split` where only what failed is right now.

        Where a known mistake is left, its name.
        """
        try:
            with quiet(), time_limit(self.first_look):
                part = self.part_of(tree)
                case = self.first_failing
                value = case.use(part, **copies(case))
            with quiet(), time_limit(WHOLE_CHECK):
                return self._in_all(part) if self.is_right_value(value) else self._left(part, value)
        except (Exception, SystemExit, TooSlow):
            return ""

    def is_right_value(self, value: Any) -> bool:
        """Whether the first failing case should give this."""
        return same_result(self.wanted_first, Outcome(value))

    def _first_look(self) -> float:
        """The limit for a changed version, which is no loop without end."""
        part, start = self.part_of(self.tree), time.process_time()
        with quiet():
            observe(part, self.first_failing)
        own = time.process_time() - start
        return min(FIRST_LOOK, max(AT_LEAST, TIMES_AS_LONG * own))

    def _known(self) -> list[tuple[Mistake, Outcome]]:
        """What the known mistakes give in the first failing case, where one can tell by it."""
        with quiet():
            made = [(one, observe(one.part, self.first_failing)) for one in self.exercise.mistakes]
        return [(one, outcome) for one, outcome in made if telling(outcome.value)]

    def _left(self, part: Part, value: Any) -> str:
        """The name of the known mistake that a version makes, in every case."""
        if not self.values_are_wrong:
            return ""
        for mistake, outcome in self.known:
            if same_result(outcome, Outcome(value)) and self._behaves_like(part, mistake.part):
                is_first_of_two = self._shows(mistake.part) and not self._breaks(part)
                return mistake.name if is_first_of_two else ""
        return ""

    def _shows(self, mistake: Part) -> bool:
        """Whether the learner's own code gives what the mistake gives, in a case that is wrong."""
        own = self.part_of(self.tree)
        outcomes = ((observe(own, self.cases[one]), one) for one in self.failing)
        return any(same_result(seen, observe(mistake, self.cases[one])) for seen, one in outcomes)

    def mends(self, tree: ast.Module) -> bool:
        """Whether a changed source is right in a case that fails."""
        try:
            with quiet(), time_limit(WHOLE_CHECK):
                part = self.part_of(tree)
                return any(
                    not compare(self.wanted[one], observe(part, self.cases[one]))
                    for one in self.failing
                )
        except (Exception, SystemExit, TooSlow):
            return False

    def _breaks(self, part: Part) -> bool:
        """Whether a version is wrong where the learner's own is right."""
        right = set(range(len(self.cases))) - set(self.failing)
        return any(compare(self.wanted[one], observe(part, self.cases[one])) for one in right)

    def _behaves_like(self, part: Part, other: Part) -> bool:
        return all(same_result(observe(other, one), observe(part, one)) for one in self.cases)

    def _in_all(self, part: Part) -> str:
        broken = False
        order = sorted(range(len(self.cases)), key=lambda one: one not in self.failing)
        for number in [*order, 0]:  # the first once more: nothing is remembered
            if compare(self.wanted[number], observe(part, self.cases[number])):
                if number in self.failing:
                    return ""
                broken = True
        if broken:
            return "split" if self.failing else ""
        for holds in self.exercise.properties:
            holds(part)
        return "right"


def _without_annotations(tree: ast.Module) -> ast.Module:
    """They take longer to make than most parts take to run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return tree


def copies(case: Case) -> dict[str, Any]:
    """The arguments of a case, to be spoilt."""
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else copy.copy(value)
        for name, value in case.arguments.items()
    }


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and the same random numbers for every version."""
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` notes where it was called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow in the block when it has used so much processor time."""

    over = False

    def stop(number: int, frame: FrameType | None) -> None:
        if not over:
            raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    # Again and again: what is raised while Python collects garbage is dropped.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        try:
            yield
        finally:
            over = True
    finally:  # also where it was stopped in the line above
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
