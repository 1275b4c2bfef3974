"""Stories of one form: word by word alike, so that a place means the same in all of them.

A form is a sentence with blanks. What stands in the blanks is drawn, or changed, by name:

    blanks = draw(Random(0))
    words = fill(WHERE, blanks)
    elsewhere = fill(WHERE, blanks | {"last": "jar"})  # the same story with another last place

Every filled form is the beginning of a story that `stories` can tell; what follows is the answer.
"""

from collections.abc import Sequence
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor

from course_utils.corpora import stories
from course_utils.corpora import story_grammar as grammar

_TOLD = (
    "one {weather} {time} {mia} and {tom} met by the lake . "
    "{mia} put a {ball} in a {first} . the {ball} was {red} . "
    "{tom} put a {kite} in a {other} . the {kite} was {blue} . "
    "later {tom} found the {ball} in the {first} and {he} put the {ball} in a {last} . "
)
WHERE = f"{_TOLD}where is the {{asked}} ? the {{asked}} is in the"
COLOUR = f"{_TOLD}what colour is the {{asked}} ? the {{asked}} is"


def draw(random: Random) -> dict[str, str]:
    """Words for the blanks of a form. Both things are singular, and the one that moved is asked."""
    mia, tom = random.sample([*grammar.PRONOUNS], 2)
    ball, kite = random.sample(grammar.ONE, 2)
    first, other, last = random.sample(grammar.PLACES, 3)
    red, blue = random.sample(grammar.COLOURS, 2)
    return {
        **{"weather": random.choice(["sunny", "rainy", "windy", "cold", "warm"])},
        **{"time": random.choice(["day", "morning", "afternoon", "evening"])},
        **{"mia": mia, "tom": tom, "he": grammar.PRONOUNS[tom], "ball": ball, "kite": kite},
        **{"first": first, "other": other, "last": last, "red": red, "blue": blue, "asked": ball},
    }


def fill(form: str, blanks: dict[str, str]) -> list[str]:
    """The words of the form, each blank filled."""
    return form.format(**blanks).split()


def answer(form: str, blanks: dict[str, str]) -> str:
    """What the story's question is answered with."""
    moved = blanks["asked"] == blanks["ball"]
    if "colour" in form:
        return blanks["red" if moved else "blue"]
    return blanks["last" if moved else "other"]


def candidates(form: str, blanks: dict[str, str]) -> list[str]:
    """What somebody might answer who has read the words, and not what belongs to what."""
    names = ("red", "blue") if "colour" in form else ("first", "other", "last")
    return [blanks[name] for name in names]


def place_of(form: str, blank: str, time: int = -1) -> int:
    """Where a blank stands in the form's words, behind <bos>: the last time, or the time-th."""
    words = form.split()
    return [at for at, word in enumerate(words, start=1) if word == f"{{{blank}}}"][time]


# --- Many stories of one form, as numbers --------------------------------------------------------


def several(seed: int, n_rows: int) -> list[dict[str, str]]:
    """Words for the blanks of `n_rows` stories; each asks for one of its two things."""
    random = Random(seed)
    rows = [draw(random) for _ in range(n_rows)]
    return [row | {"asked": random.choice([row["ball"], row["kite"]])} for row in rows]


def partners(sets: Sequence[Sequence[dict[str, str]]], seed: int) -> list[dict[str, str]]:
    """Other stories, to take values from: the n-th has no answer in common with any set's n-th.

    Nor the thing that is asked for, nor the first place: by chance alone no value from it is right.
    """
    drawn = iter(several(seed, 20 * len(sets[0])))
    return [
        next(other for other in drawn if not any(_shares(other, row) for row in rows))
        for rows in zip(*sets, strict=True)
    ]


def _shares(one: dict[str, str], other: dict[str, str]) -> bool:
    answered = any(answer(form, one) == answer(form, other) for form in (WHERE, COLOUR))
    return answered or any(one[blank] == other[blank] for blank in ("asked", "first"))


def told(form: str, rows: Sequence[dict[str, str]]) -> Int[Tensor, "batch tokens"]:
    """The stories as ids, <bos> first, up to the word before the answer."""
    return torch.stack([stories.encode([stories.START, *fill(form, row)]) for row in rows])


def answers(form: str, rows: Sequence[dict[str, str]]) -> Int[Tensor, " batch"]:
    """The ids of the right answers."""
    return stories.encode([answer(form, row) for row in rows])
