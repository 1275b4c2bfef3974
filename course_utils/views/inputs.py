"""Checks that every view of attention shares: weights, tokens and masks that fit together."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "": "∅"}
JOINER = "\u200d"  # holds the parts of one emoji together


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


def first_sentence(layer: Tensor, name: str) -> Float[Tensor, "heads query key"]:
    """The first sentence of a batch, or `layer` itself where it holds one alone."""
    is_batch = isinstance(layer, Tensor) and layer.ndim == 4
    return one_sentence(layer[:1] if is_batch else layer, name)


def visible(token: object) -> str:
    """A token's text, with marks for what has no look of its own: ␣ ↵ ⇥, ∅ for no text at all."""
    return "".join(map(_visible, str(token))) or MARKS[""]


def _visible(letter: str) -> str:
    if letter in MARKS:
        return MARKS[letter]
    if letter.isprintable() or letter == JOINER:
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode()


def shorten(text: str, width: int) -> str:
    """`text`, cut with "…" where it is wider than `width` letters; 漢 is as wide as two."""
    if text_width(text) <= width:
        return text
    while text_width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def text_width(text: str) -> int:
    """How many letters wide a text is drawn, about."""
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    if unicodedata.combining(letter) or letter == JOINER:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def labels(
    tokens: Sequence[object], keys: Sequence[object] | None, n_query: int, n_key: int
) -> tuple[list[str], list[str]]:
    """Texts of the queries and of the keys (the tokens, where `keys` is None), all visible."""
    keys = tokens if keys is None else keys
    for name, words, wanted in (("tokens", tokens, n_query), ("keys", keys, n_key)):
        if isinstance(words, str):
            raise TypeError(f"{name} must be a list of tokens, got one string: {words!r}")
        if len(words) != wanted:
            side = "queries (rows)" if name == "tokens" else "keys (columns)"
            hint = "; name them with keys=" if words is tokens and name == "keys" else ""
            raise ValueError(f"the weights have {wanted} {side}, {name} has {len(words)}{hint}")
    return [visible(word) for word in tokens], [visible(word) for word in keys]


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
