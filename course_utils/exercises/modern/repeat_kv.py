"""modern.repeat_kv: heads that share their keys and values."""

import torch
from einops import repeat
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "modern.repeat_kv",
    used_by="`GroupedAttention`, for keys and for values",
    hints=(
        "With two groups a and b and n = 3, the six heads are a a a b b b: heads that share a "
        "group are neighbours.",
        "The axis of the groups is axis 1. `repeat` would give a b a b a b; "
        "`repeat_interleave` repeats each entry where it stands.",
        "`k.repeat_interleave(n, dim=1)`. Or put an axis of size n behind the groups, "
        "`k[:, :, None].expand(…)`, and flatten both into one.",
    ),
)


def _by_list(k: Tensor, n: int) -> Tensor:
    """Head h belongs to group h // n."""
    return torch.stack([k[:, head // n] for head in range(k.shape[1] * n)], dim=1)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, k: Tensor, n: int, point: str = "") -> Case:
        return Case(title, {"k": k, "n": n}, _by_list, shown=f"repeat_kv(k, {n})", point=point)

    normal, of_one = inputs.normal, points.AXIS_OF_ONE
    counting = torch.arange(12.0).reshape(1, 2, 3, 2)
    once = "n = 1 leaves everything as it is: as many groups as heads."
    one_group = "One group may serve all heads (multi-query attention): the result has n heads."
    per_group = "`n` says how often each group is repeated. It is not the number of heads."
    return [
        case("two groups, each twice", counting, 2),
        case("three groups, each four times", normal(2, 3, 5, 6), 4),
        case("another length, twice", normal(3, 4, 7, 2), 2, per_group),
        case("more often than there are groups", normal(2, 2, 4, 3), 6, per_group),
        case("as many groups as times", normal(2, 3, 4, 5), 3, per_group),
        case("once", normal(2, 3, 4, 5), 1, once),
        case("one group", normal(2, 1, 4, 3), 5, one_group),
        case("one group, once", normal(2, 1, 3, 4), 1, of_one),
        case("one token", normal(2, 3, 1, 4), 2, of_one),
        case("one sentence", normal(1, 3, 4, 2), 3, of_one),
        case("heads of one feature", normal(2, 3, 4, 1), 2, of_one),
        case("all sizes equal", normal(3, 3, 3, 3), 3, points.EQUAL_SIZES),
        case("a transposed view", normal(2, 5, 3, 4).transpose(1, 2), 2, points.OTHER_ORDER),
        case("float64", normal(2, 2, 3, 4, dtype=torch.float64), 3, points.SAME_DTYPE),
        case("bfloat16", normal(2, 2, 3, 4, dtype=torch.bfloat16), 3, points.SAME_DTYPE),
    ]


@exercise.mistake(
    "You repeat the groups as a whole: a b a b. Heads that share a group are neighbours, a a b b. "
    "With the wrong order every head gets the keys of another one, and nothing fails."
)
def tile_instead_of_interleave(k, n):
    return k.repeat(1, n, 1, 1)


@exercise.mistake("You repeat the tokens. The axis of the groups is axis 1.")
def repeats_time(k, n):
    return k.repeat_interleave(n, dim=2)


@exercise.mistake(
    "Your copies stand one behind the other in time, as a longer text. They belong beside the "
    "groups, on axis 1. If you made them with `expand`, flatten axes 1 and 2, not 2 and 3."
)
def copies_in_time(k, n):
    return k.repeat(1, 1, n, 1)


@exercise.mistake("You repeat the features. The axis of the groups is axis 1.")
def repeats_features(k, n):
    return k.repeat_interleave(n, dim=3)


@exercise.mistake("You repeat the sentences of the batch. The axis of the groups is axis 1.")
def repeats_batch(k, n):
    return k.repeat_interleave(n, dim=0)


@exercise.mistake(
    "You take `n` for the number of heads in the end. It says how often each group is repeated, so "
    "there are groups · n heads."
)
def n_is_total(k, n):
    return k.repeat_interleave(max(n // k.shape[1], 1), dim=1)


@exercise.mistake("You repeat each group n + 1 times: `n` counts the group itself, too.")
def once_more(k, n):
    return k.repeat_interleave(n + 1, dim=1)


@exercise.mistake(
    "You leave the copies on an axis of their own. Attention takes four axes: flatten the groups "
    "and their copies into one."
)
def five_axes(k, n):
    return k[:, :, None].expand(-1, -1, n, -1, -1)


@exercise.mistake(
    "You repeat the first group only. Every group is repeated n times, one after the other."
)
def first_group_only(k, n):
    return k[:, :1].repeat_interleave(n * k.shape[1], dim=1)


@exercise.alternative
def repeat_by_expand(k, n):
    """As Llama does: nothing is copied before the end."""
    batch, groups, tokens, d_head = k.shape
    return k[:, :, None].expand(batch, groups, n, tokens, d_head).reshape(batch, -1, tokens, d_head)


@exercise.alternative
def repeat_by_einops(k, n):
    return repeat(k, "b g t d -> b (g n) t d", n=n)


@exercise.alternative
def repeat_by_index(k, n):
    return k[:, torch.arange(k.size(1) * n) // n]


@exercise.alternative
def repeat_with_loops(k, n):
    heads = []
    for group in range(k.shape[1]):
        for _ in range(n):
            heads.append(k[:, group : group + 1])
    return torch.cat(heads, dim=1)
