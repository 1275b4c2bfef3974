"""modern.route: which experts a token goes to, and how much each counts."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import attention
from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "modern.route",
    used_by="`MixtureOfExperts`, for every token",
    hints=(
        "`logits.topk(k, dim=-1)` gives two things: the k largest logits of every token, the "
        "largest first, and whose they are.",
        "The shares of a token sum to 1 over the experts that it goes to. Softmax over the k "
        "logits that were chosen gives them.",
        "Return the experts first and their shares second. `attention.softmax(best, dim=-1)`.",
    ),
)

Routed = tuple[Tensor, Tensor]


def _by_hand(logits: Tensor, k: int) -> Routed:
    """Every token alone, sorted in plain Python; the shares by torch's own softmax."""
    rows = [sorted(range(len(row)), key=row.__getitem__)[::-1][:k] for row in logits.tolist()]
    chosen = torch.tensor(rows)
    best = torch.stack([row[found] for row, found in zip(logits, chosen, strict=True)])
    return chosen, F.softmax(best, dim=-1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, logits: Tensor, k: int, point: str = "") -> Case:
        arguments = {"logits": logits, "k": k}
        return Case(title, arguments, _by_hand, shown=f"route(logits, {k})", point=point)

    normal = inputs.normal
    small = torch.tensor([[0.0, 2.0, -1.0, 1.0], [3.0, 0.5, 2.5, 1.0]])
    order = "The best expert stands first, wherever it stands among the logits."
    alone = "A token that goes to one expert gives it the share 1."
    all_of_them = "A token may go to all experts: they are still sorted, the best first."
    large = "Logits may be large: exp of 200 is infinite, and `attention.softmax` sees to it."
    own = "Every token chooses for itself, however many there are."
    shifted = (
        "A number added to all logits of a token changes nothing: shares are a softmax, also where "
        "all logits are negative."
    )
    return [
        case("two tokens, four experts", small, 2),
        case("one expert a token", small, 1, alone),
        case("three experts a token", 2 * normal(5, 6), 3),
        case("other numbers of tokens and experts", 2 * normal(3, 8), 2, own),
        case("as many tokens as experts", 2 * normal(4, 4), 2, points.EQUAL_SIZES),
        case("as many tokens as choices", 2 * normal(2, 5), 2, points.EQUAL_SIZES),
        case("all experts", 2 * normal(3, 5), 5, all_of_them),
        case("one expert in all", normal(3, 1), 1, alone),
        case("one token", 2 * normal(1, 7), 3, points.AXIS_OF_ONE),
        case("sorted already, the worst first", torch.tensor([[-1.0, 0.0, 2.0, 2.5]]), 2, order),
        case("all logits negative", normal(4, 6) - 9, 2, shifted),
        case("large logits", torch.tensor([[200.0, 199.0, 197.0], [90.0, 95.0, 94.0]]), 2, large),
        case("a transposed view", 2 * normal(6, 4).T, 2, points.OTHER_ORDER),
        case("float64", 2 * normal(3, 5, dtype=torch.float64), 2, points.FLOAT64),
        case("a whole text", 2 * normal(40, 8), 4, own),
        _case_of_ties(),
    ]


