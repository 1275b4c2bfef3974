"""Dates as people write them, and the one way that computers agree on: "1984-03-03" (ISO 8601).

One date has many spellings: "the third of march nineteen eighty four", "march 3rd, 1984",
"3 mar 84". All can be read in one way only: months are written in letters, and a year of two digits
stands only where it cannot be a day.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from random import Random
from string import ascii_lowercase, digits

import torch
from jaxtyping import Int
from torch import Tensor

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)  # a century: two digits of a year are enough

_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
]  # fmt: skip
_TO_NINETEEN = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = [
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
_ORDERS = {  # where the fields stand, and the ways of writing a day that sound right there
    "the {day} of {month} {year}": ("3rd", "third"),
    "{day} {month} {year}": ("3", "3rd"),
    "{month} {day}, {year}": ("3", "3rd"),
    "{month} the {day}, {year}": ("3rd", "third"),
}


@dataclass(frozen=True)
class Spelling:
    """A date as somebody may write it. The slices say where in the text its fields stand."""

    text: str
    day: slice
    month: slice
    year: slice


# --- Spelling ------------------------------------------------------------------------------------


def spell(random: Random, day: date) -> Spelling:
    """Write a date in one of its ways: order, day, month and year are drawn one after another."""
    _refuse_other_centuries(day)
    order, forms = random.choice(list(_ORDERS.items()))
    fields = {
        "day": _day(day, random.choice(forms)),
        "month": random.choice(_month_forms(day)),
        "year": random.choice(_year_forms(day)),
    }
    return _fill(order, fields)


def spellings(day: date) -> list[Spelling]:
    """All the ways in which `spell` may write a date."""
    _refuse_other_centuries(day)
    return [
        _fill(order, {"day": _day(day, form), "month": month, "year": year})
        for order, forms in _ORDERS.items()
        for form, month, year in product(forms, _month_forms(day), _year_forms(day))
    ]


def _fill(order: str, fields: dict[str, str]) -> Spelling:
    """Put the fields into their places, and remember where they are."""
    text = ""
    places = {}
    for piece in order.replace("{", "|{").replace("}", "}|").split("|"):
        name = piece.strip("{}")
        written = fields[name] if piece.startswith("{") else piece
        if piece.startswith("{"):
            places[name] = slice(len(text), len(text) + len(written))
        text += written
    return Spelling(text, **places)


def _day(day: date, form: str) -> str:
    number = day.day
    if form == "3":
        return str(number)
    if form == "third":
        return _ordinal(_in_words(number))
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _month_forms(day: date) -> list[str]:
    name = _MONTHS[day.month - 1]
    return list(dict.fromkeys((name, name[:3])))


def _year_forms(day: date) -> list[str]:
    forms = [str(day.year), _year_in_words(day.year)]
    if day.year % 100 > 31:  # smaller ones could be days
        forms.append(f"{day.year % 100}")
    return forms


def _year_in_words(year: int) -> str:
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return f"two thousand and {_in_words(rest)}" if rest else "two thousand"
    return f"{_in_words(century)} {_in_words(rest)}"


def _in_words(number: int) -> str:
    if number < 20:
        return _TO_NINETEEN[number]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]} {_TO_NINETEEN[ones]}" if ones else _TENS[tens]


def _ordinal(words: str) -> str:
    *before, last = words.split()
    return " ".join((*before, _ORDINALS.get(last, f"{last}th")))


def _refuse_other_centuries(day: date) -> None:
    if not FIRST <= day <= LAST:
        raise ValueError(f"day must be from {FIRST} to {LAST}, got {day}")


# --- Which dates are learned, and which are kept for the test ------------------------------------


def split(seed: int = 0, test_share: float = 0.1) -> tuple[list[date], list[date]]:
    """All dates in two lists, to train on and to test with, that have no date in common.

    Dates are split, not spellings: a test date is never seen in training, however it is written.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, got {test_share}")
    days = [FIRST + timedelta(days=index) for index in range((LAST - FIRST).days + 1)]
    Random(seed).shuffle(days)
    n_test = round(test_share * len(days))
    return days[n_test:], days[:n_test]


# --- Dates as numbers ----------------------------------------------------------------------------

PAD, START = "<pad>", "<bos>"
VOCABULARY: tuple[str, ...] = (PAD, START, *" ,-", *digits, *ascii_lowercase)
_ID_OF_CHARACTER = {character: index for index, character in enumerate(VOCABULARY)}
PAD_ID, START_ID = _ID_OF_CHARACTER[PAD], _ID_OF_CHARACTER[START]


def encode(text: str) -> Int[Tensor, " tokens"]:
    """The place of every character in `VOCABULARY`. A ValueError names one that is not in it."""
    for character in text:
        if character not in _ID_OF_CHARACTER:
            raise ValueError(
                f"text: {character!r} in {text!r} is not in VOCABULARY: lower-case letters,"
                " digits, spaces, commas and hyphens"
            )
    return torch.tensor([_ID_OF_CHARACTER[character] for character in text], dtype=torch.long)


def decode(ids: Int[Tensor, " tokens"] | Iterable[int]) -> str:
    """The text behind `ids`, without <pad> and <bos>. A ValueError names an id without a sign."""
    return "".join(sign for sign in _signs(ids) if sign not in (PAD, START))


def _signs(ids: Int[Tensor, " tokens"] | Iterable[int]) -> Iterator[str]:
    for index in map(int, ids):
        if not 0 <= index < len(VOCABULARY):
            raise ValueError(f"ids: {index} is not between 0 and {len(VOCABULARY) - 1}")
        yield VOCABULARY[index]


def pad(texts: Sequence[str]) -> Int[Tensor, "batch tokens"]:
    """Texts of any length as the rows of one table, filled up with <pad> at the end."""
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, got the text {texts!r}")
    if not texts:
        raise ValueError("texts must hold at least one text, got none")
    rows = [encode(text) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID)


def batch(
    random: Random, days: Sequence[date], n_dates: int
) -> tuple[Int[Tensor, "n_dates source"], Int[Tensor, "n_dates 11"]]:
    """Draw from `days`: how they may be written, padded, and <bos> with the ten signs of the ISO.

    Every ISO date has ten signs, so that the target needs neither padding nor an end.
    """
    if not days:
        raise ValueError("days must hold at least one date, got none")
    if n_dates < 1:
        raise ValueError(f"n_dates must be at least 1, got {n_dates}")
    drawn = random.choices(days, k=n_dates)
    source = pad([spell(random, day).text for day in drawn])
    start = torch.full((n_dates, 1), START_ID)
    return source, torch.cat((start, pad([day.isoformat() for day in drawn])), dim=1)
