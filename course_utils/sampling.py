"""Notebook 08: sampling. From the scores of the next token to a text.

Each filter takes logits and gives logits: what it removes becomes minus infinity. So filters are
put one after the other, and softmax at the end gives the rest its probabilities.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, positions, training

Logits = Float[Tensor, "batch vocabulary"]
Filter = Callable[[Logits], Logits]
Sampler = Callable[[Logits, Int[Tensor, "batch tokens"]], Int[Tensor, " batch"]]
"""Chooses the next token of every row. It is given the logits and the text so far."""


# --- How sure the model is -----------------------------------------------------------------------


def entropy(logits: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch"]:
    """Expected -log p of a token drawn from softmax(logits), in nats. 0: sure; log V: no idea."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(-1)


def perplexity(
    logits: Float[Tensor, "*batch vocabulary"],
    targets: Int[Tensor, "*batch"],
    ignore_index: int = -100,
) -> float:
    """exp of the mean -log p(target): as unsure as a fair choice among this many tokens."""
    return math.exp(training.cross_entropy(logits, targets, ignore_index))


# --- Filters -------------------------------------------------------------------------------------


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide the logits by the temperature: below 1 sharper, above 1 flatter.

    Temperature 0 keeps the best token alone, the first of them where several are best. Raises
    ValueError where it is negative.
    """
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))
    return logits / temperature


def top_k(logits: Logits, k: int) -> Logits:
    """Keep the k best tokens, and whatever ties with the last of them (Fan et al. 2018, §5.4).

    A k above the vocabulary keeps everything.
    """
    weakest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < weakest, -math.inf)


def top_p(logits: Logits, p: float) -> Logits:
    """Keep the fewest best tokens that together have probability p (Holtzman et al. 2020, §3.1).

    The token that crosses p is kept, so at least one always is.
    """
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities  # what all better tokens have together
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


def min_p(logits: Logits, share: float) -> Logits:
    """Keep tokens at least `share` times as probable as the best one (Nguyen et al. 2024, §3)."""
    probabilities = logits.softmax(-1)
    weakest = share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < weakest, -math.inf)


def epsilon_cutoff(logits: Logits, epsilon: float) -> Logits:
    """Keep tokens of probability `epsilon` or more, and the best one (Hewitt et al. 2022, §4)."""
    best = logits == logits.amax(-1, keepdim=True)
    improbable = logits.softmax(-1) < epsilon
    return logits.masked_fill(improbable & ~best, -math.inf)


def penalise(
    logits: Logits,
    ids: Int[Tensor, "batch tokens"],
    repetition: float = 1.0,
    presence: float = 0.0,
    frequency: float = 0.0,
) -> Logits:
    """Make tokens that are in the text already less likely.

    `repetition` divides a positive logit and multiplies a negative one, once, however often the
    token was said (Keskar et al. 2019, §4.1). `presence` is subtracted once, `frequency` once for
    every time it was said.
    """
    counts = torch.zeros_like(logits).scatter_add(1, ids, torch.ones_like(ids, dtype=logits.dtype))
    said = counts > 0
    weakened = torch.where(logits > 0, logits / repetition, logits * repetition)
    return torch.where(said, weakened, logits) - presence * said - frequency * counts


def sampler(
    *filters: Filter,
    penalty: Callable[[Logits, Int[Tensor, "batch tokens"]], Logits] | None = None,
    generator: torch.Generator | None = None,
) -> Sampler:
    """Draws from what the filters leave. `penalty` comes first and is given the text, too."""

    def draw(logits: Logits, ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, " batch"]:
        if penalty is not None:
            logits = penalty(logits, ids)
        for apply in filters:
            logits = apply(logits)
        return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]

    return draw


def greedy(logits: Logits, ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, " batch"]:
    """Always the best token: a sampler without chance."""
    return logits.argmax(-1)


# --- Text ----------------------------------------------------------------------------------------


@torch.no_grad()
def generate(
    model: Callable[[Tensor], Tensor],
    ids: Int[Tensor, "batch tokens"],
    n_new: int,
    choose: Sampler,
    context: int | None = None,
) -> Int[Tensor, "batch tokens+n_new"]:
    """The text and `n_new` more tokens, each chosen by `choose` from the logits at the last place.

    The model reads the last `context` tokens, or all of them.
    """
    for _ in range(n_new):
        seen = ids if context is None else ids[:, -context:]
        chosen = choose(model(seen)[:, -1], ids)
        ids = torch.cat((ids, chosen[:, None]), dim=1)
    return ids


def stream(
    model: Callable[[Tensor], Tensor],
    ids: Int[Tensor, "batch tokens"],
    n_new: int,
    choose: Sampler,
    context: int | None = None,
) -> Iterator[Int[Tensor, " batch"]]:
    """What `generate` adds, one token of every row at a time, as soon as it is chosen."""
    for _ in range(n_new):
        ids = generate(model, ids, 1, choose, context)
        yield ids[:, -1]


@torch.no_grad()
def beam_search(
    model: Callable[[Tensor], Tensor],
    ids: Int[Tensor, " tokens"],
    n_new: int,
    width: int,
    alpha: float = 1.0,
    end: int | None = None,
) -> list[tuple[Tensor, float]]:
    """The `width` best continuations that are found, the best first, each with its score.

    The score is the sum of log p over the new tokens, divided by their number to the power `alpha`
    (Wu et al. 2016, §7, without their constant). A continuation that reaches the token `end` is
    complete. All others have `n_new` new tokens.
    """
    live, live_scores = ids[None], torch.zeros(1)
    complete: list[tuple[Tensor, float]] = []
    for length in range(1, n_new + 1):
        log_p = model(live)[:, -1].log_softmax(-1)
        totals = (live_scores[:, None] + log_p).flatten()
        best = totals.topk(min(2 * width, len(totals)))
        parents, tokens = best.indices // log_p.shape[-1], best.indices % log_p.shape[-1]
        grown = torch.cat((live[parents], tokens[:, None]), dim=1)
        ended = tokens == end if end is not None else torch.zeros_like(tokens, dtype=torch.bool)
        for rank in ended.nonzero()[:, 0].tolist():
            if rank < width:
                complete.append((grown[rank], best.values[rank].item() / length**alpha))
        live, live_scores = grown[~ended][:width], best.values[~ended][:width]
    complete += [
        (row, score.item() / n_new**alpha) for row, score in zip(live, live_scores, strict=True)
    ]
    return sorted(complete, key=lambda found: -found[1])[:width]


# --- A memory for what was read ------------------------------------------------------------------


class KVCache:
    """Keys and values of the tokens that one layer has read, in room that is taken once."""

    def __init__(self, context: int):
        self.context = context
        self.length = 0
        self.key = self.value = torch.empty(0)

    def update(
        self,
        key: Float[Tensor, "rows n_heads new d_head"],
        value: Float[Tensor, "rows n_heads new d_head"],
    ) -> tuple[Float[Tensor, "rows n_heads all d_head"], Float[Tensor, "rows n_heads all d_head"]]:
        """Keep the new tokens behind the others; return the keys and the values of all of them.

        Raises ValueError where there is no room for more than `context` tokens.
        """
        start, end = self.length, self.length + key.shape[2]
        if end > self.context:
            raise ValueError(f"key brings the tokens to {end}, but context is {self.context}")
        if start == 0:
            rows, n_heads, _, d_head = key.shape
            self.key = key.new_empty(rows, n_heads, self.context, d_head)
            self.value = value.new_empty(rows, n_heads, self.context, d_head)
        self.key[:, :, start:end] = key
        self.value[:, :, start:end] = value
        self.length = end
        return self.key[:, :, :end], self.value[:, :, :end]

    def select(self, rows: Int[Tensor, " new_rows"]) -> None:
        """Go on with these rows: beam search drops some and doubles others."""
        self.key, self.value = self.key[rows], self.value[rows]


class CachedAttention(nn.Module):
    """An attention whose new tokens look at the tokens in a cache, too."""

    def __init__(self, layer: Any, cache: KVCache):
        super().__init__()
        self.layer = layer
        self.cache = cache

    def forward(
        self, x: Float[Tensor, "rows new d_model"], mask: Bool[Tensor, "new all"] | None = None
    ) -> Float[Tensor, "rows new d_model"]:
        """`x` are the new tokens. `mask` says which of all tokens each of them may look at."""
        query, key, value = _heads(self.layer, x, start=self.cache.length)
        key, value = self.cache.update(key, value)
        heads = attention.scaled_dot_product_attention(query, key, value, mask)
        return self.layer.w_o(attention.merge_heads(heads))


def _heads(layer: Any, x: Tensor, start: int) -> tuple[Tensor, ...]:
    if isinstance(layer, positions.RotaryAttention):
        return layer.heads(x, x, start)
    projected = attention.project_qkv(x, x, layer.w_q, layer.w_k, layer.w_v)
    return tuple(attention.split_heads(each, layer.n_heads) for each in projected)


def read_on(
    model: decoder.GPT, ids: Int[Tensor, "rows all"], start: int
) -> Float[Tensor, "rows new vocabulary"]:
    """Logits for the tokens from number `start` on, by a model whose attention has read the others.

    `GPT.forward` with two differences: only the new tokens go through the blocks, at their own
    places in the text, and they may look at all that came before.
    """
    x = model.embed(ids)[:, start:]
    mask = decoder.causal_mask(ids.shape[1] - start, ids.shape[1]).to(ids.device)
    for block in model.blocks:
        x = block(x, mask)
    return model.head(model.norm(x))


class CachedModel:
    """A model that remembers what it has read: given a longer text, it reads what is new.

    It takes the place of the model in `generate`, `stream` and `beam_search`, and gives the logits
    of the tokens that it had not read. A text that does not go on from the last one is read anew.
    The attentions are `MultiHeadAttention` or `RotaryAttention`; weights are shared, not copied.
    """

    def __init__(self, model: decoder.GPT, context: int):
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.model = copy.deepcopy(model, shared)
        self.context = context
        self._blocks: list[Any] = list(self.model.blocks)
        self._layers = [block.attention for block in self._blocks]
        self._forget()

    def __call__(self, ids: Int[Tensor, "rows all"]) -> Float[Tensor, "rows new vocabulary"]:
        parents = self._parents(ids)
        if parents is None:
            self._forget()
        elif parents != list(range(len(self._ids))):
            for cache in self._caches:
                cache.select(torch.tensor(parents, device=ids.device))
        start = self._caches[0].length
        logits = read_on(self.model, ids, start)
        self._ids = ids
        return logits

    def _forget(self) -> None:
        self._caches = [KVCache(self.context) for _ in self._layers]
        self._ids: Tensor = torch.empty(0, 0, dtype=torch.long)
        for block, layer, cache in zip(self._blocks, self._layers, self._caches, strict=True):
            block.attention = CachedAttention(layer, cache)

    def _parents(self, ids: Int[Tensor, "rows all"]) -> list[int] | None:
        """For each row the row of the last text that it goes on from; None where one has none."""
        n_read = self._ids.shape[1]
        if not 0 < n_read < ids.shape[1]:
            return None
        if torch.equal(ids[:, :n_read], self._ids):
            return list(range(len(ids)))
        matches = (ids[:, None, :n_read] == self._ids).all(-1)  # [rows, rows before]
        return matches.int().argmax(1).tolist() if matches.any(1).all() else None
