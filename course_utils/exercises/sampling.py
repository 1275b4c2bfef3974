"""Exercises of notebook 08: from logits to text."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, modern, sampling, training
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong

# --- entropy -------------------------------------------------------------------------------------


def _entropy_by_torch(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits).entropy()


def _entropy_cases() -> list[Case]:
    def case(title: str, logits: Tensor) -> Case:
        return Case(title, {"logits": logits}, _entropy_by_torch, shown="entropy(logits)")

    normal = inputs.normal
    removed = normal(3, 6).masked_fill(~inputs.boolean(3, 6), -math.inf)
    return [
        case("surer and less sure", torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, -1.0]])),
        case("no idea: all alike", torch.full((2, 5), 3.0)),
        case("quite sure", torch.tensor([[20.0, 0.0, 1.0], [0.0, 1.0, 12.0]])),
        case("removed tokens", removed),
        case("one token left", torch.tensor([[-math.inf, 0.5, -math.inf]])),
        case("one row", 2 * normal(7)),
        case("rows of rows", 2 * normal(2, 3, 5)),
        case("as many rows as tokens", 2 * normal(4, 4)),
        case("a large vocabulary", normal(2, 300)),
        case("large logits", 100 * normal(3, 6) + 500),
        case("a transposed view", normal(5, 3).T),
        case("float64", 2 * normal(3, 6, dtype=torch.float64)),
    ]


def _nan_at_removed(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).sum(-1)


def _small_number_in_the_log(logits):
    p = logits.softmax(-1)
    return -(p * (p + 1e-3).log()).sum(-1)


def _entropy_negative(logits):
    return -_entropy_by_torch(logits)


def _entropy_in_bits(logits):
    return _entropy_by_torch(logits) / math.log(2)


def _entropy_mean(logits):
    return _entropy_by_torch(logits) / logits.shape[-1]


def _entropy_share(logits):
    return _entropy_by_torch(logits) / math.log(logits.shape[-1])


def _entropy_of_the_batch(logits):
    return _entropy_by_torch(logits).mean()


def _entropy_along_first(logits):
    return _entropy_by_torch(logits.movedim(0, -1))


def _entropy_as_perplexity(logits):
    return _entropy_by_torch(logits).exp()


def _log_of_the_logits(logits):
    return -(logits.softmax(-1) * logits.clamp_min(-1e9)).sum(-1)


def _surprise_at_the_best(logits):
    return -logits.log_softmax(-1).amax(-1)


def _mean_surprise(logits):
    return -logits.log_softmax(-1).mean(-1)


def _entropy_overflows(logits):
    total = logits.exp().sum(-1, keepdim=True)
    p = logits.exp() / total
    return -torch.where(p > 0, p * (logits - total.log()), 0 * p).sum(-1)


def _entropy_by_where(logits):
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0.0)).sum(-1)


def _entropy_by_logsumexp(logits):
    kept = logits.masked_fill(logits == -math.inf, 0.0)
    return logits.logsumexp(-1) - (logits.softmax(-1) * kept).sum(-1)


ENTROPY = Exercise(
    part="sampling.entropy",
    notebook="08",
    used_by="the colours of a text and the bars of the playground",
    cases=_entropy_cases,
    hints=(
        "For each token, its probability times -log of its probability; then the sum over the "
        "vocabulary, the last axis.",
        "`logits.log_softmax(-1)` gives log p without overflow, and its `exp()` gives p.",
        "A removed token has p = 0 and log p = -∞, and 0 · ∞ is NaN. Make its log p a finite "
        "number first: `clamp_min` or `masked_fill`.",
    ),
    mistakes=(
        Mistake(
            "nan_at_removed",
            "A removed token has probability 0, and 0 · log 0 is NaN here. It should add nothing: "
            "make its logarithm finite before you multiply.",
            _nan_at_removed,
        ),
        Mistake(
            "small_number_in_the_log",
            "The small number that you add inside the logarithm changes all results. Replace only "
            "the logarithm of 0, with `clamp_min` or `masked_fill`.",
            _small_number_in_the_log,
        ),
        Mistake(
            "forgot_the_minus",
            "Yours is negative. log p is never above 0, so the entropy is minus the sum.",
            _entropy_negative,
        ),
        Mistake(
            "log_base_2_mix",
            "Yours is in bits, with the logarithm to base 2. This course counts in nats: `log`.",
            _entropy_in_bits,
        ),
        Mistake(
            "mean_instead_of_sum",
            "You average over the vocabulary. The probabilities are the weights already, so the "
            "entropy is the sum.",
            _entropy_mean,
        ),
        Mistake(
            "share_of_the_largest",
            "You divide by log V. That is the share of the largest entropy; here it is in nats.",
            _entropy_share,
        ),
        Mistake(
            "one_number_for_all",
            "You average over the rows. Every row has an entropy of its own.",
            _entropy_of_the_batch,
        ),
        Mistake(
            "along_the_first_axis",
            "You go along the first axis. The vocabulary is the last one: -1.",
            _entropy_along_first,
        ),
        Mistake(
            "perplexity_of_itself",
            "You return exp of the entropy: how many equal choices that would be. Leave `exp` out.",
            _entropy_as_perplexity,
        ),
        Mistake(
            "log_of_the_logits",
            "You weigh the logits. They are log p only up to a constant: use `log_softmax`.",
            _log_of_the_logits,
        ),
        Mistake(
            "surprise_at_the_best",
            "You return -log p of the best token. The entropy is the mean of that over all tokens, "
            "weighted with their probabilities.",
            _surprise_at_the_best,
        ),
        Mistake(
            "every_token_counts_alike",
            "You average -log p over the vocabulary. Likely tokens count more: weigh each with p.",
            _mean_surprise,
        ),
        Mistake(
            "overflows",
            "`exp` of a large logit is infinite. `softmax` and `log_softmax` subtract the largest "
            "one first.",
            _entropy_overflows,
        ),
    ),
    alternatives=(_entropy_by_torch, _entropy_by_where, _entropy_by_logsumexp),
)

# --- perplexity ----------------------------------------------------------------------------------


def _perplexity_by_torch(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> float:
    flat, wanted = logits.flatten(0, -2), targets.flatten()
    return math.exp(F.cross_entropy(flat, wanted, ignore_index=ignore_index).item())


def _perplexity_cases() -> list[Case]:
    def case(title: str, logits: Tensor, targets: Tensor, **ignored: int) -> Case:
        arguments = {"logits": logits.double(), "targets": targets, **ignored}
        given = "".join(f", {name}={value}" for name, value in ignored.items())
        call = f"perplexity(logits, targets{given})"
        return Case(title, arguments, _perplexity_by_torch, shown=call)

    normal, integers = inputs.normal, inputs.integers
    few = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    padded = torch.tensor([[1, 4, -100], [-100, 0, 2]])
    large = 300 * normal(3, 5)
    return [
        case("a sure model that is wrong", torch.tensor([[8.0, 0.0, 0.0, 0.0]]), torch.tensor([2])),
        case("three tokens", few, torch.tensor([0, 0, 1])),
        case("a fair choice", torch.zeros(2, 3, 9), integers(2, 3, below=9)),
        case("a batch", 2 * normal(2, 4, 5), integers(2, 4, below=5)),
        case("as many tokens as words", 2 * normal(3, 4, 4), integers(3, 4, below=4)),
        case("places that do not count", 2 * normal(2, 3, 5), padded),
        case("other places do not count", 2 * normal(2, 3, 5), padded.abs() % 5, ignore_index=0),
        case("large logits", large, large.argmax(-1)),
        case("a transposed view", normal(5, 3).T, integers(3, below=5)),
    ]


def _surprises(logits, targets, ignore_index=-100):
    """-log p of each target that counts."""
    flat, wanted = logits.flatten(0, -2), targets.flatten()
    each = F.cross_entropy(flat, wanted, ignore_index=ignore_index, reduction="none")
    return each[wanted != ignore_index]


def _loss_itself(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().item()


def _entropy_of_the_model(logits, targets, ignore_index=-100):
    counted = logits[targets != ignore_index]
    return math.exp(_entropy_by_torch(counted).mean().item())


def _mean_of_exp(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).exp().mean().item()


def _two_to_the_nats(logits, targets, ignore_index=-100):
    return 2 ** _surprises(logits, targets, ignore_index).mean().item()


def _exp_of_the_sum(logits, targets, ignore_index=-100):
    return math.exp(min(_surprises(logits, targets, ignore_index).sum().item(), 700.0))


def _exp_of_log_p(logits, targets, ignore_index=-100):
    return math.exp(-_surprises(logits, targets, ignore_index).mean().item())


def _ignores_ignore_index(logits, targets, ignore_index=-100):
    return _perplexity_by_torch(logits, targets)


def _counts_all_places(logits, targets, ignore_index=-100):
    total = _surprises(logits, targets, ignore_index).sum().item()
    return math.exp(total / targets.numel())


def _mean_of_rows(logits, targets, ignore_index=-100):
    rows = zip(logits, targets, strict=True)
    each = [_surprises(a[None], b[None], ignore_index).mean().exp().item() for a, b in rows]
    return sum(each) / len(each)


def _mean_probability(logits, targets, ignore_index=-100):
    return 1 / (-_surprises(logits, targets, ignore_index)).exp().mean().item()


def _as_a_tensor(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().exp()


def _perplexity_of_probabilities(logits, targets, ignore_index=-100):
    return math.exp(_surprises(logits.softmax(-1), targets, ignore_index).mean().item())


def _perplexity_by_surprises(logits, targets, ignore_index=-100):
    return _surprises(logits, targets, ignore_index).mean().exp().item()


def _perplexity_by_part(logits, targets, ignore_index=-100):
    return torch.exp(training.cross_entropy(logits, targets, ignore_index)).item()


def _perplexity_by_product(logits, targets, ignore_index=-100):
    """The geometric mean of 1 / p."""
    counted = targets != ignore_index
    log_p = logits[counted].log_softmax(-1).gather(-1, targets[counted][:, None])
    return math.exp(-log_p.mean().item())


PERPLEXITY = Exercise(
    part="sampling.perplexity",
    notebook="08",
    used_by="the table of sampling methods in notebook 08",
    cases=_perplexity_cases,
    hints=(
        "Mean first, then exp: the loss of notebook 07 is the mean of -log p.",
        "`training.cross_entropy(logits, targets, ignore_index)` is that mean, in nats.",
        "`math.exp` makes a plain number of it.",
    ),
    mistakes=(
        Mistake(
            "loss_itself",
            "You return the loss. Perplexity is exp of it: as unsure as among so many tokens.",
            _loss_itself,
        ),
        Mistake(
            "entropy_as_perplexity",
            "You use the model's own entropy: how sure it is, not whether it is right. Perplexity "
            "asks for the probability of the tokens that really came: the targets.",
            _entropy_of_the_model,
        ),
        Mistake(
            "mean_of_exp",
            "You take exp of every token and then the mean. One surprise would outweigh all the "
            "rest. The mean comes first.",
            _mean_of_exp,
        ),
        Mistake(
            "log_base_2_mix",
            "You raise 2 to a loss that is in nats. Base and logarithm belong together: `exp`.",
            _two_to_the_nats,
        ),
        Mistake(
            "exp_of_the_sum",
            "You add the losses up, so a longer text looks worse. Take their mean.",
            _exp_of_the_sum,
        ),
        Mistake(
            "forgot_the_minus",
            "Yours is at most 1: exp of the mean log p. Perplexity has -log p.",
            _exp_of_log_p,
        ),
        Mistake(
            "ignores_ignore_index",
            "You do not pass `ignore_index` on.",
            _ignores_ignore_index,
        ),
        Mistake(
            "counts_all_places",
            "You divide by the number of all places. Those that are ignored do not count.",
            _counts_all_places,
        ),
        Mistake(
            "mean_of_rows",
            "You average the perplexities of the rows. Average the losses of all tokens, then exp.",
            _mean_of_rows,
        ),
        Mistake(
            "mean_probability",
            "You average probabilities. Average their logarithms: chances multiply along a text.",
            _mean_probability,
        ),
        Mistake(
            "softmax_before_the_loss",
            "You give probabilities to the loss, which takes logits and does its own softmax.",
            _perplexity_of_probabilities,
        ),
        Mistake(
            "as_a_tensor",
            "The number is right, but it is a tensor. Return a float: `.item()`.",
            _as_a_tensor,
        ),
    ),
    alternatives=(_perplexity_by_surprises, _perplexity_by_part, _perplexity_by_product),
)

# --- Filters: what they have in common -----------------------------------------------------------


def _probabilities(row: Tensor) -> list[float]:
    """Softmax of one row, in Python."""
    numbers = row.tolist()
    exponentials = [math.exp(number - max(numbers)) for number in numbers]
    return [each / sum(exponentials) for each in exponentials]


def _keep(logits: Tensor, chosen: Iterable[Iterable[int]]) -> Tensor:
    """The logits of the chosen tokens; minus infinity elsewhere."""
    mask = torch.zeros(logits.shape, dtype=torch.bool)
    for row, tokens in zip(mask, chosen, strict=True):
        row[list(tokens)] = True
    return torch.where(mask, logits, -math.inf)


def _log(*rows: list[float]) -> Tensor:
    """Logits of these probabilities, a little shifted: no row sums to 1."""
    return torch.tensor(rows).log() + 0.5


def _filter_cases(
    name: str,
    oracle: Callable[..., Tensor],
    argument: str,
    tables: Iterable[tuple[str, Tensor, Iterable[float]]],
) -> list[Case]:
    def case(title: str, logits: Tensor, value: float) -> Case:
        arguments = {"logits": logits, argument: value}
        return Case(f"{title}, {value}", arguments, oracle, shown=f"{name}(logits, {value})")

    return [case(title, logits, value) for title, logits, values in tables for value in values]


SMALL = _log([0.5, 0.3, 0.15, 0.05], [0.1, 0.22, 0.38, 0.3])
REMOVED = torch.tensor([[1.0, -math.inf, 3.0, 2.0, -math.inf], [0.5, 0.2, -math.inf, 2.5, 1.0]])
IN_PLACE = (
    "Your numbers are right, but you write them into the caller's logits. Make a new tensor: "
    "`masked_fill`, without the underscore."
)
ZERO = (
    "Tokens that must go get the logit 0, which is a good score: softmax still gives them a "
    "chance. Give them minus infinity."
)
LARGE_NUMBER = (
    "Tokens that must go get a large negative number. Whoever looks for what is left asks for "
    "finite logits: give them minus infinity."
)
PROBABILITIES = (
    "You return probabilities. A filter takes logits and gives logits, so that the next filter can "
    "go on from there. Softmax comes at the very end."
)

# --- apply_temperature ---------------------------------------------------------------------------


def _temperature_by_hand(logits: Tensor, temperature: float) -> Tensor:
    if temperature:
        return torch.stack([torch.stack([one / temperature for one in row]) for row in logits])
    rows = logits.tolist()
    return _keep(logits, [[row.index(max(row))] for row in rows])


def _left(part: Part, **arguments: Any) -> Any:
    """Probabilities where the temperature is 0: which logit the best token has is all the same."""
    logits = part(**arguments)
    if arguments["temperature"] or not (isinstance(logits, Tensor) and logits.is_floating_point()):
        return logits
    return logits.softmax(-1)


def _temperature_cases() -> list[Case]:
    def oracle(logits: Tensor, temperature: float) -> Tensor:
        wanted = _temperature_by_hand(logits, temperature)
        return wanted if temperature else wanted.softmax(-1)

    def case(title: str, logits: Tensor, temperature: float) -> Case:
        arguments = {"logits": logits, "temperature": temperature}
        call = f"apply_temperature(logits, {temperature})"
        return Case(title, arguments, oracle, use=_left, shown=call)

    normal = inputs.normal
    ties = torch.tensor([[1.0, 4.0, 4.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-5.0, -1.0, -3.0, -1.0]])
    return [
        case("sharper", SMALL, 0.5),
        case("flatter", SMALL, 2.0),
        case("as it is", SMALL, 1.0),
        case("a whole number", normal(3, 6), 3),
        case("nothing but the best", normal(3, 6), 0.0),
        case("zero, as a whole number", normal(3, 6), 0),
        case("two are best", ties, 0),
        case("very cold", 5 * normal(3, 6), 0.01),
        case("hardly above zero", 5 * normal(3, 6), 1e-6),
        case("very hot", normal(4, 4), 50.0),
        case("removed tokens", REMOVED, 0.7),
        case("removed tokens at zero", REMOVED, 0.0),
        case("a transposed view", normal(5, 3).T, 1.5),
        case("float64", normal(2, 5, dtype=torch.float64), 0.3),
    ]


def _multiplies(logits, temperature):
    return _temperature_by_hand(logits, 1 / temperature if temperature else 0)


def _divides_probabilities(logits, temperature):
    return logits.softmax(-1) / temperature if temperature else _temperature_by_hand(logits, 0)


def _nan_at_zero(logits, temperature):
    return logits / torch.tensor(float(temperature), dtype=logits.dtype)


def _tiny_in_place_of_zero(logits, temperature):
    return logits / max(temperature, 1e-4)


def _adds_something(logits, temperature):
    return logits / (temperature + 1e-6)


def _zero_leaves_it_alone(logits, temperature):
    return logits / temperature if temperature else logits.clone()


def _keeps_all_that_are_best(logits, temperature):
    if temperature:
        return logits / temperature
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True), -math.inf)


def _best_of_the_batch(logits, temperature):
    if temperature:
        return logits / temperature
    return logits.masked_fill(logits < logits.max(), -math.inf)


def _number_of_the_best(logits, temperature):
    return logits / temperature if temperature else logits.argmax(-1)


def _one_hot_at_zero(logits, temperature):
    if temperature:
        return logits / temperature
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


def _softmaxed_temperature(logits, temperature):
    return _temperature_by_hand(logits, temperature).softmax(-1)


def _temperature_in_place(logits, temperature):
    return logits.div_(temperature) if temperature else _temperature_by_hand(logits, 0)


def _temperature_by_one_hot(logits, temperature):
    if temperature < 0:
        raise ValueError("temperature must not be negative")
    if temperature > 0:
        return logits * (1.0 / temperature)
    best = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    return torch.where(best, logits, -math.inf)


def _temperature_by_places(logits, temperature):
    if not temperature >= 0:
        raise ValueError("temperature must not be negative")
    if temperature != 0:
        return torch.div(logits, temperature)
    places = torch.arange(logits.shape[-1])
    return logits.masked_fill(places != logits.argmax(-1)[:, None], float("-inf"))


def _temperature_by_log_one_hot(logits, temperature):
    if temperature < 0:
        raise ValueError(temperature)
    if temperature:
        return logits / temperature
    return F.one_hot(logits.argmax(-1), logits.shape[1]).to(logits.dtype).log()


def _refuses_below_zero(part: Part) -> None:
    for temperature in (-0.5, -2):
        try:
            part(torch.tensor([[1.0, 2.0, 0.0]]), temperature)
        except ValueError:
            continue
        raise Wrong(
            f"A temperature of {temperature} turns good tokens into bad ones. Raise a ValueError "
            "where it is negative."
        )


APPLY_TEMPERATURE = Exercise(
    part="sampling.apply_temperature",
    notebook="08",
    used_by="`python -m course_utils sample` and the playground",
    cases=_temperature_cases,
    hints=(
        "Divide every logit by the temperature. Below 1 the distances between them grow, and "
        "softmax becomes surer.",
        "Dividing by 0 does not work. Temperature 0 stands for the limit: the best token alone is "
        "left. `logits.argmax(-1, keepdim=True)` finds it.",
        "For temperature 0, begin with `torch.full_like(logits, -math.inf)` and `scatter` the best "
        "token's logit into it.",
        "`if temperature < 0: raise ValueError(…)` comes first.",
    ),
    mistakes=(
        Mistake(
            "multiplies",
            "You multiply with the temperature, so hot is cold. Divide.",
            _multiplies,
        ),
        Mistake(
            "divides_probabilities",
            "You divide probabilities. Softmax comes last, after the division: before it, all that "
            "you change is the sum.",
            _divides_probabilities,
        ),
        Mistake(
            "nan_at_zero",
            "You divide by 0, which gives infinities, and softmax makes NaN of them. At 0 keep the "
            "best token and remove the others.",
            _nan_at_zero,
        ),
        Mistake(
            "tiny_in_place_of_zero",
            "You use a tiny temperature in place of 0. Where two tokens are nearly as good, or "
            "equal, both stay. At 0 exactly one is left: the first of the best.",
            _tiny_in_place_of_zero,
        ),
        Mistake(
            "adds_something",
            "You add a small number to the temperature. All results change a little, and 0 is no "
            "longer greedy.",
            _adds_something,
        ),
        Mistake(
            "zero_leaves_it_alone",
            "Temperature 0 changes nothing here. It is the coldest of all: only the best is left.",
            _zero_leaves_it_alone,
        ),
        Mistake(
            "keeps_all_that_are_best",
            "At 0 you keep all tokens that share the best score, and chance would decide. Keep the "
            "first of them.",
            _keeps_all_that_are_best,
        ),
        Mistake(
            "best_of_the_batch",
            "At 0 you look for the best logit of the whole batch. Every row has its own: use "
            "axis -1.",
            _best_of_the_batch,
        ),
        Mistake(
            "number_of_the_best",
            "At 0 you return the number of the best token. A filter gives logits of the same "
            "shape.",
            _number_of_the_best,
        ),
        Mistake(
            "one_hot_at_zero",
            "At 0 you return zeros and a one. As logits those are close together. What is removed "
            "has minus infinity.",
            _one_hot_at_zero,
        ),
        Mistake("returns_probabilities", PROBABILITIES, _softmaxed_temperature),
        Mistake(
            "in_place",
            "Your numbers are right, but `/=` or `div_` writes them into the caller's logits. "
            "Make a new tensor.",
            _temperature_in_place,
        ),
    ),
    alternatives=(
        _temperature_by_one_hot,
        _temperature_by_places,
        _temperature_by_log_one_hot,
    ),
    properties=(_refuses_below_zero,),
)

# --- top_k ---------------------------------------------------------------------------------------


def _top_k_by_hand(logits: Tensor, k: int) -> Tensor:
    """A token stays where fewer than k are better."""
    rows = logits.tolist()
    return _keep(
        logits,
        [[i for i, one in enumerate(row) if sum(map(one.__lt__, row)) < k] for row in rows],
    )


def _top_k_cases() -> list[Case]:
    ties = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 5.0, 5.0]])
    normal = inputs.normal
    return _filter_cases(
        "top_k",
        _top_k_by_hand,
        "k",
        (
            ("four tokens", SMALL, (2, 1, 3, 4)),
            ("more than there are", SMALL, (5, 100)),
            ("rows that differ", normal(3, 8), (1, 3, 7)),
            ("as many rows as tokens", 3 * normal(5, 5), (2,)),
            ("all below zero", -1 - normal(2, 6).abs(), (2,)),
            ("all above zero", 1 + normal(2, 6).abs(), (2,)),
            ("some are equally good", ties, (1, 2, 3)),
            ("some are removed already", REMOVED, (2, 4)),
            ("a transposed view", normal(6, 2).T, (3,)),
            ("float64", normal(2, 6, dtype=torch.float64), (3,)),
        ),
    )


def _keeps_k_smallest(logits, k):
    return -_top_k_by_hand(-logits, k).masked_fill(logits == -math.inf, math.inf)


def _zero_for_top_k(logits, k):
    return _top_k_by_hand(logits, k).masked_fill(_top_k_by_hand(logits, k) == -math.inf, 0.0)


def _large_number_for_top_k(logits, k):
    return _top_k_by_hand(logits, k).clamp_min(-1e9)


def _k_over_vocab_error(logits, k):
    weakest = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < weakest, -math.inf)


def _drops_ties(logits, k):
    best = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -math.inf).scatter(-1, best.indices, best.values)


def _drops_the_last(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits <= weakest, -math.inf)


def _keeps_one_more(logits, k):
    return _top_k_by_hand(logits, k + 1)


def _returns_k_logits(logits, k):
    return logits.topk(min(k, logits.shape[-1])).values


def _sorted_logits(logits, k):
    ordered = logits.sort(descending=True).values
    return ordered.masked_fill(torch.arange(logits.shape[-1]) >= k, -math.inf)


def _first_k(logits, k):
    return logits.masked_fill(torch.arange(logits.shape[-1]) >= k, -math.inf)


def _one_threshold_for_all(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1].amin()
    return logits.masked_fill(logits < weakest, -math.inf)


def _along_the_batch(logits, k):
    return _top_k_by_hand(logits.T, k).T


def _forgot_the_axis(logits, k):
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1]
    return logits.masked_fill(logits < weakest, -math.inf)


def _probabilities_of_top_k(logits, k):
    return _top_k_by_hand(logits, k).softmax(-1)


def _top_k_in_place(logits, k):
    return logits.copy_(_top_k_by_hand(logits.detach().clone(), k))


def _top_k_by_sorting(logits, k):
    ordered = logits.sort(dim=-1, descending=True).values
    threshold = ordered[:, min(k, ordered.shape[-1]) - 1, None]
    return torch.where(logits >= threshold, logits, float("-inf"))


def _top_k_by_kthvalue(logits, k):
    vocabulary = logits.shape[-1]
    place = max(vocabulary - k + 1, 1)
    threshold = logits.kthvalue(place, dim=-1, keepdim=True).values
    filtered = logits.clone()
    filtered[logits < threshold] = -torch.inf
    return filtered


def _top_k_by_counting(logits, k):
    better = (logits[:, None, :] > logits[:, :, None]).sum(-1)
    return logits.masked_fill(better >= k, -math.inf)


TOP_K = Exercise(
    part="sampling.top_k",
    notebook="08",
    used_by="`python -m course_utils sample` and the playground",
    cases=_top_k_cases,
    hints=(
        "Find the k-th best logit of every row. What is below it must go.",
        "`logits.topk(k).values` is sorted, the best first: its last column has the k-th best.",
        "Compare with `[:, -1:]`, which keeps an axis, and use `masked_fill(…, -math.inf)`.",
        "`topk` refuses a k above the vocabulary. `min(k, logits.shape[-1])` does not.",
    ),
    mistakes=(
        Mistake(
            "keeps_k_smallest",
            "You keep the k worst tokens. `topk` gives the best; sorting goes up unless you say "
            "`descending=True`.",
            _keeps_k_smallest,
        ),
        Mistake("zero_instead_of_minus_inf", ZERO, _zero_for_top_k),
        Mistake("large_number", LARGE_NUMBER, _large_number_for_top_k),
        Mistake(
            "k_over_vocab_error",
            "Yours stops where k is above the number of tokens. It should keep all of them: "
            "`min(k, logits.shape[-1])`.",
            _k_over_vocab_error,
        ),
        Mistake(
            "drops_ties",
            "Where several tokens are as good as the k-th, you keep some of them and drop others. "
            "Nothing but chance would tell them apart: keep whatever ties.",
            _drops_ties,
        ),
        Mistake(
            "drops_the_last",
            "You drop the k-th token itself. Only what is below it must go: `<`, not `<=`.",
            _drops_the_last,
        ),
        Mistake("keeps_one_more", "You keep k + 1 tokens: counting begins at 0.", _keeps_one_more),
        Mistake(
            "returns_k_logits",
            "You return k logits. Every token keeps its place: the shape stays the same, and what "
            "is removed becomes minus infinity.",
            _returns_k_logits,
        ),
        Mistake(
            "not_scattered_back",
            "Your logits are sorted, so they belong to other tokens now. Find the threshold in the "
            "sorted ones and apply it to the logits themselves.",
            _sorted_logits,
        ),
        Mistake(
            "first_k",
            "You keep tokens number 0 to k - 1. Keep the k best.",
            _first_k,
        ),
        Mistake(
            "one_threshold_for_all",
            "You use one threshold for all rows. Every row has its own k-th best.",
            _one_threshold_for_all,
        ),
        Mistake(
            "along_the_batch",
            "You choose along the batch. The vocabulary is the last axis.",
            _along_the_batch,
        ),
        Mistake(
            "forgot_the_axis",
            "Your threshold has lost its axis, so it meets tokens instead of rows: an error, or "
            "wrong tokens where the sizes fit. Use `[:, -1:]`.",
            _forgot_the_axis,
        ),
        Mistake("returns_probabilities", PROBABILITIES, _probabilities_of_top_k),
        Mistake("in_place", IN_PLACE, _top_k_in_place),
    ),
    alternatives=(_top_k_by_sorting, _top_k_by_kthvalue, _top_k_by_counting),
)

# --- top_p ---------------------------------------------------------------------------------------


def _nucleus(row: Tensor, p: float, crossing: bool = True) -> list[int]:
    """Tokens from the best on, until they have p together."""
    probabilities = _probabilities(row)
    chosen, total = [], 0.0
    for token in sorted(range(len(row)), key=lambda one: -probabilities[one]):
        if total >= p < 1 or not (crossing or total + probabilities[token] <= p):
            break
        chosen.append(token)
        total += probabilities[token]
    return chosen


def _top_p_by_hand(logits: Tensor, p: float) -> Tensor:
    return _keep(logits, [_nucleus(row, p) for row in logits])


def _top_p_cases() -> list[Case]:
    normal = inputs.normal
    shuffled = _log([0.05, 0.3, 0.15, 0.5], [0.3, 0.1, 0.38, 0.22], [0.27, 0.24, 0.26, 0.23])
    cases = _filter_cases(
        "top_p",
        _top_p_by_hand,
        "p",
        (
            ("four tokens", SMALL, (0.6, 0.4, 0.85)),
            ("in no order", shuffled, (0.45, 0.7, 0.97)),
            ("so little that one is left", shuffled, (1e-4,)),
            ("everything", shuffled, (1.0, 1)),
            ("everything, however unlikely", torch.tensor([[40.0, 0.0, 1.0, 20.0]]), (1.0,)),
            ("rows that differ", 2 * normal(4, 9), (0.3, 0.75)),
            ("as many rows as tokens", 2 * normal(5, 5), (0.8,)),
            ("some are removed already", REMOVED, (0.6, 0.95)),
            ("a sure row", torch.tensor([[9.0, 0.0, 1.0], [0.0, 0.5, 0.2]]), (0.9,)),
            ("a transposed view", 2 * normal(6, 2).T, (0.7,)),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.7,)),
        ),
    )
    alike = {"logits": torch.zeros(1, 4), "p": 0.5}
    count = lambda part, **given: _left_per_row(part(**given))  # noqa: E731
    oracle = lambda logits, p: torch.tensor([2])  # noqa: E731
    return [*cases, Case("how many of four alike", alike, oracle, count, "top_p(logits, 0.5)")]


def _left_per_row(logits: Any) -> Any:
    return logits.isfinite().sum(-1) if isinstance(logits, Tensor) else logits


def _loses_some_at_one(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


def _drops_crossing_token(logits, p):
    return _keep(logits, [_nucleus(row, p + 1e-6, crossing=False) for row in logits])


def _crossing_dropped_but_one(logits, p):
    kept = [_nucleus(row, p + 1e-6, crossing=False) or [int(row.argmax())] for row in logits]
    return _keep(logits, kept)


def _unsorted_cumsum(logits, p):
    probabilities = logits.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill(before >= p, -math.inf)


def _not_scattered_back(logits, p):
    ordered, _ = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return ordered.masked_fill(before >= p, -math.inf)


def _sorted_mask_on_unsorted(logits, p):
    probabilities = logits.softmax(-1).sort(descending=True, stable=True).values
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill(before >= p, -math.inf)


def _gathered_instead_of_scattered(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill((before >= p).gather(-1, order), -math.inf)


def _starts_with_the_worst(logits, p):
    probabilities, order = logits.softmax(-1).sort(stable=True)
    before = probabilities.cumsum(-1) - probabilities
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


def _sums_logits(logits, p):
    ordered, order = logits.sort(descending=True, stable=True)
    keep = torch.zeros_like(logits, dtype=torch.bool)
    keep = keep.scatter(-1, order, ordered.cumsum(-1) - ordered < p)
    return logits.masked_fill(~keep, -math.inf)


def _at_least_p_each(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, -math.inf)


def _one_too_many(logits, p):
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    before = F.pad(probabilities.cumsum(-1), (2, 0))[:, : logits.shape[-1]]
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


def _zero_for_top_p(logits, p):
    filtered = _top_p_by_hand(logits, p)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


def _large_number_for_top_p(logits, p):
    return _top_p_by_hand(logits, p).clamp_min(-1e9)


def _probabilities_of_top_p(logits, p):
    return _top_p_by_hand(logits, p).softmax(-1)


def _top_p_in_place(logits, p):
    return logits.copy_(_top_p_by_hand(logits.detach().clone(), p))


def _removes_the_nucleus(logits, p):
    filtered = _top_p_by_hand(logits, p)
    return logits.masked_fill(filtered != -math.inf, -math.inf)


def _top_p_shifted(logits, p):
    """As it is often written: remove what is above p, shifted by one."""
    if p == 1:
        return logits.clone()
    ordered, order = logits.sort(descending=True)
    remove = ordered.softmax(-1).cumsum(-1) >= p
    remove = torch.cat((torch.zeros_like(remove[:, :1]), remove[:, :-1]), dim=-1)
    return logits.masked_fill(remove.scatter(-1, order, remove), -math.inf)


def _top_p_from_the_worst(logits, p):
    ordered, order = logits.sort(dim=-1)
    remove = ordered.softmax(-1).cumsum(-1) <= 1 - p
    remove[:, -1] = False
    ordered = ordered.masked_fill(remove, -math.inf)
    return torch.zeros_like(logits).scatter(-1, order, ordered)


def _top_p_by_threshold(logits, p):
    """The weakest probability that is still needed is the threshold."""
    probabilities = logits.softmax(-1)
    ordered, order = probabilities.sort(-1, descending=True)
    needed = ((ordered.cumsum(-1) < p).sum(-1, keepdim=True) + 1).clamp_max(logits.shape[-1])
    rank = order.argsort(-1)
    return torch.where((rank < needed) | (p >= 1), logits, -math.inf)


TOP_P = Exercise(
    part="sampling.top_p",
    notebook="08",
    used_by="`python -m course_utils sample` and the playground",
    cases=_top_p_cases,
    hints=(
        "Sort the probabilities, the best first. A token stays if all better ones together have "
        "less than p.",
        "`cumsum` counts a token itself, too. Subtract its own probability to get what is before "
        "it: `probabilities.cumsum(-1) - probabilities`.",
        "`values, order = probabilities.sort(descending=True)`: `order` says whose they are. "
        "`torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, keep)` puts a mask back.",
        "`logits.masked_fill(~keep, -math.inf)` at the end. With p = 1 everything stays.",
    ),
    mistakes=(
        Mistake(
            "drops_crossing_token",
            "You drop the token that crosses p, and where the best one alone has more than p, "
            "nothing is left. It is needed to reach p: keep it.",
            _drops_crossing_token,
        ),
        Mistake(
            "drops_crossing_token_but_one",
            "You drop the token that crosses p, except where it is the best. It is needed to reach "
            "p: keep it. A token stays if those before it have less than p.",
            _crossing_dropped_but_one,
        ),
        Mistake(
            "loses_some_at_one",
            "With p = 1 you lose tokens: their probabilities are so small that the sum is rounded "
            "to 1 before they are counted. Return the logits as they are where p is 1.",
            _loses_some_at_one,
        ),
        Mistake(
            "unsorted_cumsum",
            "You add the probabilities up in the order of the vocabulary. Sort them first, the "
            "best in front.",
            _unsorted_cumsum,
        ),
        Mistake(
            "not_scattered_back",
            "Your logits are sorted, so they belong to other tokens now. Bring them, or the mask, "
            "back to the old places with `scatter`.",
            _not_scattered_back,
        ),
        Mistake(
            "sorted_mask_on_unsorted",
            "Your mask is in sorted order and your logits are not. `scatter` it back: `order` says "
            "where each entry belongs.",
            _sorted_mask_on_unsorted,
        ),
        Mistake(
            "gathered_instead_of_scattered",
            "You `gather` with `order`, which sorts once more. The way back is `scatter`, or "
            "`gather` with `order.argsort(-1)`.",
            _gathered_instead_of_scattered,
        ),
        Mistake(
            "starts_with_the_worst",
            "You begin with the least likely tokens. Sort with `descending=True`.",
            _starts_with_the_worst,
        ),
        Mistake(
            "sums_logits",
            "You add logits up. p is a probability: take the softmax first.",
            _sums_logits,
        ),
        Mistake(
            "each_at_least_p",
            "You ask every token for the probability p. The tokens have it together: `cumsum`.",
            _at_least_p_each,
        ),
        Mistake(
            "one_too_many",
            "You keep one token after the one that crosses p. What counts is the sum before a "
            "token, without the token itself.",
            _one_too_many,
        ),
        Mistake(
            "removes_the_nucleus",
            "You remove what should stay. Turn the mask around.",
            _removes_the_nucleus,
        ),
        Mistake("zero_instead_of_minus_inf", ZERO, _zero_for_top_p),
        Mistake("large_number", LARGE_NUMBER, _large_number_for_top_p),
        Mistake("returns_probabilities", PROBABILITIES, _probabilities_of_top_p),
        Mistake("in_place", IN_PLACE, _top_p_in_place),
    ),
    alternatives=(_top_p_shifted, _top_p_from_the_worst, _top_p_by_threshold),
)

# --- min_p ---------------------------------------------------------------------------------------


def _min_p_by_hand(logits: Tensor, share: float) -> Tensor:
    rows = [_probabilities(row) for row in logits]
    return _keep(
        logits, [[i for i, one in enumerate(row) if one >= share * max(row)] for row in rows]
    )


def _min_p_cases() -> list[Case]:
    normal = inputs.normal
    heights = torch.tensor([[9.0, 6.0, 3.0, 0.0], [2.0, 1.5, 1.0, -1.0], [-1.0, -4.0, -2.0, -1.2]])
    return _filter_cases(
        "min_p",
        _min_p_by_hand,
        "share",
        (
            ("four tokens", SMALL, (0.4, 0.05)),
            ("a sure row and unsure ones", heights, (0.1, 0.3, 0.6)),
            ("everything", heights, (0.0,)),
            ("the best alone", heights, (1.0,)),
            ("two are best", torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]), (1.0, 0.5)),
            ("rows that differ", 2 * normal(4, 9), (0.02, 0.2)),
            ("as many rows as tokens", 2 * normal(5, 5), (0.15,)),
            ("all below zero", -9 - normal(2, 6).abs(), (0.4,)),
            ("some are removed already", REMOVED, (0.3, 0.0)),
            ("large logits", 60 * normal(3, 6), (0.1,)),
            ("a transposed view", 2 * normal(6, 2).T, (0.2,)),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.2,)),
        ),
    )


def _absolute_threshold(logits, share):
    return logits.masked_fill(logits.softmax(-1) < share, -math.inf)


def _absolute_but_the_best(logits, share):
    weak = (logits.softmax(-1) < share) & (logits < logits.amax(-1, keepdim=True))
    return logits.masked_fill(weak, -math.inf)


def _logit_threshold(logits, share):
    return logits.masked_fill(logits < share * logits.amax(-1, keepdim=True), -math.inf)


def _logit_distance(logits, share):
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) - share, -math.inf)


def _best_of_all_rows(logits, share):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.max(), -math.inf)


def _share_of_the_mean(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < share * probabilities.mean(-1, keepdim=True)
    return logits.masked_fill(weak, -math.inf)


def _share_below_the_best(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < probabilities.amax(-1, keepdim=True) - share
    return logits.masked_fill(weak, -math.inf)


def _removes_the_best(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities <= share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(weak, -math.inf)


def _keeps_the_weak(logits, share):
    probabilities = logits.softmax(-1)
    weak = probabilities < share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(~weak, -math.inf)


def _min_p_forgot_keepdim(logits, share):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(-1), -math.inf)


def _min_p_sums(logits, share):
    return _top_p_by_hand(logits, 1 - share)


def _zero_for_min_p(logits, share):
    filtered = _min_p_by_hand(logits, share)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


def _large_number_for_min_p(logits, share):
    return _min_p_by_hand(logits, share).clamp_min(-1e9)


def _probabilities_of_min_p(logits, share):
    return _min_p_by_hand(logits, share).softmax(-1)


def _min_p_in_place(logits, share):
    return logits.copy_(_min_p_by_hand(logits.detach().clone(), share))


def _min_p_by_distance(logits, share):
    """In logits a factor is a distance."""
    distance = math.log(share) if share else -math.inf
    return torch.where(logits >= logits.amax(-1, keepdim=True) + distance, logits, -math.inf)


def _min_p_by_ratio(logits, share):
    ratio = (logits - logits.max(dim=-1, keepdim=True).values).exp()
    return logits.masked_fill(~(ratio >= share), float("-inf"))


def _min_p_by_writing(logits, share):
    p = torch.softmax(logits, dim=-1)
    filtered = logits.clone()
    filtered[p < share * p.max(dim=-1, keepdim=True)[0]] = -torch.inf
    return filtered


MIN_P = Exercise(
    part="sampling.min_p",
    notebook="08",
    used_by="`python -m course_utils sample` and the playground",
    cases=_min_p_cases,
    hints=(
        "The threshold moves with the best token of the row: a sure model keeps few tokens, an "
        "unsure one many.",
        "Take the softmax. The threshold of a row is `share` times its largest probability.",
        "`probabilities.amax(-1, keepdim=True)` is the largest of every row, and `keepdim` lets it "
        "meet all tokens of the row.",
        "Mask the logits, not the probabilities: `logits.masked_fill(…, -math.inf)`.",
    ),
    mistakes=(
        Mistake(
            "absolute_threshold",
            "You compare with `share` itself. It is a share of the best token's probability.",
            _absolute_threshold,
        ),
        Mistake(
            "absolute_threshold_but_one",
            "You compare with `share` itself, and save the best token. The threshold is `share` "
            "times the best one's probability.",
            _absolute_but_the_best,
        ),
        Mistake(
            "logit_threshold",
            "You multiply the best logit. Logits may be negative, and their zero means nothing: "
            "compare probabilities.",
            _logit_threshold,
        ),
        Mistake(
            "logit_distance",
            "You subtract `share` from the best logit. A share of a probability is a factor: in "
            "logits that would be the distance log(share).",
            _logit_distance,
        ),
        Mistake(
            "best_of_all_rows",
            "You use the best probability of the whole batch. Every row has its own: axis -1.",
            _best_of_all_rows,
        ),
        Mistake(
            "share_of_the_mean",
            "You take a share of the mean. It is a share of the largest probability.",
            _share_of_the_mean,
        ),
        Mistake(
            "subtracts_the_share",
            "You subtract `share` from the best probability. Multiply.",
            _share_below_the_best,
        ),
        Mistake(
            "can_remove_everything",
            "A token that has exactly the threshold stays. With a share of 1 that is the best one: "
            "yours removes it, and nothing is left. Use `<`.",
            _removes_the_best,
        ),
        Mistake("keeps_the_weak", "You keep the weak and remove the strong.", _keeps_the_weak),
        Mistake(
            "forgot_keepdim",
            "Your largest probabilities have lost an axis, so they meet tokens instead of rows. "
            "Use `keepdim=True`.",
            _min_p_forgot_keepdim,
        ),
        Mistake(
            "sums_up",
            "You add probabilities up, as top-p does. Min-p looks at every token alone.",
            _min_p_sums,
        ),
        Mistake("zero_instead_of_minus_inf", ZERO, _zero_for_min_p),
        Mistake("large_number", LARGE_NUMBER, _large_number_for_min_p),
        Mistake("returns_probabilities", PROBABILITIES, _probabilities_of_min_p),
        Mistake("in_place", IN_PLACE, _min_p_in_place),
    ),
    alternatives=(_min_p_by_distance, _min_p_by_ratio, _min_p_by_writing),
)

# --- epsilon_cutoff ------------------------------------------------------------------------------


def _epsilon_by_hand(logits: Tensor, epsilon: float) -> Tensor:
    rows = [_probabilities(row) for row in logits]
    return _keep(
        logits,
        [[i for i, one in enumerate(row) if one >= epsilon or one == max(row)] for row in rows],
    )


def _epsilon_cases() -> list[Case]:
    normal = inputs.normal
    ties = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 0.0, -1.0]])
    return _filter_cases(
        "epsilon_cutoff",
        _epsilon_by_hand,
        "epsilon",
        (
            ("four tokens", SMALL, (0.2, 0.12)),
            ("more than any token has", SMALL, (0.6, 0.99)),
            ("more than some rows have", 2 * normal(4, 9), (0.4,)),
            ("rows that differ", 2 * normal(4, 9), (0.02, 0.1)),
            ("everything", SMALL, (0.0,)),
            ("some are best together", ties, (0.3, 0.6)),
            ("as many rows as tokens", 2 * normal(5, 5), (0.12,)),
            ("all below zero", -9 - normal(2, 6).abs(), (0.15, 0.9)),
            ("some are removed already", REMOVED, (0.2, 0.9)),
            ("a transposed view", 2 * normal(6, 2).T, (0.1,)),
            ("float64", 2 * normal(2, 6, dtype=torch.float64), (0.1, 0.95)),
        ),
    )


def _can_remove_everything(logits, epsilon):
    return logits.masked_fill(logits.softmax(-1) < epsilon, -math.inf)


def _share_of_the_best(logits, epsilon):
    return _min_p_by_hand(logits, epsilon)


def _logits_below_epsilon(logits, epsilon):
    weak = (logits < epsilon) & (logits < logits.amax(-1, keepdim=True))
    return logits.masked_fill(weak, -math.inf)


def _one_best_of_the_batch(logits, epsilon):
    weak = (logits.softmax(-1) < epsilon) & (logits < logits.max())
    return logits.masked_fill(weak, -math.inf)


def _all_or_nothing(logits, epsilon):
    weak = logits.softmax(-1) < epsilon
    return logits.clone() if bool(weak.all()) else logits.masked_fill(weak, -math.inf)


def _row_stays_whole(logits, epsilon):
    weak = logits.softmax(-1) < epsilon
    return logits.masked_fill(weak & ~weak.all(-1, keepdim=True), -math.inf)


def _first_best_only(logits, epsilon):
    best = F.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
    return logits.masked_fill((logits.softmax(-1) < epsilon) & ~best, -math.inf)


def _removes_the_likely(logits, epsilon):
    return logits.masked_fill(logits.softmax(-1) >= epsilon, -math.inf)


def _adds_up_to_epsilon(logits, epsilon):
    return _top_p_by_hand(logits, 1 - epsilon)


def _tail_above_epsilon(logits, epsilon):
    best = logits == logits.amax(-1, keepdim=True)
    return logits.masked_fill((logits.softmax(-1) > epsilon) & ~best, -math.inf)


def _zero_for_epsilon(logits, epsilon):
    filtered = _epsilon_by_hand(logits, epsilon)
    return filtered.masked_fill(filtered == -math.inf, 0.0)


def _large_number_for_epsilon(logits, epsilon):
    return _epsilon_by_hand(logits, epsilon).clamp_min(-1e9)


def _probabilities_of_epsilon(logits, epsilon):
    return _epsilon_by_hand(logits, epsilon).softmax(-1)


def _epsilon_in_place(logits, epsilon):
    return logits.copy_(_epsilon_by_hand(logits.detach().clone(), epsilon))


def _epsilon_by_where(logits, epsilon):
    p = logits.softmax(-1)
    keep = (p >= epsilon) | (logits == logits.max(-1, keepdim=True).values)
    return torch.where(keep, logits, -math.inf)


def _epsilon_by_lower_threshold(logits, epsilon):
    """Where the best token has less than epsilon, its own probability is the threshold."""
    p = logits.softmax(-1)
    return logits.masked_fill(p < p.amax(-1, keepdim=True).clamp_max(epsilon), -math.inf)


def _epsilon_by_log(logits, epsilon):
    log_p = logits.log_softmax(-1)
    threshold = math.log(epsilon) if epsilon else -math.inf
    keep = (log_p >= threshold) | (log_p >= log_p.amax(-1, keepdim=True))
    return logits.masked_fill(keep.logical_not(), -torch.inf)


EPSILON_CUTOFF = Exercise(
    part="sampling.epsilon_cutoff",
    notebook="08",
    used_by="the playground",
    cases=_epsilon_cases,
    hints=(
        "Take the softmax, and remove tokens whose probability is below epsilon.",
        "Where all tokens are below epsilon, nothing would be left, and softmax would give NaN. So "
        "the best token stays in any case.",
        "`logits == logits.amax(-1, keepdim=True)` is True at the best token of every row. A token "
        "goes if it is improbable and not the best: `&` and `~`.",
    ),
    mistakes=(
        Mistake(
            "can_remove_everything",
            "Where no token has the probability epsilon, nothing is left, and softmax gives NaN. "
            "Keep the best token in any case.",
            _can_remove_everything,
        ),
        Mistake(
            "share_of_the_best",
            "You multiply epsilon with the best probability. That is min-p. Epsilon is a "
            "probability itself.",
            _share_of_the_best,
        ),
        Mistake(
            "logit_threshold",
            "You compare logits with epsilon. It is a probability: take the softmax first.",
            _logits_below_epsilon,
        ),
        Mistake(
            "one_best_of_the_batch",
            "You save the best token of the whole batch. Every row needs one: axis -1.",
            _one_best_of_the_batch,
        ),
        Mistake(
            "all_or_nothing",
            "You look whether anything is left in the whole batch. One row may be empty while "
            "others are not: decide for every row.",
            _all_or_nothing,
        ),
        Mistake(
            "row_stays_whole",
            "Where no token reaches epsilon, you keep the whole row. Keep its best token only.",
            _row_stays_whole,
        ),
        Mistake(
            "first_best_only",
            "Where several tokens are best together, you save the first of them. Save all that are "
            "best.",
            _first_best_only,
        ),
        Mistake("removes_the_likely", "You remove the likely tokens.", _removes_the_likely),
        Mistake(
            "removes_the_likely_but_one",
            "You save the best token and remove the other likely ones. Turn the comparison around.",
            _tail_above_epsilon,
        ),
        Mistake(
            "adds_up",
            "You add probabilities up, as top-p does. Epsilon looks at every token alone.",
            _adds_up_to_epsilon,
        ),
        Mistake("zero_instead_of_minus_inf", ZERO, _zero_for_epsilon),
        Mistake("large_number", LARGE_NUMBER, _large_number_for_epsilon),
        Mistake("returns_probabilities", PROBABILITIES, _probabilities_of_epsilon),
        Mistake("in_place", IN_PLACE, _epsilon_in_place),
    ),
    alternatives=(_epsilon_by_where, _epsilon_by_lower_threshold, _epsilon_by_log),
)

# --- penalise ------------------------------------------------------------------------------------


def _penalise_by_hand(
    logits: Tensor,
    ids: Tensor,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> Tensor:
    """One number after the other."""

    def penalised(logit: Tensor, times: int) -> Tensor:
        if not times:
            return logit
        factor = 1 / repetition if logit > 0 else repetition
        return logit * factor - presence - frequency * times

    rows = zip(logits, ids.tolist(), strict=True)
    return torch.stack(
        [
            torch.stack([penalised(logit, text.count(i)) for i, logit in enumerate(row)])
            for row, text in rows
        ]
    )


@torch.no_grad()
def _without_gradient(part: Part, **arguments: Any) -> Any:
    """`scatter`, with which many write this, has no right gradient where a token comes twice."""
    return part(**arguments)


@torch.no_grad()
def _penalised_by_hand(*arguments: Any) -> Tensor:
    return _penalise_by_hand(*arguments)


PENALTIES: dict[str, Any] = {"repetition": 1.5, "presence": 0.5, "frequency": 0.25}


def _penalise_cases() -> list[Case]:
    def case(title: str, logits: Tensor, ids: Tensor, **penalties: float) -> Case:
        given = "".join(f", {name}={value}" for name, value in penalties.items())
        neutral = {"repetition": 1.0, "presence": 0.0, "frequency": 0.0} if penalties else {}
        arguments = {"logits": logits, "ids": ids, **neutral, **penalties}
        call = f"penalise(logits, ids{given})"
        return Case(title, arguments, _penalised_by_hand, _without_gradient, call)

    small = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-3.0, 1.0, 4.0, -0.5]])
    said = torch.tensor([[0, 1, 0], [2, 2, 2]])
    logits, ids = 2 * inputs.normal(3, 6), inputs.integers(3, 8, below=6)
    square = 2 * inputs.normal(4, 4), inputs.integers(4, 4, below=4)
    views = 2 * inputs.normal(6, 3).T, inputs.integers(5, 3, below=6).T
    doubles = 2 * inputs.normal(2, 6, dtype=torch.float64), inputs.integers(2, 3, below=6)
    return [
        case("repetition", small, said, repetition=2.0),
        case("presence", small, said, presence=0.5),
        case("frequency", small, said, frequency=0.5),
        case("nothing", small, said),
        case("all three", logits, ids, **PENALTIES),
        case("repetition below 1", logits, ids, repetition=0.8),
        case("what was said is wanted", logits, ids, presence=-0.5, frequency=-0.25),
        case("nothing said yet", logits, ids[:, :0], **PENALTIES),
        case("one token said", logits, ids[:, :1], **PENALTIES),
        case("as many of everything", *square, **PENALTIES),
        case("a long text", logits, inputs.integers(3, 40, below=4), **PENALTIES),
        case("removed tokens", REMOVED, inputs.integers(2, 7, below=5), **PENALTIES),
        case("transposed views", *views, **PENALTIES),
        case("float64", *doubles, **PENALTIES),
    ]


def _how_often(logits, ids):
    """How often each token of the vocabulary was said, in every row."""
    return F.one_hot(ids, logits.shape[-1]).sum(1).to(logits.dtype)


def _penalised(logits, counts, repetition, presence, frequency):
    """The formula, with counts and a repetition that the mistakes below choose."""
    weaker = torch.where(logits > 0, logits / repetition, logits * repetition)
    said = counts > 0
    return torch.where(said, weaker, logits) - presence * said - frequency * counts


def _divides_negative_logits(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    weaker = torch.where(counts > 0, logits / repetition, logits)
    return weaker - presence * (counts > 0) - frequency * counts


def _multiplies_positive(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, 1 / repetition, presence, frequency)


def _subtracts_repetition(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    logits = torch.where(counts > 0, logits - repetition, logits)
    return logits - presence * (counts > 0) - frequency * counts


def _once_per_occurrence(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition**counts, presence, frequency)


def _counts_once_for_frequency(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    once = _how_often(logits, ids).clamp_max(1)
    return _penalised(logits, once, repetition, presence, frequency)


def _presence_every_time(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, 0.0, presence + frequency)


def _adds(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, -presence, -frequency)


def _swapped_penalties(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, frequency, presence)


def _whole_batch_said_it(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids).sum(0, keepdim=True).expand(logits.shape)
    return _penalised(logits, counts, repetition, presence, frequency)


def _only_the_last_token(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids[:, -1:])
    return _penalised(logits, counts, repetition, presence, frequency)


def _everyone_is_penalised(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    weaker = torch.where(logits > 0, logits / repetition, logits * repetition)
    counts = _how_often(logits, ids)
    return weaker - presence * (counts > 0) - frequency * counts


def _unsaid_are_penalised(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    unsaid = (_how_often(logits, ids) == 0).to(logits.dtype)
    return _penalised(logits, unsaid, repetition, presence, frequency)


def _share_of_the_text(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids) / max(ids.shape[1], 1)
    return _penalised(logits, counts, repetition, presence, frequency)


def _subtracts_first(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    lower = logits - presence * (counts > 0) - frequency * counts
    return _penalised(lower, counts, repetition, 0.0, 0.0)


def _only_repetition(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    return _penalised(logits, _how_often(logits, ids), repetition, 0.0, 0.0)


def _penalises_in_place(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    penalised = _penalised(logits.detach().clone(), counts, repetition, presence, frequency)
    return logits.copy_(penalised)


def _penalise_with_one_hot(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = F.one_hot(ids, logits.shape[-1]).sum(dim=1)
    weaker = torch.maximum(logits.neg(), torch.zeros_like(logits)) * -repetition
    weaker = torch.where(logits < 0, weaker, logits / repetition)
    return (
        torch.where(counts == 0, logits, weaker)
        - presence * counts.clamp(max=1)
        - frequency * counts
    )


def _penalise_with_gather(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    seen = logits.gather(1, ids)
    seen = torch.where(seen < 0, seen * repetition, seen / repetition)
    weaker = logits.scatter(1, ids, seen)
    counts = (ids[:, :, None] == torch.arange(logits.shape[1])).sum(1)
    return weaker - presence * counts.bool() - frequency * counts


def _penalise_row_by_row(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    rows = []
    for row, text in zip(logits, ids, strict=True):
        counts = torch.bincount(text, minlength=len(row)).to(row.dtype)
        weaker = torch.where(row > 0, row / repetition, row * repetition)
        row = torch.where(counts > 0, weaker - presence, row)
        rows.append(row - frequency * counts)
    return torch.stack(rows)


PENALISE = Exercise(
    part="sampling.penalise",
    notebook="08",
    used_by="`python -m course_utils sample` and the playground",
    cases=_penalise_cases,
    hints=(
        "Count how often each token of the vocabulary was said in its row: a tensor of the shape "
        "of `logits`. `torch.zeros_like(logits).scatter_add(1, ids, ones)` counts.",
        "What was said at least once, `counts > 0`, gets the repetition penalty: divide the logit "
        "where it is positive, multiply where it is negative. Both make it smaller.",
        "`torch.where(said, weakened, logits)` leaves the others alone.",
        "Then subtract `presence` where it was said, and `frequency` times the counts.",
    ),
    mistakes=(
        Mistake(
            "divides_negative_logits",
            "You divide negative logits, too. That brings them nearer to 0, and the token becomes "
            "more likely. Multiply them.",
            _divides_negative_logits,
        ),
        Mistake(
            "multiplies_positive",
            "You multiply positive logits and divide negative ones: what was said becomes more "
            "likely. It is the other way round.",
            _multiplies_positive,
        ),
        Mistake(
            "subtracts_repetition",
            "You subtract `repetition`. It is a factor: 1 changes nothing.",
            _subtracts_repetition,
        ),
        Mistake(
            "once_per_occurrence",
            "You apply `repetition` once for every time. It counts once, however often a token was "
            "said.",
            _once_per_occurrence,
        ),
        Mistake(
            "counts_once_for_frequency",
            "You subtract `frequency` once. Multiply it with how often the token was said.",
            _counts_once_for_frequency,
        ),
        Mistake(
            "presence_every_time",
            "You subtract `presence` for every time. It counts once: that is what makes it differ "
            "from `frequency`.",
            _presence_every_time,
        ),
        Mistake(
            "adds_instead_of_subtracts",
            "You add `presence` and `frequency`, so what was said becomes more likely. Subtract.",
            _adds,
        ),
        Mistake(
            "swapped_penalties",
            "You swapped `presence` and `frequency`: the second is multiplied with the counts.",
            _swapped_penalties,
        ),
        Mistake(
            "whole_batch_said_it",
            "You count what all rows said together. Every row is a text of its own.",
            _whole_batch_said_it,
        ),
        Mistake(
            "only_the_last_token",
            "You look at the last token only. All of the text counts.",
            _only_the_last_token,
        ),
        Mistake(
            "everyone_is_penalised",
            "You apply `repetition` to all tokens. Those that were not said stay as they are.",
            _everyone_is_penalised,
        ),
        Mistake(
            "unsaid_are_penalised",
            "You penalise what was not said yet.",
            _unsaid_are_penalised,
        ),
        Mistake(
            "share_of_the_text",
            "You divide the counts by the length of the text. `frequency` is subtracted for every "
            "time.",
            _share_of_the_text,
        ),
        Mistake(
            "subtracts_first",
            "You subtract before you divide. The order matters: `repetition` first, for the logits "
            "as they are.",
            _subtracts_first,
        ),
        Mistake(
            "only_repetition",
            "You leave `presence` and `frequency` out.",
            _only_repetition,
        ),
        Mistake(
            "in_place",
            "Your numbers are right, but you write them into the caller's logits. Make a new "
            "tensor: `torch.where`.",
            _penalises_in_place,
        ),
    ),
    alternatives=(_penalise_with_one_hot, _penalise_with_gather, _penalise_row_by_row),
)

# --- generate ------------------------------------------------------------------------------------


class _Teller:
    """A model without chance: what it says depends on every token that it reads, and its place."""

    def __init__(self, vocabulary: int = 7, longest: int | None = None, seed: int = 0):
        self.table = 2 * inputs.normal(13, vocabulary, seed=seed)
        self.longest = longest

    def __repr__(self) -> str:
        return "a small model"

    def __call__(self, ids: Tensor) -> Tensor:
        if self.longest and ids.shape[1] > self.longest:
            raise ValueError(f"the model reads {self.longest} tokens, and was given {ids.shape[1]}")
        if not len(ids):
            raise ValueError("the model was given no text to read")
        places = torch.arange(1, ids.shape[1] + 1)
        return self.table[((ids + 1) * places).cumsum(1) % 13]


def _best(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.argmax(-1)


def _by_logits_and_text(logits: Tensor, ids: Tensor) -> Tensor:
    """Depends on the size of the logits and on the whole text."""
    size = (3 * logits.abs().sum(-1)).long()
    places = torch.arange(1, ids.shape[1] + 1)
    return (size + (ids * places).sum(-1)) % logits.shape[-1]


def _generate_by_hand(
    model: Callable, ids: Tensor, n_new: int, choose: Callable, context: int | None = None
) -> Tensor:
    """One row after the other, as lists."""
    texts = ids.tolist()
    for text in texts:
        for _ in range(n_new):
            seen = text[-context:] if context else text
            logits = model(torch.tensor([seen]))[0][len(seen) - 1]
            text.append(int(choose(logits[None], torch.tensor([text]))))
    return torch.tensor(texts)


def _generate_cases() -> list[Case]:
    def case(title: str, ids: Tensor, n_new: int, choose: Callable, **context: Any) -> Case:
        model = _Teller(longest=context.get("context"))
        arguments = {"model": model, "ids": ids, "n_new": n_new, "choose": choose, **context}
        given = "".join(f", {name}={value}" for name, value in context.items())
        call = f"generate(model, ids, {n_new}, choose{given})"
        return Case(title, arguments, _generate_by_hand, shown=call)

    several = inputs.integers(3, 5, below=7)
    return [
        case("two new tokens", torch.tensor([[1, 4, 2]]), 2, _best),
        case("several texts", several, 6, _best),
        case("a choice that looks at the text", several, 6, _by_logits_and_text),
        case("one token to begin with", several[:, :1], 5, _by_logits_and_text),
        case("as many texts as tokens", inputs.integers(4, 4, below=7), 4, _best),
        case("nothing new", several, 0, _best),
        case("one new token", several, 1, _by_logits_and_text),
        case("a short context", several, 6, _by_logits_and_text, context=3),
        case("a context of one token", several, 4, _by_logits_and_text, context=1),
        case("a context that is filled on the way", several, 6, _by_logits_and_text, context=8),
        case("a context that is never full", several, 4, _best, context=20),
        case("no context", several, 4, _by_logits_and_text, context=None),
        case("a transposed view", several.T, 3, _by_logits_and_text),
    ]


class _Writer:
    """`generate` in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, n_new, choose, context=None):
        for _ in range(n_new):
            logits = self.look(model(self.seen(ids, context)))
            ids = self.put(ids, self.pick(choose, logits, ids, context))
        return ids

    def seen(self, ids, context):
        return ids if context is None else ids[:, -context:]

    def look(self, logits):
        return logits[:, -1]

    def pick(self, choose, logits, ids, context):
        return choose(logits, ids)

    def put(self, ids, chosen):
        return torch.cat((ids, chosen[:, None]), dim=1)


