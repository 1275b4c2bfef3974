"""The dates corpus: every spelling can be read in one way, and training never sees a test date."""

import re
from datetime import date, timedelta
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.corpora import dates

every_date = st.dates(dates.FIRST, dates.LAST)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
ORDINALS = [
    "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth",
    "seventeenth", "eighteenth", "nineteenth",
]  # fmt: skip
SMALL = {word: value for words in (ONES, ORDINALS) for value, word in enumerate(words)}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70}
TENS |= {"eighty": 80, "ninety": 90, "twentieth": 20, "thirtieth": 30}


def in_digits(words: str) -> int:
    """Read number words of a day or a year, or digits, without knowing how they were written."""
    if digits := re.fullmatch(r"(\d+)(st|nd|rd|th)?", words):
        return int(digits[1])
    if words.startswith("two thousand"):
        return 2000 + in_digits(words.removeprefix("two thousand").removeprefix(" and ") or "0")
    total = 0
    for word in words.split():
        value = SMALL[word] if word in SMALL else TENS[word]
        is_century = total in (19, 20) and (value >= 10 or total == 19)
        total = 100 * total + value if is_century else total + value
    return total


def read(spelling: dates.Spelling) -> date:
    """The date that a person would read."""
    text = spelling.text
    year = in_digits(text[spelling.year])
    if year < 100:
        assert year > 31, "it could be a day"
        year += 1900 if year >= 50 else 2000
    month = MONTHS.index(text[spelling.month][:3]) + 1
    return date(year, month, in_digits(text[spelling.day]))


@given(every_date)
def test_every_spelling_means_its_date(day):
    ways = dates.spellings(day)
    assert {read(way) for way in ways} == {day}
    assert len({way.text for way in ways}) == len(ways) >= 16


@given(every_date, every_date)
def test_no_text_means_two_dates(one, other):
    texts = [{way.text for way in dates.spellings(day)} for day in (one, other)]
    assert one == other or not texts[0] & texts[1]


def test_spellings_of_one_date():
    texts = {way.text for way in dates.spellings(date(1984, 3, 3))}
    assert len(texts) == 4 * 2 * 2 * 3
    assert texts >= {
        "the third of march nineteen eighty four",
        "march 3, 1984",
        "3 mar 84",
        "march the 3rd, nineteen eighty four",
    }


@pytest.mark.parametrize(
    ("day", "text"),
    [
        (date(2000, 5, 1), "the first of may two thousand"),
        (date(2004, 12, 12), "the twelfth of december two thousand and four"),
        (date(2010, 6, 20), "the twentieth of june twenty ten"),
        (date(2049, 10, 31), "the thirty first of october twenty forty nine"),
        (date(1950, 8, 22), "22nd aug 50"),
        (date(1999, 1, 11), "jan 11th, nineteen ninety nine"),
        (date(2032, 9, 13), "13th sep 32"),
    ],
)
def test_how_it_is_written(day, text):
    assert text in {way.text for way in dates.spellings(day)}


def test_a_year_of_two_digits_is_never_one_that_could_be_a_day():
    for year in range(2000, 2032):
        for way in dates.spellings(date(year, 3, 3)):
            assert len(way.text[way.year]) >= 4


@given(st.integers(), every_date)
def test_what_is_drawn_is_one_of_the_spellings(seed, day):
    drawn = dates.spell(Random(seed), day)
    assert drawn == dates.spell(Random(seed), day)
    assert drawn in dates.spellings(day)
    assert dates.decode(dates.encode(drawn.text)) == drawn.text


def test_every_spelling_is_drawn_at_some_time():
    random = Random(0)
    drawn = {dates.spell(random, date(1984, 3, 3)).text for _ in range(1000)}
    assert drawn == {way.text for way in dates.spellings(date(1984, 3, 3))}


def test_training_and_test_dates_are_kept_apart():
    training, test = dates.split()
    assert not set(training) & set(test)
    century = {dates.FIRST + timedelta(days=index) for index in range(36_525)}
    assert set(training) | set(test) == century
    assert len(training) + len(test) == 36_525
    assert len(test) == round(0.1 * 36_525)
    assert dates.split() == (training, test) != dates.split(seed=1)
    assert {day.month for day in test} == set(range(1, 13))


def test_a_batch_is_padded_and_can_be_read_back():
    days, _ = dates.split()
    source, target = dates.batch(Random(3), days, 40)
    again = dates.batch(Random(3), days, 40)
    assert torch.equal(source, again[0])
    assert torch.equal(target, again[1])
    assert source.dtype == target.dtype == torch.long
    assert target.shape == (40, 11)
    assert target[:, 0].eq(dates.START_ID).all()
    for row, ids in zip(source, target, strict=True):
        day = date.fromisoformat(dates.decode(ids))
        assert day in days
        assert dates.decode(row) in {way.text for way in dates.spellings(day)}
        length = len(dates.decode(row))
        assert row[:length].ne(dates.PAD_ID).all()
        assert row[length:].eq(dates.PAD_ID).all()


def test_padding_fills_to_the_longest():
    rows = dates.pad(["3 may 84", "may 3, 1984"])
    assert rows.shape == (2, 11)
    assert rows[0, 8:].eq(dates.PAD_ID).all()
    assert [dates.decode(row) for row in rows] == ["3 may 84", "may 3, 1984"]


def test_signs_are_all_different():
    assert len(set(dates.VOCABULARY)) == len(dates.VOCABULARY) == 41
    assert dates.encode("").dtype == torch.long
    assert dates.decode([dates.START_ID, *dates.encode("1984-03-03"), dates.PAD_ID]) == "1984-03-03"


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: dates.encode("3 March"), ValueError, "'M' in '3 March'.*lower-case"),
        (lambda: dates.decode([0, 41]), ValueError, "41 is not between 0 and 40"),
        (lambda: dates.decode(torch.tensor([-1])), ValueError, "-1 is not between"),
        (lambda: dates.pad("3 mar 84"), TypeError, "list of texts.*'3 mar 84'"),
        (lambda: dates.pad([]), ValueError, "at least one text"),
        (lambda: dates.spell(Random(0), date(1949, 12, 31)), ValueError, "1950.*got 1949-12-31"),
        (lambda: dates.spellings(date(2050, 1, 1)), ValueError, "2049-12-31, got 2050-01-01"),
        (lambda: dates.split(test_share=1.5), ValueError, "test_share.*got 1.5"),
        (lambda: dates.batch(Random(0), [], 4), ValueError, "at least one date"),
        (lambda: dates.batch(Random(0), [dates.FIRST], 0), ValueError, "n_dates.*got 0"),
    ],
)
def test_errors_name_what_was_wrong(call, error, says):
    with pytest.raises(error, match=says):
        call()
