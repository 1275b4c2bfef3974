"""Exercises of notebook 07: the loss, the first weights, and the parts of a training step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from course_utils import decoder, training
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong

# --- cross_entropy -------------------------------------------------------------------------------


def _cross_entropy_by_torch(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_index)


def _cross_entropy_cases() -> list[Case]:
    def case(title: str, logits: Tensor, targets: Tensor, **ignore_index: int) -> Case:
        given = "".join(f", {name}={value}" for name, value in ignore_index.items())
        arguments = {"logits": logits, "targets": targets, **ignore_index}
        call = f"cross_entropy(logits, targets{given})"
        return Case(title, arguments, _cross_entropy_by_torch, shown=call)

    def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        logits = 3 * inputs.normal(*shape, dtype=dtype)
        return logits, inputs.integers(*shape[:-1], below=shape[-1])

    normal = inputs.normal
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
        case("as many texts as places and words", *drawn(4, 4, 4)),
        case("some targets are ignored", 3 * normal(3, 4, 5), padded),
        case("only one target counts", normal(1, 3, 5), torch.tensor([[-100, 2, -100]])),
        case("targets of 0 are ignored", *drawn(3, 4, 5), ignore_index=0),
        case("targets of 2 are ignored", *drawn(2, 5, 4), ignore_index=2),
        case(
            "targets of -1 are ignored",
            normal(2, 2, 5),
            padded[:2, 1:3].clamp_min(-1),
            ignore_index=-1,
        ),
        case("very unlikely targets", unlikely, torch.tensor([[1, 0]])),
        case("large logits", large, torch.tensor([[1, 2]])),
        case("very large logits", 1000 * normal(2, 3, 5), inputs.integers(2, 3, below=5)),
        case("one place alone", *drawn(1, 1, 6)),
        case("one text without a batch", *drawn(5, 7)),
        case("four axes", *drawn(2, 3, 4, 5)),
        case("transposed views", normal(2, 5, 3).mT, inputs.integers(3, 2, below=5).T),
        case("float64", *drawn(2, 3, 5, dtype=torch.float64)),
        case("bfloat16", *drawn(2, 3, 5, dtype=torch.bfloat16)),
    ]


def _each_place(logits, targets, ignore_index=-100, dim=-1):
    """-log p of every target and whether it counts, with a softmax over any axis."""
    counted = targets != ignore_index
    chosen = torch.where(counted, targets, 0)[..., None]
    return -torch.log_softmax(logits, dim).gather(-1, chosen)[..., 0], counted


def _softmax_twice(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(torch.softmax(logits, -1), targets, ignore_index)


def _averages_over_ignored(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return (losses * counted).sum() / targets.numel()


def _ignored_count_as_word_0(logits, targets, ignore_index=-100):
    return _each_place(logits, targets, ignore_index)[0].mean()


def _ignores_nothing(logits, targets, ignore_index=-100):
    return -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean()


def _ignores_minus_100_only(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(logits, targets)


def _log_of_softmax(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    chosen = torch.where(counted, targets, 0)[..., None]
    losses = -torch.softmax(logits, -1).gather(-1, chosen)[..., 0].log()
    return losses[counted].mean()


def _overflows(logits, targets, ignore_index=-100):
    counted = targets != ignore_index
    logits, targets = logits[counted], targets[counted]
    return (logits.exp().sum(-1).log() - logits.gather(-1, targets[:, None])[:, 0]).mean()


def _sum_of_losses(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return losses[counted].sum()


def _forgot_minus(logits, targets, ignore_index=-100):
    return -_cross_entropy_by_torch(logits, targets, ignore_index)


def _log_base_2(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(logits, targets, ignore_index) / math.log(2)


def _forgot_log(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return 1 - torch.exp(-losses)[counted].mean()


def _forgot_log_sum_exp(logits, targets, ignore_index=-100):
    counted = targets != ignore_index
    return -logits[counted].gather(-1, targets[counted][:, None]).mean()


def _is_perplexity(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(logits, targets, ignore_index).exp()


def _last_place_only(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(logits[..., -1:, :], targets[..., -1:], ignore_index)


def _softmax_over_places(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index, dim=-2)
    return losses[counted].mean()


def _softmax_over_axis_1(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index, dim=1)
    return losses[counted].mean()


def _mean_of_text_means(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return ((losses * counted).sum(-1) / counted.sum(-1)).mean()


def _one_for_each_place(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return losses * counted


def _loss_as_number(logits, targets, ignore_index=-100):
    return _cross_entropy_by_torch(logits, targets, ignore_index).item()


def _loss_by_log_softmax(logits, targets, ignore_index=-100):
    losses, counted = _each_place(logits, targets, ignore_index)
    return torch.where(counted, losses, 0.0).sum() / counted.sum()


def _loss_by_one_hot(logits, targets, ignore_index=-100):
    counted = (targets != ignore_index).to(logits.dtype)
    shifted = logits - logits.max(dim=-1, keepdim=True).values
    log_p = shifted - shifted.exp().sum(-1, keepdim=True).log()
    words = torch.arange(logits.shape[-1]) == targets[..., None]
    return -torch.einsum("...v,...v,...->", log_p, words.to(logits.dtype), counted) / counted.sum()


def _loss_by_index(logits, targets, ignore_index=-100):
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    places = (targets != ignore_index).nonzero()[:, 0]
    return (torch.logsumexp(logits[places], 1) - logits[places, targets[places]]).mean()


CROSS_ENTROPY = Exercise(
    part="training.cross_entropy",
    notebook="07",
    used_by="`train_step` and `evaluate`: it is the number that training makes smaller",
    cases=_cross_entropy_cases,
    hints=(
        "Softmax makes probabilities of the logits. The loss of a place is -log of the one that "
        "belongs to its target, and the result is the mean over the places.",
        "`targets != ignore_index` is True where a target counts. With it as an index, "
        "`logits[counted]` is [n, vocabulary] and `targets[counted]` is [n].",
        "The log of a softmax is the logit minus the log of the sum of all exponentials. "
        "`logits.logsumexp(-1)` is that sum's log, and cannot overflow.",
        "`logits.gather(-1, targets[:, None])[:, 0]` takes the logit of the target in every row.",
    ),
    mistakes=(
        Mistake(
            "softmax_twice",
            "Your logits go through softmax twice: what takes the logarithm of a softmax is given "
            "probabilities already. The loss can then hardly fall. Give it the logits.",
            _softmax_twice,
        ),
        Mistake(
            "averages_over_ignored",
            "You divide by the number of all targets. Those that are ignored count neither in the "
            "sum nor in the number: more padding would make your loss smaller.",
            _averages_over_ignored,
        ),
        Mistake(
            "ignored_count_as_word_0",
            "Your ignored targets count as word 0, so the model would learn to say it at the "
            "padding. Leave those places out.",
            _ignored_count_as_word_0,
        ),
        Mistake(
            "ignores_nothing",
            "You do not look at `ignore_index`. Such a target is no word at all: leave its place "
            "out before you look anything up.",
            _ignores_nothing,
        ),
        Mistake(
            "ignores_minus_100_only",
            "You always ignore -100. Ignore the `ignore_index` that you are given.",
            _ignores_minus_100_only,
        ),
        Mistake(
            "unstable_log",
            "You take the log of a softmax. A probability below 1e-45 is stored as 0, and its log "
            "is minus infinity. Use `log_softmax`, or `logsumexp` minus the logit.",
            _log_of_softmax,
        ),
        Mistake(
            "overflows",
            "You take the exponential of the logits as they are. Above 88 that is infinite. "
            "`logsumexp` subtracts the maximum first.",
            _overflows,
        ),
        Mistake(
            "sum_instead_of_mean",
            "You add the losses up. The mean does not depend on how much text there is, so one "
            "learning rate fits all batches.",
            _sum_of_losses,
        ),
        Mistake(
            "forgot_minus",
            "Yours is negative: training would make the right words less likely. The loss is minus "
            "the log of the probability.",
            _forgot_minus,
        ),
        Mistake(
            "log_base_2",
            "You take logarithms to the base 2, which gives bits. Here the unit is the nat: use "
            "the natural logarithm.",
            _log_base_2,
        ),
        Mistake(
            "forgot_log",
            "You return 1 minus the mean probability. That hardly punishes a target that was "
            "thought impossible: take minus the log of each probability.",
            _forgot_log,
        ),
        Mistake(
            "forgot_log_sum_exp",
            "You take minus the target's logit as it is. A logit says something only beside the "
            "others: softmax first, or add `logsumexp` of all of them.",
            _forgot_log_sum_exp,
        ),
        Mistake(
            "perplexity",
            "You return the perplexity, exp of the loss. The loss is what is in the exponent.",
            _is_perplexity,
        ),
        Mistake(
            "last_place_only",
            "You use the last place only. Every place has a target, and all of them count.",
            _last_place_only,
        ),
        Mistake(
            "softmax_over_places",
            "Your softmax goes over the places. The probabilities of the words at one place add up "
            "to 1: the last axis, -1.",
            _softmax_over_places,
        ),
        Mistake(
            "softmax_over_axis_1",
            "Your softmax goes over axis 1. The words are the last axis, -1, whatever stands "
            "before it.",
            _softmax_over_axis_1,
        ),
        Mistake(
            "mean_of_text_means",
            "You take the mean of each text first, so in a text with much padding every target "
            "weighs more. All targets that count weigh the same.",
            _mean_of_text_means,
        ),
        Mistake(
            "one_for_each_place",
            "You return a loss for every place. Return their mean, one number.",
            _one_for_each_place,
        ),
        Mistake(
            "number_without_gradient",
            "You return a Python number. Nothing can be learned from it: keep it a tensor, so that "
            "`backward` finds its way.",
            _loss_as_number,
        ),
    ),
    alternatives=(
        _cross_entropy_by_torch,
        _loss_by_log_softmax,
        _loss_by_one_hot,
        _loss_by_index,
    ),
)

# --- attention_score_grad ------------------------------------------------------------------------


def _score_grad_by_autograd(weights: Tensor, weights_grad: Tensor) -> Tensor:
    """torch's own way back through a softmax that gives these weights."""
    scores = weights.detach().double().log().requires_grad_()
    softmax = torch.softmax(scores, -1)
    (gradient,) = torch.autograd.grad(softmax, scores, weights_grad.detach().double())
    return gradient.to(weights.dtype)


def _attention_score_grad_cases() -> list[Case]:
    def case(title: str, weights: Tensor, weights_grad: Tensor) -> Case:
        arguments = {"weights": weights, "weights_grad": weights_grad}
        call = "attention_score_grad(weights, weights_grad)"
        return Case(title, arguments, _score_grad_by_autograd, shown=call)

    def drawn(*shape: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple:
        weights = torch.softmax(scale * inputs.normal(*shape, dtype=torch.float64), -1)
        return weights.to(dtype), 3 * inputs.normal(*shape, seed=1, dtype=dtype)

    normal = inputs.normal
    single = torch.float32
    causal = normal(2, 4, 4).masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf)
    small = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    return [
        case("two queries, three keys", small, torch.tensor([[4.0, 0.0, 8.0], [10.0, 0.0, -10.0]])),
        case("one text", *drawn(3, 5, dtype=single)),
        case("as many queries as keys", *drawn(4, 4, dtype=single)),
        case("two texts, three heads", *drawn(2, 3, 4, 5, dtype=single)),
        case("everything of the same size", *drawn(3, 3, 3, 3, dtype=single)),
        case("a causal mask", torch.softmax(causal, -1), normal(2, 4, 4, seed=1)),
        case("even weights", torch.full((3, 4), 0.25), 5 * normal(3, 4)),
        case("all weight on one key", torch.eye(3, 4), 5 * normal(3, 4)),
        case("one key alone", torch.ones(2, 3, 1), normal(2, 3, 1)),
        case(
            "every weight has the same gradient",
            drawn(2, 4, 5)[0].float(),
            torch.full((2, 4, 5), 7.0),
        ),
        case("very uneven weights", *drawn(3, 6, scale=8.0, dtype=single)),
        case(
            "transposed views", *(each.contiguous().mT.contiguous().mT for each in drawn(2, 4, 5))
        ),
        case("float64", *drawn(2, 3, 4)),
        case("bfloat16", *drawn(2, 3, 4, dtype=torch.bfloat16)),
    ]


