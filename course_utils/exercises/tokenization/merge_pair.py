"""tokenization.merge_pair: two neighbours become one symbol."""

import re

from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.tokenization import shared

exercise = Exercise(
    "tokenization.merge_pair",
    used_by="`tokenization.train_bpe` and `tokenization.bpe_encode`, for every merge",
    hints=(
        "Go through the symbols with a place of your own: after a pair it moves on by two, else "
        "by one. A `for` over the symbols always moves on by one.",
        "At each place compare two symbols, not one string: "
        "`(symbols[place], symbols[place + 1]) == pair`. The last place has no neighbour.",
        "`while place < len(symbols)`: append `symbols[place] + symbols[place + 1]` and add 2, or "
        "append `symbols[place]` and add 1. At the end `return tuple(merged)`.",
    ),
)


def _tuple_by_border(symbols, pair):
    return tuple(shared.merged_by_border(symbols, pair))


@exercise.cases
def cases() -> list[Case]:
    every = "Every occurrence is merged, not the first alone."
    overlap = (
        "Occurrences may share a symbol. The left one is merged, and what was joined is not used "
        "again: a a a becomes aa a, and a a a a becomes aa aa."
    )
    borders = (
        "Compare symbols, not their characters: (ab, c) is not (a, bc), a b is not one symbol ab, "
        "and a space may be a symbol."
    )
    end = "The pair may stand at the very end, and what stands alone at the end stays."
    nothing = "Where the pair does not occur, the symbols are returned as they are, as a tuple."
    order = "The pair has an order: (a, b) does not merge b a."
    short = "One symbol, or none, has no pair."
    given: tuple[tuple[str, list[str] | tuple[str, ...], tuple[str, str], str], ...] = (
        ("once", ("l", "o", "w"), ("l", "o"), ""),
        ("in the middle", ("n", "e", "w", "e", "s", "t"), ("w", "e"), ""),
        ("twice", ("b", "a", "n", "a", "n", "a"), ("a", "n"), every),
        ("three times", tuple("xyzxyxy"), ("x", "y"), every),
        ("at the end", ("w", "i", "d", "e", "s", "t"), ("s", "t"), end),
        ("nowhere", ("r", "e", "d"), ("x", "y"), nothing),
        ("three alike", ("a", "a", "a"), ("a", "a"), overlap),
        ("runs of one symbol", tuple("baaaabaaaaac"), ("a", "a"), overlap),
        ("left and right of it alike", tuple("aababb"), ("a", "b"), ""),
        ("the other order", tuple("babcba"), ("a", "b"), order),
        ("longer symbols", ("new", "est", "new", "e", "st"), ("new", "est"), borders),
        ("the same characters", ("a", "bc", "ab", "c", "abc"), ("ab", "c"), borders),
        ("symbols that end alike", ("xa", "b", "a", "bx", "a", "b"), ("a", "b"), borders),
        ("space, star and dot", (" ", "a", " ", "a b", ".", "*", "."), (".", "*"), borders),
        ("a space is a symbol", (" ", " ", "a", " ", "a"), (" ", "a"), borders),
        ("one symbol", ("ab",), ("a", "b"), short),
        ("no symbol", (), ("a", "b"), short),
        ("a list", ["t", "h", "e", "t", "h"], ("t", "h"), "`symbols` may be a list as well."),
        ("a list without it", ["a", "b"], ("b", "a"), nothing),
    )
    return [
        Case(title, {"symbols": symbols, "pair": pair}, _tuple_by_border, point=point)
        for title, symbols, pair, point in given
    ]


@exercise.mistake(
    "You merge occurrences that share a symbol, so a a a becomes aa aa, and a symbol is there "
    "twice. After a pair, go on behind it."
)
def merges_overlapping(symbols, pair):
    merged: list = []
    place = 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            merged.append("".join(pair))
            place += 1 if tuple(symbols[place + 1 : place + 3]) == pair else 2
        else:
            merged.append(symbols[place])
            place += 1
    return tuple(merged)


