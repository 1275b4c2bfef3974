"""What forming the attention weights costs: our explicit attention against torch's fused kernel.

python benchmarks/attention.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import attention, decoder

BATCH, HEADS, D_HEAD = 4, 4, 32
LENGTHS = (64, 128, 256, 512, 1024, 2048)
ROUNDS = 5

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    """Print the table: causal attention, forward and backward, for every length."""
    torch.set_num_threads(1)
    print("| tokens | explicit, ms | fused, ms | ratio | explicit, MB | fused, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n_tokens in LENGTHS:
        mask = decoder.causal_mask(n_tokens)
        inputs = [torch.randn(BATCH, HEADS, n_tokens, D_HEAD, requires_grad=True) for _ in range(3)]

        def explicit(query: Tensor, key: Tensor, value: Tensor, mask: Tensor = mask) -> Tensor:
            return attention.scaled_dot_product_attention(query, key, value, mask)

        pairs = [
            (milliseconds(explicit, inputs), milliseconds(fused, inputs)) for _ in range(ROUNDS)
        ]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(
            f"| {n_tokens} | {ours:.1f} | {theirs:.1f} | {ratio:.1f}"
            f" | {megabytes(explicit, inputs):.1f} | {megabytes(fused, inputs):.1f} |"
        )


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Torch's kernel, which never holds all the weights at once."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def milliseconds(attend: Attention, inputs: list[Tensor]) -> float:
    """Processor time of one pass forward and backward, the mean of as many as fill 0.1 s."""
    attend(*inputs).sum().backward()
    n_passes, start = 0, time.process_time()
    while time.process_time() - start < 0.1:
        attend(*inputs).sum().backward()
        n_passes += 1
    return (time.process_time() - start) / n_passes * 1000


def megabytes(attend: Attention, inputs: list[Tensor]) -> float:
    """What is kept for the backward pass, beside the inputs. What is kept twice counts once."""
    kept: dict[int, int] = {}
    held = []  # a storage that is freed could leave its address to another

    def keep(x: Tensor) -> Tensor:
        held.append(x)
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        attend(*inputs)
    for x in inputs:
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values()) / 1e6


if __name__ == "__main__":
    main()
