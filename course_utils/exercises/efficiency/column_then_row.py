"""efficiency.column_then_row: one feed-forward net on several machines."""

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "efficiency.column_then_row",
    used_by="a layer that is too large for one machine: `train --parallel tensor` splits it so",
    hints=(
        "A hidden feature is a row of `up` and a column of `down`. Give each machine some of the "
        "hidden features, with both.",
        "`up.chunk(n_parts, 0)` are the rows of each machine, `down.chunk(n_parts, 1)` its "
        "columns.",
        "A machine computes `gelu(x @ rows.T) @ columns.T`. That has the whole shape of the output "
        "and is one term of a sum: GELU takes each hidden feature alone, so nothing is missing.",
        "Add up what all machines have: `total = total + …` in a loop, or `torch.stack(…).sum(0)`.",
    ),
)

BENDS = "gelu", "erf", "special_erf"
COMPUTES = {
    *BENDS,
    *("matmul", "rmatmul", "linear", "mm", "bmm", "addmm", "baddbmm", "einsum"),
    *("tensordot", "inner", "tanh", "mul", "rmul", "multiply"),
}
"""Functions that compute. All others move numbers, or add them up."""


class Watch(TorchFunctionMode):
    """Sees the first computation that has other hidden features than those of one machine."""

    def __init__(self, n_hidden: int, n_parts: int):
        super().__init__()
        self.n_hidden, self.n_each = n_hidden, n_hidden // n_parts
        self.fault = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        shapes = [list(one.shape) for one in _tensors([*args, *(kwargs or {}).values()])]
        if not self.fault and name in COMPUTES:
            what = " with ".join(" × ".join(map(str, sorted(shape))) for shape in shapes)
            if any(self.n_hidden in shape for shape in shapes):
                self.fault = (
                    f"in {what} numbers your code has all {self.n_hidden} hidden features at once"
                )
            elif name in BENDS and self.n_each not in shapes[0]:
                self.fault = f"in {what} numbers your code has another number of hidden features"
        return func(*args, **(kwargs or {}))


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, shape: tuple[int, ...], n_hidden: int, d_out: int, n: int, **more: Any):
        dtype, point = more.get("dtype", torch.float32), more.get("point", "")
        d = shape[-1]
        arguments = {
            "x": inputs.normal(*shape, dtype=dtype),
            "up": 2 * inputs.normal(n_hidden, d, seed=1, dtype=dtype) / math.sqrt(d),
            "down": 2 * inputs.normal(d_out, n_hidden, seed=2, dtype=dtype) / math.sqrt(n_hidden),
            "n_parts": n,
        }
        arguments |= {name: more["change"](arguments[name]) for name in more.get("names", ())}
        call = f"column_then_row(x, up, down, {n})"
        return Case(title, arguments, _whole_net, _use, call, point=point)

    alone = (
        "Each machine has its share of the hidden features, of which GELU takes each alone, and "
        "never sees those of the others."
    )
    any_number = "`n_parts` says into how many pieces the hidden features go, also into one each."
    one_machine = "One machine has all of it."
    any_batch = "Before the features x may have any number of axes, or none."
    other_order = {"names": ("up", "down"), "change": _in_another_order}
    return [
        case("two machines", (3, 4), 8, 5, 2),
        case("two machines, as wide as before", (2, 6), 14, 6, 2),
        case("three machines", (5, 4), 12, 7, 3, point=alone),
        case("four machines", (7, 8), 20, 3, 4, point=alone),
        case("as many machines as hidden features", (4, 3), 5, 2, 5, point=any_number),
        case("seven machines", (2, 9), 21, 5, 7, point=any_number),
        case("one machine", (3, 5), 11, 4, 1, point=one_machine),
        case("one hidden feature", (3, 2), 1, 4, 1, point=one_machine),
        case("a batch of texts", (2, 5, 4), 18, 3, 3, point=any_batch),
        case("four axes", (2, 1, 3, 4), 15, 6, 5, point=any_batch),
        case("one token alone", (6,), 10, 4, 2, point=any_batch),
        case("all sizes but one are alike", (4, 4), 8, 4, 4, point=points.EQUAL_SIZES),
        case("transposed views", (3, 4), 10, 6, 5, point=points.OTHER_ORDER, **other_order),
        case("float64", (3, 4), 16, 5, 4, point=points.FLOAT64, dtype=torch.float64),
    ]


