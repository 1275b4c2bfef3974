"""Notebook 06: decoders. One continues a text (GPT), one reads another text beside its own.

Both read from left to right: a token may look at itself and at earlier tokens only.
"""

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, encoder
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear


def causal_mask(n_query: int, n_key: int | None = None) -> Bool[Tensor, "query key"]:
    """True where the key is not later than the query.

    With more keys than queries, the queries are the last tokens: the earlier ones are in a cache.
    """
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query)


def shift_targets(
    ids: Int[Tensor, "batch tokens+1"],
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """What the model reads, and what it must say at each place: the token that follows."""
    return ids[:, :-1], ids[:, 1:]


class GPT(nn.Module):
    """A decoder that continues a text: embedding, blocks, norm, head (Radford et al. 2019)."""

    def __init__(
        self, embed: nn.Module, blocks: Iterable[nn.Module], norm: nn.Module, head: nn.Module
    ):
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocabulary"]:
        """Scores (logits) of what may follow each token."""
        x = self.embed(ids)
        mask = causal_mask(ids.shape[1]).to(ids.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def gpt(vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int) -> GPT:
    """A GPT of the usual parts: learned positions, pre-norm blocks, a head of its own."""
    return GPT(
        InputEmbedding(Embedding(vocabulary, d_model), LearnedPositions(context, d_model)),
        [encoder.block(d_model, n_heads) for _ in range(n_layers)],
        encoder.LayerNorm(d_model),
        Linear(d_model, vocabulary, bias=False),
    )


# --- A decoder that reads another text -----------------------------------------------------------


class DecoderBlock(nn.Module):
    """Self-attention, attention to the encoder's output, feed-forward (Vaswani et al., §3.1)."""

    def __init__(
        self,
        self_attention: nn.Module,
        cross_attention: nn.Module,
        feed_forward: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        norm3: nn.Module,
        norm_first: bool = True,
    ):
        super().__init__()
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.norm1 = norm1
        self.norm2 = norm2
        self.norm3 = norm3
        self.norm_first = norm_first

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        self_mask: Bool[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Queries come from the target `x`; keys and values of the second step from `memory`."""
        look_back = partial(self.self_attention, mask=self_mask)
        read = partial(self.cross_attention, memory=memory, mask=memory_mask)
        x = encoder.residual_step(x, look_back, self.norm1, self.norm_first)
        x = encoder.residual_step(x, read, self.norm2, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm3, self.norm_first)


def decoder_block(d_model: int, n_heads: int, norm_first: bool = True) -> DecoderBlock:
    """A decoder block of the usual parts."""
    return DecoderBlock(
        attention.MultiHeadAttention(d_model, n_heads),
        attention.MultiHeadAttention(d_model, n_heads),
        encoder.FeedForward(d_model, 4 * d_model),
        encoder.LayerNorm(d_model),
        encoder.LayerNorm(d_model),
        encoder.LayerNorm(d_model),
        norm_first,
    )


class Seq2Seq(nn.Module):
    """An encoder reads the source; a decoder writes the target and reads what the encoder made.

    The model of Vaswani et al. 2017, §3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        embed: nn.Module,
        blocks: Iterable[nn.Module],
        norm: nn.Module,
        head: nn.Module,
    ):
        super().__init__()
        self.encoder = encoder
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Scores (logits) of what may follow each target token.

        `source_mask` is True at real tokens of the source, and None where all are real.
        """
        memory = self.encoder(source, source_mask)
        x = self.embed(target)
        self_mask = causal_mask(target.shape[1]).to(target.device)
        for block in self.blocks:
            x = block(x, memory, self_mask, source_mask)
        return self.head(self.norm(x))
