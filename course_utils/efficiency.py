"""Notebook 14: efficient training. Less memory, fewer bits, and many machines for one step.

What fills a machine in training are numbers that are kept for the way back. So one keeps fewer of
them, or shares them out: the rows of the batch, the features of a matrix, or the layers. In all of
these the gradients stay those of one large machine.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from course_utils import encoder, training

# --- On one machine ------------------------------------------------------------------------------


def checkpointed(
    block: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_out"]:
    """block(x), of which only x is kept: the way back runs `block` once more.

    `block` is anything that can be called. The gradients of x and of the block's weights are those
    without it, also where x itself needs none. Dropout draws the same numbers again, and what is
    drawn afterwards does not change. Autocast is for the second run as it was for the first. Once
    forward, once back; when the way back is over nothing is kept (Chen et al. 2016, §4).
    """
    random_state, kind = torch.get_rng_state(), x.device.type
    narrow, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    places = itertools.count()
    again: list[Tensor] = []  # all that autograd would have kept, in its order

    def fetch(place: int) -> Tensor:
        if not again:
            keep = saved_tensors_hooks(lambda one: again.append(one.detach()), lambda one: one)
            as_before = torch.autocast(kind, dtype=dtype, enabled=narrow)
            with torch.random.fork_rng(), torch.enable_grad(), as_before, keep:
                torch.set_rng_state(random_state)
                block(x)
        return again[place]

    with saved_tensors_hooks(lambda one: next(places), fetch):
        return block(x)


def scaled_step(
    loss: Float[Tensor, ""], optimiser: Optimizer, scale: float, max_norm: float
) -> float:
    """One step for a loss that was computed in float16; returns the scale for the next step.

    Gradients that float16 would round to 0 survive as those of loss · scale. What lay in `grad`
    before is cleared first. If a gradient is not finite, no weight moves, and half the scale is
    returned. Else the gradients are divided by the scale, clipped to `max_norm` all together, and
    applied (Micikevicius et al. 2018, §3.2). The weights are those of the optimiser, in float32.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    optimiser.zero_grad()
    (loss * scale).backward()
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not all(gradient.isfinite().all() for gradient in gradients):
        return scale / 2
    for gradient in gradients:
        gradient.div_(scale)
    training.clip_gradients(weights, max_norm)
    optimiser.step()
    return scale


# --- On several machines -------------------------------------------------------------------------


def mean_gradient(
    gradients: Sequence[Float[Tensor, "*shape"]], n_rows: Sequence[int]
) -> Float[Tensor, "*shape"]:
    """Gradient of the mean loss over all rows, of those that the machines have for their own rows.

    Each machine has the gradient of the mean over its `n_rows` rows. One without rows does not
    count, whatever its gradient is: it may be NaN, as 0 / 0 is. This is what an all-reduce must
    give to every machine.
    """
    shares = [
        gradient * (n / sum(n_rows)) for gradient, n in zip(gradients, n_rows, strict=True) if n
    ]
    return torch.stack(shares).sum(0)


def column_then_row(
    x: Float[Tensor, "*batch d_model"],
    up: Float[Tensor, "d_hidden d_model"],
    down: Float[Tensor, "d_out d_hidden"],
    n_parts: int,
) -> Float[Tensor, "*batch d_out"]:
    """A feed-forward net without biases, its hidden features shared by `n_parts` machines.

    Each has its own rows of `up` and columns of `down`: columns and rows of the matrices in
    x · A, hence the name. It computes alone, GELU included, from x to all of the output. The sum of
    what they have is the only thing that is exchanged (Shoeybi et al. 2019, §3). `n_parts` divides
    d_hidden.
    """
    pieces = zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=True)
    return torch.stack([encoder.gelu(x @ rows.T) @ columns.T for rows, columns in pieces]).sum(0)


def bubble(n_stages: int, n_micro: int) -> float:
    """Share of the time in which a stage of a pipeline waits, from 0 to 1.

    `n_micro` micro-batches go through all stages, and then all the way back, which takes longer by
    the same factor everywhere. A stage can take a micro-batch when the stage before has it ready
    (Huang et al. 2019, §2.3).
    """
    return (n_stages - 1) / (n_micro + n_stages - 1)


# --- How much of the machine is used -------------------------------------------------------------


def mfu(
    tokens_per_second: float,
    peak_flops: float,
    n_parameters: int,
    n_layers: int,
    n_tokens: int,
    d_model: int,
) -> float:
    """Model FLOPs utilisation: the share of the machine's peak that training needs, from 0 to 1.

    A token needs what `scaling.flops_per_token` counts for training: every one of `n_parameters`,
    those that multiply, and in each layer a score and a share of the value of each of `n_tokens`,
    without a causal shortcut. What is computed twice counts once. `peak_flops` are operations a
    second (Chowdhery et al. 2022, appendix B).
    """
    flops_per_token = 6 * n_parameters + 12 * n_layers * n_tokens * d_model
    return tokens_per_second * flops_per_token / peak_flops
