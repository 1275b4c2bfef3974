"""encoder.residual_step: what a layer finds is added to the stream."""

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "encoder.residual_step",
    used_by="`TransformerBlock` and `DecoderBlock`: twice or three times in every block",
    hints=(
        "In both orders there is one sum: the stream `x` as it came, plus what the sublayer makes.",
        "Pre-norm: the sublayer reads `norm(x)`, and its output is added to `x` itself.",
        "Post-norm: the sublayer reads `x`, and the norm comes after the sum, around all of it.",
    ),
)


def _doubled(x: Tensor) -> Tensor:
    return 2 * x + 1


def _halved(x: Tensor) -> Tensor:
    return (x - 4) / 2


def _use_functions(part: Part, x: Tensor, **how: bool) -> Any:
    return part(x, _doubled, _halved, **how)


def _step_of_functions(x: Tensor, norm_first: bool = True) -> Tensor:
    """x + 2 (x - 4) / 2 + 1, or (x + 2 x + 1 - 4) / 2."""
    return 2 * x - 3 if norm_first else 1.5 * x - 1.5


def _use_step(
    part: Part, x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, norm_first: bool
) -> Any:
    def norm(stream: Tensor) -> Tensor:
        return F.layer_norm(stream, gain.shape, gain, bias)

    return part(x, lambda stream: _attend_and_map(stream, weight), norm, norm_first)


def _how_often_called(part: Part, x: Tensor, norm_first: bool) -> dict[str, int]:
    calls = []

    def counted(name: str, function: Part) -> Part:
        def call(stream: Tensor) -> Tensor:
            calls.append(name)
            return function(stream)

        return call

    part(x, counted("sublayer", _doubled), counted("norm", _halved), norm_first)
    if len(set(calls)) < len(calls):
        raise Wrong(f"Call the sublayer once and the norm once. Yours calls: {', '.join(calls)}.")
    return {"sublayer": 1, "norm": 1}


def _attend_and_map(stream: Tensor, weight: Tensor) -> Tensor:
    """A sublayer that mixes tokens and features. Its gradient needs what it returned."""
    return F.scaled_dot_product_attention(stream, stream, F.linear(stream, weight)).tanh()


def _step_by_torch(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, norm_first: bool
) -> Tensor:
    if norm_first:
        return torch.add(x, _attend_and_map(F.layer_norm(x, gain.shape, gain, bias), weight))
    return F.layer_norm(torch.add(x, _attend_and_map(x, weight)), gain.shape, gain, bias)


