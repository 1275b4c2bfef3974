"""efficiency.scaled_step: float16 has no small numbers, so the loss is made large first."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from course_utils import training
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "efficiency.scaled_step",
    used_by="training in float16 whose small gradients do not vanish",
    hints=(
        "First `optimiser.zero_grad()`, then `(loss * scale).backward()`: by the chain rule every "
        "gradient is `scale` times as large, on the whole way back.",
        "The weights are in `optimiser.param_groups`: `for group in optimiser.param_groups: for "
        "weight in group['params']`. Some may have no gradient: theirs is None.",
        "`gradient.isfinite().all()` says whether a gradient has neither infinity nor NaN. If one "
        "has: `return scale / 2`, and neither clip nor step.",
        "Else `gradient.div_(scale)` for each, then `training.clip_gradients(weights, max_norm)`, "
        "`optimiser.step()`, and return the scale. Clipping comes after dividing: `max_norm` is "
        "the length of the true gradients.",
    ),
)

MakeOptimiser = Callable[[list[nn.Parameter]], Optimizer]
LEARNED = "weight", "bias", "gain"


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        scale: float,
        max_norm: float = 100.0,
        point: str = "",
        spikes: tuple[float, ...] = (2.0, -1.0, 0.5),
        seed: int = 0,
        **more: Any,
    ) -> Case:
        arguments = {
            "x": inputs.normal(2, 3, seed=seed),
            "targets": inputs.normal(2, 4, seed=seed + 1),
            "weight": inputs.normal(4, 3, seed=seed + 2),
            "bias": inputs.normal(4, seed=seed + 3),
            "gain": inputs.normal(len(spikes), seed=seed + 4),
            "spikes": torch.tensor(spikes),
            "scale": scale,
            "max_norm": max_norm,
        }
        values = "The scale that you return", *(f"`{name}`, after your code," for name in LEARNED)
        n_steps = more.get("n_steps", 1)
        times = f", {n_steps} times" if n_steps > 1 else ""
        call = f"(scaled_step(loss, optimiser, {scale:g}, {max_norm:g}), *weights){times}"
        use, oracle = partial(_use, **more), partial(_by_torch, **more)
        return Case(title, arguments, oracle, use, call, values, point)

    momentum: dict[str, Any] = {"make_optimiser": partial(SGD, lr=0.1, momentum=0.9), "n_steps": 3}
    adamw: dict[str, Any] = {"make_optimiser": partial(AdamW, lr=0.05, weight_decay=0.1)}
    large, small = (1.0, 300.0, -2.0), 1e-6
    vanish = (
        "float16 has no numbers between 0 and 6e-8. The loss is scaled before `backward`, so that "
        "no gradient on the way falls into that gap."
    )
    true_length = (
        "`max_norm` is a length of the true gradients, all of them together: divide by the scale "
        "first, then clip."
    )
    not_finite = (
        "A step whose gradients are infinite, or no numbers, is left out: no weight moves, and the "
        "scale that is returned is half of the one given."
    )
    any_of_them = (
        "One number of one gradient is enough, whether it is infinity, minus infinity or NaN, and "
        "whatever the loss is: look at all of them."
    )
    cleared = (
        "Whatever lies in `grad` when the step begins does not count, as after a step that was "
        "left out: clear it first."
    )
    optimiser_kept = (
        "The optimiser may be any, with what it keeps between its steps. It is called for steps "
        "that are made, and its learning rate stays as it is."
    )
    its_weights = (
        "The weights are those in all groups of the optimiser. One that the loss does not use has "
        "None as its gradient."
    )
    nothing = "All gradients may be 0: then their length is 0, and nobody may divide by it."
    return [
        case("a scale of 1", 1.0),
        case("a scale of 1024", 1024.0, seed=5),
        case("a scale of 8", 8.0, seed=10),
        case("gradients that vanish", 2.0**16, point=vanish, size=small, spikes=(0.1,)),
        case("gradients that vanish, AdamW", 2.0**20, point=vanish, size=small, seed=3, **adamw),
        case("clipped", 256.0, 0.5, true_length),
        case("no longer than allowed", 512.0, 9.0, true_length, seed=7),
        case("no limit", 64.0, math.inf, true_length),
        case("too large", 2.0**18, point=not_finite),
        case("far too large", 2.0**30, 0.5, not_finite, seed=4),
        case("a scale of 1, and not a number", 1.0, point=not_finite, spikes=(math.nan,)),
        case("too large in one place", 1024.0, point=any_of_them, spikes=large),
        case("minus infinity", 512.0, 0.3, any_of_them, spikes=(1.0, 2.0, -400.0)),
        case("not a number", 8.0, point=any_of_them, spikes=(math.nan, 1.0)),
        case("an odd scale, too large", 777.0, point=any_of_them, spikes=(500.0,)),
        case("gradients that are there already", 128.0, point=cleared, left_over=0.7),
        case("infinite ones that are there already", 16.0, point=cleared, left_over=math.inf),
        case("too large, then not", 1024.0, 2.0, cleared, spikes=(70.0, 1.0), n_steps=3),
        case("three steps with momentum", 32.0, point=optimiser_kept, **momentum),
        case("momentum, too large at first", 2.0**10, 3.0, optimiser_kept, (100.0,), **momentum),
        case(
            "AdamW, too large at first", 2.0**9, 0.5, optimiser_kept, (150.0,), n_steps=4, **adamw
        ),
        case("two groups", 64.0, 0.4, its_weights, make_optimiser=_two_groups),
        case("too large in the other group", 1024.0, 2.0, its_weights, large, **_in_groups(2)),
        case("one without a gradient", 128.0, 0.6, its_weights, unused=True),
        case("nothing to learn", 4.0, 0.5, nothing, (0.0, 0.0), size=0.0),
    ]


def _two_groups(weights: Iterable[nn.Parameter]) -> Optimizer:
    first, *others = weights
    groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.3}, {"params": others}]
    return SGD(groups, lr=0.05)


def _in_groups(n_steps: int) -> dict[str, Any]:
    return {"make_optimiser": _two_groups, "n_steps": n_steps}


def _loss(x: Tensor, targets: Tensor, spikes: Tensor, weights: list[nn.Parameter], size: float):
    """Computed in float16 from float32 weights, as autocast does, and summed up in float32."""
    weight, bias, gain = (one.half() for one in weights)
    distance = F.linear(x.half(), weight, bias).float() - targets
    return size * ((distance**2).mean() + (gain * spikes.half()).float().sum())


def _steps(
    step: Callable[[Tensor, Optimizer, float, float], float],
    arguments: dict[str, Any],
    make_optimiser: MakeOptimiser = partial(SGD, lr=0.1),  # noqa: B008
    size: float = 1.0,
    n_steps: int = 1,
    left_over: float = 0.0,
    unused: bool = False,
) -> tuple[Any, ...]:
    """What the last step returns, and the weights after it."""
    x, targets, spikes = (arguments[name].detach() for name in ("x", "targets", "spikes"))
    weights = [nn.Parameter(arguments[name].detach().clone()) for name in LEARNED]
    for weight in weights if left_over else ():
        weight.grad = torch.full_like(weight, left_over)
    extra = [nn.Parameter(torch.ones(2))] if unused else []
    optimiser = make_optimiser(extra + weights)
    scale = arguments["scale"]
    for _ in range(n_steps):
        loss = _loss(x, targets, spikes, weights, size)
        scale = step(loss, optimiser, scale, arguments["max_norm"])
        if not isinstance(scale, float):
            break  # the comparison says what it should be
    return scale, *(weight.detach().clone() for weight in weights)


def _use(part: Part, **arguments: Any) -> tuple[Any, ...]:
    more = {name: arguments.pop(name) for name in MORE if name in arguments}
    return _steps(part, arguments, **more)


MORE = "make_optimiser", "size", "n_steps", "left_over", "unused"
NAMES = "x", "targets", *LEARNED, "spikes", "scale", "max_norm"


def _by_torch(*arguments: Any, **more: Any) -> tuple[Any, ...]:
    """By torch's own scaler, which never raises the scale here."""
    return _steps(_scaler_step, dict(zip(NAMES, arguments, strict=True)), **more)


