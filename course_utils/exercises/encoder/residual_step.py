"""encoder.residual_step: what a layer finds is added to the stream."""

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
    calls = []

    def sublayer(stream: Tensor) -> Tensor:
        calls.append("sublayer")
        return _attend_and_map(stream, weight)

    def norm(stream: Tensor) -> Tensor:
        calls.append("norm")
        return F.layer_norm(stream, gain.shape, gain, bias)

    result = part(x, sublayer, norm, norm_first)
    if isinstance(result, Tensor) and len(set(calls)) < len(calls):
        raise Wrong(f"Call the sublayer once and the norm once. Yours calls: {', '.join(calls)}.")
    return result


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
    def small(title: str, **how: bool) -> Case:
        arguments = {"x": torch.tensor([[[1.0, 2.0], [-3.0, 5.0]]]), **how}
        extra = "".join(f", {name}={value}" for name, value in how.items())
        call = f"residual_step(x, lambda x: 2 * x + 1, lambda x: (x - 4) / 2{extra})"
        return Case(title, arguments, _step_of_functions, _use_functions, call)

    def post_norm(title: str, text: str, sublayer: Part, oracle: Part) -> Case:
        call = f"residual_step(x, lambda x: {text}, lambda x: (x - 4) / 2, False)"
        use = lambda part, x: part(x, sublayer, _halved, False)  # noqa: E731
        return Case(title, {"x": torch.tensor([[[1.0, 2.0], [-3.0, 5.0]]])}, oracle, use, call)

    def case(title: str, x: Tensor, norm_first: bool) -> Case:
        d_model, dtype = x.shape[-1], x.dtype
        arguments = {
            "x": x,
            "weight": inputs.normal(d_model, d_model, seed=1, dtype=dtype),
            "gain": 2 * inputs.normal(d_model, seed=2, dtype=dtype),
            "bias": 2 * inputs.normal(d_model, seed=3, dtype=dtype),
            "norm_first": norm_first,
        }
        call = f"residual_step(x, sublayer, norm, {norm_first})"
        return Case(title, arguments, _step_by_torch, _use_step, call)

    normal = inputs.normal
    return [
        small("two plain functions"),
        small("the same, post-norm", norm_first=False),
        small("the same, pre-norm", norm_first=True),
        post_norm("a sublayer that returns what it reads", "x", lambda x: x, lambda x: x - 2),
        post_norm("a sublayer with nothing to say", "0 * x", lambda x: 0 * x, lambda x: x / 2 - 2),
        case("pre-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), True),
        case("post-norm, a sublayer that mixes tokens", 2 * normal(2, 3, 4), False),
        case("pre-norm, one token", normal(3, 1, 5) + 2, True),
        case("post-norm, a transposed view", normal(2, 5, 3).mT, False),
        case("pre-norm, float64", normal(2, 3, 4, dtype=torch.float64), True),
        case("post-norm, float64", normal(2, 3, 4, dtype=torch.float64), False),
    ]


@exercise.mistake(
    "You return what the sublayer makes without the stream that it read. Add `x`: what is "
    "not added is lost for all later blocks."
)
def forgot_residual(x, sublayer, norm, norm_first=True):
    return sublayer(norm(x)) if norm_first else norm(sublayer(x))


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


@exercise.mistake(
    "Your post-norm is norm(x) + f(x). The norm of 2017 goes around the whole sum: norm(x + f(x))."
)
def post_as_pre(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else norm(x) + sublayer(x)


@exercise.mistake(
    "Your pre-norm adds to the normed stream: norm(x) + f(norm(x)). Only the sublayer "
    "reads the norm. Add to `x` itself, which runs through all blocks untouched."
)
def residual_from_normed(x, sublayer, norm, norm_first=True):
    if norm_first:
        x = norm(x)
        return x + sublayer(x)
    return norm(x + sublayer(x))


@exercise.mistake("Your post-norm is x + norm(f(x)). The norm goes around the sum: norm(x + f(x)).")
def norm_on_output(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else x + norm(sublayer(x))


@exercise.mistake(
    "Your pre-norm is x + norm(f(x)). The norm comes before the sublayer: x + f(norm(x))."
)
def norm_after_sublayer_first(x, sublayer, norm, norm_first=True):
    return x + norm(sublayer(x)) if norm_first else norm(x + sublayer(x))


@exercise.mistake(
    "Your post-norm has a norm before the sublayer too. There is one: norm(x + f(x))."
)
def both_norms(x, sublayer, norm, norm_first=True):
    return x + sublayer(norm(x)) if norm_first else norm(x + sublayer(norm(x)))


@exercise.mistake("You never use `norm`.")
def no_norm(x, sublayer, norm, norm_first=True):
    return x + sublayer(x)


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
