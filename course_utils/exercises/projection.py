"""Exercises of notebook 01: dot products, linear maps, embeddings and shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake

# --- dot_and_cosine ------------------------------------------------------------------------------


def _dot_and_cosine_by_torch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.einsum("nd,md->nm", a, b), F.cosine_similarity(a[:, None], b[None], dim=-1)


def _dot_and_cosine_by_numpy(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = a.detach().numpy(), b.detach().numpy()
    dots = np.inner(rows, columns)
    lengths = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
    cosines = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return torch.from_numpy(dots), torch.from_numpy(cosines)


def _dot_and_cosine_cases() -> list[Case]:
    def case(title: str, a: Tensor, b: Tensor, oracle: Callable = _dot_and_cosine_by_torch) -> Case:
        return Case(title, {"a": a, "b": b}, oracle)

    short = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    long = torch.tensor([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, -5.0], [1.0, 2.0, 2.0]])
    zeros = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    # At a vector of zeros the cosine has no gradient to compare, so NumPy is the oracle there.
    return [
        case("two vectors against four", short, long),
        case("one vector against three", inputs.normal(1, 5), inputs.normal(3, 5, seed=1)),
        case("three vectors against one", inputs.normal(3, 5), inputs.normal(1, 5, seed=1)),
        case("a vector of zeros", zeros, long, _dot_and_cosine_by_numpy),
        case("nothing but zeros", zeros, torch.zeros(1, 3), _dot_and_cosine_by_numpy),
        case("longer vectors", 3 * inputs.normal(4, 6), 3 * inputs.normal(3, 6, seed=1)),
        case("short vectors", 0.1 * inputs.normal(4, 6), 0.1 * inputs.normal(3, 6, seed=1)),
        case("transposed views", inputs.normal(6, 3).T, inputs.normal(6, 5, seed=1).T),
        case(
            "float64",
            100 * inputs.normal(4, 3, dtype=torch.float64),
            100 * inputs.normal(2, 3, seed=1, dtype=torch.float64),
        ),
        case(
            "bfloat16",
            inputs.normal(2, 4, dtype=torch.bfloat16),
            inputs.normal(3, 4, seed=1, dtype=torch.bfloat16),
        ),
        case("vectors of a single number", torch.tensor([[2.0], [-3.0]]), torch.tensor([[4.0]])),
    ]


def _lengths(a: Tensor, b: Tensor) -> Tensor:
    return a.norm(dim=-1)[:, None] * b.norm(dim=-1)


def _safe(dots: Tensor, lengths: Tensor) -> Tensor:
    return dots / lengths.clamp_min(1e-8)


def _elementwise_star(a: Tensor, b: Tensor) -> tuple:
    dots = a * b
    return dots, _safe(dots, a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))


def _row_with_row(a: Tensor, b: Tensor) -> tuple:
    dots = (a * b).sum(-1)
    return dots, _safe(dots, a.norm(dim=-1) * b.norm(dim=-1))


def _dot_called_cosine(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, dots


def _norm_over_wrong_axis(a: Tensor, b: Tensor) -> tuple:
    return a @ b.T, _safe(a, a.norm(dim=0)) @ _safe(b, b.norm(dim=0)).T


def _norm_of_everything(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.norm() * b.norm())


def _only_first_length(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, a.norm(dim=-1, keepdim=True))


def _squared_lengths(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, _safe(dots, (a * a).sum(-1)[:, None] * (b * b).sum(-1))


def _zero_vector_gives_nan(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return dots, dots / _lengths(a, b)


def _returned_the_wrong_way_round(a: Tensor, b: Tensor) -> tuple:
    dots = a @ b.T
    return _safe(dots, _lengths(a, b)), dots


def _rows_and_columns_swapped(a: Tensor, b: Tensor) -> tuple:
    dots = b @ a.T
    return dots, _safe(dots, _lengths(b, a))


def _only_cosine(a: Tensor, b: Tensor) -> Tensor:
    return _safe(a @ b.T, _lengths(a, b))


def _dot_and_cosine_normalised_first(a: Tensor, b: Tensor) -> tuple:
    return a @ b.T, F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def _dot_and_cosine_with_epsilon(a: Tensor, b: Tensor) -> tuple:
    dots = (a[:, None] * b).sum(-1)
    length_a, length_b = a.square().sum(-1).sqrt(), b.square().sum(-1).sqrt()
    return dots, dots / (torch.outer(length_a, length_b) + 1e-8)


def _dot_and_cosine_in_loops(a: Tensor, b: Tensor) -> tuple:
    dots = torch.stack([torch.stack([torch.dot(row, column) for column in b]) for row in a])
    cosines = [[F.cosine_similarity(row, column, dim=0) for column in b] for row in a]
    return dots, torch.stack([torch.stack(row) for row in cosines])


def _dot_and_cosine_with_where(a: Tensor, b: Tensor) -> tuple:
    dots = torch.einsum("id,jd->ij", a, b)
    lengths = torch.linalg.vector_norm(a, dim=1, keepdim=True) @ b.norm(dim=1, keepdim=True).T
    return dots, torch.where(lengths == 0, torch.zeros_like(dots), dots / lengths)


DOT_AND_COSINE = Exercise(
    part="projection.dot_and_cosine",
    notebook="01",
    used_by="the pictures of this notebook. A dot product of every row with every row is also what "
    "attention starts with",
    cases=_dot_and_cosine_cases,
    hints=(
        "All dot products at once are one matrix product: `a @ b.T` has a row for every vector of "
        "`a` and a column for every vector of `b`.",
        "The cosine is the dot product divided by both lengths. `a.norm(dim=-1)` gives one length "
        "for every vector of `a`.",
        "You need a table with the product of every length of `a` and every length of `b`: "
        "`torch.outer(lengths_a, lengths_b)`, or `lengths_a[:, None] * lengths_b`.",
        "A vector of zeros has length 0, and 0 / 0 is NaN. Let the divisor not get smaller than a "
        "tiny number: `.clamp_min(1e-8)`.",
    ),
    mistakes=(
        Mistake(
            "elementwise_star",
            "`*` multiplies numbers that stand in the same place; it is not a matrix product. Use "
            "`@`, with `b` transposed.",
            _elementwise_star,
        ),
        Mistake(
            "row_with_row",
            "You multiply row 0 of `a` with row 0 of `b`, row 1 with row 1. Every row of `a` "
            "should meet every row of `b`: `a @ b.T`.",
            _row_with_row,
        ),
        Mistake(
            "dot_called_cosine",
            "Your cosines are still the dot products. Divide them by the lengths of both vectors.",
            _dot_called_cosine,
        ),
        Mistake(
            "norm_over_wrong_axis",
            "You take lengths along axis 0, so you measure one feature across all vectors. A "
            "vector is a row: take the norm along the last axis, `dim=-1`.",
            _norm_over_wrong_axis,
        ),
        Mistake(
            "norm_of_everything",
            "`norm()` without `dim` gives one length for the whole matrix. Each vector has a "
            "length of its own: `dim=-1`.",
            _norm_of_everything,
        ),
        Mistake(
            "only_first_length",
            "You divide by the lengths of `a` only. Divide by the lengths of `b` as well.",
            _only_first_length,
        ),
        Mistake(
            "squared_lengths",
            "You divide by the squares of the lengths. The length is the square root of the sum of "
            "squares.",
            _squared_lengths,
        ),
        Mistake(
            "zero_vector_gives_nan",
            "With a vector of zeros you divide 0 by 0, which is NaN. Keep the divisor above zero, "
            "or put 0 there.",
            _zero_vector_gives_nan,
        ),
        Mistake(
            "returned_the_wrong_way_round",
            "Both tables are right, but you return them the wrong way round: dot products first, "
            "then cosines.",
            _returned_the_wrong_way_round,
        ),
        Mistake(
            "rows_and_columns_swapped",
            "Your tables are transposed. Vectors of `a` go down the rows, vectors of `b` along the "
            "columns: `a @ b.T`.",
            _rows_and_columns_swapped,
        ),
        Mistake(
            "only_cosine",
            "You return the cosines alone. Return two tables: dot products, then cosines.",
            _only_cosine,
        ),
    ),
    alternatives=(
        _dot_and_cosine_normalised_first,
        _dot_and_cosine_with_epsilon,
        _dot_and_cosine_in_loops,
        _dot_and_cosine_with_where,
    ),
)

# --- linear --------------------------------------------------------------------------------------


def _linear_cases() -> list[Case]:
    def case(title: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Case:
        return Case(title, {"x": x, "weight": weight, "bias": bias}, F.linear)

    x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [2.0, -1.0, 0.0], [1.0, 1.0, 1.0]])
    bias = torch.tensor([10.0, 20.0, 30.0, 40.0])
    double, half = torch.float64, torch.bfloat16
    return [
        case("two vectors of 3 numbers become two of 4", x, weight, None),
        case("the same with a bias", x, weight, bias),
        case("a square weight", x, torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]]), bias[:3]),
        case("a single vector", x[0], weight, bias),
        case("a batch of sequences", inputs.normal(2, 3, 5), inputs.normal(6, 5), inputs.normal(6)),
        case("a batch with heads", inputs.normal(2, 3, 4, 5), inputs.normal(7, 5), None),
        case("transposed views", inputs.normal(2, 6, 3).mT, inputs.normal(6, 4).T, bias),
        case("one number out", inputs.normal(3, 2), inputs.normal(1, 2), torch.zeros(1)),
        case("one number in", inputs.normal(2, 3, 1), inputs.normal(4, 1), bias),
        case(
            "float64",
            inputs.normal(3, 4, dtype=double),
            inputs.normal(2, 4, dtype=double, seed=1),
            inputs.normal(2, dtype=double),
        ),
        case(
            "bfloat16",
            inputs.normal(2, 4, dtype=half),
            inputs.normal(3, 4, dtype=half, seed=1),
            inputs.normal(3, dtype=half),
        ),
    ]


def _plus(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


def _forgot_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x @ weight, bias)


def _bias_before_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x, bias) @ weight.T


def _bias_ignored(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T


def _bias_subtracted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T if bias is None else x @ weight.T - bias


def _bias_always_added(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T + bias  # type: ignore[operator]


def _asks_whether_bias_is_true(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x @ weight.T + bias if bias else x @ weight.T


def _flattened_batch_lost(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x.reshape(-1, x.shape[-1]) @ weight.T, bias)


def _weight_first(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(weight @ x, bias)


def _only_matrices(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.mm(x, weight.T), bias)


def _multiplies_elementwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(x * weight, bias)


def _makes_a_new_layer(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return nn.Linear(weight.shape[1], weight.shape[0])(x)


def _linear_by_einsum(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.einsum("...i,oi->...o", x, weight), bias)


def _linear_column_by_column(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _plus(torch.stack([(x * row).sum(-1) for row in weight], dim=-1), bias)


def _linear_flat_and_back(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    flat = _plus(x.reshape(-1, x.shape[-1]).mm(weight.t()), bias)
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def _linear_as_columns(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = (weight @ x[..., None])[..., 0]
    if bias is not None:
        y += bias
    return y


LINEAR = Exercise(
    part="projection.linear",
    notebook="01",
    used_by="`Linear`, and so by every learned map of every model in this course",
    cases=_linear_cases,
    hints=(
        "Every row of `weight` asks the vector one question: its answer is their dot product. With "
        "`d_out` rows there are `d_out` answers.",
        "Rows of `x` against rows of `weight`: for `@` the second one must be transposed. Compare "
        "the shapes: [..., d_in] @ [d_in, d_out].",
        "`@` leaves all axes before the last two alone, so one line serves a vector, a sequence "
        "and a batch.",
        "The bias is added to the answers, and there may be none: test `bias is None`.",
    ),
    mistakes=(
        Mistake(
            "forgot_transpose",
            "You multiply with `weight` as it is stored, [d_out, d_in]. The axis of size d_in must "
            "meet the last axis of `x`: use `weight.T`. With a square weight nothing warns you.",
            _forgot_transpose,
        ),
        Mistake(
            "bias_before_matmul",
            "You add the bias to the input, before the multiplication. It belongs to the output: "
            "it has d_out numbers. Multiply first.",
            _bias_before_matmul,
        ),
        Mistake(
            "bias_ignored",
            "You never add the bias. Add it after the multiplication wherever it is not None.",
            _bias_ignored,
        ),
        Mistake(
            "bias_subtracted",
            "You subtract the bias. Add it.",
            _bias_subtracted,
        ),
        Mistake(
            "bias_always_added",
            "You add the bias even where it is None, and a tensor and None cannot be added. Return "
            "the product alone in that case.",
            _bias_always_added,
        ),
        Mistake(
            "asks_whether_bias_is_true",
            "`if bias` asks whether a tensor is true, which Python cannot say of several numbers. "
            "Ask `if bias is not None`.",
            _asks_whether_bias_is_true,
        ),
        Mistake(
            "flattened_batch_lost",
            "Your numbers are right, but all vectors stand in one long list. Keep the axes of `x` "
            "and change only the last one. `@` does so without any reshape.",
            _flattened_batch_lost,
        ),
        Mistake(
            "weight_first",
            "You compute `weight @ x`. That fits one column vector. Here the vectors are the rows "
            "of `x`: put `x` first and transpose the weight.",
            _weight_first,
        ),
        Mistake(
            "only_matrices",
            "`torch.mm` multiplies two matrices and nothing else, but `x` can have one axis, or "
            "three, or four. `@` takes them all.",
            _only_matrices,
        ),
        Mistake(
            "multiplies_elementwise",
            "`*` multiplies numbers that stand in the same place; it is not a matrix product. Use "
            "`@` with the transposed weight.",
            _multiplies_elementwise,
        ),
        Mistake(
            "makes_a_new_layer",
            "You make a new `nn.Linear`, and its weights are random. Use the weight and the bias "
            "that you are given.",
            _makes_a_new_layer,
        ),
    ),
    alternatives=(
        _linear_by_einsum,
        _linear_column_by_column,
        _linear_flat_and_back,
        _linear_as_columns,
    ),
)

# --- embed ---------------------------------------------------------------------------------------


def _embed_cases() -> list[Case]:
    def case(title: str, ids: Tensor, table: Tensor) -> Case:
        return Case(title, {"ids": ids, "table": table}, F.embedding)

    table = torch.tensor([[0.0, 0, 1], [10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42]])
    ids = torch.tensor([[3, 1, 1, 0], [4, 0, 2, 3]])
    return [
        case("two sequences of four tokens", ids, table),
        case("more features than words", inputs.integers(2, 4, below=3), inputs.normal(3, 7)),
        case("the last words do not occur", inputs.integers(3, 4, below=5), inputs.normal(9, 6)),
        case("one sequence", torch.tensor([[2, 0, 2, 1]]), table),
        case("one token", torch.tensor([[4]]), table),
        case("one feature", ids, inputs.normal(6, 1)),
        case("transposed views", inputs.integers(5, 2, below=7).T, inputs.normal(3, 7).T),
        case("float64", ids[:, :3], inputs.normal(6, 4, dtype=torch.float64)),
        case("bfloat16", ids[:, 1:], inputs.normal(7, 5, dtype=torch.bfloat16)),
    ]


def _indexes_columns(ids: Tensor, table: Tensor) -> Tensor:
    return table[:, ids]


def _indexes_the_transpose(ids: Tensor, table: Tensor) -> Tensor:
    return table.T[ids]


def _ids_as_float_times_table(ids: Tensor, table: Tensor) -> Tensor:
    return ids.to(table.dtype) @ table


def _one_hot_argmax(ids: Tensor, table: Tensor) -> Tensor:
    one_hot = F.one_hot(ids, len(table)).to(table.dtype)
    return table.detach()[one_hot.argmax(-1)]


def _one_hot_without_size(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids).to(table.dtype) @ table


def _one_hot_of_integers(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, len(table)) @ table


def _one_hot_in_float32(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, len(table)).float() @ table


def _flattened_ids(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids.flatten()]


def _first_sequence_only(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids[0]]


def _counts_from_one(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids - 1]


def _sums_the_tokens(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids].sum(1)


def _makes_a_new_table(ids: Tensor, table: Tensor) -> Tensor:
    return nn.Embedding(*table.shape)(ids)


def _embed_by_one_hot(ids: Tensor, table: Tensor) -> Tensor:
    return F.one_hot(ids, table.shape[0]).to(table.dtype) @ table


def _embed_by_comparing(ids: Tensor, table: Tensor) -> Tensor:
    one_hot = ids[..., None] == torch.arange(len(table))
    return torch.einsum("btv,vd->btd", one_hot.type_as(table), table)


def _embed_by_index_select(ids: Tensor, table: Tensor) -> Tensor:
    return table.index_select(0, ids.flatten()).reshape(*ids.shape, -1)


def _embed_in_loops(ids: Tensor, table: Tensor) -> Tensor:
    return torch.stack([torch.stack([table[int(id_)] for id_ in row]) for row in ids])


EMBED = Exercise(
    part="projection.embed",
    notebook="01",
    used_by="`Embedding`: the first layer of every model in this course",
    cases=_embed_cases,
    hints=(
        "The table has one row for every word. An id is the number of a row: nothing is computed, "
        "a row is looked up.",
        "A tensor can be indexed with a tensor of whole numbers. The result has the shape of the "
        "index, with a whole row in place of each number.",
        "The same as a product: a one-hot vector times the table picks out a row. `F.one_hot` "
        "wants to know how many words there are, and its result must get the table's dtype.",
    ),
    mistakes=(
        Mistake(
            "indexes_columns",
            "You pick columns: `table[:, ids]`. A word is a row of the table, so the ids go into "
            "the first place.",
            _indexes_columns,
        ),
        Mistake(
            "indexes_the_transpose",
            "You transpose the table first, so the ids pick out features, each for all words. A "
            "word is a row of the table as it is.",
            _indexes_the_transpose,
        ),
        Mistake(
            "ids_as_float_times_table",
            "You multiply the ids themselves with the table. Id 4 is not four times as much of "
            "anything: it is the name of row 4. Index with it, or make it one-hot first.",
            _ids_as_float_times_table,
        ),
        Mistake(
            "one_hot_argmax",
            "Your rows are right, but they are cut off from the table: no gradient reaches it, so "
            "it could never be learned. `.data`, `.detach()` and `nn.Embedding.from_pretrained` "
            "cut, and so does a copy made from numbers. Index the table itself.",
            _one_hot_argmax,
        ),
        Mistake(
            "one_hot_without_size",
            "`F.one_hot(ids)` is only as wide as the largest id that occurs. Tell it how many "
            "words the table has.",
            _one_hot_without_size,
        ),
        Mistake(
            "one_hot_of_integers",
            "`F.one_hot` gives whole numbers, and `@` wants the same dtype on both sides. Convert "
            "them with `.to(table.dtype)`.",
            _one_hot_of_integers,
        ),
        Mistake(
            "one_hot_in_float32",
            "Your one-hot vectors are always float32, but the table can be float64 or bfloat16. "
            "Convert them with `.to(table.dtype)`.",
            _one_hot_in_float32,
        ),
        Mistake(
            "flattened_ids",
            "Your rows are right, but all tokens stand in one long list. Index with `ids` as they "
            "are: the result keeps the axes batch and tokens.",
            _flattened_ids,
        ),
        Mistake(
            "first_sequence_only",
            "You look up the first sequence only. Index with all of `ids`.",
            _first_sequence_only,
        ),
        Mistake(
            "counts_from_one",
            "You are one row too high: ids count from 0, as Python does. Row -1 exists, too, so "
            "nothing warns you.",
            _counts_from_one,
        ),
        Mistake(
            "sums_the_tokens",
            "You add up the vectors of a sequence. Every token keeps a vector of its own.",
            _sums_the_tokens,
        ),
        Mistake(
            "makes_a_new_table",
            "You make a new `nn.Embedding`, and its rows are random. Use the table that you are "
            "given.",
            _makes_a_new_table,
        ),
    ),
    alternatives=(
        _embed_by_one_hot,
        _embed_by_comparing,
        _embed_by_index_select,
        _embed_in_loops,
    ),
)

# --- is_linear -----------------------------------------------------------------------------------

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Named:
    """A function of vectors that is shown as its formula."""

    formula: str
    rule: Function

    def __call__(self, x: Tensor) -> Tensor:
        return self.rule(x)

    def __repr__(self) -> str:
        return self.formula


def _times(weight: Tensor) -> Function:
    return lambda x: x @ weight.T.to(x.dtype)


def _cases_of(linear: bool, d: int, functions: dict[str, Function]) -> list[Case]:
    answer = "is linear" if linear else "is not linear"
    return [
        Case(f"{formula} {answer}", {"f": _Named(formula, rule), "d": d}, lambda f, d: linear)
        for formula, rule in functions.items()
    ]


def _is_linear_cases() -> list[Case]:
    weight, offset = inputs.normal(3, 8), torch.tensor([2.0, 0.0, -1.0])
    line = F.normalize(inputs.normal(1, 8, seed=2)).repeat(8, 1)
    quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    return [
        *_cases_of(True, 8, {"f(x) = 3x": lambda x: 3 * x}),
        *_cases_of(False, 8, {"f(x) = x + 1": lambda x: x + 1}),
        *_cases_of(
            True,
            8,
            {
                "f(x) = W x, from 8 numbers to 3": _times(weight),
                "f(x) = x projected onto a line": lambda x: _times(line * line[0][:, None])(x),
                "f(x) = x - mean of x": lambda x: x - x.mean(-1, keepdim=True),
                "f(x) = x in reverse order": lambda x: x.flip(-1),
                "f(x) = 0": lambda x: 0 * x,
            },
        ),
        *_cases_of(
            False,
            8,
            {
                "f(x) = W x + b": lambda x: _times(weight)(x) + offset.to(x.dtype),
                "f(x) = |x|": lambda x: x.abs(),
                "f(x) = x * x": lambda x: x * x,
                "f(x) = relu(x)": lambda x: x.clamp_min(0),
                "f(x) = x + 0.1": lambda x: x + 0.1,
                "f(x) = 1": lambda x: torch.ones_like(x),
                "f(x) = x sorted": lambda x: x.sort(dim=-1).values,
                "f(x) = softmax(x)": lambda x: x.softmax(-1),
                "f(x) = the length of x": lambda x: x.norm(dim=-1),
                "f(x) = x * its first number": lambda x: x * x[..., :1],
                "f(x) = x, but never more than 1": lambda x: x.clamp_max(1),
                "f(x) = smallest plus largest of x": lambda x: x.amin(-1) + x.amax(-1),
            },
        ),
        *_cases_of(True, 64, {"f(x) = the running sum of x": lambda x: x.cumsum(-1)}),
        *_cases_of(False, 64, {"f(x) = the largest of x": lambda x: x.amax(-1)}),
        *_cases_of(True, 2, {"f(x) = x turned by 90 degrees": _times(quarter_turn)}),
        *_cases_of(True, 1, {"f(x) = -2x, for single numbers": lambda x: -2 * x}),
    ]


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def _adds(f: Function, x: Tensor, y: Tensor) -> bool:
    return _close(f(x + y), f(x) + f(y))


def _scales(f: Function, a: float, x: Tensor) -> bool:
    return _close(f(a * x), a * f(x))


def _only_homogeneity(f: Function, d: int) -> bool:
    return all(_scales(f, a, torch.randn(d)) for a in (0.5, 2.0, 3.0))


def _scales_by_any_number(f: Function, d: int) -> bool:
    return all(_scales(f, a, torch.randn(d)) for a in (2.0, -1.0, -3.0))


def _affine_counts_as_linear(f: Function, d: int) -> bool:
    zero = f(torch.zeros(d))
    return _adds(lambda x: f(x) - zero, torch.randn(d), torch.randn(d))


def _tests_one_point_zero(f: Function, d: int) -> bool:
    return not f(torch.zeros(d)).any()


def _only_positive_vectors(f: Function, d: int) -> bool:
    return all(_adds(f, torch.rand(d), torch.rand(d)) for _ in range(4))


def _compares_sums(f: Function, d: int) -> bool:
    x, y = torch.randn(2, d)
    return _close(f(x + y).sum(), f(x).sum() + f(y).sum())


def _demands_exact_equality(f: Function, d: int) -> bool:
    pairs = torch.randn(4, 2, d)
    return all(torch.equal(f(x + y), f(x) + f(y)) for x, y in pairs)


def _returns_tensor(f: Function, d: int) -> Tensor:
    return torch.tensor(_is_linear_by_two_tests(f, d))


def _always_true(f: Function, d: int) -> bool:
    return True


def _is_linear_by_two_tests(f: Function, d: int) -> bool:
    for _ in range(10):
        x, y, a = torch.randn(d), torch.randn(d), torch.randn(()).item()
        if not (_adds(f, x, y) and _scales(f, a, x)):
            return False
    return True


def _is_linear_by_its_matrix(f: Function, d: int) -> bool:
    """A linear map is known by what it makes of the basis vectors."""
    matrix = torch.stack([f(basis) for basis in torch.eye(d)], dim=-1)
    vectors = [5 * torch.randn(d) for _ in range(5)]
    return all(torch.allclose(f(x), matrix @ x, atol=1e-4) for x in vectors)


def _is_linear_in_float64(f: Function, d: int) -> bool:
    pairs = torch.randn(10, 2, d, dtype=torch.float64)
    gaps = [f(x + 3 * y) - f(x) - 3 * f(y) for x, y in pairs]
    return all(gap.abs().max().item() < 1e-6 for gap in gaps)


def _is_linear_by_numpy(f: Function, d: int) -> bool:
    generator = np.random.default_rng(1)
    for _ in range(20):
        x, y = torch.from_numpy(generator.uniform(-9, 9, (2, d)).astype(np.float32))
        if not np.allclose(f(2 * x - 3 * y), 2 * f(x) - 3 * f(y), rtol=1e-2, atol=1e-2):
            return False
    return True


IS_LINEAR = Exercise(
    part="projection.is_linear",
    notebook="01",
    used_by="the experiments of this notebook and of later ones that ask what is linear",
    cases=_is_linear_cases,
    hints=(
        "A function is linear if two things hold: f(x + y) = f(x) + f(y), and f(a x) = a f(x). You "
        "cannot try all vectors, but random ones give a function away quickly.",
        "Both rules are in one: f(a x + b y) = a f(x) + b f(y). Take `x` and `y` from "
        "`torch.randn(d)`, with positive and negative numbers, and `a` and `b` likewise.",
        "Rounding makes the two sides differ a little. Compare with "
        "`torch.allclose(left, right, atol=1e-4)`, not with `==`.",
        "Repeat it a few times: one pair of vectors can pass by chance. Return False as soon as "
        "one fails.",
    ),
    mistakes=(
        Mistake(
            "only_homogeneity",
            "You only test f(a x) = a f(x) with positive a. |x|, relu and sorting pass that. Use "
            "two vectors, f(x + y) = f(x) + f(y), and negative numbers too.",
            _only_homogeneity,
        ),
        Mistake(
            "scales_by_any_number",
            "You only test f(a x) = a f(x). Functions that are not linear pass that, such as "
            "smallest plus largest. Test sums of two vectors as well.",
            _scales_by_any_number,
        ),
        Mistake(
            "affine_counts_as_linear",
            "W x + b passes your test. It is affine, not linear: f(0) is b and not 0. Do not "
            "subtract the offset, and do not only test differences.",
            _affine_counts_as_linear,
        ),
        Mistake(
            "tests_one_point_zero",
            "You only look whether f(0) is 0. That must hold, but x * x passes it as well. Test "
            "f(x + y) = f(x) + f(y) on random vectors.",
            _tests_one_point_zero,
        ),
        Mistake(
            "only_positive_vectors",
            "Your random vectors have no negative numbers (`torch.rand` gives 0 to 1), so |x| and "
            "relu look like f(x) = x. Use `torch.randn`.",
            _only_positive_vectors,
        ),
        Mistake(
            "compares_sums",
            "You add up the numbers of the results before comparing them. A sorted vector has the "
            "same sum, yet sorting is not linear. Compare number by number.",
            _compares_sums,
        ),
        Mistake(
            "demands_exact_equality",
            "You demand that both sides are exactly equal. Floating-point numbers are rounded, so "
            "they differ in the last digit. Use `torch.allclose`.",
            _demands_exact_equality,
        ),
        Mistake(
            "returns_tensor",
            "Your answers are right, but each is a tensor. Make it a plain True or False with "
            "`bool(...)`.",
            _returns_tensor,
        ),
        Mistake(
            "always_true",
            "You answer True to every function. Return False where the two sides differ.",
            _always_true,
        ),
    ),
    alternatives=(
        _is_linear_by_two_tests,
        _is_linear_by_its_matrix,
        _is_linear_in_float64,
        _is_linear_by_numpy,
    ),
)

# --- batched_shapes ------------------------------------------------------------------------------

Shape = Sequence[int]


def _shape_of_product(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    try:
        return tuple((torch.empty(shape_a) @ torch.empty(shape_b)).shape)
    except RuntimeError:
        return None


def _batched_shapes_cases() -> list[Case]:
    pairs = {
        "two matrices": ((2, 3), (3, 4)),
        "two matrices that do not fit": ((2, 3), (4, 3)),
        "a batch of each": ((5, 2, 3), (5, 3, 4)),
        "a batch and a single matrix": ((5, 2, 3), (3, 4)),
        "a single matrix and a batch": ((2, 3), (5, 3, 4)),
        "batches of different sizes": ((5, 2, 3), (6, 3, 4)),
        "the inner sizes do not fit": ((5, 2, 3), (5, 2, 4)),
        "a batch of one": ((1, 2, 3), (5, 3, 4)),
        "the second batch is one": ((5, 2, 3), (1, 3, 4)),
        "both batches are one": ((1, 2, 3), (1, 3, 4)),
        "batches with heads": ((6, 5, 2, 3), (6, 5, 3, 4)),
        "each is repeated along another axis": ((6, 1, 2, 3), (1, 5, 3, 4)),
        "batch axes are aligned from the right": ((6, 5, 2, 3), (5, 3, 4)),
        "aligned from the left they would fit": ((6, 5, 2, 3), (6, 3, 4)),
        "only one of two batch axes fits": ((6, 5, 2, 3), (6, 7, 3, 4)),
        "only the last batch axis fits": ((7, 5, 2, 3), (6, 5, 3, 4)),
        "three batch axes and one": ((7, 1, 5, 2, 3), (6, 1, 3, 4)),
        "no repeating inside the product": ((5, 2, 1), (5, 3, 4)),
        "nor in the other one": ((2, 3), (1, 4)),
        "row times column": ((1, 3), (3, 1)),
        "column times row": ((4, 1), (1, 2)),
        "equal shapes": ((4, 4), (4, 4)),
        "two shapes of tensors": (torch.Size((8, 2, 3)), torch.Size((8, 3, 5))),
    }
    return [
        Case(
            title,
            {"shape_a": a, "shape_b": b},
            _shape_of_product,
            shown=f"batched_shapes({tuple(a)}, {tuple(b)})",
        )
        for title, (a, b) in pairs.items()
    ]


def _broadcast(a: Shape, b: Shape) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        return None


def _multiplies_first_axes(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[1] != shape_b[0]:
        return None
    return (shape_a[0], shape_b[1], *shape_a[2:])


def _no_broadcast(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if tuple(shape_a[:-2]) != tuple(shape_b[:-2]) or shape_a[-1] != shape_b[-2]:
        return None
    return (*shape_a[:-1], shape_b[-1])


def _elementwise_rule(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return _broadcast(shape_a, shape_b)


def _inner_sizes_not_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    batch = _broadcast(shape_a[:-2], shape_b[:-2])
    return None if batch is None else (*batch, shape_a[-2], shape_b[-1])


def _last_axes_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    batch = _broadcast(shape_a[:-2], shape_b[:-2])
    if batch is None or shape_a[-1] != shape_b[-1]:
        return None
    return (*batch, shape_a[-2], shape_b[-2])


def _aligned_from_the_left(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    length = max(len(shape_a), len(shape_b)) - 2
    batches = ((*shape[:-2], *[1] * length)[:length] for shape in (shape_a, shape_b))
    batch = _broadcast(*batches)
    if batch is None or shape_a[-1] != shape_b[-2]:
        return None
    return (*batch, shape_a[-2], shape_b[-1])


def _batch_of_the_first(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[-1] != shape_b[-2]:
        return None
    return (*shape_a[:-1], shape_b[-1])


def _batch_forgotten(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[-1] != shape_b[-2]:
        return None
    return shape_a[-2], shape_b[-1]


def _batches_not_compared(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[-1] != shape_b[-2]:
        return None
    length = max(len(shape_a), len(shape_b)) - 2
    batches = [[1] * length + list(shape[:-2]) for shape in (shape_a, shape_b)]
    aligned = [batch[len(batch) - length :] for batch in batches]
    return (*map(max, *aligned), shape_a[-2], shape_b[-1])


def _error_instead_of_none(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    return tuple((torch.empty(shape_a) @ torch.empty(shape_b)).shape)


def _batched_shapes_on_meta(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    """Tensors on the device "meta" have a shape and no numbers."""
    a, b = (torch.empty(shape, device="meta") for shape in (shape_a, shape_b))
    try:
        return (a @ b).shape
    except RuntimeError:
        return None


def _batched_shapes_by_broadcast_shapes(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    batch = _broadcast(shape_a[:-2], shape_b[:-2])
    if batch is None or shape_a[-1] != shape_b[-2]:
        return None
    return batch + (shape_a[-2], shape_b[-1])  # noqa: RUF005


def _batched_shapes_from_the_right(shape_a: Shape, shape_b: Shape) -> tuple[int, ...] | None:
    if shape_a[-1] != shape_b[-2]:
        return None
    result = [shape_a[-2], shape_b[-1]]
    for axis in range(3, max(len(shape_a), len(shape_b)) + 1):
        size_a = shape_a[-axis] if axis <= len(shape_a) else 1
        size_b = shape_b[-axis] if axis <= len(shape_b) else 1
        if min(size_a, size_b) > 1 and size_a != size_b:
            return None
        result.insert(0, max(size_a, size_b))
    return tuple(result)


BATCHED_SHAPES = Exercise(
    part="projection.batched_shapes",
    notebook="01",
    used_by="the shape tracer of this notebook",
    cases=_batched_shapes_cases,
    hints=(
        "Cut each shape in two: its last two axes are a matrix, everything before them counts "
        "copies of matrices. `*batch, rows, inner = shape` does it in one line.",
        "The matrices: [rows, inner] @ [inner, columns] gives [rows, columns]. Where the two inner "
        "sizes differ, return None.",
        "The batch axes: write one shape below the other, right-aligned, and fill the shorter one "
        "with 1 on the left.",
        "Two sizes of a batch axis fit if they are equal or if one of them is 1. The result has "
        "the one that is not 1. `zip` walks over both at once.",
    ),
    mistakes=(
        Mistake(
            "multiplies_first_axes",
            "You multiply the first two axes. `@` multiplies the last two; the axes before them "
            "count matrices.",
            _multiplies_first_axes,
        ),
        Mistake(
            "no_broadcast",
            "You demand equal batch axes. An axis of size 1, or one that is missing on the left, "
            "is repeated to fit.",
            _no_broadcast,
        ),
        Mistake(
            "elementwise_rule",
            "You use the rule of `*`, where all axes are aligned. In `A @ B` the last two axes are "
            "multiplied as matrices; only those before them follow that rule.",
            _elementwise_rule,
        ),
        Mistake(
            "inner_sizes_not_compared",
            "You never compare the inner sizes: the last of A and the last but one of B must be "
            "equal.",
            _inner_sizes_not_compared,
        ),
        Mistake(
            "last_axes_compared",
            "You compare the last axis of both shapes, as for A Bᵀ. The last axis of A meets the "
            "last but one of B.",
            _last_axes_compared,
        ),
        Mistake(
            "aligned_from_the_left",
            "You align the batch axes from the left. They are aligned from the right, and missing "
            "ones are added on the left.",
            _aligned_from_the_left,
        ),
        Mistake(
            "batch_of_the_first",
            "You take the batch axes from A alone. B can have more of them, or larger ones.",
            _batch_of_the_first,
        ),
        Mistake(
            "batch_forgotten",
            "You return the matrix's two axes alone. The batch axes come before them.",
            _batch_forgotten,
        ),
        Mistake(
            "batches_not_compared",
            "You take the larger of two batch sizes without asking whether they fit. Sizes 5 and 6 "
            "do not: only 1 is repeated.",
            _batches_not_compared,
        ),
        Mistake(
            "error_instead_of_none",
            "Your code stops with an error where the product does not exist. Return None there.",
            _error_instead_of_none,
        ),
    ),
    alternatives=(
        _batched_shapes_on_meta,
        _batched_shapes_by_broadcast_shapes,
        _batched_shapes_from_the_right,
    ),
)

EXERCISES: tuple[Exercise, ...] = (DOT_AND_COSINE, IS_LINEAR, LINEAR, EMBED, BATCHED_SHAPES)
