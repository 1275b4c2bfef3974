"""What a language model has to beat: guessing, counting tokens or n-grams, and compressing.

Losses are in nats per token. Ids may stand for anything: characters, words, pieces of words. Where
tokens differ, bits per byte of the text are what can be compared.
"""

import functools
import gzip
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

Ids = Sequence[int] | Int[Tensor, " tokens"]
Grams = Int64[np.ndarray, " grams"]
NEVER = -1  # the number of what was not seen
N_KEPT = 4096  # contexts whose probabilities an n-gram remembers: longer ones are made of them


def uniform(vocabulary: int) -> float:
    """Loss of a model that thinks every token of the vocabulary equally likely."""
    if vocabulary < 1:
        raise ValueError(f"vocabulary must be at least 1, got {vocabulary}")
    return math.log(vocabulary)


def unigram(training_ids: Ids, validation_ids: Ids, vocabulary: int) -> float:
    """Loss of a model that knows how frequent every token is, and nothing about its context."""
    return NGram(training_ids, 1, vocabulary).loss(validation_ids)


class NGram:
    """Counts what follows the last 0, 1, … `order` - 1 tokens, and mixes all that it has seen.

    A context's own counts get more of the say the more often it was seen, and less the more
    different tokens followed it; the rest is left to the context that is one token shorter
    (Witten & Bell 1991, method C, interpolated):

        p(w | context) = (count(context, w) + kinds(context) p(w | shorter)) / (seen + kinds)

    Behind the empty context stands the uniform distribution, so that nothing is impossible.
    """

    def __init__(self, training_ids: Ids, order: int, vocabulary: int):
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.order = order
        self.vocabulary = vocabulary
        tokens = self._checked(training_ids, "training_ids")
        contexts = np.zeros_like(tokens)
        self._counted: list[_Counted] = []
        n_contexts = 1
        for _ in range(min(order, len(tokens))):
            counted, grams = _count(contexts, tokens, n_contexts, vocabulary)
            self._counted.append(counted)
            # Up to one token and with the token before it: the contexts of the next tokens.
            contexts, tokens, n_contexts = grams[:-1], tokens[1:], len(counted.grams)
        self._mixed = functools.lru_cache(N_KEPT)(self._mix)

    def loss(self, ids: Ids) -> float:
        """Mean of -log p(token | tokens before it), in nats. The first token has no context."""
        tokens = self._checked(ids, "ids")
        p = np.full(len(tokens), 1 / self.vocabulary)
        contexts = np.zeros_like(tokens)
        for reach, counted in enumerate(self._counted[: len(tokens)]):
            grams = counted.find(contexts * self.vocabulary + tokens[reach:])
            seen, kinds = counted.seen[contexts], counted.kinds[contexts]
            count = np.where(grams == NEVER, 0, counted.counts[grams])
            mixed = (count + kinds * p[reach:]) / np.maximum(seen + kinds, 1)
            p[reach:] = np.where(seen > 0, mixed, p[reach:])
            contexts = grams[:-1]
        return float(-np.log(p).mean())

    def probabilities(self, context: Ids) -> Float[Tensor, " vocabulary"]:
        """Probability of every token after `context`, of which the last order - 1 ids matter."""
        ids = self._checked(context, "context", empty_is_good=True).tolist()
        reach = len(self._counted) - 1
        return self._mixed(tuple(ids[max(0, len(ids) - reach) :])).clone()

    def _mix(self, context: tuple[int, ...]) -> Float[Tensor, " vocabulary"]:
        if context:
            shorter = self._mixed(context[1:])
        else:
            shorter = torch.full((self.vocabulary,), 1 / self.vocabulary, dtype=torch.float64)
        number = self._number(context)
        counted = self._counted[len(context)]
        if not counted.seen[number]:
            return shorter
        ends = [number * self.vocabulary, (number + 1) * self.vocabulary]
        first, last = counted.grams.searchsorted(ends)
        p = shorter * counted.kinds[number]
        followers = torch.from_numpy(counted.grams[first:last] - ends[0])
        p[followers] += torch.from_numpy(counted.counts[first:last])
        return p / (counted.seen[number] + counted.kinds[number])

    def _number(self, context: tuple[int, ...]) -> int:
        number = 0
        for counted, token in zip(self._counted, context, strict=False):
            number = counted.find(np.array([number * self.vocabulary + token]))[0]
        return number

    def _checked(self, ids: Ids, name: str, empty_is_good: bool = False) -> Grams:
        if isinstance(ids, Tensor) and ids.ndim != 1:
            raise ValueError(f"{name} must have one axis, got the shape {list(ids.shape)}")
        if not len(ids) and not empty_is_good:
            raise ValueError(f"{name} is empty")
        whole = isinstance(ids, Tensor) and not ids.is_floating_point()
        values = ids if whole else ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if not whole:
            strange = next((i for i in values if not isinstance(i, int)), None)
            if strange is not None:
                raise TypeError(f"{name} must hold whole numbers, got {strange!r}")
        array = np.asarray(values, dtype=np.int64)
        if len(array) and not 0 <= array.min() <= array.max() < self.vocabulary:
            raise ValueError(
                f"{name} must lie between 0 and {self.vocabulary - 1}, the vocabulary's last id,"
                f" got {array.min()} to {array.max()}"
            )
        return array


