"""Says in what an outcome is not what it should be, in the words of the learner."""

import inspect
import math
import re
from bdb import BdbQuit
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.engine.observing import Outcome
from course_utils.exercises import Wrong

TOLERANCE = {  # relative, absolute
    torch.float64: (1e-8, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (5e-2, 5e-2),
    torch.float16: (1e-2, 1e-2),
}


ROUNDING = 1e-6
"""A gradient that should be 0 is a sum of large ones: its error is a share of theirs."""

EXPLAINED: dict[type[BaseException], str] = {
    RecursionError: (
        "Your code calls itself without end (RecursionError). While it is checked, a part is your "
        "own version, by whatever name you call it."
    ),
    BdbQuit: (
        "Your code stops in the debugger, and nobody is there to answer it. Take `breakpoint()` or "
        "`set_trace()` out and use `print`: this panel shows what is printed."
    ),
    AssertionError: (
        "An `assert` in your code does not hold: it stops with AssertionError. Where another error "
        "is asked for, raise that one."
    ),
    EOFError: "Your code waits for something to be typed in, as `input()` does. Take that out.",
}


@dataclass(frozen=True)
class Difference:
    """The first thing in which an outcome is not what it should be."""

    sentence: str
    expected: str = ""
    got: str = ""


def compare(wanted: Outcome, seen: Outcome, names: tuple[str, ...] = ()) -> Difference | None:
    """What is wrong with `seen`, or None where nothing is. `names` are those of several values."""
    if seen.error is not None:
        return Difference(error_sentence(seen.error), show(wanted.value))
    difference = compare_values(wanted.value, seen.value, "the result", names)
    if difference:
        return difference
    if seen.changed:
        return Difference(
            f"The values are right, but your code changes `{seen.changed[0]}` in place: the caller "
            "still needs it. Make a new one instead."
        )
    if seen.backward_error is not None:
        return Difference(_backward_sentence(seen.backward_error))
    rounding = ROUNDING * max([_largest(one) for one in wanted.gradients.values()], default=0)
    for name, gradient in wanted.gradients.items():
        difference = _compare_gradients(name, gradient, seen.gradients.get(name), rounding)
        if difference:
            return difference
    return None


def compare_values(
    wanted: Any, seen: Any, what: str, names: tuple[str, ...] = ()
) -> Difference | None:
    """Compare two results: their types, shapes, dtypes and values."""
    if seen is None and wanted is not None:
        sentence = (
            f"{_capital(what)} should be {kind(wanted)}, yours is None. That is also what Python "
            "gives where no `return` is reached."
        )
        return Difference(sentence, show(wanted), "None")
    if inspect.isgenerator(seen):
        why = "because of `yield`. Use `return`."
        if seen.gi_code.co_name == "<genexpr>":
            why = "because of `for` in round brackets. Use `[…]` or `tuple(…)`."
        return Difference(f"{_capital(what)} is a generator, {why}", show(wanted), show(seen))
    if isinstance(wanted, Tensor):
        return _compare_tensors(wanted, seen, what)
    if isinstance(wanted, int) and isinstance(seen, np.int64):
        seen = int(seen)  # as good; narrower ones overflow
    if not isinstance(seen, type(wanted)) or isinstance(seen, bool) != isinstance(wanted, bool):
        sentence = f"{_capital(what)} should be {kind(wanted)}, yours is {kind(seen)}."
        return Difference(sentence, show(wanted), show(seen))
    if isinstance(wanted, tuple):
        return _compare_tuples(wanted, seen, what, names)
    if isinstance(wanted, dict):
        return _compare_dicts(wanted, seen, what)
    if isinstance(wanted, float):
        equal = math.isclose(wanted, seen, rel_tol=1e-6, abs_tol=1e-9)
    else:
        equal = wanted == seen
    return None if equal else Difference(f"{_capital(what)} is wrong.", show(wanted), show(seen))


def show(value: Any) -> str:
    """A short text for a value: small tensors as rounded numbers, large ones by their shape."""
    if isinstance(value, tuple) and any(isinstance(entry, Tensor) for entry in value):
        return "\n".join(show(entry) for entry in value)
    if isinstance(value, dict) and value:
        return "\n".join(f"{name}: {show(entry)}" for name, entry in value.items())
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


def same_result(one: Outcome, other: Outcome) -> bool:
    """Whether two uses gave the same result, or stopped with the same error."""
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    return compare_values(one.value, other.value, "") is None


def close(wanted: Tensor, seen: Tensor) -> bool:
    """Whether two tensors of one shape agree within the tolerance of their dtype."""
    return bool(_close_each(wanted, seen).all())


def _close_each(wanted: Tensor, seen: Tensor) -> Tensor:
    if not wanted.is_floating_point():
        return wanted == seen
    relative, absolute = TOLERANCE[wanted.dtype]
    return torch.isclose(seen, wanted, rtol=relative, atol=absolute, equal_nan=True)


def _compare_tuples(
    wanted: tuple, seen: tuple, what: str, names: tuple[str, ...]
) -> Difference | None:
    if len(wanted) != len(seen):
        sentence = f"{_capital(what)} should be {len(wanted)} values, yours is {len(seen)}."
        return Difference(sentence, show(wanted), show(seen))
    for number, (one, other) in enumerate(zip(wanted, seen, strict=True)):
        place = names[number] if number < len(names) else _place(number, len(wanted), what)
        difference = compare_values(one, other, place)
        if difference and not isinstance(one, Tensor):
            return replace(difference, expected=show(wanted), got=show(seen))
        if difference:
            return difference
    return None


def _compare_dicts(wanted: dict, seen: dict, what: str) -> Difference | None:
    for name in [*wanted, *seen]:
        if name not in seen:
            sentence = f"{_capital(what)} has no entry `{name}`."
            return Difference(sentence, show(wanted), show(seen))
        if name not in wanted:
            sentence = f"{_capital(what)} should have no entry `{name}`."
            return Difference(sentence, show(wanted), show(seen))
        difference = compare_values(wanted[name], seen[name], f"entry `{name}` of {what}")
        if difference and not isinstance(wanted[name], Tensor):
            both = f"It should be {difference.expected}, yours is {difference.got}."
            return Difference(f"{difference.sentence} {both}", show(wanted), show(seen))
        if difference:
            return difference
    return None


def _compare_tensors(wanted: Tensor, seen: Any, what: str) -> Difference | None:
    what = _capital(what)
    if not isinstance(seen, Tensor):
        return Difference(
            f"{what} should be a tensor, yours is {kind(seen)}.", show(wanted), show(seen)
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
    if close(wanted, seen):
        return None
    if seen.is_floating_point() and bool(seen.isnan().any()) and not bool(wanted.isnan().any()):
        sentence = f"{what} contains NaN ({int(seen.isnan().sum())} of {seen.numel()} numbers)."
    else:
        wrong = int((~_close_each(wanted, seen)).sum())
        sentence = f"{what} has the right shape, but {wrong} of {seen.numel()} numbers are wrong."
    return Difference(sentence, show(wanted), show(seen))


def _largest(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None or not gradient.numel() else float(gradient.abs().max())


def _compare_gradients(
    name: str, wanted: Tensor | None, seen: Tensor | None, rounding: float
) -> Difference | None:
    """`rounding` is what a sum of numbers like the largest gradients may be off."""
    if wanted is None or (seen is None and not bool(wanted.any())):
        return None
    if seen is None:
        return Difference(
            f"The values are right, but no gradient flows back to `{name}`, so nothing could be "
            "learned through this part. Something detaches it: `.detach()`, `.data`, `.item()`, "
            "`torch.no_grad()`, `argmax`, or a new tensor made from numbers."
        )
    if close(wanted, seen):
        return None
    if wanted.dtype == torch.float32 and bool(((wanted - seen).abs() < rounding).all()):
        return None
    if bool(seen.isnan().any()):
        return Difference(
            f"The values are right, but the gradient with respect to `{name}` is NaN."
        )
    return Difference(
        f"The values are right, or nearly, but the gradient with respect to `{name}` is not. A "
        "part of the computation is detached, or it is not quite the function that is asked for.",
        show(wanted),
        show(seen),
    )


def error_sentence(error: BaseException) -> str:
    """What the learner is told of an error in their code."""
    if isinstance(error, SystemExit):
        return "Your code asks Python to exit. Return the result instead."
    if isinstance(error, Wrong):  # the case itself has seen a mistake
        return str(error)
    for kind_of_error, sentence in EXPLAINED.items():
        if isinstance(error, kind_of_error):
            return sentence
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


def kind(value: Any) -> str:
    """What a value is, with its article: "a list", "an int", "an ndarray", "a uint8"."""
    if value is None:
        return "None"
    name = "class" if inspect.isclass(value) else type(value).__name__
    return f"{'an' if AN.match(name) else 'a'} {name}"


AN = re.compile(r"[aeio]|u(?!int|ni)|nd", re.I)
"""How names begin that are spoken with a vowel first: "nd" is spelled out."""


def _place(number: int, count: int, what: str) -> str:
    """Which of several values: in words, so that nobody asks whether counting begins at 0."""
    inside = "" if what == "the result" else f" in {what}"
    if count == 1:
        return f"the only value{inside}"
    which = ORDINALS[number] if number < len(ORDINALS) else f"{number + 1}th"
    return f"the {which} of {count} values{inside}"


ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()


def _capital(text: str) -> str:
    """The text with a capital at its beginning; names within it stay as they are."""
    return text[:1].upper() + text[1:]


def _numbers(nested: Any, indent: int = 0) -> str:
    if not isinstance(nested, list):
        return f"{nested:g}" if isinstance(nested, float) else str(nested)
    if not nested or not isinstance(nested[0], list):
        return "[" + "  ".join(_numbers(entry) for entry in nested) + "]"
    separator = "\n" + " " * (indent + 1)
    return "[" + separator.join(_numbers(entry, indent + 1) for entry in nested) + "]"
