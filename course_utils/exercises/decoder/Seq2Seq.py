"""decoder.Seq2Seq: one text is read, another is written."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from course_utils import decoder
from course_utils.exercises import blocks, inputs, layers, points
from course_utils.exercises.decoder import shared
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.projection import Linear

exercise = Exercise(
    "decoder.Seq2Seq",
    used_by="the model of this notebook that reads dates, and every encoder–decoder of the course",
    hints=(
        "Two halves. The encoder reads the source, once: what it returns is the memory. The rest "
        "is `forward` of `GPT`, for the target.",
        "`self.encoder(source, source_mask)` gives the memory. The target goes through "
        "`self.embed`.",
        "Each block gets four things: `block(x, memory, self_mask, source_mask)`. The self mask is "
        "`causal_mask(…)` of the target's length, moved to where the target is.",
        "After the blocks `self.norm`, then `self.head`, as in `GPT`.",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    call = "Seq2Seq(encoder, embed, blocks, norm, head)(source, target{})"

    def made(
        title: str,
        make: Callable[[], Mapping[str, nn.Module]],
        oracle: Callable[..., Tensor],
        given: Mapping[str, Tensor | None],
        weights: Mapping[str, Tensor],
        point: str,
        earlier: Sequence[Mapping[str, Tensor]] = (),
    ) -> Case:
        def expected(*values: Tensor) -> Tensor:
            named = dict(zip(weights, values[len(given) :], strict=True))
            return oracle(named, *values[: len(given)])

        use = partial(blocks.use, lambda part: part(**make()), earlier=earlier)
        said = call.format("" if given["source_mask"] is None else ", source_mask")
        return Case(title, {**given, **weights}, expected, use, said, point=point)

    def small(
        title: str,
        source: list[list[int]],
        target: list[list[int]],
        *factors: float,
        point: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        given = {
            "source": torch.tensor(source),
            "target": torch.tensor(target),
            "source_mask": None,
        }
        make = partial(shared.small_seq2seq_modules, factors)
        oracle = partial(shared.small_seq2seq_by_hand, factors)
        weights = {name: weight.to(dtype) for name, weight in shared.SMALL_SEQ2SEQ.items()}
        return made(title, make, oracle, given, weights, point)

    def case(
        title: str,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        point: str = "",
        n_blocks: tuple[int, int] = (1, 2),
        norm_first: bool = True,
        dtype: torch.dtype = torch.float32,
        earlier: Sequence[Mapping[str, Tensor]] = (),
    ) -> Case:
        make = partial(shared.seq2seq_modules, *n_blocks, norm_first)
        weights = layers.random_weights(make(), dtype)
        given = {"source": source, "target": target, "source_mask": source_mask}
        oracle = partial(shared.seq2seq_by_torch, norm_first)
        return made(title, make, oracle, given, weights, point, earlier)

    integers = inputs.integers
    source, target = integers(2, 6, below=9), integers(2, 4, below=7, seed=1)
    padding = torch.tensor([[True] * 4 + [False] * 2, [True] * 5 + [False]])[:, None, None]
    before = {
        "source": integers(2, 6, below=9, seed=2),
        "target": integers(2, 4, below=7, seed=3),
        "source_mask": padding.flip(-1),
    }
    longer = {"source": integers(1, 8, below=9), "target": integers(1, 7, below=7)}
    square = integers(2, 4, below=7, seed=4)
    short = {"source": integers(1, 3, below=9), "target": integers(1, 2, below=7)}
    others = [short, longer, before]
    long = integers(1, 70, below=3, seed=1).tolist()
    hides_padding = (
        "Two places look at the source, and both get the `source_mask` of this call as it is: the "
        "encoder, and every block. Nothing is kept from an earlier call."
    )
    of_target = (
        "The causal mask is for the target: as large as `target` has tokens, axis 1, however many "
        "the source has."
    )
    this_call = (
        "Every call reads its own source, and makes the causal mask for its own target. Nothing is "
        "kept."
    )
    any_length = (
        "A target may be longer than any size that you write down: ask `target` for its length."
    )

    def again(title: str, source_mask: Tensor | None, point: str) -> Case:
        return case(title, source, target, source_mask, point, earlier=others)

    return [
        small("three tokens are read, two are written", [[2, 0, 1]], [[1, 2]], 1.0, -3.0),
        small(
            "no decoder blocks at all",
            [[1, 0], [2, 2]],
            [[0, 1, 2], [2, 2, 1]],
            point=points.NO_BLOCKS,
        ),
        case("two decoder blocks", source, target),
        case("padding in the source", source, target, padding, hides_padding),
        case("two encoder blocks, one decoder block", source, target, n_blocks=(2, 1)),
        case("post-norm", source, target, point=points.BLOCKS_AS_GIVEN, norm_first=False),
        case("a source that is shorter", source[:, :2], target, point=of_target),
        case("as long as the source", square, target, point=of_target),
        small(
            "more than 64 tokens",
            [[2, 0, 1]],
            long,
            1.0,
            point=any_length,
            dtype=torch.float64,
        ),
        case(
            "one token each",
            integers(3, 1, below=9),
            integers(3, 1, below=7),
            point=points.AXIS_OF_ONE,
        ),
        again("the same model again, after other texts", None, this_call),
        again("the same model again, with padding", padding, hides_padding),
        case(
            "transposed views",
            integers(6, 2, below=9).T,
            integers(4, 2, below=7).T,
            point=points.OTHER_ORDER,
        ),
        case("float64", source, target, point=points.FLOAT64, dtype=torch.float64),
    ]


@exercise.holds
def _writes_from_left_to_right(part: Part) -> None:
    model = part(**shared.seq2seq_modules(1, 2, True))
    source, target = inputs.integers(2, 5, below=9), inputs.integers(2, 6, below=7)
    before = model(source, target)
    for place in range(1, 6):
        other = target.clone()
        other[:, place] = (target[:, place] + 1) % 7
        if not torch.equal(model(source, other)[:, :place], before[:, :place]):
            raise Wrong(
                f"Your numbers are right, but with another target token at place {place} the "
                "scores before it are not exactly the same. No target token may look ahead."
            )


@exercise.holds
def _is_the_same_in_eval_mode(part: Part) -> None:
    model = part(**shared.seq2seq_modules(1, 2, True))
    source, target = inputs.integers(2, 5, below=9), inputs.integers(2, 6, below=7)
    trained, used = model.train()(source, target), model.eval()(source, target)
    if trained.shape != used.shape or not torch.allclose(trained, used, atol=1e-5):
        raise Wrong(
            "After `model.eval()` your model gives something else than before. The mask, and the "
            "scores of every target token, are needed whenever it is called: do not ask "
            "`self.training`."
        )


@exercise.holds
def _is_right_in_a_larger_model(part: Part) -> None:
    modules = shared.seq2seq_modules(3, 3, True)
    weights = layers.random_weights(modules)
    source, target = inputs.integers(3, 9, below=9), inputs.integers(3, 8, below=7)
    mask = torch.arange(9)[None, None, None] < torch.tensor([9, 5, 7])[:, None, None, None]
    with torch.no_grad():
        wanted = shared.seq2seq_by_torch(True, weights, source, target, mask)
        seen = layers.call(part(**modules).eval(), weights, source, target, mask)
    if not torch.allclose(seen, wanted, rtol=1e-4, atol=1e-3):
        raise Wrong("Small models are right, but one of three and three blocks is not.")


class _Ones(nn.Module):
    """An embedding, or a whole encoder, that needs no numbers of its own."""

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.ones(*ids.shape, 3, device=ids.device)


class _SameDevice(nn.Module):
    """A block that computes nothing, but looks where its mask is."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        if self_mask.device != x.device:
            raise Wrong(
                "Your numbers are right, but on a graphics card your model would stop: the causal "
                "mask stays on the processor. Move it to where the target is: `.to(target.device)`."
            )
        return x


