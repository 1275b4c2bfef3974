"""sampling.min_p: who is far behind the best has to go."""

import math

import torch

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.min_p",
    used_by="`python -m course_utils sample` and the playground",
    hints=(
        "The threshold moves with the best token of the row: a sure model keeps few tokens, an "
        "unsure one many.",
        "Take the softmax. The threshold of a row is `share` times its largest probability.",
        "`probabilities.amax(-1, keepdim=True)` is the largest of every row, and `keepdim` lets it "
        "meet all tokens of the row.",
        "Mask the logits, not the probabilities: `logits.masked_fill(…, -math.inf)`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    normal = inputs.normal
    heights = torch.tensor([[9.0, 6.0, 3.0, 0.0], [2.0, 1.5, 1.0, -1.0], [-1.0, -4.0, -2.0, -1.2]])
    everything = (
        "A share of 0 keeps everything, even what softmax rounds to 0: a token at the threshold "
        "stays. `math.log(0)` is an error."
    )
    at_it = (
        "A token exactly at the threshold stays: with a share of 1 that is the best one, and "
        "whatever ties with it. Remove with `<`, not `<=`."
    )
    anywhere = (
        "Logits may lie anywhere, all below 0 or in the hundreds: probabilities are compared, and "
        "`softmax` subtracts the largest logit before its `exp`."
    )
    return shared.filter_cases(
        "min_p",
        shared.min_p_by_hand,
        "share",
        (
            ("four tokens", shared.SMALL, (0.4, 0.05), ""),
            ("a sure row and unsure ones", heights, (0.1, 0.3, 0.6), ""),
            ("everything", heights, (0.0,), everything),
            ("everything, however unlikely", shared.UNLIKELY, (0.0,), everything),
            ("the best alone", heights, (1.0,), at_it),
            ("two are best", torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]), (1.0, 0.5), at_it),
            ("rows that differ", 2 * normal(4, 9), (0.02, 0.2), ""),
            ("as many rows as tokens", 2 * normal(5, 5), (0.15,), ""),
            ("all below zero", -9 - normal(2, 6).abs(), (0.4,), anywhere),
            ("some are removed already", shared.REMOVED, (0.3,), shared.STAYS_REMOVED),
            ("large logits", 60 * normal(3, 6), (0.1,), anywhere),
            ("logits in the hundreds", 400 + 2 * normal(3, 6), (0.1,), anywhere),
            ("hundreds below zero", -400 + 2 * normal(3, 6), (0.1,), anywhere),
            ("a transposed view", 2 * normal(6, 2).T, (0.2,), points.OTHER_ORDER),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.2,), points.FLOAT64),
        ),
    )


@exercise.mistake("You compare with `share` itself. It is a share of the best token's probability.")
def absolute_threshold(logits, share):
    return logits.masked_fill(logits.softmax(-1) < share, -math.inf)


@exercise.mistake(
    "You compare with `share` itself, and save the best token. The threshold is `share` "
    "times the best one's probability."
)
def absolute_threshold_but_one(logits, share):
    weak = (logits.softmax(-1) < share) & (logits < logits.amax(-1, keepdim=True))
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake(
    "You multiply the best logit. Logits may be negative, and their zero means nothing: "
    "compare probabilities."
)
def logit_threshold(logits, share):
    return logits.masked_fill(logits < share * logits.amax(-1, keepdim=True), -math.inf)


@exercise.mistake(
    "You subtract `share` from the best logit. A share of a probability is a factor: in "
    "logits that would be the distance log(share)."
)
def logit_distance(logits, share):
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) - share, -math.inf)


@exercise.mistake(
    "You use the best probability of the whole batch. Every row has its own: axis -1."
)
def best_of_all_rows(logits, share):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.max(), -math.inf)


@exercise.mistake("You take a share of the mean. It is a share of the largest probability.")
def share_of_the_mean(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < share * probabilities.mean(-1, keepdim=True)
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake("You subtract `share` from the best probability. Multiply.")
def subtracts_the_share(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < probabilities.amax(-1, keepdim=True) - share
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake(
    "A token that has exactly the threshold stays. With a share of 1 that is the best one: "
    "yours removes it, and nothing is left. Use `<`."
)
def can_remove_everything(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities <= share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(weak, -math.inf)


@exercise.mistake("You keep the weak and remove the strong.")
def keeps_the_weak(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(~weak, -math.inf)


@exercise.mistake(
    "Your largest probabilities have lost an axis, so they meet tokens instead of rows. "
    "Use `keepdim=True`."
)
def forgot_keepdim(logits, share):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(-1), -math.inf)


@exercise.mistake("You add probabilities up, as top-p does. Min-p looks at every token alone.")
def sums_up(logits, share):
    return shared.top_p_by_hand(logits, 1 - share)


@exercise.mistake(shared.ZERO)
def zero_instead_of_minus_inf(logits, share):
    filtered = shared.min_p_by_hand(logits, share)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


@exercise.mistake(shared.LARGE_NUMBER)
def large_number(logits, share):
    return shared.min_p_by_hand(logits, share).clamp_min(-1e9)


@exercise.mistake(shared.PROBABILITIES)
def returns_probabilities(logits, share):
    return shared.min_p_by_hand(logits, share).softmax(-1)


@exercise.mistake(shared.IN_PLACE)
def in_place(logits, share):
    return logits.copy_(shared.min_p_by_hand(logits.detach().clone(), share))


@exercise.alternative
def min_p_by_distance(logits, share):
    """In logits a factor is a distance."""
    distance = math.log(share) if share else -math.inf
    return torch.where(logits >= logits.amax(-1, keepdim=True) + distance, logits, -math.inf)


@exercise.alternative
def min_p_in_plain_python(logits, share):
    rows = [
        [logit if math.exp(logit - max(row)) >= share else -math.inf for logit in row]
        for row in logits.tolist()
    ]
    return torch.tensor(rows, dtype=logits.dtype)


@exercise.alternative
def min_p_by_ratio(logits, share):
    ratio = (logits - logits.max(dim=-1, keepdim=True).values).exp()
    return logits.masked_fill(~(ratio >= share), float("-inf"))


@exercise.alternative
def min_p_by_writing(logits, share):
    p = torch.softmax(logits, dim=-1)
    filtered = logits.clone()
    filtered[p < share * p.max(dim=-1, keepdim=True)[0]] = -torch.inf
    return filtered
