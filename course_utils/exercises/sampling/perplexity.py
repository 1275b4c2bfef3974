"""sampling.perplexity: among how many tokens it seems to guess."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import training
from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared
from course_utils.exercises.sampling.entropy import entropy_by_torch

exercise = Exercise(
    "sampling.perplexity",
    used_by="notebook 08, which compares the model with the exact source",
    hints=(
        "Mean first, then exp: the loss of notebook 07 is the mean of -log p.",
        "`training.cross_entropy(logits, targets, ignore_index)` is that mean, in nats.",
        "`math.exp` makes a plain number of it.",
    ),
)


def _perplexity_by_torch(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> float:
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    return math.exp(F.cross_entropy(flat, wanted, ignore_index=ignore_index).item())


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, logits: Tensor, targets: Tensor, point: str = "", **ignored: int) -> Case:
        arguments = {"logits": logits.double(), "targets": targets, **ignored}
        given = "".join(f", {name}={value}" for name, value in ignored.items())
        call = f"perplexity(logits, targets{given})"
        return Case(title, arguments, _perplexity_by_torch, shared.numbers_alone, call, point=point)

    normal, integers = inputs.normal, inputs.integers
    few = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    padded = torch.tensor([[1, 4, -100], [-100, 0, 2]])
    other = torch.tensor([[1, 4, 0], [0, 3, 2]])
    uneven = torch.tensor([[1, 4, 3], [2, -100, -100]])
    large = 300 * normal(3, 5)
    sure = torch.tensor([[8.0, 0.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]])
    far_off = torch.tensor([[40.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    time_first = 2 * normal(4, 2, 5).transpose(0, 1), integers(4, 2, below=5).T
    some = (
        "A place whose target is `ignore_index` counts neither in the sum nor in the number that "
        "it is divided by."
    )
    over_all = (
        "It is the mean over all places that count, whatever row they are in: a mean of the rows' "
        "means gives a short row as much weight as a long one."
    )
    any_index = "`ignore_index` may be any number, 0 as well: use the one that is given."
    anywhere = (
        "`exp` of a logit in the hundreds is infinite: `cross_entropy` and `log_softmax` subtract "
        "the largest one first."
    )
    in_full = (
        "A target that seems almost impossible counts in full: no small number inside the "
        "logarithm, and no limit."
    )
    alone = "There may be no batch at all: `logits` [vocabulary], and `targets` a single number."
    return [
        case("a sure model that is wrong", sure, torch.tensor([2, 0])),
        case("three tokens", few, torch.tensor([0, 0, 1])),
        case("a fair choice", torch.zeros(2, 3, 9), integers(2, 3, below=9)),
        case("a batch", 2 * normal(2, 4, 5), integers(2, 4, below=5)),
        case("as many tokens as words", 2 * normal(3, 4, 4), integers(3, 4, below=4)),
        case("places that do not count", 2 * normal(2, 3, 5), padded, some),
        case("rows of unequal length", 2 * normal(2, 3, 5), uneven, over_all),
        case("another index", 2 * normal(2, 3, 5), other, any_index, ignore_index=0),
        case("large logits", large, large.argmax(-1), anywhere),
        case("a model that is far off", far_off, torch.tensor([1, 1]), in_full),
        case("one place alone", normal(6), torch.tensor(2), alone),
        case("a transposed view", normal(5, 3).T, integers(3, below=5), points.OTHER_ORDER),
        case("a batch in another order in memory", *time_first, points.OTHER_ORDER),
    ]


def _surprises(logits, targets, ignore_index=-100):
    """-log p of each target that counts."""
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    each = F.cross_entropy(flat, wanted, ignore_index=ignore_index, reduction="none")
    return each[wanted != ignore_index]


@exercise.mistake(
    "You return the loss. Perplexity is exp of it: as unsure as among so many tokens."
)
def loss_itself(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().item()


@exercise.mistake(
    "You use the model's own entropy: how sure it is, not whether it is right. Perplexity "
    "asks for the probability of the tokens that really came: the targets."
)
def entropy_as_perplexity(logits, targets, ignore_index=-100):
    counted = logits[targets != ignore_index]
    return math.exp(entropy_by_torch(counted).mean().item())


@exercise.mistake(
    "You take exp of every token and then the mean. One surprise would outweigh all the "
    "rest. The mean comes first."
)
def mean_of_exp(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).exp().mean().item()


@exercise.mistake(
    "You raise 2 to a loss that is in nats. Base and logarithm belong together: `exp`."
)
def log_base_2_mix(logits, targets, ignore_index=-100):
    return 2 ** _surprises(logits, targets, ignore_index).mean().item()


@exercise.mistake("You add the losses up, so a longer text looks worse. Take their mean.")
def exp_of_the_sum(logits, targets, ignore_index=-100):
    return math.exp(min(_surprises(logits, targets, ignore_index).sum().item(), 700.0))


@exercise.mistake("Yours is at most 1: exp of the mean log p. Perplexity has -log p.")
def forgot_the_minus(logits, targets, ignore_index=-100):
    return math.exp(-_surprises(logits, targets, ignore_index).mean().item())


@exercise.mistake(
    "Only -100 is left out, whatever `ignore_index` is. Pass on the one that you are given, or "
    "compare the targets with it."
)
def ignores_ignore_index(logits, targets, ignore_index=-100):
    return _perplexity_by_torch(logits, targets)


@exercise.mistake("You divide by the number of all places. Those that are ignored do not count.")
def counts_all_places(logits, targets, ignore_index=-100):
    total = _surprises(logits, targets, ignore_index).sum().item()
    return math.exp(total / targets.numel())


@exercise.mistake(
    "You average the perplexities of the rows. Average the losses of all tokens, then take exp."
)
def mean_of_rows(logits, targets, ignore_index=-100):
    rows = zip(logits, targets, strict=True)
    each = [_surprises(a[None], b[None], ignore_index).mean().exp().item() for a, b in rows]
    return sum(each) / len(each)


@exercise.mistake(
    "You shift logits and targets against each other. The targets are the next tokens already: "
    "what stands at a place belongs to the logits at that place."
)
def shifts_once_more(logits, targets, ignore_index=-100):
    earlier = logits[..., :-1, :].reshape(-1, logits.shape[-1])
    later = targets[..., 1:].reshape(-1)
    return F.cross_entropy(earlier, later, ignore_index=ignore_index).exp().item()


@exercise.mistake(
    "You average probabilities. Average their logarithms: chances multiply along a text."
)
def mean_probability(logits, targets, ignore_index=-100):
    return 1 / (-_surprises(logits, targets, ignore_index)).exp().mean().item()


@exercise.mistake(
    "You give probabilities to the loss, which takes logits and does its own softmax."
)
def softmax_before_the_loss(logits, targets, ignore_index=-100):
    return math.exp(_surprises(logits.softmax(-1), targets, ignore_index).mean().item())


@exercise.mistake(
    "`view` needs numbers that lie in memory in their own order. Those of a transposed tensor, or "
    "of a part of one, do not: `reshape` and `flatten` take them as well."
)
def needs_contiguous_memory(logits, targets, ignore_index=-100):
    flat = logits.view(-1, logits.shape[-1]), targets.view(-1)
    return _perplexity_by_torch(*flat, ignore_index)


@exercise.mistake("The number is right, but it is a tensor. Return a float: `.item()`.")
def as_a_tensor(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().exp()


@exercise.alternative
def perplexity_by_surprises(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().exp().item()


@exercise.alternative
def perplexity_by_part(logits, targets, ignore_index=-100):
    return torch.exp(training.cross_entropy(logits, targets, ignore_index)).item()


@exercise.alternative
def perplexity_by_product(logits, targets, ignore_index=-100):
    """The geometric mean of 1 / p."""
    counted = targets != ignore_index
    log_p = logits[counted].log_softmax(-1).gather(-1, targets[counted][:, None])
    return math.exp(-log_p.mean().item())
