"""projection.embed: each token looks up its row."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "projection.embed",
    used_by="`Embedding`: the first layer of every model in this course",
    hints=(
        "The table has one row for every word. An id is the number of a row: nothing is computed, "
        "a row is looked up.",
        "A tensor can be indexed with a tensor of whole numbers. The result has the shape of the "
        "index, with a whole row in place of each number.",
        "The same as a product: a one-hot vector times the table picks out a row. `F.one_hot` "
        "wants to know how many words there are, and its result must get the table's dtype.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, ids: Tensor, table: Tensor, point: str = "") -> Case:
        return Case(title, {"ids": ids, "table": table}, F.embedding, point=point)

    table = torch.tensor([[0.0, 0, 1], [10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42]])
    ids = torch.tensor([[3, 1, 1, 0], [4, 0, 2, 3]])
    turned = inputs.integers(5, 2, below=7).T, inputs.normal(3, 7).T
    double, half = inputs.normal(6, 4).double(), inputs.normal(7, 5).bfloat16()
    as_many = inputs.integers(2, 4, below=4), inputs.normal(4, 4)
    unused = (
        "The table says how many words there are, the ids do not: the last words need not occur."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    return [
        case("two sequences of four tokens", ids, table),
        case("more features than words", inputs.integers(2, 4, below=3), inputs.normal(3, 7)),
        case("longer sequences", inputs.integers(3, 9, below=5), inputs.normal(5, 4)),
        case("as many tokens, words and features", *as_many, points.EQUAL_SIZES),
        case(
            "the last words do not occur",
            inputs.integers(3, 4, below=5),
            table.repeat(2, 1),
            unused,
        ),
        case("one sequence", torch.tensor([[2, 0, 2, 1, 4]]), table, of_one),
        case("one token", torch.tensor([[4], [0]]), table, of_one),
        case("one feature", ids, inputs.normal(5, 1), of_one),
        case("transposed views", *turned, points.OTHER_ORDER),
        case("float64", inputs.integers(2, 4, below=6), double, dtypes),
        case("bfloat16", inputs.integers(2, 4, below=7), half, dtypes),
    ]


@exercise.mistake(
    "You pick columns: `table[:, ids]`. A word is a row of the table, so the ids go into "
    "the first place."
)
def indexes_columns(ids: Tensor, table: Tensor) -> Tensor:
    return table[:, ids]


@exercise.mistake(
    "You transpose the table first, so the ids pick out features, each for all words. A "
    "word is a row of the table as it is."
)
def indexes_the_transpose(ids: Tensor, table: Tensor) -> Tensor:
    return table.T[ids]


@exercise.mistake(
    "You multiply the ids themselves with the table. Id 4 is not four times as much of "
    "anything: it is the name of row 4. Index with it, or make it one-hot first."
)
def ids_as_float_times_table(ids: Tensor, table: Tensor) -> Tensor:
    return ids.to(table.dtype) @ table


@exercise.mistake(
    "Your rows are right, but they are cut off from the table: no gradient reaches it, so "
    "it could never be learned. `.data`, `.detach()` and `nn.Embedding.from_pretrained` "
    "cut, and so does a copy made from numbers. Index the table itself."
)
def one_hot_argmax(ids: Tensor, table: Tensor) -> Tensor:
    one_hot = F.one_hot(ids, len(table)).to(table.dtype)
    return table.detach()[one_hot.argmax(-1)]


@exercise.mistake(
    "`F.one_hot(ids)` is only as wide as the largest id that occurs. Tell it how many "
    "words the table has."
)
def one_hot_without_size(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids).to(table.dtype) @ table


@exercise.mistake(
    "`F.one_hot` gives whole numbers, and `@` wants the same dtype on both sides. Convert "
    "them with `.to(table.dtype)`."
)
def one_hot_of_integers(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, len(table)) @ table


@exercise.mistake(
    "Your one-hot vectors are always float32, but the table can be float64 or bfloat16. "
    "Convert them with `.to(table.dtype)`."
)
def one_hot_in_float32(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, len(table)).float() @ table


@exercise.mistake(
    "Your rows are right, but all tokens stand in one long list. Index with `ids` as they "
    "are: the result keeps the axes batch and tokens."
)
def flattened_ids(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids.flatten()]


@exercise.mistake(
    "Your values are right, but row 0 gets no gradient, so word 0 could never be learned: that is "
    "what `padding_idx=0` does. Here no id is special."
)
def row_0_never_learns(ids: Tensor, table: Tensor) -> Tensor:
    return F.embedding(ids, table, padding_idx=0)


@exercise.mistake(
    "Your rows are right, but they stand at other tokens: the ids are taken column by column and "
    "put back row by row. `table[ids]` keeps them in their places."
)
def taken_by_columns(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids.T.flatten()].reshape(*ids.shape, -1)


@exercise.mistake(
    "Your rows are right, but they stand at other tokens: the ids are taken row by row and put "
    "back column by column. `table[ids]` keeps them in their places."
)
def put_back_by_columns(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids.flatten()].reshape(*ids.T.shape, -1).transpose(0, 1)


@exercise.mistake("You look up the first sequence only. Index with all of `ids`.")
def first_sequence_only(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids[0]]


@exercise.mistake(
    "You are one row too high: ids count from 0, as Python does. Row -1 exists, too, so "
    "nothing warns you."
)
def counts_from_one(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids - 1]


@exercise.mistake(
    "You multiply the rows by √d_model, as the paper does inside its model (§3.4). Here the result "
    "is the rows themselves: whoever wants them larger multiplies later."
)
def scaled_by_root_of_d_model(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids] * table.shape[1] ** 0.5


@exercise.mistake("You add up the vectors of a sequence. Every token keeps a vector of its own.")
def sums_the_tokens(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids].sum(1)


@exercise.mistake(
    "You make a new `nn.Embedding`, and its rows are random. Use the table that you are given."
)
def makes_a_new_table(ids: Tensor, table: Tensor) -> Tensor:
    return nn.Embedding(*table.shape)(ids)


@exercise.alternative
def embed_by_one_hot(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, table.shape[0]).to(table.dtype) @ table


@exercise.alternative
def embed_by_comparing(ids: Tensor, table: Tensor) -> Tensor:
    one_hot = ids[..., None] == torch.arange(len(table))
    return torch.einsum("btv,vd->btd", one_hot.type_as(table), table)


@exercise.alternative
def embed_by_index_select(ids: Tensor, table: Tensor) -> Tensor:
    return table.index_select(0, ids.flatten()).reshape(*ids.shape, -1)


@exercise.alternative
def embed_in_loops(ids: Tensor, table: Tensor) -> Tensor:
    return torch.stack([torch.stack([table[int(id_)] for id_ in row]) for row in ids])
