"""A conclusion of a notebook, held against the numbers that were just computed."""

from collections.abc import Iterable

from course_utils.engine import console


def claim(sentence: str, holds: object, at_least: int | None = None) -> None:
    """Say `sentence` where it holds, and stop the cell with it where it does not.

    `holds` is true or false, or a list with one of these for each seed: then all of them must be
    true, or `at_least` that many, and the line says in how many it held. Raises AssertionError
    where the claim fails, TypeError where a value is neither true nor false.
    """
    if isinstance(holds, Iterable) and getattr(holds, "ndim", 1) > 0:
        held = [_truth(one) for one in holds]
        if not held:
            raise ValueError("holds must have at least one value, got an empty list")
        count = f" ({sum(held)} of {len(held)})"
        true = sum(held) >= (len(held) if at_least is None else at_least)
    elif at_least is not None:
        raise TypeError("at_least needs a list in holds, one value for each seed")
    else:
        count, true = "", _truth(holds)
    if not true:
        raise AssertionError(f"here this does not hold: {sentence}{count}")
    console.say(f"✓ {sentence}{count}")


def _truth(value: object) -> bool:
    """A comparison of numbers, arrays of one element or tensors of one element, as a bool."""
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if not isinstance(plain, bool):
        raise TypeError(f"holds must be true or false, got {plain!r}: compare it with something")
    return plain
