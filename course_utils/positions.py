"""Notebook 04: telling attention where its tokens stand.

Attention treats its tokens as a set. Their order comes in as something added to the tokens
(sinusoids, or a learned table), as something added to the scores (a bias by distance), or as a
rotation of queries and keys (RoPE).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention
from course_utils.projection import Embedding, check_ids


def permutation_error(
    layer: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch tokens d_model"],
    order: Int[Tensor, " tokens"],
) -> float:
    """How much it matters whether the tokens are shuffled before `layer` or after it.

    The largest absolute difference of the two answers. It is 0, up to rounding, for a layer that
    does not know the order of its tokens.
    """
    return (layer(x[:, order]) - layer(x)[:, order]).abs().max().item()


def sinusoidal_positions(
    n_tokens: int, d_model: int, base: float = 10000.0
) -> Float[Tensor, "tokens d_model"]:
    """A sine and a cosine for each of d_model/2 frequencies (Vaswani et al. 2017, §3.5).

    Features 2i and 2i + 1 turn by base^(-2i / d_model) radians a token, like the hands of clocks.
    `d_model` is even.
    """
    frequencies = base ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(n_tokens)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def add_positions(
    x: Float[Tensor, "batch tokens d_model"], positions: Float[Tensor, "context d_model"]
) -> Float[Tensor, "batch tokens d_model"]:
    """Add row t of `positions` to token t of every sequence."""
    return x + positions[: x.shape[1]]


def shift_matrix(k: int, d_model: int, base: float = 10000.0) -> Float[Tensor, "d_model d_model"]:
    """The matrix that moves sinusoids on by `k` tokens: positions[t + k] = positions[t] @ matrix.

    It is a rotation of every pair of features, and does not depend on t. `d_model` is even.
    """
    angles = k * base ** (-torch.arange(0, d_model, 2) / d_model)
    sines, cosines = angles.sin(), angles.cos()
    rotations = torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*rotations)


def relative_bias(
    n_query: int, n_key: int, table: Float[Tensor, " distances"]
) -> Float[Tensor, "query key"]:
    """What is added to the score of query i and key j: the table's entry for the distance i - j.

    The table has 2R + 1 entries, for the distances -R to R; longer ones use its ends. The idea is
    that of T5 (Raffel et al. 2020, §2.1), whose table has wider entries for longer distances.
    """
    reach = len(table) // 2
    distances = torch.arange(n_query)[:, None] - torch.arange(n_key)[None, :]
    return table[distances.clamp(-reach, reach) + reach]


def rope_angles(n_tokens: int, d_head: int, base: float = 10000.0) -> Float[Tensor, "tokens half"]:
    """Angle by which each pair of features is turned at each position (Su et al. 2021, §3.2.2).

    Pair i turns by base^(-2i / d_head) radians a token. `d_head` is even.
    """
    frequencies = base ** (-torch.arange(0, d_head, 2) / d_head)
    return torch.arange(n_tokens)[:, None] * frequencies


def apply_rope(
    x: Float[Tensor, "*batch tokens d_head"], angles: Float[Tensor, "tokens half"]
) -> Float[Tensor, "*batch tokens d_head"]:
    """Turn feature i together with feature i + d_head/2 by the angles of its position.

    The dot product of two turned vectors depends on their content and on their distance only.
    """
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)


# --- What a model is given -----------------------------------------------------------------------


class SinusoidalPositions(nn.Module):
    """Adds sinusoids: nothing is learned, and no length is too long."""

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        _, n_tokens, d_model = x.shape
        if d_model % 2:
            raise ValueError(f"sinusoids come in pairs: d_model must be even, got {d_model}")
        return add_positions(x, sinusoidal_positions(n_tokens, d_model).to(x))


class LearnedPositions(nn.Module):
    """Adds a learned vector for each of `context` places (GPT-2, BERT)."""

    def __init__(self, context: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(context, d_model))

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        if x.shape[1] > len(self.weight):
            raise ValueError(
                f"x has {x.shape[1]} tokens, but positions were learned for {len(self.weight)} only"
            )
        return add_positions(x, self.weight)


class InputEmbedding(nn.Module):
    """Token vectors, times `scale`, with their positions (Vaswani et al. 2017, §3.4: √d_model).

    `positions` is one of the modules above, or `nn.Identity()` where attention sees to the order.
    """

    def __init__(self, tokens: Embedding, positions: nn.Module, scale: float = 1.0):
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.scale = scale

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        check_ids(ids)
        x = self.tokens(ids)
        return self.positions(x if self.scale == 1 else x * self.scale)


class BiasedAttention(nn.Module):
    """Attention whose heads learn a bias for every distance up to `reach`."""

    def __init__(self, d_model: int, n_heads: int, reach: int):
        super().__init__()
        self.attention = attention.MultiHeadAttention(d_model, n_heads)
        self.tables = nn.Parameter(torch.zeros(n_heads, 2 * reach + 1))

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        memory = x if memory is None else memory
        by_distance = torch.stack(
            [relative_bias(x.shape[1], memory.shape[1], table) for table in self.tables]
        )
        bias = by_distance if bias is None else by_distance + bias
        return self.attention(x, memory, mask, bias)


class RotaryAttention(attention.MultiHeadAttention):
    """Attention that turns queries and keys by their positions (Su et al. 2021)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__(d_model, n_heads)
        if d_model // n_heads % 2:
            raise ValueError(
                "features are turned in pairs: d_model / n_heads must be even, "
                f"got {d_model} / {n_heads}"
            )

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        memory = x if memory is None else memory
        query, key, value = self.heads(x, memory)
        return self.attend(query, key, value, mask, bias)

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
        return turned(query, start), turned(key, start), value

    def attend(
        self,
        query: Float[Tensor, "batch n_heads query d_head"],
        key: Float[Tensor, "batch n_heads key d_head"],
        value: Float[Tensor, "batch n_heads key d_head"],
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """What is left to do once there are heads."""
        heads = attention.scaled_dot_product_attention(query, key, value, mask, bias)
        return self.w_o(attention.merge_heads(heads))


def turned(
    x: Float[Tensor, "batch n_heads tokens d_head"], start: int = 0, base: float = 10000.0
) -> Float[Tensor, "batch n_heads tokens d_head"]:
    """`x` with every token turned by its position, of which the first is `start`."""
    n_tokens, d_head = x.shape[-2:]
    # Not in half precision: bfloat16 has no number between 300 and 302.
    dtype = torch.promote_types(x.dtype, torch.float32)
    angles = rope_angles(start + n_tokens, d_head, base)[start:].to(x.device, dtype)
    return apply_rope(x.to(dtype), angles).to(x.dtype)
