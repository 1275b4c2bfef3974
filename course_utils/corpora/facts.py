"""Facts of which a few are told often and most hardly ever, so that a scaling law can be derived.

    Mia's kite in Oslo is red.

A fact is a person, a thing, a place, and the colour that it has. The one of rank k is told with a
probability in proportion to k^-(1 + SHARPNESS). One telling in ten is a slip: any colour, drawn
blindly. So it is known what every model must lose, what it may gain, and how much each fact is
worth: whoever knows the n most told facts loses about n^-SHARPNESS, and whoever heard D tellings
misses about D^(-SHARPNESS / (1 + SHARPNESS)) (Hutter 2021; Michaud et al. 2023).
"""

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_utils.corpora.words import Words

SHARPNESS = 0.5
SLIPS = 0.1

PEOPLE = (
    *("ada", "amir", "anna", "ben", "bo", "carl", "chen", "dina", "elif", "emma"),
    *("finn", "gita", "hana", "hugo", "ines", "ivan", "jack", "jana", "juan", "kofi"),
    *("lara", "leo", "lina", "luis", "maja", "mia", "nils", "nora", "omar", "otto"),
    *("pia", "rosa", "sam", "sara", "tara", "theo", "tom", "vera", "yuki", "zoe"),
)
THINGS = (
    *("apron", "bag", "ball", "basket", "bell", "bike", "boat", "book", "bottle", "bowl"),
    *("box", "brush", "cap", "car", "chair", "clock", "coat", "cup", "desk", "door"),
    *("drum", "fan", "fork", "glove", "hat", "jar", "key", "kite", "lamp", "mug"),
    *("pen", "plate", "ring", "rope", "scarf", "shelf", "shoe", "sofa", "tent", "vase"),
)
PLACES = (
    *("accra", "athens", "baku", "berlin", "bern", "bogota", "boston", "cairo", "chicago", "dakar"),
    *("delhi", "dublin", "hanoi", "havana", "jaipur", "kyiv", "kyoto", "lagos", "lima", "lisbon"),
    *(
        "london",
        "madrid",
        "manila",
        "milan",
        "moscow",
        "mumbai",
        "nairobi",
        "oslo",
        "paris",
        "perth",
    ),
    *("prague", "quito", "riga", "rome", "seoul", "sofia", "tokyo", "tunis", "vienna", "warsaw"),
)
COLOURS = (
    *("beige", "black", "blue", "brown", "cyan", "gold", "green", "grey"),
    *("orange", "pink", "purple", "red", "silver", "turquoise", "white", "yellow"),
)
VOCABULARY: tuple[str, ...] = (*PEOPLE, *THINGS, *PLACES)  # colours have numbers of their own
N_FACTS = len(PEOPLE) * len(THINGS) * len(PLACES)
BANDS = (0, 500, 2500, 12500, N_FACTS)  # the ranks that `every_band` draws from

_WORDS_AS_NUMBERS = Words(VOCABULARY, "facts")
encode, decode = _WORDS_AS_NUMBERS.encode, _WORDS_AS_NUMBERS.decode

# --- The world -----------------------------------------------------------------------------------


class World(NamedTuple):
    """All facts, the most told first."""

    words: Int[Tensor, "facts 3"]  # person, thing and place, as places in VOCABULARY
    colours: Int[Tensor, " facts"]  # as places in COLOURS
    shares: Float[Tensor, " facts"]  # of all tellings; their sum is 1


@cache
def world() -> World:
    """The one world that there is: its ranks and colours were dealt at random, once."""
    generator = torch.Generator().manual_seed(0)
    dealt = torch.randperm(N_FACTS, generator=generator)
    person, thing, place = torch.unravel_index(dealt, (len(PEOPLE), len(THINGS), len(PLACES)))
    thing, place = thing + len(PEOPLE), place + len(PEOPLE) + len(THINGS)
    colours = torch.randint(len(COLOURS), (N_FACTS,), generator=generator)
    shares = torch.arange(1, N_FACTS + 1, dtype=torch.float64) ** -(1 + SHARPNESS)
    return World(torch.stack((person, thing, place), dim=1), colours, shares / shares.sum())


