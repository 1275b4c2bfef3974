"""Deliberate bugs: parity must see every one of them, or it proves nothing.

Each bug breaks our side of one case, in a way that people really do; theirs stays as it is.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, modern, positions, projection, sampling
from course_utils.families import (
    barts,
    builders,
    cached,
    cases_seq2seq,
    comparing,
    llamas,
    neox,
    parity,
    renaming,
    rules_llamas,
    rules_seq2seq,
    speech,
    t5s,
    vision,
)

pytest.importorskip("transformers", reason='pip install -e ".[parity]"')

SEEN = 1e-4  # ten times the tolerance; the two GELUs are nowhere further apart than 5e-4

Break = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[str, Break]] = {}


def replaced(name: str, case: str, owner: object, attribute: str) -> Callable:
    """Put a bug on the list: the function below takes the place of the owner's attribute."""

    def put(wrong: Callable) -> Callable:
        assert name not in BUGS
        BUGS[name] = (case, lambda patch: patch.setattr(owner, attribute, wrong))
        return wrong

    return put


def rule_changed(
    name: str, case: str, rules: str, pattern: str, owner: Any = renaming, **changes: Any
) -> None:
    """Put a bug on the list: the rule whose pattern ends like this is another."""
    known = getattr(owner, rules)
    assert sum(rule.pattern.endswith(pattern) for rule in known) == 1, name
    wrong = tuple(
        replace(rule, **changes) if rule.pattern.endswith(pattern) else rule for rule in known
    )
    BUGS[name] = (case, lambda patch: patch.setattr(owner, rules, wrong))


# --- Norms ---------------------------------------------------------------------------------------


@replaced("unbiased variance", "gpt2", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    return (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, keepdim=True) + eps) * gain + bias