@dataclass(frozen=True)
class _Counted:
    """All pieces of some length in a text, sorted, and how often they were seen.

    A piece is its context's number times the vocabulary, plus its last token; its place among the
    sorted is its own number, when it is the context of a longer piece.
    """

    grams: Grams
    counts: Grams
    seen: Grams  # how often was a token behind the context? NEVER is the last of them
    kinds: Grams  # how many different ones?

    def find(self, grams: Grams) -> Grams:
        """The number of each piece, or NEVER."""
        place = np.minimum(self.grams.searchsorted(grams), len(self.grams) - 1)
        return np.where(self.grams[place] == grams, place, NEVER)


def _count(
    contexts: Grams, tokens: Grams, n_contexts: int, vocabulary: int
) -> tuple[_Counted, Grams]:
    """The pieces that end in the tokens, and the number of each."""
    grams, numbers, counts = np.unique(
        contexts * vocabulary + tokens, return_inverse=True, return_counts=True
    )
    of = grams // vocabulary
    seen = np.bincount(of, counts, n_contexts + 1).astype(np.int64)
    return _Counted(grams, counts, seen, np.bincount(of, None, n_contexts + 1)), numbers


# --- Bits per byte -------------------------------------------------------------------------------

WORD_END = 256  # behind the bytes of a word


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """What a whole text costs, from nats to bits, for each of its bytes (in UTF-8)."""
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be at least 1, got {n_bytes}")
    return nats / math.log(2) / n_bytes


def compressed_bits_per_byte(
    text: str, after: str = "", compress: Callable[[bytes], bytes] = gzip.compress
) -> float:
    """Bits that a compressor writes for each byte of `text`, when it has read `after` before.

    That is how much longer its output becomes by `text`. Of `after` gzip remembers the last 32 kB,
    `lzma.compress` 8 MB.
    """
    first, second = after.encode(), text.encode()
    if not second:
        raise ValueError("text is empty")
    longer_by = len(compress(first + second)) - len(compress(first))
    return 8 * longer_by / len(second)


def spelling(words: Sequence[str], known: Iterable[str]) -> float:
    """Nats to spell `words` byte by byte, each with its end: a 5-gram that has read `known` words.

    It is what a tokenizer without these words leaves out.
    """
    if not words:
        return 0.0
    spelled = _spelled(words)
    return NGram(_spelled(known), 5, WORD_END + 1).loss(spelled) * len(spelled)


def _spelled(words: Iterable[str]) -> list[int]:
    return [byte for word in words for byte in (*word.encode(), WORD_END)]
