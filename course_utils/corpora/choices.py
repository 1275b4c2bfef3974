"""Telling and reading a text by the same code.

A grammar is ordinary code that makes its choices through one object. Every choice says its words
at once, and no option of a choice begins with another one, so the words tell which option was
taken: a text has one derivation. Given a `Teller` the code draws a text. Given a `Parser` it
follows a text, and adds up its exact probability.
"""

import math
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Protocol


class Options:
    """The texts that can be said at one place, with their weights. Equal weights for a mere list.

    A ValueError names a text that begins with another one.
    """

    def __init__(self, label: str, texts: Mapping[str, float] | Iterable[str]):
        weights = dict(texts) if isinstance(texts, Mapping) else dict.fromkeys(texts, 1.0)
        total = sum(weights.values())
        self.label = label
        self.probability = {text: weight / total for text, weight in weights.items()}
        self.entries = [(text, tuple(text.split())) for text in weights]
        self.bounds = list(accumulate(self.probability.values()))
        self.bounds[-1] = 1.0  # no draw may fall behind the last option, however sums are rounded
        self.tree: dict[str, Any] = {}  # word -> the tree behind it, or the whole text at its end
        for text, (*words, last) in self.entries:
            branch = self.tree
            for word in words:
                branch = branch.setdefault(word, {})
                if isinstance(branch, str):
                    raise ValueError(f"texts: {text!r} begins with {branch!r}")
            if last in branch:
                raise ValueError(f"texts: another text begins with {text!r}")
            branch[last] = text

    def mass(self, branch: dict[str, Any] | str) -> float:
        """Probability of everything in one branch of the tree."""
        if isinstance(branch, str):
            return self.probability[branch]
        return sum(map(self.mass, branch.values()))


class Choose(Protocol):
    """What a story is told through. Each method says words; the first two return what was said."""

    def __call__(self, options: Options) -> str:
        """A free choice."""

    def fact(self, kind: str, right: Options | None, others: Options) -> str:
        """A choice bound by what was said before. `right` is None where nothing was said about it.

        `others` has the texts that somebody might say who has forgotten, the right ones included.
        """

    def say(self, *words: str) -> None:
        """Words that have no alternative."""

    @property
    def n_words(self) -> int:
        """How many words have been said."""


class Teller:
    """Draws every choice."""

    def __init__(self, random: Random):
        self.words: list[str] = []
        self._draw = random.random

    def __call__(self, options: Options) -> str:
        text, words = options.entries[bisect(options.bounds, self._draw())]
        self.words += words
        return text

    def fact(self, kind: str, right: Options | None, others: Options) -> str:
        assert right is not None
        return self(right)

    def say(self, *words: str) -> None:
        self.words += words

    @property
    def n_words(self) -> int:
        return len(self.words)


class Unfinished(Exception):
    """The words ended where more must follow."""

    def __init__(self, next_words: dict[str, float]):
        super().__init__(f"the story ends too early; {_listed(next_words)} can follow")
        self.next_words = next_words


class Impossible(ValueError):
    """A word stands where it cannot."""


class Parser:
    """Follows given words, and accepts only what a story of ours can say."""

    def __init__(self, words: Sequence[str]):
        self.words = words
        self.n_words = 0
        self.log_probability = 0.0
        self.steps: list[tuple[str, str]] = []

    def __call__(self, options: Options) -> str:
        return self._take(options.label, options)

    def fact(self, kind: str, right: Options | None, others: Options) -> str:
        assert right is not None
        return self._take(kind, right)

    def say(self, *words: str) -> None:
        for word in words:
            self._next({word: word}, {word: 1.0})

    def _take(self, label: str, options: Options) -> str:
        text = self._match(options)
        self.log_probability += math.log(options.probability[text])
        self.steps.append((label, text))
        return text

    def _match(self, options: Options) -> str:
        branch: dict[str, Any] | str = options.tree
        while not isinstance(branch, str):
            if self.n_words < len(self.words):
                branch = self._next(branch, branch)
            else:
                total = options.mass(branch)
                raise Unfinished({word: options.mass(b) / total for word, b in branch.items()})
        return branch

    def _next(self, branch: dict[str, Any], possible: Iterable[str]) -> Any:
        if self.n_words == len(self.words):
            raise Unfinished(dict.fromkeys(possible, 1.0))
        word = self.words[self.n_words]
        if word not in branch:
            said = " ".join(self.words[max(0, self.n_words - 8) : self.n_words]) or "the start"
            raise Impossible(
                f"words: word {self.n_words}, {word!r}, cannot follow {said!r};"
                f" {_listed(possible)} can"
            )
        self.n_words += 1
        return branch[word]


class ForgivingParser(Parser):
    """Accepts broken facts as well, and keeps a list of which were kept."""

    def __init__(self, words: Sequence[str]):
        super().__init__(words)
        self.facts: list[tuple[str, bool]] = []

    def fact(self, kind: str, right: Options | None, others: Options) -> str:
        text = self._match(others)
        if right is not None:
            self.facts.append((kind, text in right.probability))
        return text


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
