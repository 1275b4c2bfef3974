"""encoder.TransformerBlock: attention, feed-forward, two norms, two residuals."""

from collections.abc import Sequence
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import blocks, inputs, layers, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.projection import Linear

exercise = Exercise(
    "encoder.TransformerBlock",
    used_by="`block`, and so by every layer of `Encoder` and `GPT`",
    hints=(
        "Two residual steps, one after the other: attention with `self.norm1`, then feed-forward "
        "with `self.norm2`. The second reads what the first returned.",
        "`residual_step(x, sublayer, norm, self.norm_first)` calls the sublayer with one argument. "
        "The feed-forward net can be given as it is: `self.feed_forward`.",
        "Attention needs its mask as well. `partial(self.attention, mask=mask)` is a function of "
        "one argument that passes it on, and so is `lambda t: self.attention(t, mask=mask)`.",
    ),
)


def _simple_parts() -> dict[str, nn.Module]:
    norms = {"norm1": nn.Tanh(), "norm2": nn.Softsign()}
    return {"attention": blocks.MeanAttention(), "feed_forward": Linear(2, 2)} | norms


def _simple_block_by_hand(
    norm_first: bool, x: Tensor, mask: None, weight: Tensor, bias: Tensor
) -> Tensor:
    x = x + (torch.tanh(x) if norm_first else x).mean(1, keepdim=True)
    x = x if norm_first else torch.tanh(x)
    made = F.linear(F.softsign(x) if norm_first else x, weight, bias)
    return x + made if norm_first else F.softsign(x + made)


@exercise.cases
def cases() -> list[Case]:
    block_case = partial(blocks.block_case, exercise.name)

    def simple(title: str, norm_first: bool, point: str = "") -> Case:
        arguments = {
            "x": torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]),
            "mask": None,
            "feed_forward.weight": torch.tensor([[1.0, 0.0], [1.0, 2.0]]),
            "feed_forward.bias": torch.tensor([0.0, 1.0]),
        }
        oracle = partial(_simple_block_by_hand, norm_first)
        return block_case(title, _simple_parts, oracle, arguments, norm_first, point=point)

    def case(
        title: str,
        x: Tensor,
        n_heads: int,
        mask: Tensor | None = None,
        point: str = "",
        norm_first: bool = True,
        earlier: Sequence[dict[str, Tensor]] = (),
    ) -> Case:
        make_parts = partial(layers.block_parts, x.shape[-1], n_heads)
        weights = layers.random_weights(make_parts(), x.dtype)

        def oracle(x: Tensor, mask: Tensor | None, *values: Tensor) -> Tensor:
            named = dict(zip(weights, values, strict=True))
            return layers.block_by_torch(x, mask, norm_first, n_heads, named)

        arguments = {"x": x, "mask": mask, **weights}
        return block_case(title, make_parts, oracle, arguments, norm_first, earlier, point)

    normal, causal = inputs.normal, blocks.causal(4)
    padding = torch.tensor([[True] * 3 + [False], [True] * 2 + [False] * 2])[:, None, None]
    x = normal(2, 4, 6)
    before = {"x": normal(2, 4, 6, seed=1), "mask": causal.T}
    others = [{"x": normal(2, 8, 6), "mask": blocks.causal(8)}, before]
    post, mask = points.POST_NORM, points.SAME_MASK
    return [
        simple("attention is a mean, each norm another function", True),
        simple("the same, post-norm", False, post),
        case("the usual parts, no mask", x, 3),
        case("post-norm", x, 3, None, post, norm_first=False),
        case("a causal mask", x, 2, causal, mask),
        case("post-norm with a causal mask", x, 2, causal, post, norm_first=False),
        case("padding", x, 3, padding, mask),
        case("one head, one sentence", normal(1, 4, 5), 1, None, points.AXIS_OF_ONE),
        case("a mask for each head", x, 3, inputs.boolean(2, 3, 4, 4), mask),
        case("a mask for each head, for all sentences", x, 3, inputs.boolean(3, 4, 4), mask),
        case("the same block again, with another mask", x, 3, causal, mask, earlier=others),
        case("the same block again, without a mask", x, 3, None, mask, earlier=[before]),
        case("one token", normal(3, 1, 6), 3, None, points.AXIS_OF_ONE),
        case("a transposed view", normal(2, 6, 4).mT, 2, None, points.OTHER_ORDER),
        case("float64", normal(2, 4, 6, dtype=torch.float64), 2, None, points.FLOAT64),
    ]


