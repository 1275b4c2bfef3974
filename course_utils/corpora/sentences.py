"""Short sentences such as "the car is red" and "the cars near the old dog are fast".

A grammar says how a sentence may go on, and how likely each way is. From left to right, the next
word always tells which option was taken, so that every sentence has exactly one derivation. That
is why its probability is exact, and with it the lowest loss that any model can reach.
"""

import math
from collections.abc import Sequence
from functools import cache
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor

from course_utils.corpora.words import Words, refuse_text


def _evenly(words: str) -> dict[str, float]:
    return {word: 1 / len(words.split()) for word in words.split()}


# Each symbol (upper case) has options: what it may stand for, and the probability of that.
# The verb agrees with the first noun. The noun behind "near" may be of the other number.
GRAMMAR: dict[str, dict[str, float]] = {
    "SENTENCE": {"DETERMINER SIZE AGE SUBJECT": 1.0},
    "SUBJECT": {"ONE NEAR IT": 0.5, "MANY NEAR THEY": 0.5},
    "NEAR": {"near the SIZE AGE NOUN": 0.5, "": 0.5},
    "NOUN": {"ONE": 0.5, "MANY": 0.5},
    "IT": {"is STATE": 0.6, "IT_ACTS MANNER": 0.4},
    "THEY": {"are STATE": 0.6, "THEY_ACT MANNER": 0.4},
    "DETERMINER": {"the": 0.8, "my": 0.2},
    "SIZE": {"": 0.7, "big": 0.1, "small": 0.1, "tall": 0.1},
    "AGE": {"": 0.7, "old": 0.2, "new": 0.1},
    "ONE": _evenly("car dog house bird tree boat"),
    "MANY": _evenly("cars dogs houses birds trees boats"),
    "STATE": _evenly("red blue green fast slow wet quiet old new"),
    "IT_ACTS": _evenly("moves waits stops"),
    "THEY_ACT": _evenly("move wait stop"),
    "MANNER": _evenly("slowly quietly again here outside"),
}
START, END = "<bos>", "."

_WORDS = " ".join(option for options in GRAMMAR.values() for option in options).split()
VOCABULARY: tuple[str, ...] = (START, END, *dict.fromkeys(w for w in _WORDS if w not in GRAMMAR))
_WORDS_AS_NUMBERS = Words(VOCABULARY, "sentences")
encode, decode = _WORDS_AS_NUMBERS.encode, _WORDS_AS_NUMBERS.decode

# --- Sentences and their probabilities -----------------------------------------------------------

_Rest = tuple[str, ...]  # what is still to be said: words, and symbols that stand for more
_WHOLE_SENTENCE: _Rest = ("SENTENCE", END)


@cache
def _ways_on(rest: _Rest) -> dict[str, tuple[float, _Rest]]:
    """For each word that can come next its probability, and what is still to be said after it."""
    if not rest:
        return {}
    first, *later = rest
    if first not in GRAMMAR:
        return {first: (1.0, tuple(later))}
    ways = {}
    for option, probability in GRAMMAR[first].items():
        for word, (conditional, after) in _ways_on((*option.split(), *later)).items():
            ways[word] = (probability * conditional, after)
    return ways


def sample(random: Random) -> list[str]:
    """Draw one sentence as a list of words, without <bos> and the full stop.

    `sample(Random(0))` gives the same sentence every time.
    """
    words: list[str] = []
    rest = _WHOLE_SENTENCE
    while rest:
        ways = _ways_on(rest)
        [word] = random.choices(list(ways), [probability for probability, _ in ways.values()])
        _, rest = ways[word]
        words.append(word)
    return words[:-1]


def log_probability(words: Sequence[str]) -> float:
    """Logarithm of the probability that `sample` draws `words`, in nats; -inf if it never does."""
    refuse_text(words)
    total, rest = 0.0, _WHOLE_SENTENCE
    for word in [*words, END]:
        if word not in _ways_on(rest):
            return -math.inf
        probability, rest = _ways_on(rest)[word]
        total += math.log(probability)
    return total


def next_words(words: Sequence[str]) -> dict[str, float]:
    """Exact probability of every word that can follow `words`, the beginning of a sentence.

    For example, after `["the", "car", "is"]` it gives 1/9 for "red". A ValueError says which word
    cannot stand where it stands.
    """
    refuse_text(words)
    rest = _WHOLE_SENTENCE
    for index, word in enumerate(words):
        ways = _ways_on(rest)
        if word not in ways:
            said = " ".join(words[:index]) or "the start"
            possible = ", ".join(ways) or "nothing"
            raise ValueError(f"words: {word!r} cannot follow {said!r}; {possible} can")
        _, rest = ways[word]
    return {word: probability for word, (probability, _) in _ways_on(rest).items()}


def entropy() -> float:
    """Expected -log p of a sentence, in nats: no model's loss per sentence can be lower."""
    return _entropy("SENTENCE")


def _entropy(symbol: str) -> float:
    """A choice costs -log p, and then whatever the symbols of the chosen option cost."""
    return sum(
        probability * (sum(map(_entropy, option.split())) - math.log(probability))
        for option, probability in GRAMMAR.get(symbol, {}).items()
    )


# --- Sentences as numbers ------------------------------------------------------------------------


def _longest(symbol: str) -> int:
    """Most words that `symbol` can become."""
    if symbol not in GRAMMAR:
        return 1
    return max(sum(map(_longest, option.split())) for option in GRAMMAR[symbol])


ROW_LENGTH = 1 + _longest("SENTENCE") + 1


def batch(random: Random, n_sentences: int) -> Int[Tensor, "n_sentences tokens"]:
    """Draw sentences to train on: <bos>, the words, and full stops up to `ROW_LENGTH` tokens.

    After the first full stop the next token is certain. So the losses of a whole row sum to the
    loss of its sentence, and need no mask to be compared with `entropy()`.
    """
    rows = [[START, *sample(random)] for _ in range(n_sentences)]
    return torch.stack([encode(row + [END] * (ROW_LENGTH - len(row))) for row in rows])
