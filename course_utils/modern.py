"""The parts that newer language models chose, for the same blocks and the same GPT.

`encoder.TransformerBlock` and `decoder.GPT` take their parts from outside, so a newer model is
another choice of parts.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, positions
from course_utils.projection import Embedding, Linear, check_ids


def rms_norm(
    x: Float[Tensor, "*batch d"], gain: Float[Tensor, " d"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*batch d"]:
    """Divide every vector by the root of its mean square: LayerNorm that leaves the mean alone."""
    normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
    return normed if gain is None else normed * gain


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 below 0, x² above."""
    positive = torch.relu(x)
    return positive * positive


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain for each feature (Zhang & Sennrich 2019)."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return rms_norm(x, self.weight, self.eps)


class NormedRotaryAttention(positions.RotaryAttention):
    """Rotary attention without biases whose queries and keys all have the same length.

    No score can then exceed √d_head: attention stays soft however large the learning rate
    (Henry et al. 2020; Dehghani et al. 2023, §2).
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__(d_model, n_heads)
        for name in ("w_q", "w_k", "w_v", "w_o"):
            setattr(self, name, Linear(d_model, d_model, bias=False))

    def heads(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        start: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every head. The first token of both is number `start`."""
        query, key, value = (
            attention.split_heads(projected, self.n_heads)
            for projected in attention.project_qkv(x, memory, self.w_q, self.w_k, self.w_v)
        )
        turned = positions.turned
        return turned(rms_norm(query), start), turned(rms_norm(key), start), value


class SquaredReLU(nn.Module):
    """A feed-forward net without biases whose activation is ReLU squared (So et al. 2021)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.up = Linear(d_model, d_hidden, bias=False)
        self.down = Linear(d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(squared_relu(self.up(x)))


def ngram_buckets(
    ids: Int[Tensor, "batch tokens"], order: int, n_buckets: int
) -> Int[Tensor, "batch tokens"]:
    """A bucket for the `order` ids that end at each token; different n-grams may share one.

    Before the first token there is nothing, which counts as an id of its own.
    """
    key = torch.full_like(ids, order)
    for distance in range(order):
        earlier = nn.functional.pad(ids + 1, (distance, 0))[:, : ids.shape[1]]
        key = (key + earlier) * 0x9E3779B1 % 0x7FFFFFFF  # below 2³¹, so the product fits
    return key % n_buckets


class NGramEmbedding(nn.Module):
    """Token vectors, plus learned vectors of the pair, the triple, … that end at each token.

    What usually follows "th" or "the " is looked up at once, and attention need not work it out.
    All n-grams of 2 to `longest` tokens share one table by hashing (Bojanowski et al. 2017, §3.2),
    which starts at 0. In training each look-up fails with probability `drop`, so that the model
    does not lean on n-grams that it has learned by heart.
    """

    def __init__(self, tokens: Embedding, n_buckets: int, longest: int = 3, drop: float = 0.0):
        super().__init__()
        self.tokens = tokens
        self.table = Embedding(n_buckets, tokens.embedding_dim)
        self.orders = range(2, longest + 1)
        self.drop = nn.Dropout1d(drop)
        nn.init.zeros_(self.table.weight)

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        check_ids(ids)
        n_buckets = self.table.num_embeddings
        buckets = torch.cat([ngram_buckets(ids, order, n_buckets) for order in self.orders])
        found = self.drop(self.table(buckets))  # [orders * batch, tokens, d_model]
        return self.tokens(ids) + found.unflatten(0, (len(self.orders), -1)).sum(0)


def block(d_model: int, n_heads: int) -> encoder.TransformerBlock:
    """A pre-norm block of the parts above, which at the start of training adds nothing."""
    attend = NormedRotaryAttention(d_model, n_heads)
    feed_forward = SquaredReLU(d_model, 4 * d_model)
    nn.init.zeros_(attend.w_o.weight)
    nn.init.zeros_(feed_forward.down.weight)
    return encoder.TransformerBlock(attend, feed_forward, RMSNorm(d_model), RMSNorm(d_model))


def modern_gpt(
    vocabulary: int,
    d_model: int,
    n_heads: int,
    n_layers: int,
    n_buckets: int = 0,
    longest: int = 3,
    drop: float = 0.0,
) -> decoder.GPT:
    """A GPT of the parts above. With `n_buckets` it has an `NGramEmbedding`.

    The head has weights of its own. There is no longest context.
    """
    tokens = Embedding(vocabulary, d_model)
    return decoder.GPT(
        NGramEmbedding(tokens, n_buckets, longest, drop) if n_buckets else tokens,
        [block(d_model, n_heads) for _ in range(n_layers)],
        RMSNorm(d_model),
        Linear(d_model, vocabulary, bias=False),
    )