def _scaler_step(loss: Tensor, optimiser: Optimizer, scale: float, max_norm: float) -> float:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**9)
    optimiser.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    nn.utils.clip_grad_norm_(_weights(optimiser), max_norm)
    scaler.step(optimiser)
    scaler.update()
    return scaler.get_scale()


def _weights(optimiser):
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _gradients(optimiser):
    return [weight.grad for weight in _weights(optimiser) if weight.grad is not None]


# --- wrong versions ------------------------------------------------------------------------------


def _clear(optimiser):
    optimiser.zero_grad()


def _back(loss, optimiser, scale):
    (loss * scale).backward()


def _is_finite(loss, optimiser):
    return all(bool(gradient.isfinite().all()) for gradient in _gradients(optimiser))


def _divide(optimiser, scale):
    for gradient in _gradients(optimiser):
        gradient.div_(scale)


def _clip(optimiser, max_norm):
    training.clip_gradients(_weights(optimiser), max_norm)


def in_steps(
    loss,
    optimiser,
    scale,
    max_norm,
    clear=_clear,
    back=_back,
    is_finite=_is_finite,
    divide=_divide,
    clip=_clip,
    lowered=lambda scale: scale / 2,
    kept=lambda scale: scale,
):
    """Right. Each mistake does one of the steps otherwise."""
    clear(optimiser)
    back(loss, optimiser, scale)
    if not is_finite(loss, optimiser):
        return lowered(scale)
    divide(optimiser, scale)
    clip(optimiser, max_norm)
    optimiser.step()
    return kept(scale)


