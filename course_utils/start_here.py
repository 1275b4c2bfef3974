"""Notebook 00: one small part, to learn how parts are completed."""

from jaxtyping import Float
from torch import Tensor


def shape_of(x: Float[Tensor, "batch tokens d_model"]) -> tuple[int, int, int]:
    """Sizes of the three axes of `x`: batch, tokens, d_model, as a tuple of plain integers.

    For example, `shape_of(torch.zeros(2, 4, 8))` is `(2, 4, 8)`.
    """
    batch, tokens, d_model = x.shape
    return batch, tokens, d_model
