"""objectives.span_corrupt: a text with holes, and what was in them."""

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "objectives.span_corrupt",
    used_by="the encoder-decoder that you train as T5 was",
    hints=(
        "Go from span to span, and remember where the last one ended. What lies between that end "
        "and the next start goes to the source, what lies in the span goes to the target.",
        "Each span gives one sentinel to both: to the source in place of its tokens, to the target "
        "in front of them. `enumerate(spans, first_sentinel)` counts.",
        "Behind the last span the source still needs `ids[end:]`, and the target one more "
        "sentinel, `first_sentinel + len(spans)`. Both are needed also where there is no span.",
        "In the loop: `source += [*ids[end:start], sentinel]`, `end = start + length`, "
        "`target += [sentinel, *ids[start:end]]`.",
    ),
)


def _token_by_token(ids, spans, first_sentinel):
    """Every token is asked which span hides it."""
    source, target = [], []
    for place, token in enumerate(ids):
        hidden = [n for n, (start, length) in enumerate(spans) if 0 <= place - start < length]
        if not hidden:
            source.append(token)
            continue
        if place == spans[hidden[0]][0]:
            source.append(first_sentinel + hidden[0])
            target.append(first_sentinel + hidden[0])
        target.append(token)
    return source, [*target, first_sentinel + len(spans)]


@exercise.cases
def cases() -> list[Case]:
    values = ("The source", "The target")

    def case(
        title: str,
        ids: list[int],
        spans: list[tuple[int, int]],
        first_sentinel: int = 100,
        point: str = "",
    ) -> Case:
        given = {"ids": ids, "spans": spans, "first_sentinel": first_sentinel}
        call = f"span_corrupt({ids}, {spans}, {first_sentinel})"
        return Case(title, given, _token_by_token, shown=call, values=values, point=point)

    text = [51, 38, 74, 22, 95, 67, 43, 88, 19, 30]
    front = "The first span may begin with the text: nothing stands in front of its sentinel."
    back = "The last span may end with the text: no token stands behind its sentinel."
    touching = (
        "Spans that touch stay two: each has its own sentinel, and nothing stands between them in "
        "the source."
    )
    none = (
        "Without spans nothing is cut out: the source is the text, and the target is the first "
        "sentinel alone, which ends it."
    )
    alike = (
        "Tokens may be the same, inside of a span and outside: what is hidden is said by places, "
        "not by tokens."
    )
    zero = "0 is a token like any other, and so is any number: mark hidden places in another way."
    counts = "Sentinels count from the `first_sentinel` that was given, one up for every span."
    return [
        case("one span", text, [(2, 3)]),
        case("two spans", text, [(1, 2), (5, 3)]),
        case("three spans", text, [(1, 1), (3, 2), (6, 3)]),
        case("one span of one token", text[:5], [(3, 1)]),
        case("other sentinels", text, [(1, 3), (6, 1)], 32000, counts),
        case("a text that begins with a span", text, [(0, 2), (6, 1)], point=front),
        case("a text that ends with a span", text, [(2, 1), (7, 3)], point=back),
        case("both ends are hidden", text, [(0, 1), (4, 2), (9, 1)]),
        case("all of it is hidden", text[:6], [(0, 6)]),
        case("spans that touch", text, [(2, 2), (4, 3)], point=touching),
        case("only spans that touch", text[:4], [(0, 1), (1, 2), (3, 1)], 500, touching),
        case("tokens that are alike", [7, 7, 3, 7, 7, 3, 3, 7], [(1, 2), (4, 2)], 60, alike),
        case("tokens are 0", [0, 5, 0, 0, 4, 0, 0], [(2, 2), (5, 1)], 9, zero),
        case("no span", text[:4], [], point=none),
        case("no span, and other sentinels", text[:7], [], 250, none),
        case("no text", [], [], 12, none),
        case("one token, hidden", [8], [(0, 1)], 40),
        case(
            "many spans", [n * n % 97 for n in range(60)], [(n, 1 + n % 4) for n in range(1, 58, 6)]
        ),
    ]


