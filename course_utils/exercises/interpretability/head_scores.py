"""interpretability.head_scores: what each head looks at."""

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import points
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.interpretability import shared

exercise = Exercise(
    "interpretability.head_scores",
    used_by="the table of what each head of the story-teller looks at",
    hints=(
        "`weights[b, h, q, k]`: the row is that of the query q, and it says how much it looks at "
        "each key k. Row 0 is left out of every mean: drop it first, `rows = weights[..., 1:, :]`.",
        "In `rows` the first row is that of token 1. The token before it is 0, so the weights on "
        "the token before are the main diagonal of `rows`. For the token itself it is one further.",
        "`rows.diagonal(dim1=-2, dim2=-1)` has the axes batch, heads, rows. Take the mean over "
        "batch and rows: `.mean((0, -1))`.",
        "The entropy of a row is the sum of -w · log w, where a weight of 0 adds 0: "
        "`torch.special.entr(rows).sum(-1)`.",
    ),
)


def _by_numpy(weights: Tensor) -> dict[str, Tensor]:
    """Row after row, number after number."""
    maps = weights.detach().numpy().astype(np.float64)
    n_texts, n_heads, n_tokens, _ = maps.shape
    found = {name: np.zeros(n_heads) for name in ("previous", "first", "self", "entropy")}
    n_rows = n_texts * (n_tokens - 1)
    for text in range(n_texts):
        for head in range(n_heads):
            for query in range(1, n_tokens):
                row = maps[text, head, query]
                found["previous"][head] += row[query - 1] / n_rows
                found["first"][head] += row[0] / n_rows
                found["self"][head] += row[query] / n_rows
                found["entropy"][head] -= sum(w * np.log(w) for w in row if w > 0) / n_rows
    return {name: torch.from_numpy(each).to(weights.dtype) for name, each in found.items()}


def _use(part: Part, weights: Tensor) -> dict[str, Tensor]:
    return part(weights.detach())


def _shifted(n_tokens: int, by: int) -> Tensor:
    """A head that looks at the token `by` places back, or at the first where there is none."""
    keys = (torch.arange(n_tokens) - by).clamp_min(0)
    return torch.nn.functional.one_hot(keys, n_tokens).float()


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, weights: Tensor, point: str = "") -> Case:
        return Case(title, {"weights": weights}, _by_numpy, _use, point=point)

    small = torch.tensor([[[[1.0, 0, 0], [0.75, 0.25, 0], [0.125, 0.5, 0.375]]]])
    zero = "A weight of 0 adds 0 to the entropy, though its logarithm is minus infinity."
    ahead = (
        "Maps of an encoder look ahead, too. The scores ask for the same places there, and row 0 "
        "is left out there as well."
    )
    texts = "Texts have equal weight: the mean is over the batch and the rows, not their sum."
    sharp = torch.stack([_shifted(5, by) for by in (0, 1, 2)])[None]
    return [
        case("three tokens", small),
        case("two heads, four tokens", shared.causal_map(1, 2, 4, 4)),
        case("three texts, two heads", shared.causal_map(3, 2, 5, 5, seed=1), texts),
        case("many heads, one text", shared.causal_map(1, 6, 9, 9, seed=2)),
        case("two tokens", shared.causal_map(2, 3, 2, 2, seed=3), "A text may have two tokens."),
        case("heads that look at one token only", sharp, zero),
        case("an encoder's maps", shared.open_map(2, 3, 6, 6), ahead),
        case("an encoder's maps, one head", shared.open_map(1, 1, 4, 4, seed=4), ahead),
        case(
            "as many texts as heads as tokens",
            shared.causal_map(4, 4, 4, 4, seed=5),
            points.EQUAL_SIZES,
        ),
        case(
            "numbers in another order in memory",
            shared.causal_map(3, 2, 5, 5, seed=6).transpose(0, 1),
            points.OTHER_ORDER,
        ),
        case("float64", shared.causal_map(2, 2, 5, 5, dtype=torch.float64), points.FLOAT64),
    ]


# --- Mistakes ------------------------------------------------------------------------------------


def _scores(weights, *, first_row=1, rows=None, mean=(0, -1)):
    rows = weights[..., first_row:, :] if rows is None else rows
    before = weights.diagonal(-1, dim1=-2, dim2=-1)
    itself = weights.diagonal(dim1=-2, dim2=-1)[..., first_row:]
    entropy = torch.special.entr(rows).sum(-1)
    return {
        "previous": before.mean(mean),
        "first": rows[..., 0].mean(mean),
        "self": itself.mean(mean),
        "entropy": entropy.mean(mean),
    }