def _sigmoid_like(weights, weights_grad):
    return weights * (1 - weights) * weights_grad


def _forgot_row_term(weights, weights_grad):
    return weights * weights_grad


def _sums_over_queries(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum(-2, keepdim=True))


def _sums_over_everything(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum())


def _row_term_without_keepdim(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).sum(-1))


def _plain_mean(weights, weights_grad):
    return weights * (weights_grad - weights_grad.mean(-1, keepdim=True))


def _mean_of_row_products(weights, weights_grad):
    return weights * (weights_grad - (weights * weights_grad).mean(-1, keepdim=True))


def _not_weighted_outside(weights, weights_grad):
    return weights_grad - (weights * weights_grad).sum(-1, keepdim=True)


def _row_term_not_weighted(weights, weights_grad):
    products = weights * weights_grad
    return products - products.sum(-1, keepdim=True)


def _sign_flipped(weights, weights_grad):
    return weights * ((weights * weights_grad).sum(-1, keepdim=True) - weights_grad)


def _of_log_softmax(weights, weights_grad):
    return weights_grad - weights * weights_grad.sum(-1, keepdim=True)


def _subtracts_in_place(weights, weights_grad):
    weights_grad -= (weights * weights_grad).sum(-1, keepdim=True)
    return weights * weights_grad


def _score_grad_by_jacobian(weights, weights_grad):
    jacobian = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    return torch.einsum("...ij,...j->...i", jacobian, weights_grad)


def _score_grad_by_rows(weights, weights_grad):
    rows = zip(
        weights.reshape(-1, weights.shape[-1]),
        weights_grad.reshape(-1, weights.shape[-1]),
        strict=True,
    )
    return torch.stack([p * (dp - p @ dp) for p, dp in rows]).view(weights.shape)


def _score_grad_multiplied_out(weights, weights_grad):
    products = weights_grad * weights
    return products - weights * products.sum(dim=-1, keepdim=True)


ATTENTION_SCORE_GRAD = Exercise(
    part="training.attention_score_grad",
    notebook="07",
    used_by="notebook 07, where it agrees with what `backward` computes",
    cases=_attention_score_grad_cases,
    hints=(
        "Each row is a softmax of its own. If one score rises, its weight rises and all others of "
        "the row fall: so the gradient has two terms.",
        "The derivative of weight i by score j is P_i · (1 if i = j else 0) - P_i · P_j. Multiply "
        "with the gradient of weight i and sum over i.",
        "What comes out is P · (dP - mean), where mean is the row's mean of dP, weighted with P. "
        "The weights of a row add up to 1, so it is the sum of P · dP.",
        "`.sum(-1, keepdim=True)` keeps the axis, so that the mean of a row meets its own row.",
    ),
    mistakes=(
        Mistake(
            "elementwise_sigmoid_like",
            "You use P · (1 - P), as if every weight depended on its own score only. That is a "
            "sigmoid. In a softmax one score moves all weights of its row.",
            _sigmoid_like,
        ),
        Mistake(
            "forgot_row_term",
            "You return P · dP. If a score rises, all other weights of its row fall: subtract the "
            "row's weighted mean from dP first.",
            _forgot_row_term,
        ),
        Mistake(
            "sum_over_queries",
            "You sum over the queries, axis -2. Softmax went along the keys, so its way back does "
            "too: axis -1.",
            _sums_over_queries,
        ),
        Mistake(
            "sum_over_everything",
            "You take one sum of the whole tensor. Every row has its own: `sum(-1, keepdim=True)`.",
            _sums_over_everything,
        ),
        Mistake(
            "forgot_keepdim",
            "Your sums have one axis less than the weights, so they meet the wrong axis: an error, "
            "or silently wrong numbers where the sizes happen to fit. Use `keepdim=True`.",
            _row_term_without_keepdim,
        ),
        Mistake(
            "plain_mean",
            "You subtract the plain mean of the gradients. Weigh them with P: the sum of P · dP.",
            _plain_mean,
        ),
        Mistake(
            "mean_of_products",
            "You take the mean of P · dP. The weights add up to 1 already, so their weighted mean "
            "is the sum.",
            _mean_of_row_products,
        ),
        Mistake(
            "not_weighted_outside",
            "You return dP minus the weighted mean. Multiply that with P: a score that gets no "
            "weight hardly matters.",
            _not_weighted_outside,
        ),
        Mistake(
            "row_term_not_weighted",
            "You subtract the same number from every P · dP. The row's mean is multiplied with P "
            "as well: P · (dP - mean).",
            _row_term_not_weighted,
        ),
        Mistake(
            "sign_flipped",
            "You subtract the other way round: training would go uphill. It is dP minus the mean.",
            _sign_flipped,
        ),
        Mistake(
            "gradient_of_log_softmax",
            "That is the way back through a log-softmax. Here the weights themselves were used: "
            "P · (dP - mean).",
            _of_log_softmax,
        ),
        Mistake(
            "subtracts_in_place",
            "Your numbers are right, but `-=` changes the caller's gradient. Write "
            "`weights_grad - …`.",
            _subtracts_in_place,
        ),
    ),
    alternatives=(
        _score_grad_by_autograd,
        _score_grad_by_jacobian,
        _score_grad_by_rows,
        _score_grad_multiplied_out,
    ),
)

# --- init_weights --------------------------------------------------------------------------------

WIDTH = 96  # so many numbers a matrix that chance moves its standard deviation by under 1 %


def _writes_to_stream(name: str) -> bool:
    return name.split(".")[-2] in ("w_o", "down")


def _deviations(model: nn.Module, of_writers: bool) -> Tensor:
    """Standard deviation of each matrix in thousandths, with few digits: chance decides on them."""
    found = [
        1000 * weight.std()
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and _writes_to_stream(name) == of_writers
    ]
    return torch.stack(found).detach().bfloat16()


def _matrices(model: nn.Module) -> list[Tensor]:
    """Every matrix, in units of its standard deviation."""
    found = [weight.detach() for weight in model.parameters() if weight.ndim > 1]
    return [weight / weight.std() for weight in found]


def _means(model: nn.Module) -> Tensor:
    return torch.stack([matrix.mean() for matrix in _matrices(model)]).bfloat16()


def _far_out(model: nn.Module) -> Tensor:
    """How many in a hundred are further than two standard deviations from 0."""
    numbers = torch.cat([matrix.flatten() for matrix in _matrices(model)])
    return (100 * (numbers.abs() > 2).float().mean()).bfloat16()


def _likeness(model: nn.Module) -> Tensor:
    """How alike the square matrices are: the mean of the products, 0 for independent ones."""
    squares = [matrix for matrix in _matrices(model) if matrix.shape == (WIDTH, WIDTH)]
    flat = torch.stack(squares).flatten(1)
    return (flat @ flat.T / flat.shape[1]).triu(1).bfloat16()


def _largest_bias(model: nn.Module) -> Tensor:
    biases = [weight for name, weight in model.named_parameters() if name.endswith("bias")]
    return torch.stack([bias.abs().max() for bias in biases]).detach()


def _gains(model: nn.Module) -> Tensor:
    names = [name for name, _ in model.named_parameters() if "norm" in name]
    return torch.stack([model.get_parameter(n).detach() for n in names if n.endswith("weight")])


def _model_to_fill(n_blocks: int) -> nn.Module:
    """A GPT with gains far from 1 and biases far from 0."""
    model = decoder.gpt(2 * WIDTH, WIDTH, 4, n_blocks, WIDTH)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            if weight.ndim == 1:
                weight.copy_(inputs.normal(len(weight), seed=number))
    return model


def _use_init_weights(
    measure: Callable[[nn.Module], Tensor], n_blocks: int, part: Part, n_layers: int
) -> Tensor:
    model = _model_to_fill(n_blocks)
    before = [weight.detach().clone() for weight in model.parameters()]
    part(model, n_layers)
    if all(map(torch.equal, before, model.parameters())):
        raise Wrong(
            "Your code changes no weight of the model. It writes into the weights that are there, "
            "for example with `nn.init.normal_`, and need not return anything."
        )
    return measure(model)


def _init_weights_cases() -> list[Case]:
    def case(
        title: str,
        measure: Callable[[nn.Module], Tensor],
        wanted: Tensor,
        n_blocks: int = 1,
        n_layers: int | None = None,
    ) -> Case:
        n_layers = n_blocks if n_layers is None else n_layers
        use = partial(_use_init_weights, measure, n_blocks)
        call = f"init_weights(model, n_layers={n_layers})"
        return Case(title, {"n_layers": n_layers}, lambda n_layers: wanted, use, call)

    def deviations(title: str, n_blocks: int, n_layers: int, writers: bool) -> Case:
        """As in GPT-2: 0.02, and by √(2 · layers) less in what is added to the stream."""
        count = 2 * n_blocks if writers else 4 * n_blocks + 3
        value = 20 / math.sqrt(2 * n_layers) if writers else 20.0
        wanted = torch.full((count,), value, dtype=torch.bfloat16)
        measure = partial(_deviations, of_writers=writers)
        return case(title, measure, wanted, n_blocks, n_layers)

    def few(*numbers: float) -> Tensor:
        return torch.tensor(numbers, dtype=torch.bfloat16)

    reads = "standard deviations of what reads the stream, in thousandths"
    writes = "standard deviations of w_o and down, in thousandths"
    gains = _gains(_model_to_fill(2))
    return [
        deviations(writes, 1, 1, True),
        deviations(reads, 1, 1, False),
        deviations(f"{writes}, three blocks", 3, 3, True),
        deviations(f"{reads}, three blocks", 3, 3, False),
        deviations(f"{writes}, two blocks of a model of eight", 2, 8, True),
        case("the largest number in each bias", _largest_bias, torch.zeros(17), 2),
        case("gains of the norms, which stay as they are", _gains, gains, 2),
        case("means, measured in standard deviations", _means, few(*[0.0] * 9)),
        case("per cent that are more than two deviations from 0", _far_out, few(4.55)[0]),
        case("how alike w_q, w_k, w_v and w_o are", _likeness, torch.zeros(5, 5).bfloat16()),
    ]


def _fill(model, matrices=0.02, writers=None, writer_names=("w_o", "down")):
    """Fill a model with normal numbers as the mistakes below choose; biases become 0."""
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            writes = any(part in name.split(".") for part in writer_names)
            std = writers if writes and writers is not None else matrices
            nn.init.normal_(weight, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def _std_instead_of_variance(model, n_layers):
    _fill(model, 0.02**2, 0.02**2 / math.sqrt(2 * n_layers))


def _std_one(model, n_layers):
    _fill(model, 1.0, 1 / math.sqrt(2 * n_layers))


def _scales_everything(model, n_layers):
    _fill(model, 0.02 / math.sqrt(2 * n_layers))


def _residual_not_scaled(model, n_layers):
    _fill(model)


def _scaled_by_root_of_layers(model, n_layers):
    _fill(model, 0.02, 0.02 / math.sqrt(n_layers))


def _scaled_without_root(model, n_layers):
    _fill(model, 0.02, 0.02 / (2 * n_layers))


def _scales_attention_only(model, n_layers):
    _fill(model, 0.02, 0.02 / math.sqrt(2 * n_layers), ("w_o",))


def _scales_feed_forward_only(model, n_layers):
    _fill(model, 0.02, 0.02 / math.sqrt(2 * n_layers), ("down",))


def _norm_gain_randomised(model, n_layers):
    _init_by_name(model, n_layers)
    for name, weight in model.named_parameters():
        if weight.ndim == 1 and name.endswith("weight"):
            nn.init.normal_(weight, std=0.02)


def _gains_set_to_zero(model, n_layers):
    _init_by_name(model, n_layers)
    for weight in model.parameters():
        if weight.ndim == 1:
            nn.init.zeros_(weight)


def _biases_left(model, n_layers):
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            scale = math.sqrt(2 * n_layers) if _writes_to_stream(name) else 1.0
            nn.init.normal_(weight, std=0.02 / scale)


def _biases_randomised(model, n_layers):
    _init_by_name(model, n_layers)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.02)


