"""encoder.Encoder: an embedding, blocks one after the other, and a last norm."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import encoder
from course_utils.exercises import blocks, inputs, layers, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding

exercise = Exercise(
    "encoder.Encoder",
    used_by="`Classifier`, and every model here that reads: BERT and MiniLM too",
    hints=(
        "Three things, in the order of the picture: the embedding, all blocks, the last norm.",
        "A loop over `self.blocks`. Each block reads what the one before it returned.",
        "Every block takes the stream and the mask: `x = block(x, mask)`. After the loop, "
        "`self.norm(x)` is the result.",
    ),
)


def _small_modules(factors: Sequence[float]) -> dict[str, nn.Module]:
    stack = nn.ModuleList(blocks.MeanBlock(factor) for factor in factors)
    return {"embed": Embedding(4, 3), "blocks": stack, "norm": nn.Tanh()}


_TABLE = torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 0, 3], [-1, 1, 0]])


def _small_by_hand(
    factors: Sequence[float], ids: Tensor, mask: Tensor | None, table: Tensor
) -> Tensor:
    x = table[ids]
    for factor in factors:
        x = x + factor * (x.mean(1, keepdim=True) if mask is None else blocks.means_up_to_each(x))
    return torch.tanh(x)


def _modules(
    vocabulary: int, d_model: int, n_heads: int, n_layers: int, norm_first: bool
) -> dict[str, nn.Module]:
    return {
        "embed": InputEmbedding(Embedding(vocabulary, d_model), LearnedPositions(9, d_model)),
        "blocks": nn.ModuleList(
            encoder.TransformerBlock(**layers.block_parts(d_model, n_heads), norm_first=norm_first)
            for _ in range(n_layers)
        ),
        "norm": encoder.LayerNorm(d_model) if norm_first else nn.Identity(),
    }


def _by_torch(
    n_heads: int, n_layers: int, norm_first: bool, ids: Tensor, mask: Tensor | None, weights: dict
) -> Tensor:
    """Made of torch's own functions and encoder layers."""
    places = weights["embed.positions.weight"][: ids.shape[1]]
    x = F.embedding(ids, weights["embed.tokens.weight"]) + places
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        own = {name.removeprefix(prefix): w for name, w in weights.items() if prefix in name}
        x = layers.block_by_torch(x, mask, norm_first, n_heads, own)
    if norm_first:
        x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    return x


@exercise.cases
def cases() -> list[Case]:
    call = "Encoder(embed, blocks, norm)(ids, mask)"

    def small(
        title: str,
        ids: list[list[int]],
        *factors: float,
        mask: Tensor | None = None,
        point: str = "",
        earlier: Sequence[Tensor] = (),
    ) -> Case:
        before = [{"ids": one, "mask": blocks.causal(one.shape[1]).T} for one in earlier]
        use = partial(blocks.use, lambda part: part(**_small_modules(factors)), earlier=before)
        arguments = {"ids": torch.tensor(ids), "mask": mask, "embed.weight": _TABLE}
        return Case(title, arguments, partial(_small_by_hand, factors), use, call, point=point)

    def case(
        title: str,
        ids: Tensor,
        mask: Tensor | None = None,
        point: str = "",
        sizes: tuple[int, int, int, int] = (7, 6, 3, 2),
        norm_first: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        make = partial(_modules, *sizes, norm_first)
        weights = layers.random_weights(make(), dtype)

        def oracle(ids: Tensor, mask: Tensor | None, *values: Tensor) -> Tensor:
            named = dict(zip(weights, values, strict=True))
            return _by_torch(sizes[2], sizes[3], norm_first, ids, mask, named)

        use = partial(blocks.use, lambda part: part(**make()))
        return Case(title, {"ids": ids, "mask": mask, **weights}, oracle, use, call, point=point)

    integers = inputs.integers
    padding = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None]
    others = [integers(2, 5, below=4), integers(1, 3, below=4, seed=1)]
    texts, causal, mask = integers(2, 5, below=7), blocks.causal(4), points.SAME_MASK
    masked: dict[str, Any] = {"mask": blocks.causal(3), "point": mask}
    return [
        small("blocks that add the mean of all tokens", [[2, 0, 1]], 1.0, -3.0),
        small("blocks that add the mean of what they may see", [[2, 0, 1]], 1.0, -3.0, **masked),
        small("no blocks at all", [[3, 1, 0, 2], [0, 0, 1, 1]], point=points.NO_BLOCKS),
        case("two blocks, two sentences, padding", texts, padding, mask),
        case("two blocks, two sentences", texts),
        case("one block", integers(3, 4, below=7), sizes=(7, 6, 2, 1)),
        case("three blocks", integers(2, 4, below=5), sizes=(5, 4, 2, 3)),
        case("three blocks, a causal mask", integers(2, 4, below=5), causal, mask, (5, 4, 2, 3)),
        case("as many sentences as tokens", integers(4, 4, below=7), causal, mask),
        case(
            "post-norm blocks, and nothing as a norm",
            texts,
            point=points.BLOCKS_AS_GIVEN,
            norm_first=False,
        ),
        small("the same encoder again, after others", [[0, 1, 2]], 2.0, **masked, earlier=others),
        small("the same again, without a mask", [[0, 1, 2]], 2.0, point=mask, earlier=others),
        case("one token", integers(3, 1, below=7), point=points.AXIS_OF_ONE),
        case("a transposed view", integers(4, 3, below=7).T, point=points.OTHER_ORDER),
        case("float64", integers(2, 4, below=7), point=points.FLOAT64, dtype=torch.float64),
    ]


