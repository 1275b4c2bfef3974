"""attention.project_qkv: three roles, three maps."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "attention.project_qkv",
    used_by="`MultiHeadAttention`: every attention layer starts with it",
    hints=(
        "Three roles, three maps: a token asks with its query, is found by its key, and hands over "
        "its value.",
        "`x` asks, so the queries are made from `x`. `memory` is asked: both of its roles are made "
        "from `memory`.",
        "A map is called like a function: `query = w_q(x)`. Keys and values look the same. Return "
        "all three as a tuple, in the order of the name `project_qkv`.",
    ),
)


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


def _random_biases(width: int) -> dict[str, Tensor]:
    return {f"b_{name}": inputs.normal(width, seed=seed) for seed, name in enumerate("qkv")}


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, arguments: dict[str, Tensor], point: str = "", use: Part = _with_linear_maps
    ) -> Case:
        call = "project_qkv(x, memory, w_q, w_k, w_v)"
        return Case(title, arguments, _projected_by_einsum, use, call, point=point)

    def random(
        tokens: tuple[int, int] = (3, 4),
        features: tuple[int, int] = (5, 5),
        widths: tuple[int, int, int] = (5, 5, 5),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        pairs = enumerate(zip(tokens, features, strict=True))
        x, memory = (inputs.normal(2, *size, seed=seed, dtype=dtype) for seed, size in pairs)
        return _random_projection(x, memory, widths)

    small = {
        "x": torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]),
        "memory": torch.tensor([[[0.0, 1.0], [2.0, 2.0], [-1.0, 4.0]]]),
        "w_q": torch.tensor([[1.0, 1.0], [0.0, 2.0]]),
        "w_k": torch.tensor([[0.0, 1.0], [3.0, 0.0]]),
        "w_v": torch.tensor([[1.0, -1.0], [0.0, 1.0]]),
    }
    wide, long = inputs.normal(3, 6, 2).mT, inputs.normal(3, 5, 4).mT
    called = (
        "A map may be a layer with a bias, without one, or a plain function: call it, `w_q(x)`, "
        "and read nothing out of it."
    )
    widths = (
        "Queries, keys and values are as wide as their maps make them, whatever the width of `x`, "
        "and `memory` may have other features than `x`."
    )
    always = (
        "Keys and values come from `memory`, always. That it has the shape of `x`, or even its "
        "numbers, does not make it `x`."
    )
    of_one, dtypes = points.AXIS_OF_ONE, points.SAME_DTYPE
    return [
        case("two tokens ask three others", small),
        case("a batch of sentences", random()),
        case("more tokens ask", random(tokens=(6, 2))),
        case("self-attention: the memory is x", small | {"memory": small["x"]}, always),
        case("as many tokens in both", random(tokens=(4, 4)), always),
        case("maps with a bias", random() | _random_biases(5), called),
        case("maps that are plain functions", small, called, _with_functions),
        case("maps to other widths", random(widths=(6, 6, 8)), widths),
        case("a memory of other features", random(features=(5, 7)), widths),
        case("transposed views", _random_projection(wide, long, (3, 3, 3)), points.OTHER_ORDER),
        case("one token asks", random(tokens=(1, 4)), of_one),
        case("one token is asked", random(tokens=(3, 1)), of_one),
        case("float64", random(dtype=torch.float64), dtypes),
        case("bfloat16", random(dtype=torch.bfloat16), dtypes),
    ]


@exercise.mistake(
    "You use `w_q` for all three, so a token's question, its label and its content are the "
    "same vector. Each role has its own map: `w_k` makes keys, `w_v` makes values."
)
def same_weight_three_times(x, memory, w_q, w_k, w_v):
    return w_q(x), w_q(memory), w_q(memory)


@exercise.mistake(
    "You project what was already projected: the key is made from the query, and the value "
    "from the key. All of them start from the inputs: `w_k(memory)`, `w_v(memory)`."
)
def projects_q_again(x, memory, w_q, w_k, w_v):
    query = w_q(x)
    key = w_k(query)
    return query, key, w_v(key)


@exercise.mistake(
    "You make keys and values from `x` and never read `memory`. That is right only where "
    "both are the same. Keys and values come from `memory`."
)
def everything_from_x(x, memory, w_q, w_k, w_v):
    return w_q(x), w_k(x), w_v(x)


@exercise.mistake(
    "You make the queries from `memory` as well, so `x` is never read. `x` is what asks: "
    "make the queries from it."
)
def everything_from_memory(x, memory, w_q, w_k, w_v):
    return w_q(memory), w_k(memory), w_v(memory)


@exercise.mistake(
    "You swapped the two inputs: `memory` asks and `x` is asked. Queries come from `x`, "
    "keys and values from `memory`."
)
def queries_from_memory(x, memory, w_q, w_k, w_v):
    return w_q(memory), w_k(x), w_v(x)


@exercise.mistake(
    "Your keys come from `memory` but your values from `x`, so a weight that was found for "
    "one token would fetch the content of another. Make both from `memory`."
)
def values_from_x(x, memory, w_q, w_k, w_v):
    return w_q(x), w_k(memory), w_v(x)


@exercise.mistake(
    "Your keys are made with `w_v` and your values with `w_k`. Return the query, then the "
    "key, then the value."
)
def key_and_value_swapped(x, memory, w_q, w_k, w_v):
    return w_q(x), w_v(memory), w_k(memory)


@exercise.mistake(
    "You multiply with `weight` as it is stored, which is [d_out, d_in], so every answer "
    "is made from a column of it. The map knows its own layout: call it, `w_q(x)`."
)
def forgot_transpose(x, memory, w_q, w_k, w_v):
    return x @ w_q.weight, memory @ w_k.weight, memory @ w_v.weight


@exercise.mistake(
    "You multiply with the weight only, and a map that has a bias loses it. Call the map: "
    "`w_q(x)` does all that belongs to it."
)
def bias_ignored(x, memory, w_q, w_k, w_v):
    return x @ w_q.weight.T, memory @ w_k.weight.T, memory @ w_v.weight.T


@exercise.mistake(
    "You take `weight` and `bias` out of the maps, and a map that is a plain function has "
    "none. Call the map, `w_q(x)`, then any map can be used."
)
def reaches_inside(x, memory, w_q, w_k, w_v):
    return tuple(
        F.linear(of, w.weight, w.bias) for of, w in ((x, w_q), (memory, w_k), (memory, w_v))
    )


@exercise.mistake(
    "Your keys and values are as many as the tokens of `x`, and the rest of the memory is lost. "
    "There is a key and a value for every token of `memory`."
)
def memory_cut_to_the_length_of_x(x, memory, w_q, w_k, w_v):
    memory = memory[:, : x.shape[1]]
    return w_q(x), w_k(memory), w_v(memory)


@exercise.alternative
def projects_in_a_loop(x, memory, w_q, w_k, w_v):
    pairs = ((x, w_q), (memory, w_k), (memory, w_v))
    return tuple(apply(of) for of, apply in pairs)


@exercise.alternative
def projects_row_by_row(x, memory, w_q, w_k, w_v):
    query = torch.stack([w_q(row) for row in x])
    key = torch.stack([w_k(row) for row in memory])
    value = torch.stack([w_v(row) for row in memory])
    return query, key, value