def _in_another_order(weight: Tensor) -> Tensor:
    return weight.T.contiguous().T


def _whole_net(x: Tensor, up: Tensor, down: Tensor, n_parts: int) -> Tensor:
    return F.linear(F.gelu(F.linear(x, up)), down)


def _use(part: Part, x: Tensor, up: Tensor, down: Tensor, n_parts: int) -> Any:
    """Where the result is right, it still may be that no machine had less than the whole.

    With as many machines as hidden features a shape does not say which of them it counts.
    """
    with Watch(len(up), n_parts) as watch:
        found = part(x, up, down, n_parts)
    if 1 < n_parts < len(up) and watch.fault and _is_right(found, x, up, down, n_parts):
        raise Wrong(
            f"The result is right, but {watch.fault}. Each of {n_parts} machines should have "
            f"{len(up) // n_parts}."
        )
    return found


def _is_right(found: Any, x: Tensor, up: Tensor, down: Tensor, n_parts: int) -> bool:
    wanted = _whole_net(x, up, down, n_parts)
    alike = isinstance(found, Tensor) and found.shape == wanted.shape
    return alike and torch.allclose(found, wanted.to(found.dtype), rtol=1e-3, atol=1e-4)


def _pieces(up, down, n_parts):
    return list(zip(up.chunk(n_parts, 0), down.chunk(n_parts, 1), strict=True))


def _terms(x, up, down, n_parts, bend=F.gelu):
    return [bend(x @ rows.T) @ columns.T for rows, columns in _pieces(up, down, n_parts)]


@exercise.mistake(
    "You split the features of x first, and add up after GELU. The pieces are parts of one sum "
    "then, and GELU of a sum is not the sum of GELUs. Split the hidden features."
)
def row_then_column(x, up, down, n_parts):
    n = math.gcd(x.shape[-1], n_parts) if n_parts > 1 else 1
    n = n if n > 1 or n_parts == 1 else x.shape[-1]
    pieces = zip(x.chunk(n, -1), up.chunk(n, 1), strict=True)
    hidden = sum(F.gelu(features @ columns.T) for features, columns in pieces)
    return hidden @ down.T


@exercise.mistake(
    "You return what one machine has. It is one term of a sum, of the right shape: add up what all "
    "of them have."
)
def no_final_sum(x, up, down, n_parts):
    return _terms(x, up, down, n_parts)[-1]


@exercise.mistake(
    "You return what the first machine has: a `return` inside the loop ends it. Add up what all of "
    "them have."
)
def first_machine_only(x, up, down, n_parts):
    return _terms(x, up, down, n_parts)[0]


@exercise.mistake(
    "You give the machines some rows of the batch each. That is data parallelism: every machine "
    "would need both matrices whole."
)
def splits_batch(x, up, down, n_parts):
    return torch.cat([F.gelu(x[i : i + 1] @ up.T) @ down.T for i in range(len(x))])


@exercise.mistake(
    "Your result is right, and `n_parts` changes nothing in how it is computed: every machine "
    "would need both matrices whole."
)
def ignores_n_parts(x, up, down, n_parts):
    return F.gelu(x @ up.T) @ down.T


