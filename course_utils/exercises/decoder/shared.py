"""The models of `course_utils.decoder` for cases, and as torch's own layers."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils import encoder
from course_utils.exercises import blocks, layers
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear


class MeanBlock(nn.Module):
    """Adds to every token the mean of those that it may look at."""

    def __init__(self, factor: float):
        super().__init__()
        self.attention = blocks.MeanAttention()
        self.factor = factor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + self.factor * self.attention(x, mask=mask)


def small_gpt_modules(factors: tuple[float, ...]) -> dict[str, nn.Module]:
    return {
        "embed": Embedding(4, 3),
        "blocks": nn.ModuleList(MeanBlock(factor) for factor in factors),
        "norm": encoder.LayerNorm(3),
        "head": Linear(3, 4, bias=False),
    }


SMALL_GPT = {
    "embed.weight": torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 0, 3], [-1, 1, 0]]),
    "norm.weight": torch.tensor([1.0, 2.0, -1.0]),
    "norm.bias": torch.tensor([0.0, 0.0, 2.0]),
    "head.weight": torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]),
}


def small_gpt_by_hand(
    factors: tuple[float, ...],
    ids: Tensor,
    table: Tensor,
    gain: Tensor,
    bias: Tensor,
    head: Tensor,
) -> Tensor:
    x = F.embedding(ids, table)
    for factor in factors:
        x = x + factor * blocks.means_up_to_each(x)
    return F.linear(F.layer_norm(x, gain.shape, gain, bias), head)


def gpt_modules(
    vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int, norm_first: bool
) -> dict[str, nn.Module]:
    return {
        "embed": InputEmbedding(Embedding(vocabulary, d_model), LearnedPositions(context, d_model)),
        "blocks": nn.ModuleList(
            encoder.TransformerBlock(**layers.block_parts(d_model, n_heads), norm_first=norm_first)
            for _ in range(n_layers)
        ),
        "norm": encoder.LayerNorm(d_model),
        "head": Linear(d_model, vocabulary, bias=False),
    }


def gpt_by_torch(
    ids: Tensor, n_heads: int, weights: dict[str, Tensor], norm_first: bool = True
) -> Tensor:
    """Made of torch's own functions and encoder layers."""
    positions = weights["embed.positions.weight"][: ids.shape[1]]
    x = F.embedding(ids, weights["embed.tokens.weight"]) + positions
    hidden = nn.Transformer.generate_square_subsequent_mask(ids.shape[1]) < 0
    n_layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        of_block = {
            name.removeprefix(prefix): weight
            for name, weight in weights.items()
            if name.startswith(prefix)
        }
        x = layers.block_by_torch(x, ~hidden, norm_first, n_heads, of_block)
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    return F.linear(x, weights["head.weight"])


def decoder_block_by_torch(
    n_heads: int,
    norm_first: bool,
    weights: dict[str, Tensor],
    x: Tensor,
    memory: Tensor,
    self_mask: Tensor | None,
    memory_mask: Tensor | None,
) -> Tensor:
    theirs = nn.TransformerDecoderLayer(
        x.shape[-1],
        n_heads,
        len(weights["feed_forward.up.bias"]),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        device="meta",
    )
    masks = {
        "tgt_mask": layers.torch_mask(self_mask, x, x, n_heads),
        "memory_mask": layers.torch_mask(memory_mask, x, memory, n_heads),
    }
    names = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}
    return functional_call(theirs, layers.torch_weights(weights, names), (x, memory), masks)
