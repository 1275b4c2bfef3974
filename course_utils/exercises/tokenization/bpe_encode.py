"""tokenization.bpe_encode: a word is merged as the training text was."""

from itertools import pairwise

from course_utils import tokenization
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.tokenization import shared

exercise = Exercise(
    "tokenization.bpe_encode",
    used_by="`tokenization.BPE`, for each word of a text",
    hints=(
        "Begin with the characters, `tuple(word)`. In a loop, look which neighbours are a pair of "
        "`merges`; where there is none, you are done.",
        "Of those pairs take the one that stands first in `merges`, not the leftmost of the word "
        "and not the longest: `rank = {pair: i for i, pair in enumerate(merges)}`.",
        "`symbols = merge_pair(symbols, min(known, key=rank.get))`, and look again. At the end "
        "`return list(symbols)`.",
    ),
)

LOW = (("l", "o"), ("lo", "w"), ("e", "r"), ("low", "er"))
ORDER = (("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc"), ("c", "d"))
CROSSED = (("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w"), ("t", "e"), ("w", "est"))
LATER_FIRST = (("ab", "c"), ("d", "e"), ("a", "b"), ("abc", "de"))


def _by_ranks(word, merges):
    """Of all pairs and places, the smallest rank; then every place of this pair."""
    symbols = list(word)
    while True:
        places = [
            (list(merges).index(pair), place)
            for place, pair in enumerate(pairwise(symbols))
            if pair in merges
        ]
        if not places:
            return symbols
        symbols = shared.merged_by_border(symbols, merges[min(places)[0]])


@exercise.cases
def cases() -> list[Case]:
    first = (
        "Which pair is merged is said by its place in `merges`, not by its place in the word and "
        "not by its length: an early merge may take a symbol away from a longer one."
    )
    every = "The pair is merged wherever it occurs in the word."
    again = (
        "A merge makes a symbol that may be part of the next one: look again until none is left."
    )
    earlier = (
        "A merge may make a pair that stands earlier in `merges`. Then this one comes next: look "
        "at all merges again, from the first."
    )
    unknown = "A character that no merge has stays as it is: what you return, joined, is the word."
    short = "A word of one character, or of none, has nothing to merge."
    overlap = "Of occurrences that share a symbol the left one is merged, as `merge_pair` does."
    nothing = "Without merges the word is a list of its characters."
    pairs = "A merge is a pair of symbols: a, bc is not merged by the merge of ab, c."
    given: tuple[tuple[str, str, tuple[shared.Pair, ...], str], ...] = (
        ("one merge", "lot", LOW, ""),
        ("merge after merge", "lower", LOW, again),
        ("a word of other symbols", "slower", LOW, unknown),
        ("the first merge is inside", "abc", ORDER, first),
        ("the first merge is on the right", "abcd", ORDER, first),
        ("the order turned around", "abcd", ORDER[::-1], first),
        ("a longer symbol is known", "lowest", CROSSED, ""),
        ("a longer symbol is out of reach", "tester", CROSSED, first),
        ("twice", "lowlow", LOW[:2], every),
        ("three times, apart", "loxloyloz", LOW, every),
        ("one symbol again and again", "aaaaa", (("a", "a"), ("aa", "aa")), overlap),
        ("a run of odd length", "baaab", (("a", "a"), ("a", "b")), overlap),
        ("no merges", "red", (), nothing),
        ("no merge fits", "red", LOW, unknown),
        ("one character", "l", LOW, short),
        ("no character", "", LOW, short),
        ("characters that are not known", "élow😀", LOW, unknown),
        ("spaces and bytes", "Ġlow er", (*LOW, ("Ġ", "low"), (" ", "er")), ""),
        ("an earlier merge comes later", "abcde", LATER_FIRST, earlier),
        ("a long symbol in its order", "abc", (("b", "c"), ("a", "bc"), ("a", "b")), first),
        ("joined alike", "xabc", (("b", "c"), ("ab", "c"), ("x", "a")), pairs),
    )
    return [
        Case(title, {"word": word, "merges": list(merges)}, _by_ranks, point=point)
        for title, word, merges, point in given
    ]


@exercise.mistake(
    "You take the longest known symbol that fits, from the left. BPE merges in the order of "
    "training, and may never reach that symbol."
)
def longest_match_instead_of_merge_order(word, merges):
    known = {"".join(pair) for pair in merges} | set(word)
    symbols, start = [], 0
    while start < len(word):
        end = next(end for end in range(len(word), start, -1) if word[start:end] in known)
        symbols.append(word[start:end])
        start = end
    return symbols


