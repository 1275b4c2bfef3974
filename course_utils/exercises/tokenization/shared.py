"""What several parts of notebook 10 share: words to try, and the same rules worked out slowly."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_utils.exercises.exercise import Part, Wrong

Pair = tuple[str, str]

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
"""The words of Sennrich et al. 2016, whose first merges can be followed by hand."""


def pairs_by_listing(words: Mapping[Sequence[str], int]) -> dict[Pair, int]:
    """All pairs of neighbours in a list, each as often as its word occurs, and then counted."""
    listed = [
        ((word[place - 1], word[place]), n_times)
        for word, n_times in words.items()
        for place in range(1, len(word))
    ]
    return {pair: sum(n_times for other, n_times in listed if other == pair) for pair, _ in listed}


def merged_by_border(symbols: Sequence[str], pair: Pair) -> list[str]:
    """A symbol joins the one before it where the two are the pair, unless that one has joined."""
    merged: list[str] = []
    joins = False
    for place, symbol in enumerate(symbols):
        joins = place > 0 and (symbols[place - 1], symbol) == tuple(pair) and not joins
        merged[len(merged) - joins :] = [merged[-1] + symbol] if joins else [symbol]
    return merged


Choose = Callable[[Pair, int, Sequence[str]], Any]


def by_age(pair: Pair, count: int, vocabulary: Sequence[str]) -> Any:
    """The rule of the course: most frequent, then oldest left symbol, then oldest right symbol."""
    return -count, vocabulary.index(pair[0]), vocabulary.index(pair[1])


def trained(
    words: Mapping[str, int],
    vocabulary_size: int,
    min_frequency: int = 1,
    choose: Choose = by_age,
) -> list[Pair]:
    """Byte pair encoding with lists alone; `choose` gives the key whose smallest pair is merged."""
    vocabulary = sorted({character for word in words for character in word})
    split = [(list(word), n_times) for word, n_times in words.items()]
    merges: list[Pair] = []
    while len(vocabulary) < vocabulary_size:
        counts: dict[Pair, int] = {}
        for symbols, n_times in split:
            for pair in itertools.pairwise(symbols):
                counts[pair] = counts.get(pair, 0) + n_times
        ranked = sorted(counts, key=lambda pair: choose(pair, counts[pair], vocabulary))
        if not ranked or counts[ranked[0]] < min_frequency:
            break
        merges.append(ranked[0])
        if "".join(ranked[0]) not in vocabulary:
            vocabulary.append("".join(ranked[0]))
        split = [(merged_by_border(symbols, ranked[0]), n_times) for symbols, n_times in split]
    return merges


def leaves_words_alone(call: Callable[[Part, dict[Any, int]], Any], words: dict[Any, int]) -> Part:
    """A check that the part does not change the counts that it is given."""

    def check(part: Part) -> None:
        given = dict(words)
        call(part, given)
        if given != words:
            raise Wrong("Your code changes `words`: the caller still needs it. Make a new `dict`.")

    return check
