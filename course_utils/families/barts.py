"""BART, composed of our parts: the transformer of 2017, with learned positions and GELU."""

import math
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, encoder
from course_utils.families import builders
from course_utils.families.config import Config, need, require
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding


class NormedEmbedding(InputEmbedding):
    """An input embedding with a norm behind it."""

    def __init__(
        self, tokens: Embedding, positions: nn.Module, norm: nn.Module, scale: float = 1.0
    ):
        super().__init__(tokens, positions, scale)
        self.norm = norm

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        return self.norm(super().forward(ids))


def bart(config: Config) -> decoder.Seq2Seq:
    """BART with a bias for every token, which files carry and nobody trains; not yet filled."""
    body: Any = bart_body(config)
    body.head = builders.head(body.embed.tokens, config, bias=True)
    body.head.bias.requires_grad_(False)
    return body


def bart_body(config: Config) -> decoder.Seq2Seq:
    """BART (Lewis et al. 2019), not yet filled. Its head is its embedding.

    Blocks are post-norm, and need no last norm.
    """
    need(config, "d_model", "vocab_size", "max_position_embeddings")
    need(config, "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    need(config, "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    require(config, activation_function="gelu", normalize_before=False, add_final_layer_norm=False)
    tokens = Embedding(config["vocab_size"], config["d_model"])
    return decoder.Seq2Seq(
        encoder.Encoder(_embedding(tokens, config), _encoder_blocks(config), nn.Identity()),
        _embedding(tokens, config),
        _decoder_blocks(config),
        nn.Identity(),
        builders.head(tokens, config, bias=False),
    )


def _embedding(tokens: Embedding, config: Config) -> NormedEmbedding:
    d_model = config["d_model"]
    scale = math.sqrt(d_model) if config.get("scale_embedding") else 1.0
    places = LearnedPositions(config["max_position_embeddings"], d_model)
    return NormedEmbedding(tokens, places, encoder.LayerNorm(d_model), scale)


def _encoder_blocks(config: Config) -> list[encoder.TransformerBlock]:
    d_model, n_heads = config["d_model"], config["encoder_attention_heads"]
    return [
        encoder.TransformerBlock(
            attention.MultiHeadAttention(d_model, n_heads),
            encoder.FeedForward(d_model, config["encoder_ffn_dim"]),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
            norm_first=False,
        )
        for _ in range(config["encoder_layers"])
    ]


def _decoder_blocks(config: Config) -> list[decoder.DecoderBlock]:
    d_model, n_heads = config["d_model"], config["decoder_attention_heads"]
    return [
        decoder.DecoderBlock(
            attention.MultiHeadAttention(d_model, n_heads),
            attention.MultiHeadAttention(d_model, n_heads),
            encoder.FeedForward(d_model, config["decoder_ffn_dim"]),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
            encoder.LayerNorm(d_model),
            norm_first=False,
        )
        for _ in range(config["decoder_layers"])
    ]
