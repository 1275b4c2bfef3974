"""Blocks and models of blocks in cases: a simple attention, and how they are called."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.exercises import layers
from course_utils.exercises.exercise import Case, Exercise, Part

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


class MeanBlock(nn.Module):
    """Adds to every token the mean of those that it may look at."""

    def __init__(self, factor: float):
        super().__init__()
        self.attention = MeanAttention()
        self.factor = factor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + self.factor * self.attention(x, mask=mask)


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
    point: str = "",
) -> Case:
    """A case of a block that is built of these parts."""

    def build(part: Part) -> Any:
        return part(**make_parts(), norm_first=norm_first)

    said = [one for one, value in arguments.items() if one in GIVEN and value is not None]
    said = [f"{one}={one}" if one.endswith("mask") else one for one in said]
    call = f"{name}({', '.join(make_parts())}, {norm_first})({', '.join(said)})"
    return Case(title, arguments, oracle, partial(use, build, earlier=earlier), call, point=point)


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


# --- two mistakes at once ------------------------------------------------------------------------


def add_both(exercise: Exercise, ones: Sequence[type], others: Sequence[type]) -> None:
    """What makes one of the first mistakes and one of the others: classes that do other steps."""
    begins = {mistake.part: mistake.says.split(". ")[0] for mistake in exercise.mistakes}
    for one, other in product(ones, others):
        says = f"Two things. {begins[one].rstrip('.')}. {begins[other].rstrip('.')}."
        exercise.mistake(says)(type(f"{one.__name__}And{other.__name__}", (one, other), {}))


# --- a stack that is run in a wrong way ----------------------------------------------------------


def no_blocks(self, x, mask):
    return x


def first_block_only(self, x, mask):
    return self.blocks[0](x, mask) if len(self.blocks) else x


def last_block_only(self, x, mask):
    result = x
    for block in self.blocks:
        result = block(x, mask)
    return result


def blocks_reversed(self, x, mask):
    for block in reversed(self.blocks):
        x = block(x, mask)
    return x


def same_block_again(self, x, mask):
    for _ in self.blocks:
        x = self.blocks[0](x, mask)
    return x


def adds_blocks(self, x, mask):
    for block in self.blocks:
        x = x + block(x, mask)
    return x


WRONG_RUNS: dict[Callable[..., Tensor], str] = {
    no_blocks: "You never call the blocks: every token stays alone.",
    first_block_only: ("You return from inside the loop, or use one block: the others never run."),
    last_block_only: (
        "Every block of yours reads the embedding, so only the last one counts. Give each block "
        "what the one before it returned: `x = block(x, mask)`."
    ),
    blocks_reversed: (
        "Your blocks run from the last to the first. Go through `self.blocks` in their order."
    ),
    same_block_again: (
        "You run the first block again and again. Use the block that the loop gives you."
    ),
    adds_blocks: (
        "You add the block's output to the stream. The block has done that already: write "
        "`x = block(x, mask)`."
    ),
}


def add_wrong_runs(exercise: Exercise, right: type[nn.Module]) -> None:
    """The mistakes of running a stack, as versions of a right class that does it in `run`."""
    for run, says in WRONG_RUNS.items():
        exercise.mistake(says)(type(run.__name__, (right,), {"run": run}))
