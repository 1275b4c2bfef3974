"""The models of `course_utils.decoder` for cases, and as torch's own layers."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import blocks, layers
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear


def small_gpt_modules(factors: tuple[float, ...]) -> dict[str, nn.Module]:
    return {
        "embed": Embedding(4, 3),
        "blocks": nn.ModuleList(blocks.MeanBlock(factor) for factor in factors),
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


class MeanDecoderBlock(nn.Module):
    """Adds to every token the mean of what it may look at, and that of the memory."""

    def __init__(self, factor: float):
        super().__init__()
        self.attention = blocks.MeanAttention()
        self.factor = factor

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        x = x + self.factor * self.attention(x, mask=self_mask)
        return x + self.attention(x, memory, memory_mask)


SMALL_SEQ2SEQ = {
    "encoder.embed.weight": torch.tensor([[2.0, 0], [0, 1], [-1, 3]]),
    "embed.weight": torch.tensor([[1.0, 1], [0, 2], [3, 0]]),
    "norm.weight": torch.tensor([2.0, -1.0]),
    "norm.bias": torch.tensor([0.0, 1.0]),
    "head.weight": torch.tensor([[1.0, 0], [0, 1], [1, -1]]),
    "head.bias": torch.tensor([0.0, 3.0, 0.0]),
}


def small_seq2seq_modules(factors: tuple[float, ...]) -> dict[str, nn.Module]:
    return {
        "encoder": encoder.Encoder(Embedding(3, 2), [blocks.MeanBlock(2.0)], nn.Identity()),
        "embed": Embedding(3, 2),
        "blocks": nn.ModuleList(MeanDecoderBlock(factor) for factor in factors),
        "norm": encoder.LayerNorm(2),
        "head": Linear(2, 3),
    }


def small_seq2seq_by_hand(
    factors: tuple[float, ...],
    weights: dict[str, Tensor],
    source: Tensor,
    target: Tensor,
    source_mask: None,
) -> Tensor:
    memory = F.embedding(source, weights["encoder.embed.weight"])
    memory = memory + 2 * memory.mean(1, keepdim=True)
    x = F.embedding(target, weights["embed.weight"])
    for factor in factors:
        x = x + factor * blocks.means_up_to_each(x) + memory.mean(1, keepdim=True)
    x = F.layer_norm(x, (2,), weights["norm.weight"], weights["norm.bias"])
    return F.linear(x, weights["head.weight"], weights["head.bias"])


SEQ2SEQ_HEADS = 3


def seq2seq_modules(n_reading: int, n_writing: int, norm_first: bool) -> dict[str, nn.Module]:
    """Nine words are read, seven are written."""
    return {
        "encoder": encoder.Encoder(
            InputEmbedding(Embedding(9, 6), LearnedPositions(10, 6)),
            [
                encoder.TransformerBlock(
                    **layers.block_parts(6, SEQ2SEQ_HEADS), norm_first=norm_first
                )
                for _ in range(n_reading)
            ],
            encoder.LayerNorm(6),
        ),
        "embed": InputEmbedding(Embedding(7, 6), LearnedPositions(9, 6)),
        "blocks": nn.ModuleList(
            decoder.DecoderBlock(
                **layers.block_parts(6, SEQ2SEQ_HEADS, "self_attention cross_attention"),
                norm_first=norm_first,
            )
            for _ in range(n_writing)
        ),
        "norm": encoder.LayerNorm(6),
        "head": Linear(6, 7),
    }


def seq2seq_by_torch(
    norm_first: bool,
    weights: dict[str, Tensor],
    source: Tensor,
    target: Tensor,
    source_mask: Tensor | None,
) -> Tensor:
    """Made of torch's own functions, encoder layers and decoder layers."""
    hidden = nn.Transformer.generate_square_subsequent_mask(target.shape[1]) < 0
    memory = _embedded(source, weights, "encoder.embed")
    for of_block in _by_block(weights, "encoder.blocks"):
        memory = layers.block_by_torch(memory, source_mask, norm_first, SEQ2SEQ_HEADS, of_block)
    memory = _normed(memory, weights, "encoder.norm")
    x = _embedded(target, weights, "embed")
    for of_block in _by_block(weights, "blocks"):
        x = decoder_block_by_torch(
            SEQ2SEQ_HEADS, norm_first, of_block, x, memory, ~hidden, source_mask
        )
    return F.linear(_normed(x, weights, "norm"), weights["head.weight"], weights["head.bias"])


def _embedded(ids: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    places = weights[f"{prefix}.positions.weight"][: ids.shape[1]]
    return F.embedding(ids, weights[f"{prefix}.tokens.weight"]) + places


def _normed(x: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])


def _by_block(weights: dict[str, Tensor], prefix: str) -> list[dict[str, Tensor]]:
    """The weights of the blocks under a prefix, in their order."""
    by_block: dict[int, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        if name.startswith(f"{prefix}."):
            place, rest = name.removeprefix(f"{prefix}.").split(".", 1)
            by_block.setdefault(int(place), {})[rest] = weight
    return [by_block[place] for place in sorted(by_block)]


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
