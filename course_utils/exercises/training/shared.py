"""What the exercises of `course_utils.training` share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Wrong


def a_float(name: str, value: Any) -> float:
    """The value that a part returned. Wrong where it is no float."""
    if value is None:
        raise Wrong(f"`{name}` returns None. Is the `return` missing? It should return a float.")
    if not isinstance(value, float):
        raise Wrong(f"`{name}` should return a float, yours returns a {type(value).__name__}.")
    return value


def words_logits(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.embedding(ids, table)), weight, bias)


class Words(nn.Module):
    """A small model that reads tokens. It sees to it that each output is used before the next."""

    def __init__(self, table: Tensor, weight: Tensor, bias: Tensor):
        super().__init__()
        self.table = nn.Parameter(table.detach().clone())
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.outputs: list[Tensor] = []
        self.waiting = 0

    def forward(self, ids: Tensor) -> Tensor:
        if self.waiting:
            raise Wrong(
                "Your code runs the model on a second micro-batch before it has called `backward` "
                "for the first, so all of them are kept in memory at once."
            )
        logits = words_logits(ids, self.table, self.weight, self.bias)
        self.outputs.append(logits)
        if logits.requires_grad:
            self.waiting += 1
            logits.register_hook(self._used)
        return logits

    def _used(self, gradient: Tensor) -> None:
        self.waiting = 0


def in_micro_batches(ids: Tensor, targets: Tensor, sizes: Sequence[int]) -> list[tuple]:
    return list(zip(ids.split(list(sizes)), targets.split(list(sizes)), strict=True))


def cross_entropy_of_words(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def words_weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Six words, three features."""
    return {
        "table": inputs.normal(6, 3, dtype=dtype),
        "weight": 2 * inputs.normal(6, 3, seed=1, dtype=dtype),
        "bias": inputs.normal(6, seed=2, dtype=dtype),
    }


PADDED_IDS = torch.tensor([[1, 2, 3, 4, 5], [3, 1, 0, 0, 0], [5, 5, 2, 0, 0], [2, 4, 1, 3, 0]])


PADDED_TARGETS = torch.tensor(
    [[2, 3, 4, 5, 0], [1, -100, -100, -100, -100], [5, 2, -100, -100, -100], [4, 1, 3, 2, -100]]
)


def target_counts(micro_batches):
    return [int((targets != -100).sum()) for _, targets in micro_batches]


def accumulate_with(model, micro_batches, loss_fn, shares):
    """Each loss times its share, as the mistakes below choose."""
    total = 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total += loss.item()
    return total


def right_shares(micro_batches):
    counts = target_counts(micro_batches)
    return [count / sum(counts) for count in counts]
