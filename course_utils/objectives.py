"""Notebook 15: model families. What a model is asked while it learns, and what it is good for then.

The blocks are the same everywhere. BERT guesses tokens that were hidden, T5 writes what was cut
out, BART repairs a text that has holes, and a sentence encoder finds the partner of a sentence
among others. Each of these questions is made here from plain text.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, projection, training
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

# --- Hidden tokens: BERT -------------------------------------------------------------------------


def mask_tokens(
    ids: Int[Tensor, "batch tokens"],
    p: float,
    mask_id: int,
    n_vocabulary: int,
    special: Bool[Tensor, "batch tokens"],
    generator: torch.Generator,
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """What a masked model reads, and what it must say (labels), where -100 asks for nothing.

    Each token is chosen with probability `p`, on its own, but never where `special` is True, as
    for padding. A chosen one becomes `mask_id` with probability 0.8, a token drawn evenly from all
    `n_vocabulary` with 0.1, and stays with 0.1; the labels ask for all of them. All chance comes
    from `generator`, in an order that is free (Devlin et al. 2018, §3.1).
    """
    chosen = (torch.rand(ids.shape, generator=generator) < p) & ~special
    fate = torch.rand(ids.shape, generator=generator)
    drawn = torch.randint(n_vocabulary, ids.shape, generator=generator)
    replaced = drawn.where(fate < 0.9, ids).masked_fill(fate < 0.8, mask_id)
    return replaced.where(chosen, ids), ids.masked_fill(~chosen, -100)


class MaskedModel(nn.Module):
    """Says what every token is, a hidden one, too: an encoder, and a map to the vocabulary."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Scores (logits) of what stands at each place. `mask` is True where one may look."""
        return self.head(self.encoder(ids, mask))


def masked_model(
    vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int
) -> MaskedModel:
    """The parts of `decoder.gpt`, without its causal mask: every token may look at all others."""
    return MaskedModel(
        _reader(_embedding(vocabulary, d_model, context), d_model, n_heads, n_layers),
        Linear(d_model, vocabulary, bias=False),
    )


def _embedding(vocabulary: int, d_model: int, context: int) -> InputEmbedding:
    return InputEmbedding(Embedding(vocabulary, d_model), LearnedPositions(context, d_model))


def _reader(embed: nn.Module, d_model: int, n_heads: int, n_layers: int) -> encoder.Encoder:
    blocks = [encoder.block(d_model, n_heads) for _ in range(n_layers)]
    return encoder.Encoder(embed, blocks, encoder.LayerNorm(d_model))


# --- Spans cut out: T5 and BART ------------------------------------------------------------------


def span_corrupt(
    ids: list[int], spans: Sequence[tuple[int, int]], first_sentinel: int
) -> tuple[list[int], list[int]]:
    """The text with a sentinel in place of every span, and what was cut out.

    Sentinels are counted up from `first_sentinel`. In the target each stands in front of what it
    hides, and one more ends it. A span is (start, length), with at least one token; they come in
    order, do not overlap, and may touch (Raffel et al. 2020, §3.1.4).
    """
    source: list[int] = []
    target: list[int] = []
    end = 0
    for sentinel, (start, length) in enumerate(spans, first_sentinel):
        source += [*ids[end:start], sentinel]
        end = start + length
        target += [sentinel, *ids[start:end]]
    return source + ids[end:], [*target, first_sentinel + len(spans)]


def infill(ids: list[int], spans: Sequence[tuple[int, int]], mask_id: int) -> list[int]:
    """The text with one `mask_id` in place of every span, however long it is.

    A span of length 0 hides nothing: its mask is put in front of token `start`, or at the end. A
    span is (start, length); they come in order, do not overlap, and may touch (Lewis et al. 2019,
    §2.2, "text infilling").
    """
    source: list[int] = []
    end = 0
    for start, length in spans:
        source += [*ids[end:start], mask_id]
        end = start + length
    return source + ids[end:]


