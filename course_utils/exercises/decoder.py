"""Exercises of notebook 06: decoders, alone and beside an encoder."""

from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils import decoder, encoder
from course_utils.exercises import inputs, layers
from course_utils.exercises.encoder import block_by_torch
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong
from course_utils.families import pretrained
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

# --- causal_mask ---------------------------------------------------------------------------------


def _causal_mask_by_hand(n_query: int, n_key: int | None = None) -> Tensor:
    """Tokens are numbered 0 to n_key - 1, and the queries are the last n_query of them."""
    keys = range(n_query if n_key is None else n_key)
    queries = keys[len(keys) - n_query :]
    return torch.tensor([[key in range(query + 1) for key in keys] for query in queries])


def _causal_mask_cases() -> list[Case]:
    def case(title: str, n_query: int, **n_key: int | None) -> Case:
        given = "".join(f", {name}={value}" for name, value in n_key.items())
        arguments = {"n_query": n_query, **n_key}
        return Case(title, arguments, _causal_mask_by_hand, shown=f"causal_mask({n_query}{given})")

    return [
        case("four tokens", 4),
        case("one token", 1),
        case("seven tokens", 7),
        case("as many keys, said twice", 3, n_key=3),
        case("no number of keys", 3, n_key=None),
        case("three tokens are in a cache", 2, n_key=5),
        case("one token is in a cache", 4, n_key=5),
        case("one query, all others in a cache", 1, n_key=6),
    ]


def _tril(n_query, n_key, diagonal):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(diagonal)


def _behind(n_query, n_key):
    """How many keys come before the first query."""
    return 0 if n_key is None else n_key - n_query


def _excludes_self(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key) - 1)


def _sees_one_ahead(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key) + 1)


def _aligned_top_left(n_query, n_key=None):
    return _tril(n_query, n_key, 0)


def _aligned_the_other_way(n_query, n_key=None):
    return _tril(n_query, n_key, -_behind(n_query, n_key))


def _upper_triangle(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.ones(n_query, n_key, dtype=torch.bool).triu(n_key - n_query)


def _true_hides(n_query, n_key=None):
    return ~_tril(n_query, n_key, _behind(n_query, n_key))


def _ignores_n_key(n_query, n_key=None):
    return _tril(n_query, None, 0)


def _square_of_keys(n_query, n_key=None):
    return _tril(n_query if n_key is None else n_key, None, 0)


def _axes_swapped(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key)).T


def _ones_and_zeros(n_query, n_key=None):
    return _tril(n_query, n_key, _behind(n_query, n_key)).float()


def _zero_and_infinity(n_query, n_key=None):
    visible = _tril(n_query, n_key, _behind(n_query, n_key))
    return torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)


def _nothing_hidden(n_query, n_key=None):
    return torch.ones(n_query, n_query if n_key is None else n_key, dtype=torch.bool)


def _mask_by_comparing(n_query, n_key=None):
    n_key = n_key or n_query
    keys = torch.arange(n_key)
    return keys <= keys[n_key - n_query :, None]


