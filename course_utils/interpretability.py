"""Notebook 11: interpretability. What a trained model does inside, and the tests that show it.

A map of attention makes a suspicion. Proof is an intervention: put something else in the place of
what one part of the model computes, and see whether the answer changes. Here this is done with
hooks, and a hook is taken away at the end of its `with` block:

    with ablate_head(model, layer=0, head=1):
        logits = model(ids)
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from course_utils import decoder

# --- What heads look at --------------------------------------------------------------------------


def head_scores(
    weights: Float[Tensor, "batch n_heads tokens tokens"],
) -> dict[str, Float[Tensor, " n_heads"]]:
    """What each head looks at, as means over the rows: "previous", "first", "self", "entropy".

    The first three are the weight on the token before, on token 0, and on the token itself.
    "entropy" is that of a row, in nats. Row 0 is left out everywhere: it has nothing to choose.
    """
    rows = weights[..., 1:, :]
    return {
        "previous": rows.diagonal(dim1=-2, dim2=-1).mean((0, -1)),
        "first": rows[..., 0].mean((0, -1)),
        "self": rows.diagonal(1, dim1=-2, dim2=-1).mean((0, -1)),
        "entropy": torch.special.entr(rows).sum(-1).mean((0, -1)),
    }


def induction_score(
    weights: Float[Tensor, "batch n_heads tokens tokens"], period: int
) -> Float[Tensor, " n_heads"]:
    """How much each head looks at what followed the same token one period ago.

    The text repeats itself after `period` tokens. From token `period` on, the token at place t was
    seen at t - period, and followed by t - period + 1: the weight on that, as a mean over the rows
    (Olsson et al. 2022).
    """
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:].mean((0, -1))


# --- Interventions -------------------------------------------------------------------------------


def ablate_head(
    model: decoder.GPT, layer: int, head: int, replacement: Tensor | None = None
) -> RemovableHandle:
    """Put zeros, or `replacement`, in the place of what one head gives to the output map `w_o`.

    `with ablate_head(…):` holds inside the block, and ends with it. The attention of a layer is
    `model.blocks[layer].attention`; it has `n_heads` and `w_o`, which is given all heads side by
    side; a copy of that is changed. `replacement` is a vector [d_head], for every token, or
    [batch, tokens, d_head].
    """
    attend: Any = model.blocks[layer].attention

    def replaced(module: nn.Module, args: tuple[Tensor]) -> Tensor:
        heads = args[0].unflatten(-1, (attend.n_heads, -1)).clone()  # [..., n_heads, d_head]
        heads[..., head, :] = 0.0 if replacement is None else replacement
        return heads.flatten(-2)

    return attend.w_o.register_forward_pre_hook(replaced)


def ablate_heads(
    model: decoder.GPT, replacements: Mapping[tuple[int, int], Tensor | None]
) -> ExitStack:
    """Several heads at once: for each (layer, head), what stands in its place; None is zeros.

    `with ablate_heads(…):` holds inside the block, and ends with it.
    """
    until = ExitStack()
    for (layer, head), replacement in replacements.items():
        until.enter_context(ablate_head(model, layer, head, replacement))
    return until


def patch(
    module: nn.Module, activation: Float[Tensor, "batch tokens d"], tokens: Sequence[int]
) -> RemovableHandle:
    """Activation patching: at the places `tokens`, `module` gives what it gave for another text.

    `with patch(…):` holds inside the block, and ends with it. A copy of the output is changed.
    `activation` is all that the module gave for the other text (Meng et al. 2022, §2.1).
    """

    def replaced(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        patched = output.clone()
        patched[:, tokens] = activation[:, tokens]
        return patched

    return module.register_forward_hook(replaced)


class Pair:
    """Two sets of texts with answers: how far does a patch move those of the second to the first?

    The texts of both are of one length, `[batch, tokens]`; `yes` are the first ones' answers, `no`
    those of the second. It is measured by the logit of `yes` less that of `no`, behind the last
    token, as a mean over the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        one: Int[Tensor, "batch tokens"],
        other: Int[Tensor, "batch tokens"],
        yes: Int[Tensor, " batch"],
        no: Int[Tensor, " batch"],
    ):
        self.model, self.one, self.other = model, one, other
        self.answers = torch.stack((yes, no), -1)
        self.low, self.high = self._gap(other), self._gap(one)

    def moved(self, *patches: tuple[nn.Module, Tensor, Sequence[int]]) -> float:
        """0 where nothing changes, 1 where the second texts are answered as the first.

        The patches, arguments of `patch`, hold together while the model reads the second texts.
        """
        with ExitStack() as until:
            for each in patches:
                until.enter_context(patch(*each))
            return (self._gap(self.other) - self.low) / (self.high - self.low)

    def _gap(self, ids: Int[Tensor, "batch tokens"]) -> float:
        with torch.no_grad():
            logits = self.model(ids)[:, -1].gather(-1, self.answers)
        return (logits[:, 0] - logits[:, 1]).mean().item()