@exercise.mistake(
    "You clip the scaled gradients and divide afterwards. They are `scale` times too long then, so "
    "nearly every step is clipped, and far too short. Divide first."
)
def unscales_after_clipping(loss, optimiser, scale, max_norm):
    def clip(optimiser, max_norm):
        _clip(optimiser, max_norm)
        _divide(optimiser, scale)

    return in_steps(loss, optimiser, scale, max_norm, divide=lambda *_: None, clip=clip)


@exercise.mistake(
    "You leave the step out and return the scale as it was. The next step will be too large again: "
    "return half of it."
)
def never_lowers_scale(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, lowered=lambda scale: scale)


@exercise.mistake(
    "You divide the learning rate instead of the gradients. Clipping still sees the long ones, and "
    "AdamW, which divides by their size, does not mind the scale."
)
def scales_lr(loss, optimiser, scale, max_norm):
    def divide(optimiser, scale):
        for group in optimiser.param_groups:
            group["lr"] /= scale

    found = in_steps(loss, optimiser, scale, max_norm, divide=divide)
    if found == scale:
        for group in optimiser.param_groups:
            group["lr"] *= scale
    return found


@exercise.mistake(
    "You step with gradients that are infinite or NaN. A weight that such a step has moved is no "
    "number any more. Leave the step out."
)
def steps_with_infinite(loss, optimiser, scale, max_norm):
    infinite = []

    def is_finite(loss, optimiser):
        infinite.append(not _is_finite(loss, optimiser))
        return True

    def kept(scale):
        return scale / 2 if infinite[0] else scale

    return in_steps(loss, optimiser, scale, max_norm, is_finite=is_finite, kept=kept)


@exercise.mistake(
    "You never look whether the gradients are finite: you step with whatever is there, and return "
    "the scale as it was."
)
def never_looks(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, is_finite=lambda *_: True)


