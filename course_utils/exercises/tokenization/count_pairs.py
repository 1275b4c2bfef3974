"""tokenization.count_pairs: which neighbours are met, and how often."""

import itertools
from collections import Counter

from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.tokenization import shared

exercise = Exercise(
    "tokenization.count_pairs",
    used_by="`tokenization.train_bpe`, which merges the pair with the largest count",
    hints=(
        "Go through `words.items()`: each word is a tuple of symbols, and comes with the number of "
        "times it occurs.",
        "A word of n symbols has n - 1 pairs of neighbours. `itertools.pairwise(symbols)` gives "
        "them, and so does `zip(symbols, symbols[1:])`.",
        "A word that occurs five times has each of its pairs five times: "
        "`counts[pair] += n_times`, with `counts = Counter()`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    twice = (
        "A pair may stand in a word more than once, and each place counts: a a a has the pair "
        "(a, a) twice, also where the two places share a symbol."
    )
    short = "A word of one symbol, or of none, has no neighbours: it adds nothing."
    longer = (
        "A symbol may have several characters. It is one symbol, and the pair (ab, c) is not the "
        "pair (a, bc)."
    )
    order = "(a, b) is not (b, a): the left symbol comes first in the pair."
    shared_pair = "A pair may stand in several words: what they bring is added up."
    signs = "A symbol may be any character, a space, a comma or # too."
    given: tuple[tuple[str, dict[tuple[str, ...], int], str], ...] = (
        ("two words", {("l", "o", "w"): 5, ("n", "e", "w"): 2}, ""),
        ("words that occur once", {("c", "a", "r"): 1, ("r", "e", "d"): 1}, ""),
        ("a pair of two words", {("l", "o", "w"): 5, ("l", "o", "t"): 3}, shared_pair),
        ("a pair of three words", {tuple("xin"): 4, tuple("ink"): 2, tuple("pin"): 7}, shared_pair),
        ("a pair twice in a word", {tuple("banana"): 3}, twice),
        ("one symbol, again and again", {tuple("aaaa"): 2, tuple("aa"): 5}, twice),
        ("both orders", {tuple("ab"): 4, tuple("ba"): 6, tuple("cab"): 1}, order),
        ("some words are short", {("a",): 9, (): 4, ("b", "c"): 2, ("d", "e", "f"): 3}, short),
        ("no word at all", {}, short),
        (
            "symbols that were merged",
            {("ab", "c"): 2, ("a", "bc"): 5, ("low", "er", "low"): 3, ("abc",): 8},
            longer,
        ),
        ("bytes", {("Ġ", "t", "h", "e"): 11, ("Ã", "¼", "Ġ"): 2}, signs),
        ("signs", {(" ", ",", " "): 2, ("##", "#", "a b"): 4}, signs),
        ("large counts", {tuple("newest"): 60_000, tuple("widest"): 31_337}, ""),
    )
    return [
        Case(title, {"words": words}, shared.pairs_by_listing, point=point)
        for title, words, point in given
    ]


exercise.holds(
    shared.leaves_words_alone(lambda part, words: part(words), {tuple("low"): 5, tuple("lot"): 2})
)


@exercise.mistake(
    "You count symbols. What is wanted are pairs of neighbours: of l o w, (l, o) and (o, w)."
)
def counts_single_symbols(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for symbol in symbols:
            counts[symbol] += n_times
    return counts


@exercise.mistake(
    "You count a word once, however often it occurs. Its pairs occur as often as the word: add "
    "its number, not 1."
)
def ignores_word_frequency(words):
    return Counter(pair for word in words for pair in itertools.pairwise(word))


@exercise.mistake(
    "You count pairs that reach from the end of a word into the next. Words do not touch: go "
    "through each on its own."
)
def crosses_word_border(words):
    counts: Counter = Counter()
    before = None
    for symbols, n_times in words.items():
        for symbol in symbols:
            if before is not None:
                counts[before, symbol] += n_times
            before = symbol
    return counts


@exercise.mistake(
    "A pair that stands in a word twice is counted there once. Count every place: banana has "
    "(a, n) twice."
)
def once_per_word(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for pair in set(itertools.pairwise(symbols)):
            counts[pair] += n_times
    return counts


@exercise.mistake(
    "Of places that share a symbol you count one. Every two neighbours are a pair: a a a a has "
    "(a, a) three times. Only merging must not use a symbol twice."
)
def skips_overlaps(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        before = False
        for one, two in itertools.pairwise(symbols):
            before = one == two and not before
            counts[one, two] += n_times if before or one != two else 0
    return +counts


@exercise.mistake(
    "You take every second pair: your place moves on by two. Neighbours overlap: l o w e has "
    "(l, o), (o, w) and (w, e)."
)
def every_second_pair(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for place in range(0, len(symbols) - 1, 2):
            counts[symbols[place], symbols[place + 1]] += n_times
    return counts


@exercise.mistake("The last pair of each word is missing: a word of n symbols has n - 1 pairs.")
def misses_the_last_pair(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for place in range(len(symbols) - 2):
            counts[symbols[place], symbols[place + 1]] += n_times
    return counts


@exercise.mistake(
    "A pair that stands in several words has the count of the last of them: `=` writes over "
    "what was there. Add with `+=`."
)
def last_word_wins(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        mine = Counter(itertools.pairwise(symbols))
        for pair in mine:
            counts[pair] = n_times * mine[pair]
    return counts


@exercise.mistake(
    "A pair that you meet again has the count of the last place where it stands: `=` writes over "
    "what was there. Add with `+=`."
)
def last_place_wins(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for pair in itertools.pairwise(symbols):
            counts[pair] = n_times
    return counts


@exercise.mistake(
    "Your keys are joined strings. Keep the pair as a tuple of two symbols: (ab, c) and (a, bc) "
    "are different pairs."
)
def joined_keys(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for pair in itertools.pairwise(symbols):
            counts["".join(pair)] += n_times
    return counts


@exercise.mistake(
    "You take symbols apart into characters. A symbol that was merged stays whole: (low, er) is "
    "one pair."
)
def splits_symbols(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        text = "".join(symbols)
        for pair in itertools.pairwise(text):
            counts[pair] += n_times
    return counts


@exercise.mistake(
    "You put the two symbols of a pair in alphabetical order. (b, a) is another pair than (a, b): "
    "keep the order of the word."
)
def sorts_each_pair(words):
    counts: Counter = Counter()
    for symbols, n_times in words.items():
        for pair in itertools.pairwise(symbols):
            counts[tuple(sorted(pair))] += n_times
    return counts


@exercise.alternative
def by_places(words):
    counts: Counter = Counter()
    for symbols in words:
        for i in range(1, len(symbols)):
            counts[(symbols[i - 1], symbols[i])] += words[symbols]
    return counts


@exercise.alternative
def beginners_dict(words):
    result: dict = {}
    for word in words:
        last = None
        for symbol in word:
            if last is not None:
                pair = (last, symbol)
                if pair in result:
                    result[pair] = result[pair] + words[word]
                else:
                    result[pair] = words[word]
            last = symbol
    return Counter(result)


@exercise.alternative
def by_sum(words):
    counters = (
        Counter({pair: n * times for pair, n in Counter(itertools.pairwise(w)).items()})
        for w, times in words.items()
    )
    return sum(counters, Counter())


@exercise.alternative
def by_elements(words):
    return Counter(
        pair for word, n_times in words.items() for pair in [*itertools.pairwise(word)] * n_times
    )
