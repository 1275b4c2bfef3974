"""sampling.read_on: only what is new is read."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from course_utils import decoder, modern, sampling
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.read_on",
    used_by="`CachedModel`: every token that it reads",
    hints=(
        "Write `GPT.forward` once more: embed, mask, blocks, norm, head. Two lines change.",
        "Embed the whole text and cut afterwards: `model.embed(ids)[:, start:]`. The other way "
        "round, the new tokens would stand at place 0.",
        "The queries are the new tokens, the keys are all tokens: "
        "`decoder.causal_mask(n_new, n_all)`.",
        "The blocks remember the tokens before `start`. They must not be given them again.",
    ),
)


class _Reader:
    """A small model. `after(ids)` is the same one whose attention has read a text."""

    def __init__(self, name: str, model: decoder.GPT):
        self.name = name
        self.model = model.eval()
        with torch.no_grad():
            for number, weight in enumerate(model.parameters()):
                size = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 1.0
                weight.copy_(2 * size * inputs.normal(*weight.shape, seed=number))

    def __repr__(self) -> str:
        return self.name

    def after(self, ids: Tensor) -> decoder.GPT:
        model = copy.deepcopy(self.model)
        for block in model.blocks:
            block.attention = sampling.CachedAttention(block.attention, sampling.KVCache(20))
        if ids.shape[1]:
            model(ids)
        return model


@torch.no_grad()
def _goes_on(part: Part, model: _Reader, ids: Tensor, start: int) -> Any:
    return part(model.after(ids[:, :start]), ids, start)


@torch.no_grad()
def _all_at_once(model: _Reader, ids: Tensor, start: int) -> Tensor:
    """Without a memory: the whole text is read, and what is known is left out."""
    return model.model(ids)[:, start:]


@exercise.cases
def cases() -> list[Case]:
    learned = _Reader("a GPT that learned its positions", decoder.gpt(7, 8, 2, 2, 20))
    turned = _Reader("a GPT that turns queries and keys", modern.modern_gpt(7, 8, 2, 2))
    pairs = _Reader("a GPT that looks up pairs of tokens", modern.modern_gpt(7, 8, 2, 2, 19))

    def case(
        title: str, model: _Reader, rows: int, tokens: int, start: int, point: str = ""
    ) -> Case:
        ids = inputs.integers(rows, tokens, below=7, seed=tokens)
        arguments = {"model": model, "ids": ids, "start": start}
        call = f"read_on(model, ids, {start})"
        return Case(title, arguments, _all_at_once, _goes_on, call, point=point)

    masked = (
        "All tokens from `start` on are new, often several. Each looks at all that was read, at "
        "itself and at the new ones before it: `causal_mask(n_new, n_all)`."
    )
    whole = (
        "`start` may be 0: all tokens are new and go through the blocks. `-0:` and tests like "
        "`if start` take another way there."
    )
    any_model = (
        "The model embeds as it wants to, without positions or with a look at the tokens before: "
        "call `model.embed` with the whole text, and cut what it gives."
    )
    return [
        case("one new token", learned, 1, 4, 3),
        case("one new token of several texts", learned, 3, 7, 6),
        case("as many texts as tokens", learned, 4, 4, 3),
        case("three new tokens", learned, 1, 6, 3, masked),
        case("several texts, several tokens", learned, 3, 7, 2, masked),
        case("as many texts as tokens, two new", learned, 4, 4, 2, masked),
        case("they are turned, several tokens", turned, 2, 7, 3, masked),
        case("nothing was read", learned, 2, 5, 0, whole),
        case("one token, nothing was read", learned, 2, 1, 0, whole),
        case("queries and keys are turned", turned, 2, 6, 5, any_model),
        case("pairs of tokens", pairs, 2, 6, 5, any_model),
    ]


class _ReadOn:
    """`read_on` in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, start):
        x = self.embed(model, ids, start)
        return self.read(model, x, self.mask(ids.shape[1], ids.shape[1] - start))

    def read(self, model, x, mask):
        for block in self.blocks(model):
            x = block(x, mask)
        return self.say(model, x)

    def embed(self, model, ids, start):
        return model.embed(ids)[:, start:]

    def mask(self, n_all, n_new):
        return torch.ones(n_new, n_all, dtype=torch.bool).tril(n_all - n_new)

    def blocks(self, model):
        return model.blocks

    def say(self, model, x):
        return model.head(model.norm(x))


mistake = shared.mistake_in_steps(exercise)


@mistake(
    "You cut before you embed, so the new tokens get the places 0, 1 …, and lose what is "
    "looked up together with the tokens before them. Embed all, then cut."
)
class PositionsRestartAtZero(_ReadOn):
    def embed(self, model, ids, start):
        return model.embed(ids[:, start:])


@mistake(
    "Your mask is square: new tokens times new tokens. The keys are all tokens: "
    "`decoder.causal_mask(n_new, n_all)`."
)
class SquareCausalMask(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_new)


