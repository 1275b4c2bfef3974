"""modern.balance_loss: what keeps a router from using a few experts only."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import attention
from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "modern.balance_loss",
    used_by="the training of a `MixtureOfExperts`, beside the loss of the text",
    hints=(
        "Two numbers for every expert. How often it was chosen is counted in `chosen`; how "
        "probable it was, on average, comes from the softmax of `logits` over the experts.",
        "Counts have no gradient, probabilities have one. Their product pushes down the "
        "probability of an expert in proportion to how often it is chosen.",
        "`chosen.flatten().bincount(minlength=n_experts)` counts; divide by `chosen.numel()`, so "
        "that the shares sum to 1.",
        "`attention.softmax(logits, dim=-1).mean(0)` is the mean over the tokens. Multiply, sum "
        "over the experts, times `n_experts`.",
    ),
)


def _by_hand(logits: Tensor, chosen: Tensor) -> Tensor:
    """Expert by expert, from the definition."""
    n_tokens, n_experts = logits.shape
    probabilities, total = F.softmax(logits, dim=-1), logits.new_zeros(())
    for expert in range(n_experts):
        share = sum(row.count(expert) for row in chosen.tolist()) / chosen.numel()
        total = total + share * probabilities[:, expert].sum() / n_tokens
    return n_experts * total


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, logits: Tensor, chosen: Tensor, point: str = "") -> Case:
        arguments = {"logits": logits, "chosen": chosen}
        return Case(title, arguments, _by_hand, shown="balance_loss(logits, chosen)", point=point)

    def best(title: str, logits: Tensor, k: int, point: str = "") -> Case:
        return case(title, logits, logits.topk(k, dim=-1).indices, point)

    normal = inputs.normal
    small = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5]])
    every_choice = (
        "All k choices of a token count, its first and its others, and the shares of all experts "
        "sum to 1."
    )
    dead = "An expert that nobody chose counts, too: its share is 0, and `n_experts` counts it."
    as_given = (
        "Count what is in `chosen`. It need not be the largest logits: some routers add noise, or "
        "turn tokens away from an expert that is full."
    )
    large = "Logits may be large: exp of 200 is infinite, and `attention.softmax` sees to it."
    even = "Where all experts are used alike the loss is 1, however many there are."
    collapsed = "Where all goes to one expert, surely, the loss is the number of experts."
    sure = 60.0 * F.one_hot(torch.tensor([1, 1, 1]), 4).float()
    return [
        case("two tokens, three experts", small, torch.tensor([[0], [1]])),
        best("more tokens and experts", 2 * normal(6, 5), 1),
        best("two choices a token", 2 * normal(7, 4), 2, every_choice),
        best("three choices a token", 2 * normal(5, 8), 3, every_choice),
        best("as many tokens as experts", 2 * normal(4, 4), 2, points.EQUAL_SIZES),
        best("all experts are chosen", normal(3, 5), 5, every_choice),
        case("all used alike", torch.zeros(6, 3), torch.tensor([[0], [1], [2]] * 2), even),
        case(
            "all used alike, by pairs", torch.zeros(4, 4), torch.tensor([[0, 1], [2, 3]] * 2), even
        ),
        case("all to one expert", sure, torch.tensor([[1], [1], [1]]), collapsed),
        case("the last expert is not chosen", normal(3, 4), torch.tensor([[0], [1], [1]]), dead),
        case("only the last one is chosen", normal(3, 4), torch.tensor([[3], [3], [3]]), dead),
        case(
            "not the largest logits",
            2 * normal(5, 4),
            torch.tensor([[3, 1], [0, 2], [1, 0], [3, 2], [1, 3]]),
            as_given,
        ),
        best("one token", 2 * normal(1, 5), 2, points.AXIS_OF_ONE),
        best("one expert", normal(3, 1), 1, even),
        best("large logits", 200 + 3 * normal(4, 3), 1, large),
        best("a transposed view", 2 * normal(3, 6).T, 2, points.OTHER_ORDER),
        best("float64", 2 * normal(4, 3, dtype=torch.float64), 2, points.FLOAT64),
        best("a whole text", 2 * normal(50, 8), 2, every_choice),
    ]


def _share(logits: Tensor, chosen: Tensor) -> Tensor:
    """f: the share of every expert in all choices."""
    hits = F.one_hot(chosen.flatten(), logits.shape[-1])
    return hits.to(logits.dtype).mean(0)


def _mean_probability(logits: Tensor) -> Tensor:
    return logits.softmax(-1).mean(0)


@exercise.mistake(
    "You leave `n_experts` out. With it the loss of a balanced router is 1, however many experts "
    "there are."
)
def no_n_experts(logits, chosen):
    return (_share(logits, chosen) * _mean_probability(logits)).sum()


@exercise.mistake(
    "You multiply the probabilities by themselves and do not use `chosen`. One of the two factors "
    "is how often an expert was chosen."
)
def squared_probabilities(logits, chosen):
    return logits.shape[-1] * (_mean_probability(logits) ** 2).sum()


@exercise.mistake(
    "You square the shares that were counted. A count has no gradient, so nothing could be "
    "learned: one factor is the mean probability."
)
def squared_counts(logits, chosen):
    return logits.shape[-1] * (_share(logits, chosen) ** 2).sum()


@exercise.mistake(
    "The values are right, but you detach the probabilities, so no gradient flows and the router "
    "learns nothing from this loss. Only the counts have none."
)
def no_gradient(logits, chosen):
    return balance_loss_by_one_hot(logits.detach(), chosen)


@exercise.mistake(
    "You count the first choice of every token only. All its choices count, and `chosen.numel()` "
    "is how many there are."
)
def first_choice_only(logits, chosen):
    return balance_loss_by_one_hot(logits, chosen[:, :1])


@exercise.mistake(
    "You count the largest logit of every token yourself. Count what is in `chosen`: all k "
    "choices, which need not be the largest logits."
)
def counts_argmax(logits, chosen):
    return balance_loss_by_one_hot(logits, logits.argmax(-1, keepdim=True))


@exercise.mistake(
    "You divide the counts by the number of tokens, so with k choices the shares sum to k. Divide "
    "by the number of choices: `chosen.numel()`."
)
def divided_by_tokens(logits, chosen):
    return chosen.shape[1] * balance_loss_by_one_hot(logits, chosen)


@exercise.mistake("You use the counts as they are. Divide by `chosen.numel()`: shares sum to 1.")
def counts_not_shares(logits, chosen):
    return chosen.numel() * balance_loss_by_one_hot(logits, chosen)


@exercise.mistake("You sum the probabilities over the tokens. Take their mean: `.mean(0)`.")
def sum_of_probabilities(logits, chosen):
    return len(logits) * balance_loss_by_one_hot(logits, chosen)


@exercise.mistake(
    "You take the mean over the experts. Then it is 1 / n_experts for every token, whatever "
    "the router says. P is a mean over the tokens, one number for every expert: `.mean(0)`."
)
def mean_over_experts(logits, chosen):
    probabilities = logits.softmax(-1).mean(-1)
    return logits.shape[-1] * (_share(logits, chosen).sum() * probabilities.mean())


@exercise.mistake(
    "Your softmax runs over the tokens. Experts compete for a token, so it runs over the experts: "
    "`dim=-1`."
)
def softmax_over_tokens(logits, chosen):
    probabilities = logits.softmax(0).mean(0)
    return logits.shape[-1] * (_share(logits, chosen) * probabilities).sum()


@exercise.mistake(
    "You use the logits as they are. P is made of probabilities: softmax over the experts."
)
def logits_for_probabilities(logits, chosen):
    return logits.shape[-1] * (_share(logits, chosen) * logits.mean(0)).sum()


@exercise.mistake(
    "You take the softmax of the mean logits. Take it for every token, and then the mean over the "
    "tokens."
)
def softmax_of_the_mean(logits, chosen):
    return logits.shape[-1] * (_share(logits, chosen) * logits.mean(0).softmax(-1)).sum()


@exercise.mistake(
    "Your probabilities are over the chosen experts alone. P needs the softmax over all experts: "
    "those that were not chosen must be able to rise."
)
def probabilities_of_the_chosen(logits, chosen):
    hidden = torch.ones_like(logits, dtype=torch.bool).scatter(1, chosen, False)
    return balance_loss_by_one_hot(logits.masked_fill(hidden, -torch.inf), chosen)


@exercise.mistake(
    "You multiply by k, or by the number of experts that were chosen. It is the number of all "
    "experts: `logits.shape[-1]`."
)
def only_used_experts(logits, chosen):
    return len(chosen.unique()) * no_n_experts(logits, chosen)


@exercise.mistake(
    "You add up how far the shares are from equal ones. That is 0 when balanced and has no "
    "gradient: the loss is n_experts times the sum of share times probability."
)
def distance_from_equal(logits, chosen):
    n_experts = logits.shape[-1]
    return ((_share(logits, chosen) - 1 / n_experts) ** 2).sum() * n_experts


@exercise.alternative
def balance_loss_by_one_hot(logits: Tensor, chosen: Tensor) -> Tensor:
    n_experts = logits.shape[-1]
    share = F.one_hot(chosen, n_experts).to(logits.dtype).mean(dim=(0, 1))
    return n_experts * share @ F.softmax(logits, dim=-1).mean(dim=0)


@exercise.alternative
def balance_loss_by_gathering(logits, chosen):
    """The mean over all choices of the chosen expert's mean probability, times n_experts."""
    mean = attention.softmax(logits).mean(0)
    return mean[chosen].mean() * logits.size(1)


@exercise.alternative
def balance_loss_with_loops(logits, chosen):
    n_tokens, n_experts = logits.shape
    p = torch.softmax(logits, dim=1)
    loss = 0
    for e in range(n_experts):
        f = (chosen == e).sum().item() / (n_tokens * chosen.shape[1])
        loss = loss + f * p[:, e].mean()
    return loss * n_experts


@exercise.alternative
def balance_loss_by_scatter(logits, chosen):
    counts = torch.zeros(logits.shape[1], dtype=logits.dtype)
    counts.scatter_add_(0, chosen.reshape(-1), torch.ones(chosen.numel(), dtype=logits.dtype))
    f = counts / counts.sum()
    return torch.einsum("e,te->", f, logits.softmax(1)) / logits.shape[0] * logits.shape[1]