class _FirstPosition(_Writer):
    def look(self, logits):
        return logits[:, 0]


class _MeanOfPositions(_Writer):
    def look(self, logits):
        return logits.mean(1)


class _LastRow(_Writer):
    def look(self, logits):
        return logits[-1]


class _NoCrop(_Writer):
    def seen(self, ids, context):
        return ids


class _CropsTheWrongEnd(_Writer):
    def seen(self, ids, context):
        return ids if context is None else ids[:, :context]


class _CropsOneTooMany(_Writer):
    def seen(self, ids, context):
        return ids if context is None else ids[:, -max(context - 1, 1) :]


class _SeesTheLastTokenOnly(_Writer):
    def seen(self, ids, context):
        return ids[:, -1:]


class _TextLosesItsBeginning(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        for _ in range(n_new):
            ids = self.seen(ids, context)
            ids = self.put(ids, choose(model(ids)[:, -1], ids))
        return ids


class _ProbabilitiesToChoose(_Writer):
    def pick(self, choose, logits, ids, context):
        return choose(logits.softmax(-1), ids)


class _AlwaysTheBest(_Writer):
    def pick(self, choose, logits, ids, context):
        return logits.argmax(-1)


class _ChoosesFromTheCut(_Writer):
    def pick(self, choose, logits, ids, context):
        return choose(logits, self.seen(ids, context))


class _NewTokensOnly(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        return super().__call__(model, ids, n_new, choose, context)[:, ids.shape[1] :]


class _ForgetsToAppend(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        text = ids
        for _ in range(n_new):
            text = self.put(text, choose(model(self.seen(ids, context))[:, -1], ids))
        return text


class _KeepsOnlyTheLast(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        start = ids
        for _ in range(n_new):
            chosen = choose(model(self.seen(ids, context))[:, -1], ids)
            ids = self.put(start, chosen)
        return ids


class _PutsInFront(_Writer):
    def put(self, ids, chosen):
        return torch.cat((chosen[:, None], ids), dim=1)


class _OneTooMany(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        return super().__call__(model, ids, n_new + 1, choose, context)


class _UpToNTokens(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        missing = max(n_new - ids.shape[1], 0)
        return super().__call__(model, ids, missing, choose, context)


class _AppendsARow(_Writer):
    def put(self, ids, chosen):
        return torch.cat((ids, chosen[None]), dim=0)


def _generate_in_steps(model, ids, n_new, choose, context=None):
    return _Writer()(model, ids, n_new, choose, context)


def _generate_with_columns(model, ids, n_new, choose, context=None):
    columns = list(ids.unbind(1))
    for _ in range(n_new):
        text = torch.stack(columns, dim=1)
        seen = text[:, -(context or text.shape[1]) :]
        columns.append(choose(model(seen)[:, -1, :], text))
    return torch.stack(columns, dim=1)


def _generate_by_recursion(model, ids, n_new, choose, context=None):
    if n_new == 0:
        return ids
    start = max(0, ids.shape[1] - context) if context is not None else 0
    chosen = choose(model(ids[:, start:])[:, -1], ids)
    return _generate_by_recursion(
        model, torch.hstack((ids, chosen.unsqueeze(1))), n_new - 1, choose, context
    )


GENERATE = Exercise(
    part="sampling.generate",
    notebook="08",
    used_by="`stream`, and by every text that a model of this course writes",
    cases=_generate_cases,
    hints=(
        "Repeat `n_new` times: ask the model, look at the last place, choose, append.",
        "`model(ids)` scores what follows every token. What follows the text is at the last place: "
        "`[:, -1]`.",
        "`choose(logits, ids)` gives one token for each row. `chosen[:, None]` makes a column of "
        "them, and `torch.cat((…, …), dim=1)` puts it behind the text.",
        "With a `context` the model is given `ids[:, -context:]`. Cut what the model reads, not "
        "the text itself.",
    ),
    mistakes=(
        Mistake(
            "uses_first_position_logits",
            "You choose from the logits at the first place: what follows the first token, which is "
            "known. Look at the last place, `[:, -1]`.",
            _FirstPosition(),
        ),
        Mistake(
            "mean_of_positions",
            "You average the logits of all places. Each says what follows its own token: only the "
            "last one is new.",
            _MeanOfPositions(),
        ),
        Mistake(
            "last_row",
            "`[-1]` is the last text of the batch. The last place of every text is `[:, -1]`.",
            _LastRow(),
        ),
        Mistake(
            "no_crop_to_context",
            "You give the model the whole text, however long. With a `context` it can read only "
            "the last so many tokens.",
            _NoCrop(),
        ),
        Mistake(
            "crops_the_wrong_end",
            "You keep the beginning of the text and cut its end. The model needs the last "
            "`context` tokens: `ids[:, -context:]`.",
            _CropsTheWrongEnd(),
        ),
        Mistake(
            "crops_one_too_many",
            "You give the model one token less than it could read.",
            _CropsOneTooMany(),
        ),
        Mistake(
            "sees_the_last_token_only",
            "You give the model the last token only. Without a memory it needs the whole text.",
            _SeesTheLastTokenOnly(),
        ),
        Mistake(
            "text_loses_its_beginning",
            "You cut the text itself to the context, so its beginning is lost. Cut only what the "
            "model reads.",
            _TextLosesItsBeginning(),
        ),
        Mistake(
            "probabilities_to_choose",
            "You give probabilities to `choose`, which takes logits and does its own softmax.",
            _ProbabilitiesToChoose(),
        ),
        Mistake(
            "samples_from_logits_not_choose",
            "You always take the best token. Let `choose` decide.",
            _AlwaysTheBest(),
        ),
        Mistake(
            "chooses_from_the_cut",
            "You give `choose` the cut text. It should know all of it: a penalty counts what was "
            "said long ago, too.",
            _ChoosesFromTheCut(),
        ),
        Mistake(
            "new_tokens_only",
            "You return the new tokens alone. Return the text with them.",
            _NewTokensOnly(),
        ),
        Mistake(
            "forgets_to_append",
            "You ask the model about the same text every time. What it chose must be there when it "
            "is asked again.",
            _ForgetsToAppend(),
        ),
        Mistake(
            "keeps_only_the_last",
            "You append to the first text every time, so only the last token stays.",
            _KeepsOnlyTheLast(),
        ),
        Mistake("puts_in_front", "You put new tokens in front of the text.", _PutsInFront()),
        Mistake("one_too_many", "You write one token more than `n_new`.", _OneTooMany()),
        Mistake(
            "up_to_n_tokens",
            "You stop when the whole text has `n_new` tokens. That is the number of new ones.",
            _UpToNTokens(),
        ),
        Mistake(
            "appends_a_row",
            "You append along axis 0, as if a new text began. Tokens are axis 1.",
            _AppendsARow(),
        ),
    ),
    alternatives=(_generate_in_steps, _generate_with_columns, _generate_by_recursion),
)

# --- beam_search ---------------------------------------------------------------------------------


class _Tree:
    """A model that knows what follows the last token, whatever came before: its table."""

    def __init__(self, table: Tensor):
        self.table = table

    def __repr__(self) -> str:
        return f"a model with p(next | last) =\n{self.table.softmax(-1)}"

    def __call__(self, ids: Tensor) -> Tensor:
        return self.table[ids]


# Token 0 begins; then 1 or 2; behind 1 nothing is likely, behind 2 token 3 is.
MISLED = _Tree(
    torch.tensor(
        [
            [1e-6, 0.6, 0.4, 1e-6],
            [0.32, 0.33, 1e-6, 0.35],
            [0.05, 0.03, 0.02, 0.9],
            [0.25, 0.25, 0.25, 0.25],
        ]
    ).log()
)


def _beams_by_hand(
    model: Callable,
    ids: Tensor,
    n_new: int,
    width: int,
    alpha: float = 1.0,
    end: int | None = None,
) -> tuple:
    """Texts as lists, and sums in Python."""
    live: list[tuple[list[int], float]] = [([], 0.0)]
    complete: list[tuple[list[int], float]] = []
    for length in range(1, n_new + 1):
        grown = []
        for new, total in live:
            log_p = model(torch.tensor([ids.tolist() + new]))[0, -1].double().log_softmax(-1)
            grown += [([*new, token], total + one) for token, one in enumerate(log_p.tolist())]
        grown.sort(key=lambda one: -one[1])
        done = [new[-1] == end or length == n_new for new, _ in grown]
        complete += [
            (new, total / length**alpha)
            for (new, total), ready in zip(grown[:width], done, strict=False)
            if ready
        ]
        complete = sorted(complete, key=lambda one: -one[1])[:width]
        live = [one for one, ready in zip(grown, done, strict=True) if not ready][:width]
        if len(complete) == width and live and live[0][1] / length**alpha <= complete[-1][1]:
            break
    texts = [torch.tensor(ids.tolist() + new) for new, _ in complete]
    return (*texts, torch.tensor([score for _, score in complete]))


def _searched(part: Part, **arguments: Any) -> Any:
    """The texts that were found, and a tensor of their scores."""
    found = part(**arguments)
    if found is None:
        return None
    pairs = isinstance(found, list) and all(
        isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], Tensor) for one in found
    )
    if not pairs or not all(isinstance(score, float) for _, score in found):
        raise Wrong("Return a list of pairs: a text (its ids, a tensor) and its score, a float.")
    return (*(text for text, _ in found), torch.tensor([score for _, score in found]))


def _beam_search_cases() -> list[Case]:
    def case(title: str, model: Any, ids: Tensor, n_new: int, width: int, **named: Any) -> Case:
        arguments = {"model": model, "ids": ids, "n_new": n_new, "width": width}
        arguments |= {"alpha": 1.0, **named}
        given = "".join(f", {name}={value}" for name, value in named.items())
        call = f"beam_search(model, ids, {n_new}, {width}{given})"
        return Case(title, arguments, _beams_by_hand, _searched, call)

    start, some = torch.tensor([0]), torch.tensor([2, 5, 1])
    teller, few = _Teller(), _Teller(vocabulary=4, seed=3)

    def ends_often(title: str, seed: int, n_new: int, width: int, **named: Any) -> Case:
        model = _Teller(vocabulary=5, seed=seed)
        return case(title, model, torch.tensor([1]), n_new, width, **named)

    return [
        case("the best is behind the second best", MISLED, start, 2, 2, alpha=0.0),
        case("one beam: greedy search", MISLED, start, 2, 1, alpha=0.0),
        case("three beams", teller, some, 5, 3),
        case("no division", teller, some, 5, 3, alpha=0.0),
        case("half a division", teller, some, 4, 2, alpha=0.6),
        case("one new token", teller, some, 1, 4),
        case("more beams than tokens", few, torch.tensor([1, 2]), 3, 6),
        case("all texts of two tokens", few, torch.tensor([3]), 2, 16),
        case("texts that end", teller, some, 6, 3, end=4),
        case("texts that end, not divided", teller, some, 6, 3, alpha=0.0, end=4),
        case("texts that end, longer ones preferred", teller, some, 8, 2, alpha=1.5, end=0),
        case("the end is among the first words", few, torch.tensor([0, 3, 1]), 5, 2, end=3),
        case("fewer texts than beams", few, torch.tensor([1, 0]), 1, 6),
        ends_often("many texts end", 5, 5, 2, alpha=0.0, end=0),
        ends_often("many texts end at once", 23, 6, 3, end=3),
        ends_often("many texts end, divided by a root", 27, 8, 3, alpha=0.5, end=0),
        ends_often("many texts end, divided by a square", 38, 8, 2, alpha=2.0, end=0),
    ]


class _Search:
    """Beam search in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        live, complete = [(ids, 0.0)], []
        for length in range(1, n_new + 1):
            grown = self.grow(model, live, width)
            last = length == n_new
            for rank, (text, total) in enumerate(grown):
                if rank < width and (last or self.ended(text, end)):
                    complete.append((text, self.score(total, length, alpha, len(text))))
            complete = self.best(complete, width)
            live = [one for one in grown if not self.ended(one[0], end)][
                : self.room(width, complete)
            ]
            if not live or (not last and self.over(live, complete, length, alpha, width)):
                break
        return complete

    def grow(self, model, live, width):
        """All continuations of all texts by one token, the best first."""
        grown = [one for text, total in live for one in self.steps(model, text, total)]
        return sorted(grown, key=lambda one: -one[1])

    def steps(self, model, text, total):
        log_p = self.log_p(model(text[None])[0])
        pairs = enumerate(log_p.tolist())
        return [(torch.cat((text, torch.tensor([i]))), self.add(total, one)) for i, one in pairs]

    def log_p(self, logits):
        return logits[-1].log_softmax(-1)

    def add(self, total, one):
        return total + one

    def score(self, total, length, alpha, whole):
        return total / length**alpha

    def ended(self, text, end):
        return end is not None and int(text[-1]) == end

    def best(self, complete, width):
        return sorted(complete, key=lambda one: -one[1])[:width]

    def room(self, width, complete):
        return width

    def over(self, live, complete, length, alpha, width):
        return len(complete) == width and live[0][1] / length**alpha <= complete[-1][1]


class _GreedyInDisguise(_Search):
    def grow(self, model, live, width):
        if len(live) == 1 and live[0][1] == 0.0:
            return super().grow(model, live, width)
        best = [max(self.steps(model, *one), key=lambda step: step[1]) for one in live]
        return sorted(best, key=lambda one: -one[1])


class _OnlyGreedy(_Search):
    def grow(self, model, live, width):
        return super().grow(model, live, width)[:1]


class _SumsProbabilities(_Search):
    def log_p(self, logits):
        return logits[-1].softmax(-1)


class _SumsLogits(_Search):
    def log_p(self, logits):
        return logits[-1]


class _NoLengthNormalisation(_Search):
    def score(self, total, length, alpha, whole):
        return total

    def over(self, live, complete, length, alpha, width):
        return len(complete) == width and live[0][1] <= complete[-1][1]


class _AlwaysTheMean(_Search):
    def score(self, total, length, alpha, whole):
        return total / length

    def over(self, live, complete, length, alpha, width):
        return len(complete) == width and live[0][1] / length <= complete[-1][1]


class _MultipliesWithAlpha(_Search):
    def score(self, total, length, alpha, whole):
        return total / (length * alpha) if alpha else total

    def over(self, live, complete, length, alpha, width):
        return (
            len(complete) == width and self.score(live[0][1], length, alpha, 0) <= complete[-1][1]
        )


class _CountsThePrompt(_Search):
    def score(self, total, length, alpha, whole):
        return total / whole**alpha

    def over(self, live, complete, length, alpha, width):
        text, total = live[0]
        return len(complete) == width and total / len(text) ** alpha <= complete[-1][1]


class _LooksAtTheFirstPlace(_Search):
    def log_p(self, logits):
        return logits[0].log_softmax(-1)


class _ForgetsTheSum(_Search):
    def add(self, total, one):
        return one


class _WorstFirst(_Search):
    def grow(self, model, live, width):
        return super().grow(model, live, width)[::-1]


class _NotSorted(_Search):
    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        found = super().__call__(model, ids, n_new, width, alpha, end)
        return sorted(found, key=lambda one: one[0].tolist())


class _OnlyTheBest(_Search):
    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        return super().__call__(model, ids, n_new, width, alpha, end)[:1]


class _NewTokensAlone(_Search):
    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        found = super().__call__(model, ids, n_new, width, alpha, end)
        return [(text[len(ids) :], score) for text, score in found]


class _IgnoresTheEnd(_Search):
    def ended(self, text, end):
        return False


class _CompleteOnesTakeRoom(_Search):
    """A text that is complete takes the place of one that could go on."""

    def room(self, width, complete):
        return max(width - len(complete), 0)


class _NeverOver(_Search):
    def over(self, live, complete, length, alpha, width):
        return False


class _OverWhenFull(_Search):
    def over(self, live, complete, length, alpha, width):
        return len(complete) == width


class _EndsBeyondTheWidth(_Search):
    """Every text that ends is complete, however bad it is."""

    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        live, complete = [(ids, 0.0)], []
        for length in range(1, n_new + 1):
            grown = self.grow(model, live, width)
            done = [one for one in grown if self.ended(one[0], end)]
            live = [one for one in grown if not self.ended(one[0], end)][:width]
            done += live if length == n_new else []
            complete += [(text, total / length**alpha) for text, total in done]
            complete = self.best(complete, width)
            if length < n_new and self.over(live, complete, length, alpha, width):
                break
        return complete


def _beams_in_steps(model, ids, n_new, width, alpha=1.0, end=None):
    return _Search()(model, ids, n_new, width, alpha, end)


def _beams_as_a_batch(model, ids, n_new, width, alpha=1.0, end=None):
    texts, sums, done = ids[None], torch.zeros(1), []
    for length in range(1, n_new + 1):
        log_p = torch.log_softmax(model(texts)[:, -1], dim=-1)
        vocabulary = log_p.shape[1]
        ordered, places = (sums[:, None] + log_p).view(-1).sort(descending=True)
        texts = torch.hstack((texts[places // vocabulary], (places % vocabulary)[:, None]))
        ready = torch.full(ordered.shape, length == n_new)
        if end is not None:
            ready |= texts[:, -1] == end
        for i in ready[:width].nonzero().flatten():
            done.append((texts[i], ordered[i].item() / length**alpha))
        done = sorted(done, key=lambda pair: pair[1], reverse=True)[:width]
        texts, sums = texts[~ready][:width], ordered[~ready][:width]
        full = len(done) == width
        if full and (length == n_new or sums[0].item() / length**alpha <= done[-1][1]):
            break
    return done


def _beams_in_rounds(model, ids, n_new, width, alpha=1.0, end=None):
    """New tokens are lists, and texts are made of them at the end."""
    live: list = [([], 0.0)]
    complete: list = []
    length = 0
    while live and length < n_new:
        length += 1
        batch = torch.tensor([ids.tolist() + new for new, _ in live])
        rows = model(batch)[:, -1].log_softmax(-1).tolist()
        pairs = [(one, row) for one, row in zip(live, rows, strict=True)]
        grown = [([*new, i], s + r) for (new, s), row in pairs for i, r in enumerate(row)]
        grown.sort(key=lambda one: one[1], reverse=True)
        ends = lambda one: length == n_new or one[0][-1] == end  # noqa: B023, E731
        complete += [(new, s / length**alpha) for new, s in filter(ends, grown[:width])]
        complete.sort(key=lambda one: one[1], reverse=True)
        del complete[width:]
        live = [one for one in grown if not ends(one)][:width]
        if len(complete) == width and live and complete[-1][1] >= live[0][1] / length**alpha:
            break
    return [(torch.tensor(ids.tolist() + new), score) for new, score in complete]


BEAM_SEARCH = Exercise(
    part="sampling.beam_search",
    notebook="08",
    used_by="notebook 08, which compares it with sampling",
    cases=_beam_search_cases,
    hints=(
        "Keep the texts that go on as one batch, with the sum of log p of each. `model(beams)` "
        "scores all of them at once, and `[:, -1].log_softmax(-1)` is what one more token adds.",
        "The candidates of all beams compete with each other: flatten [beams, vocabulary] and take "
        "the best of it. `// vocabulary` says from which beam one comes, `% vocabulary` by which "
        "token.",
        "Take 2 · `width` candidates. Those of the first `width` that end are put aside with their "
        "score, total / length ** alpha. The first `width` of those that do not end go on.",
        "In the last round every text is complete. Before that, it is over as soon as `width` are "
        "put aside and the best of the others, divided in the same way, is no better than they.",
    ),
    mistakes=(
        Mistake(
            "greedy_in_disguise",
            "Every beam goes on with its own best token, so beams never compete: that is greedy "
            "search from `width` beginnings. Choose among the candidates of all beams together.",
            _GreedyInDisguise(),
        ),
        Mistake(
            "only_greedy",
            "You keep one text, whatever the `width`.",
            _OnlyGreedy(),
        ),
        Mistake(
            "sums_probabilities",
            "You add probabilities up. Chances multiply along a text: add their logarithms.",
            _SumsProbabilities(),
        ),
        Mistake(
            "sums_logits",
            "You add logits up. Those of different places cannot be compared: use `log_softmax`.",
            _SumsLogits(),
        ),
        Mistake(
            "no_length_normalisation",
            "You do not divide by the length, so short texts win. The score is the sum divided by "
            "length ** alpha.",
            _NoLengthNormalisation(),
        ),
        Mistake(
            "ignores_alpha",
            "You always divide by the length itself. Divide by length ** alpha: 0 does nothing.",
            _AlwaysTheMean(),
        ),
        Mistake(
            "multiplies_with_alpha",
            "You divide by length · alpha. The length is raised to the power alpha.",
            _MultipliesWithAlpha(),
        ),
        Mistake(
            "counts_the_prompt",
            "You divide by the length of the whole text. Only the new tokens have a score.",
            _CountsThePrompt(),
        ),
        Mistake(
            "looks_at_the_first_place",
            "You use the logits at the first place. What follows the text is at the last one.",
            _LooksAtTheFirstPlace(),
        ),
        Mistake(
            "forgets_the_sum",
            "You compare the last tokens only. A beam carries the sum of all its new tokens.",
            _ForgetsTheSum(),
        ),
        Mistake("worst_first", "You keep the worst candidates.", _WorstFirst()),
        Mistake(
            "not_sorted",
            "You found the right texts, but the best must come first.",
            _NotSorted(),
        ),
        Mistake(
            "only_the_best",
            "You return the best text only. Return all that were found, up to `width`.",
            _OnlyTheBest(),
        ),
        Mistake(
            "new_tokens_alone",
            "You return the new tokens alone. Return the texts with what they began with.",
            _NewTokensAlone(),
        ),
        Mistake(
            "ignores_the_end",
            "Your texts go on behind the token `end`. There they are complete.",
            _IgnoresTheEnd(),
        ),
        Mistake(
            "complete_ones_take_room",
            "Texts that are complete take the room of others. Put them aside: `width` texts go on "
            "as long as there are so many.",
            _CompleteOnesTakeRoom(),
        ),
        Mistake(
            "never_over",
            "You always search to the last step. It is over when `width` texts are complete and "
            "none that goes on has a better score than the worst of them.",
            _NeverOver(),
        ),
        Mistake(
            "over_when_full",
            "You stop as soon as `width` texts are complete. One that goes on may still be better.",
            _OverWhenFull(),
        ),
        Mistake(
            "ends_beyond_the_width",
            "You put every text aside that ends. Only those among the best `width` candidates "
            "count: the others lost to texts that go on.",
            _EndsBeyondTheWidth(),
        ),
    ),
    alternatives=(_beams_in_steps, _beams_as_a_batch, _beams_in_rounds),
)

# --- KVCache -------------------------------------------------------------------------------------


def _read_in_pieces(
    cache_class: Any, key: Tensor, value: Tensor, context: int, cuts: tuple, rows: tuple | None
) -> Any:
    """Give keys and values to a new cache, some tokens at a time; rows change before the last."""
    cache, start, seen = cache_class(context), 0, []
    for end in cuts:
        chosen = torch.arange(key.shape[0])
        if rows and end == cuts[-1]:
            chosen = torch.tensor(rows)
            cache.select(chosen)
        new = key[chosen, :, start:end], value[chosen, :, start:end]
        pair = cache.update(*new)
        if pair is None:
            return None
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise Wrong("`update` returns two tensors: the keys and the values of all tokens.")
        seen += [each.clone() for each in pair]
        start = end
    return (*seen, cache.length)


@torch.no_grad()
def _cache_answers(part: Part, **given: Any) -> Any:
    return _read_in_pieces(part, **given)


def _cut_by_hand(
    key: Tensor, value: Tensor, context: int, cuts: tuple, rows: tuple | None
) -> tuple:
    """What was read so far is a piece of what there is."""
    seen = []
    for end in cuts:
        chosen = list(rows) if rows and end == cuts[-1] else list(range(len(key)))
        seen += [each.detach()[chosen, :, :end] for each in (key, value)]
    return (*seen, cuts[-1])


def _cache_cases() -> list[Case]:
    def case(
        title: str, shape: tuple, context: int, cuts: tuple, rows: tuple | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Case:  # fmt: skip
        key, value = (inputs.normal(*shape, seed=seed, dtype=dtype) for seed in (0, 1))
        arguments = {"key": key, "value": value, "context": context, "cuts": cuts, "rows": rows}
        calls = f"KVCache({context}), then update with the tokens up to {', '.join(map(str, cuts))}"
        return Case(title, arguments, _cut_by_hand, _cache_answers, calls)

    rows, n_heads, tokens, d_head = 2, 3, 7, 4
    shape = (rows, n_heads, tokens, d_head)
    return [
        case("one token after the other", (1, 1, 3, 2), 5, (1, 2, 3)),
        case("several tokens, then one by one", shape, 9, (4, 5, 6, 7)),
        case("all at once", shape, 7, (7,)),
        case("until it is full", shape, 7, (2, 5, 7)),
        case("everything of the same size", (4, 4, 4, 4), 4, (2, 3, 4)),
        case("rows are dropped and doubled", shape, 8, (3, 5, 6), rows=(1, 1, 0)),
        case("one row becomes several", (1, 2, 5, 3), 6, (4, 5), rows=(0, 0, 0)),
        case("one row is left", shape, 8, (3, 4), rows=(1,)),
        case("float64", shape, 9, (2, 7), dtype=torch.float64),
        case("bfloat16", shape, 9, (2, 7), dtype=torch.bfloat16),
    ]


class _Cache:
    """The cache in steps, which the mistakes below replace one by one."""

    def __init__(self, context):
        self.context = context
        self.length = 0
        self.key = self.value = torch.empty(0)

    def update(self, key, value):
        start, end = self.length, self.length + key.shape[2]
        self.check(end)
        if start == 0:
            self.key, self.value = (self.room(each) for each in (key, value))
        for room, new in ((self.key, key), (self.value, value)):
            self.write(room, new, start, end)
        self.length = self.advance(start, end)
        return self.read(end)

    def check(self, end):
        if end > self.context:
            raise ValueError(f"{end} tokens, but context is {self.context}")

    def room(self, new):
        rows, n_heads, _, d_head = new.shape
        return new.new_zeros(rows, n_heads, self.context, d_head)

    def write(self, room, new, start, end):
        room[:, :, start:end] = new

    def advance(self, start, end):
        return end

    def read(self, end):
        return self.key[:, :, :end], self.value[:, :, :end]

    def select(self, rows):
        self.key, self.value = self.key[rows], self.value[rows]


class _Overwrites(_Cache):
    def write(self, room, new, start, end):
        room[:, :, : end - start] = new


class _ReturnsTheWholeRoom(_Cache):
    def read(self, end):
        return self.key, self.value


class _DoesNotAdvance(_Cache):
    def advance(self, start, end):
        return start


class _AdvancesByOne(_Cache):
    def advance(self, start, end):
        return start + 1


class _LengthOfTheNew(_Cache):
    def advance(self, start, end):
        return end - start


class _ReturnsTheNew(_Cache):
    def update(self, key, value):
        super().update(key, value)
        return key, value


class _ReturnsTheOld(_Cache):
    def update(self, key, value):
        start = self.length
        super().update(key, value)
        return self.key[:, :, :start], self.value[:, :, :start]


class _SwapsKeyAndValue(_Cache):
    def read(self, end):
        return self.value[:, :, :end], self.key[:, :, :end]


class _KeysTwice(_Cache):
    def read(self, end):
        return self.key[:, :, :end], self.key[:, :, :end]


class _RoomAgainEveryTime(_Cache):
    def update(self, key, value):
        self.key, self.value = self.room(key), self.room(value)
        start, end = self.length, self.length + key.shape[2]
        self.write(self.key, key, start, end)
        self.write(self.value, value, start, end)
        self.length = end
        return self.read(end)


class _Joined(_Cache):
    """New tokens are joined to the others, along an axis that the mistakes choose."""

    axis = 2

    def update(self, key, value):
        self.check(self.length + key.shape[2])
        self.key = self.join(self.key, key)
        self.value = self.join(self.value, value)
        self.length += key.shape[2]
        return self.key, self.value

    def join(self, old, new):
        return torch.cat((old, new), dim=self.axis) if self.length else new


class _JoinedAlongHeads(_Joined):
    axis = 1


class _JoinedAlongRows(_Joined):
    axis = 0


class _JoinedAlongFeatures(_Joined):
    axis = 3


class _NewOnesFirst(_Joined):
    def join(self, old, new):
        return torch.cat((new, old), dim=2) if self.length else new


class _FloatRoom(_Cache):
    def room(self, new):
        rows, n_heads, _, d_head = new.shape
        return torch.zeros(rows, n_heads, self.context, d_head)


class _CacheWithNarrow(_Cache):
    def write(self, room, new, start, end):
        room.narrow(2, start, end - start).copy_(new)

    def read(self, end):
        return self.key.narrow(2, 0, end), self.value.narrow(2, 0, end)


class _CacheByJoining(_Joined):
    pass


class _CacheByPlaces(_Cache):
    def write(self, room, new, start, end):
        room.index_copy_(2, torch.arange(start, end), new)


def _says_when_it_is_full(part: Part) -> None:
    """A sentence where more tokens come than there is room for, and nothing is lost."""
    new = inputs.normal(1, 2, 3, 4)
    for context, before in ((5, 3), (2, 0)):
        cache: Any = part(context)
        if before:
            cache.update(new, new)
        try:
            cache.update(new, new)
        except ValueError:
            if cache.length == before:
                continue
            raise Wrong(
                "Your cache counts tokens that it has no room for. Raise the ValueError before "
                "anything is changed."
            ) from None
        raise Wrong(
            f"With room for {context} tokens, {before} tokens and then 3 more are taken without a "
            "word. Raise a ValueError that says how many there are and how many fit."
        )
    part(3).update(new, new)


def _takes_any_room(part: Part) -> None:
    """Two layers have two caches."""
    one, other, new = part(4), part(4), inputs.normal(1, 2, 3, 4)
    one.update(new, new)
    if other.length:
        raise Wrong("Two caches share their length: keep everything in `self`.")


KV_CACHE = Exercise(
    part="sampling.KVCache",
    notebook="08",
    used_by="`CachedModel`, in every layer",
    cases=_cache_cases,
    hints=(
        "`self.length` tokens are in the cache. The new ones go to the places from there on: "
        "`start, end = self.length, self.length + key.shape[2]`.",
        "If `end` is above `self.context`, raise a ValueError before anything is changed.",
        "At the first call take room for all tokens: `key.new_empty(rows, n_heads, self.context, "
        "d_head)`, and the same for the values. Then the new tokens are written into it: "
        "`self.key[:, :, start:end] = key`.",
        "Remember the new length, and return what is filled: `self.key[:, :, :end]` and "
        "`self.value[:, :, :end]`.",
    ),
    mistakes=(
        Mistake(
            "overwrites",
            "You write new tokens over the first ones. They belong behind what is there: from "
            "`self.length` on.",
            _Overwrites,
        ),
        Mistake(
            "returns_whole_buffer",
            "You return the whole room, with places that nothing was written to. Return the first "
            "`end` of them.",
            _ReturnsTheWholeRoom,
        ),
        Mistake(
            "does_not_advance",
            "You do not change `self.length`, so the next token is written over this one.",
            _DoesNotAdvance,
        ),
        Mistake(
            "advances_by_one",
            "You add 1 to the length. Several tokens may come at once: add `key.shape[2]`.",
            _AdvancesByOne,
        ),
        Mistake(
            "length_of_the_new",
            "You make the length that of the new tokens. Add it to what was there.",
            _LengthOfTheNew,
        ),
        Mistake(
            "returns_the_new",
            "You return the new tokens alone. Attention needs all that were read.",
            _ReturnsTheNew,
        ),
        Mistake(
            "returns_the_old",
            "You return what was there before. A new token looks at itself, too.",
            _ReturnsTheOld,
        ),
        Mistake(
            "key_and_value_swapped",
            "You return values and keys. First the keys.",
            _SwapsKeyAndValue,
        ),
        Mistake(
            "keys_twice",
            "You return the keys twice. The second tensor holds the values.",
            _KeysTwice,
        ),
        Mistake(
            "room_again_every_time",
            "You take new room at every call, and what was in it is lost. Take it once, while the "
            "length is 0.",
            _RoomAgainEveryTime,
        ),
        Mistake(
            "joined_along_heads",
            "You join along axis 1, the heads. Tokens are axis 2.",
            _JoinedAlongHeads,
        ),
        Mistake(
            "joined_along_rows",
            "You join along axis 0, as if other texts came. Tokens are axis 2.",
            _JoinedAlongRows,
        ),
        Mistake(
            "joined_along_features",
            "You join along the features, axis 3. Tokens are axis 2.",
            _JoinedAlongFeatures,
        ),
        Mistake(
            "new_ones_first",
            "You put new tokens in front of the others. They come behind them.",
            _NewOnesFirst,
        ),
        Mistake(
            "float_room",
            "Your room is always float32. `key.new_empty(…)` takes the type and the device of the "
            "keys.",
            _FloatRoom,
        ),
    ),
    alternatives=(_CacheWithNarrow, _CacheByJoining, _CacheByPlaces),
    properties=(_says_when_it_is_full, _takes_any_room),
)

# --- read_on -------------------------------------------------------------------------------------


class _Reader:
    """A small model. `after(ids)` is the same one whose attention has read a text."""

    def __init__(self, name: str, model: decoder.GPT):
        self.name = name
        self.model = model.eval()
        with torch.no_grad():
            for number, weight in enumerate(model.parameters()):
                size = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
                weight.copy_(2 * size * inputs.normal(*weight.shape, seed=number))

    def __repr__(self) -> str:
        return self.name

    def after(self, ids: Tensor) -> decoder.GPT:
        model = copy.deepcopy(self.model)
        for block in model.blocks:
            block.attention = sampling.CachedAttention(block.attention, sampling.KVCache(20))
        if ids.shape[1]:
            model(ids)
        return model


@torch.no_grad()
def _goes_on(part: Part, model: _Reader, ids: Tensor, start: int) -> Any:
    return part(model.after(ids[:, :start]), ids, start)


@torch.no_grad()
def _all_at_once(model: _Reader, ids: Tensor, start: int) -> Tensor:
    """Without a memory: the whole text is read, and what is known is left out."""
    return model.model(ids)[:, start:]


def _read_on_cases() -> list[Case]:
    learned = _Reader("a GPT that learned its positions", decoder.gpt(7, 8, 2, 2, 20))
    turned = _Reader("a GPT that turns queries and keys", modern.modern_gpt(7, 8, 2, 2))
    pairs = _Reader("a GPT that looks up pairs of tokens", modern.modern_gpt(7, 8, 2, 2, 19))

    def case(title: str, model: _Reader, rows: int, tokens: int, start: int) -> Case:
        ids = inputs.integers(rows, tokens, below=7, seed=tokens)
        arguments = {"model": model, "ids": ids, "start": start}
        return Case(title, arguments, _all_at_once, _goes_on, f"read_on(model, ids, {start})")

    return [
        case("one new token", learned, 1, 4, 3),
        case("three new tokens", learned, 1, 6, 3),
        case("several texts", learned, 3, 7, 6),
        case("several texts, several tokens", learned, 3, 7, 2),
        case("nothing was read", learned, 2, 5, 0),
        case("one token, nothing was read", learned, 2, 1, 0),
        case("as many texts as tokens", learned, 4, 4, 2),
        case("queries and keys are turned", turned, 2, 6, 5),
        case("they are turned, several tokens", turned, 2, 7, 3),
        case("pairs of tokens", pairs, 2, 6, 5),
        case("pairs of tokens, several new ones", pairs, 2, 7, 4),
    ]


class _ReadOn:
    """`read_on` in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, start):
        x = self.embed(model, ids, start)
        mask = self.mask(ids.shape[1], ids.shape[1] - start)
        for block in self.blocks(model):
            x = block(x, mask)
        return self.say(model, x)

    def embed(self, model, ids, start):
        return model.embed(ids)[:, start:]

    def mask(self, n_all, n_new):
        return torch.ones(n_new, n_all, dtype=torch.bool).tril(n_all - n_new)

    def blocks(self, model):
        return model.blocks

    def say(self, model, x):
        return model.head(model.norm(x))


class _SquareMask(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_new)


class _FirstRowsOfTheMask(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_all)[:n_new]


class _NoMask(_ReadOn):
    def mask(self, n_all, n_new):
        return None


class _MaskTurned(_ReadOn):
    def mask(self, n_all, n_new):
        return ~super().mask(n_all, n_new)


class _MaskSwapped(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_all, n_new)


class _OnlyTheNewLook(_ReadOn):
    """New tokens see each other, and nothing that was read before."""

    def mask(self, n_all, n_new):
        return super().mask(n_all, n_new) & (torch.arange(n_all) >= n_all - n_new)


class _PositionsRestart(_ReadOn):
    def embed(self, model, ids, start):
        return model.embed(ids[:, start:])


class _WholePromptAgain(_ReadOn):
    """Everything goes through the blocks once more, behind what is there."""

    def __call__(self, model, ids, start):
        x = model.embed(ids)
        mask = decoder.causal_mask(ids.shape[1], start + ids.shape[1])
        for block in model.blocks:
            x = block(x, mask)
        return model.head(model.norm(x))


class _WholePromptThenCut(_WholePromptAgain):
    def __call__(self, model, ids, start):
        return super().__call__(model, ids, start)[:, start:]


class _OneTokenAgain(_ReadOn):
    def __call__(self, model, ids, start):
        first = max(start - 1, 0)
        x = model.embed(ids)[:, first:]
        mask = decoder.causal_mask(ids.shape[1] - first, start + ids.shape[1] - first)
        for block in model.blocks:
            x = block(x, mask)
        return model.head(model.norm(x))


class _CutsTheBatch(_ReadOn):
    def embed(self, model, ids, start):
        return model.embed(ids)[start:]


class _LastTokenOnly(_ReadOn):
    def __call__(self, model, ids, start):
        x = model.embed(ids)[:, -1:]
        for block in model.blocks:
            x = block(x, None)
        return model.head(model.norm(x))


class _LastPlaceOnly(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x))[:, -1:]


class _WithoutAPlace(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x))[:, -1]


class _NoFinalNorm(_ReadOn):
    def say(self, model, x):
        return model.head(x)


class _NoHead(_ReadOn):
    def say(self, model, x):
        return model.norm(x)


class _SaysProbabilities(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x)).softmax(-1)


