"""Maps, small models to look into, and the same models in torch's own functions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import inputs, layers
from course_utils.exercises.exercise import Wrong
from course_utils.projection import Embedding, Linear

# --- Maps ----------------------------------------------------------------------------------------


def causal_map(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights of a decoder: no token looks ahead. The last axis is that of the keys."""
    scores = 2 * inputs.normal(*shape, seed=seed, dtype=dtype)
    hidden = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def open_map(*shape: int, seed: int = 0) -> Tensor:
    """Weights of an encoder: every token looks everywhere."""
    return (2 * inputs.normal(*shape, seed=seed)).softmax(-1)


# --- Models --------------------------------------------------------------------------------------

VOCABULARY, D_MODEL = 7, 6


def gpt(n_heads: int = 3, n_layers: int = 2) -> decoder.GPT:
    """A small GPT without positions, whose weights are random and large."""
    parts: list[Any] = [layers.block_parts(D_MODEL, n_heads) for _ in range(n_layers)]
    model = decoder.GPT(
        Embedding(VOCABULARY, D_MODEL),
        [encoder.TransformerBlock(**each) for each in parts],
        encoder.LayerNorm(D_MODEL),
        Linear(D_MODEL, VOCABULARY, bias=False),
    )
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            drawn = 0.7 * inputs.normal(*parameter.shape, seed=number)
            parameter.copy_(drawn + (parameter.ndim == 1))
    return model.requires_grad_(False).eval()


def logits_by_torch(
    model: decoder.GPT,
    ids: Tensor,
    change_heads: Callable[[int, Tensor], Tensor] = lambda layer, heads: heads,
    change: Callable[[str, Tensor], Tensor] = lambda place, x: x,
) -> Tensor:
    """What `gpt` gives, in torch's own functions, with changes made on the way.

    `change_heads` is given the heads of a layer, [batch, tokens, n_heads, d_head]. `change` is
    given what stands at "embed", "blocks.0.attention", "blocks.0.feed_forward", "blocks.0", …
    """
    w = model.state_dict()
    x = change("embed", F.embedding(ids, w["embed.weight"]))
    for layer in range(len(model.blocks)):
        at = f"blocks.{layer}."
        attend: Any = model.blocks[layer].attention
        n_heads = attend.n_heads
        normed = _normed(x, w, at + "norm1")
        q, k, v = (
            _mapped(normed, w, f"{at}attention.w_{role}")
            .unflatten(-1, (n_heads, -1))
            .transpose(1, 2)
            for role in "qkv"
        )
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        mixed = _mapped(change_heads(layer, heads).flatten(-2), w, at + "attention.w_o")
        x = x + change(at + "attention", mixed)
        hidden = F.gelu(_mapped(_normed(x, w, at + "norm2"), w, at + "feed_forward.up"))
        x = x + change(at + "feed_forward", _mapped(hidden, w, at + "feed_forward.down"))
        x = change(at[:-1], x)
    return F.linear(_normed(x, w, "norm"), w["head.weight"])


def _mapped(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _normed(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


# --- Interventions -------------------------------------------------------------------------------


def until_the_end(name: str, given: Any) -> Any:
    """What a part gave, if a `with` block can end it. Otherwise Wrong."""
    if hasattr(given, "__enter__") and hasattr(given, "__exit__"):
        return given
    raise Wrong(
        f"`with {name}(…):` does not work with what you return, {_said(given)}. Return what "
        "`register_forward_hook` or `register_forward_pre_hook` gives: it ends with the block."
    )


def _said(given: Any) -> str:
    return "None" if given is None else f"a {type(given).__name__}"


def unchanged(model: decoder.GPT, before: dict[str, Tensor]) -> None:
    """Wrong where a model has not the weights that it had."""
    after = model.state_dict()
    for name, weight in before.items():
        if name not in after or not torch.equal(weight, after[name]):
            raise Wrong(
                f"After the `with` block the model's weight `{name}` is not what it was. "
                "Change what the model computes, by a hook, and leave its weights alone."
            )


class _Stop(Exception):
    """What stops the code in a `with` block."""


def ends_with_an_error(name: str, model: decoder.GPT, ids: Tensor, given: Any) -> None:
    """Wrong where a model is not what it was, once the code in a `with` block has stopped.

    `given` changes `model`, and nothing else does.
    """
    with torch.no_grad():
        try:
            with until_the_end(name, given):
                raise _Stop
        except _Stop:
            pass
        if not torch.allclose(model(ids), logits_by_torch(model, ids), atol=1e-4):
            raise Wrong(
                "If the code in the `with` block stops with an error, the model stays changed. A "
                "hook's handle ends by itself; in a function with `yield`, use try and finally."
            )


class NeverEnds:
    """A context manager that does nothing: what was changed stays so."""

    def __enter__(self) -> None: ...

    def __exit__(self, *problem: object) -> None: ...