@exercise.holds
def _follows_its_tokens_to_other_devices(part: Part) -> None:
    """Tensors on the device "meta" have a shape and no numbers. Every computer has it."""
    head = Linear(3, 5, bias=False)  # with a bias torch imports its compiler for "meta"
    model = part(_Ones(), _Ones(), [_SameDevice()], nn.Identity(), head)
    for device in ("cpu", "meta"):
        ids = torch.zeros(2, 4, dtype=torch.long, device=device)
        model.to(device)(ids, ids)


@exercise.alternative
class ReadsThenWrites(decoder.Seq2Seq):
    """Each version below does one of these steps otherwise."""

    def forward(self, source, target, source_mask=None):
        memory = self.read(source, target, source_mask)
        x = self.run(self.embed(target), memory, self.mask(source, target), source_mask)
        return self.finish(x)

    def read(self, source, target, source_mask):
        return self.encoder(source, source_mask)

    def mask(self, source, target):
        n = target.shape[1]
        return torch.ones(n, n, dtype=torch.bool, device=target.device).tril()

    def run(self, x, memory, self_mask, source_mask):
        for block in self.blocks:
            x = block(x, memory, self_mask, source_mask)
        return x

    def finish(self, x):
        return self.head(self.norm(x))


@exercise.mistake(
    "Your target gets no causal mask, so every token sees the one that it must predict. Make one "
    "with `causal_mask(target.shape[1])`."
)
class NoSelfMask(ReadsThenWrites):
    def mask(self, source, target):
        return None