class _OneBlock(_ReadOn):
    def blocks(self, model):
        return model.blocks[:1]


class _NormBetween(_ReadOn):
    def __call__(self, model, ids, start):
        x = self.embed(model, ids, start)
        mask = self.mask(ids.shape[1], ids.shape[1] - start)
        for block in model.blocks:
            x = model.norm(block(x, mask))
        return model.head(x)


def _read_on_in_steps(model, ids, start):
    return _ReadOn()(model, ids, start)


def _read_on_with_places(model, ids, start):
    n_all = ids.size(1)
    new = torch.arange(start, n_all)
    x = model.embed(ids).index_select(1, new)
    for block in model.blocks:
        x = block(x, mask=torch.arange(n_all) <= new[:, None])
    return model.head(model.norm(x))


def _read_on_without_needless_masks(model, ids, start):
    n_all = ids.shape[1]
    mask = None if start == n_all - 1 else decoder.causal_mask(n_all)[start:]
    stream = model.embed(ids)[:, start - n_all :]
    for block in model.blocks:
        stream = block(stream, mask)
    return nn.Sequential(model.norm, model.head)(stream)


READ_ON = Exercise(
    part="sampling.read_on",
    notebook="08",
    used_by="`CachedModel`: every token that it reads",
    cases=_read_on_cases,
    hints=(
        "Write `GPT.forward` once more: embed, mask, blocks, norm, head. Two lines change.",
        "Embed the whole text and cut afterwards: `model.embed(ids)[:, start:]`. The other way "
        "round, the new tokens would stand at place 0.",
        "The queries are the new tokens, the keys are all tokens: "
        "`decoder.causal_mask(n_new, n_all)`.",
        "The blocks remember the tokens before `start`. They must not be given them again.",
    ),
    mistakes=(
        Mistake(
            "positions_restart_at_zero",
            "You cut before you embed, so the new tokens get the places 0, 1 …, and lose what is "
            "looked up together with the tokens before them. Embed all, then cut.",
            _PositionsRestart(),
        ),
        Mistake(
            "square_causal_mask",
            "Your mask is square: new tokens times new tokens. The keys are all tokens: "
            "`decoder.causal_mask(n_new, n_all)`.",
            _SquareMask(),
        ),
        Mistake(
            "square_causal_mask_on_one_query",
            "You use the first rows of the square mask, so a new token sees hardly more than token "
            "0. The new tokens are the last rows.",
            _FirstRowsOfTheMask(),
        ),
        Mistake(
            "no_mask",
            "Without a mask several new tokens see each other, also those behind them. Only one "
            "alone needs none.",
            _NoMask(),
        ),
        Mistake(
            "mask_turned_around",
            "Your mask is True where a token must not look.",
            _MaskTurned(),
        ),
        Mistake(
            "mask_swapped",
            "You swapped the sizes of the mask: first the queries, which are new, then all keys.",
            _MaskSwapped(),
        ),
        Mistake(
            "only_the_new_look",
            "Your new tokens do not look at what was read before.",
            _OnlyTheNewLook(),
        ),
        Mistake(
            "feeds_whole_prompt_again",
            "You send the whole text through the blocks. They have read its beginning, and "
            "remember it twice now. Send `[:, start:]`.",
            _WholePromptAgain(),
        ),
        Mistake(
            "feeds_whole_prompt_then_cuts",
            "You send the whole text through the blocks and cut at the end. They have read its "
            "beginning, and remember it twice now. Cut before the blocks.",
            _WholePromptThenCut(),
        ),
        Mistake(
            "one_token_again",
            "You begin one token too early: token number `start` is the first that is new.",
            _OneTokenAgain(),
        ),
        Mistake(
            "cuts_the_batch",
            "`[start:]` drops texts. Tokens are axis 1: `[:, start:]`.",
            _CutsTheBatch(),
        ),
        Mistake(
            "last_token_only",
            "You send the last token only. Several may be new: all from `start` on.",
            _LastTokenOnly(),
        ),
        Mistake(
            "only_last_position",
            "You return the logits of the last token. Return those of all new tokens.",
            _LastPlaceOnly(),
        ),
        Mistake(
            "lost_an_axis",
            "Your result has lost the axis of the tokens: [rows, new, vocabulary].",
            _WithoutAPlace(),
        ),
        Mistake(
            "no_final_norm",
            "You leave `model.norm` out. It comes before the head.",
            _NoFinalNorm(),
        ),
        Mistake(
            "no_head",
            "You return the states. `model.head` makes logits of them.",
            _NoHead(),
        ),
        Mistake(
            "probabilities",
            "You return probabilities. These are logits.",
            _SaysProbabilities(),
        ),
        Mistake(
            "one_block",
            "You use the first block only.",
            _OneBlock(),
        ),
        Mistake(
            "norm_after_every_block",
            "You norm after every block. `model.norm` comes once, at the end.",
            _NormBetween(),
        ),
    ),
    alternatives=(_read_on_in_steps, _read_on_with_places, _read_on_without_needless_masks),
)

EXERCISES: tuple[Exercise, ...] = (
    ENTROPY,
    PERPLEXITY,
    APPLY_TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    EPSILON_CUTOFF,
    PENALISE,
    GENERATE,
    BEAM_SEARCH,
    KV_CACHE,
    READ_ON,
)
