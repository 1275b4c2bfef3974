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

from course_utils import attention, decoder, encoder, positions, projection
from course_utils.families import builders, comparing, parity, renaming

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


def rule_changed(name: str, case: str, rules: str, pattern: str, **changes: Any) -> None:
    """Put a bug on the list: the rule whose pattern ends like this is another."""
    known = getattr(renaming, rules)
    assert sum(rule.pattern.endswith(pattern) for rule in known) == 1, name
    wrong = tuple(
        replace(rule, **changes) if rule.pattern.endswith(pattern) else rule for rule in known
    )
    BUGS[name] = (case, lambda patch: patch.setattr(renaming, rules, wrong))


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
    return torch.ones(n_query, n_query, dtype=torch.bool).tril(1)


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
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) * mask


@replaced("mask is added as 0 and 1", "gpt2", attention, "attention_weights")
def _(query, key, mask=None, bias=None):
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + mask, -1)


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


@pytest.mark.parametrize("name", BUGS)
def test_parity_sees_the_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, break_it = BUGS[name]
    break_it(monkeypatch)
    found = comparing.compare(parity.CASES[case]())
    assert max(found.outputs, found.gradients) > SEEN, found
    assert not found.ok


def test_there_are_bugs_in_every_case() -> None:
    assert len(BUGS) >= 50
    assert {case for case, _ in BUGS.values()} == parity.CASES.keys() - {"minilm"}
