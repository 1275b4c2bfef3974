"""decoder.GPT: tokens in, scores for the next token out."""

from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import inputs, layers
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.families import pretrained
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

exercise = Exercise(
    "decoder.GPT",
    used_by="`gpt`, which builds every model that you train and sample from here on, and the model "
    "of notebook 00",
    hints=(
        "Embed the tokens, pass them through the blocks one after the other, then `self.norm`, "
        "then `self.head`.",
        "Every block takes the stream and a mask: `x = block(x, mask)`.",
        "The mask is `causal_mask(…)` of the number of tokens, `ids.shape[1]`. It is made on the "
        "processor: `.to(ids.device)` brings it to where the tokens are.",
        "What the head gives are scores. Softmax is not part of the model: the loss does it, and "
        "so does whoever samples.",
    ),
)


class _MeanBlock(nn.Module):
    """Adds to every token the mean of those that it may look at."""

    def __init__(self, factor: float):
        super().__init__()
        self.attention = layers.MeanAttention()
        self.factor = factor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + self.factor * self.attention(x, mask=mask)


def _small_modules(factors: tuple[float, ...]) -> dict[str, nn.Module]:
    return {
        "embed": Embedding(4, 3),
        "blocks": nn.ModuleList(_MeanBlock(factor) for factor in factors),
        "norm": encoder.LayerNorm(3),
        "head": Linear(3, 4, bias=False),
    }


SMALL_GPT = {
    "embed.weight": torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 0, 3], [-1, 1, 0]]),
    "norm.weight": torch.tensor([1.0, 2.0, -1.0]),
    "norm.bias": torch.tensor([0.0, 0.0, 2.0]),
    "head.weight": torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]),
}


def _small_gpt_by_hand(
    factors: tuple[float, ...],
    ids: Tensor,
    table: Tensor,
    gain: Tensor,
    bias: Tensor,
    head: Tensor,
) -> Tensor:
    x = F.embedding(ids, table)
    for factor in factors:
        means = [x[:, : t + 1].mean(1) for t in range(x.shape[1])]
        x = x + factor * torch.stack(means, 1)
    return F.linear(F.layer_norm(x, gain.shape, gain, bias), head)


def _gpt_modules(
    vocabulary: int, d_model: int, n_heads: int, n_layers: int, context: int, norm_first: bool
) -> dict[str, nn.Module]:
    return {
        "embed": InputEmbedding(Embedding(vocabulary, d_model), LearnedPositions(context, d_model)),
        "blocks": nn.ModuleList(
            encoder.TransformerBlock(**layers.block_parts(d_model, n_heads), norm_first=norm_first)
            for _ in range(n_layers)
        ),
        "norm": encoder.LayerNorm(d_model),
        "head": Linear(d_model, vocabulary, bias=False),
    }


def gpt_by_torch(
    ids: Tensor, n_heads: int, weights: dict[str, Tensor], norm_first: bool = True
) -> Tensor:
    """A GPT made of torch's own functions and encoder layers."""
    positions = weights["embed.positions.weight"][: ids.shape[1]]
    x = F.embedding(ids, weights["embed.tokens.weight"]) + positions
    hidden = nn.Transformer.generate_square_subsequent_mask(ids.shape[1]) < 0
    n_layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        of_block = {
            name.removeprefix(prefix): weight
            for name, weight in weights.items()
            if name.startswith(prefix)
        }
        x = layers.block_by_torch(x, ~hidden, norm_first, n_heads, of_block)
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    return F.linear(x, weights["head.weight"])


def _use_gpt(make: Any, part: Part, ids: Tensor, **weights: Tensor) -> Any:
    return layers.call(part(**make()), weights, ids)


def _use_gpt_again(make: Any, part: Part, ids: Tensor, **weights: Tensor) -> Any:
    """As `_use_gpt`, after the same model has read something longer, and more of it."""
    model = part(**make())
    layers.call(model, weights, torch.cat([ids, ids], 1)[:1])
    return layers.call(model, weights, ids)


