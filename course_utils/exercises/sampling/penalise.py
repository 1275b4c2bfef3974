"""sampling.penalise: what was said already gets harder to say."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.penalise",
    used_by="`python -m course_utils sample` and the playground",
    hints=(
        "Count how often each token of the vocabulary was said in its row: a tensor of the shape "
        "of `logits`. `torch.zeros_like(logits).scatter_add(1, ids, ones)` counts.",
        "What was said at least once, `counts > 0`, gets the repetition penalty: divide the logit "
        "where it is positive, multiply where it is negative. Both make it smaller.",
        "`torch.where(said, weakened, logits)` leaves the others alone.",
        "Then subtract `presence` where it was said, and `frequency` times the counts.",
    ),
)


def _penalise_by_hand(
    logits: Tensor,
    ids: Tensor,
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> Tensor:
    """One number after the other."""

    def penalised(logit: Tensor, times: int) -> Tensor:
        if not times:
            return logit
        factor = 1 / repetition if logit > 0 else repetition
        return logit * factor - presence - frequency * times

    rows = zip(logits, ids.tolist(), strict=True)
    return torch.stack(
        [
            torch.stack([penalised(logit, text.count(i)) for i, logit in enumerate(row)])
            for row, text in rows
        ]
    )


@torch.no_grad()
def _without_gradient(part: Part, **arguments: Any) -> Any:
    """`scatter`, with which many write this, has no right gradient where a token comes twice."""
    return part(**arguments)


@torch.no_grad()
def _penalised_by_hand(*arguments: Any) -> Tensor:
    return _penalise_by_hand(*arguments)


PENALTIES: dict[str, Any] = {"repetition": 1.5, "presence": 0.5, "frequency": 0.25}


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, logits: Tensor, ids: Tensor, point: str = "", **penalties: float) -> Case:
        given = "".join(f", {name}={value}" for name, value in penalties.items())
        neutral = {"repetition": 1.0, "presence": 0.0, "frequency": 0.0} if penalties else {}
        arguments = {"logits": logits, "ids": ids, **neutral, **penalties}
        call = f"penalise(logits, ids{given})"
        return Case(title, arguments, _penalised_by_hand, _without_gradient, call, point=point)

    small = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-3.0, 1.0, 4.0, -0.5]])
    once, often = torch.tensor([[0, 1], [3, 2]]), torch.tensor([[0, 1, 0], [2, 2, 2]])
    logits, ids = 2 * inputs.normal(3, 6), _different(3, 4, below=6)
    views = 2 * inputs.normal(6, 3).T, _different(3, 4, below=6).T.contiguous().T
    doubles = 2 * inputs.normal(2, 6, dtype=torch.float64), _different(2, 3, below=6)
    counts_once = (
        "`repetition` and `presence` count once, however often a token was said in its row."
    )
    every_time = (
        "`frequency` is subtracted once for every time. `counts[rows, ids] += 1` and `scatter_` "
        "write a place once, however often it is named; `scatter_add` adds up."
    )
    other_way = (
        "`repetition` may be below 1, and the others below 0: by the same rule, what was said "
        "becomes likelier. Nothing is taken for granted of their sign or size."
    )
    unsaid = "`ids` may be empty, [rows, 0]: nothing was said, and the logits stay as they are."
    all_of_it = "All of `ids` counts, however long ago a token was said."
    early = torch.cat((torch.tensor([[4, 4, 5]] * 3), inputs.integers(3, 600, below=4)), dim=1)
    removed, said = shared.REMOVED, _different(2, 4, below=5)
    return [
        case("repetition", small, once, repetition=2.0),
        case("presence", small, once, presence=0.5),
        case("frequency", small, once, frequency=0.5),
        case("nothing", small, once),
        case("all three", logits, ids, **PENALTIES),
        case("one token said", logits, ids[:, :1], **PENALTIES),
        case("as many of everything", 2 * inputs.normal(4, 4), _different(4, 4, 4), **PENALTIES),
        case("said several times: repetition", small, often, counts_once, repetition=2.0),
        case("said several times: presence", small, often, counts_once, presence=0.5),
        case("said several times: frequency", small, often, every_time, frequency=0.5),
        case("a long text", logits, inputs.integers(3, 40, below=4), every_time, frequency=0.25),
        case("said long ago", logits, early, all_of_it, **PENALTIES),
        case("repetition below 1", logits, ids, other_way, repetition=0.8),
        case("what was said is wanted", logits, ids, other_way, presence=-0.5, frequency=-0.25),
        case("nothing said yet", logits, ids[:, :0], unsaid, **PENALTIES),
        case("removed tokens", removed, said, shared.STAYS_REMOVED, **PENALTIES),
        case("transposed views", *views, points.OTHER_ORDER, **PENALTIES),
        case("float64", *doubles, points.FLOAT64, **PENALTIES),
    ]


def _different(rows: int, n_tokens: int, below: int) -> Tensor:
    """Token ids of which none comes twice in its row."""
    return inputs.normal(rows, below).argsort(-1)[:, :n_tokens]


def _how_often(logits, ids):
    """How often each token of the vocabulary was said, in every row."""
    return F.one_hot(ids, logits.shape[-1]).sum(1).to(logits.dtype)


@exercise.mistake(
    "You divide negative logits, too. That brings them nearer to 0, and the token becomes "
    "more likely. Multiply them."
)
def divides_negative_logits(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    weaker = torch.where(counts > 0, logits / repetition, logits)
    return weaker - presence * (counts > 0) - frequency * counts


def _penalised(logits, counts, repetition, presence, frequency):
    """The formula, with counts and a repetition that the mistakes below choose."""
    weaker = torch.where(logits > 0, logits / repetition, logits * repetition)
    said = counts > 0
    return torch.where(said, weaker, logits) - presence * said - frequency * counts


@exercise.mistake(
    "You multiply positive logits and divide negative ones: what was said becomes more "
    "likely. It is the other way round."
)
def multiplies_positive(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, 1 / repetition, presence, frequency)


@exercise.mistake("You subtract `repetition`. It is a factor: 1 changes nothing.")
def subtracts_repetition(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    logits = torch.where(counts > 0, logits - repetition, logits)
    return logits - presence * (counts > 0) - frequency * counts


@exercise.mistake(
    "You apply `repetition` once for every time. It counts once, however often a token was said."
)
def once_per_occurrence(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition**counts, presence, frequency)


@exercise.mistake(
    "A token that was said several times is counted once for `frequency`, which is subtracted for "
    "every time. `counts[rows, ids] += 1` and `scatter_` write a place once, however often it is "
    "named: `scatter_add` adds up."
)
def counts_once_for_frequency(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    once = _how_often(logits, ids).clamp_max(1)
    return _penalised(logits, once, repetition, presence, frequency)


@exercise.mistake(
    "You subtract `presence` for every time. It counts once: that is what makes it differ "
    "from `frequency`."
)
def presence_every_time(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, 0.0, presence + frequency)


@exercise.mistake(
    "You add `presence` and `frequency`, so what was said becomes more likely. Subtract."
)
def adds_instead_of_subtracts(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, -presence, -frequency)


@exercise.mistake(
    "You swapped `presence` and `frequency`: the second is multiplied with the counts."
)
def swapped_penalties(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    return _penalised(logits, counts, repetition, frequency, presence)


@exercise.mistake("You count what all rows said together. Every row is a text of its own.")
def whole_batch_said_it(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids).sum(0, keepdim=True).expand(logits.shape)
    return _penalised(logits, counts, repetition, presence, frequency)


@exercise.mistake("You look at the last token only. All of the text counts.")
def only_the_last_token(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids[:, -1:])
    return _penalised(logits, counts, repetition, presence, frequency)


@exercise.mistake(
    "You apply `repetition` to all tokens. Those that were not said stay as they are."
)
def everyone_is_penalised(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    weaker = torch.where(logits > 0, logits / repetition, logits * repetition)
    counts = _how_often(logits, ids)
    return weaker - presence * (counts > 0) - frequency * counts


@exercise.mistake("You penalise what was not said yet.")
def unsaid_are_penalised(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    unsaid = (_how_often(logits, ids) == 0).to(logits.dtype)
    return _penalised(logits, unsaid, repetition, presence, frequency)


@exercise.mistake(
    "You divide the counts by the length of the text. `frequency` is subtracted for every time."
)
def share_of_the_text(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids) / max(ids.shape[1], 1)
    return _penalised(logits, counts, repetition, presence, frequency)


@exercise.mistake(
    "You subtract before you divide. The order matters: `repetition` first, for the logits "
    "as they are."
)
def subtracts_first(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    lower = logits - presence * (counts > 0) - frequency * counts
    return _penalised(lower, counts, repetition, 0.0, 0.0)


@exercise.mistake("You leave `presence` and `frequency` out.")
def only_repetition(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    return _penalised(logits, _how_often(logits, ids), repetition, 0.0, 0.0)


@exercise.mistake(
    "Your numbers are right, but you write them into the caller's logits. Make a new "
    "tensor: `torch.where`."
)
def in_place(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = _how_often(logits, ids)
    penalised = _penalised(logits.detach().clone(), counts, repetition, presence, frequency)
    return logits.copy_(penalised)


@exercise.alternative
def penalise_with_one_hot(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    counts = F.one_hot(ids, logits.shape[-1]).sum(dim=1)
    weaker = torch.maximum(logits.neg(), torch.zeros_like(logits)) * -repetition
    weaker = torch.where(logits < 0, weaker, logits / repetition)
    return (
        torch.where(counts == 0, logits, weaker)
        - presence * counts.clamp(max=1)
        - frequency * counts
    )


@exercise.alternative
def penalise_with_gather(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    seen = logits.gather(1, ids)
    seen = torch.where(seen < 0, seen * repetition, seen / repetition)
    weaker = logits.scatter(1, ids, seen)
    counts = (ids[:, :, None] == torch.arange(logits.shape[1])).sum(1)
    return weaker - presence * counts.bool() - frequency * counts


@exercise.alternative
def penalise_row_by_row(logits, ids, repetition=1.0, presence=0.0, frequency=0.0):
    rows = []
    for row, text in zip(logits, ids, strict=True):
        counts = torch.bincount(text, minlength=len(row)).to(row.dtype)
        weaker = torch.where(row > 0, row / repetition, row * repetition)
        row = torch.where(counts > 0, weaker - presence, row)
        rows.append(row - frequency * counts)
    return torch.stack(rows)