def draw_spans(
    n_tokens: int, lengths: Sequence[int], generator: torch.Generator
) -> list[tuple[int, int]]:
    """Spans (start, length) of these lengths, in this order, at places where none touches another.

    All such places are equally probable. Raises ValueError where there are too few tokens.
    """
    n_free = n_tokens - sum(lengths)
    if n_free + 1 < len(lengths):
        needed = sum(lengths) + len(lengths) - 1
        raise ValueError(f"n_tokens must be at least {needed} for these lengths, got {n_tokens}")
    gaps = torch.randperm(n_free + 1, generator=generator)[: len(lengths)].sort().values.tolist()
    before = accumulate(lengths, initial=0)  # tokens of the spans in front
    return [(gap + b, n) for gap, b, n in zip(gaps, before, lengths, strict=False)]


def even_lengths(
    n_tokens: int, generator: torch.Generator, share: float = 0.15, mean: float = 3.0
) -> list[int]:
    """Lengths of spans as T5 draws them: `share` of the tokens, `mean` of them a span.

    Every way to cut that many tokens into that many spans of at least one is equally probable
    (`random_spans_noise_mask` in T5's code).
    """
    n_hidden = max(1, round(n_tokens * share))
    n_spans = max(1, round(n_hidden / mean))
    cuts = torch.randperm(n_hidden - 1, generator=generator)[: n_spans - 1].sort().values + 1
    return torch.diff(cuts, prepend=torch.tensor([0]), append=torch.tensor([n_hidden])).tolist()


def poisson_lengths(
    n_tokens: int, generator: torch.Generator, share: float = 0.3, mean: float = 3.0
) -> list[int]:
    """Lengths of spans as BART draws them, 0 among them, until they have `share` of the tokens.

    They have a Poisson distribution; the last one is cut off (Lewis et al. 2019, §2.2).
    """
    left, lengths = round(n_tokens * share), list[int]()
    while left > 0:
        drawn = int(torch.poisson(torch.tensor(mean), generator=generator))
        lengths.append(min(drawn, left))
        left -= drawn
    return lengths


def seq2seq(
    vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int
) -> decoder.Seq2Seq:
    """An encoder and a decoder of `n_layers` blocks each, which share their embedding."""
    embed = _embedding(vocabulary, d_model, context)
    return decoder.Seq2Seq(
        _reader(embed, d_model, n_heads, n_layers),
        embed,
        [decoder.decoder_block(d_model, n_heads) for _ in range(n_layers)],
        encoder.LayerNorm(d_model),
        Linear(d_model, vocabulary, bias=False),
    )


# --- One vector for a text -----------------------------------------------------------------------


def attention_pool(
    x: Float[Tensor, "batch tokens d_model"],
    query: Float[Tensor, " d_model"],
    mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch d_model"]:
    """One vector for a text: attention with a single query, which is learned, over its tokens.

    The tokens are keys and values as they are, and the scores are scaled as everywhere. `mask` is
    True where the query may look, at one token of every text at least.
    """
    asking = query.expand(len(x), 1, -1)
    return attention.scaled_dot_product_attention(asking, x, x, mask[:, None])[:, 0]


def info_nce(
    a: Float[Tensor, "batch d"], b: Float[Tensor, "batch d"], temperature: float
) -> Float[Tensor, ""]:
    """How well every row of `a` finds its partner, the same row of `b`, and the other way round.

    Logits are cosines divided by `temperature`, the other rows are the wrong answers, and the loss
    is the mean of the two cross-entropies (van den Oord et al. 2018, §2.3; both ways as in Radford
    et al. 2021, figure 3).
    """
    logits = projection.dot_and_cosine(a, b)[1] / temperature
    partner = torch.arange(len(a))
    there = training.cross_entropy(logits, partner)
    return (there + training.cross_entropy(logits.T, partner)) / 2
