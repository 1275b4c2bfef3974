"""tokenization.wordpiece_encode: the longest symbol that fits, then the next."""

import functools
import re

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "tokenization.wordpiece_encode",
    used_by="`tokenization.WordPiece`, with which MiniLM reads",
    hints=(
        "Keep a `start`. Try the ends from `len(word)` down to `start + 1`: the first piece that "
        "is in the vocabulary is the longest.",
        'What does not begin the word is looked up with "##" in front: '
        '`piece = word[start:end] if start == 0 else "##" + word[start:end]`.',
        "Append the piece and go on at its end. Where no end gives a known piece, "
        "`return [unknown]`: for the whole word, whatever was found before.",
        "Before all that: `if len(word) > longest: return [unknown]`.",
    ),
)

VOCABULARY = (
    "un able a u n affable play player ing aff x xy token ##a ##able ##aff ##ff ##ffable ##f ##l "
    "##play ##er ##ers ##s ##ing ##i ##z ##ization ##ize ##x ##y ##yz ##abl ##n [UNK] "
    "[CLS] é 😀 ##é"
).split()


NAMED = {"vocabulary": VOCABULARY, "unknown": "[UNK]"}


def _by_recursion(word, vocabulary, unknown="[UNK]", longest=100):
    """The longest first symbol, then the rest as a word that begins with ##."""

    def rest(text, mark):
        if not text:
            return []
        fitting = [text[:size] for size in range(1, len(text) + 1) if mark + text[:size] in known]
        if not fitting:
            return None
        later = rest(text[len(fitting[-1]) :], "##")
        return None if later is None else [mark + fitting[-1], *later]

    known = set(vocabulary)
    found = rest(word, "") if len(word) <= longest else None
    return [unknown] if found is None else found


@exercise.cases
def cases() -> list[Case]:
    mark = (
        'After the first, a symbol has "##" in front, where you look it up and in what you return. '
        "The first has none."
    )
    greedy = (
        "At each place the longest symbol is taken, and never taken back: where the rest does not "
        "fit then, the word is unknown, even if a shorter symbol would have left one that does."
    )
    whole = "Where nothing fits at some place, all of the word is [unknown]: one symbol, once."
    size = "A word of exactly `longest` characters is still read; with one more it is unknown."
    name = "`unknown` says what an unknown word is called."
    empty = "A word without characters is a list without symbols."
    left = "The longest that fits at this place counts, not the longest anywhere in the word."
    hidden = (
        "Two symbols may be the same but for ##: `able` begins a word, `##able` goes on with one. "
        "Neither stands for the other."
    )
    kinds = "The vocabulary may be a set, a list, a tuple or a dict: ask with `in`."
    given: tuple[tuple[str, dict[str, object], str], ...] = (
        ("two symbols", {"word": "players", "vocabulary": ["play", "player", "##s", "##ers"]}, ""),
        ("three symbols", {"word": "unaffable", "vocabulary": ["un", "##aff", "##able"]}, ""),
        ("the whole word is known", {"word": "affable", "vocabulary": VOCABULARY}, ""),
        ("a word with many ways", {"word": "unaffable", "vocabulary": VOCABULARY}, ""),
        ("letter by letter", {"word": "nana", "vocabulary": ["n", "##a", "##n"]}, mark),
        ("no symbol goes on", {"word": "playable", "vocabulary": ["play", "able"]}, hidden),
        ("no symbol begins", {"word": "able", "vocabulary": ["##able", "##a"]}, hidden),
        ("the first has no mark", {"word": "able", "vocabulary": ["able", "##able", "a"]}, hidden),
        ("the end is unknown", {"word": "playq", "vocabulary": VOCABULARY}, whole),
        ("the middle is unknown", {"word": "playqing", "vocabulary": VOCABULARY}, whole),
        ("the start is unknown", {"word": "qplay", "vocabulary": VOCABULARY}, whole),
        ("a way back is not taken", {"word": "xyz", "vocabulary": ["x", "xy", "##yz"]}, greedy),
        (
            "nor one inside",
            {"word": "abcd", "vocabulary": ["a", "##b", "##bc", "##cd"]},
            greedy,
        ),
        (
            "longest from the left",
            {"word": "xplaying", "vocabulary": ["x", "xp", "##laying", "##playing", "##lay"]},
            left,
        ),
        ("a name for it", {"word": "zzz", "vocabulary": VOCABULARY, "unknown": "<unk>"}, name),
        (
            "a name for it, too long",
            {"word": "xyxy", "vocabulary": ["x", "##y"], "unknown": "?", "longest": 3},
            name,
        ),
        (
            "as long as can be",
            {"word": "playing", "vocabulary": VOCABULARY, "unknown": "[UNK]", "longest": 7},
            size,
        ),
        (
            "one too long",
            {"word": "playing", "vocabulary": VOCABULARY, "unknown": "[UNK]", "longest": 6},
            size,
        ),
        ("a hundred", {"word": "a" * 100, "vocabulary": {"a", "##aaa", "##a"}}, size),
        ("a hundred and one", {"word": "a" * 101, "vocabulary": {"a", "##aaa", "##a"}}, size),
        (
            "longer is allowed",
            {"word": "ab" * 60, "vocabulary": {"a", "##b", "##a"}, "unknown": "", "longest": 200},
            size,
        ),
        ("no character", {"word": "", "vocabulary": VOCABULARY}, empty),
        ("one character", {"word": "é", "vocabulary": VOCABULARY}, ""),
        ("not in any language", {"word": "😀é", "vocabulary": set(VOCABULARY)}, mark),
        ("a dict", {"word": "tokenize", "vocabulary": {"token": 0, "##ize": 1, "##i": 2}}, kinds),
        ("a set", {"word": "tokenization", "vocabulary": frozenset(VOCABULARY)}, kinds),
        ("nothing is known", {"word": "a", "vocabulary": set()}, whole),
    )
    return [Case(title, arguments, _by_recursion, point=point) for title, arguments, point in given]


