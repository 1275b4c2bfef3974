"""Blocks and models of blocks in cases: a simple attention, and how they are called."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.exercises import layers
from course_utils.exercises.exercise import Case, Part

GIVEN = (
    *("x", "memory", "ids", "mask", "self_mask", "memory_mask"),
    *("source", "target", "source_mask"),
)
"""Arguments of a case that a layer is called with. All others are its weights."""


class MeanAttention(nn.Module):
    """Attention with one head and without weights: the mean of all tokens that may be seen."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        memory = x if memory is None else memory
        visible = x.new_ones(x.shape[0], 1, x.shape[1], memory.shape[1])
        visible = visible if mask is None else visible.masked_fill(~mask, 0)
        return (visible / visible.sum(-1, keepdim=True))[:, 0] @ memory


def causal(n_tokens: int) -> Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


def means_up_to_each(x: Tensor) -> Tensor:
    """For every token the mean of those up to it."""
    return torch.stack([x[:, : place + 1].mean(1) for place in range(x.shape[1])], 1)


def block_case(
    name: str,
    title: str,
    make_parts: Callable[[], Mapping[str, nn.Module]],
    oracle: Callable[..., Tensor],
    arguments: Mapping[str, Tensor | None],
    norm_first: bool = True,
    earlier: Sequence[Mapping[str, Tensor]] = (),
) -> Case:
    """A case of a block that is built of these parts."""

    def build(part: Part) -> Any:
        return part(**make_parts(), norm_first=norm_first)

    said = [one for one, value in arguments.items() if one in GIVEN and value is not None]
    said = [f"{one}={one}" if one.endswith("mask") else one for one in said]
    call = f"{name}({', '.join(make_parts())}, {norm_first})({', '.join(said)})"
    return Case(title, arguments, oracle, partial(use, build, earlier=earlier), call)


def use(
    build: Callable[[Part], Any],
    part: Part,
    earlier: Sequence[Mapping[str, Tensor]] = (),
    **arguments: Any,
) -> Any:
    """What a layer answers in a case, after it has answered `earlier` calls with other weights."""
    given = {name: arguments[name] for name in GIVEN if arguments.get(name) is not None}
    weights = {name: value for name, value in arguments.items() if name not in GIVEN}
    layer = build(part)
    for call in earlier:
        layers.call(layer, {name: -weight for name, weight in weights.items()}, **call)
    return layers.call(layer, weights, **given)
