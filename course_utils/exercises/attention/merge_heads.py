"""attention.merge_heads: heads go back to features."""

import torch
from einops import rearrange
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.attention import shared
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.merge_heads",
    used_by="`MultiHeadAttention`, before its output map",
    hints=(
        "It undoes `split_heads`: `merge_heads(split_heads(x, n_heads))` is `x` again.",
        "Undo the two steps in reverse order. First the tokens go back in front of the heads, then "
        "heads and features become one axis.",
        "After `x.transpose(1, 2)` the axes are [batch, tokens, n_heads, d_head]. `flatten(-2)` "
        "makes one axis of the last two.",
    ),
)


def _merge_by_cat(x: Tensor) -> Tensor:
    return torch.cat(x.unbind(1), dim=-1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, point: str = "") -> Case:
        return Case(title, {"x": x}, _merge_by_cat, point=point)

    normal, of_one = inputs.normal, points.AXIS_OF_ONE
    return [
        case("three heads, two tokens, two features each", shared.counting(2, 3, 2, 2)),
        case("a batch of sentences", normal(2, 3, 5, 4)),
        case("another length, other heads", normal(3, 4, 2, 5)),
        case("what split_heads gives", normal(2, 5, 3, 4).transpose(1, 2)),
        case("as many tokens as heads", normal(2, 3, 3, 4), points.EQUAL_SIZES),
        case("as many of everything", normal(3, 3, 3, 3), points.EQUAL_SIZES),
        case("one sentence", normal(1, 3, 4, 2), of_one),
        case("one token", normal(2, 3, 1, 4), of_one),
        case("one head", normal(2, 1, 3, 4), of_one),
        case("one head, one token", normal(2, 1, 1, 4), of_one),
        case("heads of one feature", normal(2, 4, 3, 1), of_one),
        case("a transposed view", normal(2, 3, 4, 5).mT, points.OTHER_ORDER),
        case("float64", normal(2, 3, 5, 4, dtype=torch.float64), points.SAME_DTYPE),
        case("bfloat16", normal(2, 3, 5, 4, dtype=torch.bfloat16), points.SAME_DTYPE),
    ]


@exercise.mistake(
    "You reshape straight to [batch, tokens, d_model]. The shape is right, but reading on "
    "through one head you meet the next token, not the next head, so tokens are mixed. "
    "Use `transpose(1, 2)` first."
)
def view_without_transpose(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)


@exercise.mistake(
    "You add the heads up, so what they found can no longer be told apart and the width is "
    "that of one head. Put them side by side."
)
def sums_heads(x: Tensor) -> Tensor:
    return x.sum(1)


@exercise.mistake(
    "You average the heads, so what they found can no longer be told apart and the width "
    "is that of one head. Put them side by side."
)
def averages_heads(x: Tensor) -> Tensor:
    return x.mean(1)


@exercise.mistake(
    "You swap axes 1 and 3, heads and features, so a row of your result is not one token. "
    "Swap 1 and 2: heads and tokens."
)
def transposes_but_wrong_axes(x: Tensor) -> Tensor:
    return x.transpose(1, 3).reshape(x.shape[0], x.shape[2], -1)


@exercise.mistake(
    "You put feature 0 of all heads first, then feature 1 of all heads. Each head's "
    "features should stay neighbours: the axes before the last step are [batch, tokens, "
    "n_heads, d_head]."
)
def interleaves(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(-2)


@exercise.mistake(
    "You join heads and tokens, so the sentence gets n_heads times as long. Join heads and "
    "features instead: move the tokens forward first."
)
def heads_after_each_other(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


@exercise.mistake(
    "You put sentences side by side: a loop over `x`, and `torch.cat(list(x))`, take its first "
    "axis, and that is the batch. Heads are on axis 1: `x[:, head]`, or `x.unbind(1)`."
)
def sentences_side_by_side(x: Tensor) -> Tensor:
    return torch.cat(x.unbind(0), dim=-1)


@exercise.mistake("Heads and features are still two axes. Make one of them: `flatten(-2)`.")
def forgot_flatten(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


@exercise.mistake(
    "`transpose` moves nothing in memory, it only changes the order of reading. `view` "
    "cannot join axes that do not lie side by side. Use `reshape` or `flatten`, which copy "
    "where they must."
)
def view_after_transpose(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    return x.transpose(1, 2).view(batch, tokens, n_heads * d_head)


@exercise.alternative
def merge_by_permute(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    return x.permute(0, 2, 1, 3).contiguous().view(batch, tokens, n_heads * d_head)


@exercise.alternative
def merge_by_einops(x: Tensor) -> Tensor:
    return rearrange(x, "b h t d -> b t (h d)")


@exercise.alternative
def merge_head_by_head(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    merged = x.new_empty(batch, tokens, n_heads * d_head)
    for head in range(n_heads):
        merged[..., head * d_head : (head + 1) * d_head] = x[:, head]
    return merged


@exercise.alternative
def merge_by_einsum(x: Tensor) -> Tensor:
    return torch.einsum("bhtd->bthd", x).reshape(x.shape[0], x.shape[2], -1)