@exercise.mistake("You merge the first occurrence alone. Go on to the end: merge every one.")
def only_first_occurrence(symbols, pair):
    for place in range(len(symbols) - 1):
        if tuple(symbols[place : place + 2]) == pair:
            return (*symbols[:place], "".join(pair), *symbols[place + 2 :])
    return tuple(symbols)


@exercise.mistake(
    "You replace in a joined string, where the end of one symbol and the start of the next look "
    "like the pair. Compare the symbols themselves."
)
def replaces_in_string(symbols, pair):
    text = " ".join(symbols).replace(" ".join(pair), "".join(pair))
    return tuple(text.split(" ")) if text else ()


@exercise.mistake(
    "You compare joined strings, so (a, bc) is merged where (ab, c) was asked for. Compare left "
    "with left and right with right."
)
def compares_joined_strings(symbols, pair):
    merged: list = []
    place = 0
    while place < len(symbols):
        if "".join(symbols[place : place + 2]) == "".join(pair) and place + 1 < len(symbols):
            merged.append("".join(pair))
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return tuple(merged)


@exercise.mistake(
    "The right symbol of each pair is still there behind the merged one. Move on by two where "
    "you have merged."
)
def keeps_the_right_symbol(symbols, pair):
    merged: list = []
    for place, symbol in enumerate(symbols):
        merged.append("".join(pair) if tuple(symbols[place : place + 2]) == pair else symbol)
    return tuple(merged)


@exercise.mistake(
    "The last symbol is missing unless it was merged. It has no neighbour on its right, and is "
    "kept as it is."
)
def drops_the_last_symbol(symbols, pair):
    merged: list = []
    place = 0
    while place < len(symbols) - 1:
        width = 2 if tuple(symbols[place : place + 2]) == pair else 1
        merged.append("".join(symbols[place : place + width]))
        place += width
    return tuple(merged)


@exercise.mistake(
    "You merge from the right, so a a a becomes a aa. From the left, it is aa a: training and "
    "encoding must agree on it."
)
def from_the_right(symbols, pair):
    merged: list = []
    end = len(symbols)
    while end:
        width = 2 if tuple(symbols[max(end - 2, 0) : end]) == pair else 1
        merged.insert(0, "".join(symbols[end - width : end]))
        end -= width
    return tuple(merged)


@exercise.mistake("You merge b a as well where (a, b) was asked for. The pair has an order.")
def in_either_order(symbols, pair):
    merged: list = []
    place = 0
    while place < len(symbols):
        width = 2 if tuple(symbols[place : place + 2]) in (pair, pair[::-1]) else 1
        merged.append("".join(symbols[place : place + width]))
        place += width
    return tuple(merged)


@exercise.mistake(
    "You take the symbols apart into characters. Those that were merged before stay whole."
)
def takes_symbols_apart(symbols, pair):
    return tuple(shared.merged_by_border("".join(symbols), pair))


@exercise.alternative
def on_a_stack(symbols, pair):
    """What was joined can never be the left symbol of the same pair."""
    stack: list = []
    for symbol in symbols:
        if stack and (stack[-1], symbol) == tuple(pair):
            stack[-1] += symbol
        else:
            stack.append(symbol)
    return tuple(stack)


@exercise.alternative
def with_an_iterator(symbols, pair):
    merged: list = []
    rest = list(symbols)
    while rest:
        first = rest.pop(0)
        if rest and first == pair[0] and rest[0] == pair[1]:
            first = first + rest.pop(0)
        merged.append(first)
    return tuple(merged)


@exercise.alternative
def by_a_pattern(symbols, pair):
    """Symbols between marks that no text has."""
    mark = lambda symbol: f"\0{symbol}\1"  # noqa: E731
    text = "".join(map(mark, symbols)).replace(mark(pair[0]) + mark(pair[1]), mark("".join(pair)))
    return tuple(re.findall("\0(.*?)\1", text, flags=re.DOTALL))


@exercise.alternative
def recursively(symbols, pair):
    symbols = tuple(symbols)
    if len(symbols) < 2:
        return symbols
    if symbols[:2] == pair:
        return ("".join(pair), *recursively(symbols[2:], pair))
    return (symbols[0], *recursively(symbols[1:], pair))
