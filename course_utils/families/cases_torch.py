"""Our attention and our blocks beside those of torch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_utils import attention, decoder, encoder
from course_utils.families import renaming
from course_utils.families.comparing import (
    D_HIDDEN,
    D_MODEL,
    EPS,
    N_HEADS,
    SOURCE,
    TARGET,
    Case,
    features,
    filled,
    randomise,
    real_tokens,
)


def _torch_attention() -> tuple[nn.Module, nn.Module]:
    theirs = randomise(nn.MultiheadAttention(D_MODEL, N_HEADS, batch_first=True))
    ours = attention.MultiHeadAttention(D_MODEL, N_HEADS)
    return theirs, filled(ours, theirs, renaming.TORCH_ATTENTION)


def self_attention() -> Case:
    """A causal `nn.MultiheadAttention`."""
    theirs, ours = _torch_attention()
    return Case(
        "torch MultiheadAttention",
        "self, causal",
        theirs,
        ours,
        renaming.TORCH_ATTENTION,
        (features(TARGET, 0),),
        lambda model, x: [model(x, x, x, attn_mask=_hidden_from(x))[0]],
        lambda model, x: [model(x, mask=decoder.causal_mask(x.shape[1]))],
    )


def _hidden_from(x: Tensor) -> Tensor:
    """torch's causal mask: True where a query may not look."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)


def cross_attention() -> Case:
    """An `nn.MultiheadAttention` that asks another text."""
    theirs, ours = _torch_attention()
    return Case(
        "torch MultiheadAttention",
        "cross",
        theirs,
        ours,
        renaming.TORCH_ATTENTION,
        (features(TARGET, 0), features(SOURCE, 1)),
        lambda model, x, memory: [model(x, memory, memory)[0]],
        lambda model, x, memory: [model(x, memory)],
    )


def _torch_layer(layer: Callable[..., nn.Module], norm_first: bool) -> nn.Module:
    sizes = (D_MODEL, N_HEADS, D_HIDDEN)
    settings = {"dropout": 0.0, "activation": "gelu", "layer_norm_eps": EPS, "batch_first": True}
    return randomise(layer(*sizes, **settings, norm_first=norm_first))


def encoder_layer(norm_first: bool) -> Case:
    """An `nn.TransformerEncoderLayer` that reads a padded batch."""
    theirs = _torch_layer(nn.TransformerEncoderLayer, norm_first)
    ours = encoder.TransformerBlock(
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        encoder.FeedForward(D_MODEL, D_HIDDEN),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        norm_first,
    )
    real = real_tokens(TARGET)
    return Case(
        "torch TransformerEncoderLayer",
        f"{'pre' if norm_first else 'post'}-norm, padded",
        theirs,
        filled(ours, theirs, renaming.TORCH_ENCODER_LAYER),
        renaming.TORCH_ENCODER_LAYER,
        (features(TARGET, 0),),
        lambda model, x: [model(x, src_key_padding_mask=~real)],
        lambda model, x: [model(x, encoder.padding_mask(real.long(), 0))],
    )


def decoder_layer(norm_first: bool) -> Case:
    """An `nn.TransformerDecoderLayer`: causal, and its source is padded."""
    theirs = _torch_layer(nn.TransformerDecoderLayer, norm_first)
    ours = decoder.DecoderBlock(
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        encoder.FeedForward(D_MODEL, D_HIDDEN),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        norm_first,
    )
    real = real_tokens(SOURCE)
    return Case(
        "torch TransformerDecoderLayer",
        f"{'pre' if norm_first else 'post'}-norm, padded",
        theirs,
        filled(ours, theirs, renaming.TORCH_DECODER_LAYER),
        renaming.TORCH_DECODER_LAYER,
        (features(TARGET, 0), features(SOURCE, 1)),
        lambda model, x, memory: [
            model(x, memory, tgt_mask=_hidden_from(x), memory_key_padding_mask=~real)
        ],
        lambda model, x, memory: [
            model(x, memory, decoder.causal_mask(TARGET), encoder.padding_mask(real.long(), 0))
        ],
    )
