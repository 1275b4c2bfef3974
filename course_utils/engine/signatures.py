"""Says whether a part can be called as the reference is."""

import inspect
from collections.abc import Sequence

from course_utils.engine.comparing import kind
from course_utils.engine.parts import reference
from course_utils.exercises import Exercise
from course_utils.exercises.exercise import Part


def signature_problem(exercise: Exercise, part: Part) -> str:
    """A sentence for a part, or a method of it, that cannot be called as the reference is."""
    wanted = reference(exercise.part)
    if inspect.isclass(wanted) != inspect.isclass(part):
        return f"`{exercise.name}` should be {kind(wanted)}, yours is {kind(part)}."
    problem = _call_problem(exercise.name, wanted, part)
    methods = vars(wanted) if inspect.isclass(wanted) else {}
    for name, method in methods.items():
        if not problem and name != "__init__" and inspect.isfunction(method):
            own = getattr(part, name, None)
            if own is None:
                return f"`{exercise.name}` should have a method `{name}`."
            problem = _call_problem(name, method, own)
    return problem


def _call_problem(name: str, model: Part, part: Part) -> str:
    wanted, seen = _parameters(model), _parameters(part)
    extra = [p for p in seen[len(wanted) :] if p.default is p.empty and p.kind in (0, 1, 3)]
    same = [(p.name, p.default) for p in seen[: len(wanted)]] == [
        (p.name, p.default) for p in wanted
    ]
    if same and not extra:
        return ""
    return (
        f"`{name}` takes ({_names(wanted)}), yours takes ({_names(seen)}). "
        "Keep the line that begins its definition as it was."
    )


def _parameters(part: Part) -> list[inspect.Parameter]:
    return list(inspect.signature(part).parameters.values())


def _names(parameters: Sequence[inspect.Parameter]) -> str:
    return ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters
    )