@exercise.mistake(
    "You look at the loss alone. It is a number, and its gradients are infinite all the same: look "
    "at each of them after `backward`."
)
def looks_at_the_loss(loss, optimiser, scale, max_norm):
    own = {"is_finite": lambda loss, optimiser: bool((loss * scale).isfinite())}
    return in_steps(loss, optimiser, scale, max_norm, **own)


@exercise.mistake(
    "You look for infinity, and NaN is none: `isinf` is False for it. `isfinite` is True for "
    "numbers alone."
)
def misses_nan(loss, optimiser, scale, max_norm):
    def is_finite(loss, optimiser):
        return not any(bool(gradient.isinf().any()) for gradient in _gradients(optimiser))

    return in_steps(loss, optimiser, scale, max_norm, is_finite=is_finite)


@exercise.mistake(
    "You look at the gradient of one weight. Another may be infinite: look at those of all groups."
)
def looks_at_the_first(loss, optimiser, scale, max_norm):
    own = {"is_finite": lambda _, optimiser: bool(_gradients(optimiser)[0].isfinite().all())}
    return in_steps(loss, optimiser, scale, max_norm, **own)


@exercise.mistake(
    "You use the first group of the optimiser and forget the others: it may have several."
)
def first_group_only(loss, optimiser, scale, max_norm):
    first = optimiser.param_groups[0]["params"]

    def gradients():
        return [weight.grad for weight in first if weight.grad is not None]

    def divide(optimiser, scale):
        for gradient in gradients():
            gradient.div_(scale)

    return in_steps(
        loss,
        optimiser,
        scale,
        max_norm,
        is_finite=lambda *_: all(bool(one.isfinite().all()) for one in gradients()),
        divide=divide,
        clip=lambda _, max_norm: training.clip_gradients(first, max_norm),
    )


@exercise.mistake(
    "You put 0 where a gradient is not finite, and step. The other numbers of that step are not to "
    "be trusted either: leave it out, and lower the scale."
)
def fills_with_zero(loss, optimiser, scale, max_norm):
    def is_finite(loss, optimiser):
        for gradient in _gradients(optimiser):
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        return True

    return in_steps(loss, optimiser, scale, max_norm, is_finite=is_finite)


@exercise.mistake(
    "You do not scale the loss, and divide the gradients by the scale: the step is that much too "
    "small."
)
def forgot_to_scale(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, back=lambda loss, *_: loss.backward())


@exercise.mistake(
    "You call `backward` on the loss as it is. In float16 small gradients are 0 then, and what is "
    "done afterwards brings none of them back: `(loss * scale).backward()`."
)
def plain_step(loss, optimiser, scale, max_norm):
    own = {"back": lambda loss, *_: loss.backward(), "divide": lambda *_: None}
    return in_steps(loss, optimiser, scale, max_norm, **own)


@exercise.mistake(
    "The gradients that you step with are still `scale` times as large. Divide them by the scale "
    "before you clip."
)
def forgot_to_unscale(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, divide=lambda *_: None)


@exercise.mistake("You do not clip. Gradients longer than `max_norm` are to be made as long as it.")
def no_clipping(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, clip=lambda *_: None)


@exercise.mistake(
    "You clip each gradient by itself. All of them together have one length, and are scaled "
    "together."
)
def clips_one_by_one(loss, optimiser, scale, max_norm):
    def clip(optimiser, max_norm):
        for weight in _weights(optimiser):
            training.clip_gradients([weight], max_norm)

    return in_steps(loss, optimiser, scale, max_norm, clip=clip)


@exercise.mistake(
    "You clip every number by itself. `max_norm` is the length of all gradients together, which "
    "keep their direction: `training.clip_gradients`."
)
def clips_numbers(loss, optimiser, scale, max_norm):
    def clip(optimiser, max_norm):
        for gradient in _gradients(optimiser):
            gradient.clamp_(-max_norm, max_norm)

    return in_steps(loss, optimiser, scale, max_norm, clip=clip)


