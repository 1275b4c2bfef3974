"""Uses a part on a case, and notes all that can be seen of it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import Case
from course_utils.exercises.exercise import Part


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of one use of a part."""

    value: Any = None
    error: BaseException | None = None
    changed: tuple[str, ...] = ()
    gradients: Mapping[str, Tensor | None] = field(default_factory=dict)
    backward_error: RuntimeError | None = None


def expected(case: Case) -> Outcome:
    """What the oracle gives for the case's arguments."""
    leaves = {name: _leaf(value) for name, value in case.arguments.items()}
    value = case.oracle(*leaves.values())
    return Outcome(value, gradients=_gradients(value, leaves))


def observe(part: Part, case: Case, seed: int = 0) -> Outcome:
    """Use the part on copies of the case's arguments; `seed` is that of the random numbers."""
    leaves = {name: _leaf(value) for name, value in case.arguments.items()}
    given = {name: _copy(value) for name, value in leaves.items()}
    before = {name: _copy(value) for name, value in leaves.items()}
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` notes where it was called
    try:
        value = case.use(part, **given)
    except (Exception, SystemExit) as error:
        return Outcome(error=error)
    changed = tuple(name for name in given if not _equal(before[name], given[name]))
    try:
        return Outcome(value, None, changed, _gradients(value, leaves))
    except RuntimeError as error:
        return Outcome(value, None, changed, dict.fromkeys(leaves), error)


def snapshot(value: Any) -> Any:
    """A copy of a result that stays as it is, whatever happens to the result."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple | list):
        return type(value)(map(snapshot, value)) if type(value) in (tuple, list) else value
    return copy.copy(value) if isinstance(value, dict) else value  # a Counter stays one


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
