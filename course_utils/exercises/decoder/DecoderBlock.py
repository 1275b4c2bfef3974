"""decoder.DecoderBlock: it reads itself, then the memory."""

from collections.abc import Sequence
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import blocks, inputs, layers, points
from course_utils.exercises.decoder import shared
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.projection import Embedding, Linear

exercise = Exercise(
    "decoder.DecoderBlock",
    used_by="`decoder_block`, and so by every layer of the decoder in `Seq2Seq`",
    hints=(
        "Three residual steps: self-attention with `self.norm1`, attention to the memory with "
        "`self.norm2`, feed-forward with `self.norm3`.",
        "The first two steps have a mask each. `partial(self.self_attention, mask=self_mask)` is a "
        "function of one argument, as `encoder.residual_step` wants it.",
        "In the second step the stream asks and the memory is asked: "
        "`partial(self.cross_attention, memory=memory, mask=memory_mask)`.",
        "The memory is used as it is. It comes out of the encoder, which has normed it already.",
    ),
)


def _simple_parts() -> dict[str, nn.Module]:
    attentions = {
        "self_attention": blocks.MeanAttention(),
        "cross_attention": blocks.MeanAttention(),
    }
    norms = {"norm1": nn.Tanh(), "norm2": nn.Sigmoid(), "norm3": nn.Softsign()}
    return attentions | {"feed_forward": Linear(2, 2)} | norms