def _corrupted(ids, spans, first_sentinel, name=None, end=None):
    """Right, unless sentinel number n is called something else, or the target ends otherwise."""
    name = name or (lambda n: first_sentinel + n)
    source, target, place = [], [], 0
    for n, (start, length) in enumerate(spans):
        source += [*ids[place:start], name(n)]
        place = start + length
        target += [name(n), *ids[start:place]]
    return source + ids[place:], target + ([name(len(spans))] if end is None else end)


@exercise.mistake(
    "Every span has the same sentinel. The decoder could not say which hole it fills: count one up "
    "for every span."
)
def one_sentinel_for_all(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel, lambda n: first_sentinel)


@exercise.mistake(
    "All spans have the same sentinel, and only the last one of the target is another. Count one "
    "up for every span."
)
def one_sentinel_and_an_end(ids, spans, first_sentinel):
    end = [first_sentinel + len(spans)]
    return _corrupted(ids, spans, first_sentinel, lambda n: first_sentinel, end)


@exercise.mistake(
    "Your target is the whole text. T5 asks only for what was cut out, with sentinels: that is "
    "shorter, and nothing is copied."
)
def target_is_whole_text(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel)[0], list(ids)


@exercise.mistake(
    "The last sentinel of the target is missing. Without it nobody knows that the last span is at "
    "its end: `first_sentinel + len(spans)`."
)
def no_final_sentinel(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel, end=[])


@exercise.mistake(
    "Your target ends with the sentinel of the last span once more. What ends it is the next one: "
    "`first_sentinel + len(spans)`."
)
def last_sentinel_twice(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel, end=[first_sentinel + len(spans) - 1])


@exercise.mistake(
    "Your source ends with a sentinel, too. That one hides nothing: only the target has it."
)
def final_sentinel_in_the_source(ids, spans, first_sentinel):
    source, target = _corrupted(ids, spans, first_sentinel)
    return [*source, first_sentinel + len(spans)], target


@exercise.mistake(
    "The source has a sentinel for every hidden token, and so says how many there are. One "
    "sentinel stands for a whole span."
)
def sentinel_per_token(ids, spans, first_sentinel):
    source = list(ids)
    for n, (start, length) in enumerate(spans):
        source[start : start + length] = [first_sentinel + n] * length
    return source, _corrupted(ids, spans, first_sentinel)[1]


@exercise.mistake(
    "Your sentinels count down, as T5's own `<extra_id_0>`, `<extra_id_1>` … do in its vocabulary. "
    "Here they count up from `first_sentinel`."
)
def sentinels_count_down(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel, lambda n: first_sentinel - n)


@exercise.mistake("Your sentinels begin one too late: the first span has `first_sentinel` itself.")
def sentinels_begin_too_late(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel + 1)


@exercise.mistake(
    "Your target has the hidden tokens without sentinels between them. Each span is announced by "
    "its own, or nobody knows where it belongs."
)
def target_without_sentinels(ids, spans, first_sentinel):
    source, target = _corrupted(ids, spans, first_sentinel)
    hidden = [token for start, length in spans for token in ids[start : start + length]]
    return source, [*hidden, target[-1]]


@exercise.mistake(
    "In your target a sentinel stands behind the tokens that it hides. It stands in front: first "
    "which hole, then what is in it."
)
def sentinel_behind(ids, spans, first_sentinel):
    target = []
    for n, (start, length) in enumerate(spans):
        target += [*ids[start : start + length], first_sentinel + n]
    return _corrupted(ids, spans, first_sentinel)[0], [*target, first_sentinel + len(spans)]


@exercise.mistake(
    "Your source has lost the spans without a trace. A sentinel stands where each one was, so that "
    "the encoder sees the hole."
)
def source_without_sentinels(ids, spans, first_sentinel):
    hidden = {place for start, length in spans for place in range(start, start + length)}
    source = [token for place, token in enumerate(ids) if place not in hidden]
    return source, _corrupted(ids, spans, first_sentinel)[1]


