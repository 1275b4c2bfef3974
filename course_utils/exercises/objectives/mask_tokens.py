"""objectives.mask_tokens: what BERT reads, and what it must say.

A right answer may draw in any order, so no case asks for one stream of draws. What is not certain
is counted over 8,000 tokens, and may be five standard deviations off: chance alone is further off
once in two million times.
"""

import math
from collections.abc import Callable
from functools import partial
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

SHARES = (0.0, 2.0, 10.0, 12.0, 18.0, 20.0, 72.0, 80.0, 90.0, 100.0)
"""Shares in per cent that are recognised in a wrong answer, whatever it has drawn."""


def _share(count: Any, n: Any, wanted: float) -> float:
    """`count` of `n` in per cent: `wanted` where chance may have made that of it."""

    def may_be(share: float) -> bool:
        p = share / 100
        return abs(int(count) - n * p) <= 5 * math.sqrt(n * p * (1 - p))

    seen = 100 * int(count) / max(int(n), 1)
    known = [share for share in SHARES if may_be(share)]
    if may_be(wanted):
        return wanted
    return min(known, key=lambda share: abs(share - seen)) if known else float(round(seen))


def _spread(counts: Tensor, p: float, n_each: int) -> str:
    """How far counts are spread, of `n_each` tokens each, beside independent ones."""
    ratio = float(counts.double().var()) / (n_each * p * (1 - p))
    tolerance = 5 * math.sqrt(2 / len(counts))
    if abs(ratio - 1) <= tolerance:
        return "as chance has it"
    return "less than chance has it" if ratio < 1 else "more than chance has it"


# --- what is measured: (inputs, labels) beside the arguments -------------------------------------


