"""inference.online_softmax_attention: attention, a block of keys at a time."""

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "inference.online_softmax_attention",
    used_by="the comparison with torch's own kernel, which does the same in fast memory",
    hints=(
        "Go through `key.split(block, dim=2)` and `value.split(block, dim=2)` together. Three "
        "things are kept for every query: the largest score, a sum of weights, a sum of values.",
        "The scores of a block are scaled as ever. Their weights are exp(score - largest), where "
        "`largest` is the largest score of this block and of all before: `torch.maximum`.",
        "What was added up so far belongs to an older, smaller maximum. Multiply both sums by "
        "exp(older - newer) before you add to them. Minus infinity as the first one gives 0.",
        "`mixed = mixed * shrink + weights @ values`, and the same for the sum of the weights. "
        "Divide one by the other once, at the very end.",
    ),
)


Given = tuple[Tensor, Tensor, Tensor]
"""Query, key and value."""


def _by_torch(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, given: Given, block: int, point: str = "") -> Case:
        query, key, value = given
        arguments = {"query": query, "key": key, "value": value, "block": block}
        call = f"online_softmax_attention(query, key, value, {block})"
        return Case(title, arguments, _by_torch, shown=call, point=point)

    def sizes(*shape: int, d_value: int = 0, scale: float = 1.0, **more: Any) -> Given:
        """Batch, heads, queries, keys, d_head."""
        batch, heads, n_query, n_key, d_head = shape
        return (
            scale * inputs.normal(batch, heads, n_query, d_head, **more),
            scale * inputs.normal(batch, heads, n_key, d_head, seed=1, **more),
            inputs.normal(batch, heads, n_key, d_value or d_head, seed=2, **more),
        )

    query, key, value = sizes(1, 2, 3, 12, 4)
    rising = torch.linspace(-9, 9, 12)[None, None, :, None] * query.sign().mean(2, keepdim=True)
    aligned = torch.ones(1, 1, 1, 4) * torch.tensor([[[[1.0], [3.0]]]])
    steps = torch.linspace(-8, 8, 12)[None, None, :, None] * torch.ones(4)
    last = (
        "The last block may be shorter: keys that are left over count like all others, and a block "
        "may be longer than all keys together."
    )
    later = (
        "A larger score may come in a later block. What was added up until then, weights and "
        "values alike, is scaled by exp(older maximum - newer maximum)."
    )
    earlier = "The largest score may come first: a later block then brings small weights."
    large = (
        "Scores may be large: exp of 200 is infinite. Subtract the largest score so far from every "
        "one, in every row its own."
    )
    low = (
        "All scores of a query may lie far below 0. The running maximum begins at minus infinity: "
        "with 0 every exp would be 0, and 0 / 0 is NaN."
    )
    widths = "Values may have another size than keys: what is mixed has theirs, the scale has not."
    return [
        case("one block is enough", sizes(1, 1, 2, 3, 3), 3),
        case("two blocks", sizes(1, 1, 2, 4, 3), 2),
        case("four blocks", (query, key, value), 3),
        case("key by key", (query, key, value), 1),
        case("more rows and heads", sizes(3, 2, 5, 8, 6), 4),
        case("a shorter last block", (query, key, value), 5, last),
        case("one key in the last block", sizes(2, 3, 4, 7, 5), 3, last),
        case("a block longer than the text", sizes(2, 1, 3, 5, 2), 50, last),
        case("values of another size", sizes(2, 2, 3, 8, 5, d_value=7), 3, widths),
        case("one query, as in generation", sizes(2, 3, 1, 9, 4), 4, points.AXIS_OF_ONE),
        case("more queries than keys", sizes(1, 2, 9, 4, 3), 2),
        case("one key", sizes(2, 2, 3, 1, 4), 2, points.AXIS_OF_ONE),
        case("all sizes equal", sizes(4, 4, 4, 4, 4), 2, points.EQUAL_SIZES),
        case("scores that rise", (aligned, steps, value[:, :1]), 3, later),
        case("scores that rise, steeply", (4 * aligned, steps, value[:, :1]), 5, later),
        case("scores that fall", (aligned, steps.flip(2), value[:, :1]), 3, earlier),
        case("both, by head", (3 * query, rising, value), 4, later),
        case("equal scores", (0 * query, key, value), 5),
        case("large scores", sizes(1, 2, 4, 10, 6, scale=15.0), 4, large),
        case("low scores", (20 * aligned, steps - 30, value[:, :1]), 5, low),
        case(
            "a transposed view",
            _in_another_order(sizes(2, 3, 5, 6, 4)),
            4,
            points.OTHER_ORDER,
        ),
        case("float64", sizes(2, 1, 3, 7, 4, dtype=torch.float64), 3, points.FLOAT64),
        case("bfloat16", sizes(1, 2, 3, 6, 4, dtype=torch.bfloat16), 4, points.SAME_DTYPE),
    ]


