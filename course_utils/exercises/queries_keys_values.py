"""Exercises of notebook 02: queries, keys and values, their scores, and heads."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part

# --- project_qkv ---------------------------------------------------------------------------------


class _LinearMap:
    """A linear map with the names of `nn.Linear`. Weight and bias are arguments of the case."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def _with_linear_maps(
    part: Part, x: Tensor, memory: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, **biases: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    maps = map(_LinearMap, (w_q, w_k, w_v), biases.values() or (None, None, None))
    return part(x, memory, *maps)


def _with_functions(
    part: Part, x: Tensor, memory: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return part(x, memory, *(_LinearMap(weight, None).__call__ for weight in (w_q, w_k, w_v)))


def _projected_by_einsum(
    x: Tensor, memory: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, *biases: Tensor
) -> tuple[Tensor, ...]:
    biases = biases or (torch.zeros(()).to(x.dtype),) * 3
    triples = zip((x, memory, memory), (w_q, w_k, w_v), biases, strict=True)
    return tuple(torch.einsum("btd,ed->bte", of, weight) + bias for of, weight, bias in triples)


def _random_projection(
    x: Tensor, memory: Tensor, widths: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Arguments with three random weights that answer with `widths` features."""
    arguments = {"x": x, "memory": memory}
    sources = (x, memory, memory)
    for seed, (name, source, width) in enumerate(zip("qkv", sources, widths, strict=True)):
        size = (width, source.shape[-1])
        arguments[f"w_{name}"] = inputs.normal(*size, seed=10 + seed, dtype=x.dtype)
    return arguments


def _random_biases(widths: tuple[int, int, int]) -> dict[str, Tensor]:
    return {
        f"b_{name}": inputs.normal(size, seed=size)
        for name, size in zip("qkv", widths, strict=True)
    }


def _project_qkv_cases() -> list[Case]:
    def case(title: str, arguments: dict[str, Tensor], use: Part = _with_linear_maps) -> Case:
        return Case(
            title, arguments, _projected_by_einsum, use, "project_qkv(x, memory, w_q, w_k, w_v)"
        )

    small = {
        "x": torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]),
        "memory": torch.tensor([[[0.0, 1.0], [2.0, 2.0], [-1.0, 4.0]]]),
        "w_q": torch.tensor([[1.0, 1.0], [0.0, 2.0]]),
        "w_k": torch.tensor([[0.0, 1.0], [3.0, 0.0]]),
        "w_v": torch.tensor([[1.0, -1.0], [0.0, 1.0]]),
    }
    x, memory = inputs.normal(2, 3, 5), inputs.normal(2, 4, 7, seed=1)
    biased = _random_projection(x, memory, (6, 6, 8)) | _random_biases((6, 6, 8))
    wide, long = inputs.normal(3, 6, 2).mT, inputs.normal(3, 5, 4).mT
    double = inputs.normal(2, 1, 3, dtype=torch.float64)
    half = inputs.normal(2, 4, 3, dtype=torch.bfloat16)
    return [
        case("two tokens ask three others", small),
        case("self-attention: the memory is x", small | {"memory": small["x"]}),
        case("maps with a bias", biased),
        case("maps to other widths", _random_projection(x, memory, (6, 6, 8))),
        case("maps that are plain functions", small, _with_functions),
        case("transposed views", _random_projection(wide, long, (3, 3, 3))),
        case("float64, one token", _random_projection(double, double, (3, 3, 3))),
        case("bfloat16", _random_projection(half, half, (3, 3, 3))),
    ]


def _same_weight_three_times(x, memory, w_q, w_k, w_v):
    return w_q(x), w_q(memory), w_q(memory)


def _projects_q_again(x, memory, w_q, w_k, w_v):
    query = w_q(x)
    key = w_k(query)
    return query, key, w_v(key)


def _everything_from_x(x, memory, w_q, w_k, w_v):
    return w_q(x), w_k(x), w_v(x)


def _everything_from_memory(x, memory, w_q, w_k, w_v):
    return w_q(memory), w_k(memory), w_v(memory)


def _queries_from_memory(x, memory, w_q, w_k, w_v):
    return w_q(memory), w_k(x), w_v(x)


def _values_from_x(x, memory, w_q, w_k, w_v):
    return w_q(x), w_k(memory), w_v(x)


def _key_and_value_swapped(x, memory, w_q, w_k, w_v):
    return w_q(x), w_v(memory), w_k(memory)


def _forgot_transpose(x, memory, w_q, w_k, w_v):
    return x @ w_q.weight, memory @ w_k.weight, memory @ w_v.weight


def _bias_ignored(x, memory, w_q, w_k, w_v):
    return x @ w_q.weight.T, memory @ w_k.weight.T, memory @ w_v.weight.T


def _reaches_inside(x, memory, w_q, w_k, w_v):
    return tuple(
        F.linear(of, w.weight, w.bias) for of, w in ((x, w_q), (memory, w_k), (memory, w_v))
    )


def _projects_in_a_loop(x, memory, w_q, w_k, w_v):
    pairs = ((x, w_q), (memory, w_k), (memory, w_v))
    return tuple(apply(of) for of, apply in pairs)


def _projects_row_by_row(x, memory, w_q, w_k, w_v):
    query = torch.stack([w_q(row) for row in x])
    key = torch.stack([w_k(row) for row in memory])
    value = torch.stack([w_v(row) for row in memory])
    return query, key, value


PROJECT_QKV = Exercise(
    part="attention.project_qkv",
    notebook="02",
    used_by="`MultiHeadAttention`: every attention layer starts with it",
    cases=_project_qkv_cases,
    hints=(
        "Three roles, three maps: a token asks with its query, is found by its key, and hands over "
        "its value.",
        "`x` asks, so the queries are made from `x`. `memory` is asked: both of its roles are made "
        "from `memory`.",
        "A map is called like a function: `query = w_q(x)`. Keys and values look the same. Return "
        "all three as a tuple, in the order of the name `project_qkv`.",
    ),
    mistakes=(
        Mistake(
            "same_weight_three_times",
            "You use `w_q` for all three, so a token's question, its label and its content are the "
            "same vector. Each role has its own map: `w_k` makes keys, `w_v` makes values.",
            _same_weight_three_times,
        ),
        Mistake(
            "projects_q_again",
            "You project what was already projected: the key is made from the query, and the value "
            "from the key. All of them start from the inputs: `w_k(memory)`, `w_v(memory)`.",
            _projects_q_again,
        ),
        Mistake(
            "everything_from_x",
            "You make keys and values from `x` and never read `memory`. That is right only where "
            "both are the same. Keys and values come from `memory`.",
            _everything_from_x,
        ),
        Mistake(
            "everything_from_memory",
            "You make the queries from `memory` as well, so `x` is never read. `x` is what asks: "
            "make the queries from it.",
            _everything_from_memory,
        ),
        Mistake(
            "queries_from_memory",
            "You swapped the two inputs: `memory` asks and `x` is asked. Queries come from `x`, "
            "keys and values from `memory`.",
            _queries_from_memory,
        ),
        Mistake(
            "values_from_x",
            "Your keys come from `memory` but your values from `x`, so a weight that was found for "
            "one token would fetch the content of another. Make both from `memory`.",
            _values_from_x,
        ),
        Mistake(
            "key_and_value_swapped",
            "Your keys are made with `w_v` and your values with `w_k`. Return the query, then the "
            "key, then the value.",
            _key_and_value_swapped,
        ),
        Mistake(
            "forgot_transpose",
            "You multiply with `weight` as it is stored, which is [d_out, d_in], so every answer "
            "is made from a column of it. The map knows its own layout: call it, `w_q(x)`.",
            _forgot_transpose,
        ),
        Mistake(
            "bias_ignored",
            "You multiply with the weight only, and a map that has a bias loses it. Call the map: "
            "`w_q(x)` does all that belongs to it.",
            _bias_ignored,
        ),
        Mistake(
            "reaches_inside",
            "You take `weight` and `bias` out of the maps, and a map that is a plain function has "
            "none. Call the map, `w_q(x)`, then any map can be used.",
            _reaches_inside,
        ),
    ),
    alternatives=(_projects_in_a_loop, _projects_row_by_row),
)

# --- attention_scores ----------------------------------------------------------------------------


def _scores_by_einsum(query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("...qd,...kd->...qk", query, key)


def _attention_scores_cases() -> list[Case]:
    def case(title: str, query: Tensor, key: Tensor) -> Case:
        return Case(title, {"query": query, "key": key}, _scores_by_einsum)

    normal = inputs.normal
    asks = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])
    asked = torch.tensor([[[1.0, 2.0], [0.0, 3.0], [-1.0, 1.0]]])
    return [
        case("two queries, three keys", asks, asked),
        case("a batch of sentences", normal(2, 3, 5), normal(2, 4, 5, seed=1)),
        case("a batch with heads", normal(2, 3, 4, 5), normal(2, 3, 6, 5, seed=1)),
        case("no batch at all", normal(3, 5), normal(4, 5, seed=1)),
        case("as many queries as keys", normal(2, 4, 4, 4), normal(2, 4, 4, 4, seed=1)),
        case("one query", normal(2, 3, 1, 5), normal(2, 3, 4, 5, seed=1)),
        case("one key", normal(2, 3, 4, 5), normal(2, 3, 1, 5, seed=1)),
        case("transposed views", normal(2, 5, 3).mT, normal(2, 5, 4, seed=1).mT),
        case(
            "float64",
            normal(2, 3, 5, dtype=torch.float64),
            normal(2, 4, 5, seed=1, dtype=torch.float64),
        ),
        case(
            "bfloat16",
            normal(2, 3, 5, dtype=torch.bfloat16),
            normal(2, 4, 5, seed=1, dtype=torch.bfloat16),
        ),
    ]


def _transpose_1_2(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(1, 2)


def _elementwise_star(query: Tensor, key: Tensor) -> Tensor:
    return query * key


def _row_with_its_own_key(query: Tensor, key: Tensor) -> Tensor:
    return (query * key).sum(-1)


def _keys_ask_queries(query: Tensor, key: Tensor) -> Tensor:
    return key @ query.mT


def _scaled_already(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / math.sqrt(query.shape[-1])


def _softmax_already(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT, -1)


def _cosines(query: Tensor, key: Tensor) -> Tensor:
    return F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT


def _no_transpose(query: Tensor, key: Tensor) -> Tensor:
    return query @ key


def _scores_by_broadcasting(query: Tensor, key: Tensor) -> Tensor:
    return (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1)


def _scores_query_by_query(query: Tensor, key: Tensor) -> Tensor:
    rows = [(key @ one.unsqueeze(-1)).squeeze(-1) for one in query.unbind(-2)]
    return torch.stack(rows, -2)


def _scores_by_swapaxes(query: Tensor, key: Tensor) -> Tensor:
    return torch.matmul(key, query.swapaxes(-1, -2)).swapaxes(-1, -2)


ATTENTION_SCORES = Exercise(
    part="attention.attention_scores",
    notebook="02",
    used_by="`attention_weights`: every heatmap of this course starts as these scores",
    cases=_attention_scores_cases,
    hints=(
        "A score is the dot product of one query with one key. Row i of the result belongs to "
        "query i, column j to key j.",
        "All dot products of two sets of vectors are one matrix product: rows times columns. The "
        "keys are rows, so they must be turned round first.",
        "Turn only the last two axes: `key.transpose(-2, -1)`. Counted from the end they are the "
        "same with heads and without.",
    ),
    mistakes=(
        Mistake(
            "transpose_1_2",
            "You swap axes 1 and 2. With heads, [batch, heads, tokens, features], these are heads "
            "and tokens. Count from the end: `transpose(-2, -1)`.",
            _transpose_1_2,
        ),
        Mistake(
            "elementwise_star",
            "`*` multiplies number by number, so nothing is summed and no query meets another "
            "token's key. Use the matrix product `@`.",
            _elementwise_star,
        ),
        Mistake(
            "row_with_its_own_key",
            "You compare query i with key i only. Every query asks every key: that is a whole "
            "matrix of dot products, which `@` gives at once.",
            _row_with_its_own_key,
        ),
        Mistake(
            "keys_ask_queries",
            "You compute K Qᵀ, so the keys are the rows and the queries the columns. Rows should "
            "ask: put the query first.",
            _keys_ask_queries,
        ),
        Mistake(
            "scaled_already",
            "You divide by √d_head here. Notebook 03 does that in a step of its own, so the scores "
            "would be scaled twice. Return the dot products as they are.",
            _scaled_already,
        ),
        Mistake(
            "softmax_already",
            "You return weights: positive, each row sums to 1. The softmax is a step of its own. "
            "Return the dot products as they are.",
            _softmax_already,
        ),
        Mistake(
            "cosines",
            "You divide by the lengths of the vectors, so these are cosines, between -1 and 1. A "
            "long key should be able to score high: return the plain dot products.",
            _cosines,
        ),
        Mistake(
            "no_transpose",
            "You multiply with `key` as it is, so query features meet key tokens. Turn the last "
            "two axes of `key` first.",
            _no_transpose,
        ),
    ),
    alternatives=(_scores_by_broadcasting, _scores_query_by_query, _scores_by_swapaxes),
)

# --- mix_values ----------------------------------------------------------------------------------


def _mixed_by_einsum(weights: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("...qk,...kd->...qd", weights, value)


def _random_weights(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights that are far from equal. Each row sums to 1."""
    return torch.softmax(2 * inputs.normal(*shape, dtype=dtype), -1)


def _mix_values_cases() -> list[Case]:
    def case(title: str, weights: Tensor, value: Tensor) -> Case:
        return Case(title, {"weights": weights, "value": value}, _mixed_by_einsum)

    normal = inputs.normal
    small = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]])
    values = torch.tensor([[[4.0, 0.0], [0.0, 8.0], [-4.0, 4.0]]])
    switched_off = small * torch.tensor([1.0, 0.0, 1.0])
    return [
        case("two queries, three values", small, values),
        case("a key is switched off: rows no longer sum to 1", switched_off, values),
        case("a batch of sentences", _random_weights(2, 3, 4), normal(2, 4, 5)),
        case("a batch with heads", _random_weights(2, 3, 4, 6), normal(2, 3, 6, 5)),
        case("no batch at all", _random_weights(3, 4), normal(4, 5)),
        case("as many queries as keys", _random_weights(2, 3, 4, 4), normal(2, 3, 4, 4)),
        case("one query", _random_weights(2, 3, 1, 4), normal(2, 3, 4, 5)),
        case("one key", _random_weights(2, 3, 4, 1), normal(2, 3, 1, 5)),
        case("transposed views", _random_weights(2, 3, 4).mT, normal(2, 5, 3).mT),
        case(
            "float64",
            _random_weights(2, 3, 4, dtype=torch.float64),
            normal(2, 4, 5, dtype=torch.float64),
        ),
        case(
            "bfloat16",
            _random_weights(2, 3, 4, dtype=torch.bfloat16),
            normal(2, 4, 5, dtype=torch.bfloat16),
        ),
    ]


