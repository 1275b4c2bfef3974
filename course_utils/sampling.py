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
    """Expected -log p of a token drawn from softmax(logits), in nats. 0: sure; log V: no idea.

    A token that was removed (minus infinity) adds nothing.
    """
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(-1)


def perplexity(
    logits: Float[Tensor, "*batch vocabulary"],
    targets: Int[Tensor, "*batch"],
    ignore_index: int = -100,
) -> float:
    """exp of the mean -log p(target): as unsure as a fair choice among this many tokens."""
    return math.exp(training.cross_entropy(logits, targets, ignore_index).item())


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

    The token that crosses p is kept, so at least one always is. p = 1 keeps everything.
    """
    if p >= 1:  # rounded probabilities may sum to 1 before all are counted
        return logits
    probabilities, order = logits.softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities  # what all better tokens have together
    keep = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < p)
    return logits.masked_fill(~keep, -math.inf)


def min_p(logits: Logits, share: float) -> Logits:
    """Keep tokens at least `share` times as probable as the best one (Nguyen et al. 2024, §3)."""
    probabilities = logits.softmax(-1)
    weakest = share * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < weakest, -math.inf)


def epsilon_cutoff(logits: Logits, epsilon: float) -> Logits:
    """Keep tokens of probability `epsilon` or more, and the best one (Hewitt et al. 2022, §4).

    Where several are best, all of them stay.
    """
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
    token was said (libraries; Keskar et al. 2019, §4.1, divide both). `presence` is subtracted
    once, `frequency` once for every time it was said.
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

    The model reads the last `context` tokens, or all of them; `choose` is given the whole text.
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


def extend_beams(
    beams: Int[Tensor, "beams tokens"],
    totals: Float[Tensor, " beams"],
    log_p: Float[Tensor, "beams vocabulary"],
    n_best: int,
) -> tuple[Int[Tensor, "best tokens+1"], Float[Tensor, " best"]]:
    """The `n_best` best texts that are a beam and one more token, the best first, and their sums.

    `totals` has the sum of log p of each beam, `log_p` what each next token would add to it. All
    beams compete in one contest. All candidates are returned where there are fewer than `n_best`.
    """
    sums, vocabulary = (totals[:, None] + log_p).flatten(), log_p.shape[-1]
    best, order = sums.topk(min(n_best, len(sums)))
    return torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), dim=1), best


@torch.no_grad()
def beam_search(
    model: Callable[[Tensor], Tensor],
    ids: Int[Tensor, " tokens"],
    n_new: int,
    width: int,
    alpha: float = 1.0,
    end: int | None = None,
) -> list[tuple[Tensor, float]]:
    """The `width` best texts that are found, prompt included, the best first, with their scores.

    The score is the sum of log p over the new tokens, divided by their number to the power `alpha`
    (Wu et al. 2016, §7, without their constant). A text is complete at the token `end`, or with
    `n_new` new tokens. At every step those of the best `width` candidates that are complete are put
    aside, and the best `width` that are not go on. It is over when `width` are complete and none
    that goes on has a better score than the worst of the best `width`.
    """
    beams, totals = ids[None], torch.zeros(1, device=ids.device)
    complete: list[tuple[Tensor, float]] = []
    for length in range(1, n_new + 1):
        log_p = model(beams)[:, -1].log_softmax(-1)
        beams, totals = extend_beams(beams, totals, log_p, 2 * width)  # up to `width` of them end
        scores = totals / length**alpha
        ends = (beams[:, -1] == (-1 if end is None else end)) | (length == n_new)
        aside = ends & (torch.arange(len(ends), device=ids.device) < width)
        complete += zip(beams[aside], scores[aside].tolist(), strict=True)
        complete = sorted(complete, key=lambda found: -found[1])[:width]
        if len(complete) == width and not (scores[~ends] > complete[-1][1]).any():
            break
        beams, totals = beams[~ends][:width], totals[~ends][:width]
    return complete


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

        Raises ValueError, and changes nothing, where there would be more than `context` tokens.
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
        if not (hasattr(layer, "w_q") or _in_two_steps(layer)):
            raise TypeError(
                "only MultiHeadAttention, RotaryAttention and those of modern "
                f"can go on from a cache, got {type(layer).__name__}"
            )
        self.layer = layer
        self.cache = cache

    def forward(
        self,
        x: Float[Tensor, "rows new d_model"],
        memory: Float[Tensor, "rows new d_model"] | None = None,
        mask: Bool[Tensor, "new all"] | None = None,
    ) -> Float[Tensor, "rows new d_model"]:
        """`x` are the new tokens. `mask` says which of all tokens each of them may look at.

        Raises ValueError where `memory` is another tensor than `x`: what was read is in the cache.
        """
        if memory is not None and memory is not x:
            raise ValueError("memory must be x or None: these layers read their own text only")
        query, key, value = _heads(self.layer, x, start=self.cache.length)
        key, value = self.cache.update(key, value)
        return _attend(self.layer, query, key, value, mask)


def _in_two_steps(layer: Any) -> bool:
    """Whether a layer has `heads` and `attend`. Those of a `MultiHeadAttention` are its own."""
    if isinstance(layer, attention.MultiHeadAttention):
        return isinstance(layer, positions.RotaryAttention)
    return hasattr(layer, "attend")


def _heads(layer: Any, x: Tensor, start: int) -> tuple[Tensor, ...]:
    if _in_two_steps(layer):
        return layer.heads(x, x, start)
    query, key, value = attention.project_qkv(x, x, layer.w_q, layer.w_k, layer.w_v)
    split, n_heads = attention.split_heads, layer.n_heads
    return split(query, n_heads), split(key, n_heads), split(value, n_heads)


def _attend(
    layer: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    if _in_two_steps(layer):
        return layer.attend(query, key, value, mask)
    heads = attention.scaled_dot_product_attention(query, key, value, mask)
    return layer.w_o(attention.merge_heads(heads))


def read_on(
    model: decoder.GPT, ids: Int[Tensor, "rows all"], start: int
) -> Float[Tensor, "rows new vocabulary"]:
    """Logits for the tokens from number `start` on, by a model whose attention has read the others.

    `GPT.forward` with two differences: only the new tokens go through the blocks, at their own
    places in the text, and they may look at all that came before. One alone needs no mask.
    """
    x = model.embed(ids)[:, start:]
    n_all, n_new = ids.shape[1], ids.shape[1] - start
    mask = decoder.causal_mask(n_new, n_all).to(ids.device) if n_new > 1 else None
    for block in model.blocks:
        x = block(x, mask)
    return model.head(model.norm(x))


class CachedModel:
    """A model that remembers what it has read: given a longer text, it reads what is new.

    It takes the place of the model in `generate`, `stream` and `beam_search`, and gives the logits
    of the tokens that it had not read. A text that does not go on from the last one is read anew.
    The attentions are `MultiHeadAttention`, `RotaryAttention` or those of `modern`, which keep only
    what their groups share. Weights are shared, not copied.
    """

    def __init__(self, model: decoder.GPT, context: int):
        shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
        self.model: Any = copy.deepcopy(model, shared)
        self.context = context
        for block in self.model.blocks:
            block.attention = CachedAttention(block.attention, KVCache(context))
        self._layers: list[Any] = [block.attention for block in self.model.blocks]
        self._ids = torch.empty(0, 0, dtype=torch.long)

    @torch.no_grad()
    def __call__(self, ids: Int[Tensor, "rows all"]) -> Float[Tensor, "rows new vocabulary"]:
        start = self._known(ids)
        self._ids = ids[:0]  # nothing, should reading be interrupted
        logits = self._read(ids, start)
        self._ids = ids.clone()
        return logits

    def _read(
        self, ids: Int[Tensor, "rows all"], start: int
    ) -> Float[Tensor, "rows new vocabulary"]:
        return read_on(self.model, ids, start)

    def rewind(self, n_tokens: int) -> None:
        """Forget what was read behind the first `n_tokens`: a longer text goes on from there.

        Raises ValueError where fewer were read.
        """
        n_read = self._ids.shape[1]
        if not 0 <= n_tokens <= n_read:
            raise ValueError(
                f"n_tokens must be from 0 to {n_read}, which were read, got {n_tokens}"
            )
        if n_tokens == n_read:
            return
        kept, self._ids = self._ids[:, :n_tokens], self._ids[:0]  # nothing, if interrupted
        for layer in self._layers:
            read, layer.cache = layer.cache, KVCache(self.context)
            if n_tokens:  # a shorter `length` would do for ours, but not for every cache
                layer.cache.update(read.key[:, :, :n_tokens], read.value[:, :, :n_tokens])
        self._ids = kept

    def _known(self, ids: Int[Tensor, "rows all"]) -> int:
        """How many tokens of this text were read. The caches have its rows afterwards."""
        n_read = self._ids.shape[1]
        if 0 < n_read < ids.shape[1]:
            if torch.equal(ids[:, :n_read], self._ids):
                return n_read
            same = (ids[:, None, :n_read] == self._ids).all(-1)  # [rows, rows before]
            if same.any(1).all():
                for layer in self._layers:
                    layer.cache.select(same.int().argmax(1))
                return n_read
        for layer in self._layers:
            layer.cache = KVCache(self.context)
        return 0
