"""torch's fused kernels in place of the explicit parts: the same numbers, sooner.

The parts of this course are written to be read. A fused kernel does several of their steps at once
and keeps nothing of what is in between, so it is quicker, and there is nothing to look at inside.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.backends import mkldnn
from torch.nn import functional as F
from torch.optim.adamw import adamw

from course_utils import attention, decoder, encoder, projection, training


@contextmanager
def fused() -> Iterator[None]:
    """Inside the `with` block, models and training run on torch's fused kernels.

    First each kernel is compared with the part that it stands in for, yours among them. Raises
    ValueError where they differ. Inside `attention.record()` attention stays explicit: a kernel has
    no weights to record.
    """
    explicit = {(module, name): getattr(module, name) for module, name in KERNELS}
    with _unrecorded():
        for (module, name), (kernel, arguments) in KERNELS.items():
            _compare(f"{module.__name__}.{name}", getattr(module, name), kernel, arguments())
    try:
        for (module, name), part in explicit.items():
            if inspect.unwrap(part) is part:  # nobody records it
                setattr(module, name, KERNELS[module, name][0])
        yield
    finally:
        for (module, name), part in explicit.items():
            setattr(module, name, part)


@contextmanager
def _unrecorded() -> Iterator[None]:
    """What `attention.record()` looks for inside models does not see the comparison's examples."""
    names = ("attention_weights", "scaled_dot_product_attention")
    seen = {name: getattr(attention, name) for name in names}
    try:
        for name, part in seen.items():
            setattr(attention, name, inspect.unwrap(part))
        yield
    finally:
        for name, part in seen.items():
            setattr(attention, name, part)


@torch.no_grad()
def _compare(name: str, part: Callable, kernel: Callable, arguments: tuple) -> None:
    copies = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
    ours, theirs = part(*arguments), kernel(*copies)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    for one, other in pairs:
        if not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
            gap = (one.float() - other.float()).abs().max()
            raise ValueError(f"{name} differs from torch's kernel by {gap:.1e}")


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    elif isinstance(mask, CausalMask) and query.shape[2] == key.shape[2]:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return F.scaled_dot_product_attention(query, key, value, mask)


class CausalMask(Tensor):
    """A causal mask that the kernel of attention knows as one, and need not read.

    Flash attention takes no other mask. Moved to a device it stays what it is; whatever else is
    made from it, such as a window, is a plain tensor.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        return result.as_subclass(cls) if func is Tensor.to else result


def _causal_mask(n_query: int, n_key: int | None = None) -> Tensor:
    n_key = n_query if n_key is None else n_key
    return (
        torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query).as_subclass(CausalMask)
    )


def _embed(ids: Tensor, table: Tensor) -> Tensor:
    return torch.embedding(table, ids)


def _layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return torch.layer_norm(x, gain.shape, gain, bias, eps)


def gelu(x: Tensor) -> Tensor:
    """Not by oneDNN: for one token its start takes longer than all the rest."""
    enabled, mkldnn.enabled = mkldnn.enabled, False  # type: ignore[assignment]
    try:
        return F.gelu(x)
    finally:
        mkldnn.enabled = enabled


def _cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_index)


def _adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """In place, as fused kernels are."""
    steps_before = torch.full((), step - 1.0, device=parameter.device)  # without waiting for it
    adamw(
        [parameter], [gradient.contiguous()], [mean], [square], [], [steps_before],
        fused=True, amsgrad=False, beta1=betas[0], beta2=betas[1], lr=lr,
        weight_decay=weight_decay, eps=eps, maximize=False,
    )  # fmt: skip
    return parameter, mean, square


KERNELS: dict[tuple[ModuleType, str], tuple[Callable, Callable[[], tuple]]] = {
    (projection, "embed"): (
        _embed,
        lambda: (torch.tensor([[0, 3], [2, 2]]), _normal(4, 5)),
    ),
    (projection, "linear"): (
        F.linear,
        lambda: (_normal(2, 3, 5), _normal(4, 5), _normal(4)),
    ),
    (attention, "scaled_dot_product_attention"): (
        _attention,
        lambda: (
            _normal(2, 3, 4, 6), _normal(2, 3, 5, 6), _normal(2, 3, 5, 7),
            torch.ones(4, 5, dtype=torch.bool).tril(1), _normal(4, 5),
        ),
    ),
    (decoder, "causal_mask"): (_causal_mask, lambda: (3, 5)),
    (encoder, "layer_norm"): (
        _layer_norm,
        lambda: (3 * _normal(2, 3, 5) + 1, _normal(5), _normal(5), 1e-5),
    ),
    (encoder, "gelu"): (gelu, lambda: (3 * _normal(4, 5),)),
    (training, "cross_entropy"): (
        _cross_entropy,
        lambda: (_normal(2, 3, 5), torch.tensor([[0, 4, -100], [2, 1, 3]])),
    ),
    (training, "adamw_step"): (
        _adamw_step,
        lambda: (
            _normal(4, 5), _normal(5, 4).T, _normal(20).view(4, 5), _normal(2, 10).view(4, 5) ** 2,
            3, 0.01, (0.8, 0.95), 1e-8, 0.1,
        ),
    ),
}  # fmt: skip