def _certain(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> Any:
    """With p = 1 only the inputs of chosen tokens are left to chance: -1 here."""
    return found[0].masked_fill(~given["special"], -1), found[1]


def _fates(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[float, ...]:
    asked = found[1] != -100
    before, after = given["ids"][asked], found[0][asked]
    masked, same = after == given["mask_id"], after == before
    counts = masked.sum(), (~masked & ~same).sum(), same.sum()
    return tuple(
        _share(count, asked.sum(), wanted)
        for count, wanted in zip(counts, (80.0, 10.0, 10.0), strict=True)
    )


def _fates_in_front(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[float, ...]:
    """Those in the first half of the rows."""
    half = len(given["ids"]) // 2
    return _fates((found[0][:half], found[1][:half]), {**given, "ids": given["ids"][:half]})


def _chosen(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[float, float]:
    asked, special = found[1] != -100, given["special"]
    share = _share((asked & ~special).sum(), (~special).sum(), 100 * given["p"])
    return share, _share((asked & special).sum(), special.sum(), 0.0)


def _agree(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[bool, bool]:
    ids, asked = given["ids"], found[1] != -100
    labels = torch.equal(found[1][asked], ids[asked])
    return labels, torch.equal(found[0][~asked], ids[~asked])


def _drawn(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[float, float, bool]:
    """Of what random tokens become, where all tokens of the text are the same one."""
    n, n_vocabulary = given["ids"].numel(), given["n_vocabulary"]
    others = set(range(n_vocabulary)) - {given["mask_id"], int(given["ids"].flatten()[0])}
    shares = [_share((found[0] == one).sum(), n, 10 / n_vocabulary) for one in others]
    known = (found[0] >= 0) & (found[0] < n_vocabulary)
    return min(shares), max(shares), bool(known.all())


def _spreads(found: tuple[Tensor, Tensor], given: dict[str, Any]) -> tuple[str, str]:
    asked = found[1] != -100
    n_rows, n_tokens = asked.shape
    return (
        _spread(asked.sum(1), given["p"], n_tokens),
        _spread(asked.sum(0), given["p"], n_rows),
    )


def _measured(measure: Callable[..., Any], part: Part, **given: Any) -> Any:
    """What is measured, or what the part gave, where that is not two tensors like `ids`."""
    found = part(**given, generator=torch.Generator().manual_seed(7))
    fits = isinstance(found, tuple) and len(found) == 2
    fits = fits and all(isinstance(one, Tensor) for one in found)
    fits = fits and all(one.shape == given["ids"].shape for one in found)
    return measure(found, given) if fits else found


def _as_it_is(part: Part, **given: Any) -> Any:
    return part(**given, generator=torch.Generator().manual_seed(7))


def _spread_of_calls(part: Part, **given: Any) -> str:
    """How the number of chosen tokens varies in 300 calls."""
    generator = torch.Generator().manual_seed(11)
    calls = [part(**given, generator=generator)[1] for _ in range(300)]
    counts = torch.stack([(labels != -100).sum() for labels in calls])
    return _spread(counts, given["p"], given["ids"].numel())


def _by_the_generator(part: Part, **given: Any) -> tuple[bool, bool, bool]:
    """Whether chance comes from the generator alone, and moves it on."""

    def call(generator: torch.Generator, global_seed: int) -> tuple[Tensor, Tensor]:
        torch.default_generator.manual_seed(global_seed)
        inputs_, labels = part(**given, generator=generator)
        return inputs_.clone(), labels.clone()

    generator = torch.Generator().manual_seed(3)
    first, second = call(generator, 1), call(generator, 2)
    before = torch.get_rng_state()
    again = part(**given, generator=torch.Generator().manual_seed(3))
    untouched = torch.equal(before, torch.get_rng_state())
    return all(map(torch.equal, first, again)), not torch.equal(first[1], second[1]), untouched


# --- cases ---------------------------------------------------------------------------------------


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        use: Callable[..., Any],
        oracle: Callable[..., Any],
        shown: str = "",
        values: tuple[str, ...] = ("What is read", "The labels"),
        point: str = "",
        **given: Any,
    ) -> Case:
        call = shown or f"mask_tokens(ids, {given['p']}, {given['mask_id']}, …)"
        return Case(title, given, oracle, use, call, values, point)

    def text(
        ids: Tensor, p: float, special: Tensor | None = None, mask_id: int = 3, n: int = 50
    ) -> dict[str, Any]:
        special = torch.zeros(ids.shape, dtype=torch.bool) if special is None else special
        return {"ids": ids, "p": p, "mask_id": mask_id, "n_vocabulary": n, "special": special}

    def certain(title: str, given: dict[str, Any], point: str = "") -> Case:
        shown = f"mask_tokens(ids, {given['p']}, …), where -1 is left to chance"
        return case(title, partial(_measured, _certain), _all_asked, shown, point=point, **given)

    def nothing(title: str, given: dict[str, Any], point: str = "") -> Case:
        return case(title, _as_it_is, _none_asked, point=point, **given)

    def measured(
        title: str,
        measure: Callable[..., Any],
        wanted: tuple[Any, ...],
        values: tuple[str, ...],
        given: dict[str, Any],
        point: str,
    ) -> Case:
        shown = f"mask_tokens(ids, {given['p']}, …) of {given['ids'].numel():,} tokens"
        use = partial(_measured, measure)
        return case(title, use, lambda *_: wanted, shown, values, point, **given)

    ids = torch.tensor([[5, 17, 9, 42, 0], [8, 3, 17, 0, 0]])
    padding = torch.tensor([[False] * 4 + [True], [False] * 3 + [True] * 2])
    long = 4 + inputs.integers(100, 80, below=29_990)
    half = inputs.boolean(100, 80, seed=4)
    twos = torch.full((1, 8000), 2)
    fates = tuple(
        f"The percentage of chosen tokens that {what}" for what in ("are masked", "change", "stay")
    )
    chosen = (
        "The percentage of tokens that are chosen",
        "The percentage of special tokens that are chosen",
    )
    agree = (
        "Whether every label is the token itself",
        "Whether the text stays where nothing is asked",
    )
    drawn = (
        "The percentage of the rarest random token",
        "The percentage of the most frequent random token",
        "Whether all tokens are in the vocabulary",
    )
    spread = (
        "How the number of chosen tokens varies from row to row",
        "How the number of chosen tokens varies from place to place",
    )
    chance = (
        "Whether a generator in the same state gives the same again",
        "Whether a generator that has gone on gives others",
        "Whether the global random state stays as it was",
    )
    of_fates = (
        "Of the chosen tokens 80 % are masked, 10 % become random ones, and 10 % stay, whatever p. "
        "All three are shares of the same number, and are asked for."
    )
    anywhere = (
        "What becomes of a chosen token is drawn for it, wherever it stands: the first rows have "
        "masks, random tokens and others as the last ones have."
    )
    of_special = "A special token is never chosen, whatever p: it stays, and its label is -100."
    of_p = "Each token that is not special is chosen with probability `p`, the one that was given."
    of_labels = (
        "Labels are the tokens of `ids`, wherever a token was chosen, and -100 elsewhere. Where "
        "nothing is asked the input stays as it was."
    )
    of_drawn = (
        "A random token is drawn anew for every place, evenly from 0 to `n_vocabulary` - 1, and "
        "may be any of them."
    )
    alone = (
        "Each token is chosen by a draw of its own: rows differ, and so does the number of chosen "
        "tokens, from row to row and from call to call."
    )
    of_generator = (
        "All chance comes from the given `generator`, which goes on: the same state gives the same "
        "again, the next call gives others, and torch's global state is not used."
    )
    empty = "A row may have no tokens: both results have the shape of `ids`."
    big: dict[str, Any] = {"mask_id": 103, "n": 30_000}
    return [
        nothing("p = 0: nothing is chosen", text(ids, 0.0)),
        certain("p = 1: everything is", text(ids, 1.0)),
        certain("p = 1, and padding", text(ids, 1.0, padding, mask_id=4), of_special),
        certain("p = 1, special tokens anywhere", text(ids, 1.0, ~padding), of_special),
        nothing("p = 1, all are special", text(ids, 1.0, padding | True), of_special),
        certain("a transposed view", text(ids.T, 1.0, padding.T), points.OTHER_ORDER),
        nothing("no tokens", text(ids[:, :0], 0.5), empty),
        measured(
            "how many are chosen", _chosen, (15.0, 0.0), chosen, text(long, 0.15, **big), of_p
        ),
        measured("p = 0.4", _chosen, (40.0, 0.0), chosen, text(long, 0.4, ~half, **big), of_p),
        measured(
            "what becomes of all",
            _fates,
            (80.0, 10.0, 10.0),
            fates,
            text(long, 1.0, **big),
            of_fates,
        ),
        measured(
            "what becomes of some",
            _fates,
            (80.0, 10.0, 10.0),
            fates,
            text(long, 0.4, **big),
            of_fates,
        ),
        measured(
            "in one row", _fates, (80.0, 10.0, 10.0), fates, text(long.view(1, -1), 1.0), of_fates
        ),
        measured(
            "what becomes of those in front",
            _fates_in_front,
            (80.0, 10.0, 10.0),
            fates,
            text(long, 1.0, **big),
            anywhere,
        ),
        measured("what is asked", _agree, (True, True), agree, text(long, 0.4, half), of_labels),
        measured("tokens of 0 to 9", _agree, (True, True), agree, text(long % 10, 0.3), of_labels),
        measured(
            "random tokens in a row",
            _drawn,
            (10 / 12, 10 / 12, True),
            drawn,
            text(twos, 1.0, mask_id=11, n=12),
            of_drawn,
        ),
        measured(
            "random tokens in a column",
            _drawn,
            (10 / 13, 10 / 13, True),
            drawn,
            text(twos.T, 1.0, mask_id=0, n=13),
            of_drawn,
        ),
        measured(
            "each on its own",
            _spreads,
            ("as chance has it", "as chance has it"),
            spread,
            text(long, 0.2, **big),
            alone,
        ),
        case(
            "many calls",
            _spread_of_calls,
            lambda *_: "as chance has it",
            "how the number of chosen tokens varies in 300 calls",
            (),
            alone,
            **text(long[:4, :5], 0.3),
        ),
        case(
            "the generator",
            _by_the_generator,
            lambda *_: (True, True, True),
            "mask_tokens(ids, 0.5, …), several times",
            chance,
            of_generator,
            **text(long[:5], 0.5),
        ),
    ]


def _none_asked(ids, p, mask_id, n_vocabulary, special):
    return ids.clone(), torch.full_like(ids, -100)


def _all_asked(ids, p, mask_id, n_vocabulary, special):
    return torch.where(special, ids, -1), torch.where(special, -100, ids)


# --- mistakes ------------------------------------------------------------------------------------


def _rand(ids, generator):
    return torch.rand(ids.shape, generator=generator)


def _choose(ids, p, special, generator):
    return (_rand(ids, generator) < p) & ~special


def _labels(ids, chosen):
    return torch.where(chosen, ids, -100)


def _spoil(ids, chosen, mask_id, n_vocabulary, generator, masked=0.8, drawn=0.1):
    """Right, unless other shares of the chosen tokens are masked and drawn."""
    fate = _rand(ids, generator)
    tokens = torch.randint(n_vocabulary, ids.shape, generator=generator)
    spoiled = torch.where(chosen & (fate < masked + drawn), tokens, ids)
    return torch.where(chosen & (fate < masked), mask_id, spoiled)


@exercise.mistake(
    "You ask for every token. Most of them can be read off, and copying is all that would be "
    "learned: where none was chosen the label is -100."
)
def labels_everywhere(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), ids.clone()


@exercise.mistake(
    "You mask every chosen token. 10 % become a random token, and 10 % stay, so that the model "
    "must look at every token, also where it reads no mask."
)
def always_mask_token(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return ids.masked_fill(chosen, mask_id), _labels(ids, chosen)


@exercise.mistake(
    "You choose special tokens, too, such as padding. Nothing can be learned from guessing them: "
    "leave them out, `& ~special`."
)
def masks_special_tokens(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _rand(ids, generator) < p
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, chosen)


@exercise.mistake(
    "You choose special tokens and no others. `special` is True where a token stays: `~special`."
)
def only_special_tokens(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, ~special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, chosen)


@exercise.mistake(
    "You do not ask for special tokens, and overwrite them nevertheless. They are not chosen, so "
    "they stay: `& ~special` before anything is replaced."
)
def overwrites_special_tokens(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _rand(ids, generator) < p
    read = _spoil(ids, chosen, mask_id, n_vocabulary, generator)
    return read, _labels(ids, chosen & ~special)


@exercise.mistake(
    "Your random tokens are put over a tenth of the masks as well: 72 % are left of 80. Whether a "
    "token is masked, drawn or stays is one decision, from one number."
)
def draws_over_masks(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    read = torch.where(chosen & (_rand(ids, generator) < 0.8), mask_id, ids)
    tokens = torch.randint(n_vocabulary, ids.shape, generator=generator)
    read = torch.where(chosen & (_rand(ids, generator) < 0.1), tokens, read)
    return read, _labels(ids, chosen)


@exercise.mistake(
    "You do not ask for chosen tokens that stayed as they were. They are 10 % of the chosen ones, "
    "and their label is the token, too."
)
def asks_only_what_has_changed(ids, p, mask_id, n_vocabulary, special, generator):
    read = _spoil(ids, _choose(ids, p, special, generator), mask_id, n_vocabulary, generator)
    return read, _labels(ids, read != ids)


@exercise.mistake(
    "You ask only where a mask stands. Random tokens, and those that stayed, are chosen as well: "
    "their labels are the tokens of `ids`."
)
def asks_only_at_masks(ids, p, mask_id, n_vocabulary, special, generator):
    read = _spoil(ids, _choose(ids, p, special, generator), mask_id, n_vocabulary, generator)
    return read, _labels(ids, read == mask_id)


@exercise.mistake(
    "None of your chosen tokens stays: 80 % are masked, and the others are drawn. 10 % are drawn, "
    "10 % stay as they are."
)
def none_stays(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator, drawn=0.2), _labels(ids, chosen)


@exercise.mistake(
    "None of your chosen tokens becomes a random one: 80 % are masked, and the others stay. Half "
    "of those others are drawn."
)
def none_is_drawn(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator, drawn=0), _labels(ids, chosen)


@exercise.mistake(
    "Only 2 % of your chosen tokens are drawn: a tenth of the fifth that is not masked. It is a "
    "tenth of all chosen ones, so half of that fifth."
)
def a_tenth_of_the_rest(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator, drawn=0.02), _labels(ids, chosen)


@exercise.mistake(
    "Your first chosen tokens are masked, the next ones drawn, and the last ones stay. The fate of "
    "each one is drawn: otherwise it could be told from the place."
)
def fate_told_by_the_place(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    places, read = chosen.nonzero(as_tuple=True), ids.clone()
    n = len(places[0])
    tokens = torch.randint(n_vocabulary, (n,), generator=generator)
    tokens[: int(0.8 * n)] = mask_id
    first = tuple(place[: int(0.9 * n)] for place in places)
    read[first] = tokens[: int(0.9 * n)]
    return read, _labels(ids, chosen)


@exercise.mistake(
    "The number that decides whether a token is chosen decides its fate as well. Where p is small "
    "all of them are then below 0.8, and masked. Draw a second one."
)
def one_number_for_both(ids, p, mask_id, n_vocabulary, special, generator):
    fate = _rand(ids, generator)
    chosen = (fate < p) & ~special
    tokens = torch.randint(n_vocabulary, ids.shape, generator=generator)
    read = torch.where(chosen & (fate < 0.9), tokens, ids)
    return torch.where(chosen & (fate < 0.8), mask_id, read), _labels(ids, chosen)


@exercise.mistake(
    "You choose the same number of tokens in every row. Each token has a draw of its own, so that "
    "the number varies: `torch.rand(ids.shape, …) < p`."
)
def as_many_in_every_row(ids, p, mask_id, n_vocabulary, special, generator):
    numbers = _rand(ids, generator).masked_fill(special, 2.0)
    ranks = numbers.argsort(1).argsort(1)
    count = (p * (~special).sum(1, keepdim=True)).round()
    chosen = ranks < count
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, chosen)


@exercise.mistake(
    "All rows are masked at the same places. Draw numbers of the shape of `ids`, not of one row."
)
def same_places_in_every_row(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = (torch.rand(ids.shape[1], generator=generator) < p) & ~special
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, chosen)


@exercise.mistake(
    "One random token takes all places. Draw one for every place: `torch.randint` with the shape "
    "of `ids`."
)
def one_random_token_for_all(ids, p, mask_id, n_vocabulary, special, generator):
    chosen, fate = _choose(ids, p, special, generator), _rand(ids, generator)
    token = int(torch.randint(n_vocabulary, (1,), generator=generator))
    read = torch.where(chosen & (fate < 0.9), token, ids)
    return torch.where(chosen & (fate < 0.8), mask_id, read), _labels(ids, chosen)


@exercise.mistake(
    "Token 0 is never drawn: your random tokens begin at 1. They come from the whole vocabulary, "
    "0 to `n_vocabulary` - 1."
)
def never_draws_token_0(ids, p, mask_id, n_vocabulary, special, generator):
    chosen, fate = _choose(ids, p, special, generator), _rand(ids, generator)
    tokens = torch.randint(1, n_vocabulary, ids.shape, generator=generator)
    read = torch.where(chosen & (fate < 0.9), tokens, ids)
    return torch.where(chosen & (fate < 0.8), mask_id, read), _labels(ids, chosen)


@exercise.mistake(
    "The last token of the vocabulary is never drawn. The upper end that `torch.randint` is given "
    "does not come up itself: give it `n_vocabulary`."
)
def never_draws_the_last_token(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary - 1, generator), _labels(ids, chosen)


@exercise.mistake(
    "The label is 0 where nothing is asked, and 0 is a token. It is -100, which "
    "`training.cross_entropy` leaves out."
)
def zero_where_nothing_is_asked(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), ids * chosen


@exercise.mistake(
    "Your labels are what is read, masks included. They are the tokens of `ids`, as they were "
    "before."
)
def labels_from_what_is_read(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    read = _spoil(ids, chosen, mask_id, n_vocabulary, generator)
    return read, _labels(read, chosen)


@exercise.mistake(
    "You ask where nothing was chosen. The labels are -100 there, and tokens where one was chosen."
)
def labels_turned_around(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, ~chosen)


@exercise.mistake(
    "You choose with probability 1 - p: a number is below p with probability p, and above it "
    "otherwise."
)
def chooses_the_others(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = (_rand(ids, generator) > p) & ~special
    return _spoil(ids, chosen, mask_id, n_vocabulary, generator), _labels(ids, chosen)


@exercise.mistake(
    "You draw from torch's global state. All chance comes from the generator that is given, so "
    "that a run can be repeated: `generator=generator` in every draw."
)
def ignores_the_generator(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, None)
    return _spoil(ids, chosen, mask_id, n_vocabulary, None), _labels(ids, chosen)


@exercise.mistake(
    "Your calls all choose the same places: you make, or seed, a generator in the function. Draw "
    "from the one that is given, as it is."
)
def a_seed_of_its_own(ids, p, mask_id, n_vocabulary, special, generator):
    own = torch.Generator().manual_seed(0)
    chosen = _choose(ids, p, special, own)
    return _spoil(ids, chosen, mask_id, n_vocabulary, own), _labels(ids, chosen)


@exercise.mistake(
    "You write into the caller's `ids`. The text is needed again, for the labels and the next "
    "epoch: make a new tensor."
)
def in_place(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    labels = _labels(ids, chosen)
    return ids.copy_(_spoil(ids, chosen, mask_id, n_vocabulary, generator)), labels


@exercise.mistake("You return the labels first. What is read comes first, then the labels.")
def labels_first(ids, p, mask_id, n_vocabulary, special, generator):
    chosen = _choose(ids, p, special, generator)
    return _labels(ids, chosen), _spoil(ids, chosen, mask_id, n_vocabulary, generator)


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
    read = torch.where(
        number < 0.9 * p,
        torch.randint(0, n_vocabulary, ids.shape, generator=generator),
        ids,
    )
    read = torch.where(number < 0.8 * p, torch.full_like(ids, mask_id), read)
    return read, torch.where((number < p) & ~special, ids, torch.full_like(ids, -100))


@exercise.alternative
def mask_by_places(ids, p, mask_id, n_vocabulary, special, generator):
    """Only the chosen places are drawn for."""
    read, labels = ids.clone(), torch.full_like(ids, -100)
    chosen = ((torch.rand(ids.shape, generator=generator) < p) & ~special).nonzero(as_tuple=True)
    labels[chosen] = ids[chosen]
    n = len(chosen[0])
    kind = (
        torch.multinomial(torch.tensor([0.8, 0.1, 0.1]), n, True, generator=generator) if n else 0
    )
    tokens = torch.randint(n_vocabulary, (n,), generator=generator)
    choices = torch.stack([torch.full((n,), mask_id), tokens, ids[chosen]])
    read[chosen] = choices[kind, torch.arange(n)] if n else read[chosen]
    return read, labels
