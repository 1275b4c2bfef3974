"""efficiency.bubble: how long the stages of a pipeline wait."""

from fractions import Fraction

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "efficiency.bubble",
    used_by="the choice of how many micro-batches a pipeline needs",
    hints=(
        "Draw it: a row for each stage, a column for each moment. Micro-batch i is in stage s at "
        "moment i + s.",
        "On the way forward the last micro-batch leaves the last stage after n_micro + n_stages - "
        "1 moments. Each stage works in n_micro of them.",
        "The way back is the same picture, mirrored, and a moment of it takes longer by the same "
        "factor for all: the share that is waited stays as it is.",
        "`(n_stages - 1) / (n_micro + n_stages - 1)`",
    ),
)

FORWARD, BACK = 1, 2
"""How long a stage takes for a micro-batch. The way back makes two products for every one."""


def by_schedule(n_stages: int, n_micro: int) -> float:
    """Of the times at which every stage begins and ends, one micro-batch after the other."""
    end: dict[tuple[str, int, int], int] = {}
    free = [0] * n_stages

    def work(way: str, stage: int, micro: int, ready: int, length: int) -> None:
        free[stage] = end[way, stage, micro] = max(ready, free[stage]) + length

    for micro in range(n_micro):
        for stage in range(n_stages):
            work("forward", stage, micro, end.get(("forward", stage - 1, micro), 0), FORWARD)
    for micro in range(n_micro):
        for stage in reversed(range(n_stages)):
            before = ("back", stage + 1, micro), ("forward", stage, micro)
            work("back", stage, micro, max(end.get(one, 0) for one in before), BACK)
    all_time = n_stages * max(end.values())
    worked = n_stages * n_micro * (FORWARD + BACK)
    return float(Fraction(all_time - worked, all_time))


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, n_stages: int, n_micro: int, point: str = "") -> Case:
        arguments = {"n_stages": n_stages, "n_micro": n_micro}
        call = f"bubble({n_stages}, {n_micro})"
        return Case(title, arguments, by_schedule, shown=call, point=point)

    alone = "One stage has nobody to wait for: the share is 0, and a float as always."
    one_batch = (
        "With one micro-batch one stage works at a time and all others wait, all the way forward "
        "and back."
    )
    fewer = "There may be fewer micro-batches than stages, or as many."
    return [
        case("four stages, eight micro-batches", 4, 8),
        case("two stages, three micro-batches", 2, 3),
        case("three stages, seven micro-batches", 3, 7),
        case("six stages, twenty micro-batches", 6, 20),
        case("two stages, a hundred micro-batches", 2, 100),
        case("as many of both", 5, 5, fewer),
        case("two of both", 2, 2, fewer),
        case("more stages", 9, 4, fewer),
        case("many more stages", 40, 3, fewer),
        case("four stages, one micro-batch", 4, 1, one_batch),
        case("seven stages, one micro-batch", 7, 1, one_batch),
        case("one stage", 1, 6, alone),
        case("one of both", 1, 1, alone),
    ]


@exercise.mistake(
    "You divide the stages by the micro-batches. A stage waits for all others, n_stages - 1, and "
    "the whole time is what it waits and what it works."
)
def p_over_m(n_stages, n_micro):
    return n_stages / n_micro


@exercise.mistake(
    "That is the share of the time in which a stage works. What it waits is 1 minus that."
)
def one_minus(n_stages, n_micro):
    return n_micro / (n_micro + n_stages - 1)


@exercise.mistake(
    "You count that the stages wait while the pipeline fills, and forget that it has to empty and "
    "fill once more for the way back: it waits twice, in twice the moments."
)
def ignores_backward(n_stages, n_micro):
    return (n_stages - 1) / (2 * n_micro + n_stages - 1)


@exercise.mistake(
    "You count the work of both ways, the way back twice as long, and the waiting of one. On "
    "the way back a stage waits for n_stages - 1 others, too, and twice as long for each."
)
def waits_on_the_way_forward(n_stages, n_micro):
    return (n_stages - 1) / (3 * n_micro + n_stages - 1)


@exercise.mistake(
    "You count how long a stage waits until its first micro-batch comes, n_stages - 1 at most. "
    "Behind its last it waits for the stages after it: n_stages - 1 for both together."
)
def waits_until_it_begins(n_stages, n_micro):
    return (n_stages - 1) / 2 / (n_micro + n_stages - 1)


@exercise.mistake(
    "You count the waiting of both ways and the work of one. Both ways have as large a share of "
    "waiting as one has."
)
def waits_twice_works_once(n_stages, n_micro):
    return 2 * (n_stages - 1) / (n_micro + 2 * (n_stages - 1))


@exercise.mistake(
    "You compare the waiting with the work, n_micro. What is asked for is its share of the whole "
    "time, which is the work and the waiting."
)
def of_the_work(n_stages, n_micro):
    return (n_stages - 1) / n_micro


@exercise.mistake(
    "You count one stage too many: the first begins at once, so a stage waits for n_stages - 1 "
    "others."
)
def waits_for_itself(n_stages, n_micro):
    return n_stages / (n_micro + n_stages)


@exercise.mistake(
    "The whole time is one moment shorter: the first micro-batch is in its first stage in the "
    "first moment. It is n_micro + n_stages - 1."
)
def one_moment_more(n_stages, n_micro):
    return (n_stages - 1) / (n_micro + n_stages)


@exercise.mistake("You took one for the other: it is the stages that the waiting grows with.")
def swapped(n_stages, n_micro):
    return (n_micro - 1) / (n_stages + n_micro - 1)


@exercise.mistake("You return percent. The share is a number from 0 to 1.")
def in_percent(n_stages, n_micro):
    return 100 * by_schedule(n_stages, n_micro)


@exercise.mistake("You use `//`, which rounds down to a whole number. A share needs `/`.")
def whole_division(n_stages, n_micro):
    return (n_stages - 1) // (n_micro + n_stages - 1)


@exercise.mistake(
    "You return how long a stage waits, in moments. Divide it by the moments that there are."
)
def moments_not_share(n_stages, n_micro):
    return float(n_stages - 1)


@exercise.alternative
def bubble_as_the_rest(n_stages, n_micro):
    moments = n_micro + n_stages - 1
    return 1 - n_micro / moments


@exercise.alternative
def bubble_by_drawing(n_stages, n_micro):
    """Every moment of every stage on the way forward, counted."""
    moments = range(n_micro + n_stages - 1)
    waits = [not 0 <= moment - stage < n_micro for stage in range(n_stages) for moment in moments]
    return sum(waits) / len(waits)


@exercise.alternative
def bubble_in_both_ways(n_stages, n_micro):
    forward, backward = 1.0, 2.0
    total = (n_micro + n_stages - 1) * (forward + backward)
    busy = n_micro * forward + n_micro * backward
    return (total - busy) / total
