"""positions.rope_angles: how far each pair is turned at each place."""

import math

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.positions import shared

exercise = Exercise(
    "positions.rope_angles",
    used_by="`RotaryAttention`, which turns its queries and keys by these angles",
    hints=(
        "They are the angles of the sinusoids before the sine: the place, times the frequency of "
        "the pair.",
        "There are d_head/2 pairs, and pair i has the frequency base^(-2i / d_head). "
        "`torch.arange(0, d_head, 2)` gives all the 2i.",
        "`torch.arange(n_tokens)[:, None] * frequencies` multiplies every place with every "
        "frequency. Return it as it is, [tokens, d_head/2].",
    ),
)


def _angles_by_numpy(n_tokens: int, d_head: int, base: float = 10000.0) -> Tensor:
    frequencies = [1 / base ** (2 * pair / d_head) for pair in range(d_head // 2)]
    angles = np.multiply.outer(np.arange(n_tokens, dtype=np.float64), np.array(frequencies))
    return torch.from_numpy(angles).float()


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_tokens: int, d_head: int, **base: float) -> Case:
        arguments = {"n_tokens": n_tokens, "d_head": d_head, **base}
        return shared.case_of_numbers(exercise.name, _angles_by_numpy, title, arguments)

    return [
        case("three places, two pairs", 3, 4, base=100.0),
        case("the same size, the usual base", 3, 4),
        case("more places", 5, 4),
        case("more features", 5, 8),
        case("another base", 7, 10, base=50.0),
        case("as many places as pairs", 3, 6, base=20.0),
        case("one pair", 9, 2),
        case("one place", 1, 8),
        case("a long text and a large base", 300, 12, base=500000.0),
        case("a longer text, one pair", 2100, 2),
    ]


@exercise.holds
def _gives_a_new_tensor(part: Part) -> None:
    shared.gives_a_new_tensor(part, 5, 8)


def _angles_at_places(n_tokens: int, frequencies: Tensor) -> Tensor:
    return torch.arange(n_tokens)[:, None] * frequencies


@exercise.mistake(
    "Your exponent is i / d_head, and it should be 2i / d_head. So the slow half of the "
    "frequencies is missing."
)
def exponent_i_over_d(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(d_head // 2) / d_head))


@exercise.mistake(
    "Your exponent is 4i / d_head, so your frequencies fall twice as fast. Is 2i doubled "
    "once more, or divided by the number of pairs? It is 2i / d_head."
)
def exponent_doubled(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(0, d_head, 2) / (d_head // 2)))


@exercise.mistake(
    "Your angles are twice too large. Pair 0 turns by 1 a token, pair i by "
    "base^(-2i / d_head): there is no other factor 2."
)
def angle_doubled(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, 2 * shared.frequencies(d_head, base))


@exercise.mistake(
    "You use 10000 where it should say `base`. Models for long texts use a larger one."
)
def base_ignored(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, shared.frequencies(d_head, 10000.0))


@exercise.mistake("Your first place is 1. Places are counted from 0: the first row is all 0.")
def counts_from_one(n_tokens, d_head, base=10000.0):
    return torch.arange(1, n_tokens + 1)[:, None] * shared.frequencies(d_head, base)


@exercise.mistake(
    "Your pairs turn faster and faster: the sign of the exponent is wrong. Frequencies "
    "fall from 1 towards 1 / base."
)
def frequencies_rise(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, 1 / shared.frequencies(d_head, base))


@exercise.mistake("You turn all pairs equally fast. Pair i has the frequency base^(-2i / d_head).")
def one_frequency_for_all(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, torch.ones(d_head // 2))


@exercise.mistake(
    "You return the angles twice, side by side, as some programs do before they take the "
    "cosine. Here a pair has one angle: [tokens, d_head/2]."
)
def angles_twice(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, shared.frequencies(d_head, base)).repeat(1, 2)


@exercise.mistake(
    "You give every feature an angle. Two features form a pair and turn together, so there "
    "are d_head/2 angles a token, with the exponents 0, 2, 4 … over d_head."
)
def angle_for_each_feature(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, base ** (-torch.arange(d_head) / d_head))


@exercise.mistake("You return degrees. `sin` and `cos` take radians: leave the angles as they are.")
def degrees(n_tokens, d_head, base=10000.0):
    return _angles_at_places(n_tokens, shared.frequencies(d_head, base)).rad2deg()


@exercise.mistake(
    "Every place gets the same angles, so turning by them tells nobody where a token "
    "stands. Multiply the frequencies with the place."
)
def frequencies_only(n_tokens, d_head, base=10000.0):
    return shared.frequencies(d_head, base).expand(n_tokens, -1)


@exercise.mistake(
    "You return cosines and sines. `apply_rope` takes them itself: return the angles."
)
def cosines_and_sines(n_tokens, d_head, base=10000.0):
    angles = _angles_at_places(n_tokens, shared.frequencies(d_head, base))
    return angles.cos(), angles.sin()


@exercise.mistake(
    "You count the places in bfloat16, which has no number between 256 and 258: far places get "
    "the angles of their neighbours. Count with `torch.arange(n_tokens)`."
)
def counted_in_bfloat16(n_tokens, d_head, base=10000.0):
    places = torch.arange(n_tokens, dtype=torch.bfloat16)
    return places[:, None] * shared.frequencies(d_head, base)


@exercise.alternative
def angles_by_outer(n_tokens, d_head, base=10000.0):
    inverse = 1.0 / (base ** (torch.arange(0, d_head, 2).float() / d_head))
    return torch.outer(torch.arange(n_tokens).float(), inverse)


@exercise.alternative
def angles_by_exp(n_tokens, d_head, base=10000.0):
    exponents = torch.arange(d_head // 2) * (-2 * math.log(base) / d_head)
    return torch.einsum("t,f->tf", torch.arange(n_tokens).float(), exponents.exp())


@exercise.alternative
def angles_by_steps(n_tokens, d_head, base=10000.0):
    """Each place is one more step on."""
    step = base ** (-torch.linspace(0, 1, d_head // 2 + 1, dtype=torch.float64)[:-1])
    return (step.expand(n_tokens, -1).cumsum(0) - step).float()