@exercise.cases
def cases() -> list[Case]:
    pre = (
        "Pre-norm: only the sublayer reads the norm, and what it makes is added to `x` as it came."
    )
    post = (
        "Post-norm: the sublayer reads `x` as it came, and the norm comes last, around the whole "
        "sum."
    )
    new_tensor = (
        "A sublayer may return what it was given, or need later what it returned: add with `+`, "
        "which makes a new tensor, not with `+=`."
    )

    once = (
        "Sublayer and norm are called once each: a sublayer is most of the work, and may not give "
        "the same twice. Ask for `norm_first` before you call anything."
    )

    def small(title: str, point: str, **how: bool) -> Case:
        arguments = {"x": torch.tensor([[[1.0, 2.0], [-3.0, 5.0]]]), **how}
        extra = "".join(f", {name}={value}" for name, value in how.items())
        call = f"residual_step(x, lambda x: 2 * x + 1, lambda x: (x - 4) / 2{extra})"
        return Case(title, arguments, _step_of_functions, _use_functions, call, point=point)

    def post_norm(title: str, text: str, sublayer: Part, oracle: Part, point: str) -> Case:
        call = f"residual_step(x, lambda x: {text}, lambda x: (x - 4) / 2, False)"
        use = lambda part, x: part(x, sublayer, _halved, False)  # noqa: E731
        arguments = {"x": torch.tensor([[[1.0, 2.0], [-3.0, 5.0]]])}
        return Case(title, arguments, oracle, use, call, point=point)

    def case(title: str, x: Tensor, norm_first: bool, point: str) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        arguments = {
            "x": x,
            "weight": inputs.normal(d_model, d_model, seed=1, dtype=dtype),
            "gain": 2 * inputs.normal(d_model, seed=2, dtype=dtype),
            "bias": 2 * inputs.normal(d_model, seed=3, dtype=dtype),
            "norm_first": norm_first,
        }
        call = f"residual_step(x, sublayer, norm, {norm_first})"
        return Case(title, arguments, _step_by_torch, _use_step, call, point=point)

    def calls(title: str, norm_first: bool) -> Case:
        arguments = {"x": inputs.normal(2, 3), "norm_first": norm_first}
        call = f"calls made by residual_step(x, sublayer, norm, {norm_first})"
        oracle = lambda x, norm_first: {"sublayer": 1, "norm": 1}  # noqa: E731
        return Case(title, arguments, oracle, _how_often_called, call, point=once)

    normal = inputs.normal
    return [
        small("two plain functions", pre),
        small("the same, post-norm", post, norm_first=False),
        small("the same, pre-norm", pre, norm_first=True),
        post_norm(
            "a sublayer that returns what it reads", "x", lambda x: x, lambda x: x - 2, new_tensor
        ),
        post_norm(
            "a sublayer with nothing to say", "0 * x", lambda x: 0 * x, lambda x: x / 2 - 2, post
        ),
        case("pre-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), True, pre),
        case("post-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), False, post),
        case("pre-norm, one token", normal(3, 1, 5) + 2, True, pre),
        case("post-norm, a transposed view", normal(2, 5, 3).mT, False, post),
        calls("pre-norm, each called once", True),
        calls("post-norm, each called once", False),
    ]


@exercise.holds
def _keeps_the_digits_of_float64(part: Part) -> None:
    x = inputs.normal(2, 3, 4, dtype=torch.float64)
    for norm_first in (True, False):
        seen, wanted = (
            step(x, _doubled, _halved, norm_first) for step in (part, step_with_branches)
        )
        if seen.dtype != x.dtype or not torch.allclose(seen, wanted, rtol=1e-8, atol=1e-9):
            raise Wrong(
                "Your numbers are right in float32, but float64 does not come back as exact as it "
                "came: something on the way is float32."
            )


@exercise.mistake(
    "You do not look at `norm_first`: yours is always pre-norm. Where it is False the norm "
    "comes last: `norm(x + sublayer(x))`."
)
def always_pre(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x))


@exercise.mistake(
    "You do not look at `norm_first`: yours is always post-norm. Where it is True the "
    "sublayer reads `norm(x)`, and nothing comes after the sum."
)
def always_post(x, sublayer, norm, norm_first=True):
    return norm(x + sublayer(x))


@exercise.mistake(
    "Both orders are there, but each where the other belongs. `norm_first` means that the "
    "norm comes before the sublayer."
)
def inverted_choice(x, sublayer, norm, norm_first=True):
    return norm(x + sublayer(x)) if norm_first else x + sublayer(norm(x))


def _pre_norm(x, sublayer, norm):
    return x + sublayer(norm(x))


def _pre_norm_of_the_stream(x, sublayer, norm):
    x = norm(x)
    return x + sublayer(x)


def _post_norm(x, sublayer, norm):
    return norm(x + sublayer(x))


PRE: dict[str, tuple[Part, str]] = {
    "": (_pre_norm, ""),
    "pre_without_stream": (
        lambda x, sublayer, norm: sublayer(norm(x)),
        "Your pre-norm is f(norm(x)), without the stream: what is not added is lost for all later "
        "blocks. Add `x`.",
    ),
    "pre_adds_to_the_norm": (
        _pre_norm_of_the_stream,
        "Your pre-norm adds to the normed stream. Only the sublayer reads the norm: add to `x` as "
        "it came.",
    ),
    "pre_norms_the_output": (
        lambda x, sublayer, norm: x + norm(sublayer(x)),
        "Your pre-norm is x + norm(f(x)). The norm comes before the sublayer: x + f(norm(x)).",
    ),
    "pre_without_norm": (
        lambda x, sublayer, norm: x + sublayer(x),
        "Your pre-norm never uses `norm`: x + f(norm(x)).",
    ),
}
POST: dict[str, tuple[Part, str]] = {
    "": (_post_norm, ""),
    "post_without_stream": (
        lambda x, sublayer, norm: norm(sublayer(x)),
        "Your post-norm is norm(f(x)), without the stream that was read: norm(x + f(x)).",
    ),
    "post_norms_the_stream": (
        lambda x, sublayer, norm: norm(x) + sublayer(x),
        "Your post-norm is norm(x) + f(x). The norm goes around the whole sum: norm(x + f(x)).",
    ),
    "post_norms_the_output": (
        lambda x, sublayer, norm: x + norm(sublayer(x)),
        "Your post-norm is x + norm(f(x)). The norm goes around the sum: norm(x + f(x)).",
    ),
    "post_with_two_norms": (
        lambda x, sublayer, norm: norm(x + sublayer(norm(x))),
        "Your post-norm has a norm before the sublayer too. There is one: norm(x + f(x)).",
    ),
    "post_without_norm": (
        lambda x, sublayer, norm: x + sublayer(x),
        "Your post-norm never uses `norm`: norm(x + f(x)).",
    ),
}


def _add_wrong_orders() -> None:
    """Each order can be wrong in its own way, the other right or wrong as well."""
    for first, last in product(PRE, POST):
        (pre, of_pre), (post, of_post) = PRE[first], POST[last]
        name = "_and_".join(filter(None, (first, last)))
        if name:
            exercise.mistake(f"{of_pre} {of_post}".strip())(_by_order(name, pre, post))


def _by_order(name: str, pre: Part, post: Part) -> Part:
    def step(x, sublayer, norm, norm_first=True):
        return (pre if norm_first else post)(x, sublayer, norm)

    step.__name__ = name
    return step


_add_wrong_orders()


@exercise.mistake("You subtract what the sublayer makes. Add it.")
def subtracts(x, sublayer, norm, norm_first=True):
    return x - sublayer(norm(x)) if norm_first else norm(x - sublayer(x))


@exercise.mistake(
    "Your numbers are right, but `x += …` changes the caller's tensor. Write `x + …`."
)
def adds_in_place(x, sublayer, norm, norm_first=True):
    if norm_first:
        x += sublayer(norm(x))
        return x
    x += sublayer(x)
    return norm(x)


@exercise.mistake(
    "`+=` writes into what the sublayer returned. That may be `x` itself, and its gradient may "
    "still need it. Write `x + …`, which makes a new tensor."
)
def adds_to_what_was_returned(x, sublayer, norm, norm_first=True):
    written = sublayer(norm(x)) if norm_first else sublayer(x)
    written += x
    return written if norm_first else norm(written)


@exercise.alternative
def step_with_branches(x, sublayer, norm, norm_first=True):
    if norm_first:
        written = sublayer(norm(x))
        return written + x
    x = x + sublayer(x)
    return norm(x)


@exercise.alternative
def step_with_two_places(x, sublayer, norm, norm_first=True):
    def nothing(stream):
        return stream

    before, after = (norm, nothing) if norm_first else (nothing, norm)
    return after(torch.stack([x, sublayer(before(x))]).sum(0))
