"""What the exercises of `course_utils.scaling` share."""

import functools
import math

import torch

from course_utils import decoder
from course_utils.scaling import Sizes

LARGE = Sizes(50257, 301, 7, 2, 2048, tied=True)
"""So large that float32 cannot count its parameters, and that a check can still build it."""


@functools.cache
def shapes(sizes: Sizes) -> dict[str, torch.Size]:
    """The shape of every parameter of the model itself."""
    model = decoder.gpt(
        sizes.vocabulary, sizes.d_model, sizes.n_heads, sizes.n_layers, sizes.context
    )
    if sizes.tied:
        model.head.weight = model.get_parameter("embed.tokens.weight")
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def counted(sizes: Sizes) -> dict[str, int]:
    """The counts, by shapes where the model is too large to be built here."""
    large = sizes.vocabulary > 1000
    return count_by_shapes(sizes) if large else counted_in_the_model(sizes)


def with_total(counts: dict[str, int]) -> dict[str, int]:
    return {**counts, "total": sum(counts.values())}


def counted_in_the_model(sizes: Sizes) -> dict[str, int]:
    parts = {
        "embedding": "embed.",
        "attention": ".attention.",
        "feed_forward": ".feed_forward.",
        "norms": "norm",
        "head": "head.",
    }
    return with_total(
        {
            part: sum(shape.numel() for name, shape in shapes(sizes).items() if mark in name)
            for part, mark in parts.items()
        }
    )


def count_by_shapes(sizes: Sizes) -> dict[str, int]:
    d, hidden = sizes.d_model, 4 * sizes.d_model
    attention = [(d, d), (d,)] * 4
    feed_forward = [(hidden, d), (hidden,), (d, hidden), (d,)]
    of_parts: dict[str, list[tuple[int, ...]]] = {
        "embedding": [(sizes.vocabulary, d), (sizes.context, d)],
        "attention": attention * sizes.n_layers,
        "feed_forward": feed_forward * sizes.n_layers,
        "norms": [(d,), (d,)] * (1 + 2 * sizes.n_layers),
        "head": [] if sizes.tied else [(sizes.vocabulary, d)],
    }
    return with_total(
        {part: sum(math.prod(shape) for shape in each) for part, each in of_parts.items()}
    )