def _tables_left(model, n_layers):
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            scale = math.sqrt(2 * n_layers) if _writes_to_stream(f"{name}.weight") else 1.0
            nn.init.normal_(module.weight, std=0.02 / scale)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)


def _uniform(model, n_layers):
    for name, weight in model.named_parameters():
        scale = math.sqrt(2 * n_layers) if _writes_to_stream(name) else 1.0
        if weight.ndim > 1:
            nn.init.uniform_(weight, -0.02 / scale, 0.02 / scale)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def _xavier(model, n_layers):
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            nn.init.xavier_uniform_(weight)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def _same_numbers_everywhere(model, n_layers):
    for name, weight in model.named_parameters():
        torch.manual_seed(0)
        scale = math.sqrt(2 * n_layers) if _writes_to_stream(name) else 1.0
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.02 / scale)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def _mean_instead_of_std(model, n_layers):
    for name, weight in model.named_parameters():
        scale = math.sqrt(2 * n_layers) if _writes_to_stream(name) else 1.0
        if weight.ndim > 1:
            nn.init.normal_(weight, 0.02 / scale)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def _new_tensors(model, n_layers):
    for weight in model.parameters():
        weight = 0.02 * torch.randn_like(weight)


def _in_place_with_gradient(model, n_layers):
    for weight in model.parameters():
        weight.normal_(std=0.02)


def _init_by_name(model, n_layers):
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.zero_()
        elif weight.dim() >= 2:
            weight.data.normal_(0.0, 0.02)
            if "w_o" in name or "down" in name:
                weight.data.div_((2 * n_layers) ** 0.5)


@torch.no_grad()
def _init_by_module(model, n_layers):
    for path, module in model.named_modules():
        kind = path.split(".")[-1]
        for name, weight in module.named_parameters(recurse=False):
            if name == "bias":
                weight.fill_(0)
            elif weight.ndim == 2:
                std = 0.02 * (2 * n_layers) ** -0.5 if kind in ("w_o", "down") else 0.02
                weight.copy_(std * torch.randn(weight.shape))


def _init_by_state(model, n_layers):
    state = model.state_dict()
    for name, weight in state.items():
        scale = (0.5 / n_layers) ** 0.5 if name.endswith(("o.weight", "down.weight")) else 1
        if weight.ndim > 1:
            state[name] = torch.empty_like(weight)
            nn.init.trunc_normal_(state[name], std=0.02 * scale)
        elif "bias" in name:
            state[name] = torch.zeros_like(weight)
    model.load_state_dict(state)


INIT_WEIGHTS = Exercise(
    part="training.init_weights",
    notebook="07",
    used_by="every model that you train from here on",
    cases=_init_weights_cases,
    hints=(
        "`model.named_parameters()` gives every weight with its name. Matrices and tables have two "
        "axes, biases and gains have one.",
        "`nn.init.normal_(weight, std=0.02)` fills a weight in place, and `nn.init.zeros_` sets it "
        "to 0. Neither asks for a gradient.",
        "What writes to the residual stream has a name that ends with `w_o.weight` or "
        "`down.weight`. Text has a method `endswith`, which also takes a tuple.",
        "A layer writes to the stream twice. Variances of independent numbers add up, so a "
        "standard deviation of 0.02 / √(2 · n_layers) keeps their sum the same at any depth.",
    ),
    mistakes=(
        Mistake(
            "std_instead_of_variance",
            "Your numbers are fifty times too small: you square 0.02. It is the standard "
            "deviation, and `normal_` takes that, not the variance.",
            _std_instead_of_variance,
        ),
        Mistake(
            "std_one",
            "Your numbers have the standard deviation 1, which is what `normal_` takes if nobody "
            "says otherwise. The first scores would be huge, and the loss far above ln V.",
            _std_one,
        ),
        Mistake(
            "scales_everything",
            "You divide all matrices by √(2 · n_layers). Only `w_o` and `down` add to the residual "
            "stream: the others keep 0.02.",
            _scales_everything,
        ),
        Mistake(
            "residual_not_scaled",
            "You treat `w_o` and `down` like all others. What they write adds up layer by layer: "
            "divide their standard deviation by √(2 · n_layers).",
            _residual_not_scaled,
        ),
        Mistake(
            "scaled_by_root_of_layers",
            "You divide by √n_layers. Every layer writes to the stream twice, after attention and "
            "after the feed-forward net: √(2 · n_layers).",
            _scaled_by_root_of_layers,
        ),
        Mistake(
            "scaled_without_root",
            "You divide by 2 · n_layers. It is variances that add up, so the standard deviation is "
            "divided by the root.",
            _scaled_without_root,
        ),
        Mistake(
            "scales_attention_only",
            "You scale `w_o` and forget `down`, which writes to the stream as well.",
            _scales_attention_only,
        ),
        Mistake(
            "scales_feed_forward_only",
            "You scale `down` and forget `w_o`, which writes to the stream as well.",
            _scales_feed_forward_only,
        ),
        Mistake(
            "norm_gain_randomised",
            "You fill the gains of the norms with small random numbers. They are called weight "
            "too, but have one axis only: leave them, or every layer shrinks what it reads.",
            _norm_gain_randomised,
        ),
        Mistake(
            "gains_set_to_zero",
            "You set everything with one axis to 0. That includes the gains of the norms, and then "
            "nothing gets through. Only the biases become 0.",
            _gains_set_to_zero,
        ),
        Mistake("biases_left", "You leave the biases. They become 0.", _biases_left),
        Mistake(
            "biases_randomised",
            "You fill the biases with random numbers. They become 0: nothing is preferred yet.",
            _biases_randomised,
        ),
        Mistake(
            "tables_left",
            "You fill `nn.Linear` only. The tables of tokens and positions keep the standard "
            "deviation 1, fifty times that of all else.",
            _tables_left,
        ),
        Mistake(
            "uniform",
            "You draw evenly between -0.02 and 0.02. The numbers are normal, and 0.02 is their "
            "standard deviation: `nn.init.normal_`.",
            _uniform,
        ),
        Mistake(
            "xavier",
            "You use Xavier's rule, which depends on the shape. GPT-2 takes 0.02 for all matrices.",
            _xavier,
        ),
        Mistake(
            "same_numbers_everywhere",
            "You set the seed for each weight, so all begin with the same numbers. Then w_q and "
            "w_k are one matrix, and every token looks at itself.",
            _same_numbers_everywhere,
        ),
        Mistake(
            "mean_instead_of_std",
            "The second argument of `normal_` is the mean. Name the one that you mean: "
            "`nn.init.normal_(weight, std=…)`.",
            _mean_instead_of_std,
        ),
        Mistake(
            "new_tensors",
            "`weight = …` gives a name to a new tensor, and the model never sees it. Write into "
            "the weight: `nn.init.normal_(weight, …)`.",
            _new_tensors,
        ),
        Mistake(
            "in_place_with_gradient",
            "PyTorch does not let you write into a weight that wants a gradient. The functions of "
            "`nn.init` may, and so may all code under `torch.no_grad()`.",
            _in_place_with_gradient,
        ),
    ),
    alternatives=(_init_by_name, _init_by_module, _init_by_state),
)

# --- lr_at_step ----------------------------------------------------------------------------------


