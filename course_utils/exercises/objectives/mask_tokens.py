"""objectives.mask_tokens: what BERT reads, and what it must say.

A right answer may draw in any order, so no case asks for one stream of draws. What is left to
chance is counted, and may be six standard deviations off: chance alone refuses a right answer less
than once in a hundred thousand times.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part

exercise = Exercise(
    "objectives.mask_tokens",
    used_by="the encoder that you train as BERT was",
    hints=(
        "First decide which tokens are chosen: `torch.rand(ids.shape, generator=generator) < p` is "
        "True for a share p of them. Take those out where `special` is True.",
        "The labels are `ids` where chosen, and -100 elsewhere: `ids.masked_fill(~chosen, -100)`. "
        "What becomes of a chosen token changes nothing there.",
        "Draw a second random number for every token, its fate: below 0.8 it becomes `mask_id`, "
        "from 0.8 to 0.9 a random token, and from 0.9 on it stays.",
        "`torch.randint(n_vocabulary, ids.shape, generator=generator)` draws a token for every "
        "place; `torch.where(condition, one, other)` takes it where it is needed.",
    ),
)

Given = dict[str, Any]
FATES = (80.0, 10.0, 10.0)
OF_CERTAIN = ("What is read", "The labels")
OF_FATES = tuple(
    f"The percentage of chosen tokens that {what}" for what in ("are masked", "change", "stay")
)
OF_READ = ("Tokens that are read, of a text of 2s",)
OF_SPREADS = tuple(
    f"How the number of chosen ones varies from {one} to {one}" for one in ("row", "place", "call")
)
OF_GENERATOR = (
    "Whether a generator in the same state gives the same again",
    "Whether a generator that has gone on gives others",
    "Whether the global random state stays as it was",
)

SHARES = (0.0, 2.0, 10.0, 18.0, 28.0, 64.0, 72.0, 80.0, 100.0)
"""Shares in per cent that are recognised in a wrong answer, whatever it has drawn."""


def _share(count: Tensor, n: int, wanted: float) -> float:
    """`count` of `n` in per cent: `wanted`, or a known share, where chance may have made it so."""

    def deviations(share: float) -> float:
        p = share / 100
        return abs(int(count) - n * p) / (math.sqrt(n * p * (1 - p)) or 1e-9)

    nearest = wanted if deviations(wanted) <= 6 else min(SHARES, key=deviations)
    return nearest if deviations(nearest) <= 6 else float(round(100 * int(count) / n))


def _spread(counts: Tensor, p: float, n_each: int) -> str:
    """How far counts are spread, of `n_each` tokens each, beside independent ones."""
    ratio = float(counts.double().var()) / (n_each * p * (1 - p))
    if 1 / 3 < ratio < 2.5:
        return "as chance has it"
    return "less than chance has it" if ratio < 1 else "more than chance has it"


# --- what is measured: (inputs, labels) beside the arguments -------------------------------------


def _measured(measure: Callable[..., Any]) -> Callable[..., Any]:
    """A use of the part that gives the measure, or what it gave, where that is not two tensors."""

    def use(part: Part, **given: Any) -> Any:
        found, shape = part(**given, generator=torch.Generator().manual_seed(7)), given["ids"].shape
        fits = isinstance(found, tuple) and len(found) == 2
        fits = fits and all(isinstance(one, Tensor) and one.shape == shape for one in found)
        return measure(*found, **given) if fits else found

    return use


@_measured
def _certain(read, labels, p, special, **_):
    """With p = 1 only what chosen tokens become is left to chance: -1 here."""
    return read.masked_fill(~special & (p == 1), -1), labels


@_measured
def _chosen(read, labels, p, special, **_):
    return _share((labels[~special] != -100).sum(), int((~special).sum()), 100 * p)


@_measured
def _fates(read, labels, ids, mask_id, **_):
    """What became of those that were chosen of the first 3,000 tokens."""
    read, labels, ids = (one.flatten()[:3000] for one in (read, labels, ids))
    asked = labels != -100
    masked, same = (read == mask_id)[asked], (read == ids)[asked]
    counts = masked.sum(), (~masked & ~same).sum(), same.sum()
    return tuple(map(_share, counts, [len(masked)] * 3, FATES))


@_measured
def _read(read, labels, **_):
    return read.unique().tolist()


def _spreads(part: Part, **given: Any) -> tuple[str, ...]:
    """How the number of chosen tokens varies from row to row, place to place and call to call."""
    generator, p = torch.Generator().manual_seed(11), given["p"]
    asked = torch.stack([part(**given, generator=generator)[1] for _ in range(64)]) != -100
    _, n_rows, n_tokens = asked.shape
    sizes = {(2,): n_tokens, (1,): n_rows, (1, 2): n_rows * n_tokens}
    return tuple(_spread(asked.sum(axes), p, n_each) for axes, n_each in sizes.items())


def _repeats(part: Part, **given: Any) -> tuple[bool, bool, bool]:
    """Whether chance comes from the generator alone, and moves it on."""
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first, second = part(**given, generator=generator), part(**given, generator=generator)
    before = torch.default_generator.manual_seed(5).get_state()
    again = all(map(torch.equal, first, part(**given, generator=same)))
    untouched = torch.equal(before, torch.get_rng_state())
    return again, not torch.equal(first[1], second[1]), untouched


# --- cases ---------------------------------------------------------------------------------------


@exercise.cases
def cases() -> list[Case]:
    def text(ids: Tensor, p: float, special: Any = False, mask_id: int = 3, n: int = 50) -> Given:
        special = torch.zeros(ids.shape, dtype=torch.bool) | special
        return {"ids": ids, "p": p, "mask_id": mask_id, "n_vocabulary": n, "special": special}

    def certain(title: str, given: Given, point: str = "") -> Case:
        shown = f"mask_tokens(ids, {given['p']}, {given['mask_id']}, …)"
        shown += ", where -1 is left to chance" if given["p"] == 1 else ""
        return Case(title, given, _expected, _certain, shown, OF_CERTAIN, point)

    def chance(
        title: str, given: Given, use: Part, wanted: Any, values: tuple[str, ...], point: str
    ) -> Case:
        shown = f"mask_tokens(ids, {given['p']}, …) of {given['ids'].numel():,} tokens"
        return Case(title, given, lambda *_: wanted, use, shown, values, point)

    ids = torch.tensor([[5, 17, 9, 42, 0], [8, 3, 17, 0, 0]])
    padding = torch.tensor([[False] * 4 + [True], [False] * 3 + [True] * 2])
    long = 4 + inputs.integers(60, 100, below=29_990, seed=5)
    half = text(long[:50], 0.8, inputs.boolean(50, 100, seed=4))
    column = text(long[:30].view(-1, 1), 0.8, False, 103, 30_000)
    row = text(long.view(1, -1), 1.0, False, 103, 30_000)
    twos = torch.full((1, 1200), 2)
    few, more = text(twos, 1.0, n=5), text(twos.T, 1.0, False, 0, 6)
    six_rows, five_rows = text(ids.repeat(3, 1), 0.3), text(long[:5, :40], 0.9)
    of_special = "A special token is never chosen, whatever p: it stays, and its label is -100."
    empty = "A row may have no tokens: both results have the shape of `ids`."
    of_p = "Each token that is not special is chosen with probability `p`, the one that was given."
    of_fates = (
        "Of the chosen tokens 80 % are masked, 10 % become random ones, and 10 % stay, whatever p. "
        "All three are shares of the same number, and are asked for."
    )
    anywhere = "What becomes of a chosen token is drawn for it: the first ones are as any others."
    of_drawn = "Random tokens are drawn anew for every place, from 0 to `n_vocabulary` - 1."
    alone = "Each token is chosen by a draw of its own, so that rows and calls differ in number."
    of_generator = (
        "All chance comes from the given `generator`, which goes on: the same state gives the same "
        "again, the next call gives others, and torch's global state is not used."
    )
    return [
        certain("p = 0: nothing is chosen", text(ids, 0.0)),
        certain("p = 1: everything is", text(ids, 1.0)),
        certain("p = 1, and padding", text(ids, 1.0, padding, 4), of_special),
        certain("p = 1, special tokens in front", text(ids, 1.0, ~padding), of_special),
        certain("a transposed view", text(ids.T, 1.0, padding.T), points.OTHER_ORDER),
        certain("no tokens", text(ids[:, :0], 0.5), empty),
        chance("how many are chosen", half, _chosen, 80.0, (), of_p),
        chance("what becomes of them", column, _fates, FATES, OF_FATES, of_fates),
        chance("what becomes of those in front", row, _fates, FATES, OF_FATES, anywhere),
        chance("random tokens in a row", few, _read, [*range(5)], OF_READ, of_drawn),
        chance("random tokens in a column", more, _read, [*range(6)], OF_READ, of_drawn),
        chance("in 64 calls", six_rows, _spreads, ("as chance has it",) * 3, OF_SPREADS, alone),
        chance("the generator", five_rows, _repeats, (True,) * 3, OF_GENERATOR, of_generator),
    ]


def _expected(ids, p, mask_id, n_vocabulary, special):
    chosen = ~special & (p == 1)
    return ids.masked_fill(chosen, -1), ids.masked_fill(~chosen, -100)


# --- mistakes ------------------------------------------------------------------------------------


def _right(ids, p, mask_id, n_vocabulary, special, generator, drawn=0.1):
    """Right, unless another share of the chosen tokens is drawn."""
    chosen = (torch.rand(ids.shape, generator=generator) < p) & ~special
    fate = torch.rand(ids.shape, generator=generator)
    tokens = torch.randint(n_vocabulary, ids.shape, generator=generator)
    read = torch.where(chosen & (fate < 0.8 + drawn), tokens, ids)
    read = torch.where(chosen & (fate < 0.8), mask_id, read)
    return read, torch.where(chosen, ids, -100)


@exercise.mistake(
    "You mask every chosen token. 10 % become a random token, and 10 % stay, so that the model "
    "must look at every token, also where it reads no mask."
)
def always_mask_token(ids, p, mask_id, n_vocabulary, special, generator):
    _, labels = _right(ids, p, mask_id, n_vocabulary, special, generator)
    return torch.where(labels == -100, ids, mask_id), labels


@exercise.mistake(
    "You ask for every token. Most of them can be read off, and copying is all that would be "
    "learned: where none was chosen the label is -100."
)
def labels_everywhere(ids, p, mask_id, n_vocabulary, special, generator):
    read, _ = _right(ids, p, mask_id, n_vocabulary, special, generator)
    return read, ids.clone()


@exercise.mistake(
    "You choose special tokens, too, such as padding. Nothing can be learned from guessing them: "
    "leave them out, `& ~special`."
)
def masks_special_tokens(ids, p, mask_id, n_vocabulary, special, generator):
    return _right(ids, p, mask_id, n_vocabulary, special & False, generator)


@exercise.mistake(
    "You do not ask for special tokens, and overwrite them nevertheless. They are not chosen, so "
    "they stay: `& ~special` before anything is replaced."
)
def overwrites_special_tokens(ids, p, mask_id, n_vocabulary, special, generator):
    read, labels = _right(ids, p, mask_id, n_vocabulary, special & False, generator)
    return read, labels.masked_fill(special, -100)


@exercise.mistake(
    "Your random tokens are put over a tenth of the masks as well: 72 % are left of 80. Whether a "
    "token is masked, drawn or stays is one decision, from one number."
)
def draws_over_masks(ids, p, mask_id, n_vocabulary, special, generator):
    read, labels = _right(ids, p, mask_id, n_vocabulary, special, generator, drawn=0)
    drawn = (torch.rand(read.shape, generator=generator) < 0.1) & (labels != -100)
    tokens = torch.randint(n_vocabulary, read.shape, generator=generator)
    return torch.where(drawn, tokens, read), labels


@exercise.mistake(
    "Only 2 % of your chosen tokens are drawn: a tenth of the fifth that is not masked. It is a "
    "tenth of all chosen ones, so half of that fifth."
)
def a_tenth_of_the_rest(ids, p, mask_id, n_vocabulary, special, generator):
    return _right(ids, p, mask_id, n_vocabulary, special, generator, drawn=0.02)


@exercise.mistake(
    "The number that decides whether a token is chosen decides its fate as well. Where p is small "
    "all of them are then below 0.8, and masked. Draw a second one."
)
def one_number_for_both(ids, p, mask_id, n_vocabulary, special, generator):
    fate = torch.rand(ids.shape, generator=generator)
    chosen = (fate < p) & ~special
    tokens = torch.randint(n_vocabulary, ids.shape, generator=generator)
    read = torch.where(chosen & (fate < 0.9), tokens, ids)
    return torch.where(chosen & (fate < 0.8), mask_id, read), torch.where(chosen, ids, -100)


@exercise.mistake(
    "You draw from torch's global state. All chance comes from the generator that is given, so "
    "that a run can be repeated: `generator=generator` in every draw."
)
def ignores_the_generator(ids, p, mask_id, n_vocabulary, special, generator):
    return _right(ids, p, mask_id, n_vocabulary, special, None)


@exercise.mistake(
    "You write into the caller's `ids`. The text is needed again, for the labels and the next "
    "epoch: make a new tensor."
)
def in_place(ids, p, mask_id, n_vocabulary, special, generator):
    read, labels = _right(ids, p, mask_id, n_vocabulary, special, generator)
    return ids.copy_(read), labels


# --- other right answers -------------------------------------------------------------------------


@exercise.alternative
def mask_by_bernoulli(ids, p, mask_id, n_vocabulary, special, generator):
    """One decision after the other: chosen, then masked, then a coin for the rest."""
    probability = torch.full(ids.shape, p).masked_fill(special, 0.0)
    chosen = torch.bernoulli(probability, generator=generator).bool()
    labels = ids.clone()
    labels[~chosen] = -100
    read = ids.clone()
    masked = torch.bernoulli(torch.full(ids.shape, 0.8), generator=generator).bool() & chosen
    read[masked] = mask_id
    coin = torch.bernoulli(torch.full(ids.shape, 0.5), generator=generator).bool()
    drawn = coin & chosen & ~masked
    read[drawn] = torch.randint(n_vocabulary, ids.shape, generator=generator)[drawn]
    return read, labels


@exercise.alternative
def mask_token_by_token(ids, p, mask_id, n_vocabulary, special, generator):
    def draw():
        return torch.rand(1, generator=generator).item()

    read, labels = ids.tolist(), []
    for row, never in zip(read, special.tolist(), strict=True):
        labels.append([-100] * len(row))
        for place, token in enumerate(row):
            if never[place] or draw() >= p:
                continue
            labels[-1][place] = token
            fate = draw()
            if fate < 0.8:
                row[place] = mask_id
            elif fate < 0.9:
                row[place] = int(draw() * n_vocabulary)
    return torch.tensor(read, dtype=ids.dtype), torch.tensor(labels, dtype=ids.dtype)


@exercise.alternative
def mask_from_one_number(ids, p, mask_id, n_vocabulary, special, generator):
    """Where a number falls below p it is even there, so its share of p is a fate."""
    number = torch.rand(ids.shape, generator=generator)
    number[special] = 1.0
    tokens = torch.randint(0, n_vocabulary, ids.shape, generator=generator)
    read = torch.where(number < 0.9 * p, tokens, ids).masked_fill(number < 0.8 * p, mask_id)
    return read, ids.masked_fill(number >= p, -100)
