"""positions.shift_matrix: a step to the side is a rotation."""

import math

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.positions import shared

exercise = Exercise(
    "positions.shift_matrix",
    used_by="the experiments of this notebook: the head that looks at the previous token",
    hints=(
        "Moving on by k tokens turns hand i by k times its frequency. All hands turn at the same "
        "time, and none cares about the others.",
        "For one hand, with a = k * frequency: sin(x + a) = sin x cos a + cos x sin a, and "
        "cos(x + a) = cos x cos a - sin x sin a.",
        "A row [sin x, cos x] times [[cos a, -sin a], [sin a, cos a]] gives both. So the matrix "
        "has such blocks of two on its diagonal and 0 elsewhere.",
        "`torch.block_diag(*blocks)` puts [d_model/2, 2, 2] blocks on a diagonal. A loop that "
        "writes the four entries of each block is fine as well.",
    ),
)


def _exponential_of_k_steps(k: int, d_model: int, base: float = 10000.0) -> Tensor:
    """The exponential of a matrix that says in which direction each pair of features moves."""
    step = torch.zeros(d_model, d_model, dtype=torch.float64)
    for sine in range(0, d_model, 2):
        frequency = base ** (-sine / d_model)
        step[sine, sine + 1], step[sine + 1, sine] = -frequency, frequency
    return torch.matrix_exp(k * step).float()


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, k: int, d_model: int, point: str = "", **base: float) -> Case:
        arguments = {"k": k, "d_model": d_model, **base}
        return shared.case_of_numbers(
            exercise.name, _exponential_of_k_steps, title, arguments, point
        )

    steps = (
        "The angle of a pair is `k` times its frequency: it grows with `k`, however far, and for "
        "k = 0 nothing turns."
    )
    back = (
        "`k` may be negative: then the matrix moves back. A loop over `range(k)` does nothing "
        "there, and `abs(k)` moves on."
    )
    one_pair = "With two features there is a single pair: the matrix is one block of two by two."
    return [
        case("one token on, two frequencies", 1, 4, base=100.0),
        case("the same, the usual base", 1, 4),
        case("more features", 1, 8),
        case("another base", 1, 10, base=50.0),
        case("two tokens on", 2, 4, steps),
        case("three tokens on", 3, 8, steps),
        case("not at all", 0, 6, steps),
        case("far", 30, 12, steps),
        case("back", -2, 6, back),
        case("one token back", -1, 4, back),
        case("one frequency", 1, 2, one_pair),
    ]


@exercise.holds
def _gives_a_new_tensor(part: Part) -> None:
    shared.gives_a_new_tensor(part, 3, 8)