def _in_another_order(given: Given) -> Given:
    """The same numbers, in memory token by token, as `split_heads` leaves them."""
    query, key, value = (one.transpose(1, 2).contiguous().transpose(1, 2) for one in given)
    return query, key, value


class Held(TorchFunctionMode):
    """How many numbers are held at once, at most, in tensors made while this is on."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.fused = False
        self._made: list[weakref.ref[Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.fused |= func is F.scaled_dot_product_attention
        made = result if isinstance(result, tuple | list) else [result]
        self._made += [weakref.ref(one) for one in made if isinstance(one, Tensor)]
        alive = [tensor for tensor in (ref() for ref in self._made) if tensor is not None]
        self._made = [weakref.ref(tensor) for tensor in alive]
        rooms = {tensor.untyped_storage().data_ptr(): tensor for tensor in alive}
        self.most = max(self.most, sum(map(_room, rooms.values())))
        return result


def _room(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


@exercise.holds
def never_holds_all_scores(part: Part) -> None:
    """32 queries and 256 keys in blocks of 4: all scores are 8,192 numbers, a block's are 128."""
    query, key, value = inputs.normal(32, 2), inputs.normal(256, 2, seed=1), inputs.normal(256, 2)
    with torch.no_grad(), Held() as held:
        part(query[None, None], key[None, None], value[None, None], 4)
    if held.fused:
        raise Wrong(
            "Your numbers are right, but they are torch's: `scaled_dot_product_attention` has this "
            "loop inside. Write it yourself, once."
        )
    if held.most > 4096:
        raise Wrong(
            f"Your numbers are right, but with 32 queries, 256 keys and blocks of 4 you hold "
            f"{held.most:,} numbers at once. All scores are 8,192, those of a block 128: look at "
            "`block` keys at a time, and keep nothing of a block but what is added to the sums."
        )


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    block: int,
    scale: float | None = None,
    start: float = -math.inf,
    old_sum: bool = True,
    old_mix: bool = True,
    divide: bool = True,
) -> Tensor:
    """Right, where nothing else is said. Mistakes leave one of the steps out."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    largest = query.new_full((*query.shape[:-1], 1), start)
    total, mixed = torch.zeros_like(largest), query.new_zeros(*query.shape[:-1], value.shape[-1])
    for keys, values in zip(key.split(block, 2), value.split(block, 2), strict=True):
        scores = query @ keys.mT * scale
        newer = torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink, weights = (largest - newer).exp(), (scores - newer).exp()
        total = (total * shrink if old_sum else total) + weights.sum(-1, keepdim=True)
        mixed = (mixed * shrink if old_mix else mixed) + weights @ values
        largest = newer
    return mixed / total if divide else mixed


def _blocks(query: Tensor, key: Tensor, value: Tensor, block: int) -> list[tuple[Tensor, Tensor]]:
    """Of every block its scaled scores and its values."""
    scaled = query * query.shape[-1] ** -0.5
    pairs = zip(key.split(block, 2), value.split(block, 2), strict=True)
    return [(scaled @ keys.mT, values) for keys, values in pairs]


@exercise.mistake(
    "You do not rescale the sum of the weights when a larger score comes. What is in it belongs to "
    "the older maximum: times exp(older - newer), as with the values."
)
def no_rescale_of_old_sum(query, key, value, block):
    return _in_blocks(query, key, value, block, old_sum=False)


@exercise.mistake(
    "You do not rescale the sum of the values when a larger score comes. What is in it belongs to "
    "the older maximum: times exp(older - newer), as with the weights."
)
def no_rescale_of_old_mix(query, key, value, block):
    return _in_blocks(query, key, value, block, old_mix=False)


@exercise.mistake(
    "You rescale neither sum when a larger score comes. What was added before belongs to an older "
    "maximum: both sums times exp(older - newer)."
)
def rescales_nothing(query, key, value, block):
    return _in_blocks(query, key, value, block, old_sum=False, old_mix=False)


@exercise.mistake(
    "Every block subtracts its own maximum, and all are added as if it were the same one. Weights "
    "can only be added where the same number was subtracted: keep a running maximum."
)
def max_per_block_only(query, key, value, block):
    total = mixed = torch.zeros(())
    for scores, values in _blocks(query, key, value, block):
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        total, mixed = total + weights.sum(-1, keepdim=True), mixed + weights @ values
    return mixed / total


@exercise.mistake(
    "You divide in every block and add the results, so every block's weights sum to 1, and all "
    "together to the number of blocks. Divide once, at the end, by the sum over all keys."
)
def divides_per_block(query, key, value, block):
    return sum(scores.softmax(-1) @ values for scores, values in _blocks(query, key, value, block))


@exercise.mistake(
    "You take the mean over the blocks, each with a softmax of its own. A block with large scores "
    "should count more than one with small ones."
)
def mean_of_blocks(query, key, value, block):
    n_blocks = -(-key.shape[2] // block)
    return divides_per_block(query, key, value, block) / n_blocks


@exercise.mistake("You do not divide by the sum of the weights at the end.")
def not_divided(query, key, value, block):
    return _in_blocks(query, key, value, block, divide=False)


@exercise.mistake("You do not scale the scores: times `attention.score_scale(query.shape[-1])`.")
def forgot_scale(query, key, value, block):
    return _in_blocks(query, key, value, block, scale=1.0)


@exercise.mistake(
    "You scale by the size of the values. A score is a product of a query and a key: "
    "`query.shape[-1]`."
)
def scale_of_values(query, key, value, block):
    return _in_blocks(query, key, value, block, scale=value.shape[-1] ** -0.5)


@exercise.mistake(
    "Your running maximum begins at 0. Where all scores lie far below, every exp is 0, and 0 / 0 "
    "is NaN. Begin at minus infinity."
)
def starts_at_zero(query, key, value, block):
    return _in_blocks(query, key, value, block, start=0.0)


@exercise.mistake(
    "You subtract no maximum, and exp of a large score is infinite. Subtract the largest score so "
    "far, and rescale both sums when it grows."
)
def no_maximum(query, key, value, block):
    total = mixed = torch.zeros(())
    for scores, values in _blocks(query, key, value, block):
        total, mixed = total + scores.exp().sum(-1, keepdim=True), mixed + scores.exp() @ values
    return mixed / total


@exercise.mistake(
    "You leave out the keys behind the last whole block. Where `block` does not divide their "
    "number, the last block is shorter."
)
def drops_the_rest(query, key, value, block):
    whole = key.shape[2] // block * block
    return _in_blocks(query, key[:, :, :whole], value[:, :, :whole], block)


@exercise.mistake(
    "You compare every block's largest score with minus infinity, because the running maximum is "
    "never kept: `largest = newer` at the end of the loop. So all that was added before is lost."
)
def maximum_not_kept(query, key, value, block):
    last = (key.shape[2] - 1) // block * block
    return _in_blocks(query, key[:, :, last:], value[:, :, last:], block)


@exercise.mistake(
    "You take one maximum for all queries. Where the scores of another query are far lower, every "
    "exp is 0, and 0 / 0 is NaN. Each query has its own: `amax(-1, keepdim=True)`."
)
def one_maximum_for_all(query, key, value, block):
    total, mixed, largest = 0, 0, query.new_full((), -math.inf)
    for scores, values in _blocks(query, key, value, block):
        newer = torch.maximum(largest, scores.max())
        shrink, weights = (largest - newer).exp(), (scores - newer).exp()
        total = total * shrink + weights.sum(-1, keepdim=True)
        mixed = mixed * shrink + weights @ values
        largest = newer
    return mixed / total


@exercise.mistake("You return from inside the loop: only the first block of keys is looked at.")
def first_block_only(query, key, value, block):
    return _in_blocks(query, key[:, :, :block], value[:, :, :block], block)


@exercise.mistake(
    "You rescale by exp(newer - older). The older sums are too large for the newer maximum, so "
    "they shrink: exp(older - newer)."
)
def shrinks_upside_down(query, key, value, block):
    (scores, values), *others = _blocks(query, key, value, block)
    largest = scores.amax(-1, keepdim=True)
    weights = (scores - largest).exp()
    total, mixed = weights.sum(-1, keepdim=True), weights @ values
    for scores, values in others:
        newer = torch.maximum(largest, scores.amax(-1, keepdim=True))
        grow, weights = (newer - largest).exp(), (scores - newer).exp()
        total = total * grow + weights.sum(-1, keepdim=True)
        mixed = mixed * grow + weights @ values
        largest = newer
    return mixed / total


@exercise.alternative
def online_from_the_first_block(query, key, value, block):
    """The first block begins the sums; the others come in a loop by numbers."""
    scale, n_keys = math.sqrt(query.shape[-1]), key.shape[2]
    scores = query @ key[:, :, :block].transpose(-2, -1) / scale
    m = scores.max(dim=-1, keepdim=True).values
    p = torch.exp(scores - m)
    total, out = p.sum(-1, keepdim=True), p @ value[:, :, :block]
    for start in range(block, n_keys, block):
        scores = query @ key[:, :, start : start + block].transpose(-2, -1) / scale
        m_new = torch.max(m, scores.max(dim=-1, keepdim=True).values)
        p = torch.exp(scores - m_new)
        total = total * torch.exp(m - m_new) + p.sum(-1, keepdim=True)
        out = out * torch.exp(m - m_new) + p @ value[:, :, start : start + block]
        m = m_new
    return out / total


@exercise.alternative
def online_by_logsumexp(query, key, value, block):
    """Two results that are divided already are mixed by the shares of their sums."""
    out = torch.zeros((), dtype=query.dtype)
    logsum = torch.full((), -math.inf, dtype=query.dtype)
    pieces = torch.split(key, block, -2), torch.split(value, block, -2)
    for keys, values in zip(*pieces, strict=True):
        scores = torch.einsum("bhqd,bhkd->bhqk", query * query.shape[-1] ** -0.5, keys)
        here = scores.logsumexp(-1, keepdim=True)
        both = torch.logaddexp(logsum, here)
        out = out * torch.exp(logsum - both) + scores.softmax(-1) @ values * torch.exp(here - both)
        logsum = both
    return out


@exercise.alternative
def online_divided_every_time(query, key, value, block):
    """As in the paper's algorithm 1: what is kept is always the answer for the keys so far."""
    m = torch.full(query.shape[:-1], -math.inf, dtype=query.dtype)
    total = torch.zeros(query.shape[:-1], dtype=query.dtype)
    out = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    for number in range(math.ceil(key.shape[2] / block)):
        piece = slice(number * block, (number + 1) * block)
        scores = torch.matmul(query, key[:, :, piece].mT) / math.sqrt(query.shape[-1])
        m_new = torch.maximum(m, scores.amax(-1))
        p = torch.exp(scores - m_new[..., None])
        total_new = torch.exp(m - m_new) * total + p.sum(-1)
        kept = (torch.exp(m - m_new) * total / total_new)[..., None]
        out = kept * out + p @ value[:, :, piece] / total_new[..., None]
        m, total = m_new, total_new
    return out


@exercise.alternative
def online_with_ones_beside_the_values(query, key, value, block):
    """The sum of the weights is one more value, which is always 1."""
    value = torch.cat((value, torch.ones_like(value[..., :1])), dim=-1)
    largest, sums = torch.tensor(-math.inf, dtype=query.dtype), torch.zeros_like(value[:, :, :1])
    while key.shape[2]:
        keys, key = key[:, :, :block], key[:, :, block:]
        values, value = value[:, :, :block], value[:, :, block:]
        scores = (query @ keys.mT).div(query.shape[-1] ** 0.5)
        newer = scores.amax(-1, keepdim=True).maximum(largest)
        sums = sums * (largest - newer).exp() + (scores - newer).exp() @ values
        largest = newer
    return sums[..., :-1] / sums[..., -1:]
