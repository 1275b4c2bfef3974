"""What a language model has to beat: guessing, counting tokens or n-grams, and compressing.

Losses are in nats per token. Ids may stand for anything: characters, words, pieces of words. Where
tokens differ, bits per byte of the text are what can be compared.
"""

import functools
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Ids = Sequence[int] | Int[Tensor, " tokens"]
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
        self._followers: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        ids = self._checked(training_ids, "training_ids")
        for length in range(1, order + 1):
            pieces = zip(*(ids[first:] for first in range(length)), strict=False)
            for (*context, token), count in Counter(pieces).items():
                self._followers[tuple(context)][token] = count
        self._seen = {context: sum(f.values()) for context, f in self._followers.items()}
        self._mixed = functools.lru_cache(N_KEPT)(self._mix)

    def loss(self, ids: Ids) -> float:
        """Mean of -log p(token | tokens before it), in nats. The first token has no context."""
        checked = self._checked(ids, "ids")
        reach = self.order - 1
        return -sum(
            math.log(self._probability(checked[max(0, place - reach) : place], token))
            for place, token in enumerate(checked)
        ) / len(checked)

    def probabilities(self, context: Ids) -> Float[Tensor, " vocabulary"]:
        """Probability of every token after `context`, of which the last order - 1 ids matter."""
        ids = self._checked(context, "context", empty_is_good=True)
        return self._mixed(ids[max(0, len(ids) - self.order + 1) :]).clone()

    def _mix(self, context: tuple[int, ...]) -> Float[Tensor, " vocabulary"]:
        if context not in self._followers:
            return self._mixed(context[1:])
        followers, seen = self._followers[context], self._seen[context]
        if context:
            shorter = self._mixed(context[1:])
        else:
            shorter = torch.full((self.vocabulary,), 1 / self.vocabulary, dtype=torch.float64)
        p = shorter * len(followers)
        p[list(followers)] += torch.tensor(list(followers.values()), dtype=p.dtype)
        return p / (seen + len(followers))

    def _probability(self, context: tuple[int, ...], token: int) -> float:
        """One entry of `probabilities`, without the others."""
        p = 1 / self.vocabulary
        for start in range(len(context), -1, -1):
            seen = self._seen.get(context[start:], 0)
            if not seen:  # nor any longer context
                break
            followers = self._followers[context[start:]]
            p = (followers.get(token, 0) + len(followers) * p) / (seen + len(followers))
        return p

    def _checked(self, ids: Ids, name: str, empty_is_good: bool = False) -> tuple[int, ...]:
        values = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if not values and not empty_is_good:
            raise ValueError(f"{name} is empty")
        if isinstance(ids, Tensor) and ids.ndim != 1:
            raise ValueError(f"{name} must have one axis, got the shape {list(ids.shape)}")
        strange = next((i for i in values if not isinstance(i, int)), None)
        if strange is not None:
            raise TypeError(f"{name} must hold whole numbers, got {strange!r}")
        if values and not 0 <= min(values) <= max(values) < self.vocabulary:
            raise ValueError(
                f"{name} must lie between 0 and {self.vocabulary - 1}, the vocabulary's last id,"
                f" got {min(values)} to {max(values)}"
            )
        return tuple(values)


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