def _weights_transposed(weights: Tensor, value: Tensor) -> Tensor:
    return weights.mT @ value


def _sum_instead_of_weighted(weights: Tensor, value: Tensor) -> Tensor:
    return value.sum(-2, keepdim=True).expand(*weights.shape[:-1], value.shape[-1])


def _mean_instead_of_weighted(weights: Tensor, value: Tensor) -> Tensor:
    return value.mean(-2, keepdim=True).expand(*weights.shape[:-1], value.shape[-1])


def _weights_times_value(weights: Tensor, value: Tensor) -> Tensor:
    return weights * value


def _normalises_again(weights: Tensor, value: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True) @ value


def _softmax_again(weights: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(weights, -1) @ value


def _only_the_largest(weights: Tensor, value: Tensor) -> Tensor:
    chosen = F.one_hot(weights.argmax(-1), weights.shape[-1])
    return chosen.to(value.dtype) @ value


def _value_transposed(weights: Tensor, value: Tensor) -> Tensor:
    return weights @ value.mT


def _mixed_by_broadcasting(weights: Tensor, value: Tensor) -> Tensor:
    return (weights.unsqueeze(-1) * value.unsqueeze(-3)).sum(-2)


def _mixed_key_by_key(weights: Tensor, value: Tensor) -> Tensor:
    pairs = zip(weights.split(1, -1), value.split(1, -2), strict=True)
    return torch.stack([weight * one for weight, one in pairs]).sum(0)


MIX_VALUES = Exercise(
    part="attention.mix_values",
    notebook="02",
    used_by="`scaled_dot_product_attention`: its last step",
    cases=_mix_values_cases,
    hints=(
        "For one query: take every value, multiply it by the query's weight for its token, and add "
        "them all up.",
        "A row of `weights` belongs to a query and has a number for every key. A row of `value` "
        "belongs to a key. A sum of rows with weights is a matrix product.",
        "The sizes say the order: [query, key] times [key, d_value] gives [query, d_value]. "
        "Nothing has to be transposed.",
    ),
    mistakes=(
        Mistake(
            "weights_transposed",
            "You turn the weights round, so each query uses what the others gave to its own token. "
            "Rows of `weights` belong to queries: use it as it is.",
            _weights_transposed,
        ),
        Mistake(
            "sum_instead_of_weighted",
            "You add up the values and never use the weights, so every query gets the same. "
            "Multiply each value by the query's weight for it.",
            _sum_instead_of_weighted,
        ),
        Mistake(
            "mean_instead_of_weighted",
            "You average the values and never use the weights, so every query gets the same. "
            "Multiply each value by the query's weight for it, then add.",
            _mean_instead_of_weighted,
        ),
        Mistake(
            "elementwise_star",
            "`*` multiplies number by number and adds nothing up. Use the matrix product `@`.",
            _weights_times_value,
        ),
        Mistake(
            "normalises_again",
            "You divide the weights by their sum. They are already what they should be, and when "
            "somebody switches a key off to see what happens, your division would undo it.",
            _normalises_again,
        ),
        Mistake(
            "softmax_again",
            "You take the softmax of the weights, which are already the result of a softmax. A "
            "second one makes them nearly equal. Use the weights as they are.",
            _softmax_again,
        ),
        Mistake(
            "only_the_largest",
            "You fetch the value with the largest weight and drop the rest. No gradient reaches "
            "the weights that way, so nothing learns where to look. Mix all the values.",
            _only_the_largest,
        ),
        Mistake(
            "value_transposed",
            "You turn the values round, so weights for tokens meet features. The sizes already "
            "fit: [query, key] times [key, d_value].",
            _value_transposed,
        ),
    ),
    alternatives=(_mixed_by_broadcasting, _mixed_key_by_key),
)

# --- split_heads ---------------------------------------------------------------------------------


def _counting(*shape: int) -> Tensor:
    """0, 1, 2 … in reading order, so that one sees where every number went."""
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def _split_by_chunks(x: Tensor, n_heads: int) -> Tensor:
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


def _split_heads_cases() -> list[Case]:
    def case(title: str, x: Tensor, n_heads: int) -> Case:
        shown = f"split_heads(x, n_heads={n_heads})"
        return Case(title, {"x": x, "n_heads": n_heads}, _split_by_chunks, shown=shown)

    normal = inputs.normal
    return [
        case("three tokens of four features, two heads", _counting(1, 3, 4), 2),
        case("a batch of sentences", normal(2, 5, 12), 3),
        case("another length, other heads", normal(3, 2, 8), 4),
        case("as many tokens as heads", normal(2, 3, 9), 3),
        case("one head", normal(2, 3, 4), 1),
        case("heads of one feature", normal(2, 3, 4), 4),
        case("one token", normal(2, 1, 6), 3),
        case("a transposed view", normal(2, 6, 5).mT, 3),
        case("float64", normal(2, 5, 6, dtype=torch.float64), 2),
        case("bfloat16", normal(2, 5, 6, dtype=torch.bfloat16), 2),
    ]


def _reshape_without_transpose(x: Tensor, n_heads: int) -> Tensor:
    batch, tokens, d_model = x.shape
    return x.reshape(batch, n_heads, tokens, d_model // n_heads)


def _heads_last(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1))


def _interleaved(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


def _n_heads_and_d_head_swapped(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).transpose(1, 2)


def _heads_in_the_batch(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2).flatten(0, 1)


def _heads_first(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).permute(2, 0, 1, 3)


def _every_head_gets_all(x: Tensor, n_heads: int) -> Tensor:
    return x.unsqueeze(1).expand(-1, n_heads, -1, -1)


def _head_features_before_tokens(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 3, 1)


def _split_by_view(x: Tensor, n_heads: int) -> Tensor:
    batch, tokens, d_model = x.shape
    return x.view(batch, tokens, n_heads, d_model // n_heads).permute(0, 2, 1, 3)


def _split_by_slices(x: Tensor, n_heads: int) -> Tensor:
    d_head = x.shape[-1] // n_heads
    slices = [x[..., head * d_head : (head + 1) * d_head] for head in range(n_heads)]
    return torch.stack(slices, dim=1)


def _split_from_features_first(x: Tensor, n_heads: int) -> Tensor:
    return x.mT.unflatten(1, (n_heads, x.shape[-1] // n_heads)).mT.contiguous()


SPLIT_HEADS = Exercise(
    part="attention.split_heads",
    notebook="02",
    used_by="`MultiHeadAttention`, three times: for queries, keys and values",
    cases=_split_heads_cases,
    hints=(
        "With 8 features and 2 heads, head 0 gets features 0 to 3 of every token and head 1 gets "
        "features 4 to 7.",
        "Two steps: cut the last axis in two, [batch, tokens, n_heads, d_head], then move the "
        "heads in front of the tokens.",
        "`x.unflatten(-1, (n_heads, -1))` does the first step. For the second, swap axes 1 and 2 "
        "with `transpose`; another `reshape` would only tear the tokens apart.",
    ),
    mistakes=(
        Mistake(
            "reshape_without_transpose",
            "You reshape straight to [batch, n_heads, tokens, d_head]. The shape is right, but "
            "`reshape` keeps the reading order, so a head gets all features of some tokens instead "
            "of some features of all tokens. Cut the last axis first, then `transpose(1, 2)`.",
            _reshape_without_transpose,
        ),
        Mistake(
            "heads_last",
            "You cut the features into heads but leave the heads behind the tokens. Attention "
            "works on the last two axes, so these must be tokens and d_head: `transpose(1, 2)`.",
            _heads_last,
        ),
        Mistake(
            "interleaved",
            "You deal the features out like cards: head 0 gets features 0, h, 2h … A head here is "
            "a run of neighbours. Cut the last axis into (n_heads, d_head), in this order.",
            _interleaved,
        ),
        Mistake(
            "n_heads_and_d_head_swapped",
            "You cut the features into d_head runs of n_heads features. It should be n_heads runs "
            "of d_head features: swap the two numbers.",
            _n_heads_and_d_head_swapped,
        ),
        Mistake(
            "heads_in_the_batch",
            "You put heads and batch on one axis. It works, but then nobody can tell heads from "
            "sentences. Keep four axes: [batch, n_heads, tokens, d_head].",
            _heads_in_the_batch,
        ),
        Mistake(
            "heads_first",
            "Your heads are in front of the batch. The batch stays first: [batch, n_heads, tokens, "
            "d_head].",
            _heads_first,
        ),
        Mistake(
            "every_head_gets_all",
            "You give every head all the features. The heads share them: each gets d_model / "
            "n_heads of them.",
            _every_head_gets_all,
        ),
        Mistake(
            "features_before_tokens",
            "Your last two axes are d_head and tokens, in this order. A token's features belong "
            "together on the last axis: [batch, n_heads, tokens, d_head].",
            _head_features_before_tokens,
        ),
    ),
    alternatives=(_split_by_view, _split_by_slices, _split_from_features_first),
)

# --- merge_heads ---------------------------------------------------------------------------------


def _merge_by_cat(x: Tensor) -> Tensor:
    return torch.cat(x.unbind(1), dim=-1)


def _merge_heads_cases() -> list[Case]:
    def case(title: str, x: Tensor) -> Case:
        return Case(title, {"x": x}, _merge_by_cat)

    normal = inputs.normal
    return [
        case("two heads, three tokens, two features each", _counting(1, 2, 3, 2)),
        case("a batch of sentences", normal(2, 3, 5, 4)),
        case("another length, other heads", normal(3, 4, 2, 5)),
        case("as many tokens as heads", normal(2, 3, 3, 3)),
        case("what split_heads gives", normal(2, 5, 3, 4).transpose(1, 2)),
        case("one head", normal(2, 1, 3, 4)),
        case("heads of one feature", normal(2, 4, 3, 1)),
        case("one token", normal(2, 3, 1, 4)),
        case("a transposed view", normal(2, 3, 4, 5).mT),
        case("float64", normal(2, 3, 5, 4, dtype=torch.float64)),
        case("bfloat16", normal(2, 3, 5, 4, dtype=torch.bfloat16)),
    ]


def _view_without_transpose(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)


def _sums_heads(x: Tensor) -> Tensor:
    return x.sum(1)


def _averages_heads(x: Tensor) -> Tensor:
    return x.mean(1)


def _transposes_but_wrong_axes(x: Tensor) -> Tensor:
    return x.transpose(1, 3).reshape(x.shape[0], x.shape[2], -1)


def _interleaves(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(-2)


def _heads_after_each_other(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


def _forgot_flatten(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def _view_after_transpose(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    return x.transpose(1, 2).view(batch, tokens, n_heads * d_head)


def _merge_by_permute(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    return x.permute(0, 2, 1, 3).contiguous().view(batch, tokens, n_heads * d_head)


def _merge_head_by_head(x: Tensor) -> Tensor:
    batch, n_heads, tokens, d_head = x.shape
    merged = x.new_empty(batch, tokens, n_heads * d_head)
    for head in range(n_heads):
        merged[..., head * d_head : (head + 1) * d_head] = x[:, head]
    return merged


def _merge_by_einsum(x: Tensor) -> Tensor:
    return torch.einsum("bhtd->bthd", x).reshape(x.shape[0], x.shape[2], -1)


MERGE_HEADS = Exercise(
    part="attention.merge_heads",
    notebook="02",
    used_by="`MultiHeadAttention`, before its output map",
    cases=_merge_heads_cases,
    hints=(
        "It undoes `split_heads`: `merge_heads(split_heads(x, n_heads))` is `x` again.",
        "Undo the two steps in reverse order. First the tokens go back in front of the heads, then "
        "heads and features become one axis.",
        "After `x.transpose(1, 2)` the axes are [batch, tokens, n_heads, d_head]. `flatten(-2)` "
        "makes one axis of the last two.",
    ),
    mistakes=(
        Mistake(
            "view_without_transpose",
            "You reshape straight to [batch, tokens, d_model]. The shape is right, but reading on "
            "through one head you meet the next token, not the next head, so tokens are mixed. "
            "Use `transpose(1, 2)` first.",
            _view_without_transpose,
        ),
        Mistake(
            "sums_heads",
            "You add the heads up, so what they found can no longer be told apart and the width is "
            "that of one head. Put them side by side.",
            _sums_heads,
        ),
        Mistake(
            "averages_heads",
            "You average the heads, so what they found can no longer be told apart and the width "
            "is that of one head. Put them side by side.",
            _averages_heads,
        ),
        Mistake(
            "transposes_but_wrong_axes",
            "You swap axes 1 and 3, heads and features, so a row of your result is not one token. "
            "Swap 1 and 2: heads and tokens.",
            _transposes_but_wrong_axes,
        ),
        Mistake(
            "interleaves",
            "You put feature 0 of all heads first, then feature 1 of all heads. Each head's "
            "features should stay neighbours: the axes before the last step are [batch, tokens, "
            "n_heads, d_head].",
            _interleaves,
        ),
        Mistake(
            "heads_after_each_other",
            "You join heads and tokens, so the sentence gets n_heads times as long. Join heads and "
            "features instead: move the tokens forward first.",
            _heads_after_each_other,
        ),
        Mistake(
            "forgot_flatten",
            "Heads and features are still two axes. Make one of them: `flatten(-2)`.",
            _forgot_flatten,
        ),
        Mistake(
            "view_after_transpose",
            "`transpose` moves nothing in memory, it only changes the order of reading. `view` "
            "cannot join axes that do not lie side by side. Use `reshape` or `flatten`, which copy "
            "where they must.",
            _view_after_transpose,
        ),
    ),
    alternatives=(_merge_by_permute, _merge_head_by_head, _merge_by_einsum),
)

EXERCISES: tuple[Exercise, ...] = (
    PROJECT_QKV,
    ATTENTION_SCORES,
    MIX_VALUES,
    SPLIT_HEADS,
    MERGE_HEADS,
)
