"""The grammar of `village`: which word can come next, and how probable it is.

What was said decides the `State` of a text. In a state there are some ways on: each has a share, a
`Table` of words, and the state that follows. Only the topic of a text stays hidden, so `row` has
the probability of every next word for each of the topics. Texts are skewed on purpose: a few words
of every kind do most of the work, people have habits, and what was just named is named again.
Capitals in a docstring are what the function itself says.
"""

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from course_utils.corpora.village_words import (
    ADJECTIVES,
    ALL_PLACES,
    BESIDE,
    CLASS_OF,
    CLOSERS,
    END,
    EXCLAMATIONS,
    ID_OF,
    NAMES,
    OPENERS,
    SHE,
    TOPIC_OF,
    TOPICS,
    VERBS,
    VOCABULARY,
)

# --- Shares --------------------------------------------------------------------------------------

OPENER, EXCLAMATION = 0.2, 0.1  # of the sentences
AGAIN, PRONOUN = 0.85, 0.15  # of the people: one of the last three; "she" or "he" for the last
SAID, SAID_WITHIN, DEEPEST = 0.1, 0.25, 2  # "said that", and so within what somebody said
WENT = 0.1
OWN_VERBS, OWN_NOUN, OWN_PLACE = 0.45, 0.5, 0.5  # habits
NOUN_AGAIN = 0.4  # of the nouns: one of the last four
OFF_TOPIC = 0.03  # the weight of a word is multiplied by it in the topics of others
ENOUGH = 110  # words: a text ends with the sentence that reaches them
LONGEST_SENTENCE = 39
LONGEST = ENOUGH - 1 + LONGEST_SENTENCE

# --- Tables of words -----------------------------------------------------------------------------


class Table:
    """Words that can come next at one place, with their probabilities for every topic."""

    def __init__(
        self, weights: Mapping[str, float], home: Mapping[str, Sequence[str]] | None = None
    ):
        """`home` has the topics in which a word is common. In others its weight shrinks."""
        shrunk = [
            [
                weight * (OFF_TOPIC if home and topic not in home.get(word, TOPICS) else 1.0)
                for word, weight in weights.items()
            ]
            for topic in TOPICS
        ]
        self.words = tuple(weights)
        self.ids: Int[np.ndarray, " words"] = np.array([ID_OF[word] for word in weights])
        table = np.array(shrunk, dtype=float)
        self.probability: Float[np.ndarray, "topics words"] = table / table.sum(1, keepdims=True)
        self._bounds = [[*row[:-1], 1.0] for row in self.probability.cumsum(1).tolist()]
        self._known = frozenset(weights)

    def __contains__(self, word: str) -> bool:
        return word in self._known

    def draw(self, topic: int, random: Random) -> str:
        """One of the words."""
        return self.words[bisect(self._bounds[topic], random.random())]


def _zipf(words: Iterable[str], first: int = 1) -> dict[str, float]:
    """The first word is the most frequent one. Weights are 1 / `first`, 1 / (`first` + 1), …"""
    return {word: 1 / rank for rank, word in enumerate(words, start=first)}


def _order(words: Iterable[str], name: str) -> dict[str, float]:
    """Zipf's weights in an order that belongs to `name` alone."""
    known = list(words)
    return _zipf(Random(name).sample(known, len(known)))


@cache
def _one_of(**weights: float) -> Table:
    return Table(weights)


@cache
def _just(word: str) -> Table:
    return Table({word: 1.0})


@cache
def _phrases(kind: tuple[str, ...], said: str) -> Table:
    """The next words of the set phrases of a kind, `said` being how they begin."""
    weights: dict[str, float] = {}
    for phrase, weight in _zipf(kind).items():
        if phrase.startswith(said):
            word = phrase[len(said) :].split()[0]
            weights[word] = weights.get(word, 0.0) + weight
    return Table(weights)


@cache
def _anybody(but: str = "") -> Table:
    return Table({name: weight for name, weight in _zipf(NAMES).items() if name != but})


@lru_cache(maxsize=5000)
def _remembered(memory: tuple[str, ...]) -> Table:
    """What was named last is the likeliest to be named again."""
    return Table(_zipf(memory, first=3))


@cache
def _verbs(first: str = "") -> Table:
    """All verbs; behind a first one those that take nothing which the first does not take."""
    kinds = set(VERBS[first][0].split() if first else CLASS_OF.values())
    return Table(
        {
            verb: weight
            for verb, weight in _order(VERBS, "verbs").items()
            if verb != first and set(VERBS[verb][0].split()) <= kinds
        },
        {verb: topics.split() or TOPICS for verb, (_, topics) in VERBS.items()},
    )


@cache
def _own_verbs(name: str) -> Table:
    return Table(dict(list(_order(VERBS, f"verbs of {name}").items())[:2]))


@cache
def _own_place(name: str) -> Table:
    return _just(next(iter(_order(ALL_PLACES, f"place of {name}"))))


@cache
def _own_noun(name: str) -> str:
    """What a person always has to do with. Their commonest verb takes it."""
    kinds = VERBS[_own_verbs(name).words[0]][0].split()
    return next(iter(_order([n for n in CLASS_OF if CLASS_OF[n] in kinds], f"noun of {name}")))


