"""positions.add_positions: a place is added to a token."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "positions.add_positions",
    used_by="`SinusoidalPositions` and `LearnedPositions`, and so by the GPT of this course",
    hints=(
        "Token 0 of every sentence gets row 0, token 1 gets row 1, and so on. All sentences get "
        "the same rows.",
        "There may be more rows than tokens: take as many as there are tokens, the first ones. "
        "How many that is stands in `x.shape[1]`.",
        "[batch, tokens, d_model] plus [tokens, d_model]: axes are compared from the last one, so "
        "the rows are repeated for every sentence. A plain `+` does it.",
    ),
)


def _added_token_by_token(x: Tensor, positions: Tensor) -> Tensor:
    sequences = [
        torch.stack([vector + positions[place] for place, vector in enumerate(sequence)])
        for sequence in x
    ]
    return torch.stack(sequences)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, positions: Tensor, point: str = "") -> Case:
        return Case(title, {"x": x, "positions": positions}, _added_token_by_token, point=point)

    def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return inputs.normal(*shape, seed=seed, dtype=dtype)

    def two(*shape: int, places: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        return random(*shape, dtype=dtype), random(places, shape[-1], seed=1, dtype=dtype)

    tokens = torch.tensor([[[1.0, 2.0], [1.0, 2.0], [5.0, 0.0]], [[3.0, 1.0]] * 3])
    rows = torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    no_more = (
        "There may be just as many positions as tokens, with none to spare: token 0 gets row 0, "
        "and the last token the last row."
    )
    every = "Every token gets its row, also one whose numbers are all 0: nothing here is padding."
    zeros = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 0.0], [0.0, 0.0]]])
    equal, of_one, dtypes = points.EQUAL_SIZES, points.AXIS_OF_ONE, points.SAME_DTYPE
    return [
        case("three tokens, positions for four", tokens, rows),
        case("a batch of sentences", *two(2, 4, 3, places=6)),
        case("the same sentences, other positions", random(2, 4, 3), random(6, 3, seed=2)),
        case("tokens that are all 0", zeros, rows, every),
        case("as many tokens as positions", *two(2, 5, 3, places=5), no_more),
        case("as many sentences as tokens", *two(4, 4, 3, places=7), equal),
        case("as many tokens as features", *two(2, 3, 3, places=5), equal),
        case("as many sentences as positions", *two(6, 4, 3, places=6), equal),
        case("one token", *two(3, 1, 4, places=5), of_one),
        case("one sentence", *two(1, 4, 3, places=6), of_one),
        case("one feature", *two(2, 4, 1, places=6), of_one),
        case("transposed views", random(2, 3, 4).mT, random(3, 5, seed=1).T, points.OTHER_ORDER),
        case("float64", *two(2, 4, 3, places=6, dtype=torch.float64), dtypes),
        case("bfloat16", *two(2, 4, 3, places=6, dtype=torch.bfloat16), dtypes),
    ]


@exercise.mistake(
    "You take as many rows as there are sentences. Axis 0 of `x` is the batch; tokens are "
    "on axis 1: `positions[: x.shape[1]]`."
)
def batch_axis(x, positions):
    return x + positions[: x.shape[0]]


@exercise.mistake(
    "Your rows have the shape [tokens, 1, d_model], so they meet the sentences and not the "
    "tokens; a single sentence becomes [tokens, tokens, d_model]. Leave out the axis, or "
    "put it in front."
)
def broadcast_to_ttd(x, positions):
    return x + positions[: x.shape[1]].unsqueeze(1)


@exercise.mistake(
    "You put the positions behind the features, so every vector gets twice as wide and "
    "fits no other layer. Add them: `+`."
)
def concatenates(x, positions):
    rows = positions[: x.shape[1]].expand(len(x), -1, -1)
    return torch.cat((x, rows), dim=-1)


@exercise.mistake(
    "You add all rows, and there are more of them than tokens. Take the first ones: "
    "`positions[: x.shape[1]]`."
)
def adds_all_rows(x, positions):
    return x + positions


@exercise.mistake(
    "You take the last rows, so a short sentence starts somewhere in the middle. Token 0 "
    "gets row 0: `positions[: x.shape[1]]`."
)
def last_rows(x, positions):
    return x + positions[-x.shape[1] :]


@exercise.mistake(
    "You spread the rows over the whole table, so the same place gets another row in a longer "
    "sentence. Token t gets row t: `positions[: x.shape[1]]`."
)
def spread_over_the_table(x, positions):
    rows = torch.linspace(0, len(positions) - 1, x.shape[1]).long()
    return x + positions[rows]


@exercise.mistake("You start with row 1. Token 0 gets row 0: `positions[: x.shape[1]]`.")
def starts_with_row_one(x, positions):
    return x + positions[1 : x.shape[1] + 1]


@exercise.mistake(
    "`requires_grad_(False)` forbids the gradient that learned positions need, and stops at a "
    "slice of them. Leave it out."
)
def gradient_forbidden(x, positions):
    return x + positions[: x.shape[1]].requires_grad_(False)


@exercise.mistake(
    "You add row 0 to every token, so nobody can tell them apart. Token t gets row t."
)
def same_row_for_all(x, positions):
    return x + positions[0]


@exercise.mistake(
    "You index with the number of tokens, which fetches one row for all of them. A slice "
    "fetches a row for each: `positions[: x.shape[1]]`, with a colon."
)
def row_of_the_length(x, positions):
    return x + positions[x.shape[1]]


@exercise.mistake(
    "You take as many rows as there are features. The number of tokens is `x.shape[1]`; "
    "`x.shape[-1]` is d_model."
)
def feature_axis(x, positions):
    return x + positions[: x.shape[-1]]


@exercise.mistake(
    "You add the number of the place to all features and never read `positions`. Token t "
    "gets row t of it."
)
def adds_index(x, positions):
    return x + torch.arange(x.shape[1])[:, None]


@exercise.mistake("You multiply. A position of 0 would wipe out the token's number. Add: `+`.")
def multiplies(x, positions):
    return x * positions[: x.shape[1]]


@exercise.mistake(
    "You multiply `x` by √d_model as well. `InputEmbedding` does that, so it would be done "
    "twice. Only add here."
)
def scales_too(x, positions):
    return x * math.sqrt(x.shape[-1]) + positions[: x.shape[1]]


@exercise.mistake(
    "The numbers are right, but `x += …` changes the caller's tensor. Write `x + …`, which "
    "makes a new one."
)
def in_place(x, positions):
    x += positions[: x.shape[1]]
    return x


@exercise.mistake(
    "The numbers are right, but you cut the positions off from their gradient, so learned "
    "positions would never learn. Leave out `detach`, `data` and `no_grad`."
)
def detached(x, positions):
    return x + positions[: x.shape[1]].detach()


@exercise.alternative
def positions_by_embedding(x, positions):
    return x + F.embedding(torch.arange(x.shape[1]), positions)


@exercise.alternative
def positions_expanded(x, positions):
    batch, tokens, _ = x.shape
    return x.add(positions[:tokens, :].unsqueeze(0).expand(batch, -1, -1))


@exercise.alternative
def positions_token_by_token(x, positions):
    return torch.stack([x[:, t] + positions[t] for t in range(x.shape[1])], dim=1)
