"""Runs a version of a part against its exercise and says what is wrong with it."""

import inspect
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from course_utils.engine.parts import reference
from course_utils.engine.verdict import Verdict
from course_utils.exercises import Case, Exercise, Mistake, Wrong
from course_utils.exercises.exercise import Part

TOLERANCE = {  # relative, absolute
    torch.float64: (1e-8, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (5e-2, 5e-2),
    torch.float16: (1e-2, 1e-2),
}

TOO_MUCH_MEMORY = "Your code asked for more memory than a check may use."


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of one use of a part."""

    value: Any = None
    error: BaseException | None = None
    changed: tuple[str, ...] = ()
    gradients: Mapping[str, Tensor | None] = field(default_factory=dict)
    backward_error: RuntimeError | None = None


@dataclass(frozen=True)
class Difference:
    """The first thing in which an outcome is not what it should be."""

    sentence: str
    expected: str = ""
    got: str = ""


def check(exercise: Exercise, part: Part) -> Verdict:
    """Run every case and property of the exercise; stop at the first that fails."""
    cases = exercise.cases()
    problem = _signature_problem(exercise, part)
    if problem:
        return Verdict(exercise.part, "wrong", problem)
    for case in [*cases, cases[0]]:  # the first once more: a part must not remember its last call
        wanted = expected(case)
        seen = observe(part, case)
        if isinstance(seen.error, NotImplementedError):
            return Verdict(exercise.part, "unfinished", "Not written yet.")
        if seen.error is not None and _out_of_memory(seen.error):
            return Verdict(exercise.part, "wrong", TOO_MUCH_MEMORY, lines=_lines_of(seen.error))
        difference = compare(wanted, seen)
        if difference:
            return _explain(exercise, part, cases, case, seen, difference)
    for holds in exercise.properties:
        try:
            holds(part)
        except Wrong as wrong:
            return Verdict(exercise.part, "wrong", str(wrong))
        except Exception as error:
            return stopped(exercise, error)
    return Verdict(exercise.part, "right", "Right.")


def recognise(exercise: Exercise, part: Part, cases: Sequence[Case]) -> Mistake | None:
    """The known mistake that behaves like `part` in every case, if there is one."""
    seen = [observe(part, case) for case in cases]
    wanted = [expected(case) for case in cases]
    values_right = all(_same_result(a, b) for a, b in zip(wanted, seen, strict=True))
    same = _same_effects if values_right else _same_result
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


def expected(case: Case) -> Outcome:
    """What the oracle gives for the case's arguments."""
    leaves = {name: _leaf(value) for name, value in case.arguments.items()}
    value = case.oracle(*leaves.values())
    return Outcome(value, gradients=_gradients(value, leaves))


def observe(part: Part, case: Case) -> Outcome:
    """Use the part on copies of the case's arguments."""
    leaves = {name: _leaf(value) for name, value in case.arguments.items()}
    given = {name: _copy(value) for name, value in leaves.items()}
    before = {name: _copy(value) for name, value in leaves.items()}
    torch.manual_seed(0)
    try:
        value = case.use(part, **given)
    except (Exception, SystemExit) as error:
        return Outcome(error=error)
    changed = tuple(name for name in given if not _equal(before[name], given[name]))
    try:
        return Outcome(value, None, changed, _gradients(value, leaves))
    except RuntimeError as error:
        return Outcome(value, None, changed, dict.fromkeys(leaves), error)


def compare(wanted: Outcome, seen: Outcome) -> Difference | None:
    """What is wrong with `seen`, or None where nothing is."""
    if seen.error is not None:
        return Difference(_error_sentence(seen.error), show(wanted.value))
    difference = compare_values(wanted.value, seen.value, "the result")
    if difference:
        return difference
    if seen.changed:
        return Difference(
            f"The values are right, but your code changes `{seen.changed[0]}` in place: the caller "
            "still needs it. Make a new tensor instead."
        )
    if seen.backward_error is not None:
        return Difference(_backward_sentence(seen.backward_error))
    for name, gradient in wanted.gradients.items():
        difference = _compare_gradients(name, gradient, seen.gradients.get(name))
        if difference:
            return difference
    return None


def compare_values(wanted: Any, seen: Any, what: str) -> Difference | None:
    """Compare two results: their types, shapes, dtypes and values."""
    if seen is None and wanted is not None:
        return Difference(
            f"{what.capitalize()} is None. Is the `return` missing?", show(wanted), "None"
        )
    if isinstance(wanted, Tensor):
        return _compare_tensors(wanted, seen, what)
    if not isinstance(seen, type(wanted)) or isinstance(seen, bool) != isinstance(wanted, bool):
        return Difference(
            f"{what.capitalize()} should be {_kind(wanted)}, yours is {_kind(seen)}.",
            show(wanted),
            show(seen),
        )
    if isinstance(wanted, tuple):
        if len(wanted) != len(seen):
            return Difference(
                f"{what.capitalize()} should have {len(wanted)} entries, yours has {len(seen)}.",
                show(wanted),
                show(seen),
            )
        for number, (one, other) in enumerate(zip(wanted, seen, strict=True)):
            difference = compare_values(one, other, f"entry {number} of {what}")
            if difference and not isinstance(one, Tensor):
                return replace(difference, expected=show(wanted), got=show(seen))
            if difference:
                return difference
        return None
    if isinstance(wanted, float):
        equal = math.isclose(wanted, seen, rel_tol=1e-6, abs_tol=1e-9)
    else:
        equal = wanted == seen
    return None if equal else Difference(f"{what.capitalize()} is wrong.", show(wanted), show(seen))


def show(value: Any) -> str:
    """A short text for a value: small tensors as rounded numbers, large ones by their shape."""
    if isinstance(value, tuple) and any(isinstance(entry, Tensor) for entry in value):
        return "\n".join(show(entry) for entry in value)
    if not isinstance(value, Tensor):
        text = repr(value)
        return text if len(text) <= 300 else text[:297] + "..."
    head = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if value.numel() > 40:
        return head
    rounded = value.detach().cpu()
    if rounded.is_floating_point():
        rounded = (rounded.double() * 1e3).round() / 1e3 + 0.0
    return f"{head}\n{_numbers(rounded.tolist())}"


# --- comparing -----------------------------------------------------------------------------------


def _compare_tensors(wanted: Tensor, seen: Any, what: str) -> Difference | None:
    what = what.capitalize()
    if not isinstance(seen, Tensor):
        return Difference(
            f"{what} should be a tensor, yours is {_kind(seen)}.", show(wanted), show(seen)
        )
    if seen.shape != wanted.shape:
        return Difference(
            f"{what} should have the shape {list(wanted.shape)}, yours has {list(seen.shape)}.",
            show(wanted),
            show(seen),
        )
    if seen.dtype != wanted.dtype:
        return Difference(
            f"{what} should have the dtype {wanted.dtype}, yours has {seen.dtype}.",
            show(wanted),
            show(seen),
        )
    if _close(wanted, seen):
        return None
    if seen.is_floating_point() and bool(seen.isnan().any()) and not bool(wanted.isnan().any()):
        sentence = f"{what} contains NaN ({int(seen.isnan().sum())} of {seen.numel()} numbers)."
    else:
        wrong = int((~_close_each(wanted, seen)).sum())
        sentence = f"{what} has the right shape, but {wrong} of {seen.numel()} numbers are wrong."
    return Difference(sentence, show(wanted), show(seen))


def _compare_gradients(name: str, wanted: Tensor | None, seen: Tensor | None) -> Difference | None:
    if wanted is None or (seen is None and not bool(wanted.any())):
        return None
    if seen is None:
        return Difference(
            f"The values are right, but no gradient flows back to `{name}`, so nothing could be "
            "learned through this part. Something detaches it: `.detach()`, `.data`, `.item()`, "
            "`torch.no_grad()`, `argmax`, or a new tensor made from numbers."
        )
    if _close(wanted, seen):
        return None
    if bool(seen.isnan().any()):
        return Difference(
            f"The values are right, but the gradient with respect to `{name}` is NaN."
        )
    return Difference(
        f"The values are right, but the gradient with respect to `{name}` is not. Is a part of the "
        "computation detached?",
        show(wanted),
        show(seen),
    )


def _close_each(wanted: Tensor, seen: Tensor) -> Tensor:
    if not wanted.is_floating_point():
        return wanted == seen
    relative, absolute = TOLERANCE[wanted.dtype]
    return torch.isclose(seen, wanted, rtol=relative, atol=absolute, equal_nan=True)


def _close(wanted: Tensor, seen: Tensor) -> bool:
    return bool(_close_each(wanted, seen).all())


def _same_result(one: Outcome, other: Outcome) -> bool:
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    return compare_values(one.value, other.value, "") is None


def _shares_wrong_value(made: Outcome, seen: Outcome, wanted: Outcome) -> bool:
    return seen.error is None and _same_result(made, seen) and not _same_result(wanted, seen)


def _may_be_same(made: Outcome, seen: Outcome, wanted: Outcome) -> bool:
    if _same_result(made, seen) or _no_answer(seen):
        return True
    return _no_answer(made) and not _same_result(wanted, seen)


def _no_answer(outcome: Outcome) -> bool:
    """Whether the code stopped, or gave NaN."""
    results = outcome.value if isinstance(outcome.value, tuple) else (outcome.value,)
    tensors = [one for one in results if isinstance(one, Tensor)]
    return outcome.error is not None or any(bool(one.isnan().any()) for one in tensors)


def _same_effects(one: Outcome, other: Outcome) -> bool:
    if not _same_result(one, other) or one.changed != other.changed:
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
    return _close(one, other)


# --- observing -----------------------------------------------------------------------------------


def _leaf(value: Any) -> Any:
    """The argument itself, watched for its gradient where it is made of floating-point numbers."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


def _copy(value: Any) -> Any:
    """A copy that the part may spoil; strides are kept, so that a transposed input stays one."""
    if isinstance(value, Tensor):
        return value.clone()
    return list(value) if isinstance(value, list) else value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    return one is other or one == other


def _gradients(value: Any, leaves: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """Gradient of a fixed random mix of the result with respect to every watched argument."""
    watched = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor)}
    watched = {name: leaf for name, leaf in watched.items() if leaf.requires_grad}
    entries = value if isinstance(value, tuple) else (value,)
    results = [one for one in entries if isinstance(one, Tensor) and one.requires_grad]
    if not watched or not results:
        return dict.fromkeys(watched)
    generator = torch.Generator().manual_seed(1)
    total = torch.stack(
        [
            (torch.randn(one.shape, generator=generator, dtype=torch.float64) * one.double()).sum()
            for one in results
        ]
    ).sum()
    gradients = torch.autograd.grad(total, list(watched.values()), allow_unused=True)
    return dict(zip(watched, gradients, strict=True))


# --- explaining ----------------------------------------------------------------------------------


def _explain(
    exercise: Exercise,
    part: Part,
    cases: Sequence[Case],
    case: Case,
    seen: Outcome,
    difference: Difference,
) -> Verdict:
    mistake = recognise(exercise, part, cases) or resembling(exercise, part, cases)
    lines = _lines_of(seen.error) if seen.error else ()
    return Verdict(
        exercise.part,
        "wrong",
        difference.sentence,
        case=case.title,
        call=case.shown or f"{exercise.name}({', '.join(case.arguments)})",
        inputs=tuple((name, show(value)) for name, value in case.arguments.items()),
        expected=difference.expected,
        got=difference.got,
        mistake=mistake.name if mistake else "",
        says=mistake.says if mistake else "",
        lines=lines,
    )


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def stopped(exercise: Exercise, error: BaseException) -> Verdict:
    return Verdict(exercise.part, "wrong", _error_sentence(error), lines=_lines_of(error))


def _error_sentence(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "Your code asks Python to exit. Return the result instead."
    if isinstance(error, Wrong):  # the case itself has seen a mistake
        return str(error)
    text = str(error).strip().splitlines()
    return f"Your code stopped with {type(error).__name__}: {text[0] if text else 'no message'}"


def _backward_sentence(error: RuntimeError) -> str:
    if "inplace operation" in str(error):
        return (
            "The values are right, but no gradient can be computed: something like `x /= …`, "
            "`x[…] = …` or `x.exp_()` writes over numbers that are still needed for it. Make a new "
            "tensor instead."
        )
    return f"The values are right, but no gradient can be computed: {str(error).splitlines()[0]}"


def _lines_of(error: BaseException) -> tuple[tuple[int, str], ...]:
    """Numbers and texts of the learner's own lines on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return tuple(
        (frame.lineno or 0, frame.line or "")
        for frame in frames
        if frame.filename.startswith("your cell")
    )


def _signature_problem(exercise: Exercise, part: Part) -> str:
    """A sentence for a part, or a method of it, that cannot be called as the reference is."""
    wanted = reference(exercise.part)
    if inspect.isclass(wanted) != inspect.isclass(part):
        kind = "class" if inspect.isclass(wanted) else "function"
        return f"`{exercise.name}` should be a {kind}, yours is {_kind(part)}."
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


def _kind(value: Any) -> str:
    name = "class" if inspect.isclass(value) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if value is not None else "None"


def _numbers(nested: Any, indent: int = 0) -> str:
    if not isinstance(nested, list):
        return f"{nested:g}" if isinstance(nested, float) else str(nested)
    if not nested or not isinstance(nested[0], list):
        return "[" + "  ".join(_numbers(entry) for entry in nested) + "]"
    separator = "\n" + " " * (indent + 1)
    return "[" + separator.join(_numbers(entry, indent + 1) for entry in nested) + "]"
