"""Short stories about things that are put somewhere, moved, and asked for.

    One sunny morning Mia and Tom met by the lake. Mia hid a small ball in a box. The ball was red.
    Tom put some socks in a bag. The socks were blue. Later Tom found the ball in the box and he
    put the ball in a tent. … Where is the ball? The ball is in the tent.

`story_grammar` tells them, and `choices` says why every text has one derivation. That is why its
probability is exact, and with it the lowest loss that any model can reach.
"""

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from course_utils.corpora import choices
from course_utils.corpora import story_grammar as grammar
from course_utils.corpora.words import Words, nats_of, refuse_text, rows_of

START, END = "<bos>", "<end>"  # <end> is a token of its own behind the last full stop
LONGEST = 125  # words of the longest story

# --- Stories and their probabilities -------------------------------------------------------------


def sample(random: Random) -> list[str]:
    """Draw one story as a list of words, without <bos> and <end>.

    `sample(Random(0))` gives the same story every time. It has at most `LONGEST` words.
    """
    teller = choices.Teller(random)
    grammar.tell(teller)
    return teller.words


def log_probability(words: Sequence[str]) -> float:
    """Logarithm of the probability that `sample` draws `words`, in nats; -inf if it never does."""
    try:
        return _parsed(words)[0].log_probability
    except (choices.Impossible, choices.Unfinished):
        return -math.inf


def derivation(words: Sequence[str]) -> list[tuple[str, str]]:
    """The choices that tell this story, as (what was chosen, the option), in their order.

    A ValueError names the first word that cannot stand where it stands.
    """
    return _whole(words)[0].steps


def next_words(words: Sequence[str]) -> dict[str, float]:
    """Exact probability of every word that can follow `words`, the beginning of a story.

    After a whole story it is {END: 1.0}. A ValueError names a word that cannot stand where it is.
    """
    try:
        _parsed(words)
    except choices.Unfinished as unfinished:
        return unfinished.next_words
    return {END: 1.0}


def _whole(words: Sequence[str]) -> tuple[choices.Parser, grammar.State]:
    try:
        return _parsed(words)
    except choices.Unfinished as unfinished:
        raise ValueError(f"words: {unfinished}") from None


def _parsed(words: Sequence[str]) -> tuple[choices.Parser, grammar.State]:
    refuse_text(words)
    parser = choices.Parser(words)
    state = grammar.tell(parser)
    if parser.n_words < len(words):
        raise choices.Impossible(f"words: the story is over before word {parser.n_words}")
    return parser, state


# --- What a text keeps to ------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What `read` found in a text."""

    n_sentences: int
    n_grammatical: int
    facts: tuple[tuple[str, bool], ...]  # (kind, whether it was kept), in the order of the text
    complete: bool  # grammatical throughout, and its sentences follow each other as in a story

    @property
    def consistent(self) -> bool:
        """A whole story that keeps all its facts."""
        return self.complete and all(kept for _, kept in self.facts)


def read(words: Sequence[str]) -> Reading:
    """Read any words, such as a model's, sentence by sentence; one may end in END.

    A question and its answer count as one sentence, and so do the two sentences that tell of a new
    thing where it is put and what colour it has. A sentence is grammatical if some story of ours
    could say it, though perhaps about other things. In grammatical sentences, facts are what
    earlier words decide:

    - "agreement": is/are, was/were, after the thing that is spoken of
    - "pronoun": she/he for a person
    - "colour": the colour, or the size, of a thing that is spoken of again or asked for
    - "place": where a thing is that is found or asked for
    - "person", "thing": that the story has introduced who acts and what is spoken of
    - "question": that it asks for a thing of the story, and not twice; that the answer is about it
    - "new": that a person, thing, colour or place that should be new is new

    What a thing that was never introduced is like is not a fact. Words after the last full stop are
    no sentence, but such a story is not complete.
    """
    refuse_text(words)
    words = words[:-1] if words and words[-1] == END else words
    reader, state = choices.ForgivingParser(words), grammar.State()
    n_sentences = n_grammatical = 0
    ended = False
    while reader.n_words < len(words):
        n_facts, ended = len(reader.facts), state.ended
        try:
            grammar.sentence(reader, state)
            n_grammatical += 1
        except (choices.Impossible, choices.Unfinished):
            del reader.facts[n_facts:]
            if "." not in words[reader.n_words :]:
                state.ended = False
                break
            reader.n_words = words.index(".", reader.n_words) + 1
        n_sentences += 1
    in_order = all(kept for kind, kept in reader.facts if kind == "order")
    return Reading(
        n_sentences,
        n_grammatical,
        tuple(fact for fact in reader.facts if fact[0] != "order"),
        in_order and state.ended and not ended and n_grammatical == n_sentences,
    )


