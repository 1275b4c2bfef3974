"""decoder.shift_targets: the next token is the answer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "decoder.shift_targets",
    used_by="every training loop from here on: it makes the inputs and the targets",
    hints=(
        "At every place the model reads a token and must say the next one. So T + 1 tokens make T "
        "pairs.",
        "The inputs are all tokens but the last: nothing comes after that one.",
        "The targets are all tokens but the first. `ids[:, 1:]` drops the first of every sentence: "
        "axis 0 is the batch, axis 1 the tokens.",
    ),
)


def _pairs_by_hand(ids: Tensor) -> tuple[Tensor, Tensor]:
    rows = ids.tolist()
    pairs = [[(row[t], row[t + 1]) for t in range(len(row) - 1)] for row in rows]
    read = [[now for now, _ in row] for row in pairs]
    said = [[after for _, after in row] for row in pairs]
    return torch.tensor(read, dtype=ids.dtype), torch.tensor(said, dtype=ids.dtype)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, ids: Tensor, point: str = "") -> Case:
        call = "shift_targets(ids)"
        return Case(title, {"ids": ids}, _pairs_by_hand, shown=call, point=point)

    some = inputs.integers(3, 6, below=50)
    own_row = (
        "Each row is a text of its own: shift along axis 1, and let no token pass from one row "
        "into the next, as happens where rows are joined and cut anew."
    )
    by_place = (
        "Which token follows is a matter of places, not of numbers: a token may be 0, or the same "
        "as the one before it."
    )
    one_pair = "Two tokens make one pair: both results are [batch, 1], with both axes."
    same_dtype = "The tokens come back as the kind of integers that they were."
    return [
        case("one sentence", torch.tensor([[10, 11, 12, 13]])),
        case("two sentences", torch.tensor([[4, 7, 2, 9, 1], [3, 8, 6, 5, 2]]), own_row),
        case("as many sentences as tokens", 1 + inputs.integers(4, 4, below=50), own_row),
        case("a longer sentence", 1 + inputs.integers(1, 9, below=50)),
        case("two tokens: one pair", torch.tensor([[5, 6]]), one_pair),
        case("two sentences of one pair", torch.tensor([[5, 6], [7, 8], [9, 4]]), own_row),
        case("the same token twice", torch.tensor([[2, 2, 3, 3, 2]]), by_place),
        case("tokens that are 0", torch.tensor([[4, 0, 0, 7, 0]]), by_place),
        case("32-bit numbers", some[:1].int(), same_dtype),
        case("a transposed view", some.T, points.OTHER_ORDER),
    ]


@exercise.mistake(
    "Your targets are the inputs. The model would learn to repeat what it reads, and its "
    "loss would fall to nothing. The target is the token that follows."
)
def no_shift(ids):
    return ids[:, :-1], ids[:, :-1]


@exercise.mistake(
    "You return all tokens twice. The target of a place is the token that follows, and the "
    "last token has none: T + 1 tokens make T pairs."
)
def no_shift_whole(ids):
    return ids, ids


@exercise.mistake(
    "Your targets come before your inputs, so the model learns to say what was just "
    "before. Swap the two."
)
def shifted_backwards(ids):
    return ids[:, 1:], ids[:, :-1]


@exercise.mistake(
    "Your targets come before your inputs, and one pair is missing. The inputs are `ids[:, :-1]` "
    "and come first, the targets are `ids[:, 1:]`: T + 1 tokens make T pairs."
)
def shifted_backwards_and_one_short(ids):
    return ids[:, 1:-1], ids[:, :-2]


@exercise.mistake(
    "Your targets are two places ahead. Drop one token at the end of the inputs and one at "
    "the beginning of the targets."
)
def shifted_twice(ids):
    return ids[:, :-2], ids[:, 2:]


@exercise.mistake(
    "Your targets are two places ahead, and around the corner at the end. They are `ids[:, 1:]`."
)
def off_by_two(ids):
    return ids[:, :-1], ids.roll(-2, 1)[:, :-1]


@exercise.mistake(
    "Your inputs still have the last token. Nothing follows it, so there is nothing to "
    "learn from: drop it, `ids[:, :-1]`."
)
def inputs_not_cut(ids):
    return ids, ids[:, 1:]


@exercise.mistake(
    "Your targets still begin with the first token. Nobody has to predict it: drop it, "
    "`ids[:, 1:]`."
)
def targets_not_cut(ids):
    return ids[:, :-1], ids


@exercise.mistake(
    "You roll the tokens around, so the last target is the first token. The last token has "
    "no target: leave it out of the inputs."
)
def rolled(ids):
    return ids, ids.roll(-1, dims=1)


@exercise.mistake(
    "You roll the wrong way: your targets are the tokens before, and the first is the last of its "
    "row. The target is the token that follows, `ids[:, 1:]`."
)
def rolled_the_wrong_way(ids):
    return ids[:, :-1], ids.roll(1, dims=1)[:, :-1]


@exercise.mistake(
    "You fill the last target with 0, and the model would learn that token 0 follows. "
    "Leave the last token out of the inputs instead."
)
def padded(ids):
    return ids, F.pad(ids[:, 1:], (0, 1))


@exercise.mistake(
    "You shift along axis 0: the next sentence, not the next token. Tokens are axis 1."
)
def shifts_the_batch(ids):
    return ids[:-1], ids[1:]


@exercise.mistake(
    "You give one target to a sentence. Every place has one: that is what makes a "
    "transformer quick to train."
)
def only_last_target(ids):
    return ids[:, :-1], ids[:, -1]


@exercise.mistake(
    "You give one target to a sentence, [batch, 1]. Every place has one: [batch, tokens]."
)
def only_last_target_with_its_axis(ids):
    return ids[:, :-1], ids[:, -1:]


@exercise.mistake(
    "One pair is missing: your results are one token too short. T + 1 tokens make T pairs, and "
    "`ids.shape[1]` is T + 1."
)
def one_pair_short(ids):
    return ids[:, :-2], ids[:, 1:-1]


@exercise.mistake(
    "You count the rows, `len(ids)` or `ids.shape[0]`, where the tokens are meant: `ids.shape[1]`."
)
def counts_rows(ids):
    pairs = len(ids) - 1
    return ids[:, :pairs], ids[:, 1 : pairs + 1]


@exercise.mistake(
    "`squeeze()` takes away every axis of size 1: that of a batch of one, and that of one pair. "
    "Leave it out: both results are [batch, tokens]."
)
def squeezed(ids):
    return ids[:, :-1].squeeze(), ids[:, 1:].squeeze()


@exercise.mistake("You return the targets alone. Return two tensors: inputs, targets.")
def only_targets(ids):
    return ids[:, 1:]


@exercise.alternative
def shift_by_narrow(ids):
    tokens = ids.shape[1] - 1
    return ids.narrow(1, 0, tokens), ids.narrow(1, 1, tokens)


@exercise.alternative
def shift_by_unfold(ids):
    inputs, targets = ids.unfold(1, 2, 1).unbind(-1)
    return inputs, targets


@exercise.alternative
def shift_by_index(ids):
    places = torch.arange(ids.size(1) - 1)
    return ids.index_select(1, places), ids.index_select(1, places + 1)
