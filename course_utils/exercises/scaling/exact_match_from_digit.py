"""scaling.exact_match_from_digit: all digits right at once."""

import math

import torch

from course_utils.exercises.exercise import Case, Exercise, Mistake

exercise = Exercise(
    "scaling.exact_match_from_digit",
    used_by="the curve that seems to jump, beside the one that does not",
    hints=(
        "Begin with two digits. The first is right with probability p, and of these cases the "
        "second is right in a share p.",
        "Each further digit multiplies by p once more.",
        "The product of n factors that are all p is a power. In Python a power is written with "
        "two stars.",
    ),
)


def _digit_by_digit(p: float, n_digits: int) -> float:
    return math.prod([p] * n_digits, start=1.0)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, p: float, n_digits: int) -> Case:
        call = f"exact_match_from_digit({p}, {n_digits})"
        return Case(title, {"p": p, "n_digits": n_digits}, _digit_by_digit, shown=call)

    return [
        case("every other digit right, three digits", 0.5, 3),
        case("nine of ten, ten digits", 0.9, 10),
        case("nine of ten, four digits", 0.9, 4),
        case("one digit", 0.7, 1),
        case("two digits", 0.3, 2),
        case("never right", 0.0, 5),
        case("always right", 1.0, 6),
        case("a long number", 0.999, 40),
        case("seldom right", 0.05, 6),
    ]


@exercise.mistake(
    "You subtract the chance of a mistake once for each digit. That is close to it while p "
    "is nearly 1; below, it becomes negative."
)
def linear(p, n_digits):
    return 1 - n_digits * (1 - p)


@exercise.mistake(
    "You subtract the chance of a mistake once for each digit, down to 0. Digits multiply: "
    "the chance becomes small, and is 0 only where p is."
)
def linear_above_zero(p, n_digits):
    return max(0.0, 1 - n_digits * (1 - p))


@exercise.mistake(
    "You add p for each digit: that is how many digits are right on average. For all of "
    "them to be right, multiply."
)
def times(p, n_digits):
    return p * n_digits


@exercise.mistake(
    "You return p. That is the share of digits that are right; a number is right only "
    "where all of its digits are."
)
def mean(p, n_digits):
    return p


@exercise.mistake("Yours is the chance that at least one digit is right. All of them must be.")
def one_minus(p, n_digits):
    return 1 - (1 - p) ** n_digits


@exercise.mistake("Yours is the chance that the number is wrong: 1 minus what is asked.")
def the_opposite(p, n_digits):
    return 1 - p**n_digits


@exercise.mistake("Yours is the chance that all digits are wrong. p is the chance to be right.")
def all_wrong(p, n_digits):
    return (1 - p) ** n_digits


@exercise.mistake(
    "You take a root. That is the way back, from numbers to digits: it makes the chance "
    "larger. More digits make it smaller."
)
def root(p, n_digits):
    return p ** (1 / n_digits)


@exercise.mistake(
    "You raise the number of digits to the power p. It is p that is multiplied with itself."
)
def base_and_power_swapped(p, n_digits):
    return float(n_digits) ** p


@exercise.mistake("You divide by the number of digits. Each digit multiplies by p.")
def divided(p, n_digits):
    return p / n_digits


@exercise.mistake("You multiply once too few: the first digit has to be right, too.")
def first_is_free(p, n_digits):
    return p ** (n_digits - 1)


@exercise.mistake("You multiply once too often: there are `n_digits` digits, and as many factors.")
def one_too_many(p, n_digits):
    return p ** (n_digits + 1)


@exercise.mistake(
    "Yours is the chance of `n_digits` right ones and then a wrong one. After the last "
    "digit comes nothing."
)
def then_a_wrong_one(p, n_digits):
    return p**n_digits * (1 - p)


@exercise.mistake("You give percent. A probability is between 0 and 1.")
def in_percent(p, n_digits):
    return 100 * p**n_digits


def _rounded(places):
    """The mistake to round to so many places."""
    return Mistake(
        f"rounded_to_{places}",
        "You round. Small chances then become 0, and a smooth curve seems to jump. Return the "
        "number as it is.",
        lambda p, n_digits: round(p**n_digits, places),
    )


exercise.mistakes += map(_rounded, (2, 3, 4, 6))


def _always(many):
    """The mistake to count so many digits, however many there are."""
    return Mistake(
        f"always_{many}_digits",
        f"You always count {many} digits. How many there are is given: `n_digits`.",
        lambda p, n_digits: p**many,
    )


exercise.mistakes += map(_always, (2, 4, 10))


@exercise.mistake("You take the logarithm of p. Where p is 0 there is none: the chance is 0 then.")
def logarithm_of_zero(p, n_digits):
    return math.exp(n_digits * math.log(p))


@exercise.mistake("You write `^`, which compares bits in Python. A power is written `**`.")
def caret(p, n_digits):
    return p ^ n_digits


@exercise.mistake(
    "You divide by the ten digits that there are. p is the chance of the right one already."
)
def guesses_among_ten(p, n_digits):
    return (p / 10) ** n_digits


@exercise.alternative
def by_power(p, n_digits):
    return math.pow(p, n_digits)


@exercise.alternative
def by_loop(p, n_digits):
    all_right = 1.0
    for _ in range(n_digits):
        all_right = all_right * p
    return all_right


@exercise.alternative
def by_logarithm(p, n_digits):
    return math.exp(n_digits * math.log(p)) if p > 0 else 0.0


@exercise.alternative
def by_tensor(p, n_digits):
    return torch.full((n_digits,), p, dtype=torch.float64).prod().item()
