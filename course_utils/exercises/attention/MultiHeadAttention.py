"""attention.MultiHeadAttention: several heads look at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils import attention
from course_utils.exercises import inputs, layers, points
from course_utils.exercises.attention import shared
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.projection import Linear

exercise = Exercise(
    "attention.MultiHeadAttention",
    used_by="`encoder.TransformerBlock`, and so by every model of this course",
    hints=(
        "Five steps, and you have written four of them: project, split, attend, merge, and one "
        "last linear map, `self.w_o`.",
        "Without a memory the tokens ask each other: then `memory` is `x`.",
        "`project_qkv(x, memory, self.w_q, self.w_k, self.w_v)` gives all three. Each of them goes "
        "through `split_heads(…, self.n_heads)`.",
        "One call of `scaled_dot_product_attention` serves all heads: they are an axis like the "
        "batch. Pass the mask and the bias on. Then `merge_heads`, then `self.w_o`.",
    ),
)


SMALL_LAYER = {
    "w_q.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
    "w_q.bias": torch.tensor([0.0, 1.0]),
    "w_k.weight": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
    "w_k.bias": torch.tensor([0.0, 0.0]),
    "w_v.weight": torch.tensor([[2.0, 0.0], [0.0, -2.0]]),
    "w_v.bias": torch.tensor([1.0, 0.0]),
    "w_o.weight": torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
    "w_o.bias": torch.tensor([0.0, 3.0]),
}


def _ask(layer: Any, x, memory, mask, bias, **weights: Tensor) -> Any:
    return layers.call(layer, weights, x, memory=memory, mask=mask, bias=bias)


def _use_layer(part: Part, x, memory, mask, bias, n_heads, **weights: Tensor) -> Any:
    """Build a layer, put the weights in, and ask it."""
    return _ask(part(x.shape[-1], n_heads), x, memory, mask, bias, **weights)


def _use_layer_again(part: Part, x, memory, mask, bias, n_heads, **weights: Tensor) -> Any:
    """As `_use_layer`, after the same layer has answered others: of the same sizes, with a mask
    and a bias and without, and longer ones."""
    layer = part(x.shape[-1], n_heads)
    other, longer = -x, torch.cat([x, 2 * x], dim=1)  # twice the same x would hide a kept one
    other_memory = None if memory is None else -memory
    sizes = x.shape[1], (x if memory is None else memory).shape[1]
    causal = torch.ones(sizes, dtype=torch.bool).tril()
    _ask(layer, other, other_memory, causal, inputs.normal(*sizes), **weights)
    _ask(layer, other, None, None, None, **weights)
    _ask(layer, longer, longer, None, None, **weights)
    return _ask(layer, x, memory, mask, bias, **weights)


def _layer_by_torch(x, memory, mask, bias, n_heads, *weights: Tensor) -> Tensor:
    """The same weights in `nn.MultiheadAttention`, which has other names for them."""
    w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o = weights
    memory = x if memory is None else memory
    theirs = nn.MultiheadAttention(x.shape[-1], n_heads, batch_first=True, device="meta")
    renamed = {
        "in_proj_weight": torch.cat([w_q, w_k, w_v]),
        "in_proj_bias": torch.cat([b_q, b_k, b_v]),
        "out_proj.weight": w_o,
        "out_proj.bias": b_o,
    }
    heads = x[:, None].expand(-1, n_heads, -1, -1)
    added = shared.added_to_scores(heads, memory, mask, bias).flatten(0, 1)
    options = {"attn_mask": added, "need_weights": False}
    return functional_call(theirs, renamed, (x, memory, memory), options)[0]


@exercise.cases
def cases() -> list[Case]:
    def case(
        title,
        n_heads,
        x,
        memory=None,
        mask=None,
        bias=None,
        *,
        use=_use_layer,
        weights=None,
        point="",
    ):
        d_model, given = x.shape[-1], {"memory": memory, "mask": mask, "bias": bias}
        named = [f"{name}={name}" for name, value in given.items() if value is not None]
        call = f"MultiHeadAttention({d_model}, {n_heads})({', '.join(['x', *named])})"
        maps = {name: nn.Linear(d_model, d_model) for name in ("w_q", "w_k", "w_v", "w_o")}
        weights = weights or layers.random_weights(maps, x.dtype)
        arguments = {"x": x, **given, "n_heads": n_heads, **weights}
        return Case(title, arguments, _layer_by_torch, use, call, point=point)

    normal, random_mask = inputs.normal, shared.random_mask
    small = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]])
    x, memory = normal(2, 4, 6), normal(2, 5, 6, seed=1)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    everything = (memory, random_mask(4, 5), normal(2, 1, 4, 5))
    asked = (
        "Keys and values come from `memory`, whose tokens may be more or fewer than those of `x`: "
        "no length of `x` is used for them."
    )
    together = "A memory, a mask and a bias may be given together, in every call others."
    anew = (
        "Nothing stays from one call to the next: no mask, no keys and values, no length. The same "
        "layer is asked about other sentences, longer ones too."
    )
    of_one, broadcast, dtypes = points.AXIS_OF_ONE, shared.BROADCAST, points.SAME_DTYPE
    again = {"use": _use_layer_again}
    each_head, for_all = random_mask(2, 3, 4, 4), random_mask(3, 4, 4)
    return [
        case("three tokens, two heads of one feature", 2, small, weights=SMALL_LAYER),
        case("three heads", 3, x),
        case("four heads", 4, normal(3, 2, 12)),
        case("a causal mask", 2, x, mask=causal),
        case("a bias", 2, x, bias=2 * normal(4, 4)),
        case("a memory of another length", 3, x, memory, point=asked),
        case("a memory with padding", 3, x, memory, random_mask(2, 1, 1, 5), point=asked),
        case("a mask for each head", 3, x, mask=each_head, point=broadcast),
        case("a mask for each head, for all sentences", 3, x, mask=for_all, point=broadcast),
        case("a bias for each head", 2, x, bias=2 * normal(2, 4, 4), point=broadcast),
        case("all at once", 3, x, *everything, point=together),
        case("a second call of the same layer", 2, x, point=anew, **again),
        case("all at once in a second call", 3, x, *everything, point=together, **again),
        case("as many tokens as heads", 3, normal(2, 3, 6), point=points.EQUAL_SIZES),
        case("one head", 1, normal(2, 4, 5), point=of_one),
        case("one token", 3, normal(2, 1, 6), point=of_one),
        case("a transposed view", 2, normal(2, 6, 5).mT, point=points.OTHER_ORDER),
        case("float64", 2, normal(2, 3, 4, dtype=torch.float64), point=dtypes),
        case("bfloat16", 2, normal(2, 3, 4, dtype=torch.bfloat16), point=dtypes),
    ]


@exercise.holds
def _weights_can_be_seen(part: Part) -> None:
    layer = part(6, 3)
    with attention.record() as maps:
        layer(inputs.normal(2, 4, 6), inputs.normal(2, 5, 6))
    if [list(weights.shape) for weights in maps.values()] != [[2, 3, 4, 5]]:
        raise Wrong(
            "Your numbers are right, but no view could show your weights. Form those of all heads "
            "with one call of `scaled_dot_product_attention`, on [batch, heads, tokens, d_head]."
        )


class _Layer(nn.Module):
    """Multi-head attention in small steps. Each version below does one of them otherwise."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.w_q, self.w_k, self.w_v, self.w_o = (Linear(d_model, d_model) for _ in range(4))

    def forward(self, x, memory=None, mask=None, bias=None):
        query, key, value = map(self.split, self.project(x, x if memory is None else memory))
        return self.finish(self.attend(query, key, value, mask, bias))

    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), self.w_v(memory)

    def split(self, x):
        return torch.stack(x.chunk(self.n_heads, dim=-1), dim=1)

    def attend(self, query, key, value, mask, bias):
        return attention.scaled_dot_product_attention(query, key, value, mask, bias)

    def finish(self, heads):
        return self.w_o(torch.cat(heads.unbind(1), dim=-1))


