"""decoder.causal_mask: nobody looks ahead."""

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "decoder.causal_mask",
    used_by="`GPT` and `Seq2Seq`: no token sees what comes after it",
    hints=(
        "Rows are queries, columns are keys. Row i is True up to and including its own token, and "
        "False behind it.",
        "`torch.ones(n_query, n_key, dtype=torch.bool).tril()` keeps the lower left triangle, with "
        "the diagonal.",
        "With more keys than queries, the first query is token number n_key - n_query, so its row "
        "has that many more Trues. `tril(k)` moves the diagonal k places to the right.",
        "Without `n_key` there are as many keys as queries: begin with "
        "`n_key = n_query if n_key is None else n_key`.",
    ),
)


def _causal_mask_by_hand(n_query: int, n_key: int | None = None) -> Tensor:
    """Tokens are numbered 0 to n_key - 1, and the queries are the last n_query of them."""
    keys = range(n_query if n_key is None else n_key)
    queries = keys[len(keys) - n_query :]
    return torch.tensor([[key in range(query + 1) for key in keys] for query in queries])


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_query: int, point: str = "", **n_key: int | None) -> Case:
        given = "".join(f", {name}={value}" for name, value in n_key.items())
        arguments = {"n_query": n_query, **n_key}
        shown = f"causal_mask({n_query}{given})"
        return Case(title, arguments, _causal_mask_by_hand, shown=shown, point=point)

    cached = (
        "With more keys than queries the queries are the last tokens: the first of them is token "
        "number n_key - n_query, and sees all keys up to its own."
    )
    any_length = (
        "A text may be of any length: make the mask as large as it is asked for, and do not cut it "
        "out of one whose size is fixed."
    )
    none_said = "`n_key` may be left out or None: then there are as many keys as queries."
    return [
        case("four tokens", 4),
        case("one token", 1),
        case("seven tokens", 7),
        case("as many keys, said twice", 3, n_key=3),
        case("no number of keys", 3, none_said, n_key=None),
        case("three tokens are in a cache", 2, cached, n_key=5),
        case("one token is in a cache", 4, cached, n_key=5),
        case("one query, all others in a cache", 1, cached, n_key=6),
        case("a long text", 130, any_length),
    ]


@exercise.holds
def _has_no_largest_size(part: Part) -> None:
    mask = part(2, 3000)
    if mask.shape != (2, 3000) or mask.sum() != 5999:
        raise Wrong(
            "Short texts are right, but with 3000 keys your mask is not. A text may be of any "
            "length: make the mask as large as it is asked for."
        )


@exercise.holds
def _gives_a_new_tensor(part: Part) -> None:
    first, second = part(4), part(4)
    if first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr():
        raise Wrong(
            "Your numbers are right, but two calls give the same tensor: whoever writes into one "
            "mask changes all later ones. Make it anew at every call."
        )


def _tril(n_query, n_key, diagonal):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(diagonal)


def _behind(n_query, n_key):
    """How many keys come before the first query."""
    return 0 if n_key is None else n_key - n_query


@exercise.mistake(
    "Your tokens may not look at themselves. The first one then has nothing to look at: "
    "its softmax is NaN. Keep the diagonal."
)
def excludes_self(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key) - 1)


@exercise.mistake(
    "Your tokens see one token too many: the very one that they must predict. The last "
    "True of a row belongs to the token itself."
)
def sees_one_ahead(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key) + 1)


@exercise.mistake(
    "Your tokens look at themselves and at later ones. Queries are rows, so the lower left "
    "triangle must be True: `tril`."
)
def upper_triangle(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).triu(n_key - n_query)


@exercise.mistake(
    "Yours is True where a key must be hidden, as in `nn.MultiheadAttention`. In this "
    "course True means: may look."
)
def true_hides(n_query, n_key=None):
    return ~_tril(n_query, n_key, _behind(n_query, n_key))


@exercise.mistake(
    "With more keys than queries, you treat the queries as the first tokens. They are the "
    "last ones, what is cached comes before them: move the diagonal by n_key - n_query."
)
def aligned_top_left(n_query, n_key=None):
    return _tril(n_query, n_key, 0)


@exercise.mistake(
    "You move the diagonal to the wrong side: queries behind a cache see more keys, not "
    "fewer. Use n_key - n_query."
)
def aligned_the_other_way(n_query, n_key=None):
    return _tril(n_query, n_key, -_behind(n_query, n_key))


@exercise.mistake(
    "Your tokens may not look at themselves: keep the diagonal. And with more keys than queries "
    "you treat the queries as the first tokens: they are the last ones, so move the diagonal by "
    "n_key - n_query."
)
def excludes_self_and_aligned_top_left(n_query, n_key=None):
    return _tril(n_query, n_key, -1)


@exercise.mistake(
    "Your tokens see one token too many: the last True of a row belongs to the token itself. And "
    "with more keys than queries you treat the queries as the first tokens: they are the last "
    "ones, so move the diagonal by n_key - n_query."
)
def sees_one_ahead_and_aligned_top_left(n_query, n_key=None):
    return _tril(n_query, n_key, 1)


@exercise.mistake(
    "You do not use `n_key`. With a cache there are more keys than queries: the mask has "
    "the shape [n_query, n_key]."
)
def ignores_n_key(n_query, n_key=None):
    return _tril(n_query, None, 0)


@exercise.mistake(
    "You give a row to every key. Only the last `n_query` tokens ask: the mask has the "
    "shape [n_query, n_key]."
)
def square_of_keys(n_query, n_key=None):
    return _tril(n_query if n_key is None else n_key, None, 0)


@exercise.mistake(
    "Your rows are keys and your columns queries. Queries are rows: [n_query, n_key]."
)
def axes_swapped(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key)).T


@exercise.mistake("You return ones and zeros. A mask here is boolean: `dtype=torch.bool`.")
def ones_and_zeros(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key)).float()


@exercise.mistake(
    "You return what could be added to the scores: 0 and minus infinity. A mask here is "
    "boolean, True where the query may look."
)
def zero_and_infinity(n_query, n_key=None):
    visible = _tril(n_query, n_key, _behind(n_query, n_key))
    return torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)


@exercise.mistake("Yours is True everywhere, so tokens see the future. Cut it with `tril`.")
def nothing_hidden(n_query, n_key=None):
    return torch.ones(n_query, n_query if n_key is None else n_key, dtype=torch.bool)


@exercise.alternative
def mask_by_comparing(n_query, n_key=None):
    n_key = n_key or n_query
    keys = torch.arange(n_key)
    return keys <= keys[n_key - n_query :, None]


@exercise.alternative
def mask_by_triu(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.triu(torch.ones(n_query, n_key), diagonal=n_key - n_query + 1) == 0


@exercise.alternative
def mask_last_rows(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.tril(torch.ones((n_key, n_key), dtype=torch.bool))[-n_query:]