@exercise.mistake(
    "Your pieces have `n_parts` hidden features each. `n_parts` is how many pieces there are: "
    "`chunk(n_parts, …)` makes so many, `split(n_parts, …)` makes pieces of that size."
)
def pieces_of_that_size(x, up, down, n_parts):
    return sum(_terms(x, up, down, -(-len(up) // n_parts)))


@exercise.mistake(
    "You always have two machines. There are `n_parts` of them: a loop, or `chunk(n_parts, …)`."
)
def always_two(x, up, down, n_parts):
    return sum(_terms(x, up, down, 2))


@exercise.mistake(
    "You put the hidden features of all machines together before `down`. That is one exchange too "
    "many, and a large one: each can multiply its own with its columns of `down`."
)
def gathers_between(x, up, down, n_parts):
    return torch.cat([F.gelu(x @ rows.T) for rows in up.chunk(n_parts, 0)], -1) @ down.T


@exercise.mistake(
    "You put the hidden features of all machines together before GELU, which takes each alone. "
    "Each machine can bend its own, and multiply them with its columns of `down`."
)
def gathers_before_gelu(x, up, down, n_parts):
    hidden = F.gelu(torch.cat([x @ rows.T for rows in up.chunk(n_parts, 0)], -1))
    return sum(
        own @ columns.T
        for own, columns in zip(hidden.chunk(n_parts, -1), down.chunk(n_parts, 1), strict=True)
    )


@exercise.mistake(
    "You apply GELU to the output, and not to the hidden features: it stands between both maps."
)
def gelu_only_at_the_end(x, up, down, n_parts):
    return F.gelu(sum(_terms(x, up, down, n_parts, bend=lambda hidden: hidden)))


@exercise.mistake("You take the mean of what the machines have. Their terms have to be added up.")
def mean_of_the_machines(x, up, down, n_parts):
    return torch.stack(_terms(x, up, down, n_parts)).mean(0)


@exercise.mistake(
    "You put the machines' outputs beside each other. Each has the whole width of the output: they "
    "are terms of a sum."
)
def puts_side_by_side(x, up, down, n_parts):
    return torch.cat(_terms(x, up, down, n_parts), -1)


@exercise.mistake(
    "You return a list of what the machines have, with the sum left to do. Add them up."
)
def stacks_the_machines(x, up, down, n_parts):
    return torch.stack(_terms(x, up, down, n_parts))


@exercise.mistake("You left out GELU: without it both matrices are one linear map.")
def forgot_gelu(x, up, down, n_parts):
    return sum(_terms(x, up, down, n_parts, bend=lambda hidden: hidden))


@exercise.mistake("You apply GELU once more, to what each machine has at the end.")
def gelu_at_the_end(x, up, down, n_parts):
    return sum(map(F.gelu, _terms(x, up, down, n_parts)))


@exercise.mistake("You use ReLU. Between both maps stands GELU.")
def relu_for_gelu(x, up, down, n_parts):
    return sum(_terms(x, up, down, n_parts, bend=F.relu))


@exercise.mistake(
    "The pieces of `down` are not those of `up`: a machine multiplies its hidden features with "
    "columns that belong to another's."
)
def columns_of_another(x, up, down, n_parts):
    rows, columns = up.chunk(n_parts, 0), reversed(down.chunk(n_parts, 1))
    return sum(F.gelu(x @ one.T) @ other.T for one, other in zip(rows, columns, strict=True))


@exercise.alternative
def split_in_a_loop(x, up, down, n_parts):
    width = up.shape[0] // n_parts
    y = torch.zeros(*x.shape[:-1], down.shape[0], dtype=x.dtype)
    for machine in range(n_parts):
        start, end = machine * width, (machine + 1) * width
        h = F.gelu(F.linear(x, up[start:end]))
        y = y + F.linear(h, down[:, start:end])
    return y


@exercise.alternative
def split_by_reduce(x, up, down, n_parts):
    def machine(pair):
        rows, columns = pair
        return torch.matmul(F.gelu(torch.matmul(x, rows.t())), columns.t())

    return functools.reduce(torch.add, map(machine, _pieces(up, down, n_parts)))


@exercise.alternative
def split_by_einsum(x, up, down, n_parts):
    ups = up.unflatten(0, (n_parts, -1))
    downs = down.unflatten(1, (n_parts, -1))
    hidden = F.gelu(torch.einsum("...d,phd->p...h", x, ups))
    return torch.einsum("p...h,oph->...o", hidden, downs)


@exercise.alternative
def split_every_nth(x, up, down, n_parts):
    """Which hidden features a machine has is free."""
    terms = [F.gelu(x @ up[i::n_parts].T) @ down[:, i::n_parts].T for i in range(n_parts)]
    return torch.stack(terms).sum(dim=0)
