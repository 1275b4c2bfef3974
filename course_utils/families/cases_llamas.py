"""Llama and its kin beside those of Hugging Face."""

import math

import torch

from course_utils import decoder, positions
from course_utils.families import rules_llamas
from course_utils.families.comparing import (
    D_MODEL,
    N_HEADS,
    TARGET,
    Case,
    features,
    filled,
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
