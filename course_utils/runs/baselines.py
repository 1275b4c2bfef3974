"""What a language model has to beat: guessing, counting tokens, and counting n-grams.

Losses are in nats per token. Ids may stand for anything: characters, words, pieces of words.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Ids = Sequence[int] | Int[Tensor, " tokens"]


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
        for place, token in enumerate(ids):
            for length in range(min(order, place + 1)):
                followers = self._followers[ids[place - length : place]]
                followers[token] = followers.get(token, 0) + 1
        self._seen = {context: sum(f.values()) for context, f in self._followers.items()}

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
        ids = ids[max(0, len(ids) - self.order + 1) :]
        p = torch.full((self.vocabulary,), 1 / self.vocabulary, dtype=torch.float64)
        for start in range(len(ids), -1, -1):
            followers = self._followers.get(ids[start:], {})
            seen, kinds = self._seen.get(ids[start:], 0), len(followers)
            if seen:
                p *= kinds / (seen + kinds)
                counts = torch.tensor(list(followers.values()), dtype=p.dtype)
                p[list(followers)] += counts / (seen + kinds)
        return p

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
