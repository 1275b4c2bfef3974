"""The colours of every picture: one meaning each, and one ramp from white (0) to dark blue (1).

A single hue that only gets darker survives print and every kind of colour blindness. Each named
colour can be read as text on white: its contrast is at least 4.5 to 1.
"""

import math

BLUE = "#1f67ab"
"""What is looked at; more than 0."""
ORANGE = "#b9590f"
"""What differs from it: the rival, the mistake, the new piece; less than 0."""
GREEN = "#2e7d32"
"""What is known exactly: the truth, the floor, the goal."""
PURPLE = "#7b5ea7"
"""One more, where three are not enough."""
GREY = "#6b6b6b"
"""The baseline: chance, before training, without it."""
INK = "#222222"
"""Text and lines."""
SERIES = (BLUE, ORANGE, GREEN, PURPLE, GREY, INK)
"""Their order where a picture has several lines of the same kind."""

RAMP = ("#ffffff", "#cfe3f5", "#92c0e6", "#4f94d0", "#1f67ab", "#0b3c73", "#061f42")
NEGATIVE_RAMP = ("#ffffff", "#fbdcbb", "#f3b06b", "#dc7f2b", "#b9590f", "#733406", "#421c02")
MASKED = "#b9b9b9"

LEVELS = 254  # a weight of 1 as a byte
MASKED_BYTE = 255


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#rrggbb", 0 to 255 each."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def ramp(position: float) -> tuple[int, int, int]:
    """The colour at `position` between 0 (white) and 1 (dark)."""
    place = position * (len(RAMP) - 1)
    below = min(int(place), len(RAMP) - 2)
    share = place - below
    pairs = zip(rgb(RAMP[below]), rgb(RAMP[below + 1]), strict=True)
    red, green, blue = (round(a + (b - a) * share) for a, b in pairs)
    return red, green, blue


def byte_palette() -> bytes:
    """256 colours, three bytes each: one for every 8-bit weight, and the last for masked cells.

    The ramp follows the square root of the weight, so that 1 % can still be told from 0.
    """
    colours = [ramp(math.sqrt(level / LEVELS)) for level in range(LEVELS + 1)]
    return bytes(channel for colour in [*colours, rgb(MASKED)] for channel in colour)
