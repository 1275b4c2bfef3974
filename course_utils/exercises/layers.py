"""Layers in cases. Their weights are arguments of the case, so that gradients are watched."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from course_utils import attention, encoder
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Wrong


def call(layer: Any, weights: Mapping[str, Tensor], *args: Any, **named: Any) -> Any:
    """`layer(*args, **named)` with these weights. Wrong where they do not fit the layer's own."""
    if not isinstance(layer, nn.Module):
        raise Wrong(
            "Your class is no `nn.Module`. Keep the first line and `__init__` as they were."
        )
    seen = {name: list(weight.shape) for name, weight in layer.state_dict().items()}
    wanted = {name: list(weight.shape) for name, weight in weights.items()}
    for name in {**wanted, **seen}:
        if seen.get(name) != wanted.get(name):
            raise Wrong(
                f"The weight `{name}` of your layer has the shape {seen.get(name, 'of nothing')}, "
                f"it should have {wanted.get(name, 'no place here')}. Other weights could not be "
                "loaded into it: keep `__init__` as it was."
            )
    return functional_call(layer, dict(weights), args, named)


def random_weights(
    modules: Mapping[str, nn.Module], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Weights for a layer that holds these modules: gains far from 1, biases far from 0."""
    weights: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        for name, weight in module.state_dict().items():
            drawn = inputs.normal(*weight.shape, seed=100 + len(weights), dtype=dtype)
            is_map = weight.ndim == 2
            weights[f"{prefix}.{name}"] = 1.5 * drawn / weight.shape[1] ** 0.5 if is_map else drawn
    return weights


def block_parts(d_model: int, n_heads: int, names: str = "attention") -> dict[str, nn.Module]:
    """What a block is given: an attention for each of the names, a feed-forward net and norms."""
    attentions: dict[str, nn.Module] = {
        name: attention.MultiHeadAttention(d_model, n_heads) for name in names.split()
    }
    norms = {f"norm{i}": encoder.LayerNorm(d_model) for i in range(1, len(attentions) + 2)}
    return attentions | {"feed_forward": encoder.FeedForward(d_model, 2 * d_model + 1)} | norms


def torch_weights(
    weights: Mapping[str, Tensor], attentions: Mapping[str, str]
) -> dict[str, Tensor]:
    """The weights of a block as those of torch's own layer, whose attentions have other names."""
    theirs = {}
    for our_name, their_name in attentions.items():
        for kind in ("weight", "bias"):
            three = [weights[f"{our_name}.w_{role}.{kind}"] for role in "qkv"]
            theirs[f"{their_name}.in_proj_{kind}"] = torch.cat(three)
            theirs[f"{their_name}.out_proj.{kind}"] = weights[f"{our_name}.w_o.{kind}"]
    for name, weight in weights.items():
        if name.startswith("norm"):
            theirs[name] = weight
        elif name.startswith("feed_forward"):
            place = name.removeprefix("feed_forward.")
            theirs[place.replace("up", "linear1").replace("down", "linear2")] = weight
    return theirs


def torch_mask(mask: Tensor | None, x: Tensor, memory: Tensor, n_heads: int) -> Tensor | None:
    """A mask as torch's layers want it: numbers to add, [batch · heads, query, key]."""
    if mask is None:
        return None
    size = (x.shape[0], n_heads, x.shape[1], memory.shape[1])
    return torch.where(mask, 0.0, -torch.inf).to(x.dtype).expand(size).flatten(0, 1)


def block_by_torch(
    x: Tensor, mask: Tensor | None, norm_first: bool, n_heads: int, weights: dict[str, Tensor]
) -> Tensor:
    """A block of the usual parts as torch's own `nn.TransformerEncoderLayer`."""
    theirs = nn.TransformerEncoderLayer(
        x.shape[-1],
        n_heads,
        len(weights["feed_forward.up.bias"]),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        device="meta",
    )
    added = torch_mask(mask, x, x, n_heads)
    renamed = torch_weights(weights, {"attention": "self_attn"})
    return functional_call(theirs, renamed, (x,), {"src_mask": added})