@exercise.mistake(
    "You return the heads side by side. `self.w_o` lets the heads work together: apply it "
    "to the merged heads."
)
class NoOutputProjection(_Layer):
    def finish(self, heads):
        return torch.cat(heads.unbind(1), dim=-1)


@exercise.mistake(
    "You average the heads, which leaves the width of one head. Put them side by side with "
    "`merge_heads`: `w_o` learns how to mix them."
)
class AveragesHeads(_Layer):
    def finish(self, heads):
        return self.w_o(heads.mean(1))


@exercise.mistake("You use `w_q` for queries, keys and values. Each role has its own map.")
class SameWeightThreeTimes(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_q(memory), self.w_q(memory)


@exercise.mistake(
    "Your values come from `x`, your keys from `memory`. A weight that was found for a "
    "token of the memory must fetch that token's value: make both from `memory`."
)
class ValuesFromXNotMemory(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), self.w_v(x)


@exercise.mistake(
    "You never read `memory`: the tokens of `x` always ask each other. Where there is a "
    "memory, keys and values come from it."
)
class MemoryIgnored(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(x), self.w_v(x)


@exercise.mistake(
    "You keep the keys and values of the first memory and use them for every later one. Keep "
    "nothing between two calls: make them anew each time."
)
class KeepsTheFirstMemory(_Layer):
    def project(self, x, memory):
        query, key, value = super().project(x, memory)
        if memory is x:
            return query, key, value
        if not hasattr(self, "kept"):
            self.kept = key, value
        return query, *self.kept


@exercise.mistake("You mix the tokens as they came in. The values are a projection too: `w_v`.")
class ValuesNotProjected(_Layer):
    def project(self, x, memory):
        return self.w_q(x), self.w_k(memory), memory


@exercise.mistake(
    "You attend with all features at once, which is one large head. Split queries, keys "
    "and values with `split_heads(…, self.n_heads)`."
)
class HeadsNotSplit(_Layer):
    def split(self, x):
        return x

    def finish(self, heads):
        return self.w_o(heads)


@exercise.mistake(
    "You reshape to heads and back without moving the axes. All shapes fit, but each head "
    "sees some of the tokens with all their features. Use `split_heads` and `merge_heads`."
)
class ReshapeWithoutTranspose(_Layer):
    def split(self, x):
        batch, tokens, d_model = x.shape
        return x.reshape(batch, self.n_heads, tokens, d_model // self.n_heads)

    def finish(self, heads):
        return self.w_o(heads.reshape(heads.shape[0], heads.shape[2], -1))


@exercise.mistake(
    "You reshape the heads straight to [batch, tokens, d_model], which mixes tokens. Use "
    "`merge_heads`."
)
class MergedWithoutTranspose(_Layer):
    def finish(self, heads):
        return self.w_o(heads.reshape(heads.shape[0], heads.shape[2], -1))


@exercise.mistake(
    "You deal the features out like cards, each to the next head, and collect them so again. A "
    "head is a run of neighbours, d_head wide, as `split_heads` cuts it."
)
class InterleavedHeads(_Layer):
    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)

    def finish(self, heads):
        return self.w_o(heads.permute(0, 2, 3, 1).flatten(-2))


@exercise.mistake("You do not pass the mask on, so every query sees every key.")
class MaskNotPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, None, bias)


@exercise.mistake("You do not pass the bias on to `scaled_dot_product_attention`.")
class BiasNotPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, mask, None)