@exercise.mistake(
    "Your causal mask is turned round: target tokens see themselves and later ones. Use "
    "`causal_mask` as it is."
)
class MaskUpsideDown(ReadsThenWrites):
    def mask(self, source, target):
        return super().mask(source, target).T


@exercise.mistake(
    "Your causal mask is as large as the source: `source.shape[1]`. It is for the target, which "
    "looks back at itself."
)
class MaskOfTheSource(ReadsThenWrites):
    def mask(self, source, target):
        return decoder.causal_mask(source.shape[1])


@exercise.mistake(
    "You make a mask for as many tokens as there are texts: `target.shape[0]`. Tokens are axis 1."
)
class MaskOfTheBatch(ReadsThenWrites):
    def mask(self, source, target):
        return decoder.causal_mask(target.shape[0])


@exercise.mistake(
    "You keep the causal mask of the first call. The next target may be shorter or longer: make "
    "it in `forward`."
)
class KeepsTheFirstMask(ReadsThenWrites):
    kept = None

    def mask(self, source, target):
        self.kept = super().mask(source, target) if self.kept is None else self.kept
        return self.kept


@exercise.mistake(
    "You keep the memory of the first source and answer every later one from it. Each call reads "
    "its own source."
)
class KeepsTheFirstMemory(ReadsThenWrites):
    kept = None

    def read(self, source, target, source_mask):
        self.kept = super().read(source, target, source_mask) if self.kept is None else self.kept
        return self.kept


@exercise.mistake(
    "Your encoder reads the target. It is the source that is read; the target goes through "
    "`self.embed`."
)
class EncodesTheTarget(ReadsThenWrites):
    def read(self, source, target, source_mask):
        return self.encoder(target)


@exercise.mistake(
    "You swapped the texts: yours reads the target and writes the source. The scores must be "
    "[batch, target, vocabulary]."
)
class TextsSwapped(ReadsThenWrites):
    def forward(self, source, target, source_mask=None):
        return super().forward(target, source, source_mask)


@exercise.mistake(
    "You never call the encoder: the memory is `self.embed(source)`. That is the target's "
    "embedding. `self.encoder` has one of its own, and blocks."
)
class EmbedsTheSource(ReadsThenWrites):
    def read(self, source, target, source_mask):
        return self.embed(source)


@exercise.mistake(
    "Your encoder does not get `source_mask`, so it reads padding as if it were text. Pass it on: "
    "`self.encoder(source, source_mask)`."
)
class EncoderReadsPadding(ReadsThenWrites):
    def read(self, source, target, source_mask):
        return self.encoder(source)


