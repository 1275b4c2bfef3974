"""The grammar of `stories`: what is told, in which words, and what is bound by what was told.

One function tells one kind of sentence. It says its words through `choose`, and keeps what later
sentences must agree with in the `State`. Capitals in a docstring are what the function itself says.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import NamedTuple

from course_utils.corpora.choices import Choose, Options

# --- The words -----------------------------------------------------------------------------------

PRONOUNS = {
    **dict.fromkeys("mia anna lily zoe emma ruby nora ella".split(), "she"),
    **dict.fromkeys("tom ben sam leo max finn noah jack".split(), "he"),
}
COLOURS = "red blue green yellow white black pink brown purple grey".split()
SIZES = "small big tiny".split()
ONE = "ball kite drum hat scarf cup doll book ring bell lamp spoon robot train".split()
MANY = (
    "marbles pencils buttons beads socks gloves blocks boots shells ribbons candles cards".split()
)
PLACES = (
    "box bag basket drawer cupboard chest trunk suitcase cart tent shed pot barrel hut jar wardrobe"
).split()
SCENES = [
    f"outside {what} ."
    for what in (
        "a bird sang", "the sun came out", "the wind blew", "it began to rain", "a dog barked",
        "the trees were quiet", "a cat slept on the wall", "bees flew over the grass",
    )
]  # fmt: skip
CLOSINGS = [
    f"{what} ."
    for what in (
        "they all went home", "they had a lovely time", "they ate bread and honey",
        "at night they fell asleep", "now it was bedtime", "it was a good day",
        "mother called them home", "everybody was happy",
    )
]  # fmt: skip

_NAMES = Options("person", [*PRONOUNS])
_WEATHER = Options("weather", "sunny rainy windy cold warm cloudy snowy quiet".split())
_TIME = Options("time", "day morning afternoon evening".split())
_MEETING = Options("meeting", ["met", "played", "sat", "rested"])
_SETTING = Options("setting", [
    "in the park", "at the beach", "at school", "on the farm", "in the woods", "by the lake",
    "at home", "by the river",
])  # fmt: skip
_COLOURS = Options("colour", COLOURS)
_ARTICLE = Options("article", ["a", "some"])
_ONE, _MANY = Options("thing", ONE), Options("thing", MANY)
_NOUNS_BEHIND = {"a": _ONE, "some": _MANY}
_NOUNS = Options("thing", [*ONE, *MANY])
_PLACES = Options("place", PLACES)
_PUTS = "put hid left kept dropped laid".split()
_ACTIONS = "laughed smiled danced clapped sang hummed waved jumped cheered giggled".split()
_FEELING = Options("feeling", "happy tired proud glad sleepy curious hungry calm".split())
_ACTION = Options("action", _ACTIONS)
_AFTER_ACTION = Options("reason", {".": 0.4, "because": 0.6})
_QUALITY = Options("quality", "new old shiny pretty clean dusty strange special".split())
_THEN = ["then", "later", "soon", "next"]


# --- What is known in the middle of a story ------------------------------------------------------


@dataclass
class Thing:
    noun: str
    size: str | None = None
    colour: str | None = None  # None if the story has not told it, and so for the place
    place: str | None = None
    coloured_at: int = -1  # index of the word that told the colour last
    placed_at: int = -1

    @property
    def plural(self) -> bool:
        return self.noun in MANY


class Answer(NamedTuple):
    """A question that the story answers: what decides it, and where."""

    kind: str
    at: int  # index of the word that answers
    source: int  # of the word that told it


@dataclass
class State:
    """What has been told."""

    people: list[str] = field(default_factory=list)
    things: dict[str, Thing] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)  # every place named
    pauses: int = 0  # sentences in the middle that move nothing
    moves: int = 0
    to_ask: dict[str, list[str]] = field(default_factory=dict)  # kind of question -> nouns
    answers: list[Answer] = field(default_factory=list)
    ended: bool = False

    def thing(self, noun: str) -> Thing:
        """The thing of that name; one of which nothing is known, if the story has none."""
        return self.things.get(noun) or Thing(noun)

    def ask_everything(self) -> None:
        """From here on there are questions only, until every fact has been asked for."""
        self.to_ask = {kind: list(self.things) for kind in _QUESTIONS}


# --- The grammar ---------------------------------------------------------------------------------

_N_THINGS = 2
_LONGEST_MIDDLE = 2  # sentences between the last thing put and the first question
_QUESTIONS = {"place": "where", "colour": "what colour"}


def tell(choose: Choose) -> State:
    """A whole story."""
    state = State()
    while not state.ended:
        sentence(choose, state)
    return state


def sentence(choose: Choose, state: State) -> None:
    """Any sentence. Its first words tell of which kind it is; the order of kinds is bound."""
    first = choose.fact("order", _due(state), _BEGINNINGS)
    _KIND[first](choose, state, first)


def _opening(choose: Choose, state: State, first: str) -> None:
    """One sunny morning mia and tom met by the lake ."""
    choose(_WEATHER)
    choose(_TIME)
    one = choose(_NAMES)
    choose.say("and")
    other = choose.fact("new", _without(_NAMES, one), _NAMES)
    choose(_MEETING)
    choose(_SETTING)
    choose.say(".")
    state.people = [one, other]


def _somebody(choose: Choose, state: State, name: str) -> None:
    """What one of the two does: put a thing somewhere, as long as there are too few, or rest."""
    verb = choose.fact("order", _PUT if len(state.things) < _N_THINGS else _PAUSE, _VERBS)
    if verb in _PUTS:
        _put(choose, state)
    elif verb == "was":
        _feel(choose, state, name)
    else:
        _act(choose, state, name)


def _put(choose: Choose, state: State) -> None:
    """Mia put A SMALL BALL IN A BOX . THE BALL WAS RED ."""
    nouns = _NOUNS_BEHIND[choose(_ARTICLE)]
    *size, noun = choose.fact("agreement", _sized(nouns, *state.things), _ANY_SIZED).split()
    thing = Thing(noun, size[0] if size else None)
    choose.say("in", "a")
    _put_somewhere(choose, state, thing)
    choose.say(".", "the")
    choose.fact("thing", _only(noun), _NOUNS)
    _agree(choose, thing)
    used = [other.colour for other in state.things.values() if other.colour]
    thing.colour = choose.fact("new", _without(_COLOURS, *used), _COLOURS)
    thing.coloured_at = choose.n_words - 1
    choose.say(".")
    state.things[noun] = thing


def _put_somewhere(choose: Choose, state: State, thing: Thing) -> None:
    """BOX , and it is remembered."""
    thing.place = choose.fact("new", _without(_PLACES, *sorted(state.places)), _PLACES)
    thing.placed_at = choose.n_words - 1
    state.places.append(thing.place)


def _agree(choose: Choose, thing: Thing) -> None:
    """WAS , or WERE ."""
    choose.fact("agreement", _only("were" if thing.plural else "was"), _WAS_WERE)


def _feel(choose: Choose, state: State, name: str) -> None:
    """Mia was HAPPY AND SHE DANCED ."""
    choose(_FEELING)
    choose.say("and")
    choose.fact("pronoun", _only(PRONOUNS[name]), _SHE_HE)
    choose(_ACTION)
    choose.say(".")
    state.pauses += 1


def _act(choose: Choose, state: State, name: str) -> None:
    """Mia laughed . Mia laughed BECAUSE SHE LIKED THE BALL ."""
    if choose(_AFTER_ACTION) == "because":
        choose.fact("pronoun", _only(PRONOUNS[name]), _SHE_HE)
        choose.say("liked", "the")
        choose.fact("thing", _any_of("thing", *state.things), _NOUNS)
        choose.say(".")
    state.pauses += 1


def _remark(choose: Choose, state: State, first: str) -> None:
    """The BALL WAS RED AND SHINY . The BALL WAS SMALL AND SHINY ."""
    thing = state.thing(choose.fact("thing", _any_of("thing", *state.things), _NOUNS))
    _agree(choose, thing)
    known = [word for word in (thing.colour, thing.size) if word]
    if choose.fact("colour", _any_of("colour", *known), _COLOURS_AND_SIZES) == thing.colour:
        thing.coloured_at = choose.n_words - 1
    choose.say("and")
    choose(_QUALITY)
    choose.say(".")
    state.pauses += 1


def _move(choose: Choose, state: State, first: str) -> None:
    """Then TOM FOUND THE BALL IN THE BOX AND HE PUT THE BALL IN A TENT ."""
    name = choose.fact("person", _any_of("person", *state.people), _NAMES)
    choose.say("found", "the")
    thing = state.thing(choose.fact("thing", _any_of("thing", *state.things), _NOUNS))
    choose.say("in", "the")
    choose.fact("place", _known(thing.place), _PLACES)
    choose.say("and")
    choose.fact("pronoun", _only(PRONOUNS[name]), _SHE_HE)
    choose(_PUT)
    choose.say("the")
    choose.fact("thing", _only(thing.noun), _NOUNS)
    choose.say("in", "a")
    _put_somewhere(choose, state, thing)
    choose.say(".")
    state.moves += 1


def _scene(choose: Choose, state: State, first: str) -> None:
    """Outside a bird sang . (All of it has been said.)"""
    state.pauses += 1


def _where(choose: Choose, state: State, first: str) -> None:
    """Where IS THE BALL ? THE BALL IS IN THE TENT ."""
    thing = _asked(choose, state, "place")
    choose.say("in", "the")
    state.answers.append(Answer("place", choose.n_words, thing.placed_at))
    choose.fact("place", _known(thing.place), _PLACES)
    choose.say(".")


def _what_colour(choose: Choose, state: State, first: str) -> None:
    """What colour IS THE BALL ? THE BALL IS RED ."""
    thing = _asked(choose, state, "colour")
    state.answers.append(Answer("colour", choose.n_words, thing.coloured_at))
    choose.fact("colour", _known(thing.colour), _COLOURS)
    choose.say(".")


def _asked(choose: Choose, state: State, kind: str) -> Thing:
    """IS THE BALL ? THE BALL IS, up to what answers the question."""
    if not state.to_ask:
        state.ask_everything()
    remaining = state.to_ask[kind]
    right = _any_of("question", *map(_question_about, remaining))
    noun = choose.fact("question", right, _QUESTIONS_ABOUT).split()[2]
    thing = state.thing(noun)
    choose.say("the")
    choose.fact("question", _only(noun), _NOUNS)
    choose.fact("agreement", _only("are" if thing.plural else "is"), _IS_ARE)
    if noun in remaining:
        remaining.remove(noun)
    return thing


def _closing(choose: Choose, state: State, first: str) -> None:
    """They all went home . (All of it has been said.)"""
    state.ended = True


# --- Which kind of sentence may come -------------------------------------------------------------


def _due(state: State) -> Options | None:
    """How the next sentence may begin."""
    if not state.people:
        return _OPENING
    if len(state.things) < _N_THINGS:
        return _any_of("order", *state.people)
    if not state.to_ask:
        return _middle(tuple(state.people), state.pauses, state.moves)
    return _questions(*(len(nouns) for nouns in state.to_ask.values()))


@cache
def _middle(people: tuple[str, str], pauses: int, moves: int) -> Options:
    """Move a thing (at least once), pause, or begin to ask."""
    room = _LONGEST_MIDDLE - pauses - moves
    pause = 0.35 if room > (moves == 0) else 0.0
    move = 1.0 - pause if moves == 0 else 0.2 if moves == 1 and room else 0.0
    ask = 1.0 - pause - move
    weights = {
        **{word: move / len(_THEN) for word in _THEN},
        **dict.fromkeys(people, pause / 4),
        "the": pause / 4,
        **{scene: pause / 4 / len(SCENES) for scene in SCENES},
        **{words: ask / len(_QUESTIONS) for words in _QUESTIONS.values()},
    }
    return Options("order", {text: weight for text, weight in weights.items() if weight > 0})


@cache
def _questions(*remaining: int) -> Options:
    """Ask for what has not been asked for, in any order, or close the story."""
    if not any(remaining):
        return _CLOSING
    counts = zip(_QUESTIONS.values(), remaining, strict=True)
    return Options("order", {words: n for words, n in counts if n})


# --- Tables of options, each made once -----------------------------------------------------------


@cache
def _only(text: str) -> Options:
    return Options(text, [text])


def _known(text: str | None) -> Options | None:
    return None if text is None else _only(text)


@cache
def _any_of(label: str, *texts: str) -> Options | None:
    return Options(label, texts) if texts else None


@cache
def _without(options: Options, *used: str) -> Options:
    return Options(options.label, [text for text, _ in options.entries if text not in used])


@cache
def _sized(options: Options, *used: str) -> Options:
    """What is not used, and before it perhaps a size."""
    plain = {text: 0.6 for text, _ in options.entries if text not in used}
    sized = {f"{size} {text}": 0.4 / len(SIZES) for size in SIZES for text in plain}
    return Options(options.label, plain | sized)


def _question_about(noun: str) -> str:
    return f"{'are' if noun in MANY else 'is'} the {noun} ?"


_SHE_HE = Options("pronoun", ["she", "he"])
_WAS_WERE = Options("agreement", ["was", "were"])
_IS_ARE = Options("agreement", ["is", "are"])
_COLOURS_AND_SIZES, _ANY_SIZED = Options("colour", [*COLOURS, *SIZES]), _sized(_NOUNS)
_QUESTIONS_ABOUT = Options("question", map(_question_about, [*ONE, *MANY]))
_PUT = Options("verb", _PUTS)
_PAUSE = Options("verb", ["was", *_ACTIONS])
_VERBS = Options("verb", [*_PUTS, "was", *_ACTIONS])
_OPENING = Options("opening", ["one", "that"])
_CLOSING = Options("closing", CLOSINGS)

_KIND = {
    **dict.fromkeys(["one", "that"], _opening),
    **dict.fromkeys(PRONOUNS, _somebody),
    **dict.fromkeys(_THEN, _move),
    "the": _remark,
    **dict.fromkeys(SCENES, _scene),
    "where": _where,
    "what colour": _what_colour,
    **dict.fromkeys(CLOSINGS, _closing),
}
_BEGINNINGS = Options("order", [*_KIND])
_SAID_AS_THEY_ARE = "and because the in found liked . ?".split()
_TABLES = [value for value in globals().values() if isinstance(value, Options)]

WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        word
        for text in (*chain(*(table.probability for table in _TABLES)), *_SAID_AS_THEY_ARE)
        for word in text.split()
    )
)