@cache
def _places() -> Table:
    return Table(_order(ALL_PLACES, "places"), {each: [TOPIC_OF[each]] for each in ALL_PLACES})


@cache
def _fits(verb: str, adjective: str, noun: str) -> bool:
    kind = CLASS_OF[noun]
    return kind in VERBS[verb][0].split() and (
        not adjective or kind in ADJECTIVES[adjective].split()
    )


@cache
def _adjectives(verb: str) -> Table:
    kinds = set(VERBS[verb][0].split())
    return Table(_order([a for a in ADJECTIVES if kinds & set(ADJECTIVES[a].split())], verb))


@lru_cache(maxsize=5000)
def _nouns(verb: str, adjective: str, but: str) -> Table:
    """Every verb has an order of its own."""
    order = _order(CLASS_OF, f"nouns of {verb}")
    return Table(
        _zipf(noun for noun in order if _fits(verb, adjective, noun) and noun != but),
        {noun: [topic] for noun, topic in TOPIC_OF.items()},
    )


# --- The grammar ---------------------------------------------------------------------------------


class State(NamedTuple):
    """What comes next, and what bears on it."""

    ways: Callable[["State"], list["Way"]]
    n_words: int = 0
    kind: tuple[str, ...] = ()  # the set phrases of which one is being said,
    said: str = ""  # and how it begins
    subject: str = ""
    verb: str = ""
    adjective: str = ""
    depth: int = 0  # how often "said that" stands before this clause
    listed: bool = False  # whether this is the second noun behind a verb
    names: tuple[str, ...] = ()  # the last three, the newest first
    nouns: tuple[str, ...] = ()  # the last four


class Way(NamedTuple):
    """A share of what can come next. No word stands in two ways that lead to different states."""

    share: float
    table: Table
    then: Callable[[State, str], State]


def _to(ways: Callable[[State], list[Way]], **known: Any) -> Callable[[State, str], State]:
    """Go on with `ways`, and keep what is known."""
    return lambda state, word: state._replace(ways=ways, **known)


def _part(share: float, ways: Iterable[Way]) -> list[Way]:
    """The same ways, with less to share."""
    return [Way(share * way.share, way.table, way.then) for way in ways]


def _whole(ways: Sequence[Way]) -> list[Way]:
    """Shares that sum to 1: what is left out here, the others have."""
    return _part(1 / sum(way.share for way in ways), ways)


def _newest(memory: tuple[str, ...], word: str, n: int) -> tuple[str, ...]:
    return (word, *(each for each in memory if each != word))[:n]


def _sentence(state: State) -> list[Way]:
    if state.n_words >= ENOUGH:
        return [Way(1.0, _just(END), _to(_nothing))]
    return [
        *_part(OPENER, _phrase(state._replace(kind=OPENERS))),
        *_part(EXCLAMATION, _phrase(state._replace(kind=EXCLAMATIONS))),
        *_part(1 - OPENER - EXCLAMATION, _subject(state)),
    ]


def _nothing(state: State) -> list[Way]:
    return []


def _phrase(state: State) -> list[Way]:
    """A set phrase, from wherever in it we are."""

    def go_on(before: State, word: str) -> State:
        said = f"{state.said}{word} "
        if said.strip() not in state.kind:
            return before._replace(ways=_phrase, kind=state.kind, said=said)
        done = before._replace(kind=(), said="")
        return done._replace(ways=_subject) if word == "," else stop(done, word)

    return [Way(1.0, _phrases(state.kind, state.said), go_on)]


def stop(state: State, word: str = ".") -> State:
    """A sentence is over. Of all that it said, people and things are remembered."""
    return State(_sentence, state.n_words, names=state.names, nouns=state.nouns)


def _subject(state: State) -> list[Way]:
    """NELL ; SHE , if a woman was named last ."""
    pronoun = "she" if state.names and state.names[0] in SHE else "he"
    return _whole(
        [
            Way(1 - AGAIN, _anybody(), _named),
            *([Way(AGAIN, _remembered(state.names), _named)] if state.names else []),
            *([Way(PRONOUN, _just(pronoun), _meant)] if state.names else []),
        ]
    )


def _named(state: State, word: str) -> State:
    return state._replace(
        ways=_predicate, subject=word, names=_newest(state.names, word, 3), listed=False
    )


def _meant(state: State, word: str) -> State:
    return _named(state, state.names[0])


def _predicate(state: State) -> list[Way]:
    """WASHED ; SAID (that Tom …) ; WENT (to the inn) ."""
    said = (SAID if state.depth == 0 else SAID_WITHIN) if state.depth < DEEPEST else 0.0
    rest = 1 - said - WENT
    return [
        *([Way(said, _just("said"), _to(_that, depth=state.depth + 1))] if said else []),
        Way(WENT, _just("went"), _to(_where)),
        Way(rest * OWN_VERBS, _own_verbs(state.subject), _did),
        Way(rest * (1 - OWN_VERBS), _verbs(), _did),
    ]


