"""positions.apply_rope: pairs of features are turned."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "positions.apply_rope",
    used_by="`RotaryAttention`, for queries and for keys",
    hints=(
        "A pair is a point in the plane: its first number is x[…, i], its second "
        "x[…, i + d_head/2]. Turn the point by its angle; its distance from 0 stays.",
        "Turning (a, b) by an angle gives (a cos - b sin, b cos + a sin).",
        "`first, second = x.chunk(2, dim=-1)` gives all first and all second numbers, and "
        "`angles` fits both: [tokens, d_head/2].",
        "Compute both halves from the old ones, then put them behind each other: "
        "`torch.cat((…, …), dim=-1)`.",
    ),
)


def _turned_as_complex_numbers(x: Tensor, angles: Tensor) -> Tensor:
    """A pair is a complex number. Times exp(i a), it is turned by the angle a.

    The angles are not learned, so nothing asks for their gradient.
    """
    first, second = x.double().chunk(2, dim=-1)
    angles = angles.detach().double()
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, angles: Tensor, point: str = "") -> Case:
        return Case(title, {"x": x, "angles": angles}, _turned_as_complex_numbers, point=point)

    def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=dtype)

    def angles(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return 2 * random(*shape, seed=1, dtype=dtype)

    vectors = torch.tensor([[1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 3.0, 5.0]])
    quarter = math.pi / 2
    turns = torch.tensor([[0.0, 0.0], [quarter, -2 * quarter]])
    half = torch.bfloat16
    view = random(5, 3, 4).transpose(0, 1)
    any_axes = (
        "Rows of `angles` belong to the tokens, the last axis but one of `x`, whatever stands "
        "before it: sentences, heads, or nothing. As they are, they broadcast."
    )
    one_pair = "There may be one pair of features: `angles` then has a single column."
    of_one, other_order = points.AXIS_OF_ONE, points.OTHER_ORDER
    return [
        case("the second token: a quarter of a turn, half a turn back", vectors, turns),
        case("a batch of sentences", random(2, 3, 8), angles(3, 4)),
        case("the same sentences, other angles", random(2, 3, 8), -angles(3, 4)),
        case("a batch with heads", random(2, 3, 5, 6), angles(5, 3), any_axes),
        case("as many heads as tokens", random(2, 4, 4, 6), angles(4, 3), any_axes),
        case("no batch at all", random(5, 6), angles(5, 3), any_axes),
        case("as many tokens as pairs", random(2, 3, 6), angles(3, 3), points.EQUAL_SIZES),
        case("as many sentences as tokens", random(4, 4, 6), angles(4, 3), points.EQUAL_SIZES),
        case("one pair", random(3, 4, 2), angles(4, 1), one_pair),
        case("one token", random(3, 1, 6), angles(1, 3), of_one),
        case("one sentence", random(1, 4, 6), angles(4, 3), of_one),
        case("a view with two axes swapped", view, angles(5, 2), other_order),
        case("transposed views", random(2, 6, 5).mT, angles(3, 5).T, other_order),
        case("bfloat16", random(2, 5, 6, dtype=half), angles(5, 3, dtype=half), points.SAME_DTYPE),
    ]


@exercise.holds
def _keeps_the_digits_of_float64(part: Part) -> None:
    x, angles = (inputs.normal(5, size, dtype=torch.float64) for size in (6, 3))
    seen, wanted = part(x, angles), _turned_as_complex_numbers(x, angles)
    if seen.dtype != x.dtype or not torch.allclose(seen, wanted, rtol=1e-8, atol=1e-9):
        raise Wrong(
            "Your numbers are right in float32, but float64 does not come back as exact as it "
            "came: something on the way is float32. Compute in the dtype of `x`, or in the wider "
            "of the two: `torch.promote_types(x.dtype, torch.float32)`."
        )


def _turn(halves: Sequence[Tensor], angles: Tensor) -> tuple[Tensor, Tensor]:
    first, second = halves
    sines, cosines = angles.sin(), angles.cos()
    return first * cosines - second * sines, second * cosines + first * sines


@exercise.mistake(
    "You turn neighbours together, features 2i and 2i + 1. It is another legal layout, the "
    "paper's own. Here feature i belongs to feature i + d_head/2, as in the weights that "
    "we load later: `x.chunk(2, dim=-1)`."
)
def interleaved_pairs(x, angles):
    return torch.stack(_turn((x[..., ::2], x[..., 1::2]), angles), dim=-1).flatten(-2)


@exercise.mistake(
    "You turn the other way. Scores would be the same, since queries and keys both turn, "
    "but weights of other models would not fit. The new first half is "
    "first * cos - second * sin."
)
def wrong_sign(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), -angles), dim=-1)


@exercise.mistake(
    "You turn by twice the angle. Is it applied two times, or multiplied by 2 once more?"
)
def angle_doubled(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), 2 * angles), dim=-1)


@exercise.mistake(
    "Your second line reads the first half that your first line has just turned. Both "
    "halves are made from the old ones: give the new ones other names."
)
def second_reads_turned_first(x, angles):
    first, second = x.chunk(2, dim=-1)
    first = first * angles.cos() - second * angles.sin()
    second = second * angles.cos() + first * angles.sin()
    return torch.cat((first, second), dim=-1)


@exercise.mistake(
    "A minus is missing, so the pairs are stretched and not turned. The new first half is "
    "first * cos - second * sin."
)
def no_minus(x, angles):
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines + second * sines, second * cosines + first * sines), dim=-1)


@exercise.mistake(
    "One minus too many: the second half gets a plus, second * cos + first * sin. With two "
    "minuses lengths change, so it is no rotation."
)
def two_minuses(x, angles):
    first, second = x.chunk(2, dim=-1)
    sines, cosines = angles.sin(), angles.cos()
    return torch.cat((first * cosines - second * sines, second * cosines - first * sines), dim=-1)


@exercise.mistake(
    "Sine and cosine have changed places, so an angle of 0 already turns. At place 0 the "
    "vector must stay what it is: cos 0 = 1 belongs to the number itself."
)
def sine_and_cosine_swapped(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), math.pi / 2 - angles), dim=-1)


@exercise.mistake(
    "You take the pairs apart as halves but join them as neighbours, so features change "
    "places. Put the halves behind each other again: `torch.cat`."
)
def joined_as_neighbours(x, angles):
    return torch.stack(_turn(x.chunk(2, dim=-1), angles), dim=-1).flatten(-2)


@exercise.mistake(
    "You take neighbours as pairs but put the result back as halves, so features change "
    "places. Take halves as well: `x.chunk(2, dim=-1)`."
)
def taken_as_neighbours(x, angles):
    return torch.cat(_turn((x[..., ::2], x[..., 1::2]), angles), dim=-1)


@exercise.mistake(
    "You cut the tokens in two, and so pair features of different tokens. Cut the "
    "features: `dim=-1`."
)
def turns_tokens(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-2), angles), dim=-2)


@exercise.mistake(
    "Your angles have the shape [tokens, 1, d_head/2], so with heads they go along the "
    "heads. Rows of `angles` belong to tokens, the last axis but one of `x`: use them as "
    "they are."
)
def angles_along_heads(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), angles[:, None]), dim=-1)


@exercise.mistake(
    "You turn all pairs by the angle of pair 0. Every pair has a column of its own in `angles`."
)
def first_angle_for_all(x, angles):
    return torch.cat(_turn(x.chunk(2, dim=-1), angles[:, :1]), dim=-1)


@exercise.mistake(
    "`repeat_interleave` gives neighbours the same angle, but a pair is feature i and feature "
    "i + d_head/2. Put the angles behind each other twice: `torch.cat((angles, angles), dim=-1)`."
)
def angles_for_neighbours(x, angles):
    first, second = x.chunk(2, dim=-1)
    each = angles.repeat_interleave(2, dim=-1)
    return x * each.cos() + torch.cat((-second, first), dim=-1) * each.sin()


@exercise.mistake(
    "You add the angles to the features. Turning keeps the length of every pair; use the "
    "cosine and the sine of the angles."
)
def adds_the_angles(x, angles):
    return x + torch.cat((angles, angles), dim=-1)


@exercise.alternative
def turned_by_complex_product(x, angles):
    pairs = torch.stack(x.double().chunk(2, dim=-1), dim=-1)
    rotation = torch.view_as_complex(torch.stack((angles.cos(), angles.sin()), dim=-1).double())
    turned = torch.view_as_real(torch.view_as_complex(pairs) * rotation)
    return turned.transpose(-1, -2).flatten(-2).type_as(x)


@exercise.alternative
def turned_in_float32_at_least(x, angles):
    """As Llama does in half precision, and as exact as `x` where that is more."""
    wide = torch.promote_types(x.dtype, torch.float32)
    turned = torch.cat(_turn(x.to(wide).chunk(2, dim=-1), angles.to(wide)), dim=-1)
    return turned.type_as(x)


@exercise.alternative
def turned_by_matrices(x, angles):
    sines, cosines = angles.sin(), angles.cos()
    matrices = torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    pairs = x.unflatten(-1, (2, -1))
    return torch.einsum("tpij,...tjp->...tip", matrices, pairs).flatten(-2)


@exercise.alternative
def turned_with_rotate_half(x, angles):
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    both = torch.cat((angles, angles), dim=-1)
    return x * both.cos() + rotated * both.sin()


@exercise.alternative
def turned_by_writing(x, angles):
    turned, half = torch.empty_like(x), angles.shape[-1]
    turned[..., :half] = x[..., :half] * angles.cos() - x[..., half:] * angles.sin()
    turned[..., half:] = x[..., :half] * angles.sin() + x[..., half:] * angles.cos()
    return turned