def _simple_block_by_hand(
    norm_first: bool,
    x: Tensor,
    memory: Tensor,
    self_mask: None,
    memory_mask: None,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    x = x + (torch.tanh(x) if norm_first else x).mean(1, keepdim=True)
    x = x if norm_first else torch.tanh(x)
    x = x + memory.mean(1, keepdim=True)
    x = x if norm_first else torch.sigmoid(x)
    made = F.linear(F.softsign(x) if norm_first else x, weight, bias)
    return x + made if norm_first else F.softsign(x + made)


@exercise.cases
def cases() -> list[Case]:
    block_case = partial(blocks.block_case, exercise.name)

    def simple(title: str, norm_first: bool, point: str = "") -> Case:
        arguments = {
            "x": torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]),
            "memory": torch.tensor([[[2.0, 2.0], [0.0, -4.0], [1.0, -1.0]]]),
            "self_mask": None,
            "memory_mask": None,
            "feed_forward.weight": torch.tensor([[1.0, 0.0], [1.0, 2.0]]),
            "feed_forward.bias": torch.tensor([0.0, 1.0]),
        }
        oracle = partial(_simple_block_by_hand, norm_first)
        return block_case(title, _simple_parts, oracle, arguments, norm_first, point=point)

    def case(
        title: str,
        n_heads: int,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        point: str = "",
        norm_first: bool = True,
        earlier: Sequence[dict[str, Tensor]] = (),
    ) -> Case:
        names = "self_attention cross_attention"
        make_parts = partial(layers.block_parts, x.shape[-1], n_heads, names)
        weights = layers.random_weights(make_parts(), x.dtype)
        given = {"x": x, "memory": memory, "self_mask": self_mask, "memory_mask": memory_mask}

        def oracle(*values: Tensor) -> Tensor:
            named = dict(zip(weights, values[len(given) :], strict=True))
            return shared.decoder_block_by_torch(n_heads, norm_first, named, *values[: len(given)])

        return block_case(title, make_parts, oracle, given | weights, norm_first, earlier, point)

    normal, boolean, double = inputs.normal, inputs.boolean, torch.float64
    x, memory, causal = normal(2, 4, 6), normal(2, 5, 6, seed=1), blocks.causal(4)
    padding = torch.tensor([[True] * 3 + [False] * 2, [True] * 4 + [False]])[:, None, None]
    masks = causal, padding
    for_heads, for_memory = boolean(2, 3, 4, 4), boolean(3, 4, 5, seed=1)
    before = {
        "x": normal(2, 4, 6, seed=2),
        "memory": normal(2, 5, 6, seed=3),
        "self_mask": causal.T,
        "memory_mask": padding.flip(-1),
    }
    longer = {"x": normal(2, 8, 6), "memory": normal(2, 9, 6), "self_mask": blocks.causal(8)}
    others = [longer, before]
    of_target = (
        "Self-attention gets the `self_mask` of this call as it is, however many axes it has, or "
        "None. Nothing is kept from an earlier call."
    )
    of_memory = (
        "Cross-attention gets the `memory` and the `memory_mask` of this call as they are, however "
        "many axes the mask has, or None. Nothing is kept from an earlier call."
    )
    lengths = (
        "Queries come from `x`, keys and values from `memory`, which may be shorter, longer or as "
        "long as `x`."
    )
    post = points.POST_NORM

    def again(how: str, self_mask: Tensor | None, memory_mask: Tensor | None, point: str) -> Case:
        masks = self_mask, memory_mask
        return case(f"the same block again, {how}", 3, x, memory, *masks, point, earlier=others)

    return [
        simple("both attentions are means, each norm another function", True),
        simple("the same, post-norm", False, post),
        case("the usual parts, no masks", 3, x, memory),
        case("the usual parts, a longer target", 2, normal(2, 7, 6), memory),
        case("post-norm", 3, x, memory, point=post, norm_first=False),
        case("a causal mask", 2, x, memory, causal, point=of_target),
        case("padding in the memory", 3, x, memory, None, padding, of_memory),
        case("both masks, post-norm", 2, x, memory, *masks, post, norm_first=False),
        case("as long as the memory", 2, x, memory[:, :4], None, boolean(2, 1, 4, 4), of_memory),
        case("a self mask for each head", 3, x, memory, for_heads, point=of_target),
        case("a memory mask for each head", 3, x, memory, None, for_memory, of_memory),
        case("a memory that is shorter", 3, x, memory[:, :2], point=lengths),
        again("with another self mask", causal, None, of_target),
        again("with another memory mask", None, padding, of_memory),
        again("without masks", None, None, of_memory),
        case(
            "one token, one to read",
            2,
            normal(3, 1, 4),
            normal(3, 1, 4, seed=1),
            point=points.AXIS_OF_ONE,
        ),
        case(
            "transposed views",
            2,
            normal(2, 6, 4).mT,
            normal(2, 6, 5, seed=1).mT,
            point=points.OTHER_ORDER,
        ),
        case(
            "float64",
            3,
            normal(2, 4, 6, dtype=double),
            normal(2, 5, 6, seed=1, dtype=double),
            point=points.FLOAT64,
        ),
    ]


@exercise.holds
def _works_inside_a_model(part: Part) -> None:
    with mock.patch.object(decoder, "DecoderBlock", part):
        blocks = [decoder.decoder_block(6, 3) for _ in range(2)]
    embed, read = Embedding(7, 6), encoder.Encoder(Embedding(8, 6), [], nn.Identity())
    model = decoder.Seq2Seq(read, embed, blocks, encoder.LayerNorm(6), Linear(6, 7))
    source, target = inputs.integers(2, 5, below=8), inputs.integers(2, 4, below=7)
    scores = model(source, target)
    other = torch.cat([target[:, :-1], (target[:, -1:] + 1) % 7], 1)
    if not torch.allclose(model(source, other)[:, :-1], scores[:, :-1], atol=1e-5):
        raise Wrong("Alone your block is right, but inside a model a token sees those behind it.")
    if torch.allclose(model((source + 1) % 8, target), scores, atol=1e-5):
        raise Wrong("Alone your block is right, but inside a model the source has no influence.")