@exercise.mistake(
    "You pass neither mask nor bias on: `scaled_dot_product_attention` takes both after the value."
)
class NothingPassedOn(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, None, None)


@exercise.mistake(
    "You swapped key and value: scores are made of queries and keys, and the values are mixed."
)
class KeyAndValueSwapped(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, value, key, mask, bias)


@exercise.mistake(
    "Without a memory, `memory` is None, and you project None. Begin with "
    "`memory = x if memory is None else memory`."
)
class NoneAsMemory(_Layer):
    def forward(self, x, memory=None, mask=None, bias=None):
        query, key, value = map(self.split, self.project(x, memory))
        return self.finish(self.attend(query, key, value, mask, bias))


@exercise.mistake(
    "`memory or x`, and `if memory`, ask whether a tensor is true, which Python cannot say of "
    "several numbers. Write `x if memory is None else memory`."
)
class MemoryOrX(_Layer):
    def forward(self, x, memory=None, mask=None, bias=None):
        return super().forward(x, memory or x, mask, bias)


@exercise.mistake(
    "Without a mask you forget the bias. Pass both on, in every call: "
    "`scaled_dot_product_attention` sees to what is None."
)
class BiasOnlyWithAMask(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query, key, value, mask, None if mask is None else bias)


@exercise.mistake(
    "You make d_head heads of n_heads features. It should be n_heads heads of d_head features: "
    "`split_heads` wants the number of heads."
)
class NumberAndWidthSwapped(_Layer):
    def split(self, x):
        return torch.stack(x.split(self.n_heads, dim=-1), dim=1)


@exercise.mistake(
    "You scale by the root of d_model. A head's dot product has d_head terms: leave the "
    "scaling to `scaled_dot_product_attention`."
)
class ScaleByDModel(_Layer):
    def attend(self, query, key, value, mask, bias):
        return super().attend(query / self.n_heads**0.5, key, value, mask, bias)


@exercise.mistake(
    "You return the weights as well. Return one tensor: whoever wants to see the weights "
    "uses `attention.record()`."
)
class ReturnsWeightsToo(_Layer):
    def attend(self, query, key, value, mask, bias):
        weights = attention.attention_weights(query, key, mask, bias)
        return super().attend(query, key, value, mask, bias), weights

    def finish(self, attended):
        heads, weights = attended
        return super().finish(heads), weights


@exercise.mistake(
    "You add `x` to the output. The residual connection belongs to the block around this "
    "layer, which would add it again."
)
class AddsInput(_Layer):
    def forward(self, x, memory=None, mask=None, bias=None):
        return x + super().forward(x, memory, mask, bias)


@exercise.alternative
class MixedByEinsum(_Layer):
    """Right: the weights are formed, then einsum mixes and joins the heads and applies `w_o`."""

    def attend(self, query, key, value, mask, bias):
        weights = attention.attention_weights(query, key, mask, bias)
        return torch.einsum("bhqk,bhkd->bhqd", weights, value)

    def finish(self, heads):
        weight = self.w_o.weight.unflatten(1, (self.n_heads, -1))
        return torch.einsum("bhtd,ohd->bto", heads, weight) + self.w_o.bias


@exercise.alternative
class SplitWeights(_Layer):
    """Right: every head has its own slice of the weights, so nothing has to be split."""

    def project(self, x, memory):
        return self.heads(self.w_q, x), self.heads(self.w_k, memory), self.heads(self.w_v, memory)

    def heads(self, w, of):
        slices = zip(w.weight.chunk(self.n_heads), w.bias.chunk(self.n_heads), strict=True)
        return torch.stack([F.linear(of, *one) for one in slices], dim=1)

    def split(self, x):
        return x