@exercise.mistake(
    "You merge once and stop. Go on, in a loop, until no two neighbours are a pair of `merges`."
)
def merges_one_pair_only(word, merges):
    known = [pair for pair in pairwise(word) if pair in merges]
    return shared.merged_by_border(word, min(known, key=merges.index)) if known else list(word)


@exercise.mistake(
    "You go through `merges` once. A merge may make a pair that stands earlier in the list: look "
    "again from the first, as long as any fits."
)
def one_pass_only(word, merges):
    symbols = list(word)
    for pair in merges:
        symbols = shared.merged_by_border(symbols, pair)
    return symbols


@exercise.mistake(
    "Characters that no merge has are lost. They stay as they are: joined, the symbols are the "
    "word."
)
def drops_unknown(word, merges):
    known = {character for pair in merges for symbol in pair for character in symbol}
    return [one for one in _by_ranks(word, merges) if len(one) > 1 or one in known]


@exercise.mistake(
    "You merge the leftmost pair that is known. Of all known neighbours, that which stands first "
    "in `merges` comes first, wherever it is in the word."
)
def leftmost_first(word, merges):
    symbols = list(word)
    place = 0
    while place < len(symbols) - 1:
        if (symbols[place], symbols[place + 1]) in merges:
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
            place = 0
        else:
            place += 1
    return symbols


@exercise.mistake(
    "You merge the pair that stands last in `merges` first. It is the other way round: the "
    "earliest merge was the most frequent, and comes first."
)
def latest_first(word, merges):
    return _by_ranks(word, merges[::-1])


@exercise.mistake(
    "The first occurrence of a pair is merged, the others are not. Merge the pair wherever it "
    "stands."
)
def each_pair_once(word, merges):
    symbols = tuple(word)
    left = list(merges)
    while known := [pair for pair in pairwise(symbols) if pair in left]:
        best = min(known, key=left.index)
        place = list(pairwise(symbols)).index(best)
        symbols = (*symbols[:place], "".join(best), *symbols[place + 2 :])
        left.remove(best)
    return list(symbols)


@exercise.mistake(
    "You ask whether two neighbours joined are a known symbol. What counts is the pair: of (b, c), "
    "(ab, c) and (x, a) none merges a with bc."
)
def any_pair_that_joins_to_a_symbol(word, merges):
    joined = ["".join(pair) for pair in merges]
    symbols = list(word)
    while known := [pair for pair in pairwise(symbols) if "".join(pair) in joined]:
        best = min(known, key=lambda pair: joined.index("".join(pair)))
        symbols = shared.merged_by_border(symbols, best)
    return symbols


@exercise.alternative
def from_the_first_again(word, merges):
    symbols = list(word)
    found = True
    while found:
        found = False
        for left, right in merges:
            for i in range(len(symbols) - 1):
                if symbols[i] == left and symbols[i + 1] == right:
                    found = True
                    break
            if found:
                symbols = list(tokenization.merge_pair(symbols, (left, right)))
                break
    return symbols


@exercise.alternative
def one_place_at_a_time(word, merges):
    """The leftmost place of the best pair, and look again."""
    rank = {pair: i for i, pair in enumerate(merges)}
    parts = [*word]
    while len(parts) > 1:
        best = min(
            range(len(parts) - 1),
            key=lambda i: rank.get((parts[i], parts[i + 1]), len(rank)),
        )
        if (parts[best], parts[best + 1]) not in rank:
            break
        parts = [*parts[:best], parts[best] + parts[best + 1], *parts[best + 2 :]]
    return parts


@exercise.alternative
def recursively(word, merges):
    def merge(symbols):
        here = set(pairwise(symbols))
        for pair in merges:
            if pair in here:
                return merge(tokenization.merge_pair(symbols, pair))
        return list(symbols)

    return merge(tuple(word))


@exercise.alternative
def with_infinite_rank(word, merges):
    ranks = dict(zip(merges, range(len(merges)), strict=True))
    symbols = tuple(word)
    while True:
        pairs = set(pairwise(symbols))
        if not pairs:
            break
        bigram = min(pairs, key=lambda pair: ranks.get(pair, float("inf")))
        if bigram not in ranks:
            break
        symbols = tokenization.merge_pair(symbols, bigram)
    return list(symbols)
