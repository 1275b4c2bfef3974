"""Sentences that carry an answer: what a classifier learns from.

Two questions are asked about `corpora.sentences`. Both need the order of the words:

- "number": the text ends before its verb, as "the car near the old dogs". Is it one or many?
- "state": which word of state comes first, as "old" in "the old car is red"? Or is there none?
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Int
from torch import Tensor

from course_utils.corpora import sentences

PAD = "<pad>"
VOCABULARY: tuple[str, ...] = (*sentences.VOCABULARY, PAD)
PAD_ID = VOCABULARY.index(PAD)

_MOST_DRAWS = 100  # for one text that is wanted; then there are hardly any new ones left


@dataclass(frozen=True)
class Example:
    """A text and its label: the place of the right answer among the question's classes."""

    words: tuple[str, ...]
    label: int


# --- Questions -----------------------------------------------------------------------------------

_STATES = tuple(sentences.GRAMMAR["STATE"])
_VERBS = {"is", "are", *sentences.GRAMMAR["IT_ACTS"], *sentences.GRAMMAR["THEY_ACT"]}


def _number(words: Sequence[str]) -> tuple[Sequence[str], str]:
    """The words before the verb, and the number of their first noun: the verb would tell it."""
    before = words[: next(place for place, word in enumerate(words) if word in _VERBS)]
    noun = next(word for word in before if word in NOUNS)
    return before, "one" if noun in sentences.GRAMMAR["ONE"] else "many"


def _state(words: Sequence[str]) -> tuple[Sequence[str], str]:
    """All words, and the first of them that may stand behind "is"."""
    return words, next((word for word in words if word in _STATES), "none")


NOUNS = {*sentences.GRAMMAR["ONE"], *sentences.GRAMMAR["MANY"]}
CLASSES: dict[str, tuple[str, ...]] = {"number": ("one", "many"), "state": (*_STATES, "none")}
_ASK: dict[str, Callable[[Sequence[str]], tuple[Sequence[str], str]]] = {
    "number": _number,
    "state": _state,
}


def example(words: Sequence[str], question: str = "number") -> Example:
    """Turn a whole sentence of the corpus into a text with its label.

    A ValueError names an unknown question, or says what is wrong with the words.
    """
    if question not in CLASSES:
        raise ValueError(f"question must be one of {', '.join(CLASSES)}, got {question!r}")
    if sentences.END not in sentences.next_words(words):
        raise ValueError(f"words must be a whole sentence, but {' '.join(words)!r} can go on")
    text, answer = _ASK[question](words)
    return Example(tuple(text), CLASSES[question].index(answer))


# --- Splits and batches --------------------------------------------------------------------------


def split(
    random: Random, n_training: int, n_validation: int, question: str = "number"
) -> tuple[list[Example], list[Example]]:
    """Draw examples to learn from and others to test with; no text occurs twice.

    The same seed gives the same examples. A ValueError says when there are not enough texts.
    """
    for name, size in (("n_training", n_training), ("n_validation", n_validation)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    wanted = n_training + n_validation
    found: dict[tuple[str, ...], Example] = {}
    for _ in range(_MOST_DRAWS * wanted):
        drawn = example(sentences.sample(random), question)
        found[drawn.words] = drawn
        if len(found) == wanted:
            examples = list(found.values())
            return examples[:n_training], examples[n_training:]
    raise ValueError(
        f"n_training + n_validation: {wanted} different texts are wanted, but"
        f" {_MOST_DRAWS * wanted} draws gave only {len(found)}: ask for fewer"
    )


def encode(words: Sequence[str]) -> Int[Tensor, " tokens"]:
    """The place of every word in `VOCABULARY`. A ValueError names a word that is not in it.

    All words of `corpora.sentences` have the same place there as here.
    """
    return sentences.encode(words)


def pad(texts: Sequence[Sequence[str]]) -> Int[Tensor, "texts tokens"]:
    """One row a text, filled up with `PAD_ID` to the longest of them."""
    if not texts or not all(texts):
        raise ValueError("texts must hold at least one text, and every text at least one word")
    return torch.nn.utils.rnn.pad_sequence(
        [encode(text) for text in texts], batch_first=True, padding_value=PAD_ID
    )


def tensors(
    examples: Sequence[Example],
) -> tuple[Int[Tensor, "examples tokens"], Int[Tensor, " examples"]]:
    """All examples as one padded batch, and their labels."""
    labels = torch.tensor([example.label for example in examples])
    return pad([example.words for example in examples]), labels


def batches(
    random: Random, examples: Sequence[Example], size: int
) -> Iterator[tuple[Int[Tensor, "examples tokens"], Int[Tensor, " examples"]]]:
    """All examples once, in random order, `size` in a batch; the last batch may be smaller.

    Each batch is padded to its own longest text.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    shuffled = random.sample(examples, len(examples))
    for start in range(0, len(shuffled), size):
        yield tensors(shuffled[start : start + size])
