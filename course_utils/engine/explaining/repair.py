"""Finds a small change of the learner's own code that makes it right, to show where the fault is.

Program repair as feedback: Yi et al. 2017 (ITSP), Hu et al. 2019 (Refactory). What is shown is the
learner's own line and expression, never what would stand there instead.
"""

import ast
import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from course_utils.engine.explaining import donors, edits
from course_utils.engine.explaining.accidents import accidents
from course_utils.engine.explaining.amends import all_alike, amends, made_anew, with_names
from course_utils.engine.explaining.parting import lines_as_ours
from course_utils.engine.explaining.recording import functions, telling
from course_utils.engine.explaining.trial import Trial

WHAT_ELSE, SECOND_FAULT = 0.3, 0.7
"""Processor seconds for other changes as small as the first, and for the second of two faults."""


@dataclass(frozen=True)
class Repair:
    """A place in the learner's code, and how things are after a change there.

    `leaves` is "right", "split" where other cases break, or the name of a known mistake.
    """

    line: int
    expression: str
    leaves: str


@dataclass(frozen=True)
class Candidate:
    """A change: what is put at some places, and how far it is from what is there."""

    rank: int
    changes: tuple[tuple[edits.Place, ast.AST], ...]
    line: int
    expression: str

    def leaving(self, leaves: str) -> Repair:
        return Repair(self.line, self.expression, leaves)


def repair(trial: Trial, likely: tuple[int, ...] = ()) -> Repair | None:
    """The smallest change that is found in time, on the likely lines first."""
    tree = edits.OneConstant().visit(copy.deepcopy(trial.tree))
    lucky = _lucky(trial, tree)
    guessed: Candidate | None = None
    split: Repair | None = None
    left: dict[str, Candidate] = {}  # by the known mistake that a change leaves
    for kinds in (_own_changes, donors.transplants):  # the second are costly to prepare
        in_order = sorted(
            candidates(trial, tree, kinds), key=lambda one: (one.line not in likely, one.rank)
        )
        for number, candidate in enumerate(in_order):
            if trial.time_is_up:
                break
            leaves = _fares(trial, tree, candidate)
            if leaves == "right" and lucky(candidate):
                guessed = guessed or candidate
            elif leaves == "right":
                others = _others(trial, tree, candidate, in_order[number + 1 :])
                return _best(trial, [candidate, *others]).leaving("right")
            elif leaves and kinds is _own_changes and _is_evidence(trial, candidate, leaves):
                if leaves == "split":
                    split = split or candidate.leaving(leaves)
                else:
                    left.setdefault(leaves, candidate)
        if guessed:
            return guessed.leaving("right")
    for name, candidate in left.items():
        both = _two_faults(trial, tree, candidate, name)
        if both:
            return both
    return split


def _others(
    trial: Trial, tree: ast.Module, first: Candidate, candidates: list[Candidate]
) -> list[Candidate]:
    """What else makes it right by a change as small, on other lines: looked for in a short time."""
    end, found = time.process_time() + WHAT_ELSE, []
    for candidate in candidates:
        if trial.time_is_up or time.process_time() > end or candidate.rank > first.rank:
            break
        if candidate.line != first.line and _fares(trial, tree, candidate) == "right":
            found.append(candidate)
    return found


def _best(trial: Trial, found: list[Candidate]) -> Candidate:
    """Of changes on several lines the first that is on a line where the numbers are not ours."""
    if len({one.line for one in found}) == 1:
        return found[0]
    as_ours = lines_as_ours(trial)
    return next((one for one in found if one.line not in as_ours), found[0])


def _lucky(trial: Trial, tree: ast.Module) -> Callable[[Candidate], bool]:
    """Whether a change may be right by luck: what is tried in a loop, and an answer in place of
    one that can be guessed, like True.
    """
    if telling(trial.wanted_first.value):
        return lambda candidate: False
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    in_lists = {id(node) for loop in loops for node in ast.walk(loop.iter)}
    in_loops = {id(one) for loop in loops for one in ast.walk(loop) if isinstance(one, ast.Return)}

    def is_lucky(candidate: Candidate) -> bool:
        for place, new in candidate.changes:
            ends = id(place.get()) in in_loops or id(place.parent) in in_loops
            answers = isinstance(new, ast.Return | ast.Constant)
            if id(place.get()) in in_lists or (ends and answers):
                return True
            if isinstance(place.parent, ast.Tuple | ast.List) and isinstance(new, ast.Constant):
                return True
        return False

    return is_lucky


