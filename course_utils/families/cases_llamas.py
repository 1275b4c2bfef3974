"""Llama and its kin beside those of Hugging Face."""

import math
from typing import Any

import torch
from torch import nn

from course_utils import decoder, positions
from course_utils.families import llamas, neox, rules_llamas
from course_utils.families.comparing import (
    D_HIDDEN,
    D_MODEL,
    EPS,
    N_HEADS,
    TARGET,
    VOCABULARY,
    Case,
    features,
    filled,
    language_model,
    randomise,
)


def rotary_attention() -> Case:
    """Llama's attention, which turns queries and keys (RoPE)."""
    from transformers import LlamaConfig
    from transformers.models.llama import modeling_llama as llama

    config = LlamaConfig(hidden_size=D_MODEL, num_attention_heads=N_HEADS, attention_bias=True)
    config.attn_implementation = "eager"
    theirs = randomise(llama.LlamaAttention(config, layer_idx=0))
    rotary, places = llama.LlamaRotaryEmbedding(config), torch.arange(TARGET)[None]
    hidden = torch.full((TARGET, TARGET), -math.inf).triu(1)
    ours = positions.RotaryAttention(D_MODEL, N_HEADS)
    return Case(
        "Hugging Face Llama attention",
        "RoPE, causal",
        theirs,
        filled(ours, theirs, rules_llamas.ALONE),
        rules_llamas.ALONE,
        (features(TARGET, 0),),
        lambda model, x: [model(x, rotary(x, places), hidden)[0]],
        lambda model, x: [model(x, mask=decoder.causal_mask(x.shape[1]))],
        dtypes=(torch.float32,),  # Hugging Face computes the angles in float32
    )


# --- Whole models --------------------------------------------------------------------------------

# All sizes differ. A window is shorter than the text; heads are not d_model / n_heads wide.
N_GROUPS, D_HEAD, N_LAYERS, WINDOW, N_EXPERTS, BASE = 2, 14, 3, 5, 6, 50.0
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "intermediate_size": D_HIDDEN,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_LLAMA = _SIZES | {
    "num_key_value_heads": N_GROUPS,
    "head_dim": D_HEAD,
    "rms_norm_eps": EPS,
    "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
}


def _model(name: str, **settings: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A small model of Hugging Face by its name, and its config.json."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**settings)
    return getattr(transformers, f"{name}ForCausalLM")(config), config.to_dict()


def llama() -> Case:
    """Llama, whose head is tied to its embedding here, as in its smallest models."""
    theirs, config = _model("Llama", **_LLAMA, tie_word_embeddings=True)
    ours = llamas.llama(config)
    return language_model("Llama", theirs, ours, rules_llamas.llama(ours), "a tied head")


def mistral() -> Case:
    """Mistral, which looks back as far as a window."""
    theirs, config = _model("Mistral", **_LLAMA, sliding_window=WINDOW)
    ours = llamas.mistral(config)
    return language_model("Mistral", theirs, ours, rules_llamas.llama(ours), "a window")


def mixtral() -> Case:
    """Mixtral: two of six experts for every token."""
    theirs, config = _model("Mixtral", **_LLAMA, num_local_experts=N_EXPERTS)
    ours = llamas.mixtral(config)
    return language_model("Mixtral", theirs, ours, rules_llamas.mixtral(ours), "2 of 6 experts")


def qwen3() -> Case:
    """Qwen3, whose queries and keys have norms."""
    theirs, config = _model("Qwen3", **_LLAMA)
    ours = llamas.qwen3(config)
    return language_model("Qwen3", theirs, ours, rules_llamas.llama(ours), "QK-norm")


def gpt_oss() -> Case:
    """gpt-oss: windows and sinks, and experts whose numbers are clamped, some of them here."""
    experts = {"num_local_experts": N_EXPERTS, "num_experts_per_tok": 2, "swiglu_limit": 0.5}
    theirs, config = _model("GptOss", **_LLAMA, **experts, sliding_window=WINDOW)
    ours = llamas.gpt_oss(config)
    return language_model("gpt-oss", theirs, ours, rules_llamas.gpt_oss(ours), "sinks, experts")


def gpt_neox(parallel: bool = True) -> Case:
    """GPT-NeoX, which turns two thirds of every head."""
    rope = {"rope_type": "default", "rope_theta": BASE, "partial_rotary_factor": 0.7}
    own = {"layer_norm_eps": EPS, "use_parallel_residual": parallel, "rope_parameters": rope}
    theirs, config = _model("GPTNeoX", **_SIZES, **own)
    ours = neox.gpt_neox(config)
    steps = "at once" if parallel else "in turn"
    return language_model("GPT-NeoX", theirs, ours, rules_llamas.gpt_neox(ours), f"steps {steps}")