@exercise.cases
def cases() -> list[Case]:
    def small(title: str, ids: list[list[int]], *factors: float) -> Case:
        oracle = partial(_small_gpt_by_hand, factors)
        use = partial(_use_gpt, partial(_small_modules, factors))
        return Case(title, {"ids": torch.tensor(ids)} | SMALL_GPT, oracle, use, call)

    def case(
        title: str,
        ids: Tensor,
        sizes: tuple[int, int, int, int, int] = (7, 6, 3, 2, 12),
        norm_first: bool = True,
        use: Part = _use_gpt,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        make = partial(_gpt_modules, *sizes, norm_first)
        weights = layers.random_weights(make(), dtype)

        def oracle(ids: Tensor, *values: Tensor) -> Tensor:
            return gpt_by_torch(ids, sizes[2], dict(zip(weights, values, strict=True)), norm_first)

        return Case(title, {"ids": ids, **weights}, oracle, partial(use, make), call)

    call = "GPT(embed, blocks, norm, head)(ids)"
    integers = inputs.integers
    return [
        small("blocks that add the mean of what they may see", [[2, 0, 1]], 1.0, -3.0),
        small("no blocks at all", [[3, 1, 0, 2], [0, 0, 1, 1]]),
        case("two blocks, two sentences", integers(2, 5, below=7)),
        case("one block", integers(3, 4, below=7), (7, 6, 2, 1, 5)),
        case("three blocks", integers(2, 4, below=5), (5, 4, 2, 3, 4)),
        case("as many sentences as tokens", integers(4, 4, below=7)),
        case("as many words as features", integers(2, 3, below=6), (6, 6, 2, 2, 6)),
        case("post-norm blocks", integers(2, 4, below=7), norm_first=False),
        case("a second call, after a longer text", integers(2, 5, below=7), use=_use_gpt_again),
        case("one token", integers(3, 1, below=7)),
        case("a transposed view", integers(4, 3, below=7).T),
        case("float64", integers(2, 4, below=7), dtype=torch.float64),
    ]


@exercise.holds
def _is_causal(part: Part) -> None:
    model = part(**_gpt_modules(9, 6, 3, 2, 6, True))
    ids = inputs.integers(2, 6, below=9)
    before = model(ids)
    for place in range(1, 6):
        other = ids.clone()
        other[:, place] = (ids[:, place] + 1) % 9
        if not torch.equal(model(other)[:, :place], before[:, :place]):
            raise Wrong(
                f"Your numbers are right, but with another token at place {place} the scores "
                "before it are not exactly the same. No token may look ahead."
            )


@exercise.holds
def _reproduces_the_shipped_model(part: Part) -> None:
    with mock.patch.object(decoder, "GPT", part):
        model = pretrained.sentences_model()
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    ids = inputs.integers(3, 9, below=len(weights["head.weight"]))
    with torch.no_grad():
        wanted, seen = gpt_by_torch(ids, 4, weights), model(ids)
    if not torch.allclose(seen, wanted, rtol=1e-4, atol=1e-3):
        raise Wrong("Small models are right, but the model of notebook 00 gives other scores.")


class _Elsewhere(nn.Module):
    """An embedding without numbers."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.empty(*ids.shape, 3, device=ids.device)


class _SameDevice(nn.Module):
    """A block that computes nothing, but looks where its mask is."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if mask.device != x.device:
            raise Wrong(
                "Your numbers are right, but on a graphics card your model would stop: the mask "
                "stays on the processor. Move it to where the tokens are: `.to(ids.device)`."
            )
        return x


@exercise.holds
def _works_on_other_devices(part: Part) -> None:
    """Tensors on the device "meta" have a shape and no numbers. Every computer has it."""
    head = Linear(3, 5, bias=False, device="meta")
    model = part(_Elsewhere(), [_SameDevice()], nn.Identity(), head)
    model(torch.empty(2, 4, dtype=torch.long, device="meta"))


@exercise.mistake(
    "Your blocks get no mask, so every token sees the one that it must predict. In "
    "training the loss would look wonderful. Pass `causal_mask(ids.shape[1])` on."
)
class NoMask(decoder.GPT):
    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@exercise.alternative
class MaskedInSteps(decoder.GPT):
    """A GPT in steps. Each version below does one of them otherwise."""

    def forward(self, ids):
        x = self.run(self.embed(ids), self.mask(ids))
        return self.finish(x)

    def mask(self, ids):
        return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()

    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
        return x

    def finish(self, x):
        return self.head(self.norm(x))


@exercise.mistake(
    "Your mask lets tokens see themselves and later ones. Use `causal_mask` as it is."
)
class MaskUpsideDown(MaskedInSteps):
    def mask(self, ids):
        return super().mask(ids).T


@exercise.mistake(
    "Your tokens see the one that follows, which is what they must predict. The mask ends "
    "at the token itself."
)
class LooksOneAhead(MaskedInSteps):
    def mask(self, ids):
        return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril(1)


@exercise.mistake(
    "You make a mask for as many tokens as there are sentences: `ids.shape[0]`. Tokens are axis 1."
)
class MaskOfTheBatch(MaskedInSteps):
    def mask(self, ids):
        return decoder.causal_mask(ids.shape[0])


@exercise.mistake(
    "Only your first block gets the mask. Every block looks around: all of them need it."
)
class MaskInFirstBlockOnly(MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
            mask = None
        return x


@exercise.mistake(
    "You return probabilities. Return the scores: the loss takes the softmax itself, and "
    "two of them flatten everything."
)
class ReturnsProbabilities(MaskedInSteps):
    def finish(self, x):
        return torch.softmax(super().finish(x), -1)


@exercise.mistake(
    "You return logarithms of probabilities. Return the scores as the head gives them."
)
class ReturnsLogProbabilities(MaskedInSteps):
    def finish(self, x):
        return torch.log_softmax(super().finish(x), -1)


@exercise.mistake(
    "You return the best token of every place. Nothing can be learned from that: return "
    "the scores of all tokens."
)
class ReturnsTokens(MaskedInSteps):
    def finish(self, x):
        return super().finish(x).argmax(-1)


@exercise.mistake(
    "You return the scores after the last token only. Training uses those of every place: "
    "[batch, tokens, vocabulary]."
)
class LastTokenOnly(MaskedInSteps):
    def finish(self, x):
        return super().finish(x)[:, -1]


@exercise.mistake(
    "You leave out `self.norm` before the head. The stream has grown in every block, and "
    "the head was made for numbers of ordinary size."
)
class NoFinalNorm(MaskedInSteps):
    def finish(self, x):
        return self.head(x)


@exercise.mistake(
    "You norm the embedding, not what comes out of the blocks. `self.norm` is the last "
    "thing before the head."
)
class NormBeforeBlocks(MaskedInSteps):
    def run(self, x, mask):
        return super().run(self.norm(x), mask)

    def finish(self, x):
        return self.head(x)


@exercise.mistake(
    "You apply `self.norm` after every block. Blocks have norms of their own: this one "
    "comes once, after all of them."
)
class NormInEveryBlock(MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = self.norm(block(x, mask))
        return x

    def finish(self, x):
        return self.head(x)


@exercise.mistake("You return the normed stream. `self.head` makes a score for every word of it.")
class ForgotHead(MaskedInSteps):
    def finish(self, x):
        return self.norm(x)


@exercise.mistake("You never call the blocks. Every token is then continued without its context.")
class NoBlocks(MaskedInSteps):
    def run(self, x, mask):
        return x


@exercise.mistake("You return from inside the loop, or use one block: the others never run.")
class FirstBlockOnly(MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks[:1]:
            x = block(x, mask)
        return x


@exercise.mistake(
    "Every block of yours reads the embedding, so only the last one counts. Give each "
    "block what the one before it returned: `x = block(x, mask)`."
)
class LastBlockOnly(MaskedInSteps):
    def run(self, x, mask):
        result = x
        for block in self.blocks:
            result = block(x, mask)
        return result


@exercise.mistake(
    "Your blocks run from the last to the first. Go through `self.blocks` in their order."
)
class BlocksReversed(MaskedInSteps):
    def run(self, x, mask):
        for block in reversed(self.blocks):
            x = block(x, mask)
        return x


@exercise.mistake("You run the first block again and again. Use the block that the loop gives you.")
class SameBlockAgain(MaskedInSteps):
    def run(self, x, mask):
        for _ in self.blocks:
            x = self.blocks[0](x, mask)
        return x


@exercise.mistake(
    "You add the block's output to the stream. The block has done that already: write "
    "`x = block(x, mask)`."
)
class AddsBlocks(MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = x + block(x, mask)
        return x


@exercise.alternative
class MaskByName(MaskedInSteps):
    """Right: the mask is made by comparing places, and goes by name."""

    def mask(self, ids):
        places = torch.arange(ids.size(-1), device=ids.device)
        return places[:, None] >= places

    def run(self, x, mask):
        blocks = iter(self.blocks)
        while (block := next(blocks, None)) is not None:
            x = block(x, mask=mask)
        return x


@exercise.alternative
class HeadByEinsum(MaskedInSteps):
    """Right: the head is a matrix that is multiplied with."""

    def finish(self, x):
        return torch.einsum("btd,vd->btv", self.norm(x), self.head.weight)