def _two_faults(trial: Trial, tree: ast.Module, first: Candidate, mistake: str) -> Repair | None:
    """The first of two faults: another change, on another line, mends the known mistake that is
    left, or the first alone makes some calls right.

    Where that other change is on the same line there is but one place to look at.
    """
    trial.more_time(SECOND_FAULT)
    old = [place.get() for place, _ in first.changes]
    for place, new in first.changes:
        place.put(new)
    try:
        rest = sorted(candidates(trial, tree, _own_changes), key=lambda one: one.rank)
        for candidate in rest:
            if trial.time_is_up:
                break
            if _fares(trial, tree, candidate) == "right":
                return first.leaving(mistake if candidate.line != first.line else "right")
        if trial.mends(tree):
            return first.leaving(mistake)
    finally:
        for (place, _), node in zip(first.changes, old, strict=True):
            place.put(node)
    return None


def _is_evidence(trial: Trial, candidate: Candidate, leaves: str) -> bool:
    """Whether a change that does not mend all says something about the code that was there.

    What is left after something was taken away may be the fault of the taking. And a case whose
    result could be guessed, like True, is mended by many a change.
    """
    if leaves == "split" and not telling(trial.wanted_first.value):
        return False
    sizes = ((edits.size(place.get()), edits.size(new)) for place, new in candidate.changes)
    return leaves == "split" or all(after >= before for before, after in sizes)


def _fares(trial: Trial, tree: ast.Module, candidate: Candidate) -> str:
    before = [place.get() for place, _ in candidate.changes]
    for place, new in candidate.changes:
        _locate(new, place.get())
        place.put(new)
    try:
        fares = trial.fares(tree)
        return "" if fares and unused_names(tree) - unused_names(trial.tree) else fares
    finally:
        for (place, _), node in zip(candidate.changes, before, strict=True):
            place.put(node)


def _locate(new: ast.AST, old: ast.AST) -> None:
    ast.copy_location(new, old)
    ast.fix_missing_locations(new)


# --- which changes there are ---------------------------------------------------------------------


Changes = Iterator[tuple[int, edits.Place, ast.AST]]
"""How far a change is from what is there, where it is made, and what is put there."""


def candidates(
    trial: Trial,
    tree: ast.Module,
    kinds: Callable[[Trial, ast.FunctionDef, list[edits.Place]], Changes],
) -> Iterator[Candidate]:
    """Changes of every function of the cell: in one place, or in all that are equal."""
    for definition in functions(tree):
        places = list(edits.places(definition))
        if kinds is _own_changes:
            yield from _in_place(trial, places)
            yield from _calls_alike(trial, places)
            yield from _operators_alike(trial, places)
            yield from _in_another_order(trial, places)
        alike: dict[str, list[edits.Place]] = {}
        text_of = {id(place): _text(place.get()) for place in places}
        for place in places:
            alike.setdefault(text_of[id(place)], []).append(place)
        for rank, place, new in kinds(trial, definition, places):
            if _misleads(place, new):
                continue
            line, expression = _blamed(trial, place)
            yield Candidate(rank, ((place, new),), line, expression)
            equal = alike[text_of[id(place)]]
            if len(equal) > 1 and place is equal[0]:
                all_of_them = tuple((one, copy.deepcopy(new)) for one in equal)
                yield Candidate(rank + 1, all_of_them, line, expression)


def _in_place(trial: Trial, places: list[edits.Place]) -> Iterator[Candidate]:
    """All that is written in place made anew, at once."""
    changes = tuple((place, new) for place in places for new in made_anew(place.get()))
    if len(changes) > 1:
        yield Candidate(2, changes, *_blamed(trial, changes[0][0]))