def _greedy(
    word, vocabulary, unknown="[UNK]", longest=100, *, look="##", write="##", ends=None, first=""
):
    """The right way, in which one thing can be changed."""
    if len(word) > longest:
        return [unknown]
    symbols, start = [], 0
    while start < len(word):
        choices = range(len(word), start, -1)
        choices = choices if ends is None else ends(choices)
        at_start = start == 0
        end = next(
            (e for e in choices if (first if at_start else look) + word[start:e] in vocabulary),
            None,
        )
        if end is None:
            return [unknown]
        symbols.append(("" if at_start else write) + word[start:end])
        start = end
    return symbols


@exercise.mistake(
    'You look up every symbol without its mark. After the first, "##" stands in front of it in the '
    "vocabulary: `able` begins a word, `##able` goes on."
)
def no_continuation_mark(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, unknown, longest, look="", write="")


@exercise.mistake(
    "You look symbols up with their mark but return them without it. Return what stands in the "
    "vocabulary, with ##."
)
def returns_without_the_mark(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, unknown, longest, write="")


@exercise.mistake(
    "You look symbols up without their mark and write it in front afterwards, so what you return "
    "may not be in the vocabulary. Look up with ##."
)
def marks_only_the_result(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, unknown, longest, look="")


@exercise.mistake(
    "You keep the symbols that were found before nothing fitted, and put the unknown one behind "
    "them. The whole word is unknown: return [unknown] alone."
)
def keeps_partial_instead_of_unk(word, vocabulary, unknown="[UNK]", longest=100):
    for end in range(len(word), -1, -1):
        found = _greedy(word[:end], vocabulary, unknown, longest)
        if found != [unknown] and len(word) <= longest:
            return found if end == len(word) else [*found, unknown]
    return [unknown]


