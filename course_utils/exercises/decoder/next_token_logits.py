"""decoder.next_token_logits: what comes after the last real token."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "decoder.next_token_logits",
    used_by="notebook 06, where it says what the head of a GPT does",
    hints=(
        "Every token of the vocabulary has a row in `unembed`. Its score is the dot product of "
        "that row with `h`.",
        "A matrix times a vector is the dot product of each row with the vector.",
        "`matrix @ vector`: the matrix is [vocabulary, d_model], a row for each word.",
    ),
)


def _logits_by_hand(h: Tensor, unembed: Tensor) -> Tensor:
    return torch.stack([torch.dot(row, h) for row in unembed])


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, h: Tensor, unembed: Tensor) -> Case:
        arguments = {"h": h, "unembed": unembed}
        return Case(title, arguments, _logits_by_hand, shown="next_token_logits(h, unembed)")

    def drawn(vocabulary: int, d_model: int, dtype: torch.dtype = torch.float32) -> tuple:
        h = 2 * inputs.normal(d_model, dtype=dtype)
        return h, inputs.normal(vocabulary, d_model, seed=1, dtype=dtype) + 0.5

    small = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, 2.0]])
    one, table = drawn(6, 4)
    return [
        case("four words", torch.tensor([3.0, 1.0, -2.0]), small),
        case("more words", *drawn(9, 5)),
        case("fewer words than features", *drawn(3, 7)),
        case("as many words as features", *drawn(4, 4)),
        case("one word", *drawn(1, 3)),
        case("one feature", *drawn(5, 1)),
        case("large numbers", 20 * one, table),
        case("a state of zeros", torch.zeros(4), table),
        case("transposed views", one[None].T[:, 0], inputs.normal(4, 6, seed=1).T),
        case("float64", *drawn(5, 3, torch.float64)),
        case("bfloat16", *drawn(5, 3, torch.bfloat16)),
    ]


@exercise.mistake(
    "You return probabilities. These are scores (logits): any numbers, before the softmax."
)
def softmaxed(h, unembed):
    return torch.softmax(F.linear(h, unembed), -1)


@exercise.mistake(
    "You return logarithms of probabilities. These are scores (logits), as the dot product "
    "gives them."
)
def log_softmaxed(h, unembed):
    return torch.log_softmax(F.linear(h, unembed), -1)


@exercise.mistake(
    "You average `h` first, as if it held a state for each position. It is the last "
    "token's state alone, so `h.mean(0)` mixes its features."
)
def uses_all_positions_mean(h, unembed):
    return F.linear(h.mean(0).expand(h.shape), unembed)


@exercise.mistake(
    "You divide by the lengths, which gives cosines. Lengths count here: a longer state "
    "means that the model is surer."
)
def cosine(h, unembed):
    return F.cosine_similarity(unembed, h[None], dim=-1)


@exercise.mistake(
    "You give every word's vector the length 1. Longer vectors get larger scores: that is "
    "how a model can prefer frequent words."
)
def only_rows_normalised(h, unembed):
    return F.linear(h, F.normalize(unembed, dim=-1))


@exercise.mistake("You divide by the root of d_model, as attention does. The head does not.")
def scaled(h, unembed):
    return F.linear(h, unembed) / h.shape[-1] ** 0.5


@exercise.mistake("You take the mean of the products. A dot product is their sum.")
def mean_of_products(h, unembed):
    return (unembed * h).mean(-1)


@exercise.mistake(
    "You multiply without adding up: one number for each word and feature. Sum over the features."
)
def products_not_summed(h, unembed):
    return unembed * h


@exercise.mistake(
    "You return distances, which are small for words that fit. A dot product is large for them."
)
def distances(h, unembed):
    return (unembed - h).norm(dim=-1)


@exercise.mistake(
    "`h @ unembed` multiplies with the columns, so it fits only where there are as many "
    "words as features. The words are the rows: `unembed @ h`."
)
def other_axis(h, unembed):
    return h @ unembed


@exercise.mistake("You return the number of the best word. Return the score of every word.")
def best_word(h, unembed):
    return F.linear(h, unembed).argmax(-1)


@exercise.mistake(
    "Your result has an axis too many. One vector goes in, [d_model], and one comes out, "
    "[vocabulary]."
)
def with_a_batch(h, unembed):
    return h[None] @ unembed.T


@exercise.alternative
def logits_by_linear(h, unembed):
    return F.linear(h, unembed)


@exercise.alternative
def logits_by_products(h, unembed):
    return (h * unembed).sum(dim=-1)


@exercise.alternative
def logits_by_einsum(h, unembed):
    return torch.einsum("vd,d->v", unembed, h)
