"""training.cross_entropy: the surprise at the right answer."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "training.cross_entropy",
    used_by="`train_step` and `evaluate`: it is the number that training makes smaller",
    hints=(
        "Softmax makes probabilities of the logits. The loss of a place is -log of the one that "
        "belongs to its target, and the result is the mean over the places.",
        "`targets != ignore_index` is True where a target counts. With it as an index, "
        "`logits[counted]` is [n, vocabulary] and `targets[counted]` is [n].",
        "The log of a softmax is the logit minus the log of the sum of all exponentials. "
        "`logits.logsumexp(-1)` is that sum's log, and cannot overflow.",
        "`logits.gather(-1, targets[:, None])[:, 0]` takes the logit of the target in every row.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, logits: Tensor, targets: Tensor, point: str = "", **ignore_index: int
    ) -> Case:
        given = "".join(f", {name}={value}" for name, value in ignore_index.items())
        arguments = {"logits": logits, "targets": targets, **ignore_index}
        call = f"cross_entropy(logits, targets{given})"
        return Case(title, arguments, cross_entropy_by_torch, shown=call, point=point)

    def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        logits = 3 * inputs.normal(*shape, dtype=dtype)
        return logits, inputs.integers(*shape[:-1], below=shape[-1])

    normal = inputs.normal
    last_axis = (
        "The words are the last axis, and any number of axes may stand before it, also of equal "
        "sizes: flatten those with `reshape(-1, …)`, which keeps their order. A transpose does not."
    )
    left_out = (
        "A target that is `ignore_index`, whatever number that is, counts neither in the sum nor "
        "in the number of targets that it is divided by."
    )
    exact = (
        "The loss is exact for any logits: a target whose logit is 200 below the others costs 200. "
        "`log_softmax` and `logsumexp` keep that; the log of a probability, with a small number "
        "added or not, does not."
    )
    half = (
        "Half-precision logits give a loss of their own dtype that is finite and as exact as it "
        "can hold: take `log_softmax` or `logsumexp`, and add no tiny number."
    )
    square = inputs.integers(4, 4, below=4)
    padded = torch.tensor([[1, 4, 0, -100], [3, -100, -100, -100], [2, 2, 0, 1]])
    unlikely = torch.tensor([[[0.0, -200.0, 1.0], [-150.0, 2.0, 0.0]]])
    large = torch.tensor([[[100.0, 99.0, 0.0], [0.0, 200.0, 203.0]]])
    return [
        case(
            "two places, three words",
            torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]),
            torch.tensor([[0, 2]]),
        ),
        case("two texts", *drawn(2, 3, 5)),
        case("as many texts as places and words", normal(4, 4, 4), square, last_axis),
        case("some targets are ignored", 3 * normal(3, 4, 5), padded, left_out),
        case("only one target counts", normal(1, 3, 5), torch.tensor([[-100, 2, -100]]), left_out),
        case("targets of 0 are ignored", *drawn(3, 4, 5), left_out, ignore_index=0),
        case("targets of 2 are ignored", *drawn(2, 5, 4), left_out, ignore_index=2),
        case(
            "targets of -1 are ignored",
            normal(3, 4, 5),
            padded.clamp_min(-1),
            left_out,
            ignore_index=-1,
        ),
        case("very unlikely targets", unlikely, torch.tensor([[1, 0]]), exact),
        case("large logits", large, torch.tensor([[1, 2]]), exact),
        case("very large logits", 1000 * normal(2, 3, 5), inputs.integers(2, 3, below=5), exact),
        case("one place alone", *drawn(1, 1, 6), points.AXIS_OF_ONE),
        case("one text without a batch", *drawn(5, 7), last_axis),
        case("four axes", *drawn(2, 3, 4, 5), last_axis),
        case(
            "transposed views",
            normal(2, 5, 3).mT,
            inputs.integers(3, 2, below=5).T,
            points.OTHER_ORDER,
        ),
        case("float64", *drawn(2, 3, 5, dtype=torch.float64), points.FLOAT64),
        case("bfloat16", *drawn(2, 3, 5, dtype=torch.bfloat16), half),
        case("float16", *drawn(2, 3, 5, dtype=torch.float16), half),
    ]


@exercise.mistake(
    "Your logits go through softmax twice: what takes the logarithm of a softmax is given "
    "probabilities already. The loss can then hardly fall. Give it the logits."
)
def softmax_twice(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(torch.softmax(logits, -1), targets, ignore_index)


def _each_place(logits, targets, ignore_index=-100, dim=-1):
    """-log p of every target and whether it counts, with a softmax over any axis."""
    counted = targets != ignore_index
    chosen = torch.where(counted, targets, 0)[..., None]
    return -torch.log_softmax(logits, dim).gather(-1, chosen)[..., 0], counted


@exercise.mistake(
    "You divide by the number of all targets. Those that are ignored count neither in the "
    "sum nor in the number: more padding would make your loss smaller."
)
def averages_over_ignored(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return (losses * counted).sum() / targets.numel()


@exercise.mistake(
    "Your ignored targets count as word 0, so the model would learn to say it at the "
    "padding. Leave those places out."
)
def ignored_count_as_word_0(logits, targets, ignore_index=-100):
    return _each_place(logits, targets, ignore_index)[0].mean()


@exercise.mistake(
    "You do not look at `ignore_index`. Such a target is no word at all: leave its place "
    "out before you look anything up."
)
def ignores_nothing(logits, targets, ignore_index=-100):
    return -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean()


@exercise.mistake("You always ignore -100. Ignore the `ignore_index` that you are given.")
def ignores_minus_100_only(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits, targets)


@exercise.mistake(
    "You take the log of a softmax. A probability below 1e-45 is stored as 0, and its log "
    "is minus infinity. Use `log_softmax`, or `logsumexp` minus the logit."
)
def unstable_log(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    chosen = torch.where(counted, targets, 0)[..., None]
    losses = -torch.softmax(logits, -1).gather(-1, chosen)[..., 0].log()
    return losses[counted].mean()


@exercise.mistake(
    "You take the exponential of the logits as they are. Above 88 that is infinite. "
    "`logsumexp` subtracts the maximum first."
)
def overflows(logits, targets, ignore_index=-100):
    counted = targets != ignore_index
    logits, targets = logits[counted], targets[counted]
    return (logits.exp().sum(-1).log() - logits.gather(-1, targets[:, None])[:, 0]).mean()


@exercise.mistake(
    "You add the losses up. The mean does not depend on how much text there is, so one "
    "learning rate fits all batches."
)
def sum_instead_of_mean(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return losses[counted].sum()


@exercise.mistake(
    "Yours is negative: training would make the right words less likely. The loss is minus "
    "the log of the probability."
)
def forgot_minus(logits, targets, ignore_index=-100):
    return -cross_entropy_by_torch(logits, targets, ignore_index)


@exercise.mistake(
    "You take logarithms to the base 2, which gives bits. Here the unit is the nat: use "
    "the natural logarithm."
)
def log_base_2(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits, targets, ignore_index) / math.log(2)


@exercise.mistake(
    "You return 1 minus the mean probability. That hardly punishes a target that was "
    "thought impossible: take minus the log of each probability."
)
def forgot_log(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return 1 - torch.exp(-losses)[counted].mean()


@exercise.mistake(
    "You take minus the target's logit as it is. A logit says something only beside the "
    "others: softmax first, or add `logsumexp` of all of them."
)
def forgot_log_sum_exp(logits, targets, ignore_index=-100):
    counted = targets != ignore_index
    return -logits[counted].gather(-1, targets[counted][:, None]).mean()


@exercise.mistake(
    "You return the perplexity, exp of the loss. The loss is what is in the exponent."
)
def perplexity(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits, targets, ignore_index).exp()


@exercise.mistake("You use the last place only. Every place has a target, and all of them count.")
def last_place_only(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits[..., -1:, :], targets[..., -1:], ignore_index)


@exercise.mistake(
    "Your softmax goes over the places. The probabilities of the words at one place add up "
    "to 1: the last axis, -1."
)
def softmax_over_places(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index, dim=-2)
    return losses[counted].mean()


@exercise.mistake(
    "Your softmax goes over axis 1. The words are the last axis, -1, whatever stands before it."
)
def softmax_over_axis_1(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index, dim=1)
    return losses[counted].mean()


@exercise.mistake(
    "You take the mean of each text first, so in a text with much padding every target "
    "weighs more. All targets that count weigh the same."
)
def mean_of_text_means(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return ((losses * counted).sum(-1) / counted.sum(-1)).mean()


@exercise.mistake("You return a loss for every place. Return their mean, one number.")
def one_for_each_place(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return losses * counted


@exercise.mistake(
    "You return a Python number. Nothing can be learned from it: keep it a tensor, so that "
    "`backward` finds its way."
)
def number_without_gradient(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits, targets, ignore_index).item()


@exercise.mistake(
    "You compute in float32, so half of the digits of float64 are lost. Compute in the dtype of "
    "the logits."
)
def computes_in_float32(logits, targets, ignore_index=-100):
    return cross_entropy_by_torch(logits.float(), targets, ignore_index).to(logits.dtype)


@exercise.alternative
def cross_entropy_by_torch(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_index)


@exercise.alternative
def loss_by_log_softmax(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return torch.where(counted, losses, 0.0).sum() / counted.sum()


@exercise.alternative
def loss_by_one_hot(logits, targets, ignore_index=-100):
    counted = (targets != ignore_index).to(logits.dtype)
    shifted = logits - logits.max(dim=-1, keepdim=True).values
    log_p = shifted - shifted.exp().sum(-1, keepdim=True).log()
    words = torch.arange(logits.shape[-1]) == targets[..., None]
    return -torch.einsum("...v,...v,...->", log_p, words.to(logits.dtype), counted) / counted.sum()


@exercise.alternative
def loss_by_index(logits, targets, ignore_index=-100):
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    places = (targets != ignore_index).nonzero()[:, 0]
    return (torch.logsumexp(logits[places], 1) - logits[places, targets[places]]).mean()