@exercise.mistake(
    "Where nothing fits you skip one character and go on. Then the whole word is unknown: return "
    "[unknown] alone."
)
def unknown_character_by_character(word, vocabulary, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return [unknown]
    symbols, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        fitting = [e for e in range(len(word), start, -1) if mark + word[start:e] in vocabulary]
        symbols.append(mark + word[start : fitting[0]] if fitting else unknown)
        start = fitting[0] if fitting else start + 1
    return symbols


@exercise.mistake(
    "Where nothing fits you leave the rest out. Then the whole word is unknown: return [unknown]."
)
def leaves_the_rest_out(word, vocabulary, unknown="[UNK]", longest=100):
    found = keeps_partial_instead_of_unk(word, vocabulary, unknown, longest)
    return found[:-1] if found[-1:] == [unknown] and len(word) <= longest else found


@exercise.mistake(
    "You take the shortest symbol that fits. Begin with the end of the word and go down: the "
    "longest that fits is wanted."
)
def shortest_match(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, unknown, longest, ends=lambda choices: choices[::-1])


@exercise.mistake(
    "You go back where the longest symbol leaves a rest that does not fit, and try a shorter one. "
    "WordPiece does not: the word is unknown then."
)
def goes_back(word, vocabulary, unknown="[UNK]", longest=100):
    @functools.cache
    def rest(start):
        if start == len(word):
            return []
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in vocabulary and rest(end) is not None:
                return [mark + word[start:end], *rest(end)]
        return None

    found = rest(0) if len(word) <= longest else None
    return [unknown] if found is None else found


@exercise.mistake(
    "`longest` changes nothing. A word with more characters is unknown, whatever it is made of."
)
def ignores_longest(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, unknown, max(longest, len(word)))


@exercise.mistake(
    "A word of exactly `longest` characters is unknown to you. It may have so many: only a longer "
    "one is unknown."
)
def longest_is_too_long(word, vocabulary, unknown="[UNK]", longest=100):
    return [unknown] if len(word) >= longest else _greedy(word, vocabulary, unknown, longest)


@exercise.mistake("You always write [UNK]. What an unknown word is called is given as `unknown`.")
def ignores_unknown(word, vocabulary, unknown="[UNK]", longest=100):
    return _greedy(word, vocabulary, "[UNK]", longest)


@exercise.mistake(
    "You return an empty list where the word is not known. Return [unknown]: the model must see "
    "that something stood there."
)
def nothing_for_unknown(word, vocabulary, unknown="[UNK]", longest=100):
    found = _greedy(word, vocabulary, unknown, longest)
    return [] if found == [unknown] else found


@exercise.alternative
def by_shrinking(word, vocabulary, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return [unknown]
    output = []
    start = 0
    while start < len(word):
        end = len(word)
        current = None
        while start < end:
            substring = "".join(word[start:end])
            if start > 0:
                substring = "##" + substring
            if substring in vocabulary:
                current = substring
                break
            end -= 1
        if current is None:
            return [unknown]
        output.append(current)
        start = end
    return output


@exercise.alternative
def by_a_pattern(word, vocabulary, unknown="[UNK]", longest=100):
    """Two patterns that try long symbols first."""
    ordered = sorted(vocabulary, key=len, reverse=True)
    first = re.compile("|".join(re.escape(one) for one in ordered) or r"(?!)", re.DOTALL)
    later = [re.escape(one[2:]) for one in ordered if one[:2] == "##" and one != "##"]
    after = re.compile("|".join(later) or r"(?!)", re.DOTALL)
    symbols, place = [], 0
    while place < len(word) and len(word) <= longest:
        match = (after if place else first).match(word, place)
        if match is None:
            return [unknown]
        symbols.append(("##" if place else "") + match[0])
        place = match.end()
    return [unknown] if len(word) > longest else symbols


@exercise.alternative
def eating_the_word(word, vocabulary, unknown="[UNK]", longest=100):
    symbols: list[str] = []
    rest = word
    while rest and len(word) <= longest:
        mark = "##" * bool(symbols)
        for size in reversed(range(1, len(rest) + 1)):
            if mark + rest[:size] in vocabulary:
                symbols += [mark + rest[:size]]
                rest = rest[size:]
                break
        else:
            return [unknown]
    return symbols if len(word) <= longest else [unknown]


@exercise.alternative
def by_max(word, vocabulary, unknown="[UNK]", longest=100):
    symbols: list[str] = []
    marked = word
    if len(word) > longest:
        return [unknown]
    while marked not in ("", "##"):
        skip = 2 if symbols else 0
        known = [marked[:end] for end in range(skip + 1, len(marked) + 1)]
        known = [one for one in known if one in vocabulary]
        if not known:
            return [unknown]
        symbols.append(max(known, key=len))
        marked = "##" + marked[len(symbols[-1]) :]
    return symbols