@exercise.mistake(
    "Your blocks do not get `source_mask`, so cross-attention looks at padding. It is the last "
    "argument: `block(x, memory, self_mask, source_mask)`."
)
class BlocksReadPadding(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        return super().run(x, memory, self_mask, None)


@exercise.mistake(
    "You do not use `source_mask`. Two places look at the source: the encoder, and the "
    "cross-attention of every block. Both need it."
)
class PaddingIsRead(ReadsThenWrites):
    def forward(self, source, target, source_mask=None):
        return super().forward(source, target)


@exercise.mistake(
    "You swapped the masks: a block takes `self_mask` first, then the mask of the memory, which "
    "is `source_mask`."
)
class MasksSwapped(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        return super().run(x, memory, source_mask, self_mask)


@exercise.mistake(
    "You give `self_mask` to both attentions. The source is there as a whole: for the memory the "
    "mask is `source_mask`."
)
class CausalMaskOnMemory(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        return super().run(x, memory, self_mask, self_mask)


@exercise.mistake(
    "You hide target tokens whose number is 0, as if that were padding. Nobody said so: the mask "
    "of the target is the causal mask alone."
)
class HidesTargetsOfZero(ReadsThenWrites):
    def forward(self, source, target, source_mask=None):
        memory = self.read(source, target, source_mask)
        mask = self.mask(source, target) & (target != 0)[:, None, None]
        return self.finish(self.run(self.embed(target), memory, mask, source_mask))


@exercise.mistake(
    "Without a `source_mask` you hide source tokens whose number is 0. No mask means that all of "
    "the source is text: pass it on as it is, None too."
)
class GuessesTheSourceMask(ReadsThenWrites):
    def forward(self, source, target, source_mask=None):
        if source_mask is None:
            source_mask = (source != 0)[:, None, None]
        return super().forward(source, target, source_mask)


@exercise.mistake(
    "You norm the memory with `self.norm`. The encoder ends with a norm of its own: the memory is "
    "used as it is."
)
class MemoryNormed(ReadsThenWrites):
    def read(self, source, target, source_mask):
        return self.norm(super().read(source, target, source_mask))


@exercise.mistake(
    "Your blocks read the stream instead of the memory: the source has no influence. "
    "`block(x, memory, …)`."
)
class MemoryNeverRead(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        for block in self.blocks:
            x = block(x, x, self_mask, self_mask)
        return x


@exercise.mistake("You never call the blocks. The target is then continued without the source.")
class NoBlocks(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        return x


@exercise.mistake("You return from inside the loop, or use one block: the others never run.")
class FirstBlockOnly(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        for block in self.blocks[:1]:
            x = block(x, memory, self_mask, source_mask)
        return x


@exercise.mistake(
    "Every block of yours reads the embedding, so only the last one counts. Give each block what "
    "the one before it returned: `x = block(x, …)`."
)
class LastBlockOnly(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        result = x
        for block in self.blocks:
            result = block(x, memory, self_mask, source_mask)
        return result


@exercise.mistake("Your blocks run from the last to the first. Go through them in their order.")
class BlocksReversed(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        for block in reversed(self.blocks):
            x = block(x, memory, self_mask, source_mask)
        return x


@exercise.mistake(
    "You add the block's output to the stream. The block has done that already: write "
    "`x = block(x, …)`."
)
class AddsBlocks(ReadsThenWrites):
    def run(self, x, memory, self_mask, source_mask):
        for block in self.blocks:
            x = x + block(x, memory, self_mask, source_mask)
        return x


@exercise.mistake(
    "You leave out `self.norm` before the head. The stream has grown in every block, and the head "
    "was made for numbers of ordinary size."
)
class NoFinalNorm(ReadsThenWrites):
    def finish(self, x):
        return self.head(x)


@exercise.mistake("You return the normed stream. `self.head` makes a score for every token of it.")
class ForgotHead(ReadsThenWrites):
    def finish(self, x):
        return self.norm(x)


@exercise.mistake("You return probabilities. Return the scores: the loss takes the softmax itself.")
class ReturnsProbabilities(ReadsThenWrites):
    def finish(self, x):
        return torch.softmax(super().finish(x), -1)


@exercise.mistake(
    "You return the scores after the last token only. Training uses those of every place: "
    "[batch, target, vocabulary]."
)
class LastTokenOnly(ReadsThenWrites):
    def finish(self, x):
        return super().finish(x)[:, -1]


@exercise.mistake("You return the best token of every place. Return the scores of all tokens.")
class ReturnsTokens(ReadsThenWrites):
    def finish(self, x):
        return super().finish(x).argmax(-1)


blocks.add_both(
    exercise,
    (NoSelfMask, EncoderReadsPadding, BlocksReadPadding, PaddingIsRead, MasksSwapped),
    (NoFinalNorm, ReturnsProbabilities),
)
blocks.add_both(exercise, (EncoderReadsPadding, BlocksReadPadding), (NoSelfMask,))
blocks.add_both(exercise, (ReturnsProbabilities, LastTokenOnly), (NoFinalNorm,))


@exercise.alternative
class MaskByName(ReadsThenWrites):
    """Right: the mask is made by comparing places, and all goes by name."""

    def mask(self, source, target):
        places = torch.arange(target.size(-1), device=target.device)
        return (places[:, None] >= places)[None, None]

    def run(self, x, memory, self_mask, source_mask):
        for block in self.blocks:
            x = block(x=x, memory=memory, self_mask=self_mask, memory_mask=source_mask)
        return x


@exercise.alternative
class EncoderReadsAgain(ReadsThenWrites):
    """Right, and slow: the encoder reads the source once more for every block."""

    def forward(self, source, target, source_mask=None):
        x, mask = self.embed(target), self.mask(source, target)
        for block in self.blocks:
            x = block(x, self.encoder(source, mask=source_mask), mask, source_mask)
        return self.finish(x)
