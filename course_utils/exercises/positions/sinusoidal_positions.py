"""positions.sinusoidal_positions: a place as sines and cosines."""

import math

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import points
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.positions import shared

exercise = Exercise(
    "positions.sinusoidal_positions",
    used_by="`SinusoidalPositions`, the layer that adds them to the tokens",
    hints=(
        "Each pair of features is the hand of a clock. Hand i turns by base^(-2i / d_model) a "
        "token: 1 for i = 0, and less and less for the others.",
        "Two steps: the angle of every hand at every place, [tokens, d_model/2], then its sine and "
        "its cosine, side by side: sin, cos, sin, cos …",
        "`torch.arange(0, d_model, 2)` gives all the 2i, and `torch.arange(n_tokens)[:, None] * "
        "frequencies` all angles.",
        "`torch.stack((angles.sin(), angles.cos()), dim=-1)` puts each sine beside its cosine. "
        "`flatten(-2)` makes one axis of the last two.",
    ),
)


def _sinusoids_one_by_one(n_tokens: int, d_model: int, base: float = 10000.0) -> Tensor:
    """The formula of the paper, for one number at a time."""
    rows = [
        [
            (math.cos if feature % 2 else math.sin)(token / base ** (feature // 2 * 2 / d_model))
            for feature in range(d_model)
        ]
        for token in range(n_tokens)
    ]
    return torch.tensor(rows, dtype=torch.float32)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_tokens: int, d_model: int, point: str = "", **base: float) -> Case:
        arguments = {"n_tokens": n_tokens, "d_model": d_model, **base}
        return shared.case_of_numbers(exercise.name, _sinusoids_one_by_one, title, arguments, point)

    exactly = (
        "Places are counted exactly, however many there are. There is no longest text, and no "
        "dtype with few digits: bfloat16 has no number between 256 and 258, float16 none after "
        "2048 but every second."
    )
    one_pair = "With two features there is one frequency, base^0 = 1, and nothing to divide by."
    return [
        case("three places, two frequencies", 3, 4, base=100.0),
        case("the same size, the usual base", 3, 4),
        case("more places", 5, 4),
        case("more features", 5, 8),
        case("three frequencies", 10, 6),
        case("another base", 7, 10, base=50.0),
        case("as many places as features", 6, 6, points.EQUAL_SIZES, base=20.0),
        case("as many places as frequencies", 4, 8, points.EQUAL_SIZES),
        case("one frequency", 9, 2, one_pair),
        case("one place", 1, 8, points.AXIS_OF_ONE),
        case("many places", 250, 4, exactly),
        case("a long text, one frequency", 6000, 2, exactly),
    ]


@exercise.holds
def _gives_a_new_tensor(part: Part) -> None:
    shared.gives_a_new_tensor(part, 5, 8)


@exercise.mistake(
    "You use sines only. A sine alone cannot say whether its hand goes up or down, and a "
    "shift is no longer a rotation. Features 1, 3, 5 … are cosines."
)
def sin_only(n_tokens, d_model, base=10000.0):
    frequencies = shared.frequencies(d_model, base).repeat_interleave(2)
    return (torch.arange(n_tokens)[:, None] * frequencies).sin()


def _side_by_side(angles: Tensor) -> Tensor:
    """Sine, cosine, sine, cosine …"""
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


@exercise.mistake(
    "Your exponent is i / d_model, and it should be 2i / d_model. So your frequencies end "
    "halfway, and the slowest hands are missing."
)
def exponent_i_over_d(n_tokens, d_model, base=10000.0):
    frequencies = base ** (-torch.arange(d_model // 2) / d_model)
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


@exercise.mistake(
    "Your exponent is 4i / d_model. `torch.arange(0, d_model, 2)` already counts 0, 2, 4 "
    "…, so it must not be doubled once more."
)
def exponent_doubled(n_tokens, d_model, base=10000.0):
    frequencies = base ** (-2 * torch.arange(0, d_model, 2) / d_model)
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


@exercise.mistake(
    "Every feature has a frequency of its own, so a sine and the cosine beside it belong "
    "to different hands. Features 2i and 2i + 1 share the frequency base^(-2i / d_model)."
)
def frequency_for_each_feature(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * base ** (-torch.arange(d_model) / d_model)
    return torch.stack((angles[:, ::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(-2)


@exercise.mistake(
    "First all sines, then all cosines: a legal other layout, which many programs use. "
    "Here sines and cosines take turns, as in the paper: stack them on a new last axis, "
    "then flatten."
)
def blocks(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * shared.frequencies(d_model, base)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


@exercise.mistake(
    "You turn the angles into degrees. `sin` and `cos` take radians: use the angles as they are."
)
def degrees(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * shared.frequencies(d_model, base)
    return _side_by_side(angles.rad2deg())


@exercise.mistake(
    "Your cosines come first. Features 0, 2, 4 … are sines and 1, 3, 5 … are cosines, so "
    "place 0 is 0, 1, 0, 1 …"
)
def cosine_first(n_tokens, d_model, base=10000.0):
    angles = torch.arange(n_tokens)[:, None] * shared.frequencies(d_model, base)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(-2)


@exercise.mistake(
    "You use 10000 where it should say `base`. The default is 10000, but the caller may "
    "want another one."
)
def base_ignored(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(n_tokens)[:, None] * shared.frequencies(d_model, 10000.0))


@exercise.mistake(
    "Your first place is 1. Places are counted from 0, where all hands stand at angle 0: "
    "the first row is 0, 1, 0, 1 …"
)
def counts_from_one(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(1, n_tokens + 1)[:, None] * shared.frequencies(d_model, base))


@exercise.mistake(
    "Your hands get faster instead of slower: the sign of the exponent is wrong. "
    "Frequencies fall from 1 towards 1 / base."
)
def frequencies_rise(n_tokens, d_model, base=10000.0):
    return _side_by_side(torch.arange(n_tokens)[:, None] / shared.frequencies(d_model, base))


@exercise.mistake(
    "You count the places in bfloat16, which has no number between 256 and 258: far places get "
    "the angles of their neighbours. Count with `torch.arange(n_tokens)`."
)
def counted_in_bfloat16(n_tokens, d_model, base=10000.0):
    places = torch.arange(n_tokens, dtype=torch.bfloat16)
    return _side_by_side(places[:, None] * shared.frequencies(d_model, base))


@exercise.mistake(
    "Your last frequency is 1 / base: `linspace` and `logspace` count their end point. The "
    "exponents 2i / d_model stop before 1, at (d_model - 2) / d_model."
)
def exponents_reach_one(n_tokens, d_model, base=10000.0):
    frequencies = base ** -torch.linspace(0, 1, d_model // 2)
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


@exercise.mistake(
    "Your angles are 2π times too large. A hand turns by base^(-2i / d_model) radians a token; "
    "2π · base^(2i / d_model) tokens make a whole turn."
)
def two_pi_too_much(n_tokens, d_model, base=10000.0):
    frequencies = shared.frequencies(d_model, base)
    return _side_by_side(2 * math.pi * torch.arange(n_tokens)[:, None] * frequencies)


@exercise.mistake(
    "Your places are not 1 apart: `linspace` counts its end point as well. Places are 0, 1, 2 …: "
    "`torch.arange(n_tokens)`."
)
def places_by_linspace(n_tokens, d_model, base=10000.0):
    places = torch.linspace(0, n_tokens, n_tokens)
    return _side_by_side(places[:, None] * shared.frequencies(d_model, base))


@exercise.mistake(
    "`//` cuts the exponent down to a whole number, so all hands but the first turn alike. Divide "
    "with `/`."
)
def exponent_cut_down(n_tokens, d_model, base=10000.0):
    frequencies = base ** (-torch.arange(0, d_model, 2) // d_model).float()
    return _side_by_side(torch.arange(n_tokens)[:, None] * frequencies)


@exercise.mistake(
    "Your numbers are right, but they are float64: NumPy computes so, and `.double()` does. The "
    "tokens are float32, and so should the positions be: `.float()` at the end."
)
def stays_float64(n_tokens, d_model, base=10000.0):
    return _sinusoids_one_by_one(n_tokens, d_model, base).double()


@exercise.alternative
def sinusoids_in_strides(n_tokens, d_model, base=10000.0):
    positions = torch.zeros(n_tokens, d_model)
    steps = torch.arange(0, d_model, 2).float()
    angles = torch.arange(n_tokens).unsqueeze(1) * torch.exp(-math.log(base) * steps / d_model)
    positions[:, 0::2] = torch.sin(angles)
    positions[:, 1::2] = torch.cos(angles)
    return positions


@exercise.alternative
def sinusoids_by_phase(n_tokens, d_model, base=10000.0):
    """A cosine is a sine that began a quarter of a turn earlier."""
    feature = torch.arange(d_model)
    exponents = feature.div(2, rounding_mode="floor") * 2 / d_model
    return torch.sin(torch.arange(n_tokens)[:, None] / base**exponents + feature % 2 * math.pi / 2)


@exercise.alternative
def sinusoids_by_complex_numbers(n_tokens, d_model, base=10000.0):
    angles = torch.outer(torch.arange(n_tokens), shared.frequencies(d_model, base))
    return torch.view_as_real(torch.polar(torch.ones_like(angles), angles)).flip(-1).flatten(1)


@exercise.alternative
def sinusoids_in_numpy(n_tokens, d_model, base=10000.0):
    angles = np.arange(n_tokens)[:, None] / np.power(base, np.arange(0, d_model, 2) / d_model)
    both = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return torch.from_numpy(both.reshape(n_tokens, d_model)).float()
