"""Inputs for cases: random, but the same on every run and on every machine."""

import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normally distributed numbers, mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def boolean(*shape: int, seed: int = 0) -> Tensor:
    """Random True and False, with at least one True in every row."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    return mask


def integers(*shape: int, below: int, seed: int = 0) -> Tensor:
    """Random whole numbers from 0 to below - 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(below, shape, generator=generator)
