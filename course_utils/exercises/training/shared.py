"""What the exercises of `course_utils.training` share."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Part, Wrong


def in_steps(steps: type) -> Part:
    """The part that does these steps, called as the class is. A mistake does one of them wrong."""

    def part(*args: Any, **named: Any) -> Any:
        return steps(*args, **named).run()

    part.__name__ = steps.__name__
    part.__signature__ = inspect.signature(steps)  # type: ignore[attr-defined]
    return part


def a_float(name: str, value: Any) -> float:
    """The value that a part returned. Wrong where it is no float."""
    if value is None:
        raise Wrong(
            f"`{name}` should return a float, yours returns None. That is also what Python gives "
            "where no `return` is reached."
        )
    if not isinstance(value, float):
        raise Wrong(f"`{name}` should return a float, yours returns a {type(value).__name__}.")
    return value


def names_of(*names: str) -> tuple[str, ...]:
    """Names of what a case puts together: the last, "… `{}`", is that of each weight of `Words`."""
    return *names[:-1], *(names[-1].format(name) for name in words_weights())


# --- A model that reads micro-batches ------------------------------------------------------------

PADDING = 0
PADDED_IDS = torch.tensor([[1, 2, 3, 4, 5], [3, 1, 0, 0, 0], [5, 5, 2, 0, 0], [2, 4, 1, 3, 0]])
PADDED_TARGETS = torch.tensor(
    [[2, 3, 4, 5, 0], [1, -100, -100, -100, -100], [5, 2, -100, -100, -100], [4, 1, 3, 2, -100]]
)


def words_weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Six words, three features."""
    return {
        "table": inputs.normal(6, 3, dtype=dtype),
        "weight": 2 * inputs.normal(6, 3, seed=1, dtype=dtype),
        "bias": inputs.normal(6, seed=2, dtype=dtype),
    }


def words_logits(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.embedding(ids, table)), weight, bias)


class Words(nn.Module):
    """A small model that reads tokens, at most `most_rows` texts at once.

    It sees to it that each output is used before the next.
    """

    def __init__(self, most_rows: int, **weights: Tensor):
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight.detach().clone()))
        self.most_rows = most_rows
        self.outputs: list[Tensor] = []
        self.waiting = False

    def forward(self, ids: Tensor) -> Tensor:
        logits = words_logits(ids, *self.parameters())
        if bool((ids == PADDING).all()):  # nothing is learned from it, so nobody calls `backward`
            return logits
        self.outputs.append(logits)
        if logits.requires_grad:
            self._refuse_to_keep_much(len(ids))
            self.waiting = True
            logits.register_hook(self._used)
        return logits

    def _refuse_to_keep_much(self, n_rows: int) -> None:
        if n_rows > self.most_rows:
            raise Wrong(
                "Your code gives the model several micro-batches at once. They are in pieces "
                "because the whole does not fit into memory: let the model read one at a time."
            )
        if self.waiting:
            raise Wrong(
                "Your code runs the model on a second micro-batch before it has called `backward` "
                "for the first, so all of them are kept in memory at once."
            )

    def _used(self, gradient: Tensor) -> None:
        self.waiting = False

    def is_kept(self) -> bool:
        """Whether one could still go back from the last output: after `backward` one cannot."""
        try:
            self.outputs[-1].sum().backward()
        except RuntimeError:
            return False
        return True


def in_micro_batches(ids: Tensor, targets: Tensor, sizes: Sequence[int]) -> list[tuple]:
    return list(zip(ids.split(list(sizes)), targets.split(list(sizes)), strict=True))


def cross_entropy_of_words(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())
