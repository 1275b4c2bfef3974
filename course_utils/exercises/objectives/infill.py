"""objectives.infill: one mask for a whole span, whatever its length."""

from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "objectives.infill",
    used_by="the encoder-decoder that you train as BART was",
    hints=(
        "Go from span to span, and remember where the last one ended. Between that end and the "
        "next start all tokens stay.",
        "For each span append one `mask_id`, and go on at `start + length`. A span of length 0 "
        "needs nothing of its own: it goes on where it started.",
        "`source += [*ids[end:start], mask_id]`, then `end = start + length`. Behind the last span "
        "comes `ids[end:]`.",
    ),
)


def _gap_by_gap(ids, spans, mask_id):
    """Every gap between two tokens is asked which spans start there, and every token for its."""
    hidden = {place for start, length in spans for place in range(start, start + length)}
    source = []
    for place in range(len(ids) + 1):
        source += [mask_id for start, _ in spans if start == place]
        source += [ids[place]] if place < len(ids) and place not in hidden else []
    return source


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        ids: list[int],
        spans: list[tuple[int, int]],
        mask_id: int = 4,
        point: str = "",
    ) -> Case:
        given = {"ids": ids, "spans": spans, "mask_id": mask_id}
        call = f"infill({ids}, {spans}, {mask_id})"
        return Case(title, given, _gap_by_gap, shown=call, point=point)

    text = [51, 38, 74, 22, 95, 67, 43, 88, 19, 30]
    empty = (
        "A span of length 0 has a mask, too. It hides nothing, and stands in front of token "
        "`start`, which stays."
    )
    behind = "A span of length 0 may start at `len(ids)`: its mask comes behind the last token."
    front = "A span may begin with the text: its mask comes first."
    back = "A span may end with the text: its mask comes last."
    touching = (
        "Each span has a mask of its own, also where spans touch, or start at the same place: "
        "masks may be neighbours."
    )
    none = "Without spans the text stays as it is."
    alike = "What is hidden is said by places: tokens may be alike, or be `mask_id` already."
    return [
        case("one span", text, [(2, 3)]),
        case("two spans", text, [(1, 2), (5, 3)]),
        case("three spans", text, [(1, 1), (3, 2), (6, 3)], 103),
        case("one token", text[:5], [(3, 1)], 0),
        case("a span of length 0", text[:6], [(2, 0)], point=empty),
        case("one of length 2, one of length 0", text, [(1, 2), (6, 0)], point=empty),
        case("one of length 0, one of length 3", text, [(3, 0), (5, 3)], 77, empty),
        case("only spans of length 0", text[:7], [(1, 0), (3, 0), (6, 0)], point=empty),
        case("length 0, in front of all", text[:5], [(0, 0), (2, 2)], point=empty),
        case("length 0, behind all", text[:5], [(1, 2), (5, 0)], point=behind),
        case("a text that begins with a span", text, [(0, 2), (6, 1)], point=front),
        case("a text that ends with a span", text, [(2, 1), (7, 3)], point=back),
        case("all of it is hidden", text[:6], [(0, 6)], point=back),
        case("spans that touch", text, [(2, 2), (4, 3)], point=touching),
        case("length 0, in front of a span", text, [(4, 0), (4, 2)], point=touching),
        case("length 0, behind a span", text, [(4, 2), (6, 0)], point=touching),
        case("two of length 0 at one place", text[:4], [(2, 0), (2, 0)], 9, touching),
        case("tokens that are alike", [7, 7, 3, 4, 7, 4, 3, 7], [(1, 1), (4, 2)], point=alike),
        case("tokens are 0", [0, 5, 0, 0, 4, 0, 0], [(2, 2), (6, 1)], 0, alike),
        case("no span", text[:4], [], point=none),
        case("no text", [], [], 12, none),
        case("no text, and a mask", [], [(0, 0)], 12, behind),
        case(
            "many spans", [n * n % 97 for n in range(60)], [(n, n % 4) for n in range(1, 58, 6)], 99
        ),
    ]


def _with_masks(ids, spans, masks):
    """Right, where `masks` gives one mask whatever the length."""
    source, end = [], 0
    for start, length in spans:
        source += [*ids[end:start], *masks(length)]
        end = start + length
    return source + ids[end:]


@exercise.mistake(
    "Each hidden token has a mask, so the text says how many are missing. One mask stands for a "
    "whole span; BART must find out how much to write."
)
def mask_per_token(ids, spans, mask_id):
    return _with_masks(ids, spans, lambda length: [mask_id] * length)


@exercise.mistake(
    "Each hidden token has a mask, so the text says how many are missing; only a span of length 0 "
    "has one alone. One mask stands for a whole span, whatever its length."
)
def mask_per_token_but_for_none(ids, spans, mask_id):
    return _with_masks(ids, spans, lambda length: [mask_id] * max(1, length))