@exercise.mistake(
    "You never clear the gradients, so `backward` adds to what is there: one infinite step, and "
    "all later ones are left out. Begin with `optimiser.zero_grad()`."
)
def never_clears(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, clear=lambda optimiser: None)


@exercise.mistake(
    "You clear the gradients after the step that is made. What lay there before the first one "
    "counts, and so does what a step leaves that was left out: clear them first."
)
def clears_after_the_step(loss, optimiser, scale, max_norm):
    found = never_clears(loss, optimiser, scale, max_norm)
    if found == scale:
        optimiser.zero_grad()
    return found


@exercise.mistake(
    "You clear the gradients after `backward`, so there are none to step with. Clear them before."
)
def clears_after_backward(loss, optimiser, scale, max_norm):
    def back(loss, optimiser, scale):
        _back(loss, optimiser, scale)
        optimiser.zero_grad()

    return in_steps(loss, optimiser, scale, max_norm, back=back)


@exercise.mistake("After a step that went well you return twice the scale. It stays as it is.")
def doubles_the_scale(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, kept=lambda scale: 2 * scale)


@exercise.mistake("You double the scale when gradients are too large. Half of it is what helps.")
def raises_when_too_large(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, lowered=lambda scale: 2 * scale)


@exercise.mistake(
    "You never return less than 1. Where gradients are too large as they are, the scale goes below "
    "1: return half of it, whatever it is."
)
def never_below_one(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, lowered=lambda scale: max(1.0, scale / 2))


@exercise.mistake(
    "You return 1 when gradients are too large, and give up all that scaling gains. Return half of "
    "the scale."
)
def back_to_one(loss, optimiser, scale, max_norm):
    return in_steps(loss, optimiser, scale, max_norm, lowered=lambda scale: 1.0)


# --- right ---------------------------------------------------------------------------------------


@exercise.alternative
def step_by_torchs_scaler(loss, optimiser, scale, max_norm):
    return _scaler_step(loss, optimiser, scale, max_norm)


@exercise.alternative
def step_in_loops(loss, optimiser, scale, max_norm):
    optimiser.zero_grad(set_to_none=True)
    scaled = loss * scale
    scaled.backward()
    overflow = False
    for group in optimiser.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            p.grad = p.grad / scale
            if torch.isnan(p.grad).any() or torch.isinf(p.grad).any():
                overflow = True
    if overflow:
        optimiser.zero_grad()
        return scale * 0.5
    torch.nn.utils.clip_grad_norm_(
        [p for group in optimiser.param_groups for p in group["params"]], max_norm
    )
    optimiser.step()
    return scale


@exercise.alternative
def step_by_the_sum(loss, optimiser, scale, max_norm):
    """A sum with something infinite, or NaN, is not finite."""
    weights = [one for group in optimiser.param_groups for one in group["params"]]
    for one in weights:
        one.grad = None
    torch.mul(loss, scale).backward()
    weights = [one for one in weights if one.grad is not None]
    length = torch.stack([(one.grad.double() / scale).square().sum() for one in weights]).sum()
    if not math.isfinite(length):
        return scale / 2
    factor = 1 / scale * min(1.0, max_norm / max(math.sqrt(length), 1e-30))
    for one in weights:
        one.grad *= factor
    optimiser.step()
    return scale


@exercise.alternative
def step_by_autograd(loss, optimiser, scale, max_norm):
    weights = [one for group in optimiser.param_groups for one in group["params"]]
    optimiser.zero_grad()
    gradients = torch.autograd.grad(loss * scale, weights, allow_unused=True)
    if any(one is not None and not one.isfinite().all() for one in gradients):
        return scale / 2
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = None if gradient is None else gradient / scale
    training.clip_gradients(weights, max_norm)
    optimiser.step()
    return scale
