"""encoder.TransformerBlock: attention, feed-forward, two norms, two residuals."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import inputs, layers
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


MakeParts = Callable[[], dict[str, nn.Module]]


def _use_block(
    make_parts: MakeParts,
    part: Part,
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    block = part(**make_parts(), norm_first=norm_first)
    given = {} if mask is None else {"mask": mask}
    return layers.call(block, weights, x, **given)


def _use_block_again(
    make_parts: MakeParts,
    part: Part,
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    """As `_use_block`, after the same block has answered for a longer sequence."""
    block = part(**make_parts(), norm_first=norm_first)
    longer = torch.cat([x, x], dim=1)
    layers.call(block, weights, longer, torch.ones(longer.shape[1], longer.shape[1]).bool())
    return layers.call(block, weights, x, mask)


def _simple_parts() -> dict[str, nn.Module]:
    return {
        "attention": layers.MeanAttention(),
        "feed_forward": Linear(3, 3),
        "norm1": encoder.LayerNorm(3),
        "norm2": encoder.LayerNorm(3),
    }


def _other_parts() -> dict[str, nn.Module]:
    return {
        "attention": layers.MeanAttention(),
        "feed_forward": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)),
        "norm1": nn.RMSNorm(4),
        "norm2": nn.RMSNorm(4),
    }


SIMPLE_BLOCK = {
    "feed_forward.weight": torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]),
    "feed_forward.bias": torch.tensor([0.0, 1.0, 0.0]),
    "norm1.weight": torch.tensor([1.0, 2.0, 3.0]),
    "norm1.bias": torch.tensor([0.0, 5.0, 0.0]),
    "norm2.weight": torch.tensor([2.0, 2.0, -1.0]),
    "norm2.bias": torch.tensor([0.0, 0.0, 4.0]),
}


def _mean_of_visible(x: Tensor, mask: Tensor | None) -> Tensor:
    """For every token the mean of those that it may look at, one at a time."""
    tokens = range(x.shape[1])
    rows = [[j for j in tokens if mask is None or mask[i, j]] for i in tokens]
    return torch.stack([x[:, visible].mean(1) for visible in rows], 1)


def _simple_block_by_torch(
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    weight: Tensor,
    bias: Tensor,
    *norms: Tensor,
) -> Tensor:
    gain1, bias1, gain2, bias2 = norms
    normed = F.layer_norm(x, gain1.shape, gain1, bias1)
    x = x + _mean_of_visible(normed, mask)
    return x + F.linear(F.layer_norm(x, gain2.shape, gain2, bias2), weight, bias)


def _other_block_by_torch(
    x: Tensor, mask: Tensor | None, norm_first: bool, *weights: Tensor
) -> Tensor:
    w_up, b_up, w_down, b_down, gain1, gain2 = weights
    x = F.rms_norm(x + _mean_of_visible(x, mask), gain1.shape, gain1)
    made = F.linear(torch.tanh(F.linear(x, w_up, b_up)), w_down, b_down)
    return F.rms_norm(x + made, gain2.shape, gain2)


def _usual_block_by_torch(
    n_heads: int,
    names: list[str],
    x: Tensor,
    mask: Tensor | None,
    norm_first: bool,
    *weights: Tensor,
) -> Tensor:
    return layers.block_by_torch(
        x, mask, norm_first, n_heads, dict(zip(names, weights, strict=True))
    )


def _block_call(mask: Tensor | None, norm_first: bool) -> str:
    given = "x" if mask is None else "x, mask=mask"
    return f"TransformerBlock(attention, feed_forward, norm1, norm2, {norm_first})({given})"


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str,
        x: Tensor,
        n_heads: int,
        mask: Tensor | None = None,
        norm_first: bool = True,
        use: Part = _use_block,
    ) -> Case:
        make_parts = partial(layers.block_parts, x.shape[-1], n_heads)
        weights = layers.random_weights(make_parts(), x.dtype)
        oracle = partial(_usual_block_by_torch, n_heads, list(weights))
        arguments = {"x": x, "mask": mask, "norm_first": norm_first, **weights}
        return Case(
            title, arguments, oracle, partial(use, make_parts), _block_call(mask, norm_first)
        )

    normal = inputs.normal
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    padding = torch.tensor([[True] * 3 + [False], [True] * 2 + [False] * 2])[:, None, None]
    small = {
        "x": torch.tensor([[[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]]),
        "mask": torch.ones(2, 2, dtype=torch.bool).tril(),
        "norm_first": True,
    }
    other = {"x": normal(2, 4, 4), "mask": causal, "norm_first": False}
    other |= layers.random_weights(_other_parts())
    x = normal(2, 4, 6)
    return [
        Case(
            "attention is a mean, the feed-forward net one map",
            small | SIMPLE_BLOCK,
            _simple_block_by_torch,
            partial(_use_block, _simple_parts),
            _block_call(causal, True),
        ),
        case("the usual parts, no mask", x, 3),
        case("post-norm", x, 3, norm_first=False),
        case("a causal mask", x, 2, causal),
        case("post-norm with a causal mask", x, 2, causal, norm_first=False),
        case("padding", x, 3, padding),
        case("one head, one sentence", normal(1, 4, 5), 1, causal),
        case("a mask for each head", x, 3, inputs.boolean(2, 3, 4, 4)),
        Case(
            "other parts: RMS norm, tanh",
            other,
            _other_block_by_torch,
            partial(_use_block, _other_parts),
            _block_call(causal, False),
        ),
        case("a second call of the same block", x, 3, causal, use=_use_block_again),
        case("one token", normal(3, 1, 6), 3),
        case("a transposed view", normal(2, 6, 4).mT, 2, causal),
        case("float64", normal(2, 4, 6, dtype=torch.float64), 2, causal),
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


@exercise.mistake(
    "You use `self.norm1` in both steps. Each step has a norm of its own, with its own "
    "gains: the second is `self.norm2`."
)
class OneNormForBoth(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm1, self.norm_first)


@exercise.mistake(
    "You use `self.norm2` around attention and `self.norm1` around the feed-forward net. "
    "Weights of other models would land in the wrong place."
)
class NormsSwapped(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, self.norm2, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm1, self.norm_first)


@exercise.mistake(
    "Your feed-forward net reads the block's input, beside attention. (Some models do so, "
    "to save time.) Here it reads what attention has just written: the steps follow each "
    "other."
)
class FfnReadsOldX(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return first + encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first) - x


@exercise.mistake(
    "You compute the attention step and then go on with the old `x`, so it has no effect. "
    "Give the second step what the first returned."
)
class AttentionResultLost(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


@exercise.mistake(
    "Your second step adds the block's input, not the stream after attention, so what "
    "attention wrote is lost. Add to what the first step returned."
)
class AddsFirstInput(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        if self.norm_first:
            return x + self.feed_forward(self.norm2(first))
        return self.norm2(x + self.feed_forward(first))


@exercise.mistake(
    "You pass the stream through both sublayers without adding to it. `residual_step` adds."
)
class ForgotResidual(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.attention(self.norm1(x), mask=mask)
            return self.feed_forward(self.norm2(x))
        x = self.norm1(self.attention(x, mask=mask))
        return self.norm2(self.feed_forward(x))


@exercise.mistake(
    "You norm the stream itself and add to that. With pre-norm only the sublayer reads the "
    "norm: x + f(norm(x))."
)
class ResidualFromNormed(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        if not self.norm_first:
            return super().forward(x, mask)
        x = self.norm1(x)
        x = self.norm2(x + self.attention(x, mask=mask))
        return x + self.feed_forward(x)


@exercise.mistake(
    "You do not pass the mask on, so every token sees every other: the future, and padding too."
)
class MaskNotPassedOn(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = encoder.residual_step(x, self.attention, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


@exercise.mistake(
    "You call `self.attention(…, mask)`, but its second argument is `memory`. Pass the "
    "mask by name: `mask=mask`."
)
class MaskAsMemory(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = lambda stream: self.attention(stream, mask)  # noqa: E731
        x = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


@exercise.mistake(
    "You give `residual_step` what attention returned. It wants the function, and calls it "
    "on what it has normed: `partial(self.attention, mask=mask)`."
)
class CallsAttentionItself(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attended = self.attention(x, mask=mask)
        x = encoder.residual_step(x, attended, self.norm1, self.norm_first)
        return encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always pre-norm. `residual_step` takes "
    "it as its last argument."
)
class NormFirstIgnored(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.feed_forward(self.norm2(x))


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always post-norm. `residual_step` "
    "takes it as its last argument."
)
class AlwaysPostNorm(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = self.norm1(x + self.attention(x, mask=mask))
        return self.norm2(x + self.feed_forward(x))


@exercise.mistake(
    "Your feed-forward net comes before attention. First look around, then work on what was found."
)
class FeedForwardFirst(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, self.feed_forward, self.norm2, self.norm_first)
        return encoder.residual_step(x, attend, self.norm1, self.norm_first)


@exercise.mistake(
    "You return after attention. The feed-forward net is the second half of the block."
)
class NoFeedForward(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = partial(self.attention, mask=mask)
        return encoder.residual_step(x, attend, self.norm1, self.norm_first)


@exercise.mistake("You never use the norms. Each step has one.")
class NoNorms(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        x = x + self.attention(x, mask=mask)
        return x + self.feed_forward(x)


@exercise.mistake(
    "Queries come from the normed stream, but keys and values from `x` as it was. In "
    "self-attention all three come from the same tensor: give `self.attention` one."
)
class AttentionReadsUnnormed(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        attend = lambda stream: self.attention(stream, x, mask=mask)  # noqa: E731
        first = encoder.residual_step(x, attend, self.norm1, self.norm_first)
        return encoder.residual_step(first, self.feed_forward, self.norm2, self.norm_first)


@exercise.mistake(
    "You take `weight` and `bias` out of the norms and call `layer_norm` yourself. A block "
    "may be given another norm: call `self.norm1(…)`."
)
class ReachesIntoNorms(encoder.TransformerBlock):
    def forward(self, x, mask=None):
        def norm(layer):
            return lambda stream: encoder.layer_norm(stream, layer.weight, layer.bias)

        attend = partial(self.attention, mask=mask)
        x = encoder.residual_step(x, attend, norm(self.norm1), self.norm_first)
        return encoder.residual_step(x, self.feed_forward, norm(self.norm2), self.norm_first)


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