@mistake(
    "You use the first rows of the square mask, so a new token sees hardly more than token "
    "0. The new tokens are the last rows."
)
class SquareCausalMaskOnOneQuery(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_all)[:n_new]


@mistake(
    "Without a mask several new tokens see each other, also those behind them. Only one "
    "alone needs none."
)
class NoMask(_ReadOn):
    def mask(self, n_all, n_new):
        return None


@mistake("Your mask is True where a token must not look.")
class MaskTurnedAround(_ReadOn):
    def mask(self, n_all, n_new):
        return ~super().mask(n_all, n_new)


@mistake("You swapped the sizes of the mask: first the queries, which are new, then all keys.")
class MaskSwapped(_ReadOn):
    def mask(self, n_all, n_new):
        return decoder.causal_mask(n_all, n_new)


@mistake("Your new tokens do not look at what was read before.")
class OnlyTheNewLook(_ReadOn):
    def mask(self, n_all, n_new):
        return super().mask(n_all, n_new) & (torch.arange(n_all) >= n_all - n_new)


@mistake(
    "You send the whole text through the blocks. They have read its beginning, and "
    "remember it twice now. Send `[:, start:]`."
)
class FeedsWholePromptAgain(_ReadOn):
    def __call__(self, model, ids, start):
        mask = decoder.causal_mask(ids.shape[1], start + ids.shape[1])
        return self.read(model, model.embed(ids), mask)


@mistake(
    "You send the whole text through the blocks and cut at the end. They have read its "
    "beginning, and remember it twice now. Cut before the blocks."
)
class FeedsWholePromptThenCuts(FeedsWholePromptAgain):
    def __call__(self, model, ids, start):
        return super().__call__(model, ids, start)[:, start:]


@mistake("You begin one token too early: token number `start` is the first that is new.")
class OneTokenAgain(_ReadOn):
    def __call__(self, model, ids, start):
        first = max(start - 1, 0)
        mask = decoder.causal_mask(ids.shape[1] - first, start + ids.shape[1] - first)
        return self.read(model, model.embed(ids)[:, first:], mask)


@mistake("`[start:]` drops texts. Tokens are axis 1: `[:, start:]`.")
class CutsTheBatch(_ReadOn):
    def embed(self, model, ids, start):
        return model.embed(ids)[start:]


@mistake("You send the last token only. Several may be new: all from `start` on.")
class LastTokenOnly(_ReadOn):
    def __call__(self, model, ids, start):
        return self.read(model, model.embed(ids)[:, -1:], None)


@mistake("You return the logits of the last token. Return those of all new tokens.")
class OnlyLastPosition(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x))[:, -1:]


@mistake("Your result has lost the axis of the tokens: [rows, new, vocabulary].")
class LostAnAxis(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x))[:, -1]


@mistake("You leave `model.norm` out. It comes before the head.")
class NoFinalNorm(_ReadOn):
    def say(self, model, x):
        return model.head(x)


@mistake("You return the states. `model.head` makes logits of them.")
class NoHead(_ReadOn):
    def say(self, model, x):
        return model.norm(x)


@mistake("You return probabilities. These are logits.")
class Probabilities(_ReadOn):
    def say(self, model, x):
        return model.head(model.norm(x)).softmax(-1)


@mistake("You use the first block only.")
class OneBlock(_ReadOn):
    def blocks(self, model):
        return model.blocks[:1]


@mistake(
    "Every block is given the embedded tokens, so only the last block has an effect. Each takes "
    "what the block before it gave: `x = block(x, mask)`."
)
class EveryBlockFromTheEmbedding(_ReadOn):
    def read(self, model, x, mask):
        for block in model.blocks:
            out = block(x, mask)
        return self.say(model, out)


@mistake("You norm after every block. `model.norm` comes once, at the end.")
class NormAfterEveryBlock(_ReadOn):
    def read(self, model, x, mask):
        for block in model.blocks:
            x = model.norm(block(x, mask))
        return model.head(x)


@exercise.alternative
def read_on_in_steps(model, ids, start):
    return _ReadOn()(model, ids, start)


@exercise.alternative
def read_on_with_places(model, ids, start):
    n_all = ids.size(1)
    new = torch.arange(start, n_all)
    x = model.embed(ids).index_select(1, new)
    for block in model.blocks:
        x = block(x, mask=torch.arange(n_all) <= new[:, None])
    return model.head(model.norm(x))


@exercise.alternative
def read_on_without_needless_masks(model, ids, start):
    n_all = ids.shape[1]
    mask = None if start == n_all - 1 else decoder.causal_mask(n_all)[start:]
    stream = model.embed(ids)[:, start - n_all :]
    for block in model.blocks:
        stream = block(stream, mask)
    return nn.Sequential(model.norm, model.head)(stream)
