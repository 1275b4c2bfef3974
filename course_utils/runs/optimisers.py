"""Optimisers with the interface of `torch.optim`, for any training loop.

`AdamW` walks over a model's parameters and leaves the arithmetic to `training.adamw_step`.
`Muon` is for matrices: all directions of the update get the same length.

Every parameter group has a `peak_lr`, from which a schedule computes its `lr`. State is tensors
and numbers only.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils import training


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        _remember_peaks(self)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            adamw_update(group, self.state)


class Muon(torch.optim.Optimizer):
    """Momentum whose every direction is made equally long (Jordan et al. 2024). Matrices only."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "iterations": iterations,
        }
        super().__init__(params, defaults)
        _remember_peaks(self)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.ndim != 2:
                raise ValueError(f"Muon is for matrices, got a parameter of shape {list(p.shape)}")

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            muon_update(group, self.state)


class MuonAndAdamW(torch.optim.Optimizer):
    """Groups with a `momentum` are Muon's, the others AdamW's."""

    def __init__(self, muon: Muon, adamw: AdamW):
        super().__init__([*muon.param_groups, *adamw.param_groups], {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = muon_update if "momentum" in group else adamw_update
            update(group, self.state)


def muon_and_adamw(
    model: nn.Module, muon_lr: float = 0.02, adamw_lr: float = 8e-3, weight_decay: float = 0.0
) -> MuonAndAdamW:
    """Muon for the matrices of the model's `blocks`, AdamW for everything else.

    Matrices and tables decay, gains and biases do not.
    """
    inside = {p for p in model.blocks.parameters() if p.ndim == 2}  # type: ignore[union-attr]
    hidden = [p for p in model.parameters() if p in inside]
    outside = [p for p in model.parameters() if p.ndim == 2 and p not in inside]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [
        {"params": outside, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return MuonAndAdamW(
        Muon(hidden, muon_lr, weight_decay=weight_decay, iterations=4),  # a fifth changes nothing
        AdamW(groups, adamw_lr, betas=(0.9, 0.99)),
    )


def adamw_update(group: dict[str, Any], states: dict[Tensor, dict[str, Any]]) -> None:
    """One step of AdamW for the parameters of a group that have a gradient."""
    for p in group["params"]:
        if p.grad is None:
            continue
        state = states[p]
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["step"] += 1
        new, state["m"], state["v"] = training.adamw_step(
            p,
            p.grad,
            state["m"],
            state["v"],
            state["step"],
            group["lr"],
            group["betas"],
            group["eps"],
            group["weight_decay"],
        )
        p.copy_(new)


def muon_update(group: dict[str, Any], states: dict[Tensor, dict[str, Any]]) -> None:
    """One step of Muon for the parameters of a group that have a gradient."""
    parameters = sorted((p for p in group["params"] if p.grad is not None), key=lambda p: p.shape)
    for (rows, columns), same in groupby(parameters, key=lambda p: p.shape):
        matrices = list(same)
        updates = orthogonalise(_momentum(matrices, group["momentum"], states), group["iterations"])
        length = group["lr"] * max(1, rows / columns) ** 0.5
        for p, update in zip(matrices, updates, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=length)


def _momentum(
    matrices: list[Tensor], momentum: float, states: dict[Tensor, dict[str, Any]]
) -> Float[Tensor, "matrices rows columns"]:
    """Update the running mean of each gradient; what comes back looks one step ahead (Nesterov)."""
    ahead = []
    for p in matrices:
        state = states[p]
        if not state:
            state["mean"] = torch.zeros_like(p)
        gradient = cast(Tensor, p.grad)
        state["mean"].lerp_(gradient, 1 - momentum)
        ahead.append(gradient.lerp(state["mean"], momentum))
    return torch.stack(ahead)


def orthogonalise(
    matrices: Float[Tensor, "*batch rows columns"], iterations: int = 5
) -> Float[Tensor, "*batch rows columns"]:
    """Bring all singular values of each matrix close to 1 and keep its singular vectors.

    Newton–Schulz: the polynomial 3.4445 x - 4.775 x³ + 2.0315 x⁵, applied again and again, moves
    any singular value above 0.01 to between 0.6 and 1.3 in five rounds. It needs products of
    matrices only. The zero matrix stays zero.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT.contiguous()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x if wide else x.mT


def _remember_peaks(optimiser: torch.optim.Optimizer) -> None:
    for group in optimiser.param_groups:
        group.setdefault("peak_lr", group["lr"])
