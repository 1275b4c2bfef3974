"""positions.relative_bias: a number for every distance."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "positions.relative_bias",
    used_by="`BiasedAttention`: each of its heads has a table and adds what it says to the scores",
    hints=(
        "First write down the distance of every query from every key, i - j: 0 on the diagonal, "
        "positive where the key came earlier.",
        "`torch.arange(n_query)[:, None] - torch.arange(n_key)` is that matrix. `clamp` keeps it "
        "between -R and R, where a table of 2R + 1 entries has R = len(table) // 2.",
        "The table starts with the distance -R, so the entry for a distance stands at "
        "`distance + R`. `table[places]` looks up a whole matrix of places at once.",
    ),
)


def _biases_one_by_one(n_query: int, n_key: int, table: Tensor) -> Tensor:
    """The distances from -reach to reach are the keys of a dictionary."""
    reach = (len(table) - 1) // 2
    entries = dict(zip(range(-reach, reach + 1), table, strict=True))
    rows = [
        torch.stack([entries[min(max(query - key, -reach), reach)] for key in range(n_key)])
        for query in range(n_query)
    ]
    return torch.stack(rows)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_query: int, n_key: int, table: Tensor, point: str = "") -> Case:
        arguments = {"n_query": n_query, "n_key": n_key, "table": table}
        shown = f"relative_bias(n_query={n_query}, n_key={n_key}, table)"
        return Case(title, arguments, _biases_one_by_one, shown=shown, point=point)

    random = inputs.normal
    small = torch.tensor([-2.0, -1.0, 0.0, 10.0, 20.0])
    not_square = (
        "There may be more keys than queries, or fewer. Rows are queries, columns are keys, and "
        "query 0 stands at key 0: the distance is i - j all the same."
    )
    far = (
        "The table may reach farther than the text. Its middle entry, number R, belongs to the "
        "distance 0, whatever the number of tokens."
    )
    no_reach = "A table of one entry has R = 0: that entry is for every distance."
    slice_of = (
        "The table may be a slice of a longer tensor: its own entries count, and their number."
    )
    return [
        case("four queries, four keys, reach 2", 4, 4, small),
        case("the same tokens, another reach", 4, 4, random(7)),
        case("reach 1", 5, 5, random(3)),
        case("more keys than queries", 3, 7, random(7), not_square),
        case("more queries than keys", 8, 3, random(5), not_square),
        case("the reach is longer than the text", 4, 4, random(13), far),
        case("no reach: one entry for all distances", 3, 3, random(1), no_reach),
        case("one query", 1, 5, random(5), points.AXIS_OF_ONE),
        case("one key", 5, 1, random(5), points.AXIS_OF_ONE),
        case("every other entry of a table", 6, 6, random(10)[1::2], slice_of),
        case("float64", 5, 5, random(7, dtype=torch.float64), points.SAME_DTYPE),
        case("bfloat16", 5, 5, random(7, dtype=torch.bfloat16), points.SAME_DTYPE),
    ]


def _distances(n_query: int, n_key: int) -> Tensor:
    return torch.arange(n_query)[:, None] - torch.arange(n_key)


@exercise.mistake(
    "You use the distance without its sign, so a key three tokens before the query gets "
    "the same bias as one three tokens after it. Half of the table is never read. Use i - "
    "j."
)
def absolute_distance(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).abs().clamp(max=reach) + reach]


@exercise.mistake(
    "You look up the distance without its sign, as if the table started with the distance "
    "0. It starts with -R: keep the sign, and the entry for i - j stands at i - j + R."
)
def absolute_distance_as_place(n_query, n_key, table):
    return table[_distances(n_query, n_key).abs().clamp(max=len(table) // 2)]


@exercise.mistake(
    "You use j - i, so before and after have changed places. The distance of query i from "
    "key j is i - j: positive where the key came earlier."
)
def sign_flipped(n_query, n_key, table):
    reach = len(table) // 2
    return table[(-_distances(n_query, n_key)).clamp(-reach, reach) + reach]


@exercise.mistake(
    "Distances beyond the table are looked up as they are: that stops, or reads from the "
    "wrong end, because a negative place counts from the back. First `clamp` the distances "
    "to -R … R."
)
def no_clipping(n_query, n_key, table):
    return table[_distances(n_query, n_key) + len(table) // 2]


@exercise.mistake(
    "You look up the distance itself. But the table starts with the distance -R, and "
    "negative places count from the back. Add R: the distance 0 stands in the middle."
)
def forgot_offset(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(-reach, reach)]


@exercise.mistake(
    "Distances beyond the table start again at its other end, so a far key after the query "
    "looks like one before it. Use the table's ends: `clamp`, not `%`."
)
def wraps_around(n_query, n_key, table):
    return table[(_distances(n_query, n_key) + len(table) // 2) % len(table)]


@exercise.mistake(
    "You give distances beyond the table a bias of 0. They should use the table's ends: a "
    "key that is very far is treated like one that is R away."
)
def nothing_beyond_reach(n_query, n_key, table):
    reach = len(table) // 2
    distances = _distances(n_query, n_key)
    bias = table[distances.clamp(-reach, reach) + reach]
    return bias.masked_fill(distances.abs() > reach, 0.0)


@exercise.mistake(
    "You use the number of queries twice. Where another text is asked, there are more or "
    "fewer keys: the result is [n_query, n_key]."
)
def square(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_query).clamp(-reach, reach) + reach]


@exercise.mistake(
    "Your rows belong to keys and your columns to queries. As in the scores, rows ask: "
    "[n_query, n_key]."
)
def keys_as_rows(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(-reach, reach) + reach].T


@exercise.mistake(
    "You count so that the last query stands at the last key, as programs do that keep old "
    "keys in a cache. Here query 0 stands at key 0: the distance is i - j."
)
def last_query_at_last_key(n_query, n_key, table):
    reach = len(table) // 2
    distances = _distances(n_query, n_key) + n_key - n_query
    return table[distances.clamp(-reach, reach) + reach]


@exercise.mistake(
    "You return the distances. They are only the places to look up: return what the table "
    "holds for them."
)
def returns_distances(n_query, n_key, table):
    reach = len(table) // 2
    return _distances(n_query, n_key).clamp(-reach, reach).to(table.dtype)


@exercise.mistake(
    "You keep the places below the end of the table, but not above its start: for a key far after "
    "the query they are negative, and count from the back. `clamp` takes both ends."
)
def limited_above_only(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(max=reach) + reach]


@exercise.mistake(
    "You keep the places above the start of the table, but not below its end, so a query far after "
    "the key stops. `clamp` takes both ends."
)
def limited_below_only(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(min=-reach) + reach]


@exercise.mistake(
    "Your distances end at R - 1, so the last entry of the table is never read. A table of 2R + 1 "
    "entries is for the distances -R to R, both included."
)
def last_entry_never_read(n_query, n_key, table):
    reach = len(table) // 2
    return table[_distances(n_query, n_key).clamp(-reach, reach - 1) + reach]


@exercise.mistake(
    "Two things: the distance is i - j, and you use j - i. And your distances end at R - 1, so the "
    "last entry of the table is never read: they go from -R to R."
)
def sign_flipped_and_last_entry_never_read(n_query, n_key, table):
    reach = len(table) // 2
    return table[(-_distances(n_query, n_key)).clamp(-reach, reach - 1) + reach]


@exercise.mistake(
    "Your numbers are right, but they are cut off from the table, which could never be learned. "
    "`.item()`, `.tolist()`, `torch.tensor(…)` and `.detach()` cut. Index the table itself."
)
def entries_cut_off(n_query, n_key, table):
    return _biases_one_by_one(n_query, n_key, table.detach())


@exercise.alternative
def biases_in_loops(n_query, n_key, table):
    reach = (len(table) - 1) // 2
    bias = table.new_zeros(n_query, n_key)
    for i in range(n_query):
        for j in range(n_key):
            bias[i, j] = table[max(-reach, min(reach, i - j)) + reach]
    return bias


@exercise.alternative
def biases_by_one_hot(n_query, n_key, table):
    reach = len(table) // 2
    places = torch.clamp(_distances(n_query, n_key) + reach, 0, 2 * reach)
    return F.one_hot(places, len(table)).to(table.dtype) @ table


@exercise.alternative
def biases_by_windows(n_query, n_key, table):
    """The table with its ends drawn out, reversed; each query's row starts one place earlier."""
    reach = len(table) // 2
    farther = table[-1:].expand(max(n_query - 1 - reach, 0))
    nearer = table[:1].expand(max(n_key - 1 - reach, 0))
    long = torch.cat((nearer, table, farther)).flip(0)
    start = max(n_query - 1, reach)  # where the entry for the distance 0 stands
    return torch.stack([long[start - i : start - i + n_key] for i in range(n_query)])