@exercise.mistake(
    "You leave out spans of length 0. They put a mask where nothing is missing, so that the model "
    "learns that a hole may be empty."
)
def no_zero_length_spans(ids, spans, mask_id):
    return _with_masks(ids, spans, lambda length: [mask_id] if length else [])


@exercise.mistake(
    "You hide at least one token: a span of length 0 takes away the token behind its mask. It "
    "hides nothing."
)
def hides_one_at_least(ids, spans, mask_id):
    source, end = [], 0
    for start, length in spans:
        source += [*ids[end:start], mask_id]
        end = start + max(1, length)
    return source + ids[end:]


@exercise.mistake(
    "Your spans vanish without a mask. One `mask_id` stands where each of them was: that is what "
    "the model is asked to fill."
)
def spans_deleted(ids, spans, mask_id):
    return _with_masks(ids, spans, lambda length: [])


@exercise.mistake(
    "Your masks are counted up, as T5's sentinels are. BART has one mask for all spans: `mask_id`."
)
def masks_are_sentinels(ids, spans, mask_id):
    source, end = [], 0
    for number, (start, length) in enumerate(spans):
        source += [*ids[end:start], mask_id + number]
        end = start + length
    return source + ids[end:]


@exercise.mistake(
    "You take the second number of a span for its end. It is its length: the span ends at "
    "`start + length`."
)
def length_taken_for_the_end(ids, spans, mask_id):
    source, end = [], 0
    for start, stop in spans:
        source += [*ids[end:start], mask_id]
        end = stop
    return source + ids[end:]


@exercise.mistake(
    "You cut spans out of a list that has changed its length, so all but the first are cut at a "
    "wrong place. Starts are places in `ids`: build a new list, or begin with the last span."
)
def places_in_what_is_left(ids, spans, mask_id):
    source = list(ids)
    for start, length in spans:
        source[start : start + length] = [mask_id]
    return source


@exercise.mistake(
    "Masks that are neighbours become one in your text. Each span keeps its own mask, also where "
    "spans touch."
)
def neighbours_joined(ids, spans, mask_id):
    source, before = [], None
    for start, length in spans:
        end = 0 if before is None else sum(before)
        if before is None or end < start:
            source += [*ids[end:start], mask_id]
        before = (start, length)
    return source + ids[sum(before) if before else 0 :]


@exercise.mistake(
    "What stands behind the last span is missing. After the loop the text still needs `ids[end:]`."
)
def tail_is_lost(ids, spans, mask_id):
    source, end = [], 0
    for start, length in spans:
        source += [*ids[end:start], mask_id]
        end = start + length
    return source


@exercise.mistake(
    "Your masks stand behind spans whose tokens are still there. The tokens of a span go, and the "
    "mask takes their place."
)
def hides_nothing(ids, spans, mask_id):
    source, end = [], 0
    for start, length in spans:
        source += [*ids[end : start + length], mask_id]
        end = start + length
    return source + ids[end:]


@exercise.mistake(
    "You cut the spans out of the caller's list. The text is needed again, as what BART must "
    "write: begin with a new list."
)
def in_place(ids, spans, mask_id):
    ids[:] = _with_masks(list(ids), spans, lambda length: [mask_id])
    return ids


@exercise.alternative
def from_the_last_span(ids, spans, mask_id):
    source = list(ids)
    for start, length in list(spans)[::-1]:
        source[start : start + length] = [mask_id]
    return source


@exercise.alternative
def with_a_while_loop(ids, spans, mask_id):
    source = []
    waiting = list(spans)
    place = 0
    while place < len(ids) or waiting:
        if waiting and waiting[0][0] == place:
            start, length = waiting.pop(0)
            source.append(mask_id)
            place = start + length
        else:
            source.append(ids[place])
            place += 1
    return source


@exercise.alternative
def with_an_offset(ids, spans, mask_id):
    """Cut from the front, and note by how much places have moved."""
    source = [*ids]
    moved = 0
    for start, length in spans:
        at = start + moved
        del source[at : at + length]
        source.insert(at, mask_id)
        moved += 1 - length
    return source


@exercise.alternative
def by_gaps(ids, spans, mask_id):
    kept = [True] * len(ids)
    masks = [0] * (len(ids) + 1)
    for start, length in spans:
        masks[start] += 1
        kept[start : start + length] = [False] * length
    source = []
    for count, token, keep in zip(masks, ids, kept, strict=False):
        source.extend([mask_id] * count)
        if keep:
            source.append(token)
    return source + [mask_id] * masks[-1]