@dataclass(frozen=True)
class Question:
    """A question that a story asks, up to the word that answers it."""

    kind: str  # "place" or "colour"
    words: tuple[str, ...]  # the story as far as "… where is the ball ? the ball is in the"
    answer: str
    candidates: tuple[str, ...]  # the places, or colours, that these words name
    source: int  # index in `words` of the word that told the answer ("in a box", "was red") last


def questions(words: Sequence[str]) -> list[Question]:
    """The questions of a story of ours. A ValueError names a word that cannot stand where it is."""
    found = []
    for kind, at, source in _whole(words)[1].answers:
        known = grammar.PLACES if kind == "place" else grammar.COLOURS
        before = tuple(words[:at])
        candidates = tuple(dict.fromkeys(word for word in before if word in known))
        found.append(Question(kind, before, words[at], candidates, source))
    return found


# --- Stories as numbers, and as text -------------------------------------------------------------

VOCABULARY: tuple[str, ...] = (START, END, *grammar.WORDS)
_WORDS_AS_NUMBERS = Words(VOCABULARY, "stories")
encode, decode = _WORDS_AS_NUMBERS.encode, _WORDS_AS_NUMBERS.decode


def text(words: Sequence[str]) -> str:
    """The words as people write them: with capitals, and no blank before a full stop."""
    refuse_text(words)
    written = []
    for before, word in zip([".", *words], words, strict=False):
        capital = before in (".", "?") or word in grammar.PRONOUNS
        written.append(word.capitalize() if capital else word)
    return " ".join(written).replace(" .", ".").replace(" ?", "?")


# --- Stories to train on, and others to measure with ---------------------------------------------


def held_out(words: Sequence[str]) -> bool:
    """Whether this story is for validation. One in ten is, as a checksum of its words decides.

    So no story is ever on both sides, whichever seeds were used.
    """
    return zlib.crc32(" ".join(words).encode()) % 10 == 0


def validation(n_stories: int) -> list[list[str]]:
    """The first `n_stories` stories of a fixed series: none of them is ever trained on."""
    random, found = Random("validation"), list[list[str]]()
    while len(found) < n_stories:
        words = sample(random)
        if held_out(words):
            found.append(words)
    return found


def batch(seed: int, step: int, n_rows: int, n_tokens: int) -> Int[Tensor, "n_rows n_tokens"]:
    """Rows to train on: <bos> story <end> <bos> story <end> …, cut after `n_tokens`.

    The arguments alone decide what is drawn, so training can go on at any step. Every row begins
    with a story, so that nobody has to guess what was told before.
    """
    return rows_of(_told, seed, step, n_rows, n_tokens)


def _told(random: Random) -> Iterable[int]:
    return map(_WORDS_AS_NUMBERS.id_of.__getitem__, (START, *_to_train_on(random), END))


def _to_train_on(random: Random) -> list[str]:
    words = sample(random)
    while held_out(words):
        words = sample(random)
    return words


class Floor(NamedTuple):
    """The lowest loss that is possible, in nats."""

    per_token: float
    per_character: float


def floor(stories: Sequence[Sequence[str]]) -> Floor:
    """What these very stories cost somebody who knows the grammar.

    <end> is a token and <bos> is not predicted. For characters a story is the line `text(words)`,
    its line break included.
    """
    nats = nats_of("stories", stories, log_probability)
    n_tokens = sum(len(words) + 1 for words in stories)
    return Floor(nats / n_tokens, nats / sum(map(n_characters, stories)))


def n_characters(words: Sequence[str]) -> int:
    """Length of the line that `text` writes for a story, with its line break."""
    return len(text(words)) + 1