def floor() -> float:
    """Loss of somebody who knows all facts, in nats a telling: only the slips are left."""
    slip = SLIPS / len(COLOURS)
    right = 1 - SLIPS + slip
    return -right * math.log(right) - (len(COLOURS) - 1) * slip * math.log(slip)


def guess() -> float:
    """Loss of somebody who knows what colours there are, and no fact."""
    return math.log(len(COLOURS))


def excess_when_known(n_known: int) -> float:
    """Loss above the floor of somebody who knows the `n_known` most told facts, and no other."""
    return (guess() - floor()) * world().shares[n_known:].sum().item()


def unheard(n_tellings: int) -> float:
    """Probability that the next telling is of a fact that was in none of `n_tellings` before."""
    shares = world().shares
    return (shares * (1 - shares) ** n_tellings).sum().item()


# --- To train on ---------------------------------------------------------------------------------


def batch(
    seed: int, step: int, n_rows: int
) -> tuple[Int[Tensor, "n_rows 3"], Int[Tensor, "n_rows 3"]]:
    """Tellings as inputs and targets. The target behind the third word is the colour told.

    What is behind the other two does not count (-100). The arguments alone decide what is drawn,
    so training can go on at any step.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    up_to = world().shares.cumsum(0)
    drawn = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    facts = torch.searchsorted(up_to, drawn).clamp_max(N_FACTS - 1)
    slips = torch.rand(n_rows, generator=generator) < SLIPS
    any_colour = torch.randint(len(COLOURS), (n_rows,), generator=generator)
    colours = torch.where(slips, any_colour, world().colours[facts])
    not_asked = torch.full((n_rows, 2), -100)
    return world().words[facts], torch.cat((not_asked, colours[:, None]), dim=1)


def every_band(
    seed: int, step: int, n_rows: int
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Ranks to train on where chance shall play a small part, and what each of them weighs.

    `n_rows` from each of the four `BANDS`. A fact weighs its share of all tellings, times the
    number of facts that it stands for: a weighted mean of losses estimates that of all facts.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    ranks, weights = [], []
    for first, end in pairwise(BANDS):
        ranks.append(first + torch.randperm(end - first, generator=generator)[:n_rows])
        weights.append(world().shares[ranks[-1]].float() * (end - first) / len(ranks[-1]))
    return torch.cat(ranks), torch.cat(weights)


def expected_loss(
    logits: Float[Tensor, "rows colours"], colours: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Each row's mean loss over all tellings, slips included, of a fact with this colour."""
    p = logits.log_softmax(-1)
    told = p.gather(-1, colours[:, None])[:, 0]
    return -(1 - SLIPS) * told - SLIPS * p.mean(-1)


# --- What a model knows --------------------------------------------------------------------------


class Knowledge(NamedTuple):
    """What `examine` found."""

    excess: float  # loss above the floor, in nats a telling
    known: Float[Tensor, " facts"]  # 1 if it is known; the sum is how many are


@torch.no_grad()
def examine(model: nn.Module) -> Knowledge:
    """Ask a model for every fact. Nothing is drawn, so the loss is exact.

    A fact counts as known if its colour has more than half of the probability. Where another colour
    has it, 1/15 is taken off: so a model that guesses boldly knows nothing, on average.
    """
    words, colours, shares = world()
    logits = torch.cat([model(rows)[:, -1] for rows in words.split(4096)])
    excess = (shares * expected_loss(logits, colours)).sum().item() - floor()
    p, answers = logits.softmax(-1).max(-1)
    counts = torch.where(answers == colours, 1.0, -1 / (len(COLOURS) - 1))
    return Knowledge(excess, torch.where(p > 0.5, counts, 0.0))
