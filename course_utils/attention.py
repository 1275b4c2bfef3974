"""Notebooks 02 and 03: attention (Vaswani et al. 2017, "Attention Is All You Need", §3.2).

Read from top to bottom, it is the formula softmax(QKᵀ / √d_head) V, one step a function,
and then several such heads side by side.

Masks are boolean, True where a query may look at a key, as in
`torch.nn.functional.scaled_dot_product_attention`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from course_utils.projection import Linear

# --- Notebook 02: queries, keys and values -------------------------------------------------------


def project_qkv(
    x: Float[Tensor, "batch query d_model"],
    memory: Float[Tensor, "batch key d_memory"],
    w_q: Callable[[Tensor], Tensor],
    w_k: Callable[[Tensor], Tensor],
    w_v: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries from `x`, which asks; keys and values from `memory`, which is asked.

    `w_q`, `w_k` and `w_v` are three learned linear maps. In self-attention `memory` is `x` itself.
    """
    return w_q(x), w_k(memory), w_v(memory)


def attention_scores(
    query: Float[Tensor, "*batch query d_head"], key: Float[Tensor, "*batch key d_head"]
) -> Float[Tensor, "*batch query key"]:
    """Dot product of every query (a row) with every key (a column): QKᵀ, not scaled."""
    return query @ key.transpose(-2, -1)


def mix_values(
    weights: Float[Tensor, "*batch query key"], value: Float[Tensor, "*batch key d_value"]
) -> Float[Tensor, "*batch query d_value"]:
    """For every query the sum of all values, each times the query's weight for it."""
    return weights @ value


def split_heads(
    x: Float[Tensor, "batch tokens d_model"], n_heads: int
) -> Float[Tensor, "batch n_heads tokens d_head"]:
    """Cut the features of every token into `n_heads` runs of neighbours, one run a head."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(
    x: Float[Tensor, "batch n_heads tokens d_head"],
) -> Float[Tensor, "batch tokens d_model"]:
    """Put the heads' features side by side again: the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(-2)


# --- Notebook 03: from scores to weights ---------------------------------------------------------


def softmax(scores: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    """Exponentiate and normalise along `dim`: positive numbers that sum to 1.

    The maximum is subtracted first. It cancels in the fraction, and exp cannot overflow.
    Scores of minus infinity get weight 0. A row of nothing else has no answer: it gives NaN.
    """
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def score_scale(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    """The factor that gives a dot product of `d_head` independent terms the variance 1.

    `var_q` and `var_k` are the variances of one entry of a query and of a key, whose means are 0.
    With both 1 it is the 1/√d_k of the paper (§3.2.1, footnote 4).
    """
    return 1 / math.sqrt(d_head * var_q * var_k)


def attention_weights(
    query: Float[Tensor, "*batch query d_head"],
    key: Float[Tensor, "*batch key d_head"],
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "*batch query key"]:
    """Softmax over the keys of the scaled scores (Vaswani et al. 2017, §3.2.1).

    `bias` is added to the scaled scores. `mask` is True where the query may look at the key. A
    forbidden key gets nothing, even where all are. Both broadcast to [*batch, query, key].
    """
    scores = attention_scores(query, key) * score_scale(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return softmax(scores, dim=-1)


def scaled_dot_product_attention(
    query: Float[Tensor, "*batch query d_head"],
    key: Float[Tensor, "*batch key d_head"],
    value: Float[Tensor, "*batch key d_value"],
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "*batch query d_value"]:
    """Mix the values with the attention weights (Vaswani et al. 2017, equation 1)."""
    return mix_values(attention_weights(query, key, mask, bias), value)


class MultiHeadAttention(nn.Module):
    """Attention heads side by side, mixed by an output map (Vaswani et al. 2017, §3.2.2)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads, got {d_model} and {n_heads}")
        self.n_heads = n_heads
        self.w_q = Linear(d_model, d_model)
        self.w_k = Linear(d_model, d_model)
        self.w_v = Linear(d_model, d_model)
        self.w_o = Linear(d_model, d_model)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """`x` asks `memory`, or itself. All heads attend in one call, with `mask` and `bias`."""
        memory = x if memory is None else memory
        query, key, value = (
            split_heads(projected, self.n_heads)
            for projected in project_qkv(x, memory, self.w_q, self.w_k, self.w_v)
        )
        heads = scaled_dot_product_attention(query, key, value, mask, bias)
        return self.w_o(merge_heads(heads))


# --- Looking inside ------------------------------------------------------------------------------


@contextmanager
def record() -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every call inside the `with` block.

    The maps are keyed by the path of the module that computed them ("blocks.0.attention"), in the
    order of the calls. A module that is called again gets "#2", "#3" … behind its path.
    """
    maps: dict[str, Tensor] = {}
    running: list[nn.Module] = []
    weigh, attend = attention_weights, scaled_dot_product_attention

    def path() -> str:
        names = {module: name for name, module in running[0].named_modules()} if running else {}
        label = names.get(running[-1]) if running else None
        label = label or "attention"
        calls = sum(known.split("#")[0] == label for known in maps)
        return f"{label}#{calls + 1}" if calls else label

    @functools.wraps(weigh)
    def recorded_weights(*args: Any, **kwargs: Any) -> Tensor:
        weights = weigh(*args, **kwargs)
        maps[path()] = weights.detach()
        return weights

    @functools.wraps(attend)
    def recorded_attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        before = len(maps)
        output = attend(query, key, value, mask, bias)
        if len(maps) == before:  # a fused kernel never forms the weights: form them here
            weights = inspect.unwrap(weigh)(query, key, mask, bias)
            maps[path()] = weights.detach()
        return output

    def enter(module: nn.Module, args: tuple) -> None:
        running.append(module)

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        running.pop()

    hooks = (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    )
    parts = {"attention_weights": weigh, "scaled_dot_product_attention": attend}
    globals().update(
        attention_weights=recorded_weights, scaled_dot_product_attention=recorded_attention
    )
    try:
        yield maps
    finally:
        globals().update(parts)
        for hook in hooks:
            hook.remove()
