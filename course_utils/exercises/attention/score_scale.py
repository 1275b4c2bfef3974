"""attention.score_scale: how far scores spread."""

import math

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.score_scale",
    used_by="`attention_weights`: it multiplies the scores with this number",
    hints=(
        "The product of two independent numbers with mean 0 has the variance var_q · var_k. What "
        "is the variance of a sum of `d_head` such products?",
        "Independent terms add their variances: d_head · var_q · var_k. Multiplying a number by c "
        "multiplies its variance by c².",
        "So c² times that variance must be 1. Solve for c; `math.sqrt` gives a plain number.",
    ),
)


def _scale_by_counting(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    """Count all outcomes where every entry of query and key is plus or minus its deviation.

    Then every product is plus or minus √(var_q var_k), each half of the time, and of the 2^d_head
    equally likely sums C(d_head, k) have k negative terms.
    """
    squares = sum(math.comb(d_head, k) * (d_head - 2 * k) ** 2 for k in range(d_head + 1))
    variance = squares / 2**d_head * var_q * var_k
    return variance**-0.5


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, *given: float, point: str = "") -> Case:
        arguments = dict(zip(("d_head", "var_q", "var_k"), given, strict=False))
        call = f"score_scale({', '.join(f'{name}={value}' for name, value in arguments.items())})"
        return Case(title, arguments, _scale_by_counting, shown=call, point=point)

    one_term = "There may be a single term: `d_head` is used as it is, and nothing is subtracted."
    no_square = "`d_head` need not be a square number: no rounding, as by `math.isqrt` or `//`."
    vary = (
        "`var_q` and `var_k` need not be 1. The variance of a product of two independent numbers "
        "with mean 0 is the product of their variances, and all of it stands under the root."
    )
    return [
        case("four terms", 4),
        case("sixteen terms", 16),
        case("sixty-four terms", 64),
        case("thirty-two terms", 32, point=no_square),
        case("not a square", 10, point=no_square),
        case("a single term", 1, point=one_term),
        case("queries vary more", 4, 9.0, 1.0, point=vary),
        case("keys vary less", 4, 1.0, 0.25, point=vary),
        case("both vary", 8, 4.0, 0.5, point=vary),
        case("one variance given", 32, 2.0, point=vary),
        case("both vary alike", 4, 3.0, 3.0, point=vary),
    ]


@exercise.mistake(
    "You divide by the variance of the score. A factor c multiplies a variance by c², so "
    "the scores would end with variance 1 / d_head. Take the square root."
)
def divides_by_d(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (d_head * var_q * var_k)


@exercise.mistake(
    "You divide by d_head, so the scores would end with variance 1 / d_head instead of 1. "
    "Take the square root, and put `var_q` and `var_k` in."
)
def divides_by_d_alone(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / d_head


@exercise.mistake(
    "Your number is the standard deviation of the score. Multiplying by it makes large "
    "scores larger. Return 1 divided by it."
)
def multiplies(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(d_head * var_q * var_k)


@exercise.mistake(
    "Your number is √d_head, the standard deviation of the score where queries and keys "
    "have variance 1. Return 1 divided by it, and put `var_q` and `var_k` in."
)
def multiplies_by_root_of_d(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(d_head)


@exercise.mistake(
    "You use `d_head` only. That is right where queries and keys have variance 1. Put "
    "`var_q` and `var_k` under the root as well."
)
def forgot_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / math.sqrt(d_head)


@exercise.mistake(
    "You divide by the variances themselves. They belong under the root, beside `d_head`: "
    "the root of a variance is a standard deviation."
)
def variances_outside_the_root(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (math.sqrt(d_head) * var_q * var_k)


@exercise.mistake(
    "Your number grows with the variances, so scores that vary much would be stretched "
    "further. Divide by √(var_q · var_k) as well as by √d_head."
)
def multiplies_by_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(var_q * var_k / d_head)


@exercise.mistake(
    "You add the two variances. Each term of the sum is a product of two independent "
    "numbers with mean 0, and its variance is the product of theirs."
)
def adds_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / math.sqrt(d_head * (var_q + var_k))


@exercise.mistake(
    "You take the mean of the two variances. Each term of the sum is a product of two independent "
    "numbers with mean 0, and its variance is the product of theirs."
)
def averages_variances(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / math.sqrt(d_head * (var_q + var_k) / 2)


@exercise.mistake(
    "Your number is what the scores are to be divided by: return 1 divided by it. And the "
    "variances belong under the root, beside `d_head`."
)
def divisor_with_variances_outside(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return math.sqrt(d_head) * var_q * var_k


@exercise.mistake(
    "`** -1 / 2` is the power -1, and half of that: `**` comes before `/`. Put the exponent in "
    "brackets, or write `** -0.5`."
)
def exponent_without_brackets(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (d_head * var_q * var_k) / 2


@exercise.mistake(
    "You return the variance of the score. Asked for is the factor that brings it to 1."
)
def variance_not_deviation(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return d_head * var_q * var_k


@exercise.mistake(
    "You return a tensor. Use `math.sqrt` instead of a function of torch, and the result "
    "is a plain number that fits tensors of every dtype."
)
def returns_a_tensor(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> Tensor:
    return torch.rsqrt(torch.tensor(d_head * var_q * var_k))


@exercise.alternative
def scale_as_a_power(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return (d_head * var_q * var_k) ** -0.5


@exercise.alternative
def scale_by_deviations(d_head: int, var_q: float = 1.0, var_k: float = 1.0) -> float:
    return 1 / (math.sqrt(var_q) * math.sqrt(var_k) * math.sqrt(d_head))
