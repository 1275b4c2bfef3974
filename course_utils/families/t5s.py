"""T5 and T5 v1.1, composed of our parts: an encoder and a decoder that know distances only.

All layers of the encoder add one bias by distance to their scores, those of the decoder another.
Linear maps have no biases, norms leave the mean alone, and scores are not scaled.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import decoder, encoder, modern, positions
from course_utils.families import builders
from course_utils.families.config import Config, need, require
from course_utils.projection import Embedding, Linear

# --- Distances -----------------------------------------------------------------------------------


def ranges(distances: Int[Tensor, "*shape"], n_ranges: int, reach: int) -> Int[Tensor, "*shape"]:
    """The number of the range that a distance of 0 or more is in (Raffel et al. 2020, §2.1).

    The first half of the ranges have one distance each: 0, 1, 2 and so on. The others grow by the
    logarithm up to `reach`, and whatever is further away is in the last.
    """
    n_alone = n_ranges // 2
    growth = (distances.clamp_min(n_alone) / n_alone).log() / math.log(reach / n_alone)
    shared = n_alone + (growth * (n_ranges - n_alone)).long()
    return torch.where(distances < n_alone, distances, shared.clamp_max(n_ranges - 1))


def before(n_ranges: int, reach: int) -> Int[Tensor, " distances"]:
    """The range of each distance from -reach to reach, where all later tokens are as near as 0."""
    return ranges(torch.arange(-reach, reach + 1).clamp_min(0), n_ranges, reach)


def before_and_after(n_ranges: int, reach: int) -> Int[Tensor, " distances"]:
    """The range of each distance from -reach to reach; half of them are for later tokens."""
    distances, half = torch.arange(-reach, reach + 1), n_ranges // 2
    return ranges(distances.abs(), half, reach) + half * (distances < 0)


class RangeBias(nn.Module):
    """A number for every head and range of distances, which is added to the scores.

    `by_distance` says which range each distance from -reach to reach is in.
    """

    by_distance: Tensor

    def __init__(self, n_ranges: int, n_heads: int, by_distance: Int[Tensor, " distances"]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_ranges, n_heads))
        self.register_buffer("by_distance", by_distance, persistent=False)

    def forward(self, n_query: int, n_key: int) -> Float[Tensor, "n_heads query key"]:
        """The queries are the last of the tokens that are the keys."""
        tables = self.weight[self.by_distance].T
        whole = torch.stack([positions.relative_bias(n_key, n_key, table) for table in tables])
        return whole[:, n_key - n_query :]


# --- Attention -----------------------------------------------------------------------------------


class Biased(nn.Module):
    """An attention to the own text, whose scores get a bias that other layers may share."""

    def __init__(self, inner: nn.Module, bias: RangeBias):
        super().__init__()
        self.inner = inner
        self.bias = bias

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        memory: Float[Tensor, "batch tokens d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        """`memory` is `x` itself. `mask` has a column for every key.

        Behind a cache, these are more than `x` has tokens.
        """
        n_key = x.shape[1] if mask is None else mask.shape[-1]
        return self.inner(x, memory, mask, self.bias(x.shape[1], n_key))


class ScaledLinear(Linear):
    """A linear map without a bias whose answer is multiplied by `scale`."""

    def __init__(self, d_in: int, d_out: int, scale: float):
        super().__init__(d_in, d_out, bias=False)
        self.scale = scale

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return super().forward(x) * self.scale


def t5_attention(d_model: int, n_heads: int, d_head: int) -> builders.MappedAttention:
    """Attention whose scores are not scaled, with heads of any size and maps without biases.

    Attention will divide the scores by √d_head: the queries are multiplied by it before.
    """
    d_heads = n_heads * d_head
    return builders.MappedAttention(
        n_heads,
        ScaledLinear(d_model, d_heads, math.sqrt(d_head)),
        Linear(d_model, d_heads, bias=False),
        Linear(d_model, d_heads, bias=False),
        Linear(d_heads, d_model, bias=False),
    )


# --- Feed-forward nets ---------------------------------------------------------------------------


class ReLU(nn.Module):
    """A feed-forward net without biases (Vaswani et al. 2017, §3.3)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.up = Linear(d_model, d_hidden, bias=False)
        self.down = Linear(d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(torch.relu(self.up(x)))


class GEGLU(nn.Module):
    """A gated feed-forward net whose gate is GELU with a tanh (Shazeer 2020, §2)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.gate = Linear(d_model, d_hidden, bias=False)
        self.up = Linear(d_model, d_hidden, bias=False)
        self.down = Linear(d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(builders.gelu_tanh(self.gate(x)) * self.up(x))


# --- The model -----------------------------------------------------------------------------------


def t5(config: Config) -> decoder.Seq2Seq:
    """T5 (Raffel et al. 2020), or T5 v1.1: a gated net, a head of its own; not yet filled."""
    config = _older(config) | config
    need(config, "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers")
    need(config, "vocab_size", "layer_norm_epsilon")
    need(config, "relative_attention_num_buckets", "relative_attention_max_distance")
    require(config)
    tokens = Embedding(config["vocab_size"], config["d_model"])
    embed = positions.InputEmbedding(tokens, nn.Identity())
    return decoder.Seq2Seq(
        encoder.Encoder(embed, _encoder_blocks(config), _norm(config)),
        embed,
        _decoder_blocks(config),
        _norm(config),
        _head(tokens, config),
    )


def _older(config: Config) -> Config:
    """What the first files leave out."""
    layers = config.get("num_layers")
    return {"num_decoder_layers": layers, "relative_attention_max_distance": 128}


def _encoder_blocks(config: Config) -> list[encoder.TransformerBlock]:
    bias = _bias(config, before_and_after)
    return [
        encoder.TransformerBlock(
            Biased(_attention(config), bias), _feed_forward(config), _norm(config), _norm(config)
        )
        for _ in range(config["num_layers"])
    ]


def _decoder_blocks(config: Config) -> list[decoder.DecoderBlock]:
    bias = _bias(config, before)
    return [
        decoder.DecoderBlock(
            Biased(_attention(config), bias),
            _attention(config),
            _feed_forward(config),
            _norm(config),
            _norm(config),
            _norm(config),
        )
        for _ in range(config["num_decoder_layers"])
    ]


def _bias(config: Config, by_distance: Callable[[int, int], Tensor]) -> RangeBias:
    n_ranges = config["relative_attention_num_buckets"]
    reach = config["relative_attention_max_distance"]
    return RangeBias(n_ranges, config["num_heads"], by_distance(n_ranges, reach))


def _attention(config: Config) -> builders.MappedAttention:
    return t5_attention(config["d_model"], config["num_heads"], config["d_kv"])


def _feed_forward(config: Config) -> nn.Module:
    kinds = {"relu": ReLU, "gated-gelu": GEGLU}
    kind = config.get("feed_forward_proj", "relu")
    if kind not in kinds:
        raise ValueError(
            f"config.json says feed_forward_proj = {kind!r}; one of {list(kinds)} is built here"
        )
    return kinds[kind](config["d_model"], config["d_ff"])


def _norm(config: Config) -> nn.Module:
    return modern.RMSNorm(config["d_model"], config["layer_norm_epsilon"])


def _head(tokens: Embedding, config: Config) -> Linear:
    """T5's head is its embedding, scaled. That of v1.1 has weights of its own, and no scale.

    transformers 5 says so in scale_decoder_outputs, older files in tie_word_embeddings.
    """
    d_model, vocabulary = config["d_model"], config["vocab_size"]
    older = config.get("tie_word_embeddings", True)
    if not config.get("scale_decoder_outputs", older):
        return Linear(d_model, vocabulary, bias=False)
    head = ScaledLinear(d_model, vocabulary, d_model**-0.5)
    head.weight = tokens.weight
    return head
