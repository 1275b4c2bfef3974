"""sampling.entropy: how undecided a model is."""

import math

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.entropy",
    used_by="the colours of a text and the bars of the playground",
    hints=(
        "For each token, its probability times -log of its probability; then the sum over the "
        "vocabulary, the last axis.",
        "`logits.log_softmax(-1)` gives log p without overflow, and its `exp()` gives p.",
        "A removed token has p = 0 and log p = -∞, and 0 · ∞ is NaN. Make its log p a finite "
        "number first: `clamp_min` or `masked_fill`.",
    ),
)

UNEVEN = torch.tensor(
    [[False, False, False, True], [True, True, False, True], [True] * 3 + [False]]
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, logits: Tensor, point: str = "") -> Case:
        oracle, use = torch.no_grad()(entropy_by_torch), shared.numbers_alone
        return Case(title, {"logits": logits}, oracle, use, "entropy(logits)", point=point)

    normal = inputs.normal
    removed = normal(3, 6).masked_fill(~inputs.boolean(3, 6), -math.inf)
    nothing = (
        "A removed token (minus infinity) adds nothing, and rows may lose different numbers of "
        "them: 0 · log 0 is NaN, so make its logarithm finite, or leave its product out."
    )
    any_axes = (
        "The vocabulary is the last axis, -1, whatever axes stand before it: none, or several."
    )
    each_counts = (
        "Every probability keeps its own logarithm: what is added inside it, or a limit, shows "
        "where there are many small ones."
    )
    anywhere = (
        "Logits may be in the hundreds, above 0 or below: their `exp` is infinite or 0. `softmax` "
        "and `log_softmax` subtract the largest first."
    )
    return [
        case("surer and less sure", torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, -1.0]])),
        case("no idea: all alike", torch.full((2, 5), 3.0)),
        case("quite sure", torch.tensor([[20.0, 0.0, 1.0], [0.0, 1.0, 12.0]])),
        case("as many rows as tokens", 2 * normal(4, 4)),
        case("removed tokens", removed, nothing),
        case("other numbers removed", normal(3, 4).masked_fill(UNEVEN, -math.inf), nothing),
        case("one token left", torch.tensor([[-math.inf, 0.5, -math.inf]]), nothing),
        case("one row", 2 * normal(7), any_axes),
        case("rows of rows", 2 * normal(2, 3, 5), any_axes),
        case("a large vocabulary", normal(2, 300), each_counts),
        case("large logits", 100 * normal(3, 6) + 500, anywhere),
        case("logits far below 0", 2 * normal(3, 6) - 300, anywhere),
        case("a transposed view", normal(5, 3).T, points.OTHER_ORDER),
        case("float64", 2 * normal(3, 6, dtype=torch.float64), points.FLOAT64),
    ]


@exercise.mistake(
    "A removed token has probability 0, and 0 · log 0 is NaN here. It should add nothing: "
    "make its logarithm finite before you multiply."
)
def nan_at_removed(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).sum(-1)


@exercise.mistake(
    "The small number that you add inside the logarithm changes all results. Replace only "
    "the logarithm of 0, with `clamp_min` or `masked_fill`."
)
def small_number_in_the_log(logits):
    p = logits.softmax(-1)
    return -(p * (p + 1e-3).log()).sum(-1)


@exercise.mistake("Yours is negative. log p is never above 0, so the entropy is minus the sum.")
def forgot_the_minus(logits):
    return -entropy_by_torch(logits)


@exercise.mistake(
    "Yours is in bits, with the logarithm to base 2. This course counts in nats: `log`."
)
def log_base_2_mix(logits):
    return entropy_by_torch(logits) / math.log(2)


@exercise.mistake(
    "You average over the vocabulary. The probabilities are the weights already, so the "
    "entropy is the sum."
)
def mean_instead_of_sum(logits):
    return entropy_by_torch(logits) / logits.shape[-1]


@exercise.mistake(
    "You divide by log V. That is the share of the largest entropy; here it is in nats."
)
def share_of_the_largest(logits):
    return entropy_by_torch(logits) / math.log(logits.shape[-1])


@exercise.mistake("You average over the rows. Every row has an entropy of its own.")
def one_number_for_all(logits):
    return entropy_by_torch(logits).mean()


@exercise.mistake("You go along the first axis. The vocabulary is the last one: -1.")
def along_the_first_axis(logits):
    return entropy_by_torch(logits.movedim(0, -1))


@exercise.mistake(
    "You return exp of the entropy: how many equal choices that would be. Leave `exp` out."
)
def perplexity_of_itself(logits):
    return entropy_by_torch(logits).exp()


@exercise.mistake("You weigh the logits. They are log p only up to a constant: use `log_softmax`.")
def log_of_the_logits(logits):
    return -(logits.softmax(-1) * logits.clamp_min(-1e9)).sum(-1)


@exercise.mistake(
    "You return -log p of the best token. The entropy is the mean of that over all tokens, "
    "weighted with their probabilities."
)
def surprise_at_the_best(logits):
    return -logits.log_softmax(-1).amax(-1)


@exercise.mistake(
    "You average -log p over the vocabulary. Likely tokens count more: weigh each with p."
)
def every_token_counts_alike(logits):
    return -logits.log_softmax(-1).mean(-1)


@exercise.mistake(
    "`exp` of a large logit is infinite. `softmax` and `log_softmax` subtract the largest "
    "one first."
)
def overflows(logits):
    total = logits.exp().sum(-1, keepdim=True)
    p = logits.exp() / total
    return -torch.where(p > 0, p * (logits - total.log()), 0 * p).sum(-1)


@exercise.alternative
def entropy_by_torch(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits).entropy()


@exercise.alternative
def entropy_by_entr(logits):
    """torch's own -p log p. Its gradient is NaN where p is 0."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


@exercise.alternative
def entropy_by_nansum(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).nansum(-1)


@exercise.alternative
def entropy_by_numpy(logits):
    p = logits.softmax(-1).numpy()
    surprise = -np.log(p, out=np.zeros_like(p), where=p > 0)
    return torch.from_numpy(np.asarray((p * surprise).sum(-1)))


@exercise.alternative
def entropy_by_where(logits):
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0.0)).sum(-1)


@exercise.alternative
def entropy_by_logsumexp(logits):
    kept = logits.masked_fill(logits == -math.inf, 0.0)
    return logits.logsumexp(-1) - (logits.softmax(-1) * kept).sum(-1)