@replaced("eps outside the root", "encoder_layer_pre", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    deviation = x.std(-1, keepdim=True, unbiased=False)
    return (x - x.mean(-1, True)) / (deviation + eps) * gain + bias


@replaced("eps is always 1e-5", "bert", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    return nn.functional.layer_norm(x, gain.shape, gain, bias, 1e-5)


@replaced("norm without gain", "gpt2", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    return nn.functional.layer_norm(x, gain.shape, None, bias, eps)


@replaced("norm without shift", "gpt2", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    return nn.functional.layer_norm(x, gain.shape, gain, None, eps)


@replaced("mean not taken away", "bert", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    return x / torch.sqrt((x**2).mean(-1, True) + eps) * gain + bias


@replaced("no gradient through mean and variance", "encoder_layer_post", encoder, "layer_norm")
def _(x, gain, bias, eps=1e-5):
    mean, variance = x.mean(-1, True).detach(), x.var(-1, keepdim=True, unbiased=False).detach()
    return (x - mean) / torch.sqrt(variance + eps) * gain + bias


@replaced("no last norm", "gpt2", decoder.GPT, "forward")
def _(self, ids):
    x, mask = self.embed(ids), decoder.causal_mask(ids.shape[1])
    for block in self.blocks:
        x = block(x, mask)
    return self.head(x)


@replaced("embedding not normalised", "bert", builders.BertEmbedding, "forward")
def _(self, ids, types=None):
    return self.positions(self.tokens(ids)) + self.types(types)


@replaced("one norm for both steps", "encoder_layer_pre", encoder.TransformerBlock, "forward")
def _(self, x, mask=None):
    x = x + self.attention(self.norm1(x), mask=mask)
    return x + self.feed_forward(self.norm1(x)) + 0 * self.norm2(x)


# --- Blocks --------------------------------------------------------------------------------------


def _swapped(x, sublayer, norm, norm_first=True):
    return norm(x + sublayer(x)) if norm_first else x + sublayer(norm(x))


replaced("pre-norm where post is meant", "encoder_layer_post", encoder, "residual_step")(_swapped)
replaced("post-norm where pre is meant", "decoder_layer_pre", encoder, "residual_step")(_swapped)


@replaced("no residual", "gpt2", encoder, "residual_step")
def _(x, sublayer, norm, norm_first=True):
    return sublayer(norm(x))


@replaced("residual of the normalised stream", "gpt2", encoder, "residual_step")
def _(x, sublayer, norm, norm_first=True):
    return norm(x) + sublayer(norm(x))


@replaced("both steps read the same", "encoder_layer_pre", encoder.TransformerBlock, "forward")
def _(self, x, mask=None):
    return x + self.attention(self.norm1(x), mask=mask) + self.feed_forward(self.norm2(x))


@replaced("gelu with tanh", "bert", encoder, "gelu")
def _(x):
    return nn.functional.gelu(x, approximate="tanh")


@replaced("gelu without tanh", "gpt2", builders, "gelu_tanh")
def _(x):
    return nn.functional.gelu(x)


@replaced("relu", "encoder_layer_post", encoder, "gelu")
def _(x):
    return x.relu()


@replaced(
    "decoder reads before it looks back", "decoder_layer_pre", decoder.DecoderBlock, "forward"
)
def _(self, x, memory, self_mask=None, memory_mask=None):
    x = x + self.cross_attention(self.norm2(x), memory, memory_mask)
    x = x + self.self_attention(self.norm1(x), mask=self_mask)
    return x + self.feed_forward(self.norm3(x))


@replaced("memory is normalised too", "decoder_layer_pre", decoder.DecoderBlock, "forward")
def _(self, x, memory, self_mask=None, memory_mask=None):
    x = x + self.self_attention(self.norm1(x), mask=self_mask)
    x = x + self.cross_attention(self.norm2(x), self.norm2(memory), memory_mask)
    return x + self.feed_forward(self.norm3(x))


# --- Masks ---------------------------------------------------------------------------------------


@replaced("mask off by one", "gpt2", decoder, "causal_mask")
def _(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query + 1)


@replaced("no causal mask", "self_attention", decoder, "causal_mask")
def _(n_query, n_key=None):
    return torch.ones(n_query, n_query, dtype=torch.bool)


@replaced("looks ahead only", "decoder_layer_post", decoder, "causal_mask")
def _(n_query, n_key=None):
    return torch.ones(n_query, n_query, dtype=torch.bool).triu()


@replaced("padding mask inverted", "bert_masked", encoder, "padding_mask")
def _(ids, pad_id):
    hidden = (ids == pad_id)[:, None, None, :]
    return hidden | ~hidden.any(-1, keepdim=True)  # a row without padding may look everywhere


@replaced("no padding mask", "bert", encoder, "padding_mask")
def _(ids, pad_id):
    return torch.ones_like(ids, dtype=torch.bool)[:, None, None, :]


@replaced("padding mask of the first row for all", "encoder_layer_pre", encoder, "padding_mask")
def _(ids, pad_id):
    return (ids[:1] != pad_id)[:, None, None, :]


@replaced("mask after softmax", "gpt2", attention, "attention_weights")
def _(query, key, mask=None, bias=None):
    weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
    return weights if mask is None else weights * mask


@replaced("mask is added as 0 and 1", "gpt2", attention, "attention_weights")
def _(query, key, mask=None, bias=None):
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return torch.softmax(scores if mask is None else scores + mask, -1)


# --- Attention -----------------------------------------------------------------------------------


@replaced("keys and values from the wrong side", "cross_attention", attention, "project_qkv")
def _(x, memory, w_q, w_k, w_v):
    return w_q(x), w_k(x), w_v(x)


@replaced("keys and values swapped", "cross_attention", attention, "project_qkv")
def _(x, memory, w_q, w_k, w_v):
    return w_q(x), w_v(memory), w_k(memory)


@replaced("one map for queries and keys", "self_attention", attention, "project_qkv")
def _(x, memory, w_q, w_k, w_v):
    return w_q(x), w_q(memory), w_v(memory)


@replaced("no scale", "bert", attention, "score_scale")
def _(d_head, var_q=1.0, var_k=1.0):
    return 1.0


@replaced("scale without the root", "gpt2", attention, "score_scale")
def _(d_head, var_q=1.0, var_k=1.0):
    return 1 / d_head


@replaced("scale by d_model", "self_attention", attention, "score_scale")
def _(d_head, var_q=1.0, var_k=1.0):
    return 1 / math.sqrt(d_head * comparing.N_HEADS)


@replaced("softmax over the queries", "cross_attention", attention, "softmax")
def _(scores, dim=-1):
    return torch.softmax(scores, -2)


@replaced("no gradient through the sum", "cross_attention", attention, "softmax")
def _(scores, dim=-1):
    exponentials = scores.exp()
    return exponentials / exponentials.sum(dim, keepdim=True).detach()


def _interleaved(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


replaced("heads interleaved", "gpt2", attention, "split_heads")(_interleaved)


@replaced("heads merged without bringing them back", "bert", attention, "merge_heads")
def _(x):
    return x.flatten(1).unflatten(-1, (x.shape[2], -1))


@replaced("heads cut from the tokens", "self_attention", attention, "split_heads")
def _(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


# --- Linear maps and embeddings ------------------------------------------------------------------


@replaced("biases dropped", "gpt2", projection, "linear")
def _(x, weight, bias=None):
    return x @ weight.T


@replaced("ids off by one", "bert", projection, "embed")
def _(ids, table):
    return table[(ids + 1) % len(table)]


@replaced("positions shifted", "gpt2", positions, "add_positions")
def _(x, table):
    return x + table[1 : x.shape[1] + 1]


@replaced("positions forgotten", "bert", positions, "add_positions")
def _(x, table):
    return x + 0 * table[: x.shape[1]]


@replaced("positions count from the end", "bert_masked", positions, "add_positions")
def _(x, table):
    return x + table[: x.shape[1]].flip(0)


@replaced("embedding scaled", "gpt2", positions.InputEmbedding, "forward")
def _(self, ids):
    return self.positions(self.tokens(ids) * math.sqrt(comparing.D_MODEL))


@replaced("token types forgotten", "bert", builders.BertEmbedding, "forward")
def _(self, ids, types=None):
    return self.norm(self.positions(self.tokens(ids)))


@replaced("one token type for all", "bert_masked", builders.BertEmbedding, "forward")
def _(self, ids, types=None):
    return self.norm(self.positions(self.tokens(ids)) + self.types.weight[0])


@replaced("head not tied", "gpt2", builders, "head")
def _(tokens, config, bias):
    return projection.Linear(tokens.embedding_dim, tokens.num_embeddings, bias)


@replaced(
    "masked head without its activation", "bert_masked", builders.MaskedLanguageHead, "forward"
)
def _(self, x):
    return self.out(self.norm(self.transform(x)))


@replaced("masked head without its norm", "bert_masked", builders.MaskedLanguageHead, "forward")
def _(self, x):
    return self.out(encoder.gelu(self.transform(x)))


@replaced("masked head without its bias", "bert_masked", builders.MaskedLanguageHead, "forward")
def _(self, x):
    return self.norm(encoder.gelu(self.transform(x))) @ self.out.weight.T


# --- RoPE ----------------------------------------------------------------------------------------


@replaced("RoPE with neighbours as pairs", "rotary_attention", positions, "apply_rope")
def _(x, angles):
    first, second = x[..., ::2], x[..., 1::2]
    sines, cosines = angles.sin(), angles.cos()
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.stack(turned, -1).flatten(-2)


@replaced("RoPE turns backwards", "rotary_attention", positions, "apply_rope")
def _(x, angles):
    first, second = x.chunk(2, -1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines + second * sines, second * cosines - first * sines), -1)


@replaced("RoPE with another base", "rotary_attention", positions, "rope_angles")
def _(n_tokens, d_head, base=10000.0):
    return torch.arange(n_tokens)[:, None] * 500.0 ** (-torch.arange(0, d_head, 2) / d_head)


@replaced("RoPE over half the features", "rotary_attention", positions, "rope_angles")
def _(n_tokens, d_head, base=10000.0):
    return torch.arange(n_tokens)[:, None] * base ** (-torch.arange(d_head // 2) / d_head)


@replaced("RoPE forgotten", "rotary_attention", positions, "apply_rope")
def _(x, angles):
    return x


# --- Renaming ------------------------------------------------------------------------------------

rule_changed(
    "order of GPT-2's queries, keys and values",
    "gpt2",
    "GPT2",
    r"c_attn\.(weight|bias)",
    into=tuple(rf"blocks.\1.attention.w_{name}.\2" for name in "kqv"),
)
rule_changed(
    "order of torch's queries, keys and values",
    "cross_attention",
    "TORCH_ATTENTION",
    "in_proj_weight",
    into=("w_q.weight", "w_v.weight", "w_k.weight"),
)
rule_changed(
    "matrix not transposed", "gpt2", "GPT2", r"attn\.c_proj\.(weight|bias)", transposed=False
)


# --- RMSNorm -------------------------------------------------------------------------------------


@replaced("RMSNorm takes the mean away", "llama", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    normed = nn.functional.layer_norm(x, x.shape[-1:], eps=eps)
    return normed if gain is None else normed * gain


@replaced("RMSNorm with the usual eps", "llama", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    return nn.functional.rms_norm(x, x.shape[-1:], gain, 1e-6)


@replaced("RMSNorm with eps outside the root", "mistral", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    return x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps) * gain


@replaced("RMSNorm with 1 + gain", "mixtral", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    return nn.functional.rms_norm(x, x.shape[-1:], 1 + gain, eps)


@replaced("RMSNorm by the sum of squares", "gpt_oss", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps) * gain


# --- Gates and experts ---------------------------------------------------------------------------


@replaced("the wrong one is the gate", "llama", modern, "swiglu")
def _(x, w_gate, w_up, w_down):
    return (nn.functional.silu(x @ w_up.T) * (x @ w_gate.T)) @ w_down.T


@replaced("GELU in the gate", "mistral", modern, "swiglu")
def _(x, w_gate, w_up, w_down):
    return (nn.functional.gelu(x @ w_gate.T) * (x @ w_up.T)) @ w_down.T


@replaced("a sigmoid in the gate", "qwen3", modern, "swiglu")
def _(x, w_gate, w_up, w_down):
    return (torch.sigmoid(x @ w_gate.T) * (x @ w_up.T)) @ w_down.T


@replaced("no gate", "llama", modern, "swiglu")
def _(x, w_gate, w_up, w_down):
    return nn.functional.silu(x @ w_up.T) @ w_down.T


@replaced("shares are not made to sum to 1 again", "mixtral", modern, "route")
def _(logits, k):
    shares, chosen = logits.softmax(-1).topk(k)
    return chosen, shares


@replaced("shares are equal", "mixtral", modern, "route")
def _(logits, k):
    chosen = logits.topk(k).indices
    return chosen, torch.full_like(chosen, 1, dtype=logits.dtype) / k + 0 * logits[:, :1]


@replaced("the shares of one another", "mixtral", modern, "route")
def _(logits, k):
    best, chosen = logits.topk(k)
    return chosen, best.softmax(-1).flip(-1)


@replaced("one expert only", "mixtral", modern, "route")
def _(logits, k):
    best, chosen = logits.topk(1)
    return chosen, best.softmax(-1) + 0 * best


@replaced("one expert more", "gpt_oss", modern, "route")
def _(logits, k):
    best, chosen = logits.topk(k + 1)
    return chosen, best.softmax(-1)


@replaced("the worst experts", "mixtral", modern, "route")
def _(logits, k):
    worst, chosen = logits.topk(k, largest=False)
    return chosen, worst.softmax(-1)


@replaced("no gradient through the shares", "mixtral", modern, "route")
def _(logits, k):
    best, chosen = logits.topk(k)
    return chosen, best.softmax(-1).detach() + 0 * best


@replaced("the next expert answers", "gpt_oss", modern, "route")
def _(logits, k):
    best, chosen = logits.topk(k)
    return (chosen + 1) % logits.shape[-1], best.softmax(-1)


def clamped(name: str, wrong: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Put a bug on the list: the hidden layer of gpt-oss's experts is another."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.down(wrong(self.gate(x), self.up(x), self.limit, self.alpha))

    replaced(name, "gpt_oss", llamas.ClampedSwiGLU, "forward")(forward)


def _swish(gate: Tensor, alpha: float) -> Tensor:
    return gate * torch.sigmoid(alpha * gate)


clamped("numbers are not clamped", lambda gate, up, limit, alpha: _swish(gate, alpha) * (up + 1))
clamped(
    "the gate is clamped below, too",
    lambda gate, up, limit, alpha: (
        _swish(gate.clamp(-limit, limit), alpha) * (up.clamp(-limit, limit) + 1)
    ),
)
clamped(
    "only the gate is clamped",
    lambda gate, up, limit, alpha: _swish(gate.clamp(max=limit), alpha) * (up + 1),
)
clamped(
    "up is clamped above only",
    lambda gate, up, limit, alpha: _swish(gate.clamp(max=limit), alpha) * (up.clamp(max=limit) + 1),
)
clamped(
    "clamped after the gate",
    lambda gate, up, limit, alpha: (
        _swish(gate, alpha).clamp(max=limit) * (up.clamp(-limit, limit) + 1)
    ),
)
clamped(
    "alpha is 1",
    lambda gate, up, limit, alpha: (
        _swish(gate.clamp(max=limit), 1.0) * (up.clamp(-limit, limit) + 1)
    ),
)
clamped(
    "no 1 is added",
    lambda gate, up, limit, alpha: _swish(gate.clamp(max=limit), alpha) * up.clamp(-limit, limit),
)


# --- Groups, norms and windows -------------------------------------------------------------------


@replaced("groups are repeated in turn", "llama", modern, "repeat_kv")
def _(k, n):
    return k.repeat(1, n, 1, 1)


@replaced("all heads share the first group", "qwen3", modern, "repeat_kv")
def _(k, n):
    return k[:, :1].expand(-1, n * k.shape[1], -1, -1)


@replaced("scale by d_model / n_heads", "llama", attention, "score_scale")
def _(d_head, var_q=1.0, var_k=1.0):
    return 1 / math.sqrt(comparing.D_MODEL / comparing.N_HEADS)


def grouped(name: str, case: str, heads: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Put a bug on the list: queries and keys of heads are turned and normalised otherwise."""

    def wrong(self: Any, x: Tensor, memory: Tensor, start: int = 0) -> tuple[Tensor, ...]:
        query = attention.split_heads(self.w_q(x), self.n_heads)
        key = attention.split_heads(self.w_k(memory), self.n_groups)
        value = attention.split_heads(self.w_v(memory), self.n_groups)
        return *heads(self, query, key, start), value

    replaced(name, case, modern.GroupedAttention, "heads")(wrong)


grouped(
    "queries and keys without norms",
    "qwen3",
    lambda self, q, k, start: (self.rotary(q, start), self.rotary(k, start)),
)
grouped(
    "the norm of queries for keys",
    "qwen3",
    lambda self, q, k, start: (
        self.rotary(self.norm_q(q), start),
        self.rotary(self.norm_q(k), start),
    ),
)
grouped(
    "norms after RoPE",
    "qwen3",
    lambda self, q, k, start: (
        self.norm_q(self.rotary(q, start)),
        self.norm_k(self.rotary(k, start)),
    ),
)
grouped(
    "only queries have a norm",
    "qwen3",
    lambda self, q, k, start: (self.rotary(self.norm_q(q), start), self.rotary(k, start)),
)
grouped("keys are not turned", "mistral", lambda self, q, k, start: (self.rotary(q, start), k))
grouped(
    "behind a cache positions begin anew",
    "llama",
    lambda self, q, k, start: (self.rotary(q), self.rotary(k)),
)
grouped(
    "behind a cache only queries go on",
    "mixtral",
    lambda self, q, k, start: (self.rotary(q, start), self.rotary(k)),
)


@replaced("the window does not count the token itself", "mistral", modern, "sliding_window_mask")
def _(n_tokens, window):
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(-window)


@replaced("the window is one too short", "mistral", modern, "sliding_window_mask")
def _(n_tokens, window):
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(2 - window)


@replaced("windows stand side by side", "mistral", modern, "sliding_window_mask")
def _(n_tokens, window):
    run = torch.arange(n_tokens) // window
    return (run[:, None] == run) & decoder.causal_mask(n_tokens)


@replaced("no window", "mistral", modern.Windowed, "narrowed")
def _(self, mask, n_query, n_key):
    return mask


@replaced("no window for a single new token", "mistral", modern.Windowed, "narrowed")
def _(self, mask, n_query, n_key):
    window = modern.sliding_window_mask(n_key, self.window)[n_key - n_query :]
    return None if mask is None else mask & window


@replaced(
    "behind a cache the window is that of the first tokens", "gpt_oss", modern.Windowed, "narrowed"
)
def _(self, mask, n_query, n_key):
    window = modern.sliding_window_mask(n_key, self.window)[:n_query]
    return window | ~window.any(-1, keepdim=True) if mask is None else mask & window


@replaced("windows in the other layers", "gpt_oss", llamas, "_windows")
def _(config):
    return [None, config["sliding_window"], None]


@replaced("windows in all layers", "gpt_oss", llamas, "_windows")
def _(config):
    return [config["sliding_window"]] * 3


# --- Sinks ---------------------------------------------------------------------------------------


def sinks(name: str, sink: Callable[[Tensor, Any], Tensor]) -> None:
    """Put a bug on the list: the score for looking at nothing is another."""

    def attend(self, query, key, value, mask=None, bias=None):
        n = self.n_heads // self.n_groups
        key, value = modern.repeat_kv(key, n), modern.repeat_kv(value, n)
        scores = query @ key.mT * attention.score_scale(query.shape[-1])
        scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        column = sink(self.sinks, scores).expand(*scores.shape[:-1], 1)
        weights = torch.cat((scores, column), -1).softmax(-1)[..., :-1]
        return self.w_o(attention.merge_heads(weights @ value))

    replaced(name, "gpt_oss", modern.SinkAttention, "attend")(attend)


sinks("no sinks", lambda sinks, scores: 0 * sinks[:, None, None] - math.inf)
sinks("sinks are 0", lambda sinks, scores: 0 * sinks[:, None, None])
sinks("sinks are scaled", lambda sinks, scores: 0.25 * sinks[:, None, None])
sinks("one sink for all heads", lambda sinks, scores: sinks[:1, None, None])
sinks("heads have each other's sinks", lambda sinks, scores: sinks.flip(0)[:, None, None])
sinks("no gradient to the sinks", lambda sinks, scores: sinks.detach()[:, None, None])


# --- GPT-NeoX ------------------------------------------------------------------------------------


@replaced("steps in turn where both are at once", "gpt_neox", neox.ParallelBlock, "forward")
def _(self, x, mask=None):
    x = x + self.attention(self.norm1(x), mask=mask)
    return x + self.feed_forward(self.norm2(x))


@replaced("both steps share a norm", "gpt_neox", neox.ParallelBlock, "forward")
def _(self, x, mask=None):
    normed = self.norm1(x)
    return x + self.attention(normed, mask=mask) + self.feed_forward(normed)


@replaced("steps at once where one waits", "gpt_neox_in_turn", encoder.TransformerBlock, "forward")
def _(self, x, mask=None):
    return x + self.attention(self.norm1(x), mask=mask) + self.feed_forward(self.norm2(x))


@replaced("the whole head is turned", "gpt_neox", modern.Rotary, "forward")
def _(self, x, start=0):
    return positions.turned(x, start, self.base)


@replaced("the last features are turned", "gpt_neox", modern.Rotary, "forward")
def _(self, x, start=0):
    rest, last = x[..., : -self.d_turned], x[..., -self.d_turned :]
    return torch.cat((rest, positions.turned(last, start, self.base)), -1)


@replaced("frequencies of the whole head", "gpt_neox", modern.Rotary, "forward")
def _(self, x, start=0):
    angles = positions.rope_angles(start + x.shape[2], x.shape[-1], self.base)[start:]
    first, rest = x[..., : self.d_turned], x[..., self.d_turned :]
    turned = positions.apply_rope(first, angles[:, : self.d_turned // 2])
    return torch.cat((turned, rest), -1)


@replaced("the usual base", "mistral", modern.Rotary, "forward")
def _(self, x, start=0):
    return positions.turned(x, start)


@replaced("neighbours are pairs", "llama", positions, "apply_rope")
def _(x, angles):
    first, second = x[..., ::2], x[..., 1::2]
    sines, cosines = angles.sin(), angles.cos()
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.stack(turned, -1).flatten(-2)


@replaced("GELU with tanh in GPT-NeoX", "gpt_neox", encoder, "gelu")
def _(x):
    return nn.functional.gelu(x, approximate="tanh")


@replaced("a tied head is one of its own", "llama", builders, "head")
def _(tokens, config, bias):
    return projection.Linear(tokens.embedding_dim, tokens.num_embeddings, bias)


# --- T5 ------------------------------------------------------------------------------------------


def built(
    name: str, case: str, owner: Any, attribute: str, change: Callable[[Any], object]
) -> None:
    """Put a bug on the list: what a builder makes is changed before it is filled."""
    right = getattr(owner, attribute)

    def wrong(*args: Any) -> Any:
        made = right(*args)
        change(made)
        return made

    replaced(name, case, owner, attribute)(wrong)


class NoBias(nn.Module):
    def forward(self, n_query: int, n_key: int) -> Tensor:
        return torch.zeros(n_query, n_key)


def _unbiased(blocks: list, name: str) -> None:
    for block in blocks[1:]:
        getattr(block, name).bias = NoBias()


built(
    "T5's scores are scaled",
    "t5",
    t5s,
    "t5_attention",
    lambda layer: setattr(layer.w_q, "scale", 1),
)
built("T5's head is not scaled", "t5", t5s, "_head", lambda head: setattr(head, "scale", 1))
built(
    "T5's head is scaled up",
    "t5",
    t5s,
    "_head",
    lambda head: setattr(head, "scale", comparing.D_MODEL**0.5),
)
built(
    "only the first layer of the decoder has the bias",
    "t5",
    t5s,
    "_decoder_blocks",
    lambda blocks: _unbiased(blocks, "self_attention"),
)
built(
    "only the first layer of the encoder has the bias",
    "t5_gated",
    t5s,
    "_encoder_blocks",
    lambda blocks: _unbiased(blocks, "attention"),
)


@replaced("a head of its own is scaled", "t5_gated", t5s, "_head")
def _(tokens, config):
    return t5s.ScaledLinear(tokens.embedding_dim, tokens.num_embeddings, comparing.D_MODEL**-0.5)


replaced("the encoder does not know what is later", "t5", t5s, "before_and_after")(t5s.before)
replaced("the decoder keeps half its ranges for later", "t5", t5s, "before")(t5s.before_and_after)


@replaced("earlier and later changed about", "t5", t5s, "before_and_after")
def _(n_ranges, reach):
    distances, half = torch.arange(-reach, reach + 1), n_ranges // 2
    return t5s.ranges(distances.abs(), half, reach) + half * (distances > 0)


@replaced("a token is later than itself", "t5", t5s, "before_and_after")
def _(n_ranges, reach):
    distances, half = torch.arange(-reach, reach + 1), n_ranges // 2
    return t5s.ranges(distances.abs(), half, reach) + half * (distances <= 0)


@replaced("every distance has a range of its own", "t5", t5s, "ranges")
def _(distances, n_ranges, reach):
    return distances.clamp_max(n_ranges - 1)


@replaced("ranges grow evenly", "t5", t5s, "ranges")
def _(distances, n_ranges, reach):
    alone = n_ranges // 2
    share = (distances - alone) / (reach - alone)
    far = (alone + (share * (n_ranges - alone)).long()).clamp_max(n_ranges - 1)
    return torch.where(distances < alone, distances, far)


@replaced("ranges reach as far as in all files", "t5", t5s, "ranges")
def _(distances, n_ranges, reach, right=t5s.ranges):
    return right(distances, n_ranges, 128)


@replaced("ranges are rounded", "t5", t5s, "ranges")
def _(distances, n_ranges, reach):
    alone = n_ranges // 2
    growth = (distances.clamp_min(alone) / alone).log() / math.log(reach / alone)
    far = (alone + (growth * (n_ranges - alone)).round().long()).clamp_max(n_ranges - 1)
    return torch.where(distances < alone, distances, far)


@replaced("distances have the wrong sign", "t5", positions, "relative_bias")
def _(n_query, n_key, table):
    reach = len(table) // 2
    distances = torch.arange(n_key)[None, :] - torch.arange(n_query)[:, None]
    return table[distances.clamp(-reach, reach) + reach]


@replaced("one bias for all heads", "t5", t5s.RangeBias, "forward")
def _(self, n_query, n_key):
    table = self.weight[self.by_distance, 0]
    return positions.relative_bias(n_key, n_key, table)[n_key - n_query :] + 0 * self.weight.sum()


@replaced("no gradient to the bias", "t5", t5s.RangeBias, "forward")
def _(self, n_query, n_key):
    tables = self.weight.detach()[self.by_distance].T
    whole = torch.stack([positions.relative_bias(n_key, n_key, table) for table in tables])
    return whole[:, n_key - n_query :]


@replaced("behind a cache the bias begins anew", "t5", t5s.RangeBias, "forward")
def _(self, n_query, n_key):
    tables = self.weight[self.by_distance].T
    whole = torch.stack([positions.relative_bias(n_key, n_key, table) for table in tables])
    return whole[:, :n_query]


@replaced("the bias is scaled with the scores", "t5", t5s.Biased, "forward")
def _(self, x, memory=None, mask=None):
    n_key = x.shape[1] if mask is None else mask.shape[-1]
    bias = self.bias(x.shape[1], n_key) / math.sqrt(cases_seq2seq.D_HEAD)
    return self.inner(x, mask=mask, bias=bias)


@replaced("the bias is for the source, too", "t5", decoder.DecoderBlock, "forward")
def _(self, x, memory, self_mask=None, memory_mask=None):
    n_query, n_key = x.shape[1], memory_mask.shape[-1]
    places = max(n_query, n_key)
    bias = self.self_attention.bias(places, places)[:, :n_query, :n_key]
    x = x + self.self_attention(self.norm1(x), mask=self_mask)
    x = x + self.cross_attention(self.norm2(x), memory, memory_mask, bias)
    return x + self.feed_forward(self.norm3(x))


@replaced("T5's norm takes the mean away", "t5", modern, "rms_norm")
def _(x, gain=None, eps=1e-6):
    return nn.functional.layer_norm(x, x.shape[-1:], gain, eps=eps)


@replaced("GELU for ReLU", "t5", t5s.ReLU, "forward")
def _(self, x):
    return self.down(nn.functional.gelu(self.up(x)))


@replaced("the wrong one is T5's gate", "t5_gated", t5s.GEGLU, "forward")
def _(self, x):
    return self.down(self.gate(x) * builders.gelu_tanh(self.up(x)))


@replaced("SiLU in T5's gate", "t5_gated", t5s.GEGLU, "forward")
def _(self, x):
    return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


replaced("T5's gate without tanh", "t5_gated", builders, "gelu_tanh")(nn.functional.gelu)


def swapped(name: str, case: str, rules: str, one: str, other: str) -> None:
    """Put a bug on the list: what belongs to one name of ours goes to the other."""

    def ours(name: str) -> str:
        return name.replace(one, "#").replace(other, one).replace("#", other)

    wrong = tuple(
        replace(rule, into=tuple(map(ours, rule.into))) for rule in getattr(rules_seq2seq, rules)
    )
    BUGS[name] = (case, lambda patch: patch.setattr(rules_seq2seq, rules, wrong))


swapped("gate and up of T5 swapped", "t5_gated", "T5", "gate", "up")
swapped("norms of two steps swapped in T5", "t5", "T5", "norm1", "norm2")
swapped("norms of two steps swapped in BART", "bart", "BART", "norm1", "norm2")


# --- A source and a target -----------------------------------------------------------------------


def _decode(self: Any, memory: Tensor, target: Tensor, *masks: Any) -> Tensor:
    x = self.embed(target)
    for block in self.blocks:
        x = block(x, memory, *masks)
    return x


@replaced("the decoder reads padding", "t5", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    memory, causal = self.encoder(source, source_mask), decoder.causal_mask(target.shape[1])
    return self.head(self.norm(_decode(self, memory, target, causal, None)))


@replaced("the encoder reads padding", "bart", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    memory, causal = self.encoder(source), decoder.causal_mask(target.shape[1])
    return self.head(self.norm(_decode(self, memory, target, causal, source_mask)))


@replaced("the target is not causal", "bart", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    memory, all_of_it = self.encoder(source, source_mask), decoder.causal_mask(1, target.shape[1])
    return self.head(self.norm(_decode(self, memory, target, all_of_it, source_mask)))


@replaced("no last norm behind the decoder", "t5", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    memory, causal = self.encoder(source, source_mask), decoder.causal_mask(target.shape[1])
    return self.head(_decode(self, memory, target, causal, source_mask))


@replaced("no last norm behind the encoder", "t5_gated", encoder.Encoder, "forward")
def _(self, ids, mask=None):
    x = self.embed(ids)
    for block in self.blocks:
        x = block(x, mask)
    return x


@replaced("what is new is remembered in front", "bart", sampling.KVCache, "update")
def _(self, key, value):
    if self.length:
        key, value = torch.cat((key, self.key), 2), torch.cat((value, self.value), 2)
    self.key, self.value, self.length = key, value, key.shape[2]
    return key, value


@replaced("behind a cache places begin anew", "bart", cached.CachedSeq2Seq, "_read_on")
def _(self, target, start):
    causal = decoder.causal_mask(target.shape[1] - start, target.shape[1])
    x = _decode(self.model, self.memory, target[:, start:], causal, self.source_mask)
    return self.model.head(self.model.norm(x))


@replaced(
    "behind a cache values are the keys of the source",
    "whisper",
    cached.CachedCrossAttention,
    "forward",
)
def _(self, x, memory=None, mask=None):
    query = attention.split_heads(self.layer.w_q(x), self.layer.n_heads)
    return cached._attend(self.layer, query, self.value, self.value, mask)


@replaced("behind a cache the mask is that of the first tokens", "bart", decoder, "causal_mask")
def _(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).tril()


# --- BART ----------------------------------------------------------------------------------------


@replaced("BART's embedding is not normalised", "bart", barts.NormedEmbedding, "forward")
def _(self, ids):
    return self.positions(self.tokens(ids))


@replaced("BART's places are added behind the norm", "bart", barts.NormedEmbedding, "forward")
def _(self, ids):
    return self.positions(self.norm(self.tokens(ids)))


@replaced("BART's embedding is scaled", "bart", barts.NormedEmbedding, "forward")
def _(self, ids):
    return self.norm(self.positions(self.tokens(ids) * math.sqrt(comparing.D_MODEL)))


@replaced("the unused places are at the end", "bart", renaming, "_cut")
def _(tensor, rule, right=renaming._cut):
    return [tensor[: -rule.skipped]] if rule.skipped else right(tensor, rule)


@replaced("a norm behind the last of BART's", "bart", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    memory, causal = self.encoder(source, source_mask), decoder.causal_mask(target.shape[1])
    x = _decode(self, memory, target, causal, source_mask)
    return self.head(nn.functional.layer_norm(x, x.shape[-1:]))


@replaced("as many heads in the decoder as in the encoder", "bart", barts, "_decoder_blocks")
def _(config, right=barts._decoder_blocks):
    return right(config | {"decoder_attention_heads": config["encoder_attention_heads"]})


def _without_bias(model: Any) -> None:
    head = model.head
    head.forward = lambda x: x @ head.weight.T


built("BART's bias is forgotten", "bart", barts, "bart", _without_bias)
built(
    "BART's bias is trained",
    "bart",
    barts,
    "bart",
    lambda model: model.head.bias.requires_grad_(True),
)
replaced("pre-norm in BART", "bart", encoder, "residual_step")(_swapped)


@replaced("GELU with tanh in BART", "bart", encoder, "gelu")
def _(x):
    return nn.functional.gelu(x, approximate="tanh")


# --- Whisper -------------------------------------------------------------------------------------


def heard(name: str, wrong: Callable[[Any, Tensor], Tensor]) -> None:
    """Put a bug on the list: tokens are made of frames otherwise."""
    replaced(name, "whisper", speech.SoundEmbedding, "forward")(wrong)


def _convolved(layer: Any, x: Tensor, weight: Tensor, pad: tuple[int, int] = (1, 1)) -> Tensor:
    """What a convolution gives with another weight, or with padding elsewhere."""
    padded = nn.functional.pad(x, pad)
    return nn.functional.conv1d(padded, weight, layer.bias, stride=layer.stride)


def _placed(self: Any, x: Tensor) -> Tensor:
    return self.positions(x.transpose(1, 2))


heard(
    "no activation between the convolutions",
    lambda self, frames: _placed(self, encoder.gelu(self.halve(self.near(frames)))),
)
heard(
    "no activation behind the convolutions",
    lambda self, frames: _placed(self, self.halve(encoder.gelu(self.near(frames)))),
)
heard(
    "a frame does not hear the next",
    lambda self, frames: _placed(
        self,
        encoder.gelu(
            self.halve(encoder.gelu(_convolved(self.near, frames, self.near.weight, (2, 0))))
        ),
    ),
)
heard(
    "time runs backwards in a convolution",
    lambda self, frames: _placed(
        self,
        encoder.gelu(
            self.halve(encoder.gelu(_convolved(self.near, frames, self.near.weight.flip(2))))
        ),
    ),
)
heard(
    "the other half of the frames is kept",
    lambda self, frames: _placed(
        self,
        encoder.gelu(
            _convolved(self.halve, encoder.gelu(self.near(frames)), self.halve.weight, (0, 2))
        ),
    ),
)
heard(
    "frames without places",
    lambda self, frames: encoder.gelu(self.halve(encoder.gelu(self.near(frames)))).transpose(1, 2),
)
heard(
    "frames have the sinusoids of 2017",
    lambda self, frames: positions.SinusoidalPositions()(
        encoder.gelu(self.halve(encoder.gelu(self.near(frames)))).transpose(1, 2)
    ),
)
built(
    "places of frames are trained",
    "whisper",
    speech,
    "_frames",
    lambda embed: embed.positions.weight.requires_grad_(True),
)
replaced("post-norm in Whisper", "whisper", encoder, "residual_step")(_swapped)


@replaced("no last norm behind Whisper's encoder", "whisper", encoder.Encoder, "forward")
def _(self, ids, mask=None):
    x = self.embed(ids)
    for block in self.blocks:
        x = block(x, mask)
    return x


@replaced("no last norm behind Whisper's decoder", "whisper", decoder.Seq2Seq, "forward")
def _(self, source, target, source_mask=None):
    causal = decoder.causal_mask(target.shape[1])
    return self.head(_decode(self, self.encoder(source), target, causal, None))


@replaced(
    "as many heads in Whisper's decoder as in its encoder", "whisper", speech, "_decoder_blocks"
)
def _(config, right=speech._decoder_blocks):
    return right(config | {"decoder_attention_heads": config["encoder_attention_heads"]})


@replaced("Whisper hears the future of what it writes", "whisper", decoder, "causal_mask")
def _(n_query, n_key=None):
    return torch.ones(n_query, n_query if n_key is None else n_key, dtype=torch.bool)


# --- ViT -----------------------------------------------------------------------------------------


def cut(name: str, case: str, order: tuple[int, ...]) -> None:
    """Put a bug on the list: the axes of patches stand in another order."""

    def wrong(images: Tensor, size: int) -> Tensor:
        axes = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return axes.permute(*order).flatten(3).flatten(1, 2)

    replaced(name, case, vision, "patchify")(wrong)


cut("patches column by column", "vit", (0, 4, 2, 1, 3, 5))
cut("pixels of a patch column by column", "vit", (0, 2, 4, 1, 5, 3))
cut("channels of a patch are its last axis", "vit_classifier", (0, 2, 4, 3, 5, 1))


@replaced("patches are cut from a row of all pixels", "vit", vision, "patchify")
def _(images, size):
    return images.reshape(len(images), -1, images.shape[1] * size**2)


def embedded(name: str, case: str, wrong: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    """Put a bug on the list: tokens are made of patches, and of the one for all, otherwise."""

    def forward(self: Any, images: Tensor) -> Tensor:
        patches = self.patches(vision.patchify(images, self.patch))
        return wrong(self, self.whole.expand(len(patches), 1, -1), patches)

    replaced(name, case, vision.ImageEmbedding, "forward")(forward)


embedded(
    "the token for the whole stands behind the patches",
    "vit_classifier",
    lambda self, whole, patches: self.norm(self.positions(torch.cat((patches, whole), 1))),
)
embedded(
    "places count from the first patch",
    "vit",
    lambda self, whole, patches: self.norm(torch.cat((whole, self.positions(patches)), 1)),
)
embedded(
    "the token for the whole is the mean of the patches",
    "vit",
    lambda self, whole, patches: self.norm(
        self.positions(torch.cat((patches.mean(1, True) + 0 * whole, patches), 1))
    ),
)
embedded(
    "places of patches forgotten",
    "vit_classifier",
    lambda self, whole, patches: self.norm(torch.cat((self.positions(whole), patches), 1)),
)
embedded(
    "CLIP's pictures without their first norm",
    "clip",
    lambda self, whole, patches: self.positions(torch.cat((whole, patches), 1)),
)
embedded(
    "CLIP's places behind the first norm",
    "clip",
    lambda self, whole, patches: self.positions(self.norm(torch.cat((whole, patches), 1))),
)


@replaced(
    "the mean of all tokens is classified", "vit_classifier", vision.ImageClassifier, "forward"
)
def _(self, images):
    return self.head(self.encoder(images).mean(1))


@replaced("the last patch is classified", "vit_classifier", vision.ImageClassifier, "forward")
def _(self, images):
    return self.head(self.encoder(images)[:, -1])


@replaced("patches look at earlier ones only", "vit_classifier", encoder.Encoder, "forward")
def _(self, ids, mask=None):
    x = self.embed(ids)
    for block in self.blocks:
        x = block(x, decoder.causal_mask(x.shape[1]))
    return self.norm(x)


@replaced("no last norm in ViT", "vit_classifier", encoder.Encoder, "forward")
def _(self, ids, mask=None):
    x = self.embed(ids)
    for block in self.blocks:
        x = block(x)
    return x


@replaced("GELU with tanh in ViT", "vit", encoder, "gelu")
def _(x):
    return nn.functional.gelu(x, approximate="tanh")


replaced("post-norm in ViT", "vit", encoder, "residual_step")(_swapped)


# --- CLIP ----------------------------------------------------------------------------------------

replaced("the usual GELU in CLIP", "clip", vision, "quick_gelu")(nn.functional.gelu)
replaced("SiLU in CLIP", "clip", vision, "quick_gelu")(nn.functional.silu)


@replaced("texts are read both ways", "clip", decoder.GPT, "forward")
def _(self, ids):
    x = self.embed(ids)
    for block in self.blocks:
        x = block(x)
    return self.head(self.norm(x))


def ends(name: str, where: Callable[[Tensor], Tensor]) -> None:
    """Put a bug on the list: the vector of a text is that of another token."""

    def embed_texts(self: Any, ids: Tensor) -> Tensor:
        states = self.texts(ids)
        rows = torch.arange(len(ids))
        return nn.functional.normalize(states[rows, where(ids == self.end_id)], dim=-1)

    replaced(name, "clip", vision.CLIP, "embed_texts")(embed_texts)


ends("the last token is the text", lambda ends: torch.full((len(ends),), ends.shape[1] - 1))
ends("the first token is the text", lambda ends: torch.zeros(len(ends), dtype=torch.long))
ends("the last end is the text", lambda ends: ends.shape[1] - 1 - ends.flip(1).int().argmax(1))
ends("the token before the end is the text", lambda ends: ends.int().argmax(1) - 1)


def scored(name: str, score: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Put a bug on the list: the scores of pictures and texts are others."""

    def forward(self: Any, images: Tensor, ids: Tensor) -> Tensor:
        return score(self.embed_images(images), self.embed_texts(ids), self.log_scale)

    replaced(name, "clip", vision.CLIP, "forward")(forward)


scored("the scale is its own logarithm", lambda images, texts, scale: scale * images @ texts.T)
scored("no scale of the cosines", lambda images, texts, scale: images @ texts.T + 0 * scale)
scored(
    "no gradient to the scale", lambda images, texts, scale: scale.detach().exp() * images @ texts.T
)


@replaced("pictures are not brought to length 1", "clip", vision.CLIP, "embed_images")
def _(self, images):
    return self.image_head(self.images(images)[:, 0])


@replaced("pictures are normalised before they are mapped", "clip", vision.CLIP, "embed_images")
def _(self, images):
    return self.image_head(nn.functional.normalize(self.images(images)[:, 0], dim=-1))


@replaced("the mean of the patches is the picture", "clip", vision.CLIP, "embed_images")
def _(self, images):
    return nn.functional.normalize(self.image_head(self.images(images)[:, 1:].mean(1)), dim=-1)


# --- Names and layouts of Llama and its kin ------------------------------------------------------

rule_changed(
    "gate and up swapped in stacked experts",
    "mixtral",
    "MIXTRAL",
    r"gate_up_proj",
    owner=rules_llamas,
    into=("feed_forward.experts.#.up.weight", "feed_forward.experts.#.gate.weight"),
)


def layout(name: str, case: str, attribute: str, wrong: Callable[..., Any]) -> None:
    """Put a bug on the list: a function of `rules_llamas` gives other rules."""
    right = getattr(rules_llamas, attribute)
    replaced(name, case, rules_llamas, attribute)(lambda argument: wrong(right, argument))


layout(
    "gate and up in halves where they take turns",
    "gpt_oss",
    "_gpt_oss_block",
    lambda right, d_hidden: right(1),
)
layout(
    "queries, keys and values in thirds where they stand by heads",
    "gpt_neox",
    "gpt_neox",
    lambda right, model: tuple(replace(rule, groups=1) for rule in right(model)),
)


@pytest.mark.parametrize("name", BUGS)
def test_parity_sees_the_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, break_it = BUGS[name]
    break_it(monkeypatch)
    found = comparing.compare(parity.CASES[case]())
    assert max(found.outputs, found.gradients, found.cached or 0.0) > SEEN, found
    assert not found.ok


def test_there_are_bugs_in_every_case() -> None:
    assert len(BUGS) >= 100
    assert {case for case, _ in BUGS.values()} == parity.CASES.keys() - {"minilm"}
