"""Reading on in as few calls of torch as it takes: the same logits, sooner.

For one token, calling torch takes longer than the arithmetic. `sampling.CachedModel` is made of the
parts that you write, one call after the other, and it is what runs in the notebooks. This is for
those who only wait for the text: the command `sample`, and the benchmarks.

The tokens of one text are rows of a matrix here, without an axis for the batch, and one token is a
vector: a matrix times a vector is quicker than a product of two matrices of which one has one row.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from course_utils import attention, decoder, encoder, modern, positions, projection, sampling
from course_utils.runs import kernels

Step = Callable[[Tensor], Tensor]
"""From [tokens, d_in] to [tokens, d_out], or from [d_in] to [d_out]."""

CLOSE = 1e-5  # what the logits may differ by, as a share of the largest


@torch.no_grad()
def cached(model: decoder.GPT, context: int) -> sampling.CachedModel:
    """A `QuickModel` where it gives the logits of a `CachedModel`, else that.

    The second is made of the parts in use, yours among them.
    """
    plain = sampling.CachedModel(model, context)
    if not (all(map(_is_known, model.blocks)) and type(model.head) is projection.Linear):
        return plain
    quick = QuickModel(model, context)
    n_tokens = min(3, context)  # one, and then the others at once
    ids = torch.arange(n_tokens, device=model.head.weight.device)[None] % len(model.head.weight)
    wanted = plain(ids)
    found = torch.cat([quick(ids[:, :end]) for end in sorted({1, n_tokens})], dim=1)
    if (found - wanted).abs().max() > CLOSE * wanted.abs().max():
        return plain
    quick.rewind(0)
    return quick


class QuickModel(sampling.CachedModel):
    """A `CachedModel` that reads one text quickly, and several like any other.

    The blocks are those of `decoder.gpt` or `modern.modern_gpt`, with whatever norms and
    feed-forward nets. The weights of queries, keys and values are copied: the model has learned.
    """

    def __init__(self, model: decoder.GPT, context: int):
        super().__init__(model, context)
        pairs = zip(model.blocks, self._layers, strict=True)
        self._blocks = [_block(block, layer, context) for block, layer in pairs]
        self._norm, self._head = _step(model.norm), _step(model.head)

    def _read(
        self, ids: Int[Tensor, "rows all"], start: int
    ) -> Float[Tensor, "rows new vocabulary"]:
        if len(ids) > 1:
            return super()._read(ids, start)
        x = self.model.embed(ids)[0, start:].squeeze(0)
        alone = x.ndim == 1  # then no mask is needed
        mask = None if alone else decoder.causal_mask(len(x), ids.shape[1]).to(x.device)
        for block in self._blocks:
            x = block(x, mask)
        logits = self._head(self._norm(x))
        return logits.view(1, -1, logits.shape[-1])


def _is_known(block: Any) -> bool:
    known = (attention.MultiHeadAttention, modern.NormedRotaryAttention)
    return (
        type(block) is encoder.TransformerBlock
        and block.norm_first
        and type(block.attention) in known
        and type(block.attention.w_q) is projection.Linear
    )


def _block(block: Any, layer: sampling.CachedAttention, context: int) -> Callable[..., Tensor]:
    norm1, norm2 = _step(block.norm1), _step(block.norm2)
    heads_of = _heads(block.attention, context)
    w_o, feed_forward = _step(block.attention.w_o), _step(block.feed_forward)

    def read(x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = heads_of(norm1(x), layer.cache.length)
        key, value = layer.cache.update(key, value)
        heads = F.scaled_dot_product_attention(query, key, value, mask)
        x = x + w_o(heads.transpose(1, 2).reshape(x.shape))
        return x + feed_forward(norm2(x))

    return read


def _heads(layer: Any, context: int) -> Callable[[Tensor, int], Iterable[Tensor]]:
    """Queries, keys and values of all heads, from one product."""
    maps = (layer.w_q, layer.w_k, layer.w_v)
    bias = None if layer.w_q.bias is None else torch.cat([each.bias for each in maps])
    joined = _linear(torch.cat([each.weight for each in maps]), bias)
    shape = (1, -1, 3, layer.n_heads, layer.w_q.out_features // layer.n_heads)

    def heads(x: Tensor, start: int) -> Tensor:
        return joined(x).view(shape).permute(2, 0, 3, 1, 4)

    if type(layer) is attention.MultiHeadAttention:
        return heads
    cosines, sines = _turns(layer, context)

    def turned_heads(x: Tensor, start: int) -> tuple[Tensor, ...]:
        split = heads(x, start)
        both = torch.rms_norm(split[:2], shape[-1:], eps=1e-6)
        end = start + both.shape[-2]
        swapped = both.roll(shape[-1] // 2, -1)
        query, key = torch.addcmul(both * cosines[start:end], swapped, sines[start:end])
        return query, key, split[2]

    return turned_heads


def _turns(layer: Any, context: int) -> tuple[Tensor, Tensor]:
    """The cosine of every feature at every place, and the sine, by which its partner is added."""
    d_head = layer.w_q.out_features // layer.n_heads
    angles = positions.rope_angles(context, d_head).to(layer.w_q.weight)
    return angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)


def _step(layer: Any) -> Step:
    """What a norm, a feed-forward net or a linear map does, or the module itself."""
    if type(layer) is projection.Linear:
        return _linear(layer.weight, layer.bias)
    if type(layer) is encoder.LayerNorm:
        shape, weight, bias, eps = layer.normalized_shape, layer.weight, layer.bias, layer.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
    if type(layer) is modern.RMSNorm:
        shape, weight, eps = layer.weight.shape, layer.weight, layer.eps
        return lambda x: torch.rms_norm(x, shape, weight, eps)
    if type(layer) is encoder.FeedForward:
        return _feed_forward(layer, kernels.gelu)
    if type(layer) is modern.SquaredReLU:
        return _feed_forward(layer, lambda x: torch.relu(x).square())
    return layer


def _feed_forward(layer: Any, activation: Step) -> Step:
    up, down = _step(layer.up), _step(layer.down)
    return lambda x: down(activation(up(x)))


def _linear(weight: Tensor, bias: Tensor | None) -> Step:
    def step(x: Tensor) -> Tensor:
        if x.ndim > 1:
            return F.linear(x, weight, bias)
        return torch.mv(weight, x) if bias is None else torch.addmv(bias, weight, x)

    return step