@exercise.mistake(
    "You take the second number of a span for its end. It is its length: the span ends at "
    "`start + length`."
)
def length_taken_for_the_end(ids, spans, first_sentinel):
    return _corrupted(ids, [(start, end - start) for start, end in spans], first_sentinel)


@exercise.mistake(
    "You cut spans out of a list that has become shorter, so all but the first are cut at a wrong "
    "place. Starts are places in `ids`: build a new list, or begin with the last span."
)
def places_in_what_is_left(ids, spans, first_sentinel):
    source = list(ids)
    for n, (start, length) in enumerate(spans):
        source[start : start + length] = [first_sentinel + n]
    return source, _corrupted(ids, spans, first_sentinel)[1]


@exercise.mistake(
    "What stands behind the last span is missing in your source. After the loop it still needs "
    "`ids[end:]`."
)
def tail_is_lost(ids, spans, first_sentinel):
    end = sum(spans[-1]) if spans else 0
    return _corrupted(ids[:end], spans, first_sentinel)


@exercise.mistake("You return the target first. The source comes first: what the encoder reads.")
def target_first(ids, spans, first_sentinel):
    return _corrupted(ids, spans, first_sentinel)[::-1]


@exercise.mistake(
    "Where two spans touch you make one of them. Each has a sentinel of its own, also where no "
    "token stands between them."
)
def joins_spans_that_touch(ids, spans, first_sentinel):
    joined: list[tuple[int, int]] = []
    for start, length in spans:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return _corrupted(ids, joined, first_sentinel)


@exercise.mistake(
    "You cut the spans out of the caller's list. The text is needed again, with other spans: "
    "begin with a new list."
)
def in_place(ids, spans, first_sentinel):
    source, target = _corrupted(list(ids), spans, first_sentinel)
    ids[:] = source
    return ids, target


@exercise.alternative
def from_the_last_span(ids, spans, first_sentinel):
    source, target = list(ids), [first_sentinel + len(spans)]
    for number in reversed(range(len(spans))):
        start, length = spans[number]
        sentinel = first_sentinel + number
        source[start : start + length] = [sentinel]
        target = [sentinel, *ids[start : start + length], *target]
    return source, target


@exercise.alternative
def with_a_while_loop(ids, spans, first_sentinel):
    starts = dict(spans)
    source = []
    target = []
    sentinel = first_sentinel
    place = 0
    while place < len(ids):
        if place in starts:
            source.append(sentinel)
            target.append(sentinel)
            for _ in range(starts[place]):
                target.append(ids[place])
                place += 1
            sentinel += 1
        else:
            source.append(ids[place])
            place += 1
    target.append(sentinel)
    return source, target


@exercise.alternative
def by_comprehension(ids, spans, first_sentinel):
    ends = [0] + [start + length for start, length in spans]
    starts = [start for start, _ in spans] + [len(ids)]
    kept = [ids[end:start] for end, start in zip(ends, starts, strict=True)]
    names = range(first_sentinel, first_sentinel + len(spans) + 1)
    source = kept[0] + [
        t for name, rest in zip(names, kept[1:], strict=False) for t in (name, *rest)
    ]
    target = [
        t for name, (s, n) in zip(names, spans, strict=False) for t in (name, *ids[s : s + n])
    ]
    return source, [*target, names[-1]]


@exercise.alternative
def recursively(ids, spans, first_sentinel):
    if not spans:
        return list(ids), [first_sentinel]
    (start, length), rest = spans[0], spans[1:]
    moved = [(s - start - length, n) for s, n in rest]
    source, target = recursively(ids[start + length :], moved, first_sentinel + 1)
    hidden = ids[start : start + length]
    return [*ids[:start], first_sentinel, *source], [first_sentinel, *hidden, *target]
