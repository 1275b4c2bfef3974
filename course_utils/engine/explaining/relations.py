"""What a wrong tensor has to do with the right one, in words."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from course_utils.engine.explaining.recording import same, telling

FACTORS = {
    "2": 2.0,
    "1/2": 0.5,
    "3": 3.0,
    "1/3": 1 / 3,
    "ln 2": math.log(2),
    "1/ln 2": 1 / math.log(2),
}
FEW = 5
"""Axes of at most this many are permuted: all orders of more take too long."""


def relation(wanted: Any, seen: Any, arguments: Mapping[str, Any]) -> str:
    """The first relation that holds, as a sentence, or an empty string.

    It is said only of tensors with several different numbers, where it is hardly an accident.
    """
    if not (isinstance(wanted, Tensor) and isinstance(seen, Tensor)):
        return ""
    wanted, seen = wanted.detach(), seen.detach()
    if seen.is_complex():
        return ""
    if wanted.numel() < 3 or not telling(wanted) or seen.numel() != wanted.numel():
        return ""
    if same(wanted, seen):  # the fault is in a gradient, or in what was changed on the way
        return ""
    return next(_all(wanted, seen, arguments), "")


def _all(wanted: Tensor, seen: Tensor, arguments: Mapping[str, Any]) -> Iterator[str]:
    yield from _other_axes(wanted, seen)
    if seen.shape != wanted.shape:
        yield from _other_shape(wanted, seen)
        return
    yield from _factor(wanted, seen, arguments)
    yield from _along_axes(wanted, seen)
    yield from _only_somewhere(wanted, seen, arguments)


# --- the same numbers in other places ------------------------------------------------------------


def _other_axes(wanted: Tensor, seen: Tensor) -> Iterator[str]:
    n = wanted.ndim
    if not 2 <= n <= FEW or seen.ndim != n:
        return
    for order in itertools.permutations(range(n)):
        if order != tuple(range(n)) and same(wanted.permute(order), seen):
            moved = [axis for axis in range(n) if order[axis] != axis]
            if len(moved) == 2:
                two = " and ".join(map(str, moved))
                yield f"Yours is the right result with axes {two} in each other's place."
            else:
                yield f"Yours is the right result with its axes in the order {list(order)}."


def _other_shape(wanted: Tensor, seen: Tensor) -> Iterator[str]:
    if 1 in wanted.shape and 1 in seen.shape:
        return  # the order of what an axis of one has beside it is hidden here
    if same(wanted.flatten(), seen.flatten()):
        yield "All numbers are right, and in order: only the shape is not."
    elif same(wanted.flatten().sort().values, seen.flatten().sort().values):
        yield "All numbers are right, but in other places, and the shape is another."


# --- the same numbers, changed alike -------------------------------------------------------------


def _factor(wanted: Tensor, seen: Tensor, arguments: Mapping[str, Any]) -> Iterator[str]:
    if not wanted.is_floating_point() or not seen.isfinite().all() or not wanted.isfinite().all():
        return
    if same(-wanted, seen):
        yield "Every number has the wrong sign."
        return
    large = wanted.abs() > 1e-3 * wanted.abs().max()
    ratios = (seen.double() / wanted.double())[large]
    factor = float(ratios.median())
    if abs(factor - 1) > 1e-3 and factor and same(wanted.double() * factor, seen.double()):
        yield f"Every number is the right one times {_name_of(factor, arguments)}."
        return
    shift = float((seen.double() - wanted.double()).median())
    if abs(shift) > 1e-3 and same(wanted.double() + shift, seen.double()):
        yield f"Every number is the right one plus {shift:.4g}."


def _name_of(factor: float, arguments: Mapping[str, Any]) -> str:
    """The factor as a learner may have written it: a simple number, or a size of an argument."""
    simple = (said for said, value in FACTORS.items() if _close(value, factor))
    for said in simple:
        return said
    sizes = [
        (size, f", the size of axis {axis} of `{name}`")
        for name, value in arguments.items()
        if isinstance(value, Tensor)
        for axis, size in enumerate(value.shape)
        if size > 1
    ]
    for size, _ in sizes:
        powers = {f"{size}": size, f"1/{size}": 1 / size}
        powers |= {f"√{size}": size**0.5, f"1/√{size}": size**-0.5}
        for said, value in powers.items():
            if _close(value, factor):
                where = [place for other, place in sizes if other == size]
                return said + (where[0] if len(where) == 1 else "")
    return f"{factor:.4g}"


def _close(value: float, factor: float) -> bool:
    return math.isclose(value, factor, rel_tol=1e-3)


def _along_axes(wanted: Tensor, seen: Tensor) -> Iterator[str]:
    for axis, size in enumerate(wanted.shape):
        if size < 2:
            continue
        if same(wanted.flip(axis), seen):
            yield f"Yours is the right result in reverse along axis {axis}."
        for step, side in ((1, "later"), (-1, "earlier")):
            moved = wanted.roll(step, axis)
            inner = slice(1, None) if step == 1 else slice(None, -1)
            kept = (slice(None),) * axis + (inner,)
            if size > 2 and telling(moved[kept]) and same(moved[kept], seen[kept]):
                yield f"Every number stands one place {side} along axis {axis} than it should."


# --- wrong in some places only -------------------------------------------------------------------


def _only_somewhere(wanted: Tensor, seen: Tensor, arguments: Mapping[str, Any]) -> Iterator[str]:
    wrong = _differ(wanted, seen)
    if not wrong.any() or wrong.all():
        return
    for name, mask in arguments.items():
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            yield from _only_masked(wrong, mask, name)
    for axis, size in enumerate(wanted.shape):
        others = tuple(other for other in range(wanted.ndim) if other != axis)
        rows = wrong.any(others) if others else wrong
        if size > 2 and int(rows.sum()) == 1:
            yield f"Only index {int(rows.int().argmax())} along axis {axis} is wrong."
        elif size > 2 and not rows[0] and rows[1:].all() and telling(wanted.select(axis, 0)):
            yield f"Only index 0 along axis {axis} is right, everything after it is not."


def _only_masked(wrong: Tensor, mask: Tensor, name: str) -> Iterator[str]:
    try:
        hidden = (~mask).expand(wrong.shape)
    except RuntimeError:
        return
    if torch.equal(wrong, wrong & hidden):
        yield f"Wrong are only numbers where `{name}` is False."
    elif torch.equal(wrong, wrong & ~hidden):
        yield f"Wrong are only numbers where `{name}` is True."


def _differ(wanted: Tensor, seen: Tensor) -> Tensor:
    if not wanted.is_floating_point():
        return wanted != seen
    return ~torch.isclose(wanted.double(), seen.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
