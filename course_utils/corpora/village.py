"""The talk of a village, with exact probabilities.

    To tell the truth, Nell fed her goose. She said that Tom stole the very old goose and the pie in
    the barn, of course. Oh dear! …

It is as skewed as text is. A few words of every kind are used most, people have habits, much is
said in set phrases, and what was named last is likely to be named again. And a text keeps to one of
six topics, which nobody says.

`village_grammar` says which word can follow. The words tell all but the topic, and Bayes' rule how
probable each topic is. So the probabilities of a next word and of a text are exact, and with them
the lowest loss that any model can reach.
"""

import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils.corpora import village_grammar as grammar
from course_utils.corpora.village_words import END, ID_OF, NAMES, START, STOPS, TOPICS, VOCABULARY
from course_utils.corpora.words import Words, nats_of, refuse_text, rows_of

_WORDS_AS_NUMBERS = Words(VOCABULARY, "village")
encode, decode = _WORDS_AS_NUMBERS.encode, _WORDS_AS_NUMBERS.decode
SHORTEST, LONGEST = grammar.ENOUGH, grammar.LONGEST  # words of a text

# --- Texts and their probabilities ---------------------------------------------------------------


def sample(random: Random) -> list[str]:
    """Draw one text as a list of words, without <bos> and <end>.

    `sample(Random(0))` gives the same text every time. It has `SHORTEST` to `LONGEST` words.
    """
    topic, state = random.randrange(len(TOPICS)), grammar.BEGINNING
    words: list[str] = []
    while True:
        word, state = grammar.draw(state, topic, random)
        if word == END:
            return words
        words.append(word)


class _Read(NamedTuple):
    """A text up to here: its state, and what is believed of its topic."""

    state: grammar.State
    topics: Float[np.ndarray, " topics"]

    def next_words(self) -> Float[np.ndarray, " vocabulary"]:
        """Probability of every next word: the mean over the topics."""
        return self.topics @ grammar.row(self.state)

    def on(self, word: str) -> tuple[float, "_Read"]:
        """Probability of the next word, and what is known behind it, by Bayes' rule.

        A ValueError says that the word cannot stand here.
        """
        state = grammar.after(self.state, word)
        if state is None:
            possible = np.flatnonzero(self.next_words())
            some = ", ".join(VOCABULARY[index] for index in possible[:12]) or "nothing"
            raise ValueError(
                f"{word!r} cannot stand there; {some}{', …' * (len(possible) > 12)} can"
            )
        both = self.topics * grammar.row(self.state)[:, ID_OF[word]]
        return both.sum().item(), _Read(state, both / both.sum())


_NOTHING_READ = _Read(grammar.BEGINNING, np.full(len(TOPICS), 1 / len(TOPICS)))


def next_words(words: Sequence[str]) -> dict[str, float]:
    """Exact probability of every word that can follow `words`, the beginning of a text.

    After a whole text it is {END: 1.0}. A ValueError names a word that cannot stand where it is.
    """
    found = _read(words).next_words()
    return {VOCABULARY[index]: float(found[index]) for index in np.flatnonzero(found)}


def topics(words: Sequence[str]) -> dict[str, float]:
    """What the beginning of a text says about its topic: the probability of each of them.

    A ValueError names a word that cannot stand where it is.
    """
    return dict(zip(TOPICS, _read(words).topics.tolist(), strict=True))


def log_probability(words: Sequence[str]) -> float:
    """Logarithm of the probability that `sample` draws `words`, in nats; -inf if it never does."""
    refuse_text(words)
    read, nats = _NOTHING_READ, 0.0
    for word in [*words, END]:
        try:
            probability, read = read.on(word)
        except ValueError:
            return -math.inf
        nats += math.log(probability)
    return nats


def _read(words: Sequence[str]) -> _Read:
    refuse_text(words)
    read = _NOTHING_READ
    for index, word in enumerate(words):
        try:
            _, read = read.on(word)
        except ValueError as error:
            raise ValueError(f"words: word {index}, {error}") from None
    return read


def broken(words: Sequence[str]) -> list[bool]:
    """For every sentence of a text, such as a model's, whether it has a word that cannot be there.

    How long the text is does not matter, and one END behind it is no sentence. Behind a broken
    sentence reading goes on, and remembers what was named in it up to there. Words behind the last
    full stop count as a sentence, though more might follow.
    """
    refuse_text(words)
    found: list[bool] = []
    state, at_start = grammar.BEGINNING, True
    for word in words[:-1] if words and words[-1] == END else words:
        if at_start:
            found.append(False)
            state = state._replace(n_words=0)
        following = None if found[-1] else grammar.after(state, word)
        found[-1] = following is None
        at_start = word in STOPS
        state = following or (grammar.stop(state) if at_start else state)
    return found


class Source:
    """The source in the place of a model: `sampling.generate(village.Source(), ids, …)`.

    It gives the logarithms of the exact probabilities at the last place, for rows of <bos> and the
    beginning of a text. A ValueError names a word that cannot stand where it is.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], _Read] = {}

    def __call__(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows 1 vocabulary"]:
        texts = [tuple(row) for row in ids.tolist()]
        self._known = {text: self._read(text) for text in texts}
        rows = np.stack([self._known[text].next_words() for text in texts])
        return torch.from_numpy(rows).float().log()[:, None]

    def _read(self, text: tuple[int, ...]) -> _Read:
        """One word is read where the others were read in the call before."""
        if text[:-1] in self._known:
            return self._known[text[:-1]].on(VOCABULARY[text[-1]])[1]
        start, *rest = decode(text)
        if start != START:
            raise ValueError(f"ids: a text begins with {START}, got {start!r}")
        return _read(rest)


# --- Texts as people write them ------------------------------------------------------------------


def text(words: Sequence[str]) -> str:
    """The words as people write them: with capitals, and no blank before a full stop."""
    refuse_text(words)
    always = (*NAMES, "sunday", "i")
    written = [
        word.capitalize() if before in STOPS or word in always else word
        for before, word in zip([".", *words], words, strict=False)
    ]
    return " ".join(written).replace(" .", ".").replace(" !", "!").replace(" ,", ",")


# --- Texts to train on, and others to measure with -----------------------------------------------


def validation(n_texts: int) -> list[list[str]]:
    """The first `n_texts` texts of a fixed series.

    `batch` draws with other seeds, and no text is so short that it would be drawn twice.
    """
    random = Random("validation")
    return [sample(random) for _ in range(n_texts)]


def batch(seed: int, step: int, n_rows: int, n_tokens: int) -> Int[Tensor, "n_rows n_tokens"]:
    """Rows to train on: <bos> text <end> <bos> text <end> …, cut after `n_tokens`.

    The arguments alone decide what is drawn, so training can go on at any step. Every row begins
    with a text.
    """
    return rows_of(_told, seed, step, n_rows, n_tokens)


def _told(random: Random) -> Iterable[int]:
    return map(ID_OF.__getitem__, (START, *sample(random), END))


class Floor(NamedTuple):
    """The lowest loss that is possible, in nats."""

    per_token: float


def floor(texts: Sequence[Sequence[str]]) -> Floor:
    """What these very texts cost somebody who knows the grammar.

    <end> is a token and <bos> is not predicted. No model can do better, except by luck.
    """
    return Floor(nats_of("texts", texts, log_probability) / sum(len(words) + 1 for words in texts))