@exercise.holds
def _takes_any_parts(part: Part) -> None:
    """An embedding and a norm are called; nothing is asked of what is inside."""
    model = part(lambda_module(lambda ids: ids[..., None] + 0.5), [], lambda_module(torch.neg))
    if not torch.equal(model(torch.tensor([[1, 2]])), -torch.tensor([[[1.5], [2.5]]])):
        raise Wrong("With another embedding and another norm your result is not theirs.")


def lambda_module(function) -> nn.Module:
    """A module that does what a function does."""

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    return Calls()


@exercise.alternative
class EncodesInSteps(encoder.Encoder):
    """Each version below does one of these steps otherwise."""

    def forward(self, ids, mask=None):
        return self.finish(self.run(self.embed(ids), mask))

    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
        return x

    def finish(self, x):
        return self.norm(x)


@exercise.mistake(
    "Your blocks get no mask, so real tokens look at padding. Pass it on: `block(x, mask)`."
)
class NoMask(EncodesInSteps):
    def run(self, x, mask):
        return super().run(x, None)


@exercise.mistake(
    "Only your first block gets the mask. Every block looks around: all of them need it."
)
class MaskInFirstBlockOnly(EncodesInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
            mask = None
        return x


@exercise.mistake(
    "You keep the mask of the first call. The next text has another one: use the `mask` that you "
    "are given, each time."
)
class KeepsTheFirstMask(EncodesInSteps):
    kept = None

    def run(self, x, mask):
        self.kept = mask if self.kept is None else self.kept
        return super().run(x, self.kept)


@exercise.mistake(
    "Without a mask you make up a causal one. An encoder reads all tokens at once: pass `mask` on "
    "as it is, None too."
)
class CausalWithoutMask(EncodesInSteps):
    def run(self, x, mask):
        return super().run(x, blocks.causal(x.shape[1]) if mask is None else mask)


@exercise.mistake(
    "You multiply the embedding with √d_model. What `self.embed` returns goes into the blocks as "
    "it is."
)
class ScalesTheEmbedding(EncodesInSteps):
    def run(self, x, mask):
        return super().run(x * x.shape[-1] ** 0.5, mask)


@exercise.mistake(
    "You leave out the last norm. In pre-norm blocks the stream grows from block to block: "
    "return `self.norm(x)`."
)
class NoLastNorm(EncodesInSteps):
    def finish(self, x):
        return x


@exercise.mistake(
    "You norm the embedding, not what comes out of the blocks. `self.norm` is the last step."
)
class NormBeforeBlocks(EncodesInSteps):
    def run(self, x, mask):
        return super().run(self.norm(x), mask)

    def finish(self, x):
        return x


@exercise.mistake(
    "You apply `self.norm` after every block. Blocks have norms of their own: this one comes "
    "once, after all of them."
)
class NormInEveryBlock(EncodesInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = self.norm(block(x, mask))
        return x

    def finish(self, x):
        return x


blocks.add_wrong_runs(exercise, EncodesInSteps)
blocks.add_both(exercise, (NoMask, MaskInFirstBlockOnly), (NoLastNorm,))


@exercise.mistake(
    "You return the mean over the tokens. The encoder returns a vector for every token; the "
    "classifier takes the mean."
)
class TakesTheMean(EncodesInSteps):
    def finish(self, x):
        return self.norm(x).mean(1)


@exercise.alternative
class MaskByName(EncodesInSteps):
    """Right: the mask goes by name, and the blocks come by their number."""

    def run(self, x, mask):
        for place in range(len(self.blocks)):
            x = self.blocks[place](x, mask=mask)
        return x


@exercise.alternative
class EncodesByReduce(encoder.Encoder):
    """Right: the loop is a fold."""

    def forward(self, ids, mask=None):
        through = reduce(lambda x, block: block(x, mask), self.blocks, self.embed(ids))
        return self.norm(through)
