"""sampling.top_k: the k best stay."""

import math

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.top_k",
    used_by="`python -m course_utils sample` and the playground",
    hints=(
        "Find the k-th best logit of every row. What is below it must go.",
        "`logits.topk(k).values` is sorted, the best first: its last column has the k-th best.",
        "Compare with `[:, -1:]`, which keeps an axis, and use `masked_fill(…, -math.inf)`.",
        "`topk` refuses a k above the vocabulary. `min(k, logits.shape[-1])` does not.",
    ),
)


def _top_k_by_hand(logits: Tensor, k: int) -> Tensor:
    """A token stays where fewer than k are better."""
    rows = logits.tolist()
    return shared.keep(
        logits,
        [[i for i, one in enumerate(row) if sum(map(one.__lt__, row)) < k] for row in rows],
    )


@exercise.cases
def cases() -> list[Case]:
    ties = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 5.0, 5.0]])
    normal = inputs.normal
    everything = (
        "A k that is the whole vocabulary or more keeps everything: `topk` refuses more than there "
        "are, `min(k, logits.shape[-1])` does not."
    )
    any_sign = "Logits may all be negative or all positive: 0 marks neither the best nor the rest."
    tie = (
        "Whatever ties with the k-th best stays, so a row may keep more than k: compare logits "
        "with the k-th. Above it, tokens that tie count one each, as they are not one token."
    )
    far = (
        "The logits themselves are compared: of logits far apart, softmax rounds all but the best "
        "to 0, and they seem to tie."
    )
    return shared.filter_cases(
        "top_k",
        _top_k_by_hand,
        "k",
        (
            ("four tokens", shared.SMALL, (2, 1, 3), ""),
            ("as many as there are", shared.SMALL, (4,), everything),
            ("more than there are", shared.SMALL, (5, 100), everything),
            ("rows that differ", normal(3, 8), (1, 3, 7), ""),
            ("as many rows as tokens", 3 * normal(5, 5), (2,), ""),
            ("all below zero", -1 - normal(2, 6).abs(), (2,), any_sign),
            ("all above zero", 1 + normal(2, 6).abs(), (2,), any_sign),
            ("some are equally good", ties, (1, 2, 3), tie),
            ("some are removed already", shared.REMOVED, (2, 4), shared.STAYS_REMOVED),
            ("a sure model", 300 * normal(2, 6), (4,), far),
            ("a transposed view", normal(6, 2).T, (3,), points.OTHER_ORDER),
            ("float64", normal(2, 6, dtype=torch.float64), (3,), points.FLOAT64),
        ),
    )


@exercise.mistake(
    "You keep the k worst tokens. `topk` gives the best; sorting goes up unless you say "
    "`descending=True`."
)
def keeps_k_smallest(logits, k):
    return -_top_k_by_hand(-logits, k).masked_fill(logits == -math.inf, math.inf)


@exercise.mistake(shared.ZERO)
def zero_instead_of_minus_inf(logits, k):
    return _top_k_by_hand(logits, k).masked_fill(_top_k_by_hand(logits, k) == -math.inf, 0.0)


@exercise.mistake(shared.LARGE_NUMBER)
def large_number(logits, k):
    return _top_k_by_hand(logits, k).clamp_min(-1e9)


@exercise.mistake(
    "Yours stops where k is above the number of tokens. It should keep all of them: "
    "`min(k, logits.shape[-1])`."
)
def k_over_vocab_error(logits, k):
    weakest = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < weakest, -math.inf)


@exercise.mistake(
    "Where several tokens are as good as the k-th, you keep some of them and drop others. "
    "Nothing but chance would tell them apart: keep whatever ties."
)
def drops_ties(logits, k):
    best = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -math.inf).scatter(-1, best.indices, best.values)


@exercise.mistake("You drop the k-th token itself. Only what is below it must go: `<`, not `<=`.")
def drops_the_last(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits <= weakest, -math.inf)


@exercise.mistake(
    "You keep k + 1 tokens. Sorted with the best in front, the k-th best stands at place k - 1. "
    "`kthvalue` counts from 1, and from below: there it is number `size - k + 1`."
)
def keeps_one_more(logits, k):
    return _top_k_by_hand(logits, k + 1)


@exercise.mistake(
    "You return k logits. Every token keeps its place: the shape stays the same, and what "
    "is removed becomes minus infinity."
)
def returns_k_logits(logits, k):
    return logits.topk(min(k, logits.shape[-1])).values


@exercise.mistake(
    "Your logits are sorted, so they belong to other tokens now. Find the threshold in the "
    "sorted ones and apply it to the logits themselves."
)
def not_scattered_back(logits, k):
    ordered = logits.sort(descending=True).values
    return ordered.masked_fill(torch.arange(logits.shape[-1]) >= k, -math.inf)


@exercise.mistake("You keep tokens number 0 to k - 1. Keep the k best.")
def first_k(logits, k):
    return logits.masked_fill(torch.arange(logits.shape[-1]) >= k, -math.inf)


@exercise.mistake("You use one threshold for all rows. Every row has its own k-th best.")
def one_threshold_for_all(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1].amin()
    return logits.masked_fill(logits < weakest, -math.inf)


@exercise.mistake("You choose along the batch. The vocabulary is the last axis.")
def along_the_batch(logits, k):
    return _top_k_by_hand(logits.T, k).T


@exercise.mistake(
    "Your threshold has lost its axis, so it meets tokens instead of rows: an error, or "
    "wrong tokens where the sizes fit. Use `[:, -1:]`."
)
def forgot_the_axis(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1]
    return logits.masked_fill(logits < weakest, -math.inf)


@exercise.mistake(shared.PROBABILITIES)
def returns_probabilities(logits, k):
    return _top_k_by_hand(logits, k).softmax(-1)


@exercise.mistake(shared.IN_PLACE)
def in_place(logits, k):
    return logits.copy_(_top_k_by_hand(logits.detach().clone(), k))


@exercise.alternative
def top_k_by_sorting(logits, k):
    ordered = logits.sort(dim=-1, descending=True).values
    threshold = ordered[:, min(k, ordered.shape[-1]) - 1, None]
    return torch.where(logits >= threshold, logits, float("-inf"))


@exercise.alternative
def top_k_by_kthvalue(logits, k):
    vocabulary = logits.shape[-1]
    place = max(vocabulary - k + 1, 1)
    threshold = logits.kthvalue(place, dim=-1, keepdim=True).values
    filtered = logits.clone()
    filtered[logits < threshold] = -torch.inf
    return filtered


@exercise.alternative
def top_k_in_plain_python(logits, k):
    rows = []
    for row in logits.tolist():
        weakest = sorted(row, reverse=True)[:k][-1]
        rows.append([logit if logit >= weakest else -math.inf for logit in row])
    return torch.tensor(rows, dtype=logits.dtype)


@exercise.alternative
def top_k_by_numpy(logits, k):
    weakest = np.sort(logits.numpy())[:, -k:][:, :1]
    return logits.where(torch.from_numpy(logits.numpy() >= weakest), -math.inf)


@exercise.alternative
def top_k_by_counting(logits, k):
    better = (logits[:, None, :] > logits[:, :, None]).sum(-1)
    return logits.masked_fill(better >= k, -math.inf)
