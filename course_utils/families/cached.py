"""A model that reads a source, and goes on from what it has written: nothing is computed twice.

Keys and values are what the maps `w_k` and `w_v` make of tokens. With maps that remember what they
made, an attention is given the new tokens and looks at all of them.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import decoder, modern, positions
from course_utils.families import builders


class Remembering(nn.Module):
    """A map that is given new tokens, and answers for all that it was ever given."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.made: Any = None  # nothing yet

    def forward(self, x: Float[Tensor, "rows new d_in"]) -> Float[Tensor, "rows all d_out"]:
        new = self.inner(x)
        self.made = new if self.made is None else torch.cat((self.made, new), dim=1)
        return self.made


# Their keys depend on where a token stands, which a map does not know.
TURNING = (positions.RotaryAttention, modern.GroupedAttention, modern.LatentAttention)


def remembering(layer: Any) -> Any:
    """An attention by the maps of `layer`, of which those for keys and values remember.

    Raises TypeError where `layer` is not a `MultiHeadAttention`, or like one.
    """
    if hasattr(layer, "inner"):  # it has a bias around it
        layer.inner = remembering(layer.inner)
        return layer
    if isinstance(layer, TURNING) or not hasattr(layer, "w_k"):
        raise TypeError(f"only MultiHeadAttention can remember, got {type(layer).__name__}")
    key, value = Remembering(layer.w_k), Remembering(layer.w_v)
    return builders.MappedAttention(layer.n_heads, layer.w_q, key, value, layer.w_o)


class CachedSeq2Seq:
    """A model that has read a source: given a longer target, it reads what is new of it.

    It takes the place of a model in `generate`, `stream` and `beam_search`, and gives the logits of
    the target tokens that it had not read. A target that does not go on from the last one is read
    anew. Where the source has one row, it is that of all rows, which may then be dropped and
    doubled. Weights are shared, not copied.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: decoder.Seq2Seq,
        source: Tensor,
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ):
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.model: Any = copy.deepcopy(model, shared)
        self.memory: Tensor = model.encoder(source, source_mask)
        self.source_mask = source_mask
        blocks: list[Any] = list(self.model.blocks)
        for block in blocks:
            block.self_attention = remembering(block.self_attention)
            block.cross_attention = remembering(block.cross_attention)
        self._of_target = _maps(block.self_attention for block in blocks)
        self._of_source = _maps(block.cross_attention for block in blocks)
        self._ids = torch.empty(0, 0, dtype=torch.long)

    @torch.no_grad()
    def __call__(self, target: Int[Tensor, "rows all"]) -> Float[Tensor, "rows new vocabulary"]:
        start = self._known(target)
        self._ids = target[:0]  # nothing, should reading be interrupted
        logits = self._read_on(target, start)
        self._ids = target.clone()
        return logits

    def _read_on(self, target: Tensor, start: int) -> Tensor:
        """`Seq2Seq.forward` for the tokens from number `start` on. The source is given once."""
        x = self.model.embed(target)[:, start:]
        memory = self.memory if start == 0 else self.memory[:, :0]
        mask = decoder.causal_mask(x.shape[1], target.shape[1]).to(target.device)
        for block in self.model.blocks:
            x = block(x, memory, mask, self.source_mask)
        return self.model.head(self.model.norm(x))

    def _known(self, target: Int[Tensor, "rows all"]) -> int:
        """How many tokens of this target were read. The maps remember its rows afterwards."""
        n_read = self._ids.shape[1]
        if 0 < n_read < target.shape[1]:
            if torch.equal(target[:, :n_read], self._ids):
                return n_read
            same = (target[:, None, :n_read] == self._ids).all(-1)  # [rows, rows before]
            if len(self.memory) == 1 and same.any(1).all():
                for each in self._of_target:
                    each.made = each.made[same.int().argmax(1)]
                return n_read
        for each in self._of_target + self._of_source:
            each.made = None
        return 0


def _maps(layers: Iterable[nn.Module]) -> list[Remembering]:
    return [each for layer in layers for each in layer.modules() if isinstance(each, Remembering)]
