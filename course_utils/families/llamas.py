"""Llama and its kin, composed of our parts: Mistral, Mixtral, Qwen3 and gpt-oss.

All are a GPT of pre-norm blocks with RMSNorm and rotary positions. They differ in a part or two:
windows (Mistral), experts (Mixtral), normalised queries and keys (Qwen3), a score for looking at
nothing and clamped experts (gpt-oss). Each is built by the numbers of a config.json, not yet
filled.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils import decoder, encoder, modern, positions
from course_utils.families import builders
from course_utils.families.config import Config, need, require, rope
from course_utils.projection import Embedding, Linear

Make = Callable[[], nn.Module]


def llama(config: Config) -> decoder.GPT:
    """Llama: RoPE, SwiGLU, and queries that share keys and values (Touvron et al. 2023)."""
    _check(config)
    require(config, attention_bias=False, mlp_bias=False)
    return _gpt(config, lambda: _grouped(config), lambda: _swiglu(config), _unlimited(config))


def mistral(config: Config) -> decoder.GPT:
    """Mistral: a Llama whose attention looks back as far as a window (Jiang et al. 2023)."""
    _check(config)
    return _gpt(config, lambda: _grouped(config), lambda: _swiglu(config), _one_window(config))


def mixtral(config: Config) -> decoder.GPT:
    """Mixtral: a Mistral with several feed-forward nets, of which tokens use two (2024)."""
    _check(config)
    windows = _one_window({"sliding_window": None} | config)
    return _gpt(config, lambda: _grouped(config), lambda: _experts(config, modern.SwiGLU), windows)


def qwen3(config: Config) -> decoder.GPT:
    """Qwen3: a Llama that normalises the queries and keys of every head (Yang et al. 2025)."""
    _check(config)
    need(config, "head_dim")
    require(config, attention_bias=False, use_sliding_window=False)

    def attention() -> nn.Module:
        norms = {name: _norm(config, config["head_dim"]) for name in ("norm_q", "norm_k")}
        return _attention(config, modern.GroupedAttention, **norms)

    return _gpt(config, attention, lambda: _swiglu(config), _unlimited(config))


# --- gpt-oss (OpenAI 2025) -----------------------------------------------------------------------


class ClampedSwiGLU(nn.Module):
    """A SwiGLU with biases that keeps its numbers small: none can be above `limit`.

    The gate is z · sigmoid(alpha · z), and what it multiplies is 1 where the net says 0.
    """

    def __init__(self, d_model: int, d_hidden: int, limit: float = 7.0, alpha: float = 1.702):
        super().__init__()
        self.gate = Linear(d_model, d_hidden)
        self.up = Linear(d_model, d_hidden)
        self.down = Linear(d_hidden, d_model)
        self.limit = limit
        self.alpha = alpha

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        gate = self.gate(x).clamp(max=self.limit)
        up = self.up(x).clamp(-self.limit, self.limit)
        return self.down(gate * torch.sigmoid(self.alpha * gate) * (up + 1))


def gpt_oss(config: Config) -> decoder.GPT:
    """gpt-oss: biases, sinks, windows in every other layer, and experts that are clamped."""
    _check(config)
    need(config, "head_dim", "sliding_window")
    require(config, attention_bias=True)
    return _gpt(config, lambda: _sinks(config), lambda: _clamped(config), _windows(config))


def _windows(config: Config) -> list[int | None]:
    """The window of each layer. Where nothing is said, every other layer has one."""
    n_layers = config["num_hidden_layers"]
    windows = {"sliding_attention": config["sliding_window"], "full_attention": None}
    kinds = config.get("layer_types") or (list(windows) * n_layers)[:n_layers]
    if len(kinds) != n_layers or set(kinds) - windows.keys():
        raise ValueError(
            f"config.json says layer_types = {kinds!r}; {n_layers} of {list(windows)} are needed"
        )
    return [windows[kind] for kind in kinds]


def _sinks(config: Config) -> nn.Module:
    return _attention(config, modern.SinkAttention, biases="qkvo")


def _clamped(config: Config) -> nn.Module:
    limit, alpha = config.get("swiglu_limit", 7.0), config.get("swiglu_alpha", 1.702)
    experts = _experts(config, partial(ClampedSwiGLU, limit=limit, alpha=alpha))
    experts.router = Linear(config["hidden_size"], config["num_local_experts"])
    return experts


# --- What all are made of ------------------------------------------------------------------------


def _gpt(
    config: Config, attention: Make, feed_forward: Make, windows: Sequence[int | None]
) -> decoder.GPT:
    """A GPT with a block for each window; None is a block that looks back all the way."""
    d_model = config["hidden_size"]
    tokens = Embedding(config["vocab_size"], d_model)
    blocks = [
        encoder.TransformerBlock(
            attention() if window is None else modern.Windowed(attention(), window),
            feed_forward(),
            _norm(config, d_model),
            _norm(config, d_model),
        )
        for window in windows
    ]
    return decoder.GPT(
        positions.InputEmbedding(tokens, nn.Identity()),
        blocks,
        _norm(config, d_model),
        builders.head(tokens, {"tie_word_embeddings": False} | config, bias=False),
    )


def _grouped(config: Config) -> nn.Module:
    return _attention(config, modern.GroupedAttention)


def _attention(config: Config, make: Callable[..., nn.Module], **parts: Any) -> nn.Module:
    d_model, n_heads = config["hidden_size"], config["num_attention_heads"]
    d_head = config.get("head_dim") or d_model // n_heads
    rotary = modern.Rotary(d_head, rope(config)["rope_theta"])
    n_groups = config.get("num_key_value_heads") or n_heads
    return make(d_model, n_heads, n_groups, d_head, rotary, **parts)


def _norm(config: Config, size: int) -> nn.Module:
    return modern.RMSNorm(size, config["rms_norm_eps"])


def _swiglu(config: Config) -> nn.Module:
    return modern.SwiGLU(config["hidden_size"], config["intermediate_size"])


def _experts(config: Config, make: Callable[[int, int], nn.Module]) -> nn.Module:
    need(config, "num_local_experts", "num_experts_per_tok")
    return modern.MixtureOfExperts(
        config["hidden_size"],
        config["intermediate_size"],
        config["num_local_experts"],
        config["num_experts_per_tok"],
        make,
    )


def _unlimited(config: Config) -> list[int | None]:
    return [None] * config["num_hidden_layers"]


def _one_window(config: Config) -> list[int | None]:
    """The same window in every layer. A file without one must say so: `null`."""
    if config.get("sliding_window", 0) is not None:
        need(config, "sliding_window")
    return [config["sliding_window"]] * config["num_hidden_layers"]


def _check(config: Config) -> None:
    need(config, "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    need(config, "vocab_size", "rms_norm_eps")
    need(config, *(name for name in ("head_dim", "num_key_value_heads") if config.get(name)))
    require(config, hidden_act="silu")
