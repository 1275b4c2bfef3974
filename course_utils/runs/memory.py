"""What training holds between the forward and the backward pass, and how to hold less of it.

The gradient of a product needs the numbers that went into it, so autograd keeps them until the
backward pass has used them. There are many more of them than weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


def saved_bytes(model: nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes that are kept for the backward pass of what `run` returns, `model`'s weights apart.

    Several tensors that look at the same numbers count once.
    """
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        run()
    return sum(kept.values())


def held_bytes(run: Callable[[], object]) -> int:
    """Bytes that were made by `run` and are in memory while what it returns is.

    Nothing is asked of autograd, so this counts what a function holds for itself as well.
    """
    with _Made() as made:
        held = run()
    found = sum(size for one, size in made.sizes.items() if not one.expired())
    del held
    return found


class _Made(TorchDispatchMode):
    """Notes the storage of each tensor that is made, without keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        given = {StorageWeakRef(one.untyped_storage()) for one in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for one in _tensors(out):
            storage = one.untyped_storage()
            if (place := StorageWeakRef(storage)) not in given:
                self.sizes[place] = storage.nbytes()
        return out


def _tensors(what: object) -> list[Tensor]:
    return [one for one in tree_leaves(what) if isinstance(one, Tensor)]


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block, every block of a GPT or an encoder keeps its input and no more.

    The backward pass computes a block once more when it comes to it, with the same dropout: less
    memory for one forward pass more (Chen et al. 2016). It has to run on the same kernels as the
    forward pass, so take both inside `kernels.fused()`, or none. Raises ValueError for a model
    without blocks.
    """
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ValueError(f"model must have blocks, as a GPT has; got {type(model).__name__}")
    own = [vars(block).get("forward") for block in blocks]  # None: that of its class
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward
