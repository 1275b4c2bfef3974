"""A model that reads a source, and goes on from what it has written: nothing is computed twice."""

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, modern, positions, sampling

# --- Attention that remembers --------------------------------------------------------------------


class CachedSelfAttention(nn.Module):
    """An attention whose new tokens look at the tokens in a cache, too."""

    def __init__(self, layer: Any, context: int):
        super().__init__()
        self.layer = layer
        self.context = context
        self.forget()

    def forget(self) -> None:
        self.cache = sampling.KVCache(self.context)

    def forward(
        self,
        x: Float[Tensor, "rows new d_model"],
        memory: Float[Tensor, "rows new d_model"] | None = None,
        mask: Bool[Tensor, "new all"] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "rows new d_model"]:
        """`x` are the new tokens, and `memory` is `x` itself."""
        query, key, value = _heads(self.layer, x, x)
        return _attend(self.layer, query, *self.cache.update(key, value), mask, bias)


class CachedCrossAttention(nn.Module):
    """An attention that has read its memory: keys and values were made once."""

    def __init__(self, layer: Any, memory: Float[Tensor, "batch key d_model"]):
        super().__init__()
        self.layer = layer
        _, self.key, self.value = _heads(layer, memory, memory)

    def forward(
        self,
        x: Float[Tensor, "rows new d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "rows new d_model"]:
        """`memory` is what was read. If it has one row, it is that of all rows."""
        query = attention.split_heads(self.layer.w_q(x), self.layer.n_heads)
        key, value = (each.expand(len(x), -1, -1, -1) for each in (self.key, self.value))
        return _attend(self.layer, query, key, value, mask, bias)


def _heads(layer: Any, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        attention.split_heads(projected, layer.n_heads)
        for projected in attention.project_qkv(x, memory, layer.w_q, layer.w_k, layer.w_v)
    )
    return query, key, value


def _attend(
    layer: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    heads = attention.scaled_dot_product_attention(query, key, value, mask, bias)
    return layer.w_o(attention.merge_heads(heads))


# Their keys depend on where a token stands.
_TURNING = (positions.RotaryAttention, modern.GroupedAttention, modern.LatentAttention)


def cached(layer: Any, context: int) -> Any:
    """The self-attention of a decoder with a cache for `context` tokens.

    Raises TypeError where `layer` is not a `MultiHeadAttention`, or like one.
    """
    if hasattr(layer, "inner"):  # there is a bias around it
        layer.inner = cached(layer.inner, context)
        return layer
    if isinstance(layer, _TURNING) or not hasattr(layer, "w_q"):
        raise TypeError(
            f"only MultiHeadAttention can go on from a cache here, got {type(layer).__name__}"
        )
    return CachedSelfAttention(layer, context)


# --- A model that remembers ----------------------------------------------------------------------


class CachedSeq2Seq:
    """A model that has read a source: given a longer target, it reads what is new of it.

    It takes the place of a model in `generate`, `stream` and `beam_search`, and gives the logits of
    the target tokens that it had not read. A target that does not go on from the last one is read
    anew. Where the source has one row, it is that of all rows, which may then be dropped and
    doubled. Targets have at most `context` tokens. Weights are shared, not copied.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: decoder.Seq2Seq,
        context: int,
        source: Tensor,
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ):
        shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
        self.model: Any = copy.deepcopy(model, shared)
        self.memory: Tensor = model.encoder(source, source_mask)
        self.source_mask = source_mask
        for block in self.model.blocks:
            block.self_attention = cached(block.self_attention, context)
            block.cross_attention = CachedCrossAttention(block.cross_attention, self.memory)
        self._layers = [m for m in self.model.modules() if isinstance(m, CachedSelfAttention)]
        self._ids = torch.empty(0, 0, dtype=torch.long)

    @torch.no_grad()
    def __call__(self, target: Int[Tensor, "rows all"]) -> Float[Tensor, "rows new vocabulary"]:
        start = self._known(target)
        self._ids = target[:0]  # nothing, should reading be interrupted
        logits = self._read_on(target, start)
        self._ids = target.clone()
        return logits

    def _read_on(self, target: Tensor, start: int) -> Tensor:
        """`Seq2Seq.forward` for the tokens from number `start` on."""
        x = self.model.embed(target)[:, start:]
        mask = decoder.causal_mask(x.shape[1], target.shape[1]).to(target.device)
        for block in self.model.blocks:
            x = block(x, self.memory, mask, self.source_mask)
        return self.model.head(self.model.norm(x))

    def _known(self, target: Int[Tensor, "rows all"]) -> int:
        """How many tokens of this target were read. The caches have its rows afterwards."""
        n_read = self._ids.shape[1]
        if 0 < n_read < target.shape[1]:
            if torch.equal(target[:, :n_read], self._ids):
                return n_read
            same = (target[:, None, :n_read] == self._ids).all(-1)  # [rows, rows before]
            if len(self.memory) == 1 and same.any(1).all():
                for layer in self._layers:
                    layer.cache.select(same.int().argmax(1))
                return n_read
        for layer in self._layers:
            layer.forget()
        return 0
