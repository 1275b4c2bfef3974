"""Notebook 09: scaling. What a model of a given size costs, and what a larger one gains.

Counts are of the GPT that `decoder.gpt` builds. Costs are in floating-point operations (FLOPs; a
multiplication and an addition are two) and in bytes.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """What decides the cost of a GPT: the arguments of `decoder.gpt`, and whether its head is tied.

    A tied head is the table of token vectors, used once more.
    """

    vocabulary: int
    d_model: int
    n_heads: int
    n_layers: int
    context: int
    tied: bool = False


def count_parameters(sizes: Sizes) -> dict[str, int]:
    """Numbers that are learned, by part: embedding, attention, feed_forward, norms, head, total.

    Without biases, norms and tables it is 12 · n_layers · d_model².
    """
    d = sizes.d_model
    counts = {
        "embedding": (sizes.vocabulary + sizes.context) * d,
        "attention": sizes.n_layers * (4 * d * d + 4 * d),
        "feed_forward": sizes.n_layers * (8 * d * d + 5 * d),
        "norms": (2 * sizes.n_layers + 1) * 2 * d,
        "head": 0 if sizes.tied else sizes.vocabulary * d,
    }
    return {**counts, "total": sum(counts.values())}


def flops_per_token(sizes: Sizes, n_tokens: int, training: bool = False) -> int:
    """FLOPs for one token of a text of `n_tokens`, in matrix products.

    Every weight of a matrix is used once, and every other token is looked at: two FLOPs for a
    multiplication and its addition. Backward costs twice as much as forward. (Chowdhery et al.
    2022, appendix B; Kaplan et al. 2020, §2.1, count half as much for looking. All n_tokens count,
    as they do in a kernel without a causal shortcut.)
    """
    d = sizes.d_model
    weights = 12 * sizes.n_layers * d * d + sizes.vocabulary * d
    looked_at = 2 * sizes.n_layers * n_tokens * d  # a score, and a share of a value, per token
    forward = 2 * (weights + looked_at)
    return 3 * forward if training else forward


def memory_report(
    sizes: Sizes, n_rows: int, n_tokens: int, mode: str = "training", bytes_per_number: int = 4
) -> dict[str, int]:
    """Bytes by what they are for, and in total.

    In "training" with AdamW: weights, gradients, optimiser (two means a weight) and activations:
    what fused kernels keep for the backward pass, 16 · d_model numbers a token and layer, and the
    logits. In "generation": weights, and the cache of keys and values. Raises ValueError for
    another mode.
    """
    if mode not in ("training", "generation"):
        raise ValueError(f'mode must be "training" or "generation", got {mode!r}')
    tokens, d, layers = n_rows * n_tokens, sizes.d_model, sizes.n_layers
    weights = count_parameters(sizes)["total"]
    if mode == "training":
        kept = tokens * (16 * layers * d + 2 * d + sizes.vocabulary)
        numbers = {
            "weights": weights,
            "gradients": weights,
            "optimiser": 2 * weights,
            "activations": kept,
        }
    else:
        numbers = {"weights": weights, "cache": 2 * layers * d * tokens}
    report = {name: n * bytes_per_number for name, n in numbers.items()}
    return {**report, "total": sum(report.values())}


def fit_power_law(
    n: Float[Tensor, " sizes"], loss: Float[Tensor, " sizes"], floor: float = 0.0
) -> tuple[float, float]:
    """The a and alpha of loss = floor + a · n^-alpha, by a straight line through the logarithms."""
    x, y = torch.log(n.double()), torch.log(loss.double() - floor)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return math.exp(y.mean() - slope * x.mean()), -slope.item()


def foretell(
    n: Float[Tensor, " sizes"], loss: Float[Tensor, " sizes"], floor: float, size: float
) -> float:
    """Loss of a model of `size`, by the power law above `floor` that fits the runs made so far."""
    a, alpha = fit_power_law(n, loss, floor)
    return floor + a * size**-alpha


def compute_optimal(
    flops: float, a: float, b: float, alpha: float, beta: float
) -> tuple[float, float]:
    """Parameters N and tokens D that make a / N^alpha + b / D^beta smallest, where 6 N D = flops.

    Hoffmann et al. 2022, §3.3, equation 4.
    """
    share = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    n = share * (flops / 6) ** (beta / (alpha + beta))
    return n, flops / 6 / n