@exercise.holds
def _works_inside_models(part: Part) -> None:
    with mock.patch.object(encoder, "TransformerBlock", part):
        model = decoder.gpt(vocabulary=7, d_model=6, n_heads=3, n_layers=2, context=5)
        blocks = [encoder.block(6, 3) for _ in range(2)]
    first = inputs.integers(2, 5, below=7)
    second = torch.cat([first[:, :-1], (first[:, -1:] + 1) % 7], 1)
    if not torch.allclose(model(first)[:, :-1], model(second)[:, :-1], atol=1e-5):
        raise Wrong("Alone your block is right, but inside a GPT a token sees those behind it.")
    x = inputs.normal(2, 5, 6)
    mask = torch.tensor([True, True, True, False, False])[None, None, None]
    padded, alone = x, x[:, :3]
    for block in blocks:
        padded, alone = block(padded, mask), block(alone)
    if not torch.allclose(padded[:, :3], alone, atol=1e-5):
        raise Wrong("Alone your block is right, but in an encoder padding changes real tokens.")


@exercise.alternative
class BlockInSteps(encoder.TransformerBlock):
    """Each version below does one of these steps otherwise."""

    def forward(self, x, mask=None):
        return self.think(self.attend(x, mask))

    def attend(self, x, mask):
        return self.step(x, lambda stream: self.attention(stream, mask=mask), self.norm1)

    def think(self, x):
        return self.step(x, self.feed_forward, self.norm2)

    def step(self, x, sublayer, norm):
        return encoder.residual_step(x, sublayer, norm, self.norm_first)


@exercise.mistake(
    "You use `self.norm1` in both steps. Each step has a norm of its own, with its own "
    "gains: the second is `self.norm2`."
)
class OneNormForBoth(BlockInSteps):
    def think(self, x):
        return self.step(x, self.feed_forward, self.norm1)


@exercise.mistake(
    "You use `self.norm2` around attention and `self.norm1` around the feed-forward net. "
    "Weights of other models would land in the wrong place."
)
class NormsSwapped(BlockInSteps):
    def step(self, x, sublayer, norm):
        return super().step(x, sublayer, self.norm2 if norm is self.norm1 else self.norm1)


@exercise.mistake(
    "Your feed-forward net reads the block's input, beside attention. (Some models do so, "
    "to save time.) Here it reads what attention has just written: the steps follow each "
    "other."
)
class FfnReadsOldX(BlockInSteps):
    def forward(self, x, mask=None):
        return self.attend(x, mask) + self.think(x) - x


@exercise.mistake(
    "In pre-norm your feed-forward net reads the block's input, beside attention; your post-norm "
    "is right. In both it reads what attention has just written: the steps follow each other."
)
class FfnReadsOldXInPreNorm(FfnReadsOldX):
    def forward(self, x, mask=None):
        return super().forward(x, mask) if self.norm_first else BlockInSteps.forward(self, x, mask)


@exercise.mistake(
    "You compute the attention step and then go on with the old `x`, so it has no effect. "
    "Give the second step what the first returned."
)
class AttentionResultLost(BlockInSteps):
    def forward(self, x, mask=None):
        return self.think(x)


@exercise.mistake(
    "Your second step adds the block's input, not the stream after attention, so what "
    "attention wrote is lost. Add to what the first step returned."
)
class AddsFirstInput(BlockInSteps):
    def forward(self, x, mask=None):
        first = self.attend(x, mask)
        if self.norm_first:
            return x + self.feed_forward(self.norm2(first))
        return self.norm2(x + self.feed_forward(first))


@exercise.mistake(
    "You pass the stream through both sublayers without adding to it. `residual_step` adds."
)
class ForgotResidual(BlockInSteps):
    def step(self, x, sublayer, norm):
        return sublayer(norm(x)) if self.norm_first else norm(sublayer(x))


@exercise.mistake(
    "You norm the stream itself and add to that. With pre-norm only the sublayer reads the "
    "norm: x + f(norm(x))."
)
class ResidualFromNormed(BlockInSteps):
    def step(self, x, sublayer, norm):
        x = norm(x) if self.norm_first else x
        return x + sublayer(x) if self.norm_first else norm(x + sublayer(x))


@exercise.mistake(
    "You do not pass the mask on, so every token sees every other: the future, and padding too."
)
class MaskNotPassedOn(BlockInSteps):
    def attend(self, x, mask):
        return super().attend(x, None)


@exercise.mistake(
    "You call `self.attention(…, mask)`, but its second argument is `memory`. Pass the "
    "mask by name: `mask=mask`."
)
class MaskAsMemory(BlockInSteps):
    def attend(self, x, mask):
        return self.step(x, lambda stream: self.attention(stream, mask), self.norm1)