def _did(state: State, word: str) -> State:
    return state._replace(ways=_object, verb=word)


def _that(state: State) -> list[Way]:
    return [Way(1.0, _just("that"), _to(_subject))]


def _where(state: State) -> list[Way]:
    return [Way(1.0, _just("to"), _to(_the_place))]


def _object(state: State) -> list[Way]:
    """AND (counted the hens) ; THE (hens) ."""
    more = [Way(0.08, _just("and"), _to(_second_verb))] if _verbs(state.verb).words else []
    return _whole([*more, *_part(0.92, _determiner(state))])


def _second_verb(state: State) -> list[Way]:
    first = state.verb
    return [
        Way(1.0, _verbs(first), lambda state, word: state._replace(ways=_determiner, verb=word))
    ]


def _determiner(state: State) -> list[Way]:
    own = "her" if state.subject in SHE else "his"
    return [Way(1.0, _one_of(**{"the": 0.75, own: 0.17, "that": 0.08}), _to(_noun_phrase))]


def _noun_phrase(state: State) -> list[Way]:
    """VERY (old hen) ; OLD (hen) ; HEN ."""
    return [
        Way(0.08, _just("very"), _to(_very)),
        Way(0.25, _adjectives(state.verb), _described),
        *_part(0.67, _noun(state)),
    ]


def _very(state: State) -> list[Way]:
    return [
        Way(0.25, _just("very"), _to(_adjective)),
        Way(0.75, _adjectives(state.verb), _described),
    ]


def _adjective(state: State) -> list[Way]:
    return [Way(1.0, _adjectives(state.verb), _described)]


def _described(state: State, word: str) -> State:
    return state._replace(ways=_noun, adjective=word)


def _noun(state: State) -> list[Way]:
    """What was named before, what the subject always has to do with, or what the verb likes."""
    verb, adjective = state.verb, state.adjective
    but = state.nouns[0] if state.listed else ""

    def those_of(nouns: Iterable[str]) -> tuple[str, ...]:
        return tuple(noun for noun in nouns if _fits(verb, adjective, noun) and noun != but)

    again, own = those_of(state.nouns), those_of([_own_noun(state.subject)])
    rest = 1 - NOUN_AGAIN
    return _whole(
        [
            *([Way(NOUN_AGAIN, _remembered(again), _spoken_of)] if again else []),
            *([Way(rest * OWN_NOUN, _remembered(own), _spoken_of)] if own else []),
            Way(rest * (1 - OWN_NOUN), _nouns(verb, adjective, but), _spoken_of),
        ]
    )


def _spoken_of(state: State, word: str) -> State:
    return state._replace(ways=_rest, adjective="", nouns=_newest(state.nouns, word, 4))


def _rest(state: State) -> list[Way]:
    """AND (the pig) ; IN (the barn) ; or what may stand behind a place ."""
    more = [] if state.listed else [Way(0.12, _just("and"), _to(_determiner, listed=True))]
    beside = Way(0.25, _one_of(**_zipf(BESIDE)), _to(_the_place))
    return _whole([*more, beside, *_part(0.63, _late(state))])


def _the_place(state: State) -> list[Way]:
    return [Way(1.0, _just("the"), _to(_place))]


def _place(state: State) -> list[Way]:
    return [
        Way(OWN_PLACE, _own_place(state.subject), _to(_late)),
        Way(1 - OWN_PLACE, _places(), _to(_late)),
    ]


def _late(state: State) -> list[Way]:
    """WITH (Tom) ; , (of course) ; or a full stop."""
    return [Way(0.1, _just("with"), _to(_companion)), *_part(0.9, _close(state))]


def _companion(state: State) -> list[Way]:
    others = tuple(name for name in state.names if name != state.subject)
    return _whole(
        [
            Way(1 - AGAIN, _anybody(but=state.subject), _joined),
            *([Way(AGAIN, _remembered(others), _joined)] if others else []),
        ]
    )


def _joined(state: State, word: str) -> State:
    return state._replace(ways=_close, names=_newest(state.names, word, 3))


def _close(state: State) -> list[Way]:
    return [*_part(0.25, _phrase(state._replace(kind=CLOSERS))), Way(0.75, _just("."), stop)]


# --- From one word to the next -------------------------------------------------------------------

BEGINNING = State(_sentence)


def row(state: State) -> Float[np.ndarray, "topics vocabulary"]:
    """Probability of every next word, for each of the topics."""
    found = np.zeros((len(TOPICS), len(VOCABULARY)))
    for way in state.ways(state):
        found[:, way.table.ids] += way.share * way.table.probability
    return found


def after(state: State, word: str) -> State | None:
    """The state behind `word`; None where it cannot stand here."""
    for way in state.ways(state):
        if word in way.table:
            return way.then(state, word)._replace(n_words=state.n_words + 1)
    return None


def draw(state: State, topic: int, random: Random) -> tuple[str, State]:
    """A next word, and the state behind it."""
    ways = state.ways(state)
    [way] = random.choices(ways, [way.share for way in ways])
    word = way.table.draw(topic, random)
    return word, way.then(state, word)._replace(n_words=state.n_words + 1)
