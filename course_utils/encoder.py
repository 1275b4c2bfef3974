"""Notebook 05: the transformer block, and the encoder made of it (Vaswani et al. 2017, §3.1, §3.3).

Attention moves information between tokens, the feed-forward net works on each token alone. Both add
what they find to a stream that runs through the whole model.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, projection
from course_utils.projection import Linear


def layer_norm(
    x: Float[Tensor, "*batch d_model"],
    gain: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    eps: float = 1e-5,
) -> Float[Tensor, "*batch d_model"]:
    """Give every token mean 0 and variance 1 over its features, then scale and shift each feature.

    The variance is the mean square (divided by d_model). Ba et al. 2016, §3.
    """
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * gain + bias


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x times the probability that a normal number is below x (Hendrycks & Gimpel 2016)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def feed_forward(
    x: Float[Tensor, "*batch d_model"],
    w_up: Float[Tensor, "d_hidden d_model"],
    b_up: Float[Tensor, " d_hidden"],
    w_down: Float[Tensor, "d_model d_hidden"],
    b_down: Float[Tensor, " d_model"],
) -> Float[Tensor, "*batch d_model"]:
    """Widen every token, apply GELU, and bring it back to d_model features (§3.3)."""
    return projection.linear(gelu(projection.linear(x, w_up, b_up)), w_down, b_down)


def residual_step(
    x: Float[Tensor, "batch tokens d_model"],
    sublayer: Callable[[Tensor], Tensor],
    norm: Callable[[Tensor], Tensor],
    norm_first: bool = True,
) -> Float[Tensor, "batch tokens d_model"]:
    """Add to the stream what a sublayer makes of it.

    Pre-norm (GPT-2): x + f(norm(x)). Post-norm (2017, BERT): norm(x + f(x)).
    """
    return x + sublayer(norm(x)) if norm_first else norm(x + sublayer(x))


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` that computes with this module's `layer_norm`."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return layer_norm(x, self.weight, self.bias, self.eps)


class FeedForward(nn.Module):
    """`feed_forward` with its weights."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.up = Linear(d_model, d_hidden)
        self.down = Linear(d_hidden, d_model)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return feed_forward(x, self.up.weight, self.up.bias, self.down.weight, self.down.bias)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each with a norm of its own and added to the stream.

    A block is given its parts: another attention, norm or feed-forward makes another model.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        norm_first: bool = True,
    ):
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.norm1 = norm1
        self.norm2 = norm2
        self.norm_first = norm_first

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """`mask` says which tokens a token may look at, as in `attention.attention_weights`."""
        attend = partial(self.attention, mask=mask)
        x = residual_step(x, attend, self.norm1, self.norm_first)
        return residual_step(x, self.feed_forward, self.norm2, self.norm_first)


def block(d_model: int, n_heads: int, norm_first: bool = True) -> TransformerBlock:
    """A block of the usual parts, with a feed-forward net four times as wide as the stream."""
    return TransformerBlock(
        attention.MultiHeadAttention(d_model, n_heads),
        FeedForward(d_model, 4 * d_model),
        LayerNorm(d_model),
        LayerNorm(d_model),
        norm_first,
    )


# --- The encoder ---------------------------------------------------------------------------------


def padding_mask(ids: Int[Tensor, "batch tokens"], pad_id: int) -> Bool[Tensor, "batch 1 1 tokens"]:
    """True for every key that is a real token; the axes of size 1 are heads and queries."""
    return (ids != pad_id)[:, None, None, :]


def mean_pool(
    x: Float[Tensor, "batch tokens d_model"], keep: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch d_model"]:
    """Mean over the tokens that are kept: one vector for a sequence, whatever its padding."""
    kept = keep[..., None].to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1)


class Encoder(nn.Module):
    """Reads all tokens at once: an embedding, blocks, and a last norm.

    Post-norm blocks end with a norm already: give `nn.Identity()` as the last one.
    """

    def __init__(self, embed: nn.Module, blocks: Iterable[nn.Module], norm: nn.Module):
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """A vector for every token. `mask` goes to every block."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Classifier(nn.Module):
    """Says which of some classes a sequence belongs to: encoder, mean over real tokens, one map.

    It returns scores (logits). Softmax belongs to the loss, not to the model.
    """

    def __init__(self, encoder: Encoder, d_model: int, n_classes: int, pad_id: int):
        super().__init__()
        self.encoder = encoder
        self.head = Linear(d_model, n_classes)
        self.pad_id = pad_id

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch classes"]:
        x = self.encoder(ids, padding_mask(ids, self.pad_id))
        return self.head(mean_pool(x, ids != self.pad_id))
