"""Notebook 13: fast inference. The same text, sooner and in less memory.

A token of a text costs little arithmetic and much reading of memory: all weights, and all keys and
values that came before. So what helps is to read less (a smaller cache, smaller weights), to read
it once for several tokens (guess ahead and check), or to write less on the way (attention in
blocks).
"""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, interpretability, sampling

# --- What a step costs ---------------------------------------------------------------------------


def step_seconds(flops: float, n_bytes: float, peak: float, bandwidth: float) -> float:
    """Seconds that a step takes at least: its arithmetic or its memory, whichever takes longer.

    The machine does `peak` operations a second and moves `bandwidth` bytes a second, both at the
    same time (the roofline: Williams et al. 2009). A step may have no operations, or no bytes.
    """
    return max(flops / peak, n_bytes / bandwidth)


def kv_cache_bytes(
    n_layers: int, n_groups: int, d_head: int, n_tokens: int, n_rows: int = 1, bytes_each: int = 4
) -> int:
    """Bytes that the keys and the values of `n_rows` texts of `n_tokens` tokens take.

    `n_groups` is the number of heads of keys, which query heads may share. Every number of them
    takes `bytes_each` bytes.
    """
    return 2 * n_layers * n_groups * d_head * n_tokens * n_rows * bytes_each


# --- Attention in blocks -------------------------------------------------------------------------


def online_softmax_attention(
    query: Float[Tensor, "batch n_heads query d_head"],
    key: Float[Tensor, "batch n_heads key d_head"],
    value: Float[Tensor, "batch n_heads key d_value"],
    block: int,
) -> Float[Tensor, "batch n_heads query d_value"]:
    """Attention without a mask that looks at `block` keys at a time, and never at all scores.

    Kept from block to block are, for every query, the largest score so far, the sum of
    exp(score - largest), and the sum of values, each times that. When a larger score comes, both
    sums are scaled to it (Milakov & Gimelshein 2018, algorithm 3; Dao et al. 2022, §3.1).
    """
    largest = query.new_full((*query.shape[:-1], 1), -math.inf)
    total, mixed = torch.zeros_like(largest), query.new_zeros(*query.shape[:-1], value.shape[-1])
    scale = attention.score_scale(query.shape[-1])
    for keys, values in zip(key.split(block, 2), value.split(block, 2), strict=True):
        scores = attention.attention_scores(query, keys) * scale
        before, largest = largest, torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink, weights = torch.exp(before - largest), torch.exp(scores - largest)
        total = total * shrink + weights.sum(-1, keepdim=True)
        mixed = mixed * shrink + attention.mix_values(weights, values)
    return mixed / total


# --- Fewer bits ----------------------------------------------------------------------------------


def quantise(
    weight: Float[Tensor, "d_out d_in"], bits: int
) -> tuple[Int8[Tensor, "d_out d_in"], Float[Tensor, "d_out 1"]]:
    """Whole numbers of `bits` bits (2 to 8), and a scale for each row: weight ≈ numbers · scale.

    The largest size of a row becomes 2^(bits - 1) - 1, with its sign, and the others are rounded to
    the nearest. A row of zeros gives zeros, with any scale that is a number (Dettmers et al. 2022,
    §2.1, "absmax", here row by row).
    """
    scale = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    numbers = weight / scale.where(scale > 0, 1)
    return numbers.round().to(torch.int8), scale


class QuantisedLinear(nn.Module):
    """A linear map that keeps whole numbers, and makes weights of them when it is called."""

    numbers: Int8[Tensor, "d_out d_in"]
    scale: Float[Tensor, "d_out 1"]

    def __init__(self, layer: nn.Linear, bits: int):
        super().__init__()
        numbers, scale = quantise(layer.weight.detach(), bits)
        self.register_buffer("numbers", numbers)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """What the numbers stand for: a feed-forward net takes it from here."""
        return self.numbers * self.scale

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return F.linear(x, self.weight, self.bias)


class IntegerLinear(QuantisedLinear):
    """A `QuantisedLinear` that multiplies whole numbers: its input is rounded, too, to 8 bits.

    Every token of the input has a scale of its own. The processor reads a quarter of the bytes that
    float32 has, and adds up products of bytes (Dettmers et al. 2022, §2.1).
    """

    def __init__(self, layer: nn.Linear, bits: int):
        if layer.in_features < 2:  # torch 2.13 multiplies such matrices wrongly, and says nothing
            raise ValueError(f"layer must have at least 2 inputs, got {layer.in_features}")
        super().__init__(layer, bits)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        numbers, scale = quantise(x.flatten(0, -2), 8)
        products = torch._int_mm(numbers, self.numbers.T) * scale * self.scale.T
        products = products if self.bias is None else products + self.bias
        return products.unflatten(0, x.shape[:-1])


