"""inference.kv_cache_bytes: how much memory a text's keys and values take."""

import math

import torch

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "inference.kv_cache_bytes",
    used_by="the table of what fits into memory",
    hints=(
        "Count numbers first, bytes last. One token leaves one key in one head of one layer: that "
        "is `d_head` numbers.",
        "It leaves one in every layer and in every group, for every token of every row. And where "
        "there is a key, there is a value.",
        "`2 * n_layers * n_groups * d_head * n_tokens * n_rows` numbers, of `bytes_each` bytes.",
    ),
)

DTYPES = {1: torch.int8, 2: torch.bfloat16, 4: torch.float32, 8: torch.float64}


def _by_tensors(
    n_layers: int, n_groups: int, d_head: int, n_tokens: int, n_rows: int = 1, bytes_each: int = 4
) -> int:
    """Of tensors that have a shape and no memory."""
    shape = (n_rows, n_groups, n_tokens, d_head)
    one = torch.empty(shape, dtype=DTYPES[bytes_each], device="meta")
    return sum(kept.numel() * kept.element_size() for _ in range(n_layers) for kept in (one, one))


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, *sizes: int, point: str = "", **more: int) -> Case:
        names = ("n_layers", "n_groups", "d_head", "n_tokens")
        given = ", ".join([*map(str, sizes), *(f"{name}={n}" for name, n in more.items())])
        arguments = dict(zip(names, sizes, strict=True)) | more
        call = f"kv_cache_bytes({given})"
        return Case(title, arguments, _by_tensors, shown=call, point=point)

    rows = "Every text of the batch has keys and values of its own: `n_rows` counts them."
    number = "`bytes_each` says how many bytes a number takes: 4 is only what is usual here."
    whole = "Bytes are counted: an int, and exact, also for the largest model."
    return [
        case("two layers, three heads", 2, 3, 5, 7),
        case("one layer, one head", 1, 1, 16, 9),
        case("one token", 6, 4, 32, 1),
        case("heads of one number", 3, 7, 1, 11),
        case("a longer text", 4, 2, 24, 1000),
        case("no token yet", 4, 2, 24, 0),
        case("five texts", 2, 3, 5, 7, n_rows=5, point=rows),
        case("five longer texts", 3, 2, 8, 40, n_rows=5, point=rows),
        case("two bytes a number", 2, 3, 5, 7, n_rows=1, bytes_each=2, point=number),
        case("one byte a number", 2, 6, 5, 9, n_rows=1, bytes_each=1, point=number),
        case("eight bytes a number", 5, 3, 4, 6, n_rows=1, bytes_each=8, point=number),
        case("texts and two bytes", 3, 4, 6, 10, n_rows=7, bytes_each=2, point=number),
        case("Llama 2 70B", 80, 8, 128, 4096, n_rows=1, bytes_each=2, point=whole),
        case("far too large", 127, 63, 129, 1_000_000_007, n_rows=1023, bytes_each=4, point=whole),
    ]


@exercise.mistake("Yours is half of it: you count keys or values. Both are kept.")
def forgot_two(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return n_layers * n_groups * d_head * n_tokens * n_rows * bytes_each


@exercise.mistake("You count bits. A number of 4 bytes counts 4.")
def bits(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return 8 * _by_tensors(n_layers, n_groups, d_head, n_tokens, n_rows, bytes_each)


@exercise.mistake("You count numbers. Each takes `bytes_each` bytes.")
def numbers_not_bytes(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return 2 * n_layers * n_groups * d_head * n_tokens * n_rows


@exercise.mistake("You count one layer. Every layer has keys and values of its own.")
def one_layer(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return _by_tensors(1, n_groups, d_head, n_tokens, n_rows, bytes_each)


@exercise.mistake("You count one head. Every group has keys and values of its own.")
def one_group(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return _by_tensors(n_layers, 1, d_head, n_tokens, n_rows, bytes_each)


@exercise.mistake("You count one text. There are `n_rows`, and they share nothing.")
def one_row(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return _by_tensors(n_layers, n_groups, d_head, n_tokens, 1, bytes_each)


@exercise.mistake("You always take 4 bytes. A number takes `bytes_each`.")
def always_four(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return _by_tensors(n_layers, n_groups, d_head, n_tokens, n_rows, 4)


@exercise.mistake(
    "You count a number for every pair of tokens. That are the scores, which nobody keeps. A key "
    "belongs to one token: the cache grows with the length, not with its square."
)
def pairs_of_tokens(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return n_tokens * _by_tensors(n_layers, n_groups, d_head, n_tokens, n_rows, bytes_each)


@exercise.mistake(
    "You count queries, too. A query is used once, by its own token, and nobody needs it again: "
    "two are kept, not three."
)
def three_kept(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return 3 * n_layers * n_groups * d_head * n_tokens * n_rows * bytes_each


@exercise.mistake("You return kilobytes. Bytes are asked for.")
def kilobytes(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return _by_tensors(n_layers, n_groups, d_head, n_tokens, n_rows, bytes_each) // 1024


@exercise.mistake("You return a float, as `/` gives. Bytes are whole: an int.")
def as_a_float(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return float(_by_tensors(n_layers, n_groups, d_head, n_tokens, n_rows, bytes_each))


@exercise.alternative
def bytes_layer_by_layer(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    total = 0
    for _ in range(n_layers):
        keys = n_rows * n_groups * n_tokens * d_head
        values = n_rows * n_groups * n_tokens * d_head
        total += (keys + values) * bytes_each
    return total


@exercise.alternative
def bytes_by_prod(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    return 2 * math.prod((n_layers, n_rows, n_tokens, n_groups * d_head, bytes_each))


@exercise.alternative
def bytes_a_token(n_layers, n_groups, d_head, n_tokens, n_rows=1, bytes_each=4):
    per_token = n_layers * 2 * (n_groups * d_head) * bytes_each
    return sum(per_token * n_tokens for _ in range(n_rows))