@exercise.mistake(
    "You give `residual_step` what attention returned. It wants the function, and calls it "
    "on what it has normed: `partial(self.attention, mask=mask)`."
)
class CallsAttentionItself(BlockInSteps):
    def attend(self, x, mask):
        return self.step(x, self.attention(x, mask=mask), self.norm1)


@exercise.mistake(
    "You keep the mask of the first call. The next text has another one: use the `mask` that "
    "you are given, each time."
)
class KeepsTheFirstMask(BlockInSteps):
    kept = None

    def attend(self, x, mask):
        self.kept = mask if self.kept is None else self.kept
        return super().attend(x, self.kept)


@exercise.mistake(
    "A call without a mask gets that of an earlier call, which you keep. Without a mask all tokens "
    "may be looked at: pass `mask` on as it is, None too."
)
class KeepsTheLastMask(BlockInSteps):
    kept = None

    def attend(self, x, mask):
        self.kept = self.kept if mask is None else mask
        return super().attend(x, self.kept)


@exercise.mistake(
    "Without a mask you make up a causal one. No mask means that every token may look at all: pass "
    "`mask` on as it is, None too."
)
class CausalWithoutMask(BlockInSteps):
    def attend(self, x, mask):
        return super().attend(x, blocks.causal(x.shape[1]) if mask is None else mask)


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always pre-norm. `residual_step` takes "
    "it as its last argument."
)
class NormFirstIgnored(BlockInSteps):
    def step(self, x, sublayer, norm):
        return x + sublayer(norm(x))


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always post-norm. `residual_step` "
    "takes it as its last argument."
)
class AlwaysPostNorm(BlockInSteps):
    def step(self, x, sublayer, norm):
        return norm(x + sublayer(x))


@exercise.mistake(
    "Your feed-forward net comes before attention. First look around, then work on what was found."
)
class FeedForwardFirst(BlockInSteps):
    def forward(self, x, mask=None):
        return self.attend(self.think(x), mask)


@exercise.mistake(
    "You return after attention. The feed-forward net is the second half of the block."
)
class NoFeedForward(BlockInSteps):
    def think(self, x):
        return x


@exercise.mistake("You never use the norms. Each step has one.")
class NoNorms(BlockInSteps):
    def step(self, x, sublayer, norm):
        return x + sublayer(x)


@exercise.mistake(
    "Queries come from the normed stream, but keys and values from `x` as it was. In "
    "self-attention all three come from the same tensor: give `self.attention` one."
)
class AttentionReadsUnnormed(BlockInSteps):
    def attend(self, x, mask):
        return self.step(x, lambda stream: self.attention(stream, x, mask=mask), self.norm1)


@exercise.mistake(
    "You take `weight` and `bias` out of the norms and call `layer_norm` yourself. A block "
    "may be given another norm: call `self.norm1(…)`."
)
class ReachesIntoNorms(BlockInSteps):
    def step(self, x, sublayer, norm):
        own = lambda stream: encoder.layer_norm(stream, norm.weight, norm.bias)  # noqa: E731
        return super().step(x, sublayer, own)


@exercise.mistake(
    "You look at `self.norm_first` in the first step only: the second is always pre-norm. "
    "`residual_step` takes it as its last argument, both times."
)
class SecondStepAlwaysPreNorm(BlockInSteps):
    def think(self, x):
        return x + self.feed_forward(self.norm2(x))


blocks.add_both(
    exercise,
    (OneNormForBoth, NoFeedForward, MaskNotPassedOn),
    (NormFirstIgnored, AlwaysPostNorm, ForgotResidual, ResidualFromNormed),
)
blocks.add_both(exercise, (FeedForwardFirst, FfnReadsOldX), (MaskNotPassedOn, NormFirstIgnored))
blocks.add_both(exercise, (OneNormForBoth,), (MaskNotPassedOn,))


@exercise.alternative
class BlockInBranches(encoder.TransformerBlock):
    """Right: both orders are written out."""

    def forward(self, x, mask=None):
        if self.norm_first:
            x = x + self.attention(self.norm1(x), mask=mask)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, None, mask))
        return self.norm2(x + self.feed_forward(x))


@exercise.alternative
class BlockInALoop(encoder.TransformerBlock):
    """Right: two sublayers and two norms, one step for each pair; the memory is said to be x."""

    def forward(self, x, mask=None):
        def attend(stream):
            return self.attention(stream, stream, mask=mask)

        pairs = ((attend, self.norm1), (self.feed_forward, self.norm2))
        for sublayer, norm in pairs:
            written = sublayer(norm(x) if self.norm_first else x)
            x = torch.add(x, written)
            x = x if self.norm_first else norm(x)
        return x
