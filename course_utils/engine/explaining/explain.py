"""Looks in the learner's own code for the cause of what is wrong, where no known mistake fits.

Each explanation is given only where it is certain, and all of them have a limit of time together.
"""

import ast
import re
from dataclasses import replace
from typing import Any

from course_utils.engine.comparing import compare
from course_utils.engine.explaining.leaving import leaving
from course_utils.engine.explaining.parting import Parting, parting
from course_utils.engine.explaining.repair import Repair, repair
from course_utils.engine.explaining.trial import Trial, quiet
from course_utils.engine.naming import where_it_fails
from course_utils.engine.observing import observe
from course_utils.engine.verdict import Verdict
from course_utils.exercises import Exercise

SECONDS, AFTERWARDS = 1.5, 0.7
"""Processor seconds for the repair, and for what comes after it."""

HARMLESS = {
    "collections",
    "copy",
    "course_utils",
    "dataclasses",
    "einops",
    "functools",
    "itertools",
    "jaxtyping",
    "math",
    "numpy",
    "operator",
    "torch",
    "typing",
}
UNSAFE = {"__import__", "breakpoint", "compile", "eval", "exec", "exit", "input", "open", "quit"}


def explain(exercise: Exercise, source: str, verdict: Verdict) -> Verdict:
    """The verdict, with what was found out about its cause."""
    tree = ast.parse(source)
    if not only_computes(tree):
        return verdict
    trial = Trial(exercise, source, SECONDS)
    remembers = _remembers(trial)
    relation = remembers or verdict.relation
    found = repair(trial, tuple(number for number, _ in verdict.lines))
    if found:
        return _repaired(exercise, verdict, found, source, relation)
    known = where_it_fails(exercise, trial.part_of(trial.tree), trial.cases)
    if known:
        says = f"Where your code goes wrong, it gives what this mistake gives. {known.says}"
        return replace(verdict, mistake=known.name, says=says, way="in part", relation=relation)
    trial.more_time(AFTERWARDS)
    parted = parting(trial) if trial.failing and trial.values_are_wrong else None
    if parted:
        says = _parting_sentence(parted)
        return _placed(verdict, parted, source, way="parting", says=says, relation=relation)
    places = {
        "This is where it is made": _made_at(tree, verdict.headline),
        "Here numbers leave the computation, and no gradient comes back": leaving(
            trial, verdict.headline
        ),
    }
    for what, node in places.items():
        if node is not None:
            there = Parting(node.lineno, trial.first_line_of(node))
            says = f"{what}: line {there.line}, `{there.expression}`."
            return _placed(verdict, there, source, way="entry", says=says)
    if remembers:  # then what the case asks for is not what is missed
        return replace(verdict, way="relation", says=remembers, relation=relation, point="")
    return related(replace(verdict, relation=relation))


def related(verdict: Verdict) -> Verdict:
    """The verdict with its point or else its relation as what is said first, where it has one."""
    if verdict.point:
        return replace(verdict, way="point", says=verdict.point)
    if verdict.relation:
        return replace(verdict, way="relation", says=verdict.relation)
    return verdict


def _made_at(tree: ast.Module, headline: str) -> ast.expr | None:
    """The only expression that makes the entry of which the headline speaks."""
    named = re.match(r"Entry `(\w+)`", headline)
    if not named:
        return None
    made: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            made += [value for key, value in pairs if _is_text(key, named[1])]
        elif isinstance(node, ast.keyword) and node.arg == named[1]:
            made.append(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            made += [node.value] * _is_text(node.targets[0].slice, named[1])
    return made[0] if len(made) == 1 and "\n" not in ast.unparse(made[0]) else None


def _is_text(node: ast.AST | None, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def _placed(verdict: Verdict, found: Repair | Parting, source: str, **told: Any) -> Verdict:
    """The verdict with a place in the code, whose line is shown."""
    lines = ((found.line, source.split("\n")[found.line - 1]),)
    return replace(verdict, line=found.line, expression=found.expression, lines=lines, **told)


def only_computes(tree: ast.Module) -> bool:
    """Whether a source can be run a thousand times over: it reaches for no file and no process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
            if isinstance(node, ast.Name) and node.id in UNSAFE:
                return False
        if any(module.split(".")[0] not in HARMLESS for module in modules):
            return False
    return True


def _remembers(trial: Trial) -> str:
    """A case that fails after the others and is right alone: something is kept between calls."""
    if not trial.failing:
        return _remembers_the_first(trial)
    number = trial.failing[0]
    with quiet():
        alone = observe(trial.part_of(trial.tree), trial.cases[number])
    if compare(trial.wanted[number], alone):
        return ""
    return (
        "This call alone is right. It goes wrong after other calls: your code keeps something "
        "from one call to the next."
    )


def _remembers_the_first(trial: Trial) -> str:
    """Every case is right once; the first, called again at the end, is not."""
    part = trial.part_of(trial.tree)
    with quiet():
        outcomes = [observe(part, trial.cases[number]) for number in (*range(len(trial.cases)), 0)]
    if not compare(trial.wanted[0], outcomes[-1]):
        return ""
    return (
        "The first call is right. Called once more at the end, after other calls, it is not: your "
        "code keeps something from one call to the next."
    )


def _repaired(
    exercise: Exercise, verdict: Verdict, found: Repair, source: str, relation: str
) -> Verdict:
    place = f"line {found.line}, `{found.expression}`"
    mistakes = {mistake.name: mistake for mistake in exercise.mistakes}
    if found.leaves in mistakes:
        one = mistakes[found.leaves]
        says = f"{one.says} And there is a second fault: look at {place}."
        told = {"way": "both", "says": says, "mistake": one.name}
    elif found.leaves == "right":
        told = {"way": "change", "says": f"A change here makes it right: {place}."}
    else:
        says = (
            f"The fault shows in {place}: with a change there, the calls that fail now are right."
        )
        told = {"way": "split", "says": says}
    return _placed(verdict, found, source, relation=relation, **told)


def _parting_sentence(parted: Parting) -> str:
    made_of = " and ".join(f"`{name}` from line {line}" for name, line in parted.made_of)
    return (
        f"With our numbers in place of `{parted.expression}` in line {parted.line}, the result is "
        f"right. Look at it, and at what it is made of{': ' + made_of if made_of else ''}."
    )
