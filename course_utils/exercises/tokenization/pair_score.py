"""tokenization.pair_score: how much oftener than by chance."""

import math
from fractions import Fraction

import numpy as np

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "tokenization.pair_score",
    used_by="`tokenization.train_wordpiece`, which merges the pair with the best score",
    hints=(
        "The more often the pair, the better; the more often either symbol, the worse.",
        "Divide the count of the pair by what the counts of its two symbols give when they are "
        "multiplied.",
        "`a / b * c` multiplies by c. Put the product in brackets: "
        "`pair_count / (left_count * right_count)`.",
    ),
)


def _as_fraction(pair_count, left_count, right_count):
    return float(Fraction(pair_count, left_count) / right_count)


@exercise.cases
def cases() -> list[Case]:
    small = (
        "A score is a quotient of counts, and most are far below 1: divide with `/`, and round "
        "nothing."
    )
    rare = (
        "A pair that occurs once scores as high as can be where its two symbols occur once, too: "
        "frequent pairs of frequent symbols stand behind it."
    )
    never = "A pair that never occurs has the score 0."
    sides = "Both symbols count: the left one as much as the right one."
    given = (
        ("counts of three", (20, 36, 45), ""),
        ("a frequent pair", (15, 17, 20), ""),
        ("one symbol is more frequent", (5, 5, 70), sides),
        ("the other one is", (5, 70, 5), sides),
        ("only seen together", (1, 1, 1), rare),
        ("seldom, but always together", (3, 3, 3), rare),
        ("a pair of one symbol", (6, 4, 4), ""),
        ("rare in a large text", (2, 3100, 90_000), small),
        ("more than one", (7, 2, 3), small),
        ("never", (0, 12, 5), never),
        ("large counts", (1_234_567, 20_000_003, 3_456_789), small),
        ("right twice the left", (4, 6, 12), sides),
    )
    names = ("pair_count", "left_count", "right_count")
    return [
        Case(title, dict(zip(names, counts, strict=True)), _as_fraction, point=point)
        for title, counts, point in given
    ]


@exercise.mistake(
    "You return the count of the pair. That is what BPE merges by; WordPiece divides it by the "
    "product of the counts of both symbols."
)
def frequency_only(pair_count, left_count, right_count):
    return float(pair_count)


@exercise.mistake(
    "You divide by the count of the left symbol alone. Divide by the product of both: else what "
    "goes with everything on its right looks special."
)
def product_forgotten(pair_count, left_count, right_count):
    return pair_count / left_count


@exercise.mistake(
    "You divide by the count of the right symbol alone. Divide by the product of both: else what "
    "goes with everything on its left looks special."
)
def left_forgotten(pair_count, left_count, right_count):
    return pair_count / right_count


@exercise.mistake(
    "You divide by the sum of the two counts. It is their product that says how often the two "
    "would meet by chance."
)
def divides_by_the_sum(pair_count, left_count, right_count):
    return pair_count / (left_count + right_count)


@exercise.mistake(
    "You divide by the left count and multiply by the right one: Python goes from left to right. "
    "Put the product in brackets."
)
def brackets_forgotten(pair_count, left_count, right_count):
    return pair_count / left_count * right_count


@exercise.mistake(
    "You multiply the score by the pair's count, and take a logarithm: what the likelihood gains "
    "by the merge, but for the size of the text. That is a better score, but not the formula asked."
)
def log_likelihood_gain(pair_count, left_count, right_count):
    score = pair_count / (left_count * right_count)
    return pair_count * math.log(score) if score else 0.0


@exercise.mistake(
    "You take the logarithm. The order of the pairs is the same, but the score is asked without."
)
def logarithm(pair_count, left_count, right_count):
    score = pair_count / (left_count * right_count)
    return math.log(score) if score else -math.inf


@exercise.mistake(
    "You divide by the root of the product, as a cosine does. Frequent pairs score higher so. "
    "Divide by the product itself."
)
def root_of_the_product(pair_count, left_count, right_count):
    return pair_count / math.sqrt(left_count * right_count)


@exercise.mistake("`//` rounds down, and nearly every score becomes 0. Divide with `/`.")
def whole_numbers(pair_count, left_count, right_count):
    return float(pair_count // (left_count * right_count))


@exercise.mistake("You have it upside down: the count of the pair stands above the line.")
def upside_down(pair_count, left_count, right_count):
    return left_count * right_count / pair_count if pair_count else math.inf


@exercise.alternative
def one_after_the_other(pair_count, left_count, right_count):
    share = pair_count / left_count
    return share / right_count


@exercise.alternative
def by_powers(pair_count, left_count, right_count):
    return pair_count * left_count**-1.0 * right_count**-1.0


@exercise.alternative
def by_numpy(pair_count, left_count, right_count):
    return np.true_divide(pair_count, np.prod([float(left_count), float(right_count)]))


@exercise.alternative
def by_logarithms(pair_count, left_count, right_count):
    if pair_count == 0:
        return 0.0
    return math.exp(math.log(pair_count) - math.log(left_count) - math.log(right_count))