def _case_of_ties() -> Case:
    """Which of equal logits are chosen is free, so the shares alone are compared."""
    logits = torch.tensor([[1.0, 1.0, 1.0, 0.0], [2.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    return Case(
        "equal logits",
        {"logits": logits, "k": 2},
        lambda logits, k: _by_hand(logits.detach(), k)[1],
        lambda part, logits, k: part(logits.detach(), k)[1],
        "route(logits, 2)[1]",
        ("The shares",),
        "Exactly k experts are chosen, also where the next one has the same logit: the shares of "
        "those k sum to 1.",
    )


def _shares(weigh: Any) -> Any:
    """The right experts, with shares that a mistake makes of all logits and of those chosen."""

    def routed(logits: Tensor, k: int) -> Routed:
        best, chosen = logits.topk(k, dim=-1)
        return chosen, weigh(logits, best, chosen)

    return routed


@exercise.mistake(
    "You take the softmax over all experts and keep the shares of the chosen as they are. They no "
    "longer sum to 1: take it over the chosen logits."
)
def softmax_before_topk_not_renormalised(logits, k):
    return _shares(lambda all_of, best, chosen: all_of.softmax(-1).gather(-1, chosen))(logits, k)


@exercise.mistake(
    "You take the softmax twice: of all logits, and then of the probabilities of the chosen. That "
    "makes the shares nearly equal. Once, over the chosen logits."
)
def softmax_twice(logits, k):
    return _shares(lambda all_of, best, chosen: all_of.softmax(-1).topk(k).values.softmax(-1))(
        logits, k
    )


@exercise.mistake("You choose the smallest logits. The largest ones win.")
def argmin(logits, k):
    best, chosen = logits.topk(k, dim=-1, largest=False)
    return chosen, best.softmax(-1)


@exercise.mistake(
    "You give a share to every expert, with zeros for those that were not chosen. Only the chosen "
    "are wanted: [tokens, k], in the order of the experts beside them."
)
def gates_of_all_experts(logits, k):
    chosen, shares = route_by_topk(logits, k)
    return chosen, torch.zeros_like(logits).scatter(-1, chosen, shares)


@exercise.mistake("You return the chosen logits as they are. Shares are their softmax.")
def logits_for_shares(logits, k):
    return _shares(lambda all_of, best, chosen: best * 1)(logits, k)


@exercise.mistake(
    "You divide the chosen logits by their sum. Logits may be negative: the shares are their "
    "softmax."
)
def divided_by_their_sum(logits, k):
    return _shares(lambda all_of, best, chosen: best / best.sum(-1, keepdim=True))(logits, k)


@exercise.mistake(
    "You use a sigmoid for each expert alone. The shares of a token sum to 1: softmax over the "
    "chosen."
)
def sigmoid_shares(logits, k):
    return _shares(lambda all_of, best, chosen: best.sigmoid())(logits, k)


@exercise.mistake(
    "You use a sigmoid for each expert and divide by the sum, as DeepSeek-V3 does. Here the shares "
    "are the softmax over the chosen."
)
def sigmoid_normalised(logits, k):
    def weigh(all_of: Tensor, best: Tensor, chosen: Tensor) -> Tensor:
        return best.sigmoid() / best.sigmoid().sum(-1, keepdim=True)

    return _shares(weigh)(logits, k)


@exercise.mistake("You give all chosen experts the same share. A larger logit gets more: softmax.")
def equal_shares(logits, k):
    return _shares(lambda all_of, best, chosen: (best * 0).softmax(-1))(logits, k)


@exercise.mistake(
    "Your softmax runs over the tokens, so tokens compete with each other. Each has its own "
    "shares: `dim=-1`."
)
def softmax_over_tokens(logits, k):
    return _shares(lambda all_of, best, chosen: best.softmax(0))(logits, k)


@exercise.mistake(
    "Experts choose tokens in your version: `topk` runs over the tokens. Each token chooses its "
    "experts: `dim=-1`."
)
def experts_choose(logits, k):
    best, chosen = logits.topk(min(k, len(logits)), dim=0)
    return chosen, best.softmax(0)


@exercise.mistake("You return the shares first. The experts come first, then their shares.")
def swapped(logits, k):
    return route_by_topk(logits, k)[::-1]


@exercise.mistake("You always choose two experts. There are `k`.")
def always_two(logits, k):
    return route_by_topk(logits, min(2, logits.shape[-1]))


@exercise.mistake(
    "Your experts are in the order of their numbers, or the worst is first. The best stands first, "
    "and its share with it."
)
def by_number(logits, k):
    chosen = logits.topk(k, dim=-1).indices.sort(-1).values
    return chosen, logits.gather(-1, chosen).softmax(-1)


@exercise.mistake(
    "The worst of your chosen experts stands first. The best does, and its share with it."
)
def worst_first(logits, k):
    chosen, shares = route_by_topk(logits, k)
    return chosen.flip(-1), shares.flip(-1)


@exercise.mistake(
    "The right experts are chosen, but their shares are in another order: each expert's share "
    "stands where the expert does."
)
def shares_in_another_order(logits, k):
    chosen, shares = route_by_topk(logits, k)
    return chosen, shares.flip(-1)


@exercise.alternative
def route_by_topk(logits: Tensor, k: int) -> Routed:
    best, chosen = torch.topk(logits, k)
    return chosen, F.softmax(best, dim=1)


@exercise.alternative
def route_renormalised(logits, k):
    """As Mixtral does: all probabilities, then those of the chosen, divided by their sum."""
    probabilities, chosen = logits.softmax(-1).topk(k, dim=-1)
    return chosen, probabilities / probabilities.sum(dim=-1, keepdim=True)


@exercise.alternative
def route_by_masking(logits, k):
    chosen = logits.argsort(dim=-1, descending=True)[:, :k]
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(1, chosen, True)
    shares = attention.softmax(logits.masked_fill(~keep, -torch.inf), dim=-1)
    return chosen, shares.gather(1, chosen)


@exercise.alternative
def route_token_by_token(logits, k):
    chosen, shares = [], []
    for token in logits:
        values, places = token.sort(descending=True)
        chosen.append(places[:k])
        weights = torch.exp(values[:k] - values[0])
        shares.append(weights / weights.sum())
    return torch.stack(chosen), torch.stack(shares)