def _rotations(sines: Tensor, cosines: Tensor) -> Tensor:
    """Blocks that turn a row of a sine and a cosine on."""
    blocks = torch.stack((cosines, -sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*blocks)


@exercise.mistake(
    "Your matrix moves back by k, not on: it is the transposed one. A row is multiplied "
    "from the left, positions[t] @ matrix, so the minus stands in the upper right of each "
    "block."
)
def rotates_wrong_way(k, d_model, base=10000.0):
    angles = k * shared.frequencies(d_model, base)
    return _rotations(-angles.sin(), angles.cos())


@exercise.mistake(
    "You turn all pairs by the same angle. Every pair has its own frequency: pair i turns "
    "by k * base^(-2i / d_model)."
)
def one_frequency_for_all(k, d_model, base=10000.0):
    angles = k * torch.ones(d_model // 2)
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "You add `k`. Positions are sines and cosines, and those do not move on by adding: "
    "each pair has to be turned."
)
def adds_constant(k, d_model, base=10000.0):
    return torch.eye(d_model) + k


@exercise.mistake(
    "Your matrix moves numbers to other features. Moving on by k tokens leaves them where "
    "they are: each pair of features is turned in its place."
)
def moves_features(k, d_model, base=10000.0):
    return torch.eye(d_model).roll(k, dims=1)


@exercise.mistake(
    "Your matrix moves on by one token, whatever `k` is. Pair i turns by `k` times its frequency."
)
def k_ignored(k, d_model, base=10000.0):
    angles = shared.frequencies(d_model, base)
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "You use 10000 where it should say `base`. The matrix must turn as fast as the "
    "positions it is made for."
)
def base_ignored(k, d_model, base=10000.0):
    angles = k * shared.frequencies(d_model, 10000.0)
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "Your exponent is i / d_model, and it should be 2i / d_model, as in `sinusoidal_positions`."
)
def exponent_i_over_d(k, d_model, base=10000.0):
    angles = k * base ** (-torch.arange(d_model // 2) / d_model)
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "Your matrix fits positions with all sines first and then all cosines, a legal other "
    "layout. Here they take turns: each pair of neighbours has a block of two by two."
)
def blocks(k, d_model, base=10000.0):
    angles = k * shared.frequencies(d_model, base)
    sines, cosines = angles.sin().diag(), angles.cos().diag()
    return torch.cat((torch.cat((cosines, -sines), 1), torch.cat((sines, cosines), 1)))


@exercise.mistake(
    "A minus is missing, so your blocks do not turn, they stretch. In cos(x + a) = cos x "
    "cos a - sin x sin a one sign differs: it belongs in the upper right of each block."
)
def forgot_minus(k, d_model, base=10000.0):
    angles = k * shared.frequencies(d_model, base)
    sines, cosines = angles.sin(), angles.cos()
    blocks = torch.stack((cosines, sines, sines, cosines), dim=-1).unflatten(-1, (2, 2))
    return torch.block_diag(*blocks)


@exercise.mistake(
    "Your side diagonals are full, so the cosine of one pair is mixed with the sine of the next. "
    "Between two pairs there must be zeros: every second entry beside the diagonal."
)
def pairs_are_mixed(k, d_model, base=10000.0):
    angles = (k * shared.frequencies(d_model, base)).repeat_interleave(2)
    beside = angles.sin()[:-1]
    return torch.diag(angles.cos()) + torch.diag(beside, -1) - torch.diag(beside, 1)


@exercise.mistake(
    "You raise the frequency to the power `k`, so hands grow slower with every step. The angle is "
    "`k` times the frequency: k * base^(-2i / d_model)."
)
def k_in_the_exponent(k, d_model, base=10000.0):
    angles = base ** (-k * (torch.arange(0, d_model, 2) / d_model))
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "`//` cuts the exponent down to a whole number, so all hands but the first turn alike. Divide "
    "with `/`."
)
def exponent_cut_down(k, d_model, base=10000.0):
    angles = k * base ** (-torch.arange(0, d_model, 2) // d_model).float()
    return _rotations(angles.sin(), angles.cos())


@exercise.mistake(
    "Two things: your matrix moves back by k, not on, so the minus belongs in the upper right of "
    "each block. And you use 10000 where it should say `base`."
)
def back_and_base_ignored(k, d_model, base=10000.0):
    angles = k * shared.frequencies(d_model, 10000.0)
    return _rotations(-angles.sin(), angles.cos())


@exercise.mistake(
    "Your numbers are right, but they are float64: NumPy computes so, and `.double()` does. The "
    "positions are float32, and so should the matrix be: `.float()` at the end."
)
def stays_float64(k, d_model, base=10000.0):
    return _exponential_of_k_steps(k, d_model, base).double()


@exercise.alternative
def shift_by_writing_entries(k, d_model, base=10000.0):
    matrix = torch.zeros(d_model, d_model)
    for i in range(d_model // 2):
        angle = k / base ** (2 * i / d_model)
        matrix[2 * i, 2 * i] = matrix[2 * i + 1, 2 * i + 1] = math.cos(angle)
        matrix[2 * i + 1, 2 * i] = math.sin(angle)
        matrix[2 * i, 2 * i + 1] = -math.sin(angle)
    return matrix


@exercise.alternative
def shift_by_powers(k, d_model, base=10000.0):
    """One step, k times."""
    angles = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    return torch.linalg.matrix_power(_rotations(angles.sin(), angles.cos()), k).float()


@exercise.alternative
def shift_by_diagonals(k, d_model, base=10000.0):
    angles = (k * shared.frequencies(d_model, base)).repeat_interleave(2)
    beside = angles.sin()[:-1] * (torch.arange(d_model - 1) % 2 == 0)
    return torch.diag(angles.cos()) + torch.diag(beside, -1) - torch.diag(beside, 1)
