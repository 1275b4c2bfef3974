"""tokenization.train_bpe: merge the most frequent pair, count again, and so on."""

import itertools
import random
from collections import Counter, defaultdict

from course_utils import tokenization
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.tokenization import shared

exercise = Exercise(
    "tokenization.train_bpe",
    used_by="the comparison with `tokenization.train_fast`, which gives the same merges sooner",
    hints=(
        "Begin with `split = {tuple(word): n_times for word, n_times in words.items()}` and with "
        "the vocabulary, a table from symbol to id: `_alphabet(words)`.",
        "In a loop, as long as the vocabulary is too small: `count_pairs(split)`, find the best "
        "pair, append it to the merges, `merge_pair` in every word, and give the new symbol the "
        "next id, if it is not in the vocabulary.",
        "The best pair is that with the smallest `(-count, id of the left symbol, id of the right "
        "symbol)`, where the vocabulary has the ids: `min(counts, key=…)`.",
        "Stop before you merge where there are no pairs, or where the best count is below "
        "`min_frequency`.",
    ),
)

TIES = {"cb": 2, "ab": 2, "ba": 2, "ca": 2}
AGE = {"ab": 9, "abd": 3, "xa": 3, "cd": 3, "dx": 3}


@exercise.cases
def cases() -> list[Case]:
    ties = (
        "Of equally frequent pairs that one is merged whose left symbol came first into the "
        "vocabulary, then that whose right one did: the characters in sorted order, then the new "
        "symbols one after the other."
    )
    full = (
        "`vocabulary_size` counts symbols, and the characters are among them: a size of 10 with 7 "
        "characters leaves room for 3 merges, and one of 7 or less for none."
    )
    rare = (
        "A pair that occurs `min_frequency` times is merged, a rarer one is not: then it is over, "
        "even where the vocabulary has room."
    )
    over = "It is over where every word is one symbol, and there is no pair left."
    again = "Pairs are counted again after every merge: a merge takes some away and makes new ones."
    overlap = (
        "The pair (a, a) of a a a counts twice and is merged once, as `count_pairs` and "
        "`merge_pair` say."
    )
    often = "A word that occurs often counts as often: it is not the number of words that counts."
    given: tuple[tuple[str, dict[str, int], int, int, str], ...] = (
        ("three merges", {"low": 5, "lot": 3, "own": 2}, 8, 1, ""),
        ("words of the paper", shared.WORDS, 17, 1, ""),
        (
            "many merges",
            _words("the she sells shells sea shore these hers lees else"),
            26,
            1,
            again,
        ),
        ("until nothing is left", {"car": 3, "cart": 2, "art": 2}, 100, 1, over),
        ("no room", {"car": 3, "red": 2}, 5, 1, full),
        ("less than no room", {"car": 3, "red": 2}, 2, 1, full),
        ("room for one", {"car": 3, "red": 2}, 6, 1, full),
        ("a character alone in a word", {"x": 4, "abc": 3, "abd": 2}, 6, 1, full),
        ("one word that is frequent", {"zy": 9, "abc": 4, "abd": 4}, 7, 1, often),
        ("two at least", _words("red reed deer reader dear are car"), 40, 2, rare),
        ("three at least", {"ab": 3, "cd": 2, "abe": 1, "ef": 3}, 40, 3, rare),
        ("never so frequent", {"ab": 3, "cd": 2}, 40, 4, rare),
        ("all as frequent", TIES, 40, 1, ties),
        ("old and new symbols", AGE, 40, 1, ties),
        ("capitals and signs", {"Za": 2, "aZ": 2, "éa": 2, "_Z": 2, "Ġa": 2, "a_": 2}, 40, 1, ties),
        ("runs", {"aaaaa": 2, "aab": 3, "baaa": 1}, 6, 1, overlap),
        ("words of one character", {"a": 4, "b": 3, "": 2}, 9, 1, over),
        ("no words", {}, 9, 1, over),
        *((f"random words, seed {seed}", _random(seed), 24, seed, "") for seed in (1, 2, 3)),
    )
    return [
        Case(
            title,
            {"words": dict(words), "vocabulary_size": size, "min_frequency": least},
            shared.trained,
            point=point,
        )
        for title, words, size, least, point in given
    ] + [
        Case(
            "min_frequency is not given",
            {"words": {"car": 1, "art": 2}, "vocabulary_size": 7},
            shared.trained,
            point="Without `min_frequency` a pair that occurs once is merged.",
        )
    ]


