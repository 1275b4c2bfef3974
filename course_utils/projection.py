"""Notebook 01: vectors, linear maps and embeddings.

A linear map answers each vector with its dot products against the rows of a weight matrix.
Almost everything that a transformer learns is kept in such matrices.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def dot_and_cosine(
    a: Float[Tensor, "rows d"], b: Float[Tensor, "columns d"]
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]]:
    """Dot product and cosine of every row of `a` with every row of `b`.

    The cosine is the dot product divided by both lengths. A product of lengths below 1e-8 counts
    as 1e-8, so that with a vector of zeros the cosine is 0.
    """
    dots = a @ b.T
    lengths = torch.outer(a.norm(dim=-1), b.norm(dim=-1))
    return dots, dots / lengths.clamp_min(1e-8)


def linear(
    x: Float[Tensor, "*batch d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None = None,
) -> Float[Tensor, "*batch d_out"]:
    """Apply one linear map to every vector of `x`: x Wᵀ + b.

    The weight is stored as [d_out, d_in], as in `torch.nn.Linear`.
    """
    y = x @ weight.T
    return y if bias is None else y + bias


def embed(
    ids: Int[Tensor, "batch tokens"], table: Float[Tensor, "vocabulary d_model"]
) -> Float[Tensor, "batch tokens d_model"]:
    """Row `ids[b, t]` of the table for every token, the same as one_hot(ids) @ table."""
    return table[ids]


def is_linear(f: Callable[[Tensor], Tensor], d: int) -> bool:
    """Whether f(a x + b y) = a f(x) + b f(y) for random vectors of size `d` and random a, b.

    The vectors are small and large, since some functions bend only far from 0. `f` takes one
    vector at a time. Such a test can show that `f` is not linear; it cannot prove that it is.
    """
    generator = torch.Generator().manual_seed(0)
    for power in range(-3, 5):
        x, y = 10.0**power * torch.randn(2, d, generator=generator)
        a, b = torch.randn(2, generator=generator)
        together, apart = f(a * x + b * y), a * f(x) + b * f(y)
        rounding = 1e-4 * (f(x).norm() + f(y).norm())
        if not (together - apart).norm() <= rounding:  # nor where it is NaN
            return False
    return True


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes with this module's `linear`."""

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return linear(x, self.weight, self.bias)


def check_ids(ids: Tensor) -> None:
    """See that a model is given rows of tokens."""
    if ids.ndim != 2:
        one_row = "; a single row is ids[None]" if ids.ndim == 1 else ""
        raise ValueError(f"ids must be [batch, tokens], got the shape {list(ids.shape)}{one_row}")


class Embedding(nn.Embedding):
    """`torch.nn.Embedding` that looks rows up with this module's `embed`."""

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        return embed(ids, self.weight)
