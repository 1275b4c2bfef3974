"""inference.step_seconds: how long a step takes at least."""

from fractions import Fraction

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "inference.step_seconds",
    used_by="every comparison with the limit of this machine",
    hints=(
        "Two times: that of the arithmetic alone, and that of the memory alone. A time is an "
        "amount, divided by what the machine does in a second.",
        "Both happen at once: while some numbers are multiplied, the next ones are read. Whoever "
        "is slower decides.",
        "`flops / peak` and `n_bytes / bandwidth`: the larger of both.",
    ),
)


def _exactly(flops: float, n_bytes: float, peak: float, bandwidth: float) -> float:
    """By fractions, without rounding on the way: the first moment at which both are done."""
    times = sorted((Fraction(flops) / Fraction(peak), Fraction(n_bytes) / Fraction(bandwidth)))
    return float(times[-1])


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, flops: float, n_bytes: float, peak: float, bandwidth: float, point: str = ""
    ) -> Case:
        numbers = {"flops": flops, "n_bytes": n_bytes, "peak": peak, "bandwidth": bandwidth}
        call = f"step_seconds({flops:g}, {n_bytes:g}, {peak:g}, {bandwidth:g})"
        return Case(title, numbers, _exactly, shown=call, point=point)

    memory = "Where reading takes longer than computing, the step takes as long as reading."
    nothing = "A step may do no arithmetic (it copies), or read nothing: the other decides alone."
    rates = "`peak` belongs to the operations and `bandwidth` to the bytes, whichever is larger."
    return [
        case("arithmetic takes longer", 6e9, 1e9, 2e9, 1e9),
        case("memory takes longer", 6e9, 9e9, 2e9, 1.5e9, memory),
        case("much arithmetic", 5e12, 3e8, 4e10, 2e10),
        case("one token of a model with 7 billion weights", 1.4e10, 1.4e10, 3e14, 2e12, memory),
        case("a thousand tokens of it", 1.4e13, 1.5e10, 3e14, 2e12),
        case("both as long", 8e9, 2e9, 4e9, 1e9),
        case("more bytes than operations, and yet", 3e6, 7e6, 1e6, 5e6, rates),
        case("more operations than bytes, and yet", 9e6, 4e6, 6e6, 2e6, rates),
        case("a bandwidth above the peak", 4e5, 3e5, 1e4, 9e5, rates),
        case("no arithmetic", 0, 3e9, 2e9, 1e9, nothing),
        case("nothing to read", 5e9, 0, 2e9, 1e9, nothing),
        case("a fraction of a second", 300, 500, 7e9, 8e9, memory),
        case("many seconds", 5, 3, 0.25, 0.5),
    ]


@exercise.mistake(
    "You add both times. The machine computes while it reads, so the step takes as long as the "
    "slower of both: `max`."
)
def adds_both(flops, n_bytes, peak, bandwidth):
    return flops / peak + n_bytes / bandwidth


@exercise.mistake(
    "You take the mean of both times. The step is over when the slower of both is done: `max`."
)
def mean_of_both(flops, n_bytes, peak, bandwidth):
    return (flops / peak + n_bytes / bandwidth) / 2


@exercise.mistake("You take the shorter time. The step is over when the slower of both is done.")
def the_shorter(flops, n_bytes, peak, bandwidth):
    return min(flops / peak, n_bytes / bandwidth)


@exercise.mistake("You count the arithmetic alone. Often the machine waits for its memory.")
def arithmetic_alone(flops, n_bytes, peak, bandwidth):
    return flops / peak


@exercise.mistake("You count the memory alone. With many tokens at once arithmetic takes longer.")
def memory_alone(flops, n_bytes, peak, bandwidth):
    return n_bytes / bandwidth


@exercise.mistake(
    "You divide the operations by the bandwidth and the bytes by the peak. Operations go by "
    "`peak`, bytes by `bandwidth`."
)
def rates_swapped(flops, n_bytes, peak, bandwidth):
    return max(flops / bandwidth, n_bytes / peak)


@exercise.mistake(
    "You divide the rates by the amounts: that is how often the step is done in a second. An "
    "amount divided by a rate is a time."
)
def upside_down(flops, n_bytes, peak, bandwidth):
    return max(peak / flops if flops else 0.0, bandwidth / n_bytes if n_bytes else 0.0)


@exercise.mistake(
    "You divide all there is to do by the two rates together. Operations cannot wait for bytes in "
    "line: each of both has a time, and the longer one counts."
)
def all_by_all(flops, n_bytes, peak, bandwidth):
    return (flops + n_bytes) / (peak + bandwidth)


@exercise.mistake("You count bits. The bandwidth is in bytes a second, as `n_bytes` is in bytes.")
def in_bits(flops, n_bytes, peak, bandwidth):
    return max(flops / peak, 8 * n_bytes / bandwidth)


@exercise.mistake(
    "You say which rate is reached, in operations a second. What is asked for are the seconds: the "
    "operations divided by it."
)
def returns_the_rate(flops, n_bytes, peak, bandwidth):
    return min(peak, bandwidth * flops / n_bytes) if n_bytes else float(peak)


@exercise.mistake(
    "You compare the operations with the bytes. What counts is which takes longer: compare the "
    "times, after each is divided by its rate."
)
def compares_amounts(flops, n_bytes, peak, bandwidth):
    return flops / peak if flops > n_bytes else n_bytes / bandwidth


@exercise.alternative
def seconds_by_if(flops, n_bytes, peak, bandwidth):
    compute_time = flops / peak
    memory_time = n_bytes / bandwidth
    if compute_time > memory_time:
        return compute_time
    return memory_time


@exercise.alternative
def seconds_by_intensity(flops, n_bytes, peak, bandwidth):
    """As the roofline is drawn: the rate is the roof above the step's operations a byte."""
    if flops == 0 or n_bytes == 0:
        return float(flops / peak + n_bytes / bandwidth)
    return flops / min(peak, bandwidth * (flops / n_bytes))


@exercise.alternative
def seconds_sorted(flops, n_bytes, peak, bandwidth):
    return sorted([n_bytes * (1 / bandwidth), flops * (1 / peak)], reverse=True)[0]