exercise.holds(
    shared.leaves_words_alone(
        lambda part, words: part(words, 9), {"low": 5, "lower": 2, "newer": 6}
    )
)


def _words(text: str) -> dict[str, int]:
    return dict(Counter(text.split()))


def _random(seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    return {
        "".join(draw.choices("abcdef", (5, 4, 3, 2, 1, 1), k=draw.randint(1, 7))): draw.randint(
            1, 5
        )
        for _ in range(25)
    }


@exercise.mistake(
    "You count pairs once, at the start, and take the most frequent ones. A merge changes the "
    "counts and makes new pairs: count again after each."
)
def counts_once_never_updates(words, vocabulary_size, min_frequency=1):
    vocabulary = sorted(set("".join(words)))
    counts = shared.pairs_by_listing(words)
    ranked = sorted(counts, key=lambda pair: shared.by_age(pair, counts[pair], vocabulary))
    enough = [pair for pair in ranked if counts[pair] >= min_frequency]
    return enough[: max(vocabulary_size - len(vocabulary), 0)]


@exercise.mistake(
    "You make `vocabulary_size` merges. The characters are in the vocabulary, too: it ends when "
    "characters and new symbols together are so many."
)
def merges_as_vocab_size(words, vocabulary_size, min_frequency=1):
    more = len(set("".join(words)))
    return shared.trained(words, vocabulary_size + more, min_frequency)


@exercise.mistake(
    "Of equally frequent pairs you take the one that was counted first, so the order of the words "
    "decides. Take that whose symbols came first into the vocabulary."
)
def first_counted_wins_ties(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size, min_frequency, lambda pair, count, _: -count)


@exercise.mistake(
    "Of equally frequent pairs you take the alphabetically first. New symbols stand behind all "
    "characters: what counts is when a symbol came into the vocabulary."
)
def alphabet_decides_ties(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size, min_frequency, lambda p, count, _: (-count, p))


@exercise.mistake(
    "Of equally frequent pairs you take the alphabetically last, as `max` of counts and pairs "
    "does. Take that whose symbols came first into the vocabulary."
)
def alphabet_backwards_decides_ties(words, vocabulary_size, min_frequency=1):
    backwards = lambda pair: tuple((*tuple(-ord(c) for c in one), 1) for one in pair)  # noqa: E731
    return shared.trained(
        words, vocabulary_size, min_frequency, lambda pair, count, _: (-count, *backwards(pair))
    )


@exercise.mistake(
    "Of equally frequent pairs you take that whose symbols came last into the vocabulary. The "
    "lowest id wins: negate the count, not the ids."
)
def newest_wins_ties(words, vocabulary_size, min_frequency=1):
    newest = lambda p, count, known: (-count, -known.index(p[0]), -known.index(p[1]))  # noqa: E731
    return shared.trained(words, vocabulary_size, min_frequency, newest)


@exercise.mistake(
    "Where two equally frequent pairs have the same left symbol, you do not look at the right one. "
    "That which came first into the vocabulary wins."
)
def right_symbol_ignored_in_ties(words, vocabulary_size, min_frequency=1):
    left = lambda pair, count, vocabulary: (-count, vocabulary.index(pair[0]))  # noqa: E731
    return shared.trained(words, vocabulary_size, min_frequency, left)


@exercise.mistake(
    "Of equally frequent pairs you compare the right symbols first. The left one decides; the "
    "right one only where the left ones are the same."
)
def right_symbol_first_in_ties(words, vocabulary_size, min_frequency=1):
    right = lambda p, count, known: (-count, known.index(p[1]), known.index(p[0]))  # noqa: E731
    return shared.trained(words, vocabulary_size, min_frequency, right)


@exercise.mistake(
    "`min_frequency` changes nothing. Stop as soon as the most frequent pair occurs fewer times."
)
def ignores_min_frequency(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size)


@exercise.mistake(
    "A pair that occurs exactly `min_frequency` times is not merged. It is frequent enough: stop "
    "where the count is below."
)
def min_frequency_excluded(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size, min_frequency + 1)


@exercise.mistake(
    "You count each word once. Its pairs occur as often as the word does: that is the number "
    "behind it in `words`."
)
def ignores_word_frequency(words, vocabulary_size, min_frequency=1):
    return shared.trained(dict.fromkeys(words, 1), vocabulary_size, min_frequency)


@exercise.mistake("You make one merge too many: stop when the vocabulary has its size.")
def one_merge_too_many(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size + 1, min_frequency)


@exercise.mistake("You make one merge too few: the vocabulary has room for one more symbol.")
def one_merge_too_few(words, vocabulary_size, min_frequency=1):
    return shared.trained(words, vocabulary_size - 1, min_frequency)


@exercise.alternative
def with_ids(words, vocabulary_size, min_frequency=1):
    """The words are lists of numbers, as in most implementations."""
    symbols = sorted(set("".join(words)))
    coded = [([symbols.index(c) for c in word], n_times) for word, n_times in words.items()]
    merges: list = []
    while len(symbols) < vocabulary_size:
        counts: Counter = Counter()
        for ids, n_times in coded:
            for pair in itertools.pairwise(ids):
                counts[pair] += n_times
        if not counts:
            break
        top = max(counts.values())
        if top < min_frequency:
            break
        left, right = min(pair for pair, count in counts.items() if count == top)
        merges.append((symbols[left], symbols[right]))
        text = symbols[left] + symbols[right]
        if text not in symbols:
            symbols.append(text)
        new = symbols.index(text)
        for ids, _ in coded:
            place = 0
            while place < len(ids) - 1:
                if ids[place] == left and ids[place + 1] == right:
                    ids[place : place + 2] = [new]
                place += 1
    return merges


@exercise.alternative
def with_the_other_parts(words, vocabulary_size, min_frequency=1):
    characters = set()
    for word in words:
        characters.update(word)
    vocabulary = sorted(characters)
    split = {tuple(word): n_times for word, n_times in words.items()}
    merges: list = []
    while len(vocabulary) < vocabulary_size:
        counts = tokenization.count_pairs(split)
        if not counts or max(counts.values()) < min_frequency:
            return merges
        by_left = sorted(counts, key=lambda pair: vocabulary.index(pair[1]))
        by_left.sort(key=lambda pair: vocabulary.index(pair[0]))
        best = max(by_left, key=lambda pair: counts[pair])
        merges.append(best)
        split = {tokenization.merge_pair(word, best): n for word, n in split.items()}
        if best[0] + best[1] not in vocabulary:
            vocabulary += [best[0] + best[1]]
    return merges


@exercise.alternative
def with_kept_counts(words, vocabulary_size, min_frequency=1):
    """Counts change only where a word does."""
    age = {c: i for i, c in enumerate(sorted(set().union(*words)))}
    split = {word: list(word) for word in words}
    counts: defaultdict = defaultdict(int)

    def count(word, sign):
        for pair in zip(split[word], split[word][1:], strict=False):
            counts[pair] += sign * words[word]

    for word in words:
        count(word, 1)
    merges: list = []
    while len(age) < vocabulary_size and counts:
        best = max(counts, key=lambda pair: (counts[pair], -age[pair[0]], -age[pair[1]]))
        if counts[best] < max(min_frequency, 1):
            break
        for word in words:
            if best in list(zip(split[word], split[word][1:], strict=False)):
                count(word, -1)
                split[word] = list(tokenization.merge_pair(split[word], best))
                count(word, 1)
        merges.append(best)
        age.setdefault("".join(best), len(age))
    return merges
