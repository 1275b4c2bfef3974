"""Notebook 12: the parts that newer language models chose, for the same blocks and the same GPT.

`encoder.TransformerBlock` and `decoder.GPT` take their parts from outside, so a newer model is
another choice of parts.

An attention of this module works in two steps: `heads` makes queries, keys and values, and `attend`
does the rest. Between them a cache can put the keys and values of earlier tokens (notebook 08).
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, encoder, positions, projection
from course_utils.projection import Embedding, Linear, check_ids


def rms_norm(
    x: Float[Tensor, "*batch d"], gain: Float[Tensor, " d"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*batch d"]:
    """Divide every vector by the root of its mean square: LayerNorm that leaves the mean alone.

    `eps` is added to the mean square, under the root. Where there is a `gain`, every feature is
    multiplied by its own (Zhang & Sennrich 2019, §4).
    """
    normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
    return normed if gain is None else normed * gain


def swiglu(
    x: Float[Tensor, "*batch d_model"],
    w_gate: Float[Tensor, "d_hidden d_model"],
    w_up: Float[Tensor, "d_hidden d_model"],
    w_down: Float[Tensor, "d_model d_hidden"],
) -> Float[Tensor, "*batch d_model"]:
    """Widen every token twice, multiply one by SiLU of the other, the gate, and bring it back.

    SiLU, also called Swish, is z · sigmoid(z). There are no biases (Shazeer 2020, §2).
    """
    gate = projection.linear(x, w_gate)
    up = projection.linear(x, w_up)
    return projection.linear(gate * torch.sigmoid(gate) * up, w_down)


def repeat_kv(
    k: Float[Tensor, "batch groups tokens d_head"], n: int
) -> Float[Tensor, "batch heads tokens d_head"]:
    """Each group's keys, or values, `n` times in a row: once for every head that shares them.

    With groups a and b and n = 2 the heads are a a b b (Ainslie et al. 2023, §2.2).
    """
    return k.repeat_interleave(n, dim=1)


def sliding_window_mask(n_tokens: int, window: int) -> Bool[Tensor, "query key"]:
    """True where the key is the query's own token or one of the `window` - 1 before it.

    A row is a query, and no query looks at a later token (Beltagy et al. 2020, §3.1).
    """
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(1 - window)


def route(
    logits: Float[Tensor, "tokens experts"], k: int
) -> tuple[Int[Tensor, "tokens k"], Float[Tensor, "tokens k"]]:
    """The `k` experts with the largest logits of every token, the best first, and their shares.

    The shares are the softmax over the chosen experts alone (Jiang et al. 2024, §2.1).
    """
    best, chosen = logits.topk(k, dim=-1)
    return chosen, attention.softmax(best, dim=-1)


def balance_loss(
    logits: Float[Tensor, "tokens experts"], chosen: Int[Tensor, "tokens k"]
) -> Float[Tensor, ""]:
    """n_experts · Σ f P over the experts: 1 when all are used alike, up to n_experts when one is.

    f is the share that an expert has in all of `chosen`. P is its probability, by softmax over all
    experts, as a mean over the tokens: only P has a gradient (Fedus et al. 2022, §2.2).
    """
    n_experts = logits.shape[-1]
    counts = chosen.flatten().bincount(minlength=n_experts)
    probabilities = attention.softmax(logits, dim=-1).mean(0)
    return n_experts * (counts / chosen.numel() * probabilities).sum()


# --- Norm and feed-forward nets ------------------------------------------------------------------


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain for each feature (Zhang & Sennrich 2019)."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return rms_norm(x, self.weight, self.eps)


class SwiGLU(nn.Module):
    """`swiglu` with its weights."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.gate = Linear(d_model, d_hidden, bias=False)
        self.up = Linear(d_model, d_hidden, bias=False)
        self.down = Linear(d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return swiglu(x, self.gate.weight, self.up.weight, self.down.weight)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 below 0, x² above."""
    positive = torch.relu(x)
    return positive * positive


class SquaredReLU(nn.Module):
    """A feed-forward net without biases whose activation is ReLU squared (So et al. 2021)."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.up = Linear(d_model, d_hidden, bias=False)
        self.down = Linear(d_hidden, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(squared_relu(self.up(x)))


class MixtureOfExperts(nn.Module):
    """Feed-forward nets, of which a router chooses `k` for every token (Shazeer et al. 2017).

    An expert reads only the tokens that chose it. What the router said is read with a hook on
    `router`, whose output are the logits that `route` and `balance_loss` take.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        n_experts: int,
        k: int,
        make_expert: Callable[[int, int], nn.Module] = SwiGLU,
    ):
        super().__init__()
        if k > n_experts:
            raise ValueError(f"k must be at most n_experts, got {k} and {n_experts}")
        self.k = k
        self.router = Linear(d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(make_expert(d_model, d_hidden) for _ in range(n_experts))

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        tokens = x.reshape(-1, x.shape[-1])
        chosen, shares = route(self.router(tokens), self.k)
        mixed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, choice = (chosen == number).nonzero(as_tuple=True)
            answers = shares[token, choice, None] * expert(tokens[token])
            mixed = mixed.index_add(0, token, answers.to(mixed.dtype))
        return mixed.view_as(x)


# --- Attention -----------------------------------------------------------------------------------


class Rotary(nn.Module):
    """Turns the first `d_turned` features of every head by their positions, and no others.

    `base` sets how slow the slowest pair turns: a larger one suits longer texts.
    """

    def __init__(self, d_turned: int, base: float = 10000.0):
        super().__init__()
        if d_turned % 2:
            raise ValueError(f"features are turned in pairs: d_turned must be even, got {d_turned}")
        self.d_turned = d_turned
        self.base = base

    def forward(
        self, x: Float[Tensor, "batch n_heads tokens d_head"], start: int = 0
    ) -> Float[Tensor, "batch n_heads tokens d_head"]:
        """The first token is number `start`."""
        first, rest = x[..., : self.d_turned], x[..., self.d_turned :]
        return torch.cat((positions.turned(first, start, self.base), rest), dim=-1)


class GroupedAttention(nn.Module):
    """Rotary attention whose query heads share `n_groups` heads of keys and values.

    With as many groups as heads it is plain rotary attention, with one group multi-query attention
    (Shazeer 2019), and anything between is grouped-query attention (Ainslie et al. 2023).

    `d_head` is d_model / n_heads where it is not given. `norm_q` and `norm_k` are norms over the
    features of one head, before it is turned. `biases` names the maps that have one, out of "qkvo".
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_groups: int,
        d_head: int | None = None,
        rotary: nn.Module | None = None,
        norm_q: nn.Module | None = None,
        norm_k: nn.Module | None = None,
        biases: str = "",
    ):
        super().__init__()
        if n_heads % n_groups:
            raise ValueError(
                f"n_heads must be a multiple of n_groups, got {n_heads} and {n_groups}"
            )
        d_head = d_model // n_heads if d_head is None else d_head
        self.n_heads = n_heads
        self.n_groups = n_groups
        self.w_q = Linear(d_model, n_heads * d_head, bias="q" in biases)
        self.w_k = Linear(d_model, n_groups * d_head, bias="k" in biases)
        self.w_v = Linear(d_model, n_groups * d_head, bias="v" in biases)
        self.w_o = Linear(n_heads * d_head, d_model, bias="o" in biases)
        self.rotary = rotary or Rotary(d_head)
        self.norm_q = norm_q or nn.Identity()
        self.norm_k = norm_k or nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        query, key, value = self.heads(x, x if memory is None else memory)
        return self.attend(query, key, value, mask)

    def heads(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        start: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of every head, keys and values of every group. Both begin at number `start`."""
        query, key, value = attention.project_qkv(x, memory, self.w_q, self.w_k, self.w_v)
        query = self.norm_q(attention.split_heads(query, self.n_heads))
        key = self.norm_k(attention.split_heads(key, self.n_groups))
        value = attention.split_heads(value, self.n_groups)
        return self.rotary(query, start), self.rotary(key, start), value

    def attend(
        self,
        query: Float[Tensor, "batch n_heads query d_head"],
        key: Float[Tensor, "batch groups key d_head"],
        value: Float[Tensor, "batch groups key d_head"],
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        n = self.n_heads // self.n_groups
        key, value = repeat_kv(key, n), repeat_kv(value, n)
        heads = attention.scaled_dot_product_attention(query, key, value, mask, bias)
        return self.w_o(attention.merge_heads(heads))


class SinkAttention(GroupedAttention):
    """Grouped attention whose heads can look at nothing: each has a learned score for that.

    It takes part in the softmax and brings no value (gpt-oss; Xiao et al. 2024, §3.1). Nothing is a
    token of zeros behind the others, whose score is all bias.
    """

    def __init__(self, d_model: int, n_heads: int, n_groups: int, *args: Any, **kwargs: Any):
        super().__init__(d_model, n_heads, n_groups, *args, **kwargs)
        self.sinks = nn.Parameter(torch.zeros(n_heads))

    def attend(
        self,
        query: Float[Tensor, "batch n_heads query d_head"],
        key: Float[Tensor, "batch groups key d_head"],
        value: Float[Tensor, "batch groups key d_head"],
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """As in `GroupedAttention`, with one key more."""
        if bias is None:
            bias = query.new_zeros(self.n_heads, 1, key.shape[-2])
        sinks = self.sinks[:, None, None].expand(*bias.shape[:-1], 1)
        bias = torch.cat((bias, sinks), dim=-1)
        mask = None if mask is None else F.pad(mask, (0, 1), value=True)
        one_more = (0, 0, 0, 1)
        return super().attend(query, F.pad(key, one_more), F.pad(value, one_more), mask, bias)


class Windowed(nn.Module):
    """Lets an attention look no further back than `window` tokens, its own counted."""

    def __init__(self, inner: Any, window: int):
        super().__init__()
        self.inner = inner
        self.window = window

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        n_key = x.shape[1] if memory is None else memory.shape[1]
        return self.inner(x, memory, mask=self.narrowed(mask, x.shape[1], n_key))

    def narrowed(
        self, mask: Bool[Tensor, "..."] | None, n_query: int, n_key: int
    ) -> Bool[Tensor, "..."]:
        """What both the mask and the window allow. The queries are the last tokens."""
        window = sliding_window_mask(n_key, self.window)[n_key - n_query :]
        return window if mask is None else mask & window.to(mask.device)

    def heads(self, x: Tensor, memory: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        return self.inner.heads(x, memory, start)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Bool[Tensor, "..."] | None = None
    ) -> Tensor:
        narrowed = self.narrowed(mask, query.shape[-2], key.shape[-2])
        return self.inner.attend(query, key, value, narrowed)


class LatentAttention(nn.Module):
    """Attention that remembers a short vector a token in place of keys and values.

    Keys and values of all heads are made from `d_latent` numbers. What tells positions apart is one
    key of `d_turned` features that all heads share: keys that were turned could not be made from
    the latent (DeepSeek-V2, 2024, §2.1; queries are not compressed here).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_latent: int,
        d_head: int,
        d_turned: int,
        base: float = 10000.0,
    ):
        super().__init__()
        if d_latent % 2:
            raise ValueError(f"d_latent must be even, got {d_latent}: a cache keeps two halves")
        self.n_heads = n_heads
        self.kept = [d_turned, d_latent]
        self.w_q = Linear(d_model, n_heads * (d_turned + d_head), bias=False)
        self.w_turned = Linear(d_model, d_turned, bias=False)
        self.w_latent = Linear(d_model, d_latent, bias=False)
        self.norm = RMSNorm(d_latent)
        self.w_k = Linear(d_latent, n_heads * d_head, bias=False)
        self.w_v = Linear(d_latent, n_heads * d_head, bias=False)
        self.w_o = Linear(n_heads * d_head, d_model, bias=False)
        self.rotary = Rotary(d_turned, base)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        query, first, second = self.heads(x, x if memory is None else memory)
        return self.attend(query, first, second, mask)

    def heads(
        self,
        x: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch key d_model"],
        start: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of every head, and what is kept of a token in two halves, as a cache takes it."""
        query = self.rotary(attention.split_heads(self.w_q(x), self.n_heads), start)
        kept = torch.cat((self.w_turned(memory), self.norm(self.w_latent(memory))), dim=-1)
        first, second = self.rotary(kept[:, None], start).chunk(2, dim=-1)
        return query, first, second

    def attend(
        self,
        query: Float[Tensor, "batch n_heads query d_both"],
        first: Float[Tensor, "batch 1 key half"],
        second: Float[Tensor, "batch 1 key half"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        turned, latent = torch.cat((first, second), dim=-1).split(self.kept, dim=-1)
        key = attention.split_heads(self.w_k(latent[:, 0]), self.n_heads)
        value = attention.split_heads(self.w_v(latent[:, 0]), self.n_heads)
        key = torch.cat((turned.expand(-1, self.n_heads, -1, -1), key), dim=-1)
        heads = attention.scaled_dot_product_attention(query, key, value, mask)
        return self.w_o(attention.merge_heads(heads))


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


# --- What stands before a token ------------------------------------------------------------------


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


# --- The model that this course trains -----------------------------------------------------------


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