def _mask_by_triu(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.triu(torch.ones(n_query, n_key), diagonal=n_key - n_query + 1) == 0


def _mask_last_rows(n_query, n_key=None):
    n_key = n_query if n_key is None else n_key
    return torch.tril(torch.ones((n_key, n_key), dtype=torch.bool))[-n_query:]


CAUSAL_MASK = Exercise(
    part="decoder.causal_mask",
    notebook="06",
    used_by="`GPT` and `Seq2Seq`: no token sees what comes after it",
    cases=_causal_mask_cases,
    hints=(
        "Rows are queries, columns are keys. Row i is True up to and including its own token, and "
        "False behind it.",
        "`torch.ones(n_query, n_key, dtype=torch.bool).tril()` keeps the lower left triangle, with "
        "the diagonal.",
        "With more keys than queries, the first query is token number n_key - n_query, so its row "
        "has that many more Trues. `tril(k)` moves the diagonal k places to the right.",
        "Without `n_key` there are as many keys as queries: begin with "
        "`n_key = n_query if n_key is None else n_key`.",
    ),
    mistakes=(
        Mistake(
            "excludes_self",
            "Your tokens may not look at themselves. The first one then has nothing to look at: "
            "its softmax is NaN. Keep the diagonal.",
            _excludes_self,
        ),
        Mistake(
            "sees_one_ahead",
            "Your tokens see one token too many: the very one that they must predict. The last "
            "True of a row belongs to the token itself.",
            _sees_one_ahead,
        ),
        Mistake(
            "upper_triangle",
            "Your tokens look at themselves and at later ones. Queries are rows, so the lower left "
            "triangle must be True: `tril`.",
            _upper_triangle,
        ),
        Mistake(
            "true_hides",
            "Yours is True where a key must be hidden, as in `nn.MultiheadAttention`. In this "
            "course True means: may look.",
            _true_hides,
        ),
        Mistake(
            "aligned_top_left",
            "With more keys than queries, you treat the queries as the first tokens. They are the "
            "last ones, what is cached comes before them: move the diagonal by n_key - n_query.",
            _aligned_top_left,
        ),
        Mistake(
            "aligned_the_other_way",
            "You move the diagonal to the wrong side: queries behind a cache see more keys, not "
            "fewer. Use n_key - n_query.",
            _aligned_the_other_way,
        ),
        Mistake(
            "ignores_n_key",
            "You do not use `n_key`. With a cache there are more keys than queries: the mask has "
            "the shape [n_query, n_key].",
            _ignores_n_key,
        ),
        Mistake(
            "square_of_keys",
            "You give a row to every key. Only the last `n_query` tokens ask: the mask has the "
            "shape [n_query, n_key].",
            _square_of_keys,
        ),
        Mistake(
            "axes_swapped",
            "Your rows are keys and your columns queries. Queries are rows: [n_query, n_key].",
            _axes_swapped,
        ),
        Mistake(
            "ones_and_zeros",
            "You return ones and zeros. A mask here is boolean: `dtype=torch.bool`.",
            _ones_and_zeros,
        ),
        Mistake(
            "zero_and_infinity",
            "You return what could be added to the scores: 0 and minus infinity. A mask here is "
            "boolean, True where the query may look.",
            _zero_and_infinity,
        ),
        Mistake(
            "nothing_hidden",
            "Yours is True everywhere, so tokens see the future. Cut it with `tril`.",
            _nothing_hidden,
        ),
    ),
    alternatives=(_mask_by_comparing, _mask_by_triu, _mask_last_rows),
)

# --- shift_targets -------------------------------------------------------------------------------


def _pairs_by_hand(ids: Tensor) -> tuple[Tensor, Tensor]:
    rows = ids.tolist()
    pairs = [[(row[t], row[t + 1]) for t in range(len(row) - 1)] for row in rows]
    read = [[now for now, _ in row] for row in pairs]
    said = [[after for _, after in row] for row in pairs]
    return torch.tensor(read, dtype=ids.dtype), torch.tensor(said, dtype=ids.dtype)


def _shift_targets_cases() -> list[Case]:
    def case(title: str, ids: Tensor) -> Case:
        return Case(title, {"ids": ids}, _pairs_by_hand, shown="shift_targets(ids)")

    some = inputs.integers(3, 6, below=50)
    return [
        case("one sentence", torch.tensor([[10, 11, 12, 13]])),
        case("two sentences", torch.tensor([[4, 7, 2, 9, 1], [3, 8, 6, 5, 0]])),
        case("as many sentences as tokens", inputs.integers(4, 4, below=50)),
        case("two tokens: one pair", torch.tensor([[5, 6], [7, 8], [9, 4]])),
        case("the same token twice", torch.tensor([[2, 2, 3, 3, 2]])),
        case("32-bit numbers", some.int()),
        case("a transposed view", some.T),
    ]


def _no_shift(ids):
    return ids[:, :-1], ids[:, :-1]


def _no_shift_whole(ids):
    return ids, ids


def _shifted_backwards(ids):
    return ids[:, 1:], ids[:, :-1]


def _shifted_twice(ids):
    return ids[:, :-2], ids[:, 2:]


def _off_by_two(ids):
    return ids[:, :-1], ids.roll(-2, 1)[:, :-1]


def _inputs_not_cut(ids):
    return ids, ids[:, 1:]


def _targets_not_cut(ids):
    return ids[:, :-1], ids


def _rolled(ids):
    return ids, ids.roll(-1, dims=1)


def _shifts_the_batch(ids):
    return ids[:-1], ids[1:]


def _only_last_target(ids):
    return ids[:, :-1], ids[:, -1]


def _only_targets(ids):
    return ids[:, 1:]


def _padded(ids):
    return ids, F.pad(ids[:, 1:], (0, 1))


def _shift_by_narrow(ids):
    tokens = ids.shape[1] - 1
    return ids.narrow(1, 0, tokens), ids.narrow(1, 1, tokens)


def _shift_by_unfold(ids):
    inputs, targets = ids.unfold(1, 2, 1).unbind(-1)
    return inputs, targets


def _shift_by_index(ids):
    places = torch.arange(ids.size(1) - 1)
    return ids.index_select(1, places), ids.index_select(1, places + 1)


SHIFT_TARGETS = Exercise(
    part="decoder.shift_targets",
    notebook="06",
    used_by="every training loop from here on: it makes the inputs and the targets",
    cases=_shift_targets_cases,
    hints=(
        "At every place the model reads a token and must say the next one. So T + 1 tokens make T "
        "pairs.",
        "The inputs are all tokens but the last: nothing comes after that one.",
        "The targets are all tokens but the first. `ids[:, 1:]` drops the first of every sentence: "
        "axis 0 is the batch, axis 1 the tokens.",
    ),
    mistakes=(
        Mistake(
            "no_shift",
            "Your targets are the inputs. The model would learn to repeat what it reads, and its "
            "loss would fall to nothing. The target is the token that follows.",
            _no_shift,
        ),
        Mistake(
            "no_shift_whole",
            "You return all tokens twice. The target of a place is the token that follows, and the "
            "last token has none: T + 1 tokens make T pairs.",
            _no_shift_whole,
        ),
        Mistake(
            "shifted_backwards",
            "Your targets come before your inputs, so the model learns to say what was just "
            "before. Swap the two.",
            _shifted_backwards,
        ),
        Mistake(
            "shifted_twice",
            "Your targets are two places ahead. Drop one token at the end of the inputs and one at "
            "the beginning of the targets.",
            _shifted_twice,
        ),
        Mistake(
            "off_by_two",
            "Your targets are two places ahead, and around the corner at the end. They are "
            "`ids[:, 1:]`.",
            _off_by_two,
        ),
        Mistake(
            "inputs_not_cut",
            "Your inputs still have the last token. Nothing follows it, so there is nothing to "
            "learn from: drop it, `ids[:, :-1]`.",
            _inputs_not_cut,
        ),
        Mistake(
            "targets_not_cut",
            "Your targets still begin with the first token. Nobody has to predict it: drop it, "
            "`ids[:, 1:]`.",
            _targets_not_cut,
        ),
        Mistake(
            "rolled",
            "You roll the tokens around, so the last target is the first token. The last token has "
            "no target: leave it out of the inputs.",
            _rolled,
        ),
        Mistake(
            "padded",
            "You fill the last target with 0, and the model would learn that token 0 follows. "
            "Leave the last token out of the inputs instead.",
            _padded,
        ),
        Mistake(
            "shifts_the_batch",
            "You shift along axis 0: the next sentence, not the next token. Tokens are axis 1.",
            _shifts_the_batch,
        ),
        Mistake(
            "only_last_target",
            "You give one target to a sentence. Every place has one: that is what makes a "
            "transformer quick to train.",
            _only_last_target,
        ),
        Mistake(
            "only_targets",
            "You return the targets alone. Return two tensors: inputs, targets.",
            _only_targets,
        ),
    ),
    alternatives=(_shift_by_narrow, _shift_by_unfold, _shift_by_index),
)

# --- GPT -----------------------------------------------------------------------------------------


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
        x = block_by_torch(x, ~hidden, norm_first, n_heads, of_block)
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    return F.linear(x, weights["head.weight"])


def _use_gpt(make: Any, part: Part, ids: Tensor, **weights: Tensor) -> Any:
    return layers.call(part(**make()), weights, ids)


def _use_gpt_again(make: Any, part: Part, ids: Tensor, **weights: Tensor) -> Any:
    """As `_use_gpt`, after the same model has read something longer, and more of it."""
    model = part(**make())
    layers.call(model, weights, torch.cat([ids, ids], 1)[:1])
    return layers.call(model, weights, ids)


def _gpt_cases() -> list[Case]:
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


def _works_on_other_devices(part: Part) -> None:
    """Tensors on the device "meta" have a shape and no numbers. Every computer has it."""
    head = Linear(3, 5, bias=False, device="meta")
    model = part(_Elsewhere(), [_SameDevice()], nn.Identity(), head)
    model(torch.empty(2, 4, dtype=torch.long, device="meta"))


class _NoMask(decoder.GPT):
    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class _MaskedInSteps(decoder.GPT):
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


class _MaskByName(_MaskedInSteps):
    """Right: the mask is made by comparing places, and goes by name."""

    def mask(self, ids):
        places = torch.arange(ids.size(-1), device=ids.device)
        return places[:, None] >= places

    def run(self, x, mask):
        blocks = iter(self.blocks)
        while (block := next(blocks, None)) is not None:
            x = block(x, mask=mask)
        return x


class _HeadByEinsum(_MaskedInSteps):
    """Right: the head is a matrix that is multiplied with."""

    def finish(self, x):
        return torch.einsum("btd,vd->btv", self.norm(x), self.head.weight)


class _UpsideDownMask(_MaskedInSteps):
    def mask(self, ids):
        return super().mask(ids).T


class _LooksOneAhead(_MaskedInSteps):
    def mask(self, ids):
        return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril(1)


class _MaskOfTheBatch(_MaskedInSteps):
    def mask(self, ids):
        return decoder.causal_mask(ids.shape[0])


class _MaskInFirstBlockOnly(_MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
            mask = None
        return x


class _FirstBlockOnly(_MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks[:1]:
            x = block(x, mask)
        return x


class _LastBlockOnly(_MaskedInSteps):
    def run(self, x, mask):
        result = x
        for block in self.blocks:
            result = block(x, mask)
        return result


class _ReversedBlocks(_MaskedInSteps):
    def run(self, x, mask):
        for block in reversed(self.blocks):
            x = block(x, mask)
        return x


class _SameBlock(_MaskedInSteps):
    def run(self, x, mask):
        for _ in self.blocks:
            x = self.blocks[0](x, mask)
        return x


class _NormInEveryBlock(_MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = self.norm(block(x, mask))
        return x

    def finish(self, x):
        return self.head(x)


class _AddsBlocks(_MaskedInSteps):
    def run(self, x, mask):
        for block in self.blocks:
            x = x + block(x, mask)
        return x


class _NoBlocks(_MaskedInSteps):
    def run(self, x, mask):
        return x


class _NormFirst(_MaskedInSteps):
    def run(self, x, mask):
        return super().run(self.norm(x), mask)

    def finish(self, x):
        return self.head(x)


class _NoFinalNorm(_MaskedInSteps):
    def finish(self, x):
        return self.head(x)


class _ForgotHead(_MaskedInSteps):
    def finish(self, x):
        return self.norm(x)


class _Probabilities(_MaskedInSteps):
    def finish(self, x):
        return torch.softmax(super().finish(x), -1)


class _LogProbabilities(_MaskedInSteps):
    def finish(self, x):
        return torch.log_softmax(super().finish(x), -1)


class _LastTokenOnly(_MaskedInSteps):
    def finish(self, x):
        return super().finish(x)[:, -1]


class _BestToken(_MaskedInSteps):
    def finish(self, x):
        return super().finish(x).argmax(-1)


GPT = Exercise(
    part="decoder.GPT",
    notebook="06",
    used_by="`gpt`, which builds every model that you train and sample from here on, and the model "
    "of notebook 00",
    cases=_gpt_cases,
    hints=(
        "Embed the tokens, pass them through the blocks one after the other, then `self.norm`, "
        "then `self.head`.",
        "Every block takes the stream and a mask: `x = block(x, mask)`.",
        "The mask is `causal_mask(…)` of the number of tokens, `ids.shape[1]`. It is made on the "
        "processor: `.to(ids.device)` brings it to where the tokens are.",
        "What the head gives are scores. Softmax is not part of the model: the loss does it, and "
        "so does whoever samples.",
    ),
    mistakes=(
        Mistake(
            "no_mask",
            "Your blocks get no mask, so every token sees the one that it must predict. In "
            "training the loss would look wonderful. Pass `causal_mask(ids.shape[1])` on.",
            _NoMask,
        ),
        Mistake(
            "mask_upside_down",
            "Your mask lets tokens see themselves and later ones. Use `causal_mask` as it is.",
            _UpsideDownMask,
        ),
        Mistake(
            "looks_one_ahead",
            "Your tokens see the one that follows, which is what they must predict. The mask ends "
            "at the token itself.",
            _LooksOneAhead,
        ),
        Mistake(
            "mask_of_the_batch",
            "You make a mask for as many tokens as there are sentences: `ids.shape[0]`. Tokens are "
            "axis 1.",
            _MaskOfTheBatch,
        ),
        Mistake(
            "mask_in_first_block_only",
            "Only your first block gets the mask. Every block looks around: all of them need it.",
            _MaskInFirstBlockOnly,
        ),
        Mistake(
            "returns_probabilities",
            "You return probabilities. Return the scores: the loss takes the softmax itself, and "
            "two of them flatten everything.",
            _Probabilities,
        ),
        Mistake(
            "returns_log_probabilities",
            "You return logarithms of probabilities. Return the scores as the head gives them.",
            _LogProbabilities,
        ),
        Mistake(
            "returns_tokens",
            "You return the best token of every place. Nothing can be learned from that: return "
            "the scores of all tokens.",
            _BestToken,
        ),
        Mistake(
            "last_token_only",
            "You return the scores after the last token only. Training uses those of every place: "
            "[batch, tokens, vocabulary].",
            _LastTokenOnly,
        ),
        Mistake(
            "no_final_norm",
            "You leave out `self.norm` before the head. The stream has grown in every block, and "
            "the head was made for numbers of ordinary size.",
            _NoFinalNorm,
        ),
        Mistake(
            "norm_before_blocks",
            "You norm the embedding, not what comes out of the blocks. `self.norm` is the last "
            "thing before the head.",
            _NormFirst,
        ),
        Mistake(
            "norm_in_every_block",
            "You apply `self.norm` after every block. Blocks have norms of their own: this one "
            "comes once, after all of them.",
            _NormInEveryBlock,
        ),
        Mistake(
            "forgot_head",
            "You return the normed stream. `self.head` makes a score for every word of it.",
            _ForgotHead,
        ),
        Mistake(
            "no_blocks",
            "You never call the blocks. Every token is then continued without its context.",
            _NoBlocks,
        ),
        Mistake(
            "first_block_only",
            "You return from inside the loop, or use one block: the others never run.",
            _FirstBlockOnly,
        ),
        Mistake(
            "last_block_only",
            "Every block of yours reads the embedding, so only the last one counts. Give each "
            "block what the one before it returned: `x = block(x, mask)`.",
            _LastBlockOnly,
        ),
        Mistake(
            "blocks_reversed",
            "Your blocks run from the last to the first. Go through `self.blocks` in their order.",
            _ReversedBlocks,
        ),
        Mistake(
            "same_block_again",
            "You run the first block again and again. Use the block that the loop gives you.",
            _SameBlock,
        ),
        Mistake(
            "adds_blocks",
            "You add the block's output to the stream. The block has done that already: write "
            "`x = block(x, mask)`.",
            _AddsBlocks,
        ),
    ),
    alternatives=(_MaskedInSteps, _MaskByName, _HeadByEinsum),
    properties=(_is_causal, _reproduces_the_shipped_model, _works_on_other_devices),
)

# --- DecoderBlock --------------------------------------------------------------------------------

ATTENTIONS = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}


def _use_decoder_block(
    make_parts: Any,
    part: Part,
    x: Tensor,
    memory: Tensor,
    self_mask: Tensor | None,
    memory_mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    block = part(**make_parts(), norm_first=norm_first)
    masks = {"self_mask": self_mask, "memory_mask": memory_mask}
    given = {name: mask for name, mask in masks.items() if mask is not None}
    return layers.call(block, weights, x, memory, **given)


def _use_decoder_block_again(
    make_parts: Any,
    part: Part,
    x: Tensor,
    memory: Tensor,
    self_mask: Tensor | None,
    memory_mask: Tensor | None,
    norm_first: bool,
    **weights: Tensor,
) -> Any:
    """As `_use_decoder_block`, after the same block has answered for longer texts."""
    block = part(**make_parts(), norm_first=norm_first)
    longer, more = torch.cat([x, x], 1), torch.cat([memory, memory], 1)
    layers.call(block, weights, longer, more, torch.ones(longer.shape[1], longer.shape[1]).bool())
    return layers.call(block, weights, x, memory, self_mask, memory_mask)


def _decoder_block_by_torch(
    n_heads: int,
    names: list[str],
    x: Tensor,
    memory: Tensor,
    self_mask: Tensor | None,
    memory_mask: Tensor | None,
    norm_first: bool,
    *values: Tensor,
) -> Tensor:
    """`nn.TransformerDecoderLayer`."""
    weights = dict(zip(names, values, strict=True))
    theirs = nn.TransformerDecoderLayer(
        x.shape[-1],
        n_heads,
        len(weights["feed_forward.up.bias"]),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        device="meta",
    )
    masks = {
        "tgt_mask": layers.torch_mask(self_mask, x, x, n_heads),
        "memory_mask": layers.torch_mask(memory_mask, x, memory, n_heads),
    }
    return functional_call(theirs, layers.torch_weights(weights, ATTENTIONS), (x, memory), masks)


def _simple_decoder_parts() -> dict[str, nn.Module]:
    return {
        "self_attention": layers.MeanAttention(),
        "cross_attention": layers.MeanAttention(),
        "feed_forward": Linear(2, 2),
        "norm1": nn.Tanh(),
        "norm2": nn.Sigmoid(),
        "norm3": nn.Softsign(),
    }


SIMPLE_DECODER_BLOCK = {
    "feed_forward.weight": torch.tensor([[1.0, 0.0], [1.0, 2.0]]),
    "feed_forward.bias": torch.tensor([0.0, 1.0]),
}


def _simple_decoder_block_by_hand(
    x: Tensor,
    memory: Tensor,
    self_mask: Tensor,
    memory_mask: Tensor | None,
    norm_first: bool,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """Norms that are simple functions, and attention that is a mean, so that all can be seen."""
    seen = torch.tanh(x) if norm_first else x
    x = x + torch.stack([seen[:, : t + 1].mean(1) for t in range(x.shape[1])], 1)
    x = x if norm_first else torch.tanh(x)
    x = x + memory.mean(1, keepdim=True)
    x = x if norm_first else torch.sigmoid(x)
    made = F.linear(F.softsign(x) if norm_first else x, weight, bias)
    return x + made if norm_first else F.softsign(x + made)


def _decoder_block_call(given: dict[str, Any]) -> str:
    masks = [f"{name}={name}" for name, mask in given.items() if mask is not None]
    arguments = ", ".join(["x", "memory", *masks])
    return f"DecoderBlock(self_attention, cross_attention, feed_forward, …)({arguments})"


def _decoder_block_cases() -> list[Case]:
    def case(
        title: str,
        n_heads: int,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        norm_first: bool = True,
        use: Part = _use_decoder_block,
    ) -> Case:
        names = "self_attention cross_attention"
        make_parts = partial(layers.block_parts, x.shape[-1], n_heads, names)
        weights = layers.random_weights(make_parts(), x.dtype)
        masks = {"self_mask": self_mask, "memory_mask": memory_mask}
        arguments = {"x": x, "memory": memory, **masks, "norm_first": norm_first, **weights}
        oracle = partial(_decoder_block_by_torch, n_heads, list(weights))
        return Case(title, arguments, oracle, partial(use, make_parts), _decoder_block_call(masks))

    def simple(title: str, norm_first: bool) -> Case:
        masks = {"self_mask": torch.ones(2, 2, dtype=torch.bool).tril(), "memory_mask": None}
        given = {
            "x": torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]),
            "memory": torch.tensor([[[2.0, 2.0], [0.0, -4.0], [1.0, -1.0]]]),
            **masks,
            "norm_first": norm_first,
        }
        use = partial(_use_decoder_block, _simple_decoder_parts)
        call = _decoder_block_call(masks)
        arguments = given | SIMPLE_DECODER_BLOCK
        return Case(title, arguments, _simple_decoder_block_by_hand, use, call)

    normal, boolean = inputs.normal, inputs.boolean
    x, memory = normal(2, 4, 6), normal(2, 5, 6, seed=1)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    padding = torch.tensor([[True] * 3 + [False] * 2, [True] * 4 + [False]])[:, None, None]
    double = torch.float64
    return [
        simple("both attentions are means, each norm another function", True),
        simple("the same, post-norm", False),
        case("the usual parts, no masks", 3, x, memory),
        case("post-norm", 3, x, memory, norm_first=False),
        case("a causal mask", 2, x, memory, causal),
        case("padding in the memory", 3, x, memory, None, padding),
        case("both masks", 3, x, memory, causal, padding),
        case("both masks, post-norm", 2, x, memory, causal, padding, False),
        case("as long as the memory", 2, x, memory[:, :4], causal, boolean(2, 1, 4, 4)),
        case(
            "a mask for each head", 3, x, memory, boolean(2, 3, 4, 4), boolean(2, 3, 4, 5, seed=1)
        ),
        case("a memory that is shorter", 3, x, memory[:, :2], causal, padding[..., 1:3]),
        case(
            "a second call of the same block",
            3,
            x,
            memory,
            causal,
            padding,
            use=_use_decoder_block_again,
        ),
        case("one token, one to read", 2, normal(3, 1, 4), normal(3, 1, 4, seed=1)),
        case("transposed views", 2, normal(2, 6, 4).mT, normal(2, 6, 5, seed=1).mT, causal),
        case("float64", 3, normal(2, 4, 6, dtype=double), normal(2, 5, 6, seed=1, dtype=double)),
    ]


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


class _DecoderSteps(decoder.DecoderBlock):
    """Right: the block in steps. Each version below does one of them otherwise."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.look_back(x, memory, self_mask, memory_mask)
        x = self.read(x, memory, self_mask, memory_mask)
        return self.step(x, self.feed_forward, self.norm3)

    def look_back(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.self_attention(stream, stream, self_mask)  # noqa: E731
        return self.step(x, attend, self.norm1)

    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.cross_attention(stream, memory, memory_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)

    def step(self, x, sublayer, norm):
        return x + sublayer(norm(x)) if self.norm_first else norm(x + sublayer(x))


class _DecoderInBranches(decoder.DecoderBlock):
    """Right: both orders are written out."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        if self.norm_first:
            x = x + self.self_attention(self.norm1(x), mask=self_mask)
            x = x + self.cross_attention(self.norm2(x), memory, mask=memory_mask)
            return x + self.feed_forward(self.norm3(x))
        x = self.norm1(x + self.self_attention(x, mask=self_mask))
        x = self.norm2(x + self.cross_attention(x, memory, mask=memory_mask))
        return self.norm3(x + self.feed_forward(x))


class _SwappedQueryAndMemory(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.cross_attention(memory, stream, memory_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)


class _CausalMaskOnMemory(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, self_mask)


class _MasksSwapped(_DecoderSteps):
    def look_back(self, x, memory, self_mask, memory_mask):
        return super().look_back(x, memory, memory_mask, None)

    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, self_mask)


class _SelfAttentionTwice(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.cross_attention(stream, mask=self_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)


class _MemoryNotPassedOn(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.cross_attention(stream, mask=memory_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)


class _SameAttentionForBoth(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.self_attention(stream, memory, memory_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)


class _AttentionsSwapped(_DecoderSteps):
    def look_back(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.cross_attention(stream, mask=self_mask)  # noqa: E731
        return self.step(x, attend, self.norm1)

    def read(self, x, memory, self_mask, memory_mask):
        attend = lambda stream: self.self_attention(stream, memory, memory_mask)  # noqa: E731
        return self.step(x, attend, self.norm2)


class _SelfMaskNotPassedOn(_DecoderSteps):
    def look_back(self, x, memory, self_mask, memory_mask):
        return super().look_back(x, memory, None, None)


class _MemoryMaskNotPassedOn(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return super().read(x, memory, None, None)


class _NoMasksPassedOn(_DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        return super().forward(x, memory)


class _MemoryNormed(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        memory = self.norm2(memory) if self.norm_first else memory
        return super().read(x, memory, self_mask, memory_mask)


class _ReadsTheMemoryFirst(_DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.read(x, memory, self_mask, memory_mask)
        x = self.look_back(x, memory, self_mask, memory_mask)
        return self.step(x, self.feed_forward, self.norm3)


class _NeverReads(_DecoderSteps):
    def read(self, x, memory, self_mask, memory_mask):
        return x


class _NoFeedForward(_DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.look_back(x, memory, self_mask, memory_mask)
        return self.read(x, memory, self_mask, memory_mask)


class _OneNormForAll(_DecoderSteps):
    def step(self, x, sublayer, norm):
        return super().step(x, sublayer, self.norm1)


class _SecondNormAgain(_DecoderSteps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.look_back(x, memory, self_mask, memory_mask)
        x = self.read(x, memory, self_mask, memory_mask)
        return self.step(x, self.feed_forward, self.norm2)


class _DecoderAlwaysPre(_DecoderSteps):
    def step(self, x, sublayer, norm):
        return x + sublayer(norm(x))


class _DecoderAlwaysPost(_DecoderSteps):
    def step(self, x, sublayer, norm):
        return norm(x + sublayer(x))


class _DecoderWithoutResidual(_DecoderSteps):
    def step(self, x, sublayer, norm):
        return sublayer(norm(x)) if self.norm_first else norm(sublayer(x))


DECODER_BLOCK = Exercise(
    part="decoder.DecoderBlock",
    notebook="06",
    used_by="`decoder_block`, and so by every layer of the decoder in `Seq2Seq`",
    cases=_decoder_block_cases,
    hints=(
        "Three residual steps: self-attention with `self.norm1`, attention to the memory with "
        "`self.norm2`, feed-forward with `self.norm3`.",
        "The first two steps have a mask each. `partial(self.self_attention, mask=self_mask)` is a "
        "function of one argument, as `encoder.residual_step` wants it.",
        "In the second step the stream asks and the memory is asked: "
        "`partial(self.cross_attention, memory=memory, mask=memory_mask)`.",
        "The memory is used as it is. It comes out of the encoder, which has normed it already.",
    ),
    mistakes=(
        Mistake(
            "swapped_query_memory",
            "In the second step the memory asks and your target is asked. The result would have "
            "the length of the source. Queries come from `x`.",
            _SwappedQueryAndMemory,
        ),
        Mistake(
            "causal_mask_on_memory",
            "You use `self_mask` for the memory. The source is known as a whole, every token may "
            "look at all of it: its mask is `memory_mask`.",
            _CausalMaskOnMemory,
        ),
        Mistake(
            "masks_swapped",
            "You swapped the masks: `self_mask` is for the first step, `memory_mask` for the "
            "second.",
            _MasksSwapped,
        ),
        Mistake(
            "self_attention_twice",
            "Your second step asks the target again and never reads `memory`. Give it to "
            "`self.cross_attention`, with its mask.",
            _SelfAttentionTwice,
        ),
        Mistake(
            "memory_not_passed_on",
            "You give the second step its mask but not the memory, so the target asks itself "
            "again. Pass `memory=memory` on.",
            _MemoryNotPassedOn,
        ),
        Mistake(
            "never_reads",
            "You leave out the second step, so the source has no influence.",
            _NeverReads,
        ),
        Mistake(
            "same_attention_for_both",
            "You use `self.self_attention` for the memory too. Looking back and reading are two "
            "things to learn: the second step has `self.cross_attention`.",
            _SameAttentionForBoth,
        ),
        Mistake(
            "attentions_swapped",
            "You look back with `self.cross_attention` and read with `self.self_attention`. "
            "Weights of other models would land in the wrong place.",
            _AttentionsSwapped,
        ),
        Mistake(
            "self_mask_not_passed_on",
            "You do not pass `self_mask` on, so every target token sees those behind it.",
            _SelfMaskNotPassedOn,
        ),
        Mistake(
            "memory_mask_not_passed_on",
            "You do not pass `memory_mask` on, so padding in the source is read.",
            _MemoryMaskNotPassedOn,
        ),
        Mistake(
            "no_masks_passed_on",
            "You pass neither mask on: `self_mask` goes to the first step, `memory_mask` to the "
            "second.",
            _NoMasksPassedOn,
        ),
        Mistake(
            "memory_normed",
            "You norm the memory. Only what a sublayer reads of the stream is normed: the encoder "
            "ends with a norm of its own.",
            _MemoryNormed,
        ),
        Mistake(
            "reads_the_memory_first",
            "You read the memory before you look back. First self-attention, then the memory.",
            _ReadsTheMemoryFirst,
        ),
        Mistake(
            "no_feed_forward",
            "You return after the two attentions. The third step is the feed-forward net.",
            _NoFeedForward,
        ),
        Mistake(
            "one_norm_for_all",
            "You use `self.norm1` in all steps. Each has its own: norm1, norm2, norm3.",
            _OneNormForAll,
        ),
        Mistake(
            "second_norm_again",
            "Your feed-forward step uses `self.norm2`. Its own is `self.norm3`.",
            _SecondNormAgain,
        ),
        Mistake(
            "norm_first_ignored",
            "You do not look at `self.norm_first`: yours is always pre-norm. "
            "`encoder.residual_step` takes it as its last argument.",
            _DecoderAlwaysPre,
        ),
        Mistake(
            "always_post_norm",
            "You do not look at `self.norm_first`: yours is always post-norm. "
            "`encoder.residual_step` takes it as its last argument.",
            _DecoderAlwaysPost,
        ),
        Mistake(
            "forgot_residual",
            "You pass the stream through the sublayers without adding to it. "
            "`encoder.residual_step` adds.",
            _DecoderWithoutResidual,
        ),
    ),
    alternatives=(_DecoderSteps, _DecoderInBranches),
    properties=(_works_inside_a_model,),
)

# --- next_token_logits ---------------------------------------------------------------------------


def _logits_by_hand(h: Tensor, unembed: Tensor) -> Tensor:
    return torch.stack([torch.dot(row, h) for row in unembed])


def _next_token_logits_cases() -> list[Case]:
    def case(title: str, h: Tensor, unembed: Tensor) -> Case:
        arguments = {"h": h, "unembed": unembed}
        return Case(title, arguments, _logits_by_hand, shown="next_token_logits(h, unembed)")

    def drawn(vocabulary: int, d_model: int, dtype: torch.dtype = torch.float32) -> tuple:
        h = 2 * inputs.normal(d_model, dtype=dtype)
        return h, inputs.normal(vocabulary, d_model, seed=1, dtype=dtype) + 0.5

    small = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, 2.0]])
    one, table = drawn(6, 4)
    return [
        case("four words", torch.tensor([3.0, 1.0, -2.0]), small),
        case("more words", *drawn(9, 5)),
        case("fewer words than features", *drawn(3, 7)),
        case("as many words as features", *drawn(4, 4)),
        case("one word", *drawn(1, 3)),
        case("one feature", *drawn(5, 1)),
        case("large numbers", 20 * one, table),
        case("a state of zeros", torch.zeros(4), table),
        case("transposed views", one[None].T[:, 0], inputs.normal(4, 6, seed=1).T),
        case("float64", *drawn(5, 3, torch.float64)),
        case("bfloat16", *drawn(5, 3, torch.bfloat16)),
    ]


def _softmaxed(h, unembed):
    return torch.softmax(F.linear(h, unembed), -1)


def _log_softmaxed(h, unembed):
    return torch.log_softmax(F.linear(h, unembed), -1)


def _mean_of_positions(h, unembed):
    return F.linear(h.mean(0).expand(h.shape), unembed)


def _cosine(h, unembed):
    return F.cosine_similarity(unembed, h[None], dim=-1)


def _only_rows_normalised(h, unembed):
    return F.linear(h, F.normalize(unembed, dim=-1))


def _scaled(h, unembed):
    return F.linear(h, unembed) / h.shape[-1] ** 0.5


def _mean_of_products(h, unembed):
    return (unembed * h).mean(-1)


def _products_not_summed(h, unembed):
    return unembed * h


def _distances(h, unembed):
    return (unembed - h).norm(dim=-1)


def _other_axis(h, unembed):
    return h @ unembed


def _best_word(h, unembed):
    return F.linear(h, unembed).argmax(-1)


def _with_a_batch(h, unembed):
    return h[None] @ unembed.T


def _logits_by_linear(h, unembed):
    return F.linear(h, unembed)


def _logits_by_products(h, unembed):
    return (h * unembed).sum(dim=-1)


def _logits_by_einsum(h, unembed):
    return torch.einsum("vd,d->v", unembed, h)


NEXT_TOKEN_LOGITS = Exercise(
    part="decoder.next_token_logits",
    notebook="06",
    used_by="notebook 06, where it says what the head of a GPT does",
    cases=_next_token_logits_cases,
    hints=(
        "Every token of the vocabulary has a row in `unembed`. Its score is the dot product of "
        "that row with `h`.",
        "A matrix times a vector is the dot product of each row with the vector.",
        "`matrix @ vector`: the matrix is [vocabulary, d_model], a row for each word.",
    ),
    mistakes=(
        Mistake(
            "softmaxed",
            "You return probabilities. These are scores (logits): any numbers, before the softmax.",
            _softmaxed,
        ),
        Mistake(
            "log_softmaxed",
            "You return logarithms of probabilities. These are scores (logits), as the dot product "
            "gives them.",
            _log_softmaxed,
        ),
        Mistake(
            "uses_all_positions_mean",
            "You average `h` first, as if it held a state for each position. It is the last "
            "token's state alone, so `h.mean(0)` mixes its features.",
            _mean_of_positions,
        ),
        Mistake(
            "cosine",
            "You divide by the lengths, which gives cosines. Lengths count here: a longer state "
            "means that the model is surer.",
            _cosine,
        ),
        Mistake(
            "only_rows_normalised",
            "You give every word's vector the length 1. Longer vectors get larger scores: that is "
            "how a model can prefer frequent words.",
            _only_rows_normalised,
        ),
        Mistake(
            "scaled",
            "You divide by the root of d_model, as attention does. The head does not.",
            _scaled,
        ),
        Mistake(
            "mean_of_products",
            "You take the mean of the products. A dot product is their sum.",
            _mean_of_products,
        ),
        Mistake(
            "products_not_summed",
            "You multiply without adding up: one number for each word and feature. Sum over the "
            "features.",
            _products_not_summed,
        ),
        Mistake(
            "distances",
            "You return distances, which are small for words that fit. A dot product is large for "
            "them.",
            _distances,
        ),
        Mistake(
            "other_axis",
            "`h @ unembed` multiplies with the columns, so it fits only where there are as many "
            "words as features. The words are the rows: `unembed @ h`.",
            _other_axis,
        ),
        Mistake(
            "best_word",
            "You return the number of the best word. Return the score of every word.",
            _best_word,
        ),
        Mistake(
            "with_a_batch",
            "Your result has an axis too many. One vector goes in, [d_model], and one comes out, "
            "[vocabulary].",
            _with_a_batch,
        ),
    ),
    alternatives=(_logits_by_linear, _logits_by_products, _logits_by_einsum),
)

EXERCISES: tuple[Exercise, ...] = (
    CAUSAL_MASK,
    SHIFT_TARGETS,
    GPT,
    DECODER_BLOCK,
    NEXT_TOKEN_LOGITS,
)