def quantised(
    model: nn.Module, bits: int, kind: type[QuantisedLinear] = QuantisedLinear
) -> nn.Module:
    """A copy of the model, all of whose linear maps have numbers of `bits` bits."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, kind(child, bits))
    return model


# --- Guess ahead, then check ---------------------------------------------------------------------


def accept(
    target: Float[Tensor, " vocabulary"],
    draft: Float[Tensor, " vocabulary"],
    token: int,
    uniform: float,
) -> bool:
    """Whether a token that was drawn from `draft` may stay: where `uniform` < p / q.

    p and q are its probabilities under `target` and under `draft`. `uniform` was drawn evenly from
    0 to 1, 1 excluded, so it stays with probability min(1, p / q) (Leviathan et al. 2023, §2.3;
    Chen et al. 2023, algorithm 2).
    """
    return bool(uniform * draft[token] < target[token])


def leftover(
    target: Float[Tensor, " vocabulary"], draft: Float[Tensor, " vocabulary"]
) -> Float[Tensor, " vocabulary"]:
    """What to draw from when a guess was refused: (target - draft)₊, made to sum to 1.

    It is what the draft gives too seldom, so that in the end every token is as frequent as `target`
    says (Leviathan et al. 2023, §2.3 and appendix A.1). Where nothing is left, the two are equal,
    and it is `target`.
    """
    missing = (target - draft).clamp_min(0)
    return missing / missing.sum() if missing.any() else target


class Reader(Protocol):
    """What reads a text on: a `sampling.CachedModel` or a `TableDraft`."""

    def __call__(self, ids: Int[Tensor, "1 tokens"]) -> Float[Tensor, "1 new vocabulary"]:
        """Logits of the tokens that it has not read; those of the last one are there always."""
        ...

    def rewind(self, n_tokens: int) -> None:
        """Forget what was read behind the first `n_tokens` tokens."""
        ...


class TableDraft:
    """A draft that looks up what follows the last `reach` tokens, such as counted n-grams.

    `probabilities` gives those of every next token. What it has said is kept.
    """

    def __init__(self, probabilities: Callable[[tuple[int, ...]], Tensor], reach: int):
        self.reach = reach
        self._log_p = functools.lru_cache(2**16)(lambda context: probabilities(context).log())

    def __call__(self, ids: Int[Tensor, "1 tokens"]) -> Float[Tensor, "1 1 vocabulary"]:
        return self._log_p(tuple(ids[0, max(0, ids.shape[1] - self.reach) :].tolist()))[None, None]

    def rewind(self, n_tokens: int) -> None:
        """Nothing to do: nothing of the text is kept."""


def speculate(
    target: Reader,
    draft: Reader,
    ids: Int[Tensor, "1 tokens"],
    n_new: int,
    ahead: int,
    filters: Sequence[sampling.Filter] = (),
    generator: torch.Generator | None = None,
) -> Int[Tensor, "1 tokens+n_new"]:
    """The text and `n_new` more tokens, as `target` would draw them, with fewer calls of it.

    `draft` guesses `ahead` tokens, and `target` reads all of them in one call. The text has the
    same distribution as without a draft, whatever the draft is; a good one only saves calls. Both
    draw from what the filters leave: temperature 0 gives the text of `sampling.greedy`.
    """
    return torch.cat((ids, *rounds(target, draft, ids, n_new, ahead, filters, generator)), dim=1)


@torch.no_grad()
def rounds(
    target: Reader,
    draft: Reader,
    ids: Int[Tensor, "1 tokens"],
    n_new: int,
    ahead: int,
    filters: Sequence[sampling.Filter] = (),
    generator: torch.Generator | None = None,
) -> Iterator[Int[Tensor, "1 new"]]:
    """What `speculate` adds, one call of `target` after the other, as soon as it is known.

    Raises ValueError where there is more than one row: each would get on at a pace of its own.
    """
    if len(ids) != 1:
        raise ValueError(f"ids must have one row, got {len(ids)}")
    end = ids.shape[1] + n_new
    while (start := ids.shape[1]) < end:
        n_guesses = min(ahead, end - start - 1)  # one more token comes from the target itself
        guessed, q = _guess(draft, ids, n_guesses, filters, generator)
        p = _distributions(target(guessed)[0, -n_guesses - 1 :], filters)
        new = _checked(guessed[0, start:].tolist(), p, q, generator)
        ids = torch.cat((ids, ids.new_tensor([new])), dim=1)
        target.rewind(ids.shape[1] - 1)
        if n_guesses:  # the draft has not read its last guess
            draft.rewind(min(ids.shape[1], start + n_guesses) - 1)
        yield ids[:, start:]


def _guess(
    draft: Reader,
    ids: Tensor,
    n_guesses: int,
    filters: Sequence[sampling.Filter],
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, "1 tokens+guesses"], list[Float[Tensor, " vocabulary"]]]:
    """The text with the draft's guesses behind it, and what each was drawn from."""
    drawn_from = []
    for _ in range(n_guesses):
        q = _distributions(draft(ids)[0, -1:], filters)[0]
        ids = torch.cat((ids, ids.new_tensor([[_draw(q, generator)]])), dim=1)
        drawn_from.append(q)
    return ids, drawn_from