def _lr_by_table(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Every step of the run, one after the other; half a cosine is cos² of half the angle."""
    up = [peak * count / warmup for count in range(1, warmup + 1)]
    angles = [math.pi / 2 * count / (total - warmup) for count in range(total - warmup)]
    down = [floor + (peak - floor) * math.cos(angle) ** 2 for angle in angles]
    return [*up, *down, floor][min(step, total)]


def _whole_run(part: Part, **settings: Any) -> Tensor:
    """The rates of all steps, and of three after the end."""
    rates = [part(step, **settings) for step in range(settings["total"] + 3)]
    if not all(isinstance(rate, float) for rate in rates):
        kind = next(type(rate).__name__ for rate in rates if not isinstance(rate, float))
        raise Wrong(f"`lr_at_step` should return a float at every step, yours returns a {kind}.")
    return torch.tensor(rates, dtype=torch.float64)


def _lr_at_step_cases() -> list[Case]:
    def one(title: str, step: int, *settings: float, **floor: float) -> Case:
        arguments = dict(zip(("step", "peak", "warmup", "total"), (step, *settings), strict=True))
        values = ", ".join(str(value) for value in arguments.values())
        call = f"lr_at_step({values}{''.join(f', floor={value}' for value in floor.values())})"
        return Case(title, arguments | floor, _lr_by_table, shown=call)

    def run(title: str, peak: float, warmup: int, total: int, **floor: float) -> Case:
        settings = {"peak": peak, "warmup": warmup, "total": total, **floor}
        given = ", ".join(f"{name}={value}" for name, value in settings.items())

        def oracle(*values: Any) -> Tensor:
            rates = [_lr_by_table(step, *values) for step in range(total + 3)]
            return torch.tensor(rates, dtype=torch.float64)

        return Case(title, settings, oracle, _whole_run, f"lr_at_step(step, {given}) for each step")

    return [
        one("the first step", 0, 0.1, 4, 12),
        one("the last step of the warm-up", 3, 0.1, 4, 12),
        one("the first step after the warm-up", 4, 0.1, 4, 12),
        one("half-way down", 8, 0.1, 4, 12),
        one("half-way down to a floor", 8, 0.1, 4, 12, floor=0.02),
        one("after the end", 15, 0.1, 4, 12, floor=0.02),
        run("a whole run", 0.1, 4, 12),
        run("a whole run with a floor", 0.3, 3, 10, floor=0.06),
        run("no warm-up", 2.0, 0, 7, floor=0.5),
        run("one step of warm-up", 1.0, 1, 6),
        run("nothing but warm-up", 0.5, 5, 5, floor=0.1),
        run("a single step after the warm-up", 0.5, 3, 4, floor=0.25),
        run("longer", 6e-4, 20, 100, floor=6e-5),
    ]


def _phase(step, warmup, total):
    """Share of the way down, 0 at the end of the warm-up and 1 at the end of the run."""
    return (step - warmup) / (total - warmup)


def _lr_of(step, peak, warmup, total, floor, up=None, down=None, after=None):
    """The schedule in three pieces. The mistakes below replace one of them."""
    if step < warmup:
        return peak * (step + 1) / warmup if up is None else up
    if step >= total:
        return floor if after is None else after
    if down is not None:
        return down(_phase(step, warmup, total))
    return floor + (peak - floor) * (1 + math.cos(math.pi * _phase(step, warmup, total))) / 2


def _starts_at_zero(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, floor, up=peak * step / max(1, warmup))


def _warmup_one_too_long(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, floor, up=peak * (step + 1) / (warmup + 1))


def _warmup_from_floor(step, peak, warmup, total, floor=0.0):
    up = floor + (peak - floor) * (step + 1) / max(1, warmup)
    return _lr_of(step, peak, warmup, total, floor, up)


def _no_warmup(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, floor, up=peak)


def _crashes_without_warmup(step, peak, warmup, total, floor=0.0):
    rising = peak * min(1.0, (step + 1) / warmup)
    return rising if step < warmup else _lr_of(step, peak, warmup, total, floor)


def _crashes_at_the_end(step, peak, warmup, total, floor=0.0):
    progress = min(1.0, _phase(step, warmup, total))
    falling = floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
    return peak * (step + 1) / warmup if step < warmup else falling


def _no_decay_floor(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, 0.0)


def _floor_added(step, peak, warmup, total, floor=0.0):
    def down(phase):
        return floor + peak * (1 + math.cos(math.pi * phase)) / 2

    return _lr_of(step, peak, warmup, total, floor, down=down)


def _floor_as_limit(step, peak, warmup, total, floor=0.0):
    down = _lr_of(step, peak, warmup, total, 0.0)
    return down if step < warmup else max(floor, down)


def _cosine_from_zero(step, peak, warmup, total, floor=0.0):
    down = floor + (peak - floor) * (1 + math.cos(math.pi * step / total)) / 2
    return _lr_of(step, peak, warmup, total, floor, down=lambda phase: down)


def _never_arrives(step, peak, warmup, total, floor=0.0):
    down = floor + (peak - floor) * (1 + math.cos(math.pi * (step - warmup) / total)) / 2
    return _lr_of(step, peak, warmup, total, floor, down=lambda phase: down)


def _one_step_ahead(step, peak, warmup, total, floor=0.0):
    later = _phase(step + 1, warmup, total) if total > warmup else 1.0
    down = floor + (peak - floor) * (1 + math.cos(math.pi * later)) / 2
    return _lr_of(step, peak, warmup, total, floor, down=lambda phase: down)


def _linear_decay(step, peak, warmup, total, floor=0.0):
    def down(phase):
        return peak + (floor - peak) * phase

    return _lr_of(step, peak, warmup, total, floor, down=down)


def _not_halved(step, peak, warmup, total, floor=0.0):
    def down(phase):
        return floor + (peak - floor) * (1 + math.cos(math.pi * phase))

    return _lr_of(step, peak, warmup, total, floor, down=down)


def _whole_wave(step, peak, warmup, total, floor=0.0):
    def down(phase):
        return floor + (peak - floor) * (1 + math.cos(2 * math.pi * phase)) / 2

    return _lr_of(step, peak, warmup, total, floor, down=down)


def _forgot_pi(step, peak, warmup, total, floor=0.0):
    def down(phase):
        return floor + (peak - floor) * (1 + math.cos(phase)) / 2

    return _lr_of(step, peak, warmup, total, floor, down=down)


def _rises_again(step, peak, warmup, total, floor=0.0):
    if step < warmup or total == warmup:
        return _lr_of(step, peak, warmup, total, floor)
    return floor + (peak - floor) * (1 + math.cos(math.pi * _phase(step, warmup, total))) / 2


def _zero_after_the_end(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, floor, after=0.0)


def _stays_at_peak(step, peak, warmup, total, floor=0.0):
    return _lr_of(step, peak, warmup, total, peak)


def _lr_by_clamping(step, peak, warmup, total, floor=0.0):
    if warmup and step + 1 <= warmup:
        return (step + 1) / warmup * peak
    done = min(max((step - warmup) / max(1, total - warmup), 0.0), 1.0)
    share = 0.5 + 0.5 * math.cos(done * math.pi) if step < total else 0.0
    return share * peak + (1 - share) * floor


def _lr_by_sine(step, peak, warmup, total, floor=0.0):
    if step >= total:
        return floor
    if step >= warmup:
        left = (total - step) / (total - warmup)
        return floor + (peak - floor) * math.sin(math.pi / 2 * left) ** 2
    return peak - peak * (warmup - step - 1) / warmup


LR_AT_STEP = Exercise(
    part="training.lr_at_step",
    notebook="07",
    used_by="`train`, before every step",
    cases=_lr_at_step_cases,
    hints=(
        "There are three pieces: `step < warmup`, `step >= total`, and what lies between.",
        "Going up: the first step, 0, gets one part of `warmup` parts of the peak, and step "
        "`warmup` - 1 gets all of it. So count step + 1.",
        "Going down: `progress = (step - warmup) / (total - warmup)` runs from 0 to 1.",
        "Half a cosine, (1 + cos(π · progress)) / 2, runs from 1 to 0. It is the share of the "
        "way from `floor` to `peak`.",
    ),
    mistakes=(
        Mistake(
            "starts_at_zero",
            "Your first step has a rate of 0, so a whole batch is wasted, and the peak comes a "
            "step late. Steps count from 0: use step + 1.",
            _starts_at_zero,
        ),
        Mistake(
            "warmup_one_too_long",
            "Your warm-up divides by warmup + 1, so its last step does not reach the peak. "
            "Step `warmup` - 1 has it: (step + 1) / warmup.",
            _warmup_one_too_long,
        ),
        Mistake(
            "warmup_from_floor",
            "Your warm-up starts at `floor`. It starts near 0: the floor is for the end.",
            _warmup_from_floor,
        ),
        Mistake(
            "no_warmup",
            "You start at the peak. The first `warmup` steps climb there in a straight line: the "
            "optimiser does not know the gradients yet.",
            _no_warmup,
        ),
        Mistake(
            "crashes_without_warmup",
            "You divide by `warmup` even where it is 0. Ask first whether the step belongs to the "
            "warm-up.",
            _crashes_without_warmup,
        ),
        Mistake(
            "crashes_at_the_end",
            "You divide by total - warmup even where it is 0. From step `total` on return `floor`, "
            "before you divide.",
            _crashes_at_the_end,
        ),
        Mistake(
            "no_decay_floor",
            "You do not use `floor`: your rate falls to 0.",
            _no_decay_floor,
        ),
        Mistake(
            "floor_added",
            "You add `floor` to the whole cosine, so it begins above the peak. The cosine covers "
            "peak - floor.",
            _floor_added,
        ),
        Mistake(
            "floor_as_limit",
            "Your cosine aims at 0 and is cut off at `floor`. It should arrive there at the end: "
            "floor + (peak - floor) · …",
            _floor_as_limit,
        ),
        Mistake(
            "cosine_from_zero",
            "Your cosine begins at step 0, so the rate jumps where the warm-up ends. It begins at "
            "step `warmup`: (step - warmup) / (total - warmup).",
            _cosine_from_zero,
        ),
        Mistake(
            "never_arrives",
            "You divide by `total`, so the cosine has not arrived when the run ends, and the rate "
            "jumps. It takes total - warmup steps.",
            _never_arrives,
        ),
        Mistake(
            "one_step_ahead",
            "Your cosine is one step ahead. At step `warmup` the progress is 0.",
            _one_step_ahead,
        ),
        Mistake(
            "linear_decay",
            "You go down in a straight line. Go along half a cosine: slowly, fast, slowly.",
            _linear_decay,
        ),
        Mistake(
            "not_halved",
            "Your 1 + cos runs from 2 to 0, so the rate begins at twice the peak. Halve it.",
            _not_halved,
        ),
        Mistake(
            "whole_wave",
            "You use a whole wave: half-way through it is at the bottom, and then it climbs. Half "
            "a wave is π, not 2π.",
            _whole_wave,
        ),
        Mistake(
            "forgot_pi",
            "Your cosine runs to 1, not to π, so the rate falls by a quarter only.",
            _forgot_pi,
        ),
        Mistake(
            "rises_again",
            "After the end your cosine climbs again. From step `total` on it is `floor`.",
            _rises_again,
        ),
        Mistake(
            "zero_after_the_end",
            "You return 0 after the end. From step `total` on it is `floor`.",
            _zero_after_the_end,
        ),
        Mistake(
            "stays_at_peak",
            "You stay at the peak. After the warm-up the rate falls along half a cosine.",
            _stays_at_peak,
        ),
    ),
    alternatives=(_lr_by_table, _lr_by_clamping, _lr_by_sine),
)

# --- clip_gradients ------------------------------------------------------------------------------


def _with_gradients(gradients: Sequence[Tensor | None]) -> list[nn.Parameter]:
    """Parameters of ones with these gradients. None gives one without a gradient."""
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.ones(2) if gradient is None else torch.ones_like(gradient))
        parameter.grad = None if gradient is None else gradient.detach().clone()
        parameters.append(parameter)
    return parameters


def _norm_and_gradients(parameters: list[nn.Parameter], norm: float) -> tuple[Tensor, ...]:
    """All as float32: torch adds 1e-6 to the length before it divides, which is right as well."""
    found = [parameter.grad.float() for parameter in parameters if parameter.grad is not None]
    return torch.tensor(norm, dtype=torch.float32), *found


def _clip_by_torch(*arguments: Any) -> tuple[Tensor, ...]:
    *gradients, max_norm = arguments
    parameters = _with_gradients(gradients)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return _norm_and_gradients(parameters, float(norm))


def _use_clip_gradients(
    hand_over: Callable[[list], Any], part: Part, max_norm: float, **gradients: Tensor | None
) -> tuple[Tensor, ...]:
    parameters = _with_gradients(list(gradients.values()))
    try:
        norm = part(hand_over(parameters), max_norm)
    except (AttributeError, TypeError) as error:
        if None in gradients.values() and "None" in str(error):
            raise Wrong(
                "One of the parameters has no gradient: its `grad` is None, and there your code "
                "stopped."
            ).with_traceback(error.__traceback__) from None
        raise
    if not all(bool((parameter == 1).all()) for parameter in parameters):
        raise Wrong("Your code changes the parameters. It is their gradients that are scaled.")
    return _norm_and_gradients(parameters, _a_float("clip_gradients", norm))


def _a_float(name: str, value: Any) -> float:
    """The value that a part returned. Wrong where it is no float."""
    if value is None:
        raise Wrong(f"`{name}` returns None. Is the `return` missing? It should return a float.")
    if not isinstance(value, float):
        raise Wrong(f"`{name}` should return a float, yours returns a {type(value).__name__}.")
    return value


def _clip_gradients_cases() -> list[Case]:
    def case(
        title: str,
        gradients: Sequence[Tensor | None],
        max_norm: float,
        hand_over: Callable[[list], Any] = list,
    ) -> Case:
        named = {f"gradient{number}": each for number, each in enumerate(gradients)}
        arguments = {**named, "max_norm": max_norm}
        use = partial(_use_clip_gradients, hand_over)
        call = f"(clip_gradients(parameters, {max_norm}), *gradients)"
        return Case(title, arguments, _clip_by_torch, use, call)

    def drawn(*shapes: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
        return [scale * inputs.normal(*shape, seed=i) for i, shape in enumerate(shapes)]

    three_four = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0], [-4.0]])]
    some = drawn((3, 4), (5,), (2, 3, 2))
    uneven = [0.1 * some[0], 10 * some[1], some[2]]
    return [
        case("length 5, at most 1", three_four, 1.0),
        case("length 5, at most 2.5", three_four, 2.5),
        case("length 5, at most 10", three_four, 10.0),
        case("length 5, at most 5", three_four, 5.0),
        case("length 5, at most 4.5", three_four, 4.5),
        case("one number", [torch.tensor(-7.0)], 2.0),
        case("three parameters", some, 0.5),
        case("some large, some small", uneven, 3.0),
        case("only small ones", drawn((3, 4), (5,), scale=0.02), 1.0),
        case("no limit", some, math.inf),
        case("a parameter without a gradient", [some[0], None, some[1]], 0.7),
        case("the first without a gradient", [None, some[2], some[0]], 40.0),
        case("no gradients at all", [None, None], 1.0),
        case("gradients that are 0", [torch.zeros(3), torch.zeros(2, 2)], 1.0),
        case("a generator, as `model.parameters()` gives", some, 1.5, iter),
        case("a generator of one", [10 * some[1]], 1.0, iter),
        case("float64", [each.double() for each in some], 1.0),
    ]


def _gradients_of(parameters):
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _clip_all(gradients, norm, max_norm):
    """Scale by what the mistakes below take for the norm."""
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return float(norm)


def _length(gradients):
    return math.sqrt(sum(gradient.detach().double().square().sum() for gradient in gradients))


def _clips_each_element(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        gradient.clamp_(-max_norm, max_norm)
    return norm


def _clips_each_tensor(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        _clip_all([gradient], _length([gradient]), max_norm)
    return norm


def _scales_up_small(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        gradient.mul_(max_norm / norm if norm else 1.0)
    return norm


def _crashes_without_gradient(parameters, max_norm):
    gradients = [parameter.grad for parameter in parameters]
    return _clip_all(gradients, sum(g.norm() ** 2 for g in gradients) ** 0.5, max_norm)


def _loops_a_generator_twice(parameters, max_norm):
    norm = _length(_gradients_of(parameters))
    return _clip_all(_gradients_of(parameters), norm, max_norm)


def _returns_clipped_norm(parameters, max_norm):
    gradients = _gradients_of(parameters)
    _clip_all(gradients, _length(gradients), max_norm)
    return _length(gradients)


def _forgot_root(parameters, max_norm):
    gradients = _gradients_of(parameters)
    return _clip_all(gradients, _length(gradients) ** 2, max_norm)


def _sum_of_norms(parameters, max_norm):
    gradients = _gradients_of(parameters)
    return _clip_all(gradients, sum(_length([each]) for each in gradients), max_norm)


def _largest_number(parameters, max_norm):
    gradients = _gradients_of(parameters)
    largest = max((float(each.abs().max()) for each in gradients), default=0.0)
    return _clip_all(gradients, largest, max_norm)


def _norm_of_parameters(parameters, max_norm):
    parameters = list(parameters)
    return _clip_all(_gradients_of(parameters), _length(parameters), max_norm)


def _measures_only(parameters, max_norm):
    return _length(_gradients_of(parameters))


def _forgot_to_divide(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        gradient.mul_(max_norm if norm > max_norm else 1.0)
    return norm


def _makes_length_one(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    for gradient in gradients:
        gradient.div_(norm if norm > max_norm else 1.0)
    return norm


def _the_other_way_round(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    if 0 < norm <= max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def _divides_by_zero(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = _length(gradients)
    scale = min(1.0, max_norm / norm)
    for gradient in gradients:
        gradient.mul_(scale)
    return norm


def _norm_as_tensor(parameters, max_norm):
    gradients = _gradients_of(parameters)
    norm = torch.tensor(_length(gradients))
    _clip_all(gradients, norm, max_norm)
    return norm


def _clip_by_torch_itself(parameters, max_norm):
    return nn.utils.clip_grad_norm_(parameters, max_norm).item()


def _clip_by_foreach(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return float(norm)


def _clip_by_new_gradients(parameters, max_norm):
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = math.hypot(*(parameter.grad.norm().item() for parameter in parameters))
    for parameter in parameters:
        parameter.grad = parameter.grad * min(1.0, max_norm / max(norm, 1e-12))
    return norm


CLIP_GRADIENTS = Exercise(
    part="training.clip_gradients",
    notebook="07",
    used_by="`train_step`: one strange batch cannot throw the model far off",
    cases=_clip_gradients_cases,
    hints=(
        "Think of all gradients as one long vector. Its length is the root of the sum of all "
        "squares, over all parameters.",
        "Collect the gradients in a list first: `[p.grad for p in parameters if p.grad is not "
        "None]`. A generator can be read only once.",
        "Only if the length is above `max_norm`, multiply every gradient with the same number, "
        "max_norm / length. `gradient.mul_(…)` does it in place.",
        "Return the length from before, as a float: `math.sqrt` makes one of a tensor.",
    ),
    mistakes=(
        Mistake(
            "clips_each_element",
            "You limit every number by itself, which changes the direction of the step. Measure "
            "the length of all of them together and scale all alike.",
            _clips_each_element,
        ),
        Mistake(
            "clips_each_tensor",
            "You clip every parameter's gradient by itself, which changes the direction of the "
            "step. There is one length, that of all of them together.",
            _clips_each_tensor,
        ),
        Mistake(
            "scales_up_small",
            "You always scale to `max_norm`, so small gradients grow. Near the end of training "
            "that would keep the steps large. Scale only where the length is above it.",
            _scales_up_small,
        ),
        Mistake(
            "crashes_without_gradient",
            "A parameter that took no part has no gradient: its `grad` is None. Leave it out: "
            "`if p.grad is not None`.",
            _crashes_without_gradient,
        ),
        Mistake(
            "loops_a_generator_twice",
            "Your second loop over `parameters` finds nothing: `model.parameters()` is a "
            "generator, and can be read only once. Make a list first.",
            _loops_a_generator_twice,
        ),
        Mistake(
            "returns_clipped_norm",
            "You return the length after clipping. The one before says how wild the batch was: "
            "keep it before you scale.",
            _returns_clipped_norm,
        ),
        Mistake(
            "forgot_root",
            "You take the sum of squares for the length. The length is its root.",
            _forgot_root,
        ),
        Mistake(
            "sum_of_norms",
            "You add up the lengths of the single gradients. Lengths do not add up, squares do: "
            "the root of the sum of all squares.",
            _sum_of_norms,
        ),
        Mistake(
            "largest_number",
            "You take the largest number. The length is the root of the sum of all squares.",
            _largest_number,
        ),
        Mistake(
            "norm_of_parameters",
            "You measure the parameters. Measure their gradients: `p.grad`.",
            _norm_of_parameters,
        ),
        Mistake(
            "measures_only",
            "You measure, but the gradients stay as they were. Scale them in place: "
            "`gradient.mul_(…)`; `gradient = gradient * …` makes a tensor that nobody sees.",
            _measures_only,
        ),
        Mistake(
            "forgot_to_divide",
            "You multiply with `max_norm` and do not divide by the length.",
            _forgot_to_divide,
        ),
        Mistake(
            "makes_length_one",
            "You divide by the length, so it becomes 1. It should become `max_norm`.",
            _makes_length_one,
        ),
        Mistake(
            "the_other_way_round",
            "You scale where the length is below `max_norm`, and leave what is above.",
            _the_other_way_round,
        ),
        Mistake(
            "divides_by_zero",
            "You divide by the length even where it is 0. Compare first.",
            _divides_by_zero,
        ),
        Mistake(
            "norm_as_tensor",
            "You return a tensor. Return a float: `.item()`, `float(…)` or `math.sqrt`.",
            _norm_as_tensor,
        ),
    ),
    alternatives=(_clip_by_torch_itself, _clip_by_foreach, _clip_by_new_gradients),
)

# --- adamw_step ----------------------------------------------------------------------------------


def _adamw_by_torch(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tensor, ...]:
    weight = nn.Parameter(parameter.detach().clone())
    weight.grad = gradient.detach().clone()
    optimiser = AdamW([weight], lr, betas, eps, weight_decay)
    averages = {"exp_avg": mean.detach().clone(), "exp_avg_sq": square.detach().clone()}
    optimiser.state[weight] = {"step": torch.tensor(step - 1.0), **averages}
    optimiser.step()
    return weight.detach(), *averages.values()


def _five_steps(part: Part, **given: Any) -> Any:
    """The part five times, each time with what it gave the time before and another gradient."""
    for count in range(5):
        weight, mean, square = part(**given)
        gradient = given["gradient"].roll(1, -1) * (1.5 - count / 2)
        later = {"parameter": weight, "mean": mean, "square": square, "gradient": gradient}
        given |= later | {"step": given["step"] + 1}
    return weight, mean, square


def _adamw_step_cases() -> list[Case]:
    def case(
        title: str,
        *shape: int,
        step: int = 3,
        lr: float = 0.01,
        dtype: torch.dtype = torch.float32,
        gradient_scale: float = 1.0,
        use: Part | None = None,
        **settings: Any,
    ) -> Case:
        arguments = {
            "parameter": inputs.normal(*shape, dtype=dtype),
            "gradient": gradient_scale * inputs.normal(*shape, seed=1, dtype=dtype),
            "mean": gradient_scale * inputs.normal(*shape, seed=2, dtype=dtype),
            "square": gradient_scale**2 * (0.1 + inputs.normal(*shape, seed=3, dtype=dtype) ** 2),
            "step": step,
            "lr": lr,
            **settings,
        }
        given = {"step": step, "lr": lr} | settings
        call = ", ".join(f"{name}={value}" for name, value in given.items())
        shown = f"adamw_step(parameter, gradient, mean, square, {call})"
        if use is None:
            return Case(title, arguments, _adamw_by_torch, shown=shown)
        oracle = partial(_by_names, use, list(arguments))
        return Case(title, arguments, oracle, use, f"{shown}, five times")

    low: dict[str, Any] = {"betas": (0.5, 0.8), "eps": 1e-8, "weight_decay": 0.0}
    decay: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.5}
    small = {
        "parameter": torch.tensor([1.0, -2.0, 3.0]),
        "gradient": torch.tensor([0.5, -1.0, 0.0]),
        "mean": torch.zeros(3),
        "square": torch.zeros(3),
        "step": 1,
        "lr": 0.1,
    }
    call = "adamw_step(parameter, gradient, mean, square, step=1, lr=0.1)"
    return [
        Case("the first step", small, _adamw_by_torch, shown=call),
        case("a later step", 3, 4),
        case("other betas", 3, 4, **low),
        case("weight decay", 2, 5, lr=0.1, **decay),
        case("weight decay, first step", 2, 5, step=1, lr=0.2, **decay),
        case("a large eps", 3, 4, lr=0.1, betas=(0.8, 0.9), eps=0.5),
        case("tiny gradients", 4, 3, lr=0.1, gradient_scale=1e-6, betas=(0.9, 0.99), eps=1e-6),
        case("after a thousand steps", 3, 2, step=1000, lr=0.05, **low),
        case("five steps", 3, 4, step=1, lr=0.1, use=_five_steps, **decay),
        case("everything at once", 2, 3, 4, step=2, betas=(0.7, 0.9), eps=0.3, weight_decay=0.2),
        case("no decay, no movement", 3, gradient_scale=0.0, betas=(0.9, 0.99), eps=1e-3),
        case("a single number", step=2, **decay),
        case("float64", 3, 4, step=4, dtype=torch.float64, **decay),
        case("bfloat16", 3, 4, lr=0.1, dtype=torch.bfloat16, **decay),
    ]


def _by_names(use: Part, names: list[str], *values: Any) -> Any:
    """torch in place of the part, used in the same way."""
    return use(_adamw_by_torch, **dict(zip(names, values, strict=True)))


BETAS = (0.9, 0.999)


@dataclass
class _AdamWInSteps:
    """Right: the part in steps. Each version below does one of them otherwise."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    step: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    def run(self):
        self.mean, self.square = self.averages()
        return self.moved(self.direction(*self.unbiased())), self.mean, self.square

    def averages(self):
        mean = self.mean.lerp(self.gradient, 1 - self.betas[0])
        return mean, self.square.lerp(self.gradient.square(), 1 - self.betas[1])

    def unbiased(self):
        beta1, beta2 = self.betas
        return self.mean / (1 - beta1**self.step), self.square / (1 - beta2**self.step)

    def direction(self, mean, square):
        return mean / (square.sqrt() + self.eps)

    def moved(self, direction):
        return self.parameter - self.lr * (direction + self.weight_decay * self.parameter)


def _part_of(steps: type[_AdamWInSteps]) -> Part:
    """The part that makes these steps."""

    def part(parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0):
        given = (parameter, gradient, mean, square, step, lr, betas, eps, weight_decay)
        return steps(*given).run()

    part.__name__ = steps.__name__
    return part


class _NoBiasCorrection(_AdamWInSteps):
    def unbiased(self):
        return self.mean, self.square


class _CorrectsMeanOnly(_AdamWInSteps):
    def unbiased(self):
        return super().unbiased()[0], self.square


class _CorrectsSquareOnly(_AdamWInSteps):
    def unbiased(self):
        return self.mean, super().unbiased()[1]


class _StepsFromZero(_AdamWInSteps):
    def unbiased(self):
        self.step -= 1
        return super().unbiased()


class _L2InsteadOfDecoupled(_AdamWInSteps):
    def run(self):
        self.gradient = self.gradient + self.weight_decay * self.parameter
        self.weight_decay = 0.0
        return super().run()


class _DecayWithoutLr(_AdamWInSteps):
    def moved(self, direction):
        return self.parameter - self.lr * direction - self.weight_decay * self.parameter


class _IgnoresDecay(_AdamWInSteps):
    def moved(self, direction):
        return self.parameter - self.lr * direction


class _DecaysTheNewOne(_AdamWInSteps):
    def moved(self, direction):
        return (self.parameter - self.lr * direction) * (1 - self.lr * self.weight_decay)


class _GoesUphill(_AdamWInSteps):
    def moved(self, direction):
        return super().moved(-direction)


class _EpsInsideRoot(_AdamWInSteps):
    def direction(self, mean, square):
        return mean / (square + self.eps).sqrt()


class _EpsBeforeCorrection(_AdamWInSteps):
    def direction(self, mean, square):
        root = math.sqrt(1 - self.betas[1] ** self.step)
        return mean * root / (self.square.sqrt() + self.eps)


class _BetasSwapped(_AdamWInSteps):
    def run(self):
        self.betas = self.betas[::-1]
        return super().run()


class _SharesSwapped(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        square = self.square.lerp(self.gradient.square(), beta2)
        return self.mean.lerp(self.gradient, beta1), square


class _SumsInsteadOfMeans(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        return beta1 * self.mean + self.gradient, beta2 * self.square + self.gradient**2


class _ForgotSquare(_AdamWInSteps):
    def averages(self):
        return super().averages()[0], self.square.lerp(self.gradient, 1 - self.betas[1])


class _ForgotRootOfSquare(_AdamWInSteps):
    def direction(self, mean, square):
        return mean / (square + self.eps)


class _UsesTheGradient(_AdamWInSteps):
    def direction(self, mean, square):
        return super().direction(self.gradient, square)


class _UsesOldMeans(_AdamWInSteps):
    def run(self):
        return self.moved(self.direction(*self.unbiased())), *self.averages()


class _ReturnsUnbiased(_AdamWInSteps):
    def run(self):
        return super().run()[0], *self.unbiased()


class _ReturnsOldMeans(_AdamWInSteps):
    def run(self):
        mean, square = self.mean, self.square
        return super().run()[0], mean, square


class _ReturnsParameterOnly(_AdamWInSteps):
    def run(self):
        return super().run()[0]


class _ChangesMeansInPlace(_AdamWInSteps):
    def averages(self):
        beta1, beta2 = self.betas
        self.square.mul_(beta2).add_(self.gradient**2, alpha=1 - beta2)
        return self.mean.mul_(beta1).add_(self.gradient, alpha=1 - beta1), self.square


def _adamw_by_lerp(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    mean = torch.lerp(mean, gradient, 1 - betas[0])
    square = torch.lerp(square, gradient * gradient, 1 - betas[1])
    decayed = parameter * (1 - lr * weight_decay)
    denominator = (square / (1 - betas[1] ** step)) ** 0.5 + eps
    return decayed - lr / (1 - betas[0] ** step) * mean / denominator, mean, square


@torch.no_grad()
def _adamw_by_addcdiv(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    new, mean, square = parameter.clone(), mean.clone(), square.clone()
    mean.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    denominator = (square.sqrt() / math.sqrt(1 - betas[1] ** step)).add_(eps)
    new.mul_(1 - lr * weight_decay).addcdiv_(mean, denominator, value=-lr / (1 - betas[0] ** step))
    return new, mean, square


def _adamw_by_eps_hat(
    parameter, gradient, mean, square, step, lr, betas=BETAS, eps=1e-8, weight_decay=0.0
):
    beta1, beta2 = betas
    mean = gradient + beta1 * (mean - gradient)
    square = gradient.square() + beta2 * (square - gradient.square())
    root = math.sqrt(1 - beta2**step)
    rate = lr * root / (1 - beta1**step)
    change = rate * mean / (square.sqrt() + eps * root)
    return parameter - change - lr * weight_decay * parameter, mean, square


ADAMW_STEP = Exercise(
    part="training.adamw_step",
    notebook="07",
    used_by="`optimisers.AdamW`, for every parameter in every step",
    cases=_adamw_step_cases,
    hints=(
        "First the two running means: the new one is beta times the old plus (1 - beta) times what "
        "has just come, the gradient or its square.",
        "Both began at 0, so at first they are too small. After `step` steps they are short of "
        "1 - beta^step: divide by that, but return them undivided.",
        "The direction is the corrected mean, divided by the root of the corrected square plus "
        "`eps`. So every number moves by about `lr`, however small its gradient.",
        "The decay is no part of that: the new parameter is parameter - lr · (direction + "
        "weight_decay · parameter).",
    ),
    mistakes=(
        Mistake(
            "no_bias_correction",
            "You use the running means as they are. They began at 0 and are too small at first: "
            "divide them by 1 - beta^step.",
            _part_of(_NoBiasCorrection),
        ),
        Mistake(
            "corrects_mean_only",
            "You correct the mean and not the square, so the first steps are far too long. Divide "
            "both, each with its own beta.",
            _part_of(_CorrectsMeanOnly),
        ),
        Mistake(
            "corrects_square_only",
            "You correct the square and not the mean, so the first steps are too short. Divide "
            "both, each with its own beta.",
            _part_of(_CorrectsSquareOnly),
        ),
        Mistake(
            "steps_from_zero",
            "Your correction is one step behind, and divides by 0 in the first. `step` counts from "
            "1 already.",
            _part_of(_StepsFromZero),
        ),
        Mistake(
            "l2_instead_of_decoupled",
            "You add the decay to the gradient. Then it is divided by the root as well, and large "
            "gradients switch it off. In AdamW it pulls at the parameter itself.",
            _part_of(_L2InsteadOfDecoupled),
        ),
        Mistake(
            "decay_without_lr",
            "Your decay is not multiplied with `lr`. As the rate falls, the decay falls with it.",
            _part_of(_DecayWithoutLr),
        ),
        Mistake("ignores_decay", "You do not use `weight_decay`.", _part_of(_IgnoresDecay)),
        Mistake(
            "decays_the_new_one",
            "You decay the parameter after its step. Decay the one that you were given.",
            _part_of(_DecaysTheNewOne),
        ),
        Mistake(
            "goes_uphill",
            "You add the direction, so the loss rises. Subtract it.",
            _part_of(_GoesUphill),
        ),
        Mistake(
            "eps_inside_root",
            "You add `eps` before taking the root. Here it is added to the root: √square + eps.",
            _part_of(_EpsInsideRoot),
        ),
        Mistake(
            "eps_before_correction",
            "You add `eps` to the root of the square before it is corrected, so it weighs more in "
            "the first steps. Correct first.",
            _part_of(_EpsBeforeCorrection),
        ),
        Mistake(
            "betas_swapped",
            "You swapped the betas. The first is the mean's, the second the square's.",
            _part_of(_BetasSwapped),
        ),
        Mistake(
            "shares_swapped",
            "You keep 1 - beta of the old and take beta of the new, so your means forget almost "
            "everything. It is the other way round.",
            _part_of(_SharesSwapped),
        ),
        Mistake(
            "sums_instead_of_means",
            "You add the gradient whole. A running mean takes (1 - beta) of it.",
            _part_of(_SumsInsteadOfMeans),
        ),
        Mistake(
            "forgot_square",
            "Your second mean is of the gradient too, so its root can be NaN. It is the mean of "
            "the gradient's square.",
            _part_of(_ForgotSquare),
        ),
        Mistake(
            "forgot_root",
            "You divide by the square. Divide by its root, which has the gradient's unit.",
            _part_of(_ForgotRootOfSquare),
        ),
        Mistake(
            "uses_the_gradient",
            "You step along the gradient of this batch. Step along the running mean.",
            _part_of(_UsesTheGradient),
        ),
        Mistake(
            "uses_old_means",
            "You step with the means from before. Bring them up to date first.",
            _part_of(_UsesOldMeans),
        ),
        Mistake(
            "returns_unbiased",
            "You return the corrected means. The next step would correct them once more: return "
            "them as they are.",
            _part_of(_ReturnsUnbiased),
        ),
        Mistake(
            "returns_old_means",
            "Your parameter is right, but you return the means that you were given. Return the new "
            "ones, or they stay 0 for ever.",
            _part_of(_ReturnsOldMeans),
        ),
        Mistake(
            "returns_parameter_only",
            "You return the parameter alone. The next step needs both means: return all three.",
            _part_of(_ReturnsParameterOnly),
        ),
        Mistake(
            "changes_in_place",
            "Your numbers are right, but `mul_` and `add_` change the caller's tensors. Without "
            "the underscore they make new ones.",
            _part_of(_ChangesMeansInPlace),
        ),
    ),
    alternatives=(
        _adamw_by_torch,
        _part_of(_AdamWInSteps),
        _adamw_by_lerp,
        _adamw_by_addcdiv,
        _adamw_by_eps_hat,
    ),
)

# --- accumulate ----------------------------------------------------------------------------------


def _words_logits(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.embedding(ids, table)), weight, bias)


class _Words(nn.Module):
    """A small model that reads tokens. It sees to it that each output is used before the next."""

    def __init__(self, table: Tensor, weight: Tensor, bias: Tensor):
        super().__init__()
        self.table = nn.Parameter(table.detach().clone())
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.outputs: list[Tensor] = []
        self.waiting = 0

    def forward(self, ids: Tensor) -> Tensor:
        if self.waiting:
            raise Wrong(
                "Your code runs the model on a second micro-batch before it has called `backward` "
                "for the first, so all of them are kept in memory at once."
            )
        logits = _words_logits(ids, self.table, self.weight, self.bias)
        self.outputs.append(logits)
        if logits.requires_grad:
            self.waiting += 1
            logits.register_hook(self._used)
        return logits

    def _used(self, gradient: Tensor) -> None:
        self.waiting = 0


def _micro_batches(ids: Tensor, targets: Tensor, sizes: Sequence[int]) -> list[tuple]:
    return list(zip(ids.split(list(sizes)), targets.split(list(sizes)), strict=True))


def _cross_entropy_of_words(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def _mean_improbability(logits: Tensor, targets: Tensor) -> Tensor:
    """Another loss: 1 - p of the targets that count."""
    counted = targets != -100
    chosen = torch.softmax(logits[counted], -1).gather(-1, targets[counted][:, None])
    return 1 - chosen.mean()


def _use_accumulate(
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    sizes: Sequence[int],
    left_over: float,
    part: Part,
    ids: Tensor,
    targets: Tensor,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """Loss and gradients. `left_over` fills the gradients that are there already, where not 0."""
    model = _Words(**weights)
    if left_over:
        for each in model.parameters():
            each.grad = torch.full_like(each, left_over)
    loss = _a_float("accumulate", part(model, _micro_batches(ids, targets, sizes), loss_fn))
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    if len(gradients) < 3:
        raise Wrong("After your code has run, the weights have no gradients. Who calls `backward`?")
    if _is_kept(model.outputs[-1]):
        raise Wrong(
            "Your numbers are right, but after `backward` the steps that led to the loss are still "
            "kept in memory."
        )
    return torch.tensor(loss, dtype=torch.float32), *gradients


def _is_kept(output: Tensor) -> bool:
    """Whether one could still go back from here: torch forgets the way when `backward` is done."""
    try:
        output.sum().backward()
    except RuntimeError:
        return False
    return True


def _one_large_batch(
    loss_fn: Callable[[Tensor, Tensor], Tensor], left_over: float, *arguments: Tensor
) -> tuple[Tensor, ...]:
    ids, targets, *weights = (each.detach() for each in arguments)
    weights = [weight.requires_grad_() for weight in weights]
    loss = loss_fn(_words_logits(ids, *weights), targets)
    gradients = torch.autograd.grad(loss, weights)
    return loss.detach().float(), *(gradient + left_over for gradient in gradients)


def _words_weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Six words, three features."""
    return {
        "table": inputs.normal(6, 3, dtype=dtype),
        "weight": 2 * inputs.normal(6, 3, seed=1, dtype=dtype),
        "bias": inputs.normal(6, seed=2, dtype=dtype),
    }


PADDED_IDS = torch.tensor([[1, 2, 3, 4, 5], [3, 1, 0, 0, 0], [5, 5, 2, 0, 0], [2, 4, 1, 3, 0]])
PADDED_TARGETS = torch.tensor(
    [[2, 3, 4, 5, 0], [1, -100, -100, -100, -100], [5, 2, -100, -100, -100], [4, 1, 3, 2, -100]]
)


def _accumulate_cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        loss_fn: Callable[[Tensor, Tensor], Tensor] = _cross_entropy_of_words,
        left_over: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        use = partial(_use_accumulate, loss_fn, sizes, left_over)
        arguments = {"ids": ids, "targets": targets, **_words_weights(dtype)}
        call = f"(accumulate(model, micro_batches of {list(sizes)} rows, loss_fn), *gradients)"
        return Case(title, arguments, partial(_one_large_batch, loss_fn, left_over), use, call)

    ids = inputs.integers(6, 4, below=6)
    targets = inputs.integers(6, 4, below=6, seed=1)
    padded = PADDED_IDS, PADDED_TARGETS
    return [
        case("two of the same size", ids[:2], targets[:2], (1, 1)),
        case("one alone", ids[:3], targets[:3], (3,)),
        case("three of the same size", ids, targets, (2, 2, 2)),
        case("some with more rows", ids, targets, (1, 3, 2)),
        case("some with more padding", *padded, (1, 1, 1, 1)),
        case("more rows and more padding", *padded, (1, 3)),
        case("gradients that are there already", ids, targets, (2, 4), left_over=0.5),
        case("another loss", ids, targets, (4, 2), _mean_improbability),
        case("another loss, with padding", *padded, (2, 2), _mean_improbability, left_over=-1.0),
        case("float64", *padded, (3, 1), dtype=torch.float64),
    ]


def _counts(micro_batches):
    return [int((targets != -100).sum()) for _, targets in micro_batches]


def _accumulate_with(model, micro_batches, loss_fn, shares):
    """Each loss times its share, as the mistakes below choose."""
    total = 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total += loss.item()
    return total


def _right_shares(micro_batches):
    counts = _counts(micro_batches)
    return [count / sum(counts) for count in counts]


def _forgot_divide(model, micro_batches, loss_fn):
    return _accumulate_with(model, micro_batches, loss_fn, [1.0] * len(micro_batches))


def _forgot_divide_gradients(model, micro_batches, loss_fn):
    shares, total = _right_shares(micro_batches), 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        loss.backward()
        total += loss.item() * share
    return total


def _mean_of_means(model, micro_batches, loss_fn):
    n = len(micro_batches)
    return _accumulate_with(model, micro_batches, loss_fn, [1 / n] * n)


def _counts_rows(model, micro_batches, loss_fn):
    rows = [len(targets) for _, targets in micro_batches]
    return _accumulate_with(model, micro_batches, loss_fn, [row / sum(rows) for row in rows])


def _times_counts(model, micro_batches, loss_fn):
    return _accumulate_with(model, micro_batches, loss_fn, _counts(micro_batches))


def _zero_grad_inside(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(micro_batches, _right_shares(micro_batches), strict=True):
        model.zero_grad()
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total += loss.item()
    return total


def _zero_grad_first(model, micro_batches, loss_fn):
    model.zero_grad()
    return _accumulate_with(model, micro_batches, loss_fn, _right_shares(micro_batches))


def _divides_gradients_afterwards(model, micro_batches, loss_fn):
    counts = _counts(micro_batches)
    total = _accumulate_with(model, micro_batches, loss_fn, counts)
    for parameter in model.parameters():
        parameter.grad /= sum(counts)
    return total / sum(counts)


def _returns_last_loss(model, micro_batches, loss_fn):
    shares = _right_shares(micro_batches)
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        (loss * share).backward()
    return loss.item()


def _returns_sum_of_losses(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(micro_batches, _right_shares(micro_batches), strict=True):
        loss = loss_fn(model(ids), targets)
        (loss * share).backward()
        total += loss.item()
    return total


def _returns_mean_of_losses(model, micro_batches, loss_fn):
    return _returns_sum_of_losses(model, micro_batches, loss_fn) / len(micro_batches)


def _loss_as_tensor(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(micro_batches, _right_shares(micro_batches), strict=True):
        loss = loss_fn(model(ids), targets) * share
        loss.backward()
        total = total + loss.detach()
    return total


def _first_only(model, micro_batches, loss_fn):
    return _accumulate_with(model, micro_batches[:1], loss_fn, _right_shares(micro_batches)[:1])


def _no_backward(model, micro_batches, loss_fn):
    shares = _right_shares(micro_batches)
    losses = [
        loss_fn(model(ids), targets).item() * share
        for (ids, targets), share in zip(micro_batches, shares, strict=True)
    ]
    return sum(losses)


def _backward_at_the_end(model, micro_batches, loss_fn):
    shares = _right_shares(micro_batches)
    losses = [
        loss_fn(model(ids), targets) * share
        for (ids, targets), share in zip(micro_batches, shares, strict=True)
    ]
    total = sum(losses)
    total.backward()
    return total.item()


def _keeps_graph(model, micro_batches, loss_fn):
    total = 0.0
    for (ids, targets), share in zip(micro_batches, _right_shares(micro_batches), strict=True):
        loss = loss_fn(model(ids), targets) * share
        loss.backward(retain_graph=True)
        total += loss.item()
    return total


def _always_cross_entropy(model, micro_batches, loss_fn):
    shares = _right_shares(micro_batches)
    return _accumulate_with(model, micro_batches, training.cross_entropy, shares)


def _without_gradient(model, micro_batches, loss_fn):
    with torch.no_grad():
        return _accumulate_with(model, micro_batches, loss_fn, _right_shares(micro_batches))


def _accumulate_by_counting_first(model, micro_batches, loss_fn):
    everything = sum(targets.ne(-100).sum().item() for _, targets in micro_batches)
    losses = []
    for ids, targets in micro_batches:
        weight = targets.ne(-100).float().sum().item() / everything
        loss = loss_fn(model(ids), targets).mul(weight)
        loss.backward()
        losses.append(float(loss.detach()))
    return math.fsum(losses)


def _accumulate_by_weighted_backward(model, micro_batches, loss_fn):
    shares, total = _right_shares(micro_batches), 0.0
    for (ids, targets), share in zip(micro_batches, shares, strict=True):
        loss = loss_fn(model(ids), targets)
        loss.backward(gradient=torch.full_like(loss, share))
        total += share * loss.item()
    return total


def _accumulate_by_autograd(model, micro_batches, loss_fn):
    counts, parameters, total = _counts(micro_batches), list(model.parameters()), 0.0
    for index, (ids, targets) in enumerate(micro_batches):
        loss = loss_fn(model(ids), targets) / (sum(counts) / counts[index])
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        total += loss.item()
    return total


ACCUMULATE = Exercise(
    part="training.accumulate",
    notebook="07",
    used_by="`train_step`: a batch that does not fit into memory is read in pieces",
    cases=_accumulate_cases,
    hints=(
        "`backward` adds to the gradients that are there. So call it for every micro-batch, one "
        "after the other, and nothing has to be kept in between.",
        "`loss_fn` gives the mean over the targets of its micro-batch. In the large batch that "
        "micro-batch has a share: its targets that count, of all that count.",
        "`int((targets != -100).sum())` counts them. You need the number of all before the first "
        "`backward`, so go through the list once to count.",
        "In the loop: `share = loss_fn(model(inputs), targets) * count / sum(counts)`, "
        "`share.backward()`, and add `share.item()` to the total.",
    ),
    mistakes=(
        Mistake(
            "forgot_divide",
            "You add up the losses as they are: with four micro-batches the gradients are four "
            "times too long. Each counts by its share of the targets.",
            _forgot_divide,
        ),
        Mistake(
            "forgot_divide_gradients",
            "The loss that you return is right, but `backward` is called on the whole loss of each "
            "micro-batch. Take the share first, then call `backward`.",
            _forgot_divide_gradients,
        ),
        Mistake(
            "mean_of_means",
            "You divide by the number of micro-batches. A target in a micro-batch with much "
            "padding then weighs more than others: weigh by the number of targets.",
            _mean_of_means,
        ),
        Mistake(
            "counts_ignored",
            "You weigh by all targets, padding included. Only those that are not -100 count.",
            _counts_rows,
        ),
        Mistake(
            "times_counts",
            "You multiply with the number of targets and do not divide by the number of all.",
            _times_counts,
        ),
        Mistake(
            "zero_grad_inside",
            "You clear the gradients before every micro-batch, so only the last one is learned "
            "from. They must add up.",
            _zero_grad_inside,
        ),
        Mistake(
            "zero_grad_first",
            "You clear the gradients that are there. This part adds to them: it is `train_step` "
            "that begins with fresh ones.",
            _zero_grad_first,
        ),
        Mistake(
            "divides_gradients_afterwards",
            "You divide the gradients at the end, and with them what was there before. Take the "
            "share of each loss instead.",
            _divides_gradients_afterwards,
        ),
        Mistake(
            "returns_last_loss",
            "Your gradients are right, but you return the loss of the last micro-batch. Return the "
            "mean over all targets.",
            _returns_last_loss,
        ),
        Mistake(
            "returns_sum_of_losses",
            "Your gradients are right, but you return the sum of the losses. Add up the shares.",
            _returns_sum_of_losses,
        ),
        Mistake(
            "returns_mean_of_losses",
            "Your gradients are right, but you return the mean of the losses. Each counts by its "
            "share of the targets.",
            _returns_mean_of_losses,
        ),
        Mistake(
            "loss_as_tensor",
            "You return a tensor. Return a float: `.item()`.",
            _loss_as_tensor,
        ),
        Mistake(
            "first_only",
            "You return from inside the loop: only the first micro-batch is read.",
            _first_only,
        ),
        Mistake(
            "no_backward",
            "You never call `backward`, so there is no gradient.",
            _no_backward,
        ),
        Mistake(
            "backward_at_the_end",
            "You add up all losses and call `backward` at the end. The gradients are right, but "
            "all micro-batches are kept until then, as if it were one large batch.",
            _backward_at_the_end,
        ),
        Mistake(
            "graph_kept",
            "With `retain_graph=True` torch keeps all that led to the loss. Nobody needs it after "
            "`backward`: leave it out.",
            _keeps_graph,
        ),
        Mistake(
            "always_cross_entropy",
            "You use `cross_entropy`. Use the `loss_fn` that you are given.",
            _always_cross_entropy,
        ),
        Mistake(
            "without_gradient",
            "Under `torch.no_grad()` torch does not note what it computes, so `backward` has no "
            "way to go.",
            _without_gradient,
        ),
    ),
    alternatives=(
        _accumulate_by_counting_first,
        _accumulate_by_weighted_backward,
        _accumulate_by_autograd,
    ),
)

# --- train_step ----------------------------------------------------------------------------------


def _use_train_step(
    make_optimiser: Callable[..., Optimizer],
    sizes: Sequence[int],
    n_steps: int,
    part: Part,
    ids: Tensor,
    targets: Tensor,
    max_norm: float,
    **weights: Tensor,
) -> tuple[Tensor, ...]:
    """Loss and length of the last step, and the weights after it. Old gradients lie around."""
    model = _Words(**weights)
    for each in model.parameters():
        each.grad = torch.full_like(each, 0.3)
    optimiser = make_optimiser(model.parameters())
    optimiser.register_step_pre_hook(partial(_is_ready, model))
    batches = _micro_batches(ids, targets, sizes)
    for _ in range(n_steps):
        loss, norm = _loss_and_norm(part(model, batches, optimiser, max_norm))
    weights_then = [each.detach().clone() for each in model.parameters()]
    return torch.tensor(loss), torch.tensor(norm), *weights_then


def _is_ready(model: _Words, *_: Any) -> None:
    if not model.outputs:
        raise Wrong("Your code calls `optimiser.step()` before the model has read anything.")
    if not any(each.grad is not None and each.grad.any() for each in model.parameters()):
        raise Wrong("When your code calls `optimiser.step()` there are no gradients.")


def _loss_and_norm(found: Any) -> tuple[float, float]:
    if found is None:
        raise Wrong("`train_step` returns None. Is the `return` missing?")
    if not isinstance(found, tuple) or len(found) != 2:
        raise Wrong("`train_step` should return two floats: the loss, and the gradients' length.")
    loss, norm = found
    return _a_float("train_step", loss), _a_float("train_step", norm)


def _train_step_by_torch(
    make_optimiser: Callable[..., Optimizer], n_steps: int, *arguments: Any
) -> tuple[Tensor, ...]:
    """One large batch, in plain torch."""
    ids, targets, max_norm, *values = arguments
    weights = [nn.Parameter(value.detach().clone()) for value in values]
    optimiser = make_optimiser(weights)
    for _ in range(n_steps):
        optimiser.zero_grad()
        loss = _cross_entropy_of_words(_words_logits(ids, *weights), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, max_norm)
        optimiser.step()
    return loss.detach(), norm, *(weight.detach() for weight in weights)


def _train_step_cases() -> list[Case]:
    def case(
        title: str,
        ids: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        max_norm: float,
        n_steps: int = 1,
        make_optimiser: Callable[..., Optimizer] = partial(SGD, lr=0.5),  # noqa: B008
    ) -> Case:
        use = partial(_use_train_step, make_optimiser, sizes, n_steps)
        arguments = {"ids": ids, "targets": targets, "max_norm": max_norm, **_words_weights()}
        oracle = partial(_train_step_by_torch, make_optimiser, n_steps)
        given = f"model, micro_batches of {list(sizes)} rows, optimiser, {max_norm}"
        call = f"(*train_step({given}), *weights)"
        return Case(title, arguments, oracle, use, call)

    ids = inputs.integers(6, 4, below=6)
    targets = inputs.integers(6, 4, below=6, seed=1)
    padded = PADDED_IDS, PADDED_TARGETS
    momentum = partial(SGD, lr=0.3, momentum=0.9)
    adamw = partial(AdamW, lr=0.05, weight_decay=0.1)
    return [
        case("one micro-batch, clipped", ids[:2], targets[:2], (2,), 0.1),
        case("one micro-batch, not clipped", ids[:2], targets[:2], (2,), 100.0),
        case("three micro-batches", ids, targets, (2, 2, 2), 0.2),
        case("some with more padding", *padded, (1, 1, 2), 0.3),
        case("some with more padding, no limit", *padded, (1, 3), math.inf),
        case("three steps", ids, targets, (4, 2), 0.25, 3),
        case("three steps with momentum", *padded, (2, 2), 0.4, 3, momentum),
        case("three steps of AdamW", *padded, (3, 1), 0.05, 3, adamw),
    ]


def _accumulated(model, micro_batches):
    return training.accumulate(model, micro_batches, training.cross_entropy)


def _clipped(model, max_norm):
    return training.clip_gradients(model.parameters(), max_norm)


def _no_zero_grad(model, micro_batches, optimiser, max_norm):
    loss, norm = _accumulated(model, micro_batches), _clipped(model, max_norm)
    optimiser.step()
    return loss, norm


def _zero_grad_at_the_end(model, micro_batches, optimiser, max_norm):
    loss, norm = _no_zero_grad(model, micro_batches, optimiser, max_norm)
    optimiser.zero_grad()
    return loss, norm


def _zero_grad_before_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss, norm = _accumulated(model, micro_batches), _clipped(model, max_norm)
    optimiser.zero_grad()
    optimiser.step()
    return loss, norm


def _step_before_backward(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    optimiser.step()
    return _accumulated(model, micro_batches), _clipped(model, max_norm)


def _forgets_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    return _accumulated(model, micro_batches), _clipped(model, max_norm)


def _clips_after_step(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss = _accumulated(model, micro_batches)
    optimiser.step()
    return loss, _clipped(model, max_norm)


def _clips_stale_gradients(model, micro_batches, optimiser, max_norm):
    norm = _clipped(model, max_norm)
    optimiser.zero_grad()
    loss = _accumulated(model, micro_batches)
    optimiser.step()
    return loss, norm


def _always_clips_to_one(model, micro_batches, optimiser, max_norm):
    return _train_step_in_order(model, micro_batches, optimiser, 1.0)


def _returns_norm_after_clipping(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss = _accumulated(model, micro_batches)
    _clipped(model, max_norm)
    optimiser.step()
    return loss, _clipped(model, math.inf)


def _returns_swapped(model, micro_batches, optimiser, max_norm):
    return _train_step_in_order(model, micro_batches, optimiser, max_norm)[::-1]


def _returns_loss_only(model, micro_batches, optimiser, max_norm):
    return _train_step_in_order(model, micro_batches, optimiser, max_norm)[0]


@torch.no_grad()
def _loss_afterwards(model, micro_batches):
    ids, targets = (torch.cat(each) for each in zip(*micro_batches, strict=True))
    return training.cross_entropy(model(ids), targets).item()


def _returns_loss_after_step(model, micro_batches, optimiser, max_norm):
    _, norm = _train_step_in_order(model, micro_batches, optimiser, max_norm)
    return _loss_afterwards(model, micro_batches), norm


def _first_micro_batch_only(model, micro_batches, optimiser, max_norm):
    return _train_step_in_order(model, micro_batches[:1], optimiser, max_norm)


def _step_for_each_micro_batch(model, micro_batches, optimiser, max_norm):
    found = [_train_step_in_order(model, [batch], optimiser, max_norm) for batch in micro_batches]
    losses, norms = zip(*found, strict=True)
    return sum(losses) / len(losses), norms[-1]


def _clips_each_micro_batch(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    losses = []
    for batch, share in zip(micro_batches, _right_shares(micro_batches), strict=True):
        losses.append(_accumulate_with(model, [batch], training.cross_entropy, [share]))
        norm = _clipped(model, max_norm)
    optimiser.step()
    return sum(losses), norm


def _mean_of_mean_losses(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad()
    loss = _mean_of_means(model, micro_batches, training.cross_entropy)
    norm = _clipped(model, max_norm)
    optimiser.step()
    return loss, norm


def _train_step_in_order(model, micro_batches, optimiser, max_norm):
    model.zero_grad()
    loss = training.accumulate(model, micro_batches, training.cross_entropy)
    norm = training.clip_gradients(model.parameters(), max_norm=max_norm)
    optimiser.step()
    return loss, norm


def _train_step_in_plain_torch(model, micro_batches, optimiser, max_norm):
    optimiser.zero_grad(set_to_none=False)
    n_targets = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    total = 0.0
    for ids, targets in micro_batches:
        logits = model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / n_targets
        loss.backward()
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimiser.step()
    return total, norm.item()


def _train_step_zeroes_twice(model, micro_batches, optimiser, max_norm):
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    for one in parameters:
        one.grad = None
    loss = training.accumulate(model, micro_batches, loss_fn=training.cross_entropy)
    norm = training.clip_gradients(parameters, max_norm)
    optimiser.step()
    optimiser.zero_grad()
    return loss, norm


TRAIN_STEP = Exercise(
    part="training.train_step",
    notebook="07",
    used_by="`train`, for every step of every run",
    cases=_train_step_cases,
    hints=(
        "Four things happen, in this order: clear the gradients, make new ones, clip them, step.",
        "`optimiser.zero_grad()` clears them. `accumulate(model, micro_batches, cross_entropy)` "
        "makes new ones and returns the loss.",
        "`clip_gradients(model.parameters(), max_norm)` clips them and returns the length that "
        "they had. Then `optimiser.step()`, and return both numbers.",
    ),
    mistakes=(
        Mistake(
            "no_zero_grad",
            "You never clear the gradients. `backward` adds to them, so every step also takes all "
            "steps before it. Begin with `optimiser.zero_grad()`.",
            _no_zero_grad,
        ),
        Mistake(
            "zero_grad_at_the_end",
            "You clear the gradients after the step, so whatever lay there before the first one is "
            "taken too. Begin with `optimiser.zero_grad()`.",
            _zero_grad_at_the_end,
        ),
        Mistake(
            "zero_grad_before_step",
            "You clear the gradients between `backward` and the step, so nothing moves. Clear them "
            "at the beginning.",
            _zero_grad_before_step,
        ),
        Mistake(
            "step_before_backward",
            "You step before there are gradients. First `accumulate`, then clip, then step.",
            _step_before_backward,
        ),
        Mistake(
            "forgets_step",
            "You never call `optimiser.step()`, so the weights stay what they are.",
            _forgets_step,
        ),
        Mistake(
            "clips_after_step",
            "You clip after the step, when the gradients have done their work. Clip before it.",
            _clips_after_step,
        ),
        Mistake(
            "clips_stale_gradients",
            "You clip before there are new gradients. Clip between `accumulate` and the step.",
            _clips_stale_gradients,
        ),
        Mistake(
            "always_clips_to_one",
            "You always clip at 1. Use the `max_norm` that you are given.",
            _always_clips_to_one,
        ),
        Mistake(
            "returns_norm_after_clipping",
            "Your step is right, but you return the length after clipping. `clip_gradients` "
            "returns the one before: it shows how wild the batch was.",
            _returns_norm_after_clipping,
        ),
        Mistake(
            "returns_swapped",
            "Your step is right, but you return the length first. It is loss, length.",
            _returns_swapped,
        ),
        Mistake(
            "returns_loss_only",
            "Your step is right, but you return one number. Return two: loss, length.",
            _returns_loss_only,
        ),
        Mistake(
            "returns_loss_after_step",
            "You compute the loss again after the step. The one that `accumulate` returned is "
            "meant, and costs nothing.",
            _returns_loss_after_step,
        ),
        Mistake(
            "first_micro_batch_only",
            "You read the first micro-batch only. All of them make one step.",
            _first_micro_batch_only,
        ),
        Mistake(
            "step_for_each_micro_batch",
            "You make a step for every micro-batch. All of them together make one.",
            _step_for_each_micro_batch,
        ),
        Mistake(
            "clips_each_micro_batch",
            "You clip after every micro-batch. Clip once, when all gradients have been added.",
            _clips_each_micro_batch,
        ),
        Mistake(
            "mean_of_means",
            "You divide by the number of micro-batches, padding or not. `accumulate` knows how "
            "much each of them counts.",
            _mean_of_mean_losses,
        ),
    ),
    alternatives=(_train_step_in_order, _train_step_in_plain_torch, _train_step_zeroes_twice),
)

EXERCISES: tuple[Exercise, ...] = (
    CROSS_ENTROPY,
    ATTENTION_SCORE_GRAD,
    INIT_WEIGHTS,
    LR_AT_STEP,
    CLIP_GRADIENTS,
    ADAMW_STEP,
    ACCUMULATE,
    TRAIN_STEP,
)
