"""GPT-2 and BERT, composed of our parts: built by the numbers of a config.json, not yet filled."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, projection
from course_utils.families.config import Config, need, require
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

# --- GPT-2 (Radford et al. 2019) -----------------------------------------------------------------


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU with a tanh in place of the normal distribution (Hendrycks & Gimpel 2016, §2)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class TanhFeedForward(encoder.FeedForward):
    """The feed-forward net of GPT-2: its activation is `gelu_tanh`."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        hidden = gelu_tanh(projection.linear(x, self.up.weight, self.up.bias))
        return projection.linear(hidden, self.down.weight, self.down.bias)


def gpt2(config: Config) -> decoder.GPT:
    """GPT-2, not yet filled: learned positions, pre-norm blocks, a head tied to the embedding."""
    need(config, "n_embd", "n_head", "n_layer", "n_positions", "vocab_size", "layer_norm_epsilon")
    require(
        config,
        activation_function="gelu_new",
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    if config.get("n_inner") is not None:
        need(config, "n_inner")
    d_model, n_heads = config["n_embd"], config["n_head"]
    d_hidden = config.get("n_inner") or 4 * d_model
    eps = config["layer_norm_epsilon"]
    tokens = Embedding(config["vocab_size"], d_model)
    return decoder.GPT(
        InputEmbedding(tokens, LearnedPositions(config["n_positions"], d_model)),
        [
            _block(n_heads, TanhFeedForward(d_model, d_hidden), eps, norm_first=True)
            for _ in range(config["n_layer"])
        ],
        encoder.LayerNorm(d_model, eps),
        head(tokens, config, bias=False),
    )


# --- BERT (Devlin et al. 2018) -------------------------------------------------------------------


class BertEmbedding(nn.Module):
    """The sum of a vector for the token, one for its place and one for its type, normalised."""

    def __init__(self, tokens: Embedding, positions: nn.Module, types: Embedding, norm: nn.Module):
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.types = types
        self.norm = norm

    def forward(
        self, ids: Int[Tensor, "batch tokens"], types: Int[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        types = torch.zeros_like(ids) if types is None else types
        return self.norm(self.positions(self.tokens(ids)) + self.types(types))


class Bert(encoder.Encoder):
    """An encoder whose tokens have types: 0 in a first text, 1 in a second that follows it."""

    embed: BertEmbedding

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        types: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        x = self.embed(ids, types)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class MaskedLanguageHead(nn.Module):
    """Scores of every token at every place: one more layer, then the map to the vocabulary."""

    def __init__(self, transform: Linear, norm: nn.Module, out: Linear):
        super().__init__()
        self.transform = transform
        self.norm = norm
        self.out = out

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        return self.out(self.norm(encoder.gelu(self.transform(x))))


class MaskedLanguageModel(nn.Module):
    """BERT with the head that says which token a [MASK] hides."""

    def __init__(self, encoder: Bert, head: MaskedLanguageHead):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        types: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        return self.head(self.encoder(ids, mask, types))


def bert(config: Config) -> Bert:
    """BERT without a head, not yet filled: post-norm blocks, which need no last norm."""
    need(config, "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    need(config, "vocab_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps")
    require(
        config,
        hidden_act="gelu",
        position_embedding_type="absolute",
        is_decoder=False,
        add_cross_attention=False,
    )
    d_model, n_heads = config["hidden_size"], config["num_attention_heads"]
    d_hidden, eps = config["intermediate_size"], config["layer_norm_eps"]
    embed = BertEmbedding(
        Embedding(config["vocab_size"], d_model),
        LearnedPositions(config["max_position_embeddings"], d_model),
        Embedding(config["type_vocab_size"], d_model),
        encoder.LayerNorm(d_model, eps),
    )
    return Bert(
        embed,
        [
            _block(n_heads, encoder.FeedForward(d_model, d_hidden), eps, norm_first=False)
            for _ in range(config["num_hidden_layers"])
        ],
        nn.Identity(),
    )


def bert_masked(config: Config) -> MaskedLanguageModel:
    """BERT with its masked-language head, not yet filled."""
    body, d_model = bert(config), config["hidden_size"]
    return MaskedLanguageModel(
        body,
        MaskedLanguageHead(
            Linear(d_model, d_model),
            encoder.LayerNorm(d_model, config["layer_norm_eps"]),
            head(body.embed.tokens, config, bias=True),
        ),
    )


# --- What several families are made of -----------------------------------------------------------


class MappedAttention(nn.Module):
    """Attention with maps of one's choice, for heads of any size (Vaswani et al. 2017, §3.2.2)."""

    def __init__(
        self, n_heads: int, w_q: nn.Module, w_k: nn.Module, w_v: nn.Module, w_o: nn.Module
    ):
        super().__init__()
        self.n_heads = n_heads
        self.w_q = w_q
        self.w_k = w_k
        self.w_v = w_v
        self.w_o = w_o

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        memory = x if memory is None else memory
        query, key, value = (
            attention.split_heads(projected, self.n_heads)
            for projected in attention.project_qkv(x, memory, self.w_q, self.w_k, self.w_v)
        )
        heads = attention.scaled_dot_product_attention(query, key, value, mask, bias)
        return self.w_o(attention.merge_heads(heads))


def _block(
    n_heads: int, feed_forward: encoder.FeedForward, eps: float, norm_first: bool
) -> encoder.TransformerBlock:
    d_model = feed_forward.up.in_features
    return encoder.TransformerBlock(
        attention.MultiHeadAttention(d_model, n_heads),
        feed_forward,
        encoder.LayerNorm(d_model, eps),
        encoder.LayerNorm(d_model, eps),
        norm_first,
    )


def head(tokens: Embedding, config: Config, bias: bool) -> Linear:
    """A map to the vocabulary. Tied, its rows are the very vectors of the tokens."""
    to_vocabulary = Linear(tokens.embedding_dim, tokens.num_embeddings, bias)
    if config.get("tie_word_embeddings", True):
        to_vocabulary.weight = tokens.weight
    return to_vocabulary
