"""Exercises of notebook 03: from scores to weights, and the whole of multi-head attention."""

import torch
from torch import Tensor

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake

# --- softmax -------------------------------------------------------------------------------------


def _softmax_cases() -> list[Case]:
    def case(title: str, scores: Tensor, dim: int = -1) -> Case:
        return Case(
            title,
            {"scores": scores, "dim": dim},
            torch.softmax,
            shown=f"softmax(scores, dim={dim})",
        )

    return [
        case("one row", torch.tensor([1.0, 2.0, 4.0])),
        case("two rows of three scores", torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0]])),
        case("along the columns", torch.tensor([[0.5, 1.5, -1.0], [2.0, 0.0, 1.0]]), dim=0),
        case("huge scores", torch.tensor([[1e4, 1e4 - 1.0, 0.0], [-1e4, -1e4, -1e4]])),
        case("some scores are minus infinity", torch.tensor([[1.0, -torch.inf, 2.0]])),
        case("scores of a batch with heads", 5 * inputs.normal(2, 3, 4, 5)),
        case("the same along axis 1", 5 * inputs.normal(2, 3, 4, 5), dim=1),
        case("a transposed view", inputs.normal(5, 4).T),
        case("float64", inputs.normal(3, 4, dtype=torch.float64)),
        case("bfloat16", inputs.normal(3, 4, dtype=torch.bfloat16)),
        case("a single score", torch.tensor([[7.0]])),
    ]


def _overflow(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


def _softmax_over_queries(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -2 if scores.ndim > 1 else -1)


def _ignores_dim(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores, -1)


def _normalise_without_exp(scores: Tensor, dim: int = -1) -> Tensor:
    return scores / scores.sum(dim, keepdim=True)


def _by_logsumexp(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.exp(scores - torch.logsumexp(scores, dim, keepdim=True))


def _by_log_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.log_softmax(scores, dim).exp()


SOFTMAX = Exercise(
    part="attention.softmax",
    notebook="03",
    used_by="`attention_weights`, and so by every attention head of every model in this course",
    cases=_softmax_cases,
    hints=(
        "Two steps: make every score positive with `torch.exp`, then divide by the sum.",
        "The sum runs along `dim` only. `keepdim=True` keeps the axis, so that the division "
        "broadcasts.",
        "`exp(1000)` is infinite. Subtract the maximum along `dim` first: the factor that this "
        "takes out of the numerator it also takes out of the sum.",
    ),
    mistakes=(
        Mistake(
            "overflow",
            "You take exp of the scores as they are. exp(89) is already more than a float32 can "
            "hold, and infinity divided by infinity is NaN. Subtract the largest score first.",
            _overflow,
        ),
        Mistake(
            "softmax_over_queries",
            "Your columns sum to 1 where the rows should. Normalise along `dim`: with the default "
            "-1 that is over the keys, for each query on its own.",
            _softmax_over_queries,
        ),
        Mistake(
            "ignores_dim",
            "You always normalise along the last axis. Pass `dim` on to the maximum and the sum.",
            _ignores_dim,
        ),
        Mistake(
            "normalise_without_exp",
            "You divide the scores by their sum without exponentiating them, so weights can be "
            "negative or larger than 1. Take exp first.",
            _normalise_without_exp,
        ),
    ),
    alternatives=(_by_logsumexp, _by_log_softmax),
)

EXERCISES: tuple[Exercise, ...] = (SOFTMAX,)