def _checked(
    guesses: list[int], p: Tensor, q: list[Tensor], generator: torch.Generator | None
) -> list[int]:
    """The guesses up to the first that is refused, and one token from the target."""
    uniforms = torch.rand(len(guesses), generator=generator).tolist()
    for place, (token, uniform) in enumerate(zip(guesses, uniforms, strict=True)):
        if not accept(p[place], q[place], token, uniform):
            return [*guesses[:place], _draw(leftover(p[place], q[place]), generator)]
    return [*guesses, _draw(p[-1], generator)]


def _distributions(
    logits: sampling.Logits, filters: Sequence[sampling.Filter]
) -> Float[Tensor, "batch vocabulary"]:
    for apply in filters:
        logits = apply(logits)
    return logits.softmax(-1)


def _draw(probabilities: Float[Tensor, " vocabulary"], generator: torch.Generator | None) -> int:
    return int(torch.multinomial(probabilities, 1, generator=generator))


# --- Other searches ------------------------------------------------------------------------------


@torch.no_grad()
def contrastive_search(
    model: decoder.GPT, ids: Int[Tensor, "batch tokens"], n_new: int, k: int, alpha: float
) -> Int[Tensor, "batch tokens+n_new"]:
    """The text and `n_new` more tokens, each probable and unlike what was said.

    Of the `k` best tokens it takes that of the largest (1 - alpha) · p - alpha · likeness: the
    largest cosine of the token's state, as the head reads it, with the state of an earlier one.
    `alpha` 0 or `k` 1 is greedy (Su et al. 2022, §3.2).
    """
    body = decoder.GPT(model.embed, model.blocks, model.norm, nn.Identity())
    read = sampling.CachedModel(body, ids.shape[1] + n_new)  # gives states in place of logits
    states, rows = read(ids), torch.arange(len(ids), device=ids.device)
    for _ in range(n_new):
        p, tokens = model.head(states[:, -1]).softmax(-1).topk(k)
        longer = torch.cat((ids.repeat_interleave(k, 0), tokens.reshape(-1, 1)), dim=1)
        new = read(longer)[:, -1].unflatten(0, (-1, k))  # [batch, k, d_model]
        likeness = F.cosine_similarity(states[:, None], new[:, :, None], dim=-1).amax(-1)
        best = ((1 - alpha) * p - alpha * likeness).argmax(-1)
        ids = longer[rows * k + best]
        states = torch.cat((states, new[rows, best][:, None]), dim=1)
    return ids


class LayerContrast:
    """A model whose logits are what the last layer of `model` says beyond an earlier one (DoLa).

    log p of the last layer minus log p of the earlier layer that differs most from it (by the
    Jensen-Shannon divergence), for the tokens with `share` of the best one's probability or more;
    the others are removed. The embedding counts as a layer. With a `share` of 1 only the best
    token is left (Chuang et al. 2023, §2).
    """

    def __init__(self, model: decoder.GPT, share: float = 0.1):
        self.model, self.share = model, share

    @torch.no_grad()
    def __call__(
        self, ids: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        stream = interpretability.residual_stream(self.model, ids)
        log_p = self.model.head(self.model.norm(stream)).log_softmax(-1)
        early, last = log_p[:-1], log_p[-1]
        furthest = _divergence(early, last).argmax(0)
        said_before = early.take_along_dim(furthest[None, ..., None], dim=0)[0]
        return sampling.min_p(last.flatten(0, 1), self.share).view_as(last) - said_before


def _divergence(
    log_p: Float[Tensor, "*batch vocabulary"], log_q: Float[Tensor, "*batch vocabulary"]
) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence: how far p and q are from their mean, on average."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    p_far = (log_p.exp() * (log_p - log_mean)).sum(-1)
    return (p_far + (log_q.exp() * (log_q - log_mean)).sum(-1)) / 2


@torch.no_grad()
def diverse_beams(
    model: Callable[[Tensor], Tensor],
    ids: Int[Tensor, " tokens"],
    n_new: int,
    n_groups: int,
    width: int,
    strength: float,
) -> Int[Tensor, "beams tokens+n_new"]:
    """The beams of `n_groups` beam searches of `width`, each kept from what the others say.

    They take turns at every step. A token costs `strength` for each beam of an earlier group that
    took it at this step. One group is `sampling.beam_search`; no text ends before it has `n_new`
    new tokens (Vijayakumar et al. 2016, §3, with Hamming diversity).
    """
    groups = [(ids[None], torch.zeros(1, device=ids.device))] * n_groups
    for _ in range(n_new):
        log_p = model(torch.cat([beams for beams, _ in groups]))[:, -1].log_softmax(-1)
        taken = log_p.new_zeros(log_p.shape[-1])
        for place, each in enumerate(log_p.split([len(beams) for beams, _ in groups])):
            beams, totals = sampling.extend_beams(*groups[place], each - strength * taken, width)
            taken = taken + beams[:, -1].bincount(minlength=len(taken))
            groups[place] = beams, totals
    return torch.cat([beams for beams, _ in groups])