@exercise.mistake(
    "Under “previous” you take the weight on the token after: the diagonal above the main one. A "
    "row is a query and a column a key, so the token before is one column to the left."
)
def next_instead_of_previous(weights):
    after = weights.diagonal(1, dim1=-2, dim2=-1).mean((0, -1))
    return _scores(weights) | {"previous": after}


@exercise.mistake(
    "Your means count row 0. Token 0 has nothing to choose from, in a decoder it looks at itself "
    "with weight 1: leave its row out of all four."
)
def forgets_row_0(weights):
    return _scores(weights, first_row=0)


@exercise.mistake(
    "You leave row 0 out of “previous” only. It is left out of all four means: in a decoder it "
    "looks at itself with weight 1, which says nothing."
)
def row_0_in_first_and_self(weights):
    scores = _scores(weights, first_row=0)
    return scores | {"entropy": _scores(weights)["entropy"]}


@exercise.mistake(
    "You divide the sum of “previous” by the number of all tokens. One row is left out, so there "
    "are tokens - 1 rows to take the mean over."
)
def divides_by_all_tokens(weights):
    share = (weights.shape[-1] - 1) / weights.shape[-1]
    return {name: share * each for name, each in _scores(weights).items()}


@exercise.mistake(
    "You add up the texts. A score is a mean over the batch, too: with twice as many texts it "
    "stays what it was."
)
def sums_over_texts(weights):
    return {name: each * len(weights) for name, each in _scores(weights).items()}


@exercise.mistake(
    "You average over the heads. Each head has a score of its own: the mean is over texts and rows."
)
def averages_over_heads(weights):
    return {
        name: each.mean().expand(weights.shape[0]).clone()
        for name, each in _scores(weights).items()
    }


@exercise.mistake(
    "Your entropy is in bits. In nats it is the sum of -w · log w with the natural logarithm, "
    "`torch.log`."
)
def entropy_in_bits(weights):
    scores = _scores(weights)
    return scores | {"entropy": scores["entropy"] / torch.log(torch.tensor(2.0))}


@exercise.mistake(
    "Your entropy is NaN where a weight is 0, as 0 · log 0 is for torch. Such a weight adds 0: "
    "`torch.special.entr` knows that."
)
def entropy_of_zero(weights):
    rows = weights[..., 1:, :]
    return _scores(weights) | {"entropy": -(rows * rows.log()).sum(-1).mean((0, -1))}


@exercise.mistake(
    "You read columns as rows: `weights[..., q, k]` has the query first. “first” is column 0, "
    "what every query looks at, not row 0, what token 0 looks at."
)
def queries_and_keys_exchanged(weights):
    return _scores(weights.mT)


@exercise.mistake(
    "Under “previous” you average everything below the main diagonal: all earlier tokens. The "
    "token before is the one diagonal just below it."
)
def averages_a_triangle(weights):
    earlier = weights.tril(-1)[..., 1:, :].sum(-1).mean((0, -1))
    return _scores(weights) | {"previous": earlier}


# --- Right alternatives --------------------------------------------------------------------------


@exercise.alternative
def by_loops(weights):
    previous, first, itself = [], [], []
    for query in range(1, weights.shape[-1]):
        previous.append(weights[:, :, query, query - 1])
        first.append(weights[:, :, query, 0])
        itself.append(weights[:, :, query, query])
    rows = weights[:, :, 1:]
    logs = torch.log(rows.clamp_min(1e-30))
    return {
        "previous": torch.stack(previous).mean((0, 1)),
        "first": torch.stack(first).mean((0, 1)),
        "self": torch.stack(itself).mean((0, 1)),
        "entropy": -(rows * logs).sum(-1).mean((0, 2)),
    }


@exercise.alternative
def by_indices(weights):
    query = torch.arange(1, weights.size(-1))
    entropy = torch.special.entr(weights[..., 1:, :]).sum(-1)
    return {
        "entropy": entropy.mean(dim=(0, 2)),
        "self": weights[..., query, query].mean(dim=(0, 2)),
        "first": weights[..., query, 0].mean(dim=(0, 2)),
        "previous": weights[..., query, query - 1].mean(dim=(0, 2)),
    }


@exercise.alternative
def by_einsum(weights):
    rows = weights[:, :, 1:]
    n = rows.shape[0] * rows.shape[2]
    surprise = -torch.nan_to_num(rows.log(), neginf=0.0)
    return {
        "previous": torch.einsum("bhqq->h", rows[..., :-1]) / n,
        "first": torch.einsum("bhq->h", rows[..., 0]) / n,
        "self": torch.einsum("bhqq->h", rows[..., 1:]) / n,
        "entropy": torch.einsum("bhqk,bhqk->h", rows, surprise) / n,
    }
