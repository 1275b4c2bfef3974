"""Checks that every view of attention shares: weights, tokens and masks that fit together."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


def one_sentence(weights: Tensor, name: str = "weights") -> Float[Tensor, "heads query key"]:
    """`weights` as [heads, query, key], for [query, key] and [1, heads, query, key] as well."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(weights).__name__}")
    shape = list(weights.shape)
    if weights.ndim == 4 and shape[0] != 1:
        raise ValueError(
            f"{name} must hold one sentence, got a batch of {shape[0]}: choose one, {name}[:1]"
        )
    if weights.ndim not in (2, 3, 4) or 0 in shape:
        raise ValueError(
            f"{name} must be [query, key], [heads, query, key] or [1, heads, query, key] "
            f"and not empty, got shape {shape}"
        )
    return weights.detach().float().cpu().reshape(-1, *shape[-2:])


def labels(
    tokens: Sequence[object], keys: Sequence[object] | None, n_query: int, n_key: int
) -> tuple[list[str], list[str]]:
    """Texts of the queries and of the keys (the tokens, where `keys` is None), spaces visible."""
    keys = tokens if keys is None else keys
    for name, words, wanted in (("tokens", tokens, n_query), ("keys", keys, n_key)):
        if isinstance(words, str):
            raise TypeError(f"{name} must be a list of tokens, got one string: {words!r}")
        if len(words) != wanted:
            side = "queries (rows)" if name == "tokens" else "keys (columns)"
            hint = "; name them with keys=" if words is tokens and name == "keys" else ""
            raise ValueError(f"the weights have {wanted} {side}, {name} has {len(words)}{hint}")
    asks, asked = (
        [str(word).translate(VISIBLE) or "∅" for word in side] for side in (tokens, keys)
    )
    return asks, asked


def full_mask(
    mask: Bool[Tensor, "..."] | None, shape: Sequence[int]
) -> Bool[Tensor, "heads query key"]:
    """`mask` for every head, query and key; all True for None. Of a batch the first entry."""
    if mask is None:
        return torch.tensor(True).broadcast_to(tuple(shape))
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor (True = may look), got {kind}")
    first = mask[0] if mask.ndim == 4 else mask
    try:
        return first.detach().cpu().broadcast_to(tuple(shape))
    except RuntimeError:
        raise ValueError(
            f"mask must broadcast to [heads, query, key] = {list(shape)}, got {list(mask.shape)}"
        ) from None


def check_weights(
    weights: Float[np.ndarray, "heads query key"],
    mask: Bool[np.ndarray, "heads query key"],
    name: str = "weights",
) -> None:
    """Refuse what is no share of attention; what lies under the mask does not matter."""
    seen = np.where(mask, weights, 0)
    low, high = seen.min(), seen.max()
    if np.isnan(low):
        raise ValueError(f"{name} must be numbers, got NaN (a row that may look at nothing?)")
    if low < 0 or high > 1.001:
        raise ValueError(
            f"{name} must lie between 0 and 1, got {low:.3g} to {high:.3g}: "
            "pass the weights after the softmax, not the scores"
        )