# --- Reading what is in the residual stream ------------------------------------------------------


def logit_lens(
    hidden: Float[Tensor, "layer tokens d_model"], norm: nn.Module, head: nn.Module
) -> Float[Tensor, "layer tokens vocabulary"]:
    """What the model would say if it ended after each layer: its last norm and head, everywhere.

    `hidden` is the residual stream after the embedding and after each block (nostalgebraist 2020).
    """
    return head(norm(hidden))


def fit_probe(
    x_train: Float[Tensor, "train d"],
    y_train: Int[Tensor, " train"],
    x_test: Float[Tensor, "test d"],
    y_test: Int[Tensor, " test"],
    penalty: float = 1.0,
) -> float:
    """The share of test rows that a linear probe, fitted on the training rows, labels right.

    Ridge regression: W minimises |X W - Y|² + penalty · |W|², where X is `x_train` with a column of
    ones behind it, and Y has a 1 in the column of each row's label. It says the largest column.
    """
    x, y = _with_ones(x_train), nn.functional.one_hot(y_train).to(x_train.dtype)
    squares = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(squares, x.T @ y)
    said = (_with_ones(x_test) @ weights).argmax(-1)
    return (said == y_test).double().mean().item()


def _with_ones(x: Float[Tensor, "rows d"]) -> Float[Tensor, "rows more"]:
    return torch.cat((x, x.new_ones(len(x), 1)), dim=-1)


def control_labels(
    ids: Int[Tensor, "*shape"], n_classes: int, seed: int = 0
) -> Int[Tensor, "*shape"]:
    """A random class for every token of the vocabulary: what a probe learns by heart.

    A probe that reads these as well as the true labels tells nothing of the model (Hewitt & Liang
    2019, §2).
    """
    generator = torch.Generator().manual_seed(seed)
    of_token = torch.randint(n_classes, (int(ids.max()) + 1,), generator=generator)
    return of_token[ids]


# --- Recording -----------------------------------------------------------------------------------


def record_outputs(
    model: nn.Module, modules: Sequence[nn.Module], ids: Int[Tensor, "batch tokens"]
) -> list[Tensor]:
    """What each of the modules gives while the model reads `ids`, in the order they ran."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output.detach())

    _read(model, ids, [module.register_forward_hook(keep) for module in modules])
    return found


def residual_stream(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "layer batch tokens d_model"]:
    """The vectors of every token after the embedding and after each block."""
    return torch.stack(record_outputs(model, [model.embed, *model.blocks], ids))


def head_outputs(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"]
) -> list[Float[Tensor, "batch tokens n_heads d_head"]]:
    """What the heads of each layer give to their output map `w_o`."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor]) -> None:
        found.append(args[0].detach())

    attentions: list[Any] = [block.attention for block in model.blocks]
    _read(model, ids, [each.w_o.register_forward_pre_hook(keep) for each in attentions])
    return [
        heads.unflatten(-1, (each.n_heads, -1))
        for heads, each in zip(found, attentions, strict=True)
    ]


def direct_attribution(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"]
) -> dict[str, Float[Tensor, "batch tokens vocabulary"]]:
    """What each part adds to the logits by itself: "embed", "head 0.1", "feed-forward 0", …

    The last norm is RMSNorm. It divides by a length which all parts make together; with that length
    held fixed, the logits are the sum (Elhage et al. 2021). What a part does through others is not
    in its share.
    """
    parts = _written(model, ids)
    whole = torch.stack(list(parts.values())).sum(0)
    norm: Any = model.norm
    if hasattr(norm, "bias"):
        raise TypeError("model: its last norm must be an RMSNorm, without mean and bias")
    scale = norm.weight * torch.rsqrt((whole * whole).mean(-1, keepdim=True) + norm.eps)
    return {name: model.head(part * scale).detach() for name, part in parts.items()}


def _written(model: decoder.GPT, ids: Tensor) -> dict[str, Tensor]:
    """What each part adds to the residual stream."""
    (embedded,) = record_outputs(model, [model.embed], ids)
    heads = head_outputs(model, ids)
    blocks: list[Any] = list(model.blocks)
    widened = record_outputs(model, [block.feed_forward for block in blocks], ids)
    written = {"embed": embedded}
    for layer, block in enumerate(blocks):
        maps = block.attention.w_o.weight.unflatten(-1, heads[layer].shape[-2:])
        for head in range(heads[layer].shape[-2]):
            written[f"head {layer}.{head}"] = heads[layer][..., head, :] @ maps[:, head].T
        written[f"feed-forward {layer}"] = widened[layer]
    return written


def _read(model: nn.Module, ids: Tensor, hooks: Sequence[RemovableHandle]) -> None:
    with ExitStack() as until, torch.no_grad():
        for hook in hooks:
            until.enter_context(hook)
        model(ids)