def _calls_alike(trial: Trial, places: list[edits.Place]) -> Iterator[Candidate]:
    """All calls of one function, changed in one way."""
    by_name: dict[str, list[edits.Place]] = {}
    for place in places:
        if isinstance(place.get(), ast.Call):
            by_name.setdefault(edits.called(place.get()), []).append(place)
    for alike in by_name.values():
        if len(alike) > 1:
            for new in all_alike([place.get() for place in alike]):
                changes = tuple(zip(alike, new, strict=True))
                yield Candidate(3, changes, *_blamed(trial, alike[0]))


def _operators_alike(trial: Trial, places: list[edits.Place]) -> Iterator[Candidate]:
    """All operators of one kind that have the same number beside them, put in another's place."""
    alike: dict[str, list[edits.Place]] = {}
    for place in places:
        around = place.parent
        if isinstance(place.get(), ast.operator) and isinstance(around, ast.BinOp):
            for side in (around.left, around.right):
                name = f"{type(place.get()).__name__} {ast.unparse(side)}"
                alike.setdefault(name, []).append(place)
    for group in alike.values():
        if len(group) > 1:
            old = group[0].get()
            for new in (*accidents(old, {}), *amends(old)):
                changes = tuple((place, copy.copy(new)) for place in group)
                yield Candidate(3, changes, *_blamed(trial, group[0]))


def _in_another_order(trial: Trial, places: list[edits.Place]) -> Iterator[Candidate]:
    """A statement and the next one in each other's place, or inside that one, if it is a loop."""
    statements = [place for place in places if isinstance(place.get(), ast.stmt)]
    for one, other in itertools.product(statements, repeat=2):
        block = one.parent is other.parent and one.field == other.field
        if block and one.index is not None and other.index == one.index + 1:
            first, second = copy.deepcopy(one.get()), copy.deepcopy(other.get())
            yield Candidate(2, ((one, second), (other, first)), *_blamed(trial, one))
            if isinstance(second, ast.For):
                inside = edits.with_fields(second, body=[first, *second.body])
                yield Candidate(2, ((one, ast.Pass()), (other, inside)), *_blamed(trial, one))


def _own_changes(trial: Trial, definition: ast.FunctionDef, places: list[edits.Place]) -> Changes:
    names = _names_in_reach(definition)
    for place in places:
        for new in accidents(place.get(), names):
            yield 1 + isinstance(new, ast.Pass), place, new
        for new in amends(place.get()):
            yield 2, place, new
        for new in with_names(place.get(), names):
            yield 3, place, new


def _names_in_reach(definition: ast.FunctionDef) -> dict[str, list[str]]:
    """For each name that a function binds, all the others: any of them may have been meant."""
    nodes = list(ast.walk(definition))
    names = [node.arg for node in nodes if isinstance(node, ast.arg) and node.arg != "self"]
    names += [node.id for node in nodes if isinstance(node, ast.Name) and _is_written(node)]
    unique = list(dict.fromkeys(names))
    return {name: [one for one in unique if one != name] for name in unique}


def _is_written(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _misleads(place: edits.Place, new: ast.AST) -> bool:
    """Whether a change says nothing of the place: another number of rounds, or an earlier end."""
    around, block = place.around, getattr(place.parent, place.field)
    if isinstance(new, ast.Return) and place.index is not None and place.index < len(block) - 1:
        return not isinstance(place.get(), ast.Return)
    is_number = isinstance(place.get(), ast.Constant) and isinstance(new, ast.Constant)
    return is_number and isinstance(around, ast.Call) and ast.unparse(around.func) == "range"


def _blamed(trial: Trial, place: edits.Place) -> tuple[int, str]:
    """Line and text of what a learner should look at, as they wrote it."""
    node = place.get()
    shown = node if isinstance(node, ast.expr | ast.stmt) and not _tiny(node) else place.around
    line = getattr(node, "lineno", 0) or getattr(shown, "lineno", 0)
    return line, trial.first_line_of(shown)


def _tiny(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant | ast.Name | ast.Slice)


def _text(node: Any) -> str:
    return f"{type(node).__name__} {ast.unparse(node) if isinstance(node, ast.expr) else id(node)}"


def unused_names(tree: ast.AST) -> set[str]:
    """Local variables that are written and never read."""
    found = set()
    for definition in functions(tree):
        names = [node for node in ast.walk(definition) if isinstance(node, ast.Name)]
        read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
        found |= {name.id for name in names if isinstance(name.ctx, ast.Store)} - read
    return found
