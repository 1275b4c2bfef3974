"""attention.split_heads: features go to heads."""

import torch
from einops import rearrange
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.attention import shared
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.split_heads",
    used_by="`MultiHeadAttention`, three times: for queries, keys and values",
    hints=(
        "With 8 features and 2 heads, head 0 gets features 0 to 3 of every token and head 1 gets "
        "features 4 to 7.",
        "Two steps: cut the last axis in two, [batch, tokens, n_heads, d_head], then move the "
        "heads in front of the tokens.",
        "`x.unflatten(-1, (n_heads, -1))` does the first step. For the second, swap axes 1 and 2 "
        "with `transpose`; another `reshape` would only tear the tokens apart.",
    ),
)


def _split_by_chunks(x: Tensor, n_heads: int) -> Tensor:
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, n_heads: int, point: str = "") -> Case:
        call = f"split_heads(x, n_heads={n_heads})"
        return Case(title, {"x": x, "n_heads": n_heads}, _split_by_chunks, shown=call, point=point)

    normal, of_one = inputs.normal, points.AXIS_OF_ONE
    single = "One head is a head like others: the result is [batch, 1, tokens, d_model]."
    return [
        case("two tokens of six features, three heads", shared.counting(2, 2, 6), 3),
        case("a batch of sentences", normal(2, 5, 12), 3),
        case("another length, other heads", normal(3, 2, 8), 4),
        case("as many tokens as heads", normal(2, 3, 6), 3, points.EQUAL_SIZES),
        case("as many features in a head as heads", normal(2, 5, 9), 3, points.EQUAL_SIZES),
        case("as many sentences as tokens", normal(4, 4, 6), 2, points.EQUAL_SIZES),
        case("one sentence", normal(1, 4, 6), 2, of_one),
        case("one token", normal(2, 1, 6), 3, of_one),
        case("one head", normal(2, 3, 4), 1, single),
        case("heads of one feature", normal(2, 3, 4), 4, of_one),
        case("a transposed view", normal(2, 6, 5).mT, 3, points.OTHER_ORDER),
        case("float64", normal(2, 5, 6, dtype=torch.float64), 2, points.SAME_DTYPE),
        case("bfloat16", normal(2, 5, 6, dtype=torch.bfloat16), 2, points.SAME_DTYPE),
    ]


@exercise.mistake(
    "You reshape straight to [batch, n_heads, tokens, d_head]. The shape is right, but "
    "`reshape` keeps the reading order, so a head gets all features of some tokens instead "
    "of some features of all tokens. Cut the last axis first, then `transpose(1, 2)`."
)
def reshape_without_transpose(x: Tensor, n_heads: int) -> Tensor:
    batch, tokens, d_model = x.shape
    return x.reshape(batch, n_heads, tokens, d_model // n_heads)


@exercise.mistake(
    "You cut the features into heads but leave the heads behind the tokens. Attention "
    "works on the last two axes, so these must be tokens and d_head: `transpose(1, 2)`."
)
def heads_last(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1))


@exercise.mistake(
    "You deal the features out like cards: head 0 gets features 0, h, 2h … A head here is "
    "a run of neighbours. Cut the last axis into (n_heads, d_head), in this order."
)
def interleaved(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


@exercise.mistake(
    "You cut the features into d_head runs of n_heads features. It should be n_heads runs "
    "of d_head features: swap the two numbers."
)
def n_heads_and_d_head_swapped(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).transpose(1, 2)


@exercise.mistake(
    "You put heads and batch on one axis. It works, but then nobody can tell heads from "
    "sentences. Keep four axes: [batch, n_heads, tokens, d_head]."
)
def heads_in_the_batch(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2).flatten(0, 1)


@exercise.mistake(
    "Your heads are in front of the batch. The batch stays first: [batch, n_heads, tokens, d_head]."
)
def heads_first(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).permute(2, 0, 1, 3)


@exercise.mistake(
    "You give every head all the features. The heads share them: each gets d_model / "
    "n_heads of them."
)
def every_head_gets_all(x: Tensor, n_heads: int) -> Tensor:
    return x.unsqueeze(1).expand(-1, n_heads, -1, -1)


@exercise.mistake(
    "Your last two axes are d_head and tokens, in this order. A token's features belong "
    "together on the last axis: [batch, n_heads, tokens, d_head]."
)
def features_before_tokens(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 3, 1)


@exercise.mistake(
    "Heads and sentences are mixed: your pieces lie head by head, each with all its sentences, and "
    "are then read sentence by sentence. Put the heads on an axis of their own: "
    "`torch.stack(pieces, dim=1)`."
)
def heads_and_sentences_mixed(x: Tensor, n_heads: int) -> Tensor:
    batch, tokens, d_model = x.shape
    pieces = torch.cat(x.chunk(n_heads, dim=-1))
    return pieces.reshape(batch, n_heads, tokens, d_model // n_heads)


@exercise.alternative
def split_by_view(x: Tensor, n_heads: int) -> Tensor:
    batch, tokens, d_model = x.shape
    return x.view(batch, tokens, n_heads, d_model // n_heads).permute(0, 2, 1, 3)


@exercise.alternative
def split_by_einops(x: Tensor, n_heads: int) -> Tensor:
    return rearrange(x, "b t (h d) -> b h t d", h=n_heads)


@exercise.alternative
def split_by_slices(x: Tensor, n_heads: int) -> Tensor:
    d_head = x.shape[-1] // n_heads
    slices = [x[..., head * d_head : (head + 1) * d_head] for head in range(n_heads)]
    return torch.stack(slices, dim=1)


@exercise.alternative
def split_from_features_first(x: Tensor, n_heads: int) -> Tensor:
    return x.mT.unflatten(1, (n_heads, x.shape[-1] // n_heads)).mT.contiguous()
