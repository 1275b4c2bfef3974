"""modern.sliding_window_mask: the last few tokens, and no later one."""

import torch
from torch import Tensor

from course_utils import decoder
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "modern.sliding_window_mask",
    used_by="`Windowed`, in layers that look at the last tokens only",
    hints=(
        "Rows are queries, columns are keys. In row i the keys i - window + 1 to i are True.",
        "Two conditions, and both must hold: the key is not later than the query, and it is fewer "
        "than `window` places before it.",
        "`torch.ones(n, n, dtype=torch.bool).tril()` is the first. `triu(d)` keeps what lies on "
        "or above diagonal d, which is negative below the main one.",
        "With window 1 a token sees itself alone, which is `triu(0)`; with window 2, `triu(-1)`.",
    ),
)


def _by_hand(n_tokens: int, window: int) -> Tensor:
    tokens = range(n_tokens)
    return torch.tensor(
        [
            [key in tokens[max(query - window + 1, 0) : query + 1] for key in tokens]
            for query in tokens
        ]
    )


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_tokens: int, window: int, point: str = "") -> Case:
        arguments = {"n_tokens": n_tokens, "window": window}
        call = f"sliding_window_mask({n_tokens}, {window})"
        return Case(title, arguments, _by_hand, shown=call, point=point)

    itself = "The window counts the token itself: with window 1 a token sees itself and no other."
    wide = "A window may be as long as the text, or longer: then the mask is the causal one."
    any_length = "A text may be of any length, and any window may go with it."
    return [
        case("five tokens, a window of two", 5, 2),
        case("five tokens, a window of three", 5, 3),
        case("seven tokens, a window of four", 7, 4),
        case("only the token itself", 4, 1, itself),
        case("as long as the text", 4, 4, wide),
        case("one less than the text", 6, 5),
        case("one more than the text", 5, 6, wide),
        case("longer than the text", 3, 8, wide),
        case("one token", 1, 1),
        case("one token, a long window", 1, 5, wide),
        case("a long text", 130, 9, any_length),
        case("a long text, a long window", 140, 100, any_length),
    ]


@exercise.holds
def _gives_a_new_tensor(part: Part) -> None:
    first, second = part(4, 2), part(4, 2)
    if first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr():
        raise Wrong(
            "You give the same tensor to everybody who asks. Whoever changes it changes the mask "
            "of the others: make a new one at every call."
        )


def _distance(n_tokens: int) -> Tensor:
    """How many places the key is before the query."""
    return torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)


@exercise.mistake(
    "Your window reaches to both sides. In a decoder no token looks at a later one: only the keys "
    "before the query, and its own, are True."
)
def window_both_sides(n_tokens, window):
    return _distance(n_tokens).abs() < window


@exercise.mistake(
    "Your window is one key too long: it counts the token itself, so there are `window` - 1 keys "
    "before it."
)
def off_by_one(n_tokens, window):
    distance = _distance(n_tokens)
    return (distance >= 0) & (distance <= window)


@exercise.mistake(
    "Your window is one key too short. With the token itself there are `window` keys in it."
)
def one_too_short(n_tokens, window):
    distance = _distance(n_tokens)
    return (distance >= 0) & (distance < window - 1)


@exercise.mistake(
    "Your tokens do not see themselves. The window of a token begins with the token, and `window` "
    "- 1 more stand before it."
)
def not_itself(n_tokens, window):
    distance = _distance(n_tokens)
    return (distance > 0) & (distance < window)


@exercise.mistake(
    "Your tokens see the `window` tokens before them, and not themselves. The token is part of its "
    "own window."
)
def those_before(n_tokens, window):
    distance = _distance(n_tokens)
    return (distance > 0) & (distance <= window)


@exercise.mistake(
    "You limit how far back a token sees, and not that it sees no later one. Both conditions must "
    "hold: `&`, or `tril` after `triu`."
)
def no_causal(n_tokens, window):
    return _distance(n_tokens) < window


@exercise.mistake("That is the causal mask: everything before is seen. `window` is not used.")
def no_window(n_tokens, window):
    return decoder.causal_mask(n_tokens)


@exercise.mistake(
    "Your rows and columns are swapped: a token sees those behind it. Rows are queries, columns "
    "are keys."
)
def transposed(n_tokens, window):
    return _by_hand(n_tokens, window).T


@exercise.mistake(
    "True is where a query may look. Your mask says where it may not: turn it around."
)
def turned_around(n_tokens, window):
    return ~_by_hand(n_tokens, window)


@exercise.mistake("Your mask has numbers. A mask here is boolean: `dtype=torch.bool`.")
def numbers(n_tokens, window):
    return _by_hand(n_tokens, window).float()


@exercise.mistake(
    "Your mask has 0 and minus infinity, to be added to scores. Here it is boolean, True where a "
    "query may look."
)
def to_be_added(n_tokens, window):
    return torch.zeros(n_tokens, n_tokens).masked_fill(~_by_hand(n_tokens, window), -torch.inf)


@exercise.mistake(
    "You cut the text into pieces of `window` tokens, and a token sees its own piece only. A "
    "window slides: every token has one of its own, which ends with it."
)
def in_blocks(n_tokens, window):
    block = torch.arange(n_tokens) // window
    return (block[:, None] == block) & (_distance(n_tokens) >= 0)


@exercise.mistake(
    "You join the two conditions by or, so nearly everything is True. Both must hold: `&`."
)
def either(n_tokens, window):
    distance = _distance(n_tokens)
    return (distance >= 0) | (distance < window)


@exercise.alternative
def mask_by_distance(n_tokens, window):
    query, key = torch.arange(n_tokens)[:, None], torch.arange(n_tokens)[None]
    return (key <= query) & (key > query - window)


@exercise.alternative
def mask_by_loops(n_tokens, window):
    mask = torch.zeros(n_tokens, n_tokens, dtype=torch.bool)
    for query in range(n_tokens):
        first = max(0, query - window + 1)
        mask[query, first : query + 1] = True
    return mask


@exercise.alternative
def mask_by_subtraction(n_tokens, window):
    causal = decoder.causal_mask(n_tokens)
    return causal & ~causal.tril(-window)


@exercise.alternative
def mask_of_diagonals(n_tokens, window):
    mask = torch.zeros(n_tokens, n_tokens)
    for back in range(min(window, n_tokens)):
        mask += torch.diag(torch.ones(n_tokens - back), -back)
    return mask.bool()
