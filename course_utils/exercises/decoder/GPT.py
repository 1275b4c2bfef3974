"""decoder.GPT: tokens in, scores for the next token out."""

from collections.abc import Sequence
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn

from course_utils import decoder
from course_utils.exercises import blocks, inputs, layers, points
from course_utils.exercises.decoder import shared
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.projection import Linear

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


@exercise.cases
def cases() -> list[Case]:
    def small(
        title: str,
        ids: list[list[int]],
        *factors: float,
        point: str = "",
        earlier: Sequence[Tensor] = (),
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        weights = {name: weight.to(dtype) for name, weight in shared.SMALL_GPT.items()}
        arguments = {"ids": torch.tensor(ids), **weights}
        oracle = partial(shared.small_gpt_by_hand, factors)
        build = lambda part: part(**shared.small_gpt_modules(factors))  # noqa: E731
        before = [{"ids": ids} for ids in earlier]
        use = partial(blocks.use, build, earlier=before)
        return Case(title, arguments, oracle, use, call, point=point)

    def case(
        title: str,
        ids: Tensor,
        point: str = "",
        sizes: tuple[int, int, int, int, int] = (7, 6, 3, 2, 12),
        norm_first: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        make = partial(shared.gpt_modules, *sizes, norm_first)
        weights = layers.random_weights(make(), dtype)

        def oracle(ids: Tensor, *values: Tensor) -> Tensor:
            named = dict(zip(weights, values, strict=True))
            return shared.gpt_by_torch(ids, sizes[2], named, norm_first)

        use = partial(blocks.use, lambda part: part(**make()))
        return Case(title, {"ids": ids, **weights}, oracle, use, call, point=point)

    call = "GPT(embed, blocks, norm, head)(ids)"
    integers = inputs.integers
    others = [integers(*shape, below=4, seed=1) for shape in ((1, 2), (2, 5), (1, 3))]
    long = integers(1, 70, below=4).tolist()
    stored = "The head is [vocabulary, d_model], also where both are equal: call it as it is."
    this_text = (
        "The mask is made in every call, for as many tokens as there are now. Nothing is kept from "
        "an earlier text."
    )
    any_length = "A text may be longer than any size that you write down: ask `ids` for its length."
    axis_1 = "Tokens are axis 1, also where there are as many texts as tokens."
    return [
        small("blocks that add the mean of what they may see", [[2, 0, 1]], 1.0, -3.0),
        small("no blocks at all", [[3, 1, 0, 2], [0, 0, 1, 1]], point=points.NO_BLOCKS),
        case("two blocks, two sentences", integers(2, 5, below=7)),
        case("one block", integers(3, 4, below=7), sizes=(7, 6, 2, 1, 5)),
        case("three blocks", integers(2, 4, below=5), sizes=(5, 4, 2, 3, 4)),
        case("as many sentences as tokens", integers(4, 4, below=7), axis_1),
        case("as many words as features", integers(2, 3, below=6), stored, (6, 6, 2, 2, 6)),
        case("post-norm", integers(2, 4, below=7), points.BLOCKS_AS_GIVEN, norm_first=False),
        small(
            "the same model again, after other texts",
            [[0, 1, 2]],
            2.0,
            point=this_text,
            earlier=others,
        ),
        small("more than 64 tokens", long, 1.0, point=any_length, dtype=torch.float64),
        case("one token", integers(3, 1, below=7), points.AXIS_OF_ONE),
        case("a transposed view", integers(4, 3, below=7).T, points.OTHER_ORDER),
        case("float64", integers(2, 4, below=7), points.FLOAT64, dtype=torch.float64),
    ]


@exercise.holds
def _is_causal(part: Part) -> None:
    model = part(**shared.gpt_modules(9, 6, 3, 2, 6, True))
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
def _is_the_same_in_eval_mode(part: Part) -> None:
    model = part(**shared.gpt_modules(9, 6, 3, 2, 6, True))
    ids = inputs.integers(2, 6, below=9)
    trained, used = model.train()(ids), model.eval()(ids)
    if trained.shape != used.shape or not torch.allclose(trained, used, atol=1e-5):
        raise Wrong(
            "After `model.eval()` your model gives something else than before. The mask, and the "
            "scores of every place, are needed whenever it is called: do not ask `self.training`."
        )


@exercise.holds
def _is_right_in_a_whole_model(part: Part) -> None:
    """As `decoder.gpt` builds one, and with it every model that the course ships."""
    with mock.patch.object(decoder, "GPT", part):
        model = decoder.gpt(vocabulary=23, d_model=24, n_heads=4, n_layers=3, context=12).eval()
    weights = layers.random_weights({"model": model})
    weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
    ids = inputs.integers(3, 9, below=23)
    with torch.no_grad():
        wanted = shared.gpt_by_torch(ids, 4, weights)
        seen = layers.call(model, weights, ids)
    if not torch.allclose(seen, wanted, rtol=1e-4, atol=1e-3):
        raise Wrong("Small models are right, but one that `decoder.gpt` builds is not.")


class _Ones(nn.Module):
    """An embedding that needs no numbers of its own."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.ones(*ids.shape, 3, device=ids.device)


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
def _follows_its_tokens_to_other_devices(part: Part) -> None:
    """Tensors on the device "meta" have a shape and no numbers. Every computer has it."""
    model = part(_Ones(), [_SameDevice()], nn.Identity(), Linear(3, 5, bias=False))
    for device in ("cpu", "meta"):
        model.to(device)(torch.zeros(2, 4, dtype=torch.long, device=device))


@exercise.alternative
class MaskedInSteps(decoder.GPT):
    """Each version below does one of these steps otherwise."""

    def forward(self, ids):
        return self.finish(self.run(self.embed(ids), self.mask(ids)))

    def mask(self, ids):
        return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()

    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
        return x

    def finish(self, x):
        return self.head(self.norm(x))


@exercise.mistake(
    "Your blocks get no mask, so every token sees the one that it must predict. In "
    "training the loss would look wonderful. Pass `causal_mask(ids.shape[1])` on."
)
class NoMask(MaskedInSteps):
    def mask(self, ids):
        return None


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
    "You keep the mask of the first text. The next one may be shorter or longer: make the mask in "
    "`forward`, for as many tokens as there are."
)
class KeepsTheFirstMask(MaskedInSteps):
    kept = None

    def mask(self, ids):
        self.kept = super().mask(ids) if self.kept is None else self.kept
        return self.kept


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
    "You return the scores after the last token only, [batch, 1, vocabulary]. Training uses those "
    "of every place: [batch, tokens, vocabulary]."
)
class LastTokenWithItsAxis(MaskedInSteps):
    def finish(self, x):
        return super().finish(x)[:, -1:]


@exercise.mistake(
    "You multiply the embedding with √d_model. What `self.embed` returns goes into the blocks as "
    "it is."
)
class ScalesTheEmbedding(MaskedInSteps):
    def run(self, x, mask):
        return super().run(x * x.shape[-1] ** 0.5, mask)


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


blocks.add_wrong_runs(exercise, MaskedInSteps)
blocks.add_both(
    exercise, (ReturnsProbabilities, ReturnsLogProbabilities, LastTokenOnly), (NoFinalNorm,)
)
blocks.add_both(
    exercise,
    (NoMask, LooksOneAhead, MaskInFirstBlockOnly),
    (NoFinalNorm, ReturnsProbabilities, ReturnsLogProbabilities),
)


@exercise.alternative
class MaskOfFourAxes(MaskedInSteps):
    """Right: the mask has axes for batch and heads, as that of `padding_mask`."""

    def mask(self, ids):
        return super().mask(ids)[None, None]


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
