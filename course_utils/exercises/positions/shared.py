"""What the exercises of `course_utils.positions` share."""

import torch
from torch import Tensor


def frequencies(d_model: int, base: float) -> Tensor:
    return base ** (-torch.arange(0, d_model, 2) / d_model)
