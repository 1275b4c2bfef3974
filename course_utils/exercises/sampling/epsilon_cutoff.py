"""sampling.epsilon_cutoff: who is less likely than epsilon has to go."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.epsilon_cutoff",
    used_by="the playground",
    hints=(
        "Take the softmax, and remove tokens whose probability is below epsilon.",
        "Where all tokens are below epsilon, nothing would be left, and softmax would give NaN. So "
        "the best token stays in any case, and whatever is as good.",
        "`logits == logits.amax(-1, keepdim=True)` is True at the best tokens of a row. A token "
        "goes if it is improbable and not the best: `&` and `~`.",
    ),
)


def _epsilon_by_hand(logits: Tensor, epsilon: float) -> Tensor:
    rows = [shared.softmax_of_row(row) for row in logits]
    return shared.keep(
        logits,
        [[i for i, one in enumerate(row) if one >= epsilon or one == max(row)] for row in rows],
    )


def _keeps_some_at_epsilon(part: Part, logits: Tensor) -> bool:
    """Whether a token that has just `epsilon` stays, in one row at least.

    Rounding decides in a row where `part` computes probabilities in another way than softmax does.
    Where it removes all of them, that is not rounding.
    """
    rows = logits.detach().split(1)
    filtered = [part(row, row.softmax(-1)[0, 0].item()) for row in rows]
    return any(row[0, 0].isfinite() for row in filtered)


@exercise.cases
def cases() -> list[Case]:
    normal = inputs.normal
    ties = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, -1.0]])
    at_epsilon = Case(
        "the first of five tokens has just epsilon, in 40 rows",
        {"logits": normal(40, 5) + torch.tensor([1.0, 0.0, 0.0, 0.0, 3.0])},
        lambda logits: True,
        _keeps_some_at_epsilon,
        "does epsilon_cutoff(row, p of its first token) keep that token, in any row?",
    )
    cases = shared.filter_cases(
        "epsilon_cutoff",
        _epsilon_by_hand,
        "epsilon",
        (
            ("four tokens", shared.SMALL, (0.2, 0.12)),
            ("more than any token has", shared.SMALL, (0.6, 0.99)),
            ("more than some rows have", 2 * normal(4, 9), (0.4,)),
            ("rows that differ", 2 * normal(4, 9), (0.02, 0.1)),
            ("everything", shared.SMALL, (0.0,)),
            ("everything, however unlikely", shared.UNLIKELY, (0.0,)),
            ("some are best together", ties, (0.3, 0.6)),
            ("as many rows as tokens", 2 * normal(5, 5), (0.12,)),
            ("all below zero", -9 - normal(2, 6).abs(), (0.15, 0.9)),
            ("some are removed already", shared.REMOVED, (0.2, 0.9)),
            ("a transposed view", 2 * normal(6, 2).T, (0.1,)),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.1, 0.95)),
        ),
    )
    return [*cases, at_epsilon]


@exercise.mistake(
    "Where no token has the probability epsilon, nothing is left, and softmax gives NaN. "
    "Keep the best token in any case."
)
def can_remove_everything(logits, epsilon):
    return logits.masked_fill(logits.softmax(-1) < epsilon, -math.inf)


@exercise.mistake(
    "You multiply epsilon with the best probability. That is min-p. Epsilon is a "
    "probability itself."
)
def share_of_the_best(logits, epsilon):
    return shared.min_p_by_hand(logits, epsilon)


@exercise.mistake("You compare logits with epsilon. It is a probability: take the softmax first.")
def logit_threshold(logits, epsilon):
    weak = (logits < epsilon) & (logits < logits.amax(-1, keepdim=True))
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake("You save the best token of the whole batch. Every row needs one: axis -1.")
def one_best_of_the_batch(logits, epsilon):
    weak = (logits.softmax(-1) < epsilon) & (logits < logits.max())
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake(
    "You look whether anything is left in the whole batch. One row may be empty while "
    "others are not: decide for every row."
)
def all_or_nothing(logits, epsilon):
    weak = logits.softmax(-1) < epsilon
    return logits.clone() if bool(weak.all()) else logits.masked_fill(weak, -math.inf)


@exercise.mistake(
    "Where no token reaches epsilon, you keep the whole row. Keep its best token only."
)
def row_stays_whole(logits, epsilon):
    weak = logits.softmax(-1) < epsilon
    return logits.masked_fill(weak & ~weak.all(-1, keepdim=True), -math.inf)


@exercise.mistake(
    "Where several tokens are best together, you save the first of them. Save all that are best."
)
def first_best_only(logits, epsilon):
    best = F.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
    return logits.masked_fill((logits.softmax(-1) < epsilon) & ~best, -math.inf)


@exercise.mistake(
    "A token whose probability is just `epsilon` stays, and yours removes it. What goes is below "
    "`epsilon`: `<`; what stays has `epsilon` or more: `>=`."
)
def drops_what_has_epsilon(logits, epsilon):
    best = logits == logits.amax(-1, keepdim=True)
    return logits.masked_fill((logits.softmax(-1) <= epsilon) & ~best, -math.inf)


@exercise.mistake("You remove the likely tokens.")
def removes_the_likely(logits, epsilon):
    return logits.masked_fill(logits.softmax(-1) >= epsilon, -math.inf)


@exercise.mistake(
    "You save the best token and remove the other likely ones. Turn the comparison around."
)
def removes_the_likely_but_one(logits, epsilon):
    best = logits == logits.amax(-1, keepdim=True)
    return logits.masked_fill((logits.softmax(-1) > epsilon) & ~best, -math.inf)


@exercise.mistake("You add probabilities up, as top-p does. Epsilon looks at every token alone.")
def adds_up(logits, epsilon):
    return shared.top_p_by_hand(logits, 1 - epsilon)


@exercise.mistake(shared.ZERO)
def zero_instead_of_minus_inf(logits, epsilon):
    filtered = _epsilon_by_hand(logits, epsilon)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


@exercise.mistake(shared.LARGE_NUMBER)
def large_number(logits, epsilon):
    return _epsilon_by_hand(logits, epsilon).clamp_min(-1e9)


@exercise.mistake(shared.PROBABILITIES)
def returns_probabilities(logits, epsilon):
    return _epsilon_by_hand(logits, epsilon).softmax(-1)


@exercise.mistake(shared.IN_PLACE)
def in_place(logits, epsilon):
    return logits.copy_(_epsilon_by_hand(logits.detach().clone(), epsilon))


@exercise.alternative
def epsilon_by_where(logits, epsilon):
    p = logits.softmax(-1)
    keep = (p >= epsilon) | (logits == logits.max(-1, keepdim=True).values)
    return torch.where(keep, logits, -math.inf)


@exercise.alternative
def epsilon_by_lower_threshold(logits, epsilon):
    """Where the best token has less than epsilon, its own probability is the threshold."""
    p = logits.softmax(-1)
    return logits.masked_fill(p < p.amax(-1, keepdim=True).clamp_max(epsilon), -math.inf)


@exercise.alternative
def epsilon_in_float64(logits, epsilon):
    p = logits.double().softmax(-1)
    return logits.where((p >= epsilon) | (p == p.amax(-1, keepdim=True)), -math.inf)


@exercise.alternative
def epsilon_in_plain_python(logits, epsilon):
    def row_of(row):
        weights = [math.exp(logit - max(row)) for logit in row]
        threshold = min(epsilon * sum(weights), max(weights))
        pairs = zip(row, weights, strict=True)
        return [logit if weight >= threshold else -math.inf for logit, weight in pairs]

    return torch.tensor([row_of(row) for row in logits.tolist()], dtype=logits.dtype)


@exercise.alternative
def epsilon_by_log(logits, epsilon):
    log_p = logits.log_softmax(-1)
    threshold = math.log(epsilon) if epsilon else -math.inf
    keep = (log_p >= threshold) | (log_p >= log_p.amax(-1, keepdim=True))
    return logits.masked_fill(keep.logical_not(), -torch.inf)
