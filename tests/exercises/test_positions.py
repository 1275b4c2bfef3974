"""Answers to the exercises of notebook 04 that a check once took for what they are not."""

import functools

import pytest
import torch

from course_utils import exercises, positions
from course_utils.engine.check import check
from course_utils.exercises.positions import shared


def _verdict(part: str, answer):
    return check(exercises.find(f"positions.{part}"), answer)


# --- counted too coarsely ------------------------------------------------------------------------


def _angles(dtype: torch.dtype, n_tokens: int, size: int, base: float) -> torch.Tensor:
    places = torch.arange(n_tokens, dtype=dtype)
    return places[:, None] * shared.frequencies(size, base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sinusoids_counted_in_half_precision_are_refused(dtype):
    def answer(n_tokens, d_model, base=10000.0):
        angles = _angles(dtype, n_tokens, d_model, base)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)

    verdict = _verdict("sinusoidal_positions", answer)
    assert (verdict.state, verdict.case) == ("wrong", "a long text, one frequency")


# --- kept from one call to the next --------------------------------------------------------------

KEYS = {
    "sinusoidal_positions": ("n_tokens", "d_model", "base"),
    "shift_matrix": ("k", "d_model", "base"),
}


def _kept_under(part: str, names: tuple[str, ...], copies: bool = True):
    """The reference, with its results kept under some of its arguments."""
    reference, kept = getattr(positions, part), {}

    @functools.wraps(reference)
    def answer(*places, **named):
        arguments = {"base": 10000.0} | dict(zip(KEYS[part], places, strict=False)) | named
        key = tuple(arguments[name] for name in names)
        if key not in kept:
            kept[key] = reference(**arguments)
        return kept[key].clone() if copies else kept[key]

    return answer


@pytest.mark.parametrize("part", KEYS)
@pytest.mark.parametrize("missing", range(3))
def test_what_is_kept_under_too_few_arguments_is_refused(part, missing):
    names = tuple(name for place, name in enumerate(KEYS[part]) if place != missing)
    verdict = _verdict(part, _kept_under(part, names))
    assert verdict.state == "wrong"
    assert verdict.case


@pytest.mark.parametrize("part", KEYS)
def test_a_kept_copy_is_right_but_not_the_kept_tensor_itself(part):
    assert _verdict(part, _kept_under(part, KEYS[part])).state == "right"
    verdict = _verdict(part, _kept_under(part, KEYS[part], copies=False))
    assert verdict.state == "wrong"
    assert "two calls give the same tensor" in verdict.headline


def test_places_kept_under_the_number_of_tokens_are_refused():
    kept: dict = {}

    def answer(n_query, n_key, table):
        places = torch.arange(n_query)[:, None] - torch.arange(n_key)
        reach = len(table) // 2
        return table[kept.setdefault((n_query, n_key), places.clamp(-reach, reach) + reach)]

    verdict = _verdict("relative_bias", answer)
    assert (verdict.state, verdict.case) == ("wrong", "the same tokens, another reach")


def test_a_rotation_kept_under_its_shape_is_refused():
    kept: dict = {}

    def answer(x, angles):
        return positions.apply_rope(x, kept.setdefault((angles.shape, angles.dtype), angles))

    verdict = _verdict("apply_rope", answer)
    assert (verdict.state, verdict.case) == ("wrong", "the same sentences, other angles")


def test_rows_kept_under_the_number_of_tokens_are_refused():
    kept: dict = {}

    def answer(x, positions):
        return x + kept.setdefault((x.shape[1:], x.dtype), positions[: x.shape[1]])

    verdict = _verdict("add_positions", answer)
    assert (verdict.state, verdict.case) == ("wrong", "the same sentences, other positions")


# --- as exact as what comes in -------------------------------------------------------------------


def _turned_in_float32(x, angles):
    return positions.apply_rope(x.float(), angles.float()).type_as(x)


def _turned_by_complex_numbers_of_float32(x, angles):
    """Llama's habit."""
    pairs = torch.stack(x.float().chunk(2, dim=-1), dim=-1).contiguous()
    turns = torch.polar(torch.ones_like(angles).float(), angles.float())
    turned = torch.view_as_real(torch.view_as_complex(pairs) * turns)
    return turned.transpose(-1, -2).flatten(-2).type_as(x)


def _with_cosines_of_float32(x, angles):
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.float().sin().to(x), angles.float().cos().to(x)
    halves = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(halves, dim=-1)


@pytest.mark.parametrize(
    "answer",
    [_turned_in_float32, _turned_by_complex_numbers_of_float32, _with_cosines_of_float32],
)
def test_a_rotation_in_float32_is_told_why_it_is_refused(answer):
    verdict = _verdict("apply_rope", answer)
    assert verdict.state == "wrong"
    assert "something on the way is float32" in verdict.headline
