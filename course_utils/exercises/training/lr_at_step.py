"""training.lr_at_step: warm up, then cool down."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "training.lr_at_step",
    used_by="`train`, before every step",
    hints=(
        "There are three pieces: `step < warmup`, `step >= total`, and what lies between.",
        "Going up: the first step, 0, gets one part of `warmup` parts of the peak, and step "
        "`warmup` - 1 gets all of it. So count step + 1.",
        "Going down: `progress = (step - warmup) / (total - warmup)` runs from 0 to 1.",
        "Half a cosine, (1 + cos(π · progress)) / 2, runs from 1 to 0. It is the share of the "
        "way from `floor` to `peak`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def one(title: str, point: str, step: int, *settings: float, **floor: float) -> Case:
        arguments = dict(zip(("step", "peak", "warmup", "total"), (step, *settings), strict=True))
        values = ", ".join(str(value) for value in arguments.values())
        call = f"lr_at_step({values}{''.join(f', floor={value}' for value in floor.values())})"
        return Case(title, arguments | floor, lr_by_table, shown=call, point=point)

    def run(
        title: str,
        point: str,
        steps: range,
        *settings: float,
        **floor: float,
    ) -> Case:
        arguments = dict(zip(("peak", "warmup", "total"), settings, strict=True)) | floor
        given = ", ".join(f"{name}={value}" for name, value in arguments.items())

        def oracle(*values: Any) -> Tensor:
            return torch.tensor([lr_by_table(step, *values) for step in steps])

        call = f"lr_at_step(step, {given}) for the steps {steps.start} to {steps.stop - 1}"
        return Case(title, arguments, oracle, partial(_some_steps, steps), call, point=point)

    up = (
        "Steps count from 0 and the warm-up from 1: step 0 has 1/warmup of `peak`, and step "
        "`warmup` - 1 all of it. `floor` is for the end."
    )
    down = (
        "From step `warmup` on the rate falls from `peak` to `floor` along half a cosine: floor + "
        "(peak - floor) · (1 + cos(π · progress)) / 2. Progress is 0 at step `warmup` and 1 at "
        "step `total`."
    )
    end = "From step `total` on the rate is `floor`, for ever: no cosine climbs again."
    no_division = (
        "There may be no step of warm-up, or none after it: look which piece a step belongs to "
        "before you divide by `warmup` or by total - warmup."
    )
    return [
        one("the first step", up, 0, 0.1, 4, 12),
        one("the last step of the warm-up", up, 3, 0.1, 4, 12),
        one("the first step after the warm-up", down, 4, 0.1, 4, 12),
        one("half-way down", down, 8, 0.1, 4, 12),
        one("half-way down to a floor", down, 8, 0.1, 4, 12, floor=0.02),
        one("after the end", end, 15, 0.1, 4, 12, floor=0.02),
        run("the warm-up of a run", up, range(20), 0.6, 20, 100, floor=0.06),
        run("one step of warm-up", up, range(1), 1.0, 1, 6),
        run("the way down", down, range(4, 12), 0.1, 4, 12),
        run("the way down to a floor", down, range(20, 100), 0.6, 20, 100, floor=0.06),
        run("a single step after the warm-up", down, range(3, 4), 0.5, 3, 4, floor=0.25),
        run("after the end of a run", end, range(10, 25), 0.3, 3, 10, floor=0.06),
        run("after the end, without a floor", end, range(12, 16), 0.1, 4, 12),
        run("no warm-up", no_division, range(1), 2.0, 0, 7),
        run("the end of nothing but warm-up", no_division, range(5, 8), 0.5, 5, 5),
    ]


def _some_steps(steps: range, part: Part, **settings: Any) -> Tensor:
    """The rates of these steps. Those who count in float32 are right."""
    rates = [part(step, **settings) for step in steps]
    if not all(isinstance(rate, float) for rate in rates):
        kind = next(type(rate).__name__ for rate in rates if not isinstance(rate, float))
        raise Wrong(f"`lr_at_step` should return a float at every step, yours returns a {kind}.")
    return torch.tensor(rates, dtype=torch.float32)


def _phase(step, warmup, total):
    """Share of the way down, 0 at the end of the warm-up and 1 at the end of the run."""
    return (step - warmup) / (total - warmup)


def _half_cosine(phase):
    return (1 + math.cos(math.pi * phase)) / 2


def _in_pieces(step, peak, warmup, total, floor, up=None, share=_half_cosine, after=None):
    """Right. The mistakes below do one of the three pieces otherwise."""
    if step < warmup:
        return peak * (step + 1) / warmup if up is None else up
    if step >= total:
        return floor if after is None else after
    return floor + (peak - floor) * share(_phase(step, warmup, total))


@exercise.mistake(
    "Your first step has a rate of 0, so a whole batch is wasted, and the peak comes a step late. "
    "Steps count from 0: use step + 1."
)
def starts_at_zero(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, up=peak * step / max(1, warmup))


@exercise.mistake(
    "Your warm-up divides by warmup + 1, so its last step does not reach the peak. Step `warmup` - "
    "1 has it: (step + 1) / warmup."
)
def warmup_one_too_long(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, up=peak * (step + 1) / (warmup + 1))


@exercise.mistake("Your warm-up starts at `floor`. It starts near 0: the floor is for the end.")
def warmup_from_floor(step, peak, warmup, total, floor=0.0):
    up = floor + (peak - floor) * (step + 1) / max(1, warmup)
    return _in_pieces(step, peak, warmup, total, floor, up=up)


@exercise.mistake(
    "You start at the peak. The first `warmup` steps climb there in a straight line: the optimiser "
    "does not know the gradients yet."
)
def no_warmup(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, up=peak)


@exercise.mistake(
    "You divide by `warmup` even where it is 0. Ask first whether the step belongs to the warm-up."
)
def crashes_without_warmup(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, up=peak * min(1.0, (step + 1) / warmup))


@exercise.mistake(
    "You divide by total - warmup even where it is 0. From step `total` on return `floor`, before "
    "you divide."
)
def crashes_at_the_end(step, peak, warmup, total, floor=0.0):
    falling = floor + (peak - floor) * _half_cosine(min(1.0, _phase(step, warmup, total)))
    return peak * (step + 1) / warmup if step < warmup else falling


@exercise.mistake("You do not use `floor`: your rate falls to 0.")
def no_decay_floor(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor=0.0)


@exercise.mistake(
    "You take `floor` for a share of the peak. It is a learning rate itself: do not multiply it."
)
def floor_as_share(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor=peak * floor)


@exercise.mistake(
    "You add `floor` to the whole cosine, so it begins above the peak. The cosine covers peak - "
    "floor."
)
def floor_added(step, peak, warmup, total, floor=0.0):
    down = _in_pieces(step, peak, warmup, total, floor=0.0)
    return floor + down if step >= warmup else down


@exercise.mistake(
    "Your cosine aims at 0 and is cut off at `floor`. It should arrive there at the end: floor + "
    "(peak - floor) · …"
)
def floor_as_limit(step, peak, warmup, total, floor=0.0):
    down = _in_pieces(step, peak, warmup, total, floor=0.0)
    return max(floor, down) if step >= warmup else down


@exercise.mistake(
    "Your cosine begins at step 0, so the rate jumps where the warm-up ends. It begins at step "
    "`warmup`: (step - warmup) / (total - warmup)."
)
def cosine_from_zero(step, peak, warmup, total, floor=0.0):
    share = _half_cosine(step / total)
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: share)


@exercise.mistake(
    "You divide by `total`, so the cosine has not arrived when the run ends, and the rate jumps. "
    "It takes total - warmup steps."
)
def never_arrives(step, peak, warmup, total, floor=0.0):
    share = _half_cosine((step - warmup) / total)
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: share)


@exercise.mistake("Your cosine is one step ahead. At step `warmup` the progress is 0.")
def one_step_ahead(step, peak, warmup, total, floor=0.0):
    share = _half_cosine((step + 1 - warmup) / max(1, total - warmup))
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: share)


@exercise.mistake("You go down in a straight line. Go along half a cosine: slowly, fast, slowly.")
def linear_decay(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: 1 - phase)


@exercise.mistake("Your 1 + cos runs from 2 to 0, so the rate begins at twice the peak. Halve it.")
def not_halved(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: 2 * _half_cosine(phase))


@exercise.mistake(
    "You use a whole wave: half-way through it is at the bottom, and then it climbs. Half a wave "
    "is π, not 2π."
)
def whole_wave(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, share=lambda phase: _half_cosine(2 * phase))


@exercise.mistake("Your cosine runs to 1, not to π, so the rate falls by a quarter only.")
def forgot_pi(step, peak, warmup, total, floor=0.0):
    def share(phase):
        return (1 + math.cos(phase)) / 2

    return _in_pieces(step, peak, warmup, total, floor, share=share)


@exercise.mistake("After the end your cosine climbs again. From step `total` on it is `floor`.")
def rises_again(step, peak, warmup, total, floor=0.0):
    if step < warmup or total == warmup:
        return _in_pieces(step, peak, warmup, total, floor)
    return floor + (peak - floor) * _half_cosine(_phase(step, warmup, total))


@exercise.mistake("You return 0 after the end. From step `total` on it is `floor`.")
def zero_after_the_end(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor, after=0.0)


@exercise.mistake("You stay at the peak. After the warm-up the rate falls along half a cosine.")
def stays_at_peak(step, peak, warmup, total, floor=0.0):
    return _in_pieces(step, peak, warmup, total, floor=peak)


@exercise.alternative
def lr_by_table(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Every step of the run, one after the other; half a cosine is cos² of half the angle."""
    up = [peak * count / warmup for count in range(1, warmup + 1)]
    angles = [math.pi / 2 * count / (total - warmup) for count in range(total - warmup)]
    down = [floor + (peak - floor) * math.cos(angle) ** 2 for angle in angles]
    return [*up, *down, floor][min(step, total)]


@exercise.alternative
def lr_by_clamping(step, peak, warmup, total, floor=0.0):
    if warmup and step + 1 <= warmup:
        return (step + 1) / warmup * peak
    done = min(max((step - warmup) / max(1, total - warmup), 0.0), 1.0)
    share = 0.5 + 0.5 * math.cos(done * math.pi) if step < total else 0.0
    return share * peak + (1 - share) * floor


@exercise.alternative
def lr_by_sine(step, peak, warmup, total, floor=0.0):
    if step >= total:
        return floor
    if step >= warmup:
        left = (total - step) / (total - warmup)
        return floor + (peak - floor) * math.sin(math.pi / 2 * left) ** 2
    return peak - peak * (warmup - step - 1) / warmup


@exercise.alternative
def lr_by_torch(step, peak, warmup, total, floor=0.0):
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return floor
    progress = torch.tensor((step - warmup) / (total - warmup))
    return (floor + (peak - floor) * 0.5 * (1 + torch.cos(math.pi * progress))).item()