@exercise.alternative
class DecoderSteps(decoder.DecoderBlock):
    """Each version below does one of these steps otherwise."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.look_back(x, self_mask, memory_mask)
        x = self.read(x, memory, self_mask, memory_mask)
        return self.think(x)

    def look_back(self, x, self_mask, memory_mask):
        return self.step(x, lambda t: self.self_attention(t, t, self_mask), self.norm1)

    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(t, memory, memory_mask), self.norm2)

    def think(self, x):
        return self.step(x, self.feed_forward, self.norm3)

    def step(self, x, sublayer, norm):
        return x + sublayer(norm(x)) if self.norm_first else norm(x + sublayer(x))


@exercise.mistake(
    "In the second step the memory asks and your target is asked. The result would have "
    "the length of the source. Queries come from `x`."
)
class SwappedQueryMemory(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(memory, t, memory_mask), self.norm2)


@exercise.mistake(
    "You use `self_mask` for the memory. The source is known as a whole, every token may "
    "look at all of it: its mask is `memory_mask`."
)
class CausalMaskOnMemory(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, self_mask)


@exercise.mistake(
    "Without a `memory_mask` you use `self_mask` for the memory. None means that all of the source "
    "may be read: pass it on as it is."
)
class SelfMaskWhereThereIsNone(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, self_mask if memory_mask is None else memory_mask)


@exercise.mistake(
    "In the second step the stream itself asks, not what the step has made of it: your function "
    "does not use its argument. In pre-norm that argument is the normed stream: "
    "`lambda t: self.cross_attention(t, memory, memory_mask)`."
)
class QueriesNotNormed(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(x, memory, memory_mask), self.norm2)


@exercise.mistake(
    "You swapped the masks: `self_mask` is for the first step, `memory_mask` for the second."
)
class MasksSwapped(DecoderSteps):
    def look_back(self, x, self_mask, memory_mask):
        return super().look_back(x, memory_mask, None)

    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, self_mask)


@exercise.mistake(
    "Your second step asks the target again and never reads `memory`. Give it to "
    "`self.cross_attention`, with its mask."
)
class SelfAttentionTwice(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(t, mask=self_mask), self.norm2)


@exercise.mistake(
    "You give the second step its mask but not the memory, so the target asks itself "
    "again. Pass `memory=memory` on."
)
class MemoryNotPassedOn(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(t, mask=memory_mask), self.norm2)


@exercise.mistake(
    "You keep the memory of the first call, and answer every later text from it. Each call brings "
    "a memory of its own."
)
class KeepsTheFirstMemory(DecoderSteps):
    kept = None

    def read(self, x, memory, self_mask, memory_mask):
        self.kept = memory if self.kept is None else self.kept
        return super().read(x, self.kept, self_mask, memory_mask)


@exercise.mistake(
    "You keep `self_mask` of the first call. The next text has another one: use the mask that you "
    "are given, each time."
)
class KeepsTheFirstMask(DecoderSteps):
    kept = None

    def look_back(self, x, self_mask, memory_mask):
        self.kept = self_mask if self.kept is None else self.kept
        return super().look_back(x, self.kept, memory_mask)


@exercise.mistake("You leave out the second step, so the source has no influence.")
class NeverReads(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return x


@exercise.mistake(
    "You use `self.self_attention` for the memory too. Looking back and reading are two "
    "things to learn: the second step has `self.cross_attention`."
)
class SameAttentionForBoth(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.self_attention(t, memory, memory_mask), self.norm2)


@exercise.mistake(
    "You look back with `self.cross_attention` and read with `self.self_attention`. "
    "Weights of other models would land in the wrong place."
)
class AttentionsSwapped(DecoderSteps):
    def look_back(self, x, self_mask, memory_mask):
        return self.step(x, lambda t: self.cross_attention(t, mask=self_mask), self.norm1)

    def read(self, x, memory, self_mask, memory_mask):
        return self.step(x, lambda t: self.self_attention(t, memory, memory_mask), self.norm2)


@exercise.mistake("You do not pass `self_mask` on, so every target token sees those behind it.")
class SelfMaskNotPassedOn(DecoderSteps):
    def look_back(self, x, self_mask, memory_mask):
        return super().look_back(x, None, None)


@exercise.mistake("You do not pass `memory_mask` on, so padding in the source is read.")
class MemoryMaskNotPassedOn(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, None)


@exercise.mistake(
    "You pass neither mask on: `self_mask` goes to the first step, `memory_mask` to the second."
)
class NoMasksPassedOn(DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        return super().forward(x, memory)


@exercise.mistake(
    "You norm the memory. Only what a sublayer reads of the stream is normed: the encoder "
    "ends with a norm of its own."
)
class MemoryNormed(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        memory = self.norm2(memory) if self.norm_first else memory
        return super().read(x, memory, self_mask, memory_mask)


@exercise.mistake(
    "You norm the memory, in pre-norm and in post-norm. Only the stream is normed: the encoder "
    "ends with a norm of its own."
)
class MemoryAlwaysNormed(DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, self.norm2(memory), self_mask, memory_mask)


@exercise.mistake(
    "You read the memory before you look back. First self-attention, then the memory."
)
class ReadsTheMemoryFirst(DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.read(x, memory, self_mask, memory_mask)
        return self.think(self.look_back(x, self_mask, memory_mask))


@exercise.mistake("You return after the two attentions. The third step is the feed-forward net.")
class NoFeedForward(DecoderSteps):
    def think(self, x):
        return x


@exercise.mistake("You use `self.norm1` in all steps. Each has its own: norm1, norm2, norm3.")
class OneNormForAll(DecoderSteps):
    def step(self, x, sublayer, norm):
        return super().step(x, sublayer, self.norm1)


@exercise.mistake("Your feed-forward step uses `self.norm2`. Its own is `self.norm3`.")
class SecondNormAgain(DecoderSteps):
    def think(self, x):
        return self.step(x, self.feed_forward, self.norm2)


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always pre-norm. "
    "`encoder.residual_step` takes it as its last argument."
)
class NormFirstIgnored(DecoderSteps):
    def step(self, x, sublayer, norm):
        return x + sublayer(norm(x))


@exercise.mistake(
    "You do not look at `self.norm_first`: yours is always post-norm. "
    "`encoder.residual_step` takes it as its last argument."
)
class AlwaysPostNorm(DecoderSteps):
    def step(self, x, sublayer, norm):
        return norm(x + sublayer(x))


@exercise.mistake(
    "You pass the stream through the sublayers without adding to it. `encoder.residual_step` adds."
)
class ForgotResidual(DecoderSteps):
    def step(self, x, sublayer, norm):
        return sublayer(norm(x)) if self.norm_first else norm(sublayer(x))


@exercise.mistake(
    "You look at `self.norm_first` in the first step only: those after it are always pre-norm. "
    "`encoder.residual_step` takes it as its last argument, each time."
)
class LaterStepsAlwaysPreNorm(DecoderSteps):
    def step(self, x, sublayer, norm):
        if norm is self.norm1:
            return super().step(x, sublayer, norm)
        return x + sublayer(norm(x))


blocks.add_both(
    exercise,
    (SelfMaskNotPassedOn, MemoryMaskNotPassedOn, CausalMaskOnMemory, MasksSwapped, NoFeedForward),
    (NormFirstIgnored, AlwaysPostNorm, OneNormForAll, ForgotResidual),
)
blocks.add_both(exercise, (SelfMaskNotPassedOn, MemoryMaskNotPassedOn), (SecondNormAgain,))


@exercise.alternative
class DecoderInBranches(decoder.DecoderBlock):
    """Right: both orders are written out."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        if self.norm_first:
            x = x + self.self_attention(self.norm1(x), mask=self_mask)
            x = x + self.cross_attention(self.norm2(x), memory, mask=memory_mask)
            return x + self.feed_forward(self.norm3(x))
        x = self.norm1(x + self.self_attention(x, mask=self_mask))
        x = self.norm2(x + self.cross_attention(x, memory, mask=memory_mask))
        return self.norm3(x + self.feed_forward(x))
