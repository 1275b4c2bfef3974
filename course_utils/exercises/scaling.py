"""Exercises of notebook 09: what a model costs, and what a larger one gains."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils import decoder, sampling, scaling
from course_utils.exercises.exercise import Case, Exercise, Mistake, Part, Wrong
from course_utils.scaling import Sizes

# --- count_parameters ----------------------------------------------------------------------------

_LARGE = Sizes(50257, 301, 7, 2, 2048, tied=True)
"""So large that float32 cannot count its parameters, and that a check can still build it."""


@functools.cache
def _shapes(sizes: Sizes) -> dict[str, torch.Size]:
    """The shape of every parameter of the model itself."""
    model = decoder.gpt(
        sizes.vocabulary, sizes.d_model, sizes.n_heads, sizes.n_layers, sizes.context
    )
    if sizes.tied:
        model.head.weight = model.get_parameter("embed.tokens.weight")
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _counted(sizes: Sizes) -> dict[str, int]:
    """The counts, by shapes where the model is too large to be built here."""
    large = sizes.vocabulary > 1000
    return _count_by_shapes(sizes) if large else _counted_in_the_model(sizes)


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    return {**counts, "total": sum(counts.values())}


def _counted_in_the_model(sizes: Sizes) -> dict[str, int]:
    parts = {
        "embedding": "embed.",
        "attention": ".attention.",
        "feed_forward": ".feed_forward.",
        "norms": "norm",
        "head": "head.",
    }
    return _with_total(
        {
            part: sum(shape.numel() for name, shape in _shapes(sizes).items() if mark in name)
            for part, mark in parts.items()
        }
    )


def _count_parameters_cases() -> list[Case]:
    def case(title: str, sizes: Sizes) -> Case:
        call = "count_parameters(sizes)"
        return Case(title, {"sizes": sizes}, _counted, shown=call)

    return [
        case("a small model", Sizes(50, 12, 3, 2, 9)),
        case("a head that is tied to the table", Sizes(50, 12, 3, 2, 9, tied=True)),
        case("one block, one head", Sizes(31, 10, 1, 1, 17)),
        case("more places than words", Sizes(7, 8, 2, 5, 40)),
        case("deeper, and tied", Sizes(23, 20, 5, 7, 6, tied=True)),
        case("width, heads and depth are alike", Sizes(4, 4, 4, 4, 4)),
        case("one of everything", Sizes(1, 1, 1, 1, 1)),
        case("many words, and a long context", _LARGE),
    ]


def _recounted(sizes, **wrong):
    """The right counts but for some of them, and their sum."""
    right = _counted(sizes)
    return _with_total({part: wrong.get(part, right[part]) for part in list(right)[:-1]})


def _two_l_d_squared(sizes):
    return {**_counted(sizes), "total": 2 * sizes.n_layers * sizes.d_model**2}


def _twelve_l_d_squared(sizes):
    return {**_counted(sizes), "total": 12 * sizes.n_layers * sizes.d_model**2}


def _forgot_feed_forward(sizes):
    return _recounted(sizes, feed_forward=0)


def _tied_counted_twice(sizes):
    return _recounted(sizes, head=sizes.vocabulary * sizes.d_model)


def _head_never_counted(sizes):
    return _recounted(sizes, head=0)


def _tied_the_wrong_way_round(sizes):
    return _recounted(sizes, head=sizes.vocabulary * sizes.d_model if sizes.tied else 0)


def _head_with_biases(sizes):
    head = 0 if sizes.tied else sizes.vocabulary * (sizes.d_model + 1)
    return _recounted(sizes, head=head)


def _forgot_norms(sizes):
    return _recounted(sizes, norms=0)


def _matrices(sizes):
    matrix = sizes.n_layers * sizes.d_model**2
    return {"attention": 4 * matrix, "feed_forward": 8 * matrix}


def _forgot_biases(sizes):
    return _recounted(sizes, **_matrices(sizes))


def _forgot_biases_of_attention(sizes):
    return _recounted(sizes, attention=_matrices(sizes)["attention"])


def _forgot_biases_of_feed_forward(sizes):
    return _recounted(sizes, feed_forward=_matrices(sizes)["feed_forward"])


def _matrices_only(sizes):
    return _recounted(sizes, **_matrices(sizes), norms=0)


def _biases_of_one_block(sizes):
    biases = {"attention": 4 * sizes.d_model, "feed_forward": 5 * sizes.d_model}
    return _recounted(sizes, **{part: n + biases[part] for part, n in _matrices(sizes).items()})


def _forgot_w_o(sizes):
    return _recounted(sizes, attention=sizes.n_layers * 3 * sizes.d_model * (sizes.d_model + 1))


def _every_head_is_as_wide_as_the_model(sizes):
    return _recounted(sizes, attention=sizes.n_heads * _counted(sizes)["attention"])


def _one_head_counted(sizes):
    return _recounted(sizes, attention=_counted(sizes)["attention"] // sizes.n_heads)


def _forgot_positions(sizes):
    return _recounted(sizes, embedding=sizes.vocabulary * sizes.d_model)


def _forgot_last_norm(sizes):
    return _recounted(sizes, norms=sizes.n_layers * 4 * sizes.d_model)


def _one_norm_in_a_block(sizes):
    return _recounted(sizes, norms=(sizes.n_layers + 1) * 2 * sizes.d_model)


def _forgot_shifts(sizes):
    return _recounted(sizes, norms=(2 * sizes.n_layers + 1) * sizes.d_model)


def _one_layer_only(sizes):
    right = _counted(sizes)
    parts = ("attention", "feed_forward")
    return _recounted(sizes, **{part: right[part] // sizes.n_layers for part in parts})


def _one_block_only(sizes):
    right = _counted(sizes)
    parts = {part: right[part] // sizes.n_layers for part in ("attention", "feed_forward")}
    return _recounted(sizes, **parts, norms=6 * sizes.d_model)


def _forgot_down(sizes):
    return _recounted(sizes, feed_forward=sizes.n_layers * 4 * sizes.d_model * (sizes.d_model + 1))


def _hidden_not_wider(sizes):
    return _recounted(sizes, feed_forward=sizes.n_layers * 2 * sizes.d_model * (sizes.d_model + 1))


def _biases_of_one_width(sizes):
    wrong = sizes.n_layers * (8 * sizes.d_model**2 + 2 * sizes.d_model)
    return _recounted(sizes, feed_forward=wrong)


def _total_without_tables(sizes):
    right = _counted(sizes)
    return {**right, "total": right["total"] - right["embedding"]}


def _forgot_total(sizes):
    return {part: n for part, n in _counted(sizes).items() if part != "total"}


def _count_by_shapes(sizes):
    d, hidden = sizes.d_model, 4 * sizes.d_model
    attention = [(d, d), (d,)] * 4
    feed_forward = [(hidden, d), (hidden,), (d, hidden), (d,)]
    shapes = {
        "embedding": [(sizes.vocabulary, d), (sizes.context, d)],
        "attention": attention * sizes.n_layers,
        "feed_forward": feed_forward * sizes.n_layers,
        "norms": [(d,), (d,)] * (1 + 2 * sizes.n_layers),
        "head": [] if sizes.tied else [(sizes.vocabulary, d)],
    }
    counts = {part: sum(math.prod(shape) for shape in each) for part, each in shapes.items()}
    counts["total"] = sum(counts.values())
    return counts


def _count_by_layers(sizes):
    width, total = sizes.d_model, 0
    counts = dict.fromkeys(("embedding", "attention", "feed_forward", "norms", "head"), 0)
    counts["embedding"] = sizes.vocabulary * width + sizes.context * width
    for _ in range(sizes.n_layers):
        counts["attention"] += 4 * (width + 1) * width
        counts["feed_forward"] += (width + 1) * 4 * width + (4 * width + 1) * width
        counts["norms"] += 4 * width
    counts["norms"] += 2 * width
    counts["head"] += (not sizes.tied) * sizes.vocabulary * width
    for count in counts.values():
        total += count
    return dict(total=total, **counts)


def _count_by_twelve(sizes):
    d, blocks = sizes.d_model, sizes.n_layers
    tables = d * (sizes.vocabulary + sizes.context)
    head = int(not sizes.tied) * d * sizes.vocabulary
    rest = 12 * blocks * d**2 + 13 * blocks * d + 2 * d
    attention, norms = 4 * blocks * d * (1 + d), 4 * blocks * d + 2 * d
    return {
        "embedding": tables,
        "attention": attention,
        "feed_forward": rest - attention - norms,
        "norms": norms,
        "head": head,
        "total": tables + head + rest,
    }


COUNT_PARAMETERS = Exercise(
    part="scaling.count_parameters",
    notebook="09",
    used_by="`memory_report`, the calculator, and the axis of every scaling law",
    cases=_count_parameters_cases,
    hints=(
        "Write down the shape of every table, matrix and vector of one block. `print(model)` of a "
        "small `decoder.gpt` shows them. A matrix [a, b] has a · b numbers.",
        "Attention has four matrices d · d, for queries, keys, values and output; feed-forward has "
        "d · 4d and 4d · d. Each has a bias, as long as what it gives.",
        "A norm has a gain and a shift, d numbers each. There are two norms in each block and one "
        "at the end.",
        "The embedding is two tables: `vocabulary` rows for words, `context` rows for places. The "
        "head is as large as the first, or 0 where `sizes.tied`.",
    ),
    mistakes=(
        Mistake(
            "two_l_d_squared",
            "Your total is 2 · layers · d². One block has 12 · d²: 4 in attention, 8 in "
            "feed-forward. Add up what you counted.",
            _two_l_d_squared,
        ),
        Mistake(
            "twelve_l_d_squared",
            "Your total is 12 · layers · d². That is the matrices of the blocks alone: biases, "
            "norms, tables and head are learned too. Add up what you counted.",
            _twelve_l_d_squared,
        ),
        Mistake(
            "forgot_feed_forward",
            "You leave the feed-forward nets out. They hold two thirds of a block: d · 4d on the "
            "way up, and as much on the way down.",
            _forgot_feed_forward,
        ),
        Mistake(
            "tied_counted_twice",
            "You count a tied head. It is the table of token vectors, used once more: those "
            "numbers are in the embedding already.",
            _tied_counted_twice,
        ),
        Mistake(
            "head_never_counted",
            "You never count the head. Unless it is tied, it has its own vector for every word: "
            "vocabulary · d.",
            _head_never_counted,
        ),
        Mistake(
            "tied_the_wrong_way_round",
            "You count the head where it is tied, and leave it out where it is not. Tied means "
            "that it has no numbers of its own.",
            _tied_the_wrong_way_round,
        ),
        Mistake(
            "head_with_biases",
            "You give the head a bias for every word. This head has none.",
            _head_with_biases,
        ),
        Mistake(
            "forgot_norms",
            "You leave the norms out. Each has a gain and a shift, 2 · d numbers: two norms in "
            "every block, and one at the end.",
            _forgot_norms,
        ),
        Mistake(
            "forgot_biases_of_attention",
            "You count the matrices of attention without their biases: 4 · d more in each block.",
            _forgot_biases_of_attention,
        ),
        Mistake(
            "forgot_biases_of_feed_forward",
            "You count the matrices of feed-forward without their biases: 4d + d more in each "
            "block.",
            _forgot_biases_of_feed_forward,
        ),
        Mistake(
            "matrices_only",
            "You count matrices only. Biases and norms are vectors, and learned too.",
            _matrices_only,
        ),
        Mistake(
            "biases_of_one_block",
            "You count the biases of one block. Every block has its own: put parentheses around "
            "what you multiply by `n_layers`.",
            _biases_of_one_block,
        ),
        Mistake(
            "forgot_biases",
            "You count the matrices but not their biases: 4 · d a block in attention, and 4d + d "
            "in feed-forward.",
            _forgot_biases,
        ),
        Mistake(
            "forgot_w_o",
            "You count three matrices in attention. There is a fourth, `w_o`, that mixes what the "
            "heads found.",
            _forgot_w_o,
        ),
        Mistake(
            "every_head_is_as_wide_as_the_model",
            "You multiply by the number of heads. The heads share the d columns of a matrix: more "
            "heads are narrower heads, not more numbers.",
            _every_head_is_as_wide_as_the_model,
        ),
        Mistake(
            "one_head_counted",
            "You divide by the number of heads: that is the share of one head. All of them are "
            "learned.",
            _one_head_counted,
        ),
        Mistake(
            "forgot_positions",
            "Your embedding lacks the positions. They are learned too: one vector for each of the "
            "`context` places.",
            _forgot_positions,
        ),
        Mistake(
            "forgot_last_norm",
            "You forget the norm after the last block: 2 · d more.",
            _forgot_last_norm,
        ),
        Mistake(
            "one_norm_in_a_block",
            "You count one norm in each block. There are two: before attention and before "
            "feed-forward.",
            _one_norm_in_a_block,
        ),
        Mistake(
            "forgot_shifts",
            "You count d numbers in a norm. It has a gain and a shift: 2 · d.",
            _forgot_shifts,
        ),
        Mistake(
            "one_layer_only",
            "You count the attention and feed-forward of one block. There are `n_layers`, and each "
            "has its own.",
            _one_layer_only,
        ),
        Mistake(
            "one_block_only",
            "You count one block and the last norm. There are `n_layers` blocks.",
            _one_block_only,
        ),
        Mistake(
            "forgot_down",
            "Your feed-forward net goes up to 4d and never comes down. Its second matrix has "
            "4d · d numbers, and its bias d.",
            _forgot_down,
        ),
        Mistake(
            "hidden_not_wider",
            "Your feed-forward net stays d wide. In between it is four times as wide.",
            _hidden_not_wider,
        ),
        Mistake(
            "biases_of_one_width",
            "Both your biases in feed-forward have d numbers. The first one is added to 4d "
            "numbers, and has 4d.",
            _biases_of_one_width,
        ),
        Mistake(
            "total_without_tables",
            "Your total leaves the embedding out. Some papers count so, and say so; here the total "
            "is everything that is learned.",
            _total_without_tables,
        ),
        Mistake(
            "forgot_total",
            'Your counts have no sum. Add it as the entry "total".',
            _forgot_total,
        ),
    ),
    alternatives=(_count_by_shapes, _count_by_layers, _count_by_twelve),
)

# --- flops_per_token -----------------------------------------------------------------------------

Product = tuple[int, int, int]
"""Rows, inner size and columns of a product of two matrices."""


def _products(sizes: Sizes, n_tokens: int) -> Iterator[Product]:
    """Every product of matrices while the model reads one text."""
    d, d_head = sizes.d_model, sizes.d_model // sizes.n_heads
    for _ in range(sizes.n_layers):
        yield from [(n_tokens, d, d)] * 4
        yield from [(n_tokens, d_head, n_tokens)] * sizes.n_heads
        yield from [(n_tokens, n_tokens, d_head)] * sizes.n_heads
        yield from [(n_tokens, d, 4 * d), (n_tokens, 4 * d, d)]
    yield n_tokens, d, sizes.vocabulary


def _backward(product: Product) -> list[Product]:
    """The two products that give the gradients of the matrices of a product."""
    rows, inner, columns = product
    return [(rows, columns, inner), (inner, rows, columns)]


def flops_by_products(sizes: Sizes, n_tokens: int, training: bool = False) -> int:
    """FLOPs for one token, product by product."""
    products = list(_products(sizes, n_tokens))
    if training:
        products += [one for product in products for one in _backward(product)]
    return sum(2 * math.prod(product) for product in products) // n_tokens


def _flops_per_token_cases() -> list[Case]:
    def case(title: str, sizes: Sizes, n_tokens: int, **training: bool) -> Case:
        given = "".join(f", {name}={value}" for name, value in training.items())
        return Case(
            title,
            {"sizes": sizes, "n_tokens": n_tokens, **training},
            flops_by_products,
            shown=f"flops_per_token(sizes, {n_tokens}{given})",
        )

    small, tied = Sizes(50, 12, 3, 2, 9), Sizes(23, 20, 5, 7, 30, tied=True)
    gpt2 = Sizes(50257, 768, 12, 12, 1024, tied=True)
    return [
        case("a small model reads", small, 7),
        case("it learns", small, 7, training=True),
        case("the head is tied", tied, 11),
        case("the head is tied, while it learns", tied, 30, training=True),
        case("one token alone", small, 1, training=False),
        case("one block, one head", Sizes(31, 10, 1, 1, 17), 6),
        case("the whole context", Sizes(7, 8, 2, 5, 40), 40, training=True),
        case("a longer text than the context", small, 12),
        case("the size of GPT-2, a short text", gpt2, 100),
        case("the size of GPT-2, the longest text", gpt2, 1024, training=True),
    ]


def _flops(sizes, training, blocks=None, head=None, looked_at=0, backward=2):
    """FLOPs of which some share is wrong. `backward` is its cost as a multiple of forward's."""
    blocks = 12 * sizes.n_layers * sizes.d_model**2 if blocks is None else blocks
    head = sizes.vocabulary * sizes.d_model if head is None else head
    forward = 2 * (blocks + head + looked_at)
    return forward * (1 + backward) if training else forward


def _looked_at(sizes, n_tokens):
    return 2 * sizes.n_layers * n_tokens * sizes.d_model


def _mac_not_flop(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens, training) // 2


def _twice_forward(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens), backward=1)


def _ignores_training(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens)


def _always_training(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens, True)


def _no_attention_term(sizes, n_tokens, training=False):
    return _flops(sizes, training)


def _six_times_all_parameters(sizes, n_tokens, training=False):
    return (6 if training else 2) * _counted(sizes)["total"]


def _all_parameters_and_attention(sizes, n_tokens, training=False):
    blocks, looked_at = _counted(sizes)["total"], _looked_at(sizes, n_tokens)
    return _flops(sizes, training, blocks=blocks, head=0, looked_at=looked_at)


def _biases_multiplied(sizes, n_tokens, training=False):
    blocks = sizes.n_layers * (12 * sizes.d_model**2 + 9 * sizes.d_model)
    return _flops(sizes, training, blocks=blocks, looked_at=_looked_at(sizes, n_tokens))


def _words_multiplied(sizes, n_tokens, training=False):
    head = 2 * sizes.vocabulary * sizes.d_model
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


def _tables_multiplied(sizes, n_tokens, training=False):
    head = (2 * sizes.vocabulary + sizes.context) * sizes.d_model
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


def _forgot_head(sizes, n_tokens, training=False):
    return _flops(sizes, training, head=0, looked_at=_looked_at(sizes, n_tokens))


def _tied_head_is_free(sizes, n_tokens, training=False):
    head = 0 if sizes.tied else None
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


def _context_for_n_tokens(sizes, n_tokens, training=False):
    return flops_by_products(sizes, sizes.context, training)


def _whole_text(sizes, n_tokens, training=False):
    return n_tokens * flops_by_products(sizes, n_tokens, training)


def _scores_only(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens) // 2)


def _earlier_tokens_only(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=sizes.n_layers * (n_tokens + 1) * sizes.d_model)


def _other_tokens_only(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens - 1))


def _attention_times_heads(sizes, n_tokens, training=False):
    looked_at = sizes.n_heads * _looked_at(sizes, n_tokens)
    return _flops(sizes, training, looked_at=looked_at)


def _attention_of_one_head(sizes, n_tokens, training=False):
    looked_at = _looked_at(sizes, n_tokens) // sizes.n_heads
    return _flops(sizes, training, looked_at=looked_at)


def _attention_of_one_layer(sizes, n_tokens, training=False):
    looked_at = _looked_at(sizes, n_tokens) // sizes.n_layers
    return _flops(sizes, training, looked_at=looked_at)


def _all_scores_for_each_token(sizes, n_tokens, training=False):
    looked_at = n_tokens * _looked_at(sizes, n_tokens)
    return _flops(sizes, training, looked_at=looked_at)


def _flops_forgot_feed_forward(sizes, n_tokens, training=False):
    blocks = 4 * sizes.n_layers * sizes.d_model**2
    return _flops(sizes, training, blocks=blocks, looked_at=_looked_at(sizes, n_tokens))


def _flops_by_kaplan(sizes, n_tokens, training=False):
    n = 2 * sizes.d_model * sizes.n_layers * (2 * sizes.d_model + 4 * sizes.d_model)
    forward = 2 * n + 4 * sizes.n_layers * n_tokens * sizes.d_model
    forward += 2 * sizes.d_model * sizes.vocabulary
    return forward + 2 * forward * training


def _flops_block_by_block(sizes, n_tokens, training=False):
    d, total = sizes.d_model, 0
    for _ in range(sizes.n_layers):
        total += 4 * 2 * d * d
        total += 2 * 2 * n_tokens * sizes.n_heads * (d // sizes.n_heads)
        total += 2 * 2 * d * 4 * d
    total += 2 * d * sizes.vocabulary
    return total * 3 if training else total


def _flops_by_matrices(sizes, n_tokens, training=False):
    d = sizes.d_model
    matrices = [(d, d)] * 4 + [(d, 4 * d), (4 * d, d)] + [(n_tokens, d)] * 2
    multiplications = [a * b for a, b in matrices * sizes.n_layers] + [sizes.vocabulary * d]
    return sum(multiplications) * {False: 2, True: 6}[training]


FLOPS_PER_TOKEN = Exercise(
    part="scaling.flops_per_token",
    notebook="09",
    used_by="the time a run will take, and the share of the machine's peak that it reaches",
    cases=_flops_per_token_cases,
    hints=(
        "A matrix [a, b] times one token's vector is a · b multiplications and as many additions: "
        "2 · a · b FLOPs. So every weight of a matrix costs 2.",
        "The matrices of a block have 12 · d² weights. The head has vocabulary · d, tied or not. "
        "The tables cost nothing: a row is looked up, not multiplied.",
        "In each layer a token has a score with each of the `n_tokens`, a product over d numbers "
        "in all heads together, and takes a share of each value, d numbers once more.",
        "Backward makes two products of every one: the gradient of its input and the gradient of "
        "its weights. Forward and backward together cost three times forward.",
    ),
    mistakes=(
        Mistake(
            "mac_not_flop",
            "Yours is half of it. You count a multiplication and its addition as one; here they "
            "are two FLOPs.",
            _mac_not_flop,
        ),
        Mistake(
            "backward_equals_forward",
            "Training costs you twice as much as reading. Backward alone is twice forward: one "
            "product for the gradient of the input, one for that of the weights. With forward, 3.",
            _twice_forward,
        ),
        Mistake(
            "ignores_training",
            "You do not look at `training`. With the way back it costs three times as much.",
            _ignores_training,
        ),
        Mistake(
            "always_training",
            "You always count the way back. Without `training` there is forward only.",
            _always_training,
        ),
        Mistake(
            "no_attention_term",
            "You leave out that tokens look at each other. For short texts it hardly matters; the "
            "longer the text, the more: 2 · 2 · n_tokens · d a layer.",
            _no_attention_term,
        ),
        Mistake(
            "six_times_all_parameters",
            "You count 2 FLOPs for every parameter, 6 while learning. A good guess, but a row of a "
            "table is looked up, a tied head is used again, and scores have no parameters.",
            _six_times_all_parameters,
        ),
        Mistake(
            "all_parameters_and_attention",
            "You take every parameter for a weight of a matrix. A row of a table is looked up, a "
            "bias is added, a tied head is used again: 12 · d² a block, and vocabulary · d.",
            _all_parameters_and_attention,
        ),
        Mistake(
            "biases_multiplied",
            "You count the biases: 9 · d a block. They are added; asked are products of matrices.",
            _biases_multiplied,
        ),
        Mistake(
            "words_multiplied",
            "You count the table of words as a product. A row is looked up there: only the head "
            "multiplies.",
            _words_multiplied,
        ),
        Mistake(
            "tables_multiplied",
            "You count the tables of words and places as products. A row is looked up there: no "
            "multiplication.",
            _tables_multiplied,
        ),
        Mistake(
            "forgot_head",
            "You forget the head: a product with every word's vector, vocabulary · d weights.",
            _forgot_head,
        ),
        Mistake(
            "tied_head_is_free",
            "Your tied head costs nothing. It saves memory, not work: the product with every "
            "word's vector is still made.",
            _tied_head_is_free,
        ),
        Mistake(
            "context_for_n_tokens",
            "You take `context`, the longest text that fits. What is looked at are the `n_tokens` "
            "of this text.",
            _context_for_n_tokens,
        ),
        Mistake(
            "whole_text",
            "Yours is the cost of the whole text. Asked is that of one token.",
            _whole_text,
        ),
        Mistake(
            "half_the_looking",
            "You count half of what looking at `n_tokens` costs. It takes a score and a share of a "
            "value, each with d multiplications and d additions; and later tokens count too.",
            _scores_only,
        ),
        Mistake(
            "earlier_tokens_only",
            "You count the tokens that a causal mask leaves: half of them, on average. A product "
            "of matrices is made in full and masked afterwards: count all `n_tokens`.",
            _earlier_tokens_only,
        ),
        Mistake(
            "other_tokens_only",
            "You count n_tokens - 1 tokens to look at. A token looks at itself, too.",
            _other_tokens_only,
        ),
        Mistake(
            "attention_times_heads",
            "You multiply by the heads. All heads together are d wide, so their scores take d "
            "multiplications for each token that is looked at.",
            _attention_times_heads,
        ),
        Mistake(
            "attention_of_one_head",
            "You count the scores and shares of one head. All heads together take d "
            "multiplications each.",
            _attention_of_one_head,
        ),
        Mistake(
            "attention_of_one_layer",
            "Your tokens look at each other in one layer. They do so in every one.",
            _attention_of_one_layer,
        ),
        Mistake(
            "all_scores_for_each_token",
            "You count n_tokens² scores for one token. That is all tokens' scores together; one "
            "token has `n_tokens` of them.",
            _all_scores_for_each_token,
        ),
        Mistake(
            "forgot_feed_forward",
            "You leave the feed-forward nets out: 8 · d² weights a block.",
            _flops_forgot_feed_forward,
        ),
    ),
    alternatives=(
        flops_by_products,
        _flops_by_kaplan,
        _flops_block_by_block,
        _flops_by_matrices,
    ),
)

# --- memory_report -------------------------------------------------------------------------------

_KEPT_IN_A_BLOCK = {
    "what the first norm is given": 1,
    "what queries, keys and values are made of": 1,
    "queries": 1,
    "keys": 1,
    "values": 1,
    "what the heads found": 1,
    "what the second norm is given": 1,
    "what feed-forward is given": 1,
    "before the GELU": 4,
    "after the GELU": 4,
}
"""Tensors that the way back needs, with their width as a multiple of d_model."""

_DTYPES = {1: torch.int8, 2: torch.bfloat16, 4: torch.float32, 8: torch.float64}


def _memory_tensor_by_tensor(
    sizes: Sizes, n_rows: int, n_tokens: int, mode: str = "training", bytes_per_number: int = 4
) -> dict[str, int]:
    def nbytes(*shape: int) -> int:
        return torch.empty(shape, dtype=_DTYPES[bytes_per_number], device="meta").nbytes

    weights = nbytes(_counted(sizes)["total"])
    if mode == "generation":
        return _with_total({"weights": weights, "cache": _cache(sizes, n_rows, n_tokens, nbytes)})
    widths = sizes.n_layers * [n * sizes.d_model for n in _KEPT_IN_A_BLOCK.values()]
    widths += [sizes.d_model, sizes.d_model, sizes.vocabulary]  # the last norm, the head, the loss
    return _with_total(
        {
            "weights": weights,
            "gradients": weights,
            "optimiser": weights + weights,
            "activations": sum(nbytes(n_rows, n_tokens, width) for width in widths),
        }
    )


def _cache(sizes: Sizes, n_rows: int, n_tokens: int, nbytes: Any) -> int:
    """Bytes of keys and values, as `sampling.KVCache` keeps them in every layer."""
    shape = n_rows, sizes.n_heads, n_tokens, sizes.d_model // sizes.n_heads
    cache = sampling.KVCache(n_tokens)
    cache.update(torch.empty(shape, device="meta"), torch.empty(shape, device="meta"))
    return sizes.n_layers * (nbytes(*cache.key.shape) + nbytes(*cache.value.shape))


def _unknown_mode(part: Part, mode: str, **arguments: Any) -> str:
    """What a part does where there is no such mode. All but a ValueError is a mistake."""
    try:
        report = part(mode=mode, **arguments)
    except ValueError:
        return "a ValueError"
    except Exception as error:
        raise Wrong(
            "An unknown mode should raise a ValueError that says which modes there are; yours "
            f"raises {error!r}."
        ).with_traceback(error.__traceback__) from None
    is_report = isinstance(report, dict) and report
    given = f"a report with {', '.join(map(str, report))}" if is_report else repr(report)
    raise Wrong(
        f"There is no mode {mode!r}, but yours gives {given}. Raise a ValueError that says which "
        "modes there are."
    )


def _part_of_a_mode(part: Part, mode: str, **arguments: Any) -> str:
    """As `_unknown_mode`, for a part of a name and for no name: one mistake takes both."""
    try:
        _unknown_mode(part, "", **arguments)
        return _unknown_mode(part, mode, **arguments)
    except Wrong:
        raise Wrong(
            f'Neither {mode!r} nor "" is a mode, but yours does not raise a ValueError for both.'
        ) from None


def _memory_report_cases() -> list[Case]:
    def case(title: str, sizes: Sizes, n_rows: int, n_tokens: int, **options: Any) -> Case:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        arguments = {"sizes": sizes, "n_rows": n_rows, "n_tokens": n_tokens, **options}
        call = f"memory_report(sizes, {n_rows}, {n_tokens}{given})"
        if options.get("mode") in (None, "training", "generation"):
            return Case(title, arguments, _memory_tensor_by_tensor, shown=call)
        use = _part_of_a_mode if options["mode"] == "train" else _unknown_mode
        return Case(title, arguments, lambda *_: "a ValueError", use, call)

    small, tied = Sizes(50, 12, 3, 2, 9), Sizes(23, 20, 5, 4, 30, tied=True)
    single = Sizes(31, 10, 1, 1, 17)
    return [
        case("a small model learns", small, 5, 7),
        case("it writes", small, 5, 7, mode="generation"),
        case("it learns in half precision", tied, 3, 11, mode="training", bytes_per_number=2),
        case("it writes in half precision", tied, 3, 11, mode="generation", bytes_per_number=2),
        case("it writes with one byte for a number", tied, 2, 30, mode="generation",
             bytes_per_number=1),
        case("it learns in double precision", single, 2, 6, mode="training", bytes_per_number=8),
        case("one text of one token", small, 1, 1, mode="training"),
        case("one long text is written", single, 1, 17, mode="generation"),
        case("longer texts than the context", small, 2, 12),
        case("longer texts are written", small, 2, 12, mode="generation"),
        case("a large vocabulary", _LARGE, 3, 5, mode="training"),
        case("a mode that there is not", small, 5, 7, mode="inference"),
        case("a mode in capitals", small, 5, 7, mode="Training"),
        case("a part of a mode's name", small, 5, 7, mode="train"),
    ]  # fmt: skip


def _report(sizes, n_rows, n_tokens, mode, bytes_per_number, **wrong):
    """The right report but for some entries, given in numbers, and their sum."""
    if mode not in ("training", "generation"):
        raise ValueError(mode)
    right = _memory_tensor_by_tensor(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return _with_total(
        {
            what: wrong[what] * bytes_per_number if what in wrong else right[what]
            for what in list(right)[:-1]
        }
    )


def _weights(sizes):
    return _counted(sizes)["total"]


def _activations(sizes, n_rows, n_tokens, block=16, outside=2, logits=1):
    d, tokens = sizes.d_model, n_rows * n_tokens
    return tokens * (block * sizes.n_layers * d + outside * d + logits * sizes.vocabulary)


def _forgot_optimiser(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, optimiser=0)


def _one_mean_a_weight(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, optimiser=_weights(sizes))


def _optimiser_has_the_weights_too(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, optimiser=3 * _weights(sizes))


def _forgot_gradients(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, gradients=0)


def _cache_times_two_model(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=_weights(sizes))


def _scaled_report(factor, sizes, n_rows, n_tokens, mode, bytes_per_number):
    report = _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return {what: factor(n) for what, n in report.items()}


def _bits_for_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: 8 * n, sizes, n_rows, n_tokens, mode, bytes_per_number)


def _in_mebibytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: n / 2**20, sizes, n_rows, n_tokens, mode, bytes_per_number)


def _in_megabytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _scaled_report(lambda n: n / 10**6, sizes, n_rows, n_tokens, mode, bytes_per_number)


def _numbers_for_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, 1)


def _always_four_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, 4)


def _keys_only(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = sizes.n_layers * sizes.d_model * n_rows * n_tokens
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _cache_of_one_layer(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = 2 * sizes.d_model * n_rows * n_tokens
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _cache_of_one_head(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = 2 * sizes.n_layers * sizes.d_model // sizes.n_heads * n_rows * n_tokens
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _cache_times_heads(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = 2 * sizes.n_layers * sizes.d_model * sizes.n_heads * n_rows * n_tokens
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _cache_of_one_row(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = 2 * sizes.n_layers * sizes.d_model * n_tokens
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _cache_of_the_context(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    cache = 2 * sizes.n_layers * sizes.d_model * n_rows * sizes.context
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, cache=cache)


def _logits_not_kept(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, logits=0)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _logits_kept_twice(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, logits=2)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _blocks_only_kept(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, outside=0, logits=0)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _nothing_kept_outside_blocks(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, outside=0)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _one_output_a_block(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, block=1)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _activations_of_one_layer(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, block=16 / sizes.n_layers)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=int(kept))


def _one_row(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, 1, n_tokens, mode, bytes_per_number)


def _tokens_of_the_context(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, sizes.context, mode, bytes_per_number)


def _weights_of_blocks(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    n = 12 * sizes.n_layers * sizes.d_model**2
    wrong = {"weights": n, "gradients": n, "optimiser": 2 * n}
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, **wrong)


def _activations_of_one_row(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, 1, n_tokens)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _activations_of_the_context(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, sizes.context)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _weights_of_attention_kept(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    maps = sizes.n_layers * sizes.n_heads * n_rows * n_tokens**2
    kept = _activations(sizes, n_rows, n_tokens) + maps
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=kept)


def _thirty_four_bytes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    kept = _activations(sizes, n_rows, n_tokens, block=34 / bytes_per_number)
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number, activations=int(kept))


def _ignores_mode(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, "training", bytes_per_number)


def _other_modes_generate(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "training" if mode == "training" else "generation"
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


def _other_modes_train(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "generation" if mode == "generation" else "training"
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


def _nothing_for_other_modes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    if mode in ("training", "generation"):
        return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return None


def _parts_of_names_are_modes(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    mode = "training" if mode and mode in "training" else mode
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


def _capitals_are_forgiven(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode.lower(), bytes_per_number)


def _report_without_total(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    report = _report(sizes, n_rows, n_tokens, mode, bytes_per_number)
    return {what: n for what, n in report.items() if what != "total"}


def _memory_by_tensors(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    return _report(sizes, n_rows, n_tokens, mode, bytes_per_number)


def _memory_by_bytes_a_weight(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    if mode not in {"training", "generation"}:
        raise ValueError(f'mode is "training" or "generation", not {mode!r}')
    weights = bytes_per_number * scaling.count_parameters(sizes)["total"]
    if mode == "generation":
        one_token = 2 * sizes.n_layers * sizes.d_model * bytes_per_number
        cache = one_token * n_tokens * n_rows
        return {"weights": weights, "cache": cache, "total": weights + cache}
    one_token = (16 * sizes.n_layers + 2) * sizes.d_model + sizes.vocabulary
    kept = n_rows * n_tokens * bytes_per_number * one_token
    return {
        "weights": weights,
        "gradients": weights,
        "optimiser": 2 * weights,
        "activations": kept,
        "total": 4 * weights + kept,
    }


def _memory_by_match(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    n = scaling.count_parameters(sizes)["total"]
    tokens = n_rows * n_tokens
    match mode:
        case "training":
            block = 8 * sizes.d_model + 2 * 4 * sizes.d_model
            kept = sizes.n_layers * block + 2 * sizes.d_model + sizes.vocabulary
            report = {"weights": n, "gradients": n, "optimiser": n + n}
            report["activations"] = kept * tokens
        case "generation":
            report = {"weights": n, "cache": tokens * sizes.n_layers * sizes.d_model * 2}
        case _:
            raise ValueError("no such mode")
    report["total"] = sum(report.values())
    return {name: value * bytes_per_number for name, value in report.items()}


MEMORY_REPORT = Exercise(
    part="scaling.memory_report",
    notebook="09",
    used_by="the calculator: does it fit on this machine?",
    cases=_memory_report_cases,
    hints=(
        "First count numbers, then multiply every count by `bytes_per_number`, then add up.",
        '`count_parameters(sizes)` gives the weights, under "total". While learning each weight '
        "has a gradient, and AdamW keeps two means for it.",
        "There are n_rows · n_tokens tokens. For each the way back needs 16 · d_model numbers a "
        "layer, 2 · d_model after the last one, and its logits, one a word.",
        "While writing, each layer keeps a key and a value for each token: d_model numbers each, "
        "all heads together.",
        'For a `mode` that is neither "training" nor "generation", `raise ValueError(…)` first.',
    ),
    mistakes=(
        Mistake(
            "forgot_optimiser",
            "You forget the optimiser. AdamW keeps two means for every weight: of the gradient, "
            "and of its square.",
            _forgot_optimiser,
        ),
        Mistake(
            "one_mean_a_weight",
            "Your optimiser keeps one number for each weight. AdamW keeps two: the mean of the "
            "gradient, and that of its square.",
            _one_mean_a_weight,
        ),
        Mistake(
            "optimiser_has_the_weights_too",
            "Your optimiser keeps three numbers for each weight. The weight itself is counted "
            "already: two means remain.",
            _optimiser_has_the_weights_too,
        ),
        Mistake(
            "forgot_gradients",
            "You forget the gradients. There is one for every weight.",
            _forgot_gradients,
        ),
        Mistake(
            "weights_of_blocks",
            "You take 12 · layers · d² for the weights: the matrices of the blocks. Tables, "
            "biases and norms are held too: `count_parameters` gives them all.",
            _weights_of_blocks,
        ),
        Mistake(
            "cache_times_two_model",
            "Your cache is as large as the weights. It has nothing to do with them: it holds a key "
            "and a value for every token in every layer.",
            _cache_times_two_model,
        ),
        Mistake(
            "bits_for_bytes",
            "Yours is 8 times too large: you give bits. A byte is 8 bits.",
            _bits_for_bytes,
        ),
        Mistake(
            "in_mebibytes",
            "You divide by 2^20 and give mebibytes. Asked are bytes, as whole numbers.",
            _in_mebibytes,
        ),
        Mistake(
            "in_megabytes",
            "You divide by a million and give megabytes. Asked are bytes, as whole numbers.",
            _in_megabytes,
        ),
        Mistake(
            "numbers_for_bytes",
            "You count numbers. Each takes `bytes_per_number` bytes.",
            _numbers_for_bytes,
        ),
        Mistake(
            "always_four_bytes",
            "You always count 4 bytes. Take `bytes_per_number`.",
            _always_four_bytes,
        ),
        Mistake(
            "keys_or_values_only",
            "Your cache is half as large as it is. It keeps the keys and the values.",
            _keys_only,
        ),
        Mistake(
            "cache_of_one_layer",
            "You count the cache of one layer. Every layer has keys and values of its own.",
            _cache_of_one_layer,
        ),
        Mistake(
            "cache_of_one_head",
            "You count the cache of one head. All heads together have d_model numbers.",
            _cache_of_one_head,
        ),
        Mistake(
            "cache_times_heads",
            "You multiply the cache by the heads. All heads together have d_model numbers.",
            _cache_times_heads,
        ),
        Mistake(
            "cache_of_one_row",
            "You count the cache of one text. There are `n_rows`, and no two are the same.",
            _cache_of_one_row,
        ),
        Mistake(
            "cache_of_the_context",
            "Your cache has room for `context` tokens. Count the `n_tokens` that are kept.",
            _cache_of_the_context,
        ),
        Mistake(
            "one_row",
            "You count one text, of `n_tokens`. There are `n_rows` of them.",
            _one_row,
        ),
        Mistake(
            "tokens_of_the_context",
            "You take `context`, the longest text that fits. These texts have `n_tokens` each.",
            _tokens_of_the_context,
        ),
        Mistake(
            "blocks_only_kept",
            "You count what the blocks keep. After the last one 2 · d_model numbers a token are "
            "kept, and the logits, one for each word.",
            _blocks_only_kept,
        ),
        Mistake(
            "logits_not_kept",
            "You forget the logits. They are needed on the way back, one for each word at each "
            "token: often the largest tensor of all.",
            _logits_not_kept,
        ),
        Mistake(
            "logits_kept_twice",
            "You count the logits twice. What the fused loss keeps are the log probabilities, one "
            "for each word at each token.",
            _logits_kept_twice,
        ),
        Mistake(
            "nothing_kept_outside_blocks",
            "You count what the blocks keep, and the logits. The last norm and the head each keep "
            "what they are given, too: 2 · d_model a token.",
            _nothing_kept_outside_blocks,
        ),
        Mistake(
            "one_output_a_block",
            "You count what goes from block to block. The way back also needs what is inside: 16 · "
            "d_model numbers a token and layer.",
            _one_output_a_block,
        ),
        Mistake(
            "activations_of_one_layer",
            "You count the activations of one layer. All layers keep theirs until the way back.",
            _activations_of_one_layer,
        ),
        Mistake(
            "activations_of_one_row",
            "You count the activations of one text. There are `n_rows` in the batch.",
            _activations_of_one_row,
        ),
        Mistake(
            "activations_of_the_context",
            "You count `context` tokens a text. This batch has `n_tokens`.",
            _activations_of_the_context,
        ),
        Mistake(
            "attention_weights_kept",
            "You count the weights of attention, n_tokens² a head. Explicit parts keep them; fused "
            "kernels compute them again on the way back.",
            _weights_of_attention_kept,
        ),
        Mistake(
            "thirty_four_bytes",
            "You take 34 · d_model bytes a token and layer. That is for 2 bytes a number, with "
            "dropout masks. Here it is 16 · d_model numbers.",
            _thirty_four_bytes,
        ),
        Mistake(
            "ignores_mode",
            "You do not look at `mode`. While writing there are no gradients, no optimiser and no "
            "way back: weights, and the cache.",
            _ignores_mode,
        ),
        Mistake(
            "other_modes_generate",
            'You take every mode but "training" for "generation". Somebody who misspells it would '
            "get a wrong report: raise a ValueError.",
            _other_modes_generate,
        ),
        Mistake(
            "other_modes_train",
            'You take every mode but "generation" for "training". Somebody who misspells it would '
            "get a wrong report: raise a ValueError.",
            _other_modes_train,
        ),
        Mistake(
            "nothing_for_other_modes",
            "For a mode that there is not you return None. Whoever misspells it finds out much "
            "later: raise a ValueError.",
            _nothing_for_other_modes,
        ),
        Mistake(
            "parts_of_names_are_modes",
            'You take a part of a name for the mode. `in "training"` and `startswith` compare '
            'letters: ask for all of it, with `==` or `in ("training", "generation")`.',
            _parts_of_names_are_modes,
        ),
        Mistake(
            "capitals_are_forgiven",
            'You accept "Training". That is kind, but the docstring names two modes: everything '
            "else is a ValueError.",
            _capitals_are_forgiven,
        ),
        Mistake(
            "forgot_total",
            'Your report has no sum. Add it as the entry "total".',
            _report_without_total,
        ),
    ),
    alternatives=(_memory_by_tensors, _memory_by_bytes_a_weight, _memory_by_match),
)

# --- fit_power_law -------------------------------------------------------------------------------


def _line_by_numpy(n: Tensor, loss: Tensor, floor: float = 0.0) -> tuple[float, float]:
    x, y = n.detach().double().numpy(), loss.detach().double().numpy()
    slope, height = np.polyfit(np.log(x), np.log(y - floor), 1)
    return math.exp(height), -float(slope)


def _without_gradients(part: Part, n: Tensor, loss: Tensor, **floor: float) -> Any:
    """Losses that were measured have no gradient, and can be given to NumPy."""
    return part(n.detach(), loss.detach(), **floor)


def _to_four_digits(part: Part, **arguments: Any) -> Any:
    """A fit of float32 numbers may be computed in float32."""
    fitted = _without_gradients(part, **arguments)
    if not (isinstance(fitted, tuple) and all(isinstance(one, float) for one in fitted)):
        return fitted
    return tuple(float(f"{one:.4g}") for one in fitted)


def _fit_power_law_cases() -> list[Case]:
    def case(title: str, n: list, loss: list, dtype=torch.float64, **floor: float) -> Case:
        arguments: dict[str, Any] = {
            "n": torch.tensor(n, dtype=dtype),
            "loss": torch.tensor(loss, dtype=dtype),
            **floor,
        }
        call = "fit_power_law(n, loss" + "".join(f", floor={value}" for value in floor.values())
        if dtype == torch.float64:
            return Case(title, arguments, _line_by_numpy, _without_gradients, f"{call})")
        rounded = functools.partial(_to_four_digits, _line_by_numpy)
        return Case(
            title,
            arguments,
            lambda n, loss, floor=0.0: rounded(n=n, loss=loss, floor=floor),
            _to_four_digits,
            f"{call})",
        )

    measured = [3.91, 3.26, 2.74, 2.57, 2.31, 2.27, 2.12]
    sizes = [1e3, 3e3, 1.1e4, 2.7e4, 9e4, 2.2e5, 8e5]
    return [
        case("a line without noise", [4.0, 16.0, 64.0, 256.0], [4.0, 2.0, 1.0, 0.5]),
        case("the same above a floor of 2", [4.0, 16.0, 64.0, 256.0], [6.0, 4.0, 3.0, 2.5],
             floor=2.0),
        case("measured, with noise", sizes, measured),
        case("measured, with a known floor", sizes, measured, floor=1.7),
        case("in no order", [9e4, 1e3, 8e5, 2.7e4], [2.31, 3.91, 2.12, 2.57], floor=0.9),
        case("large models", [7.7e5, 1.2e7, 3e8, 1.5e9], [5.1, 3.9, 3.4, 2.9]),
        case("two sizes", [50.0, 300.0], [3.0, 2.5], floor=0.5),
        case("less than 1", [20.0, 70.0, 500.0], [0.31, 0.16, 0.07], floor=0.02),
        case("a loss that grows", [10.0, 100.0, 1000.0], [1.0, 1.3, 1.9]),
        case("float32", sizes, measured, torch.float32, floor=1.25),
    ]  # fmt: skip


def _line(x, y):
    """Slope and height at 0 of the line through points."""
    x, y = x.double(), y.double()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope.item(), (y.mean() - slope * x.mean()).item()


def _exp(height):
    """e^height, or infinity where that is too large."""
    return torch.tensor(height, dtype=torch.float64).exp().item()


def _fit_sign(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return a, -alpha


def _fit_without_sign_of_growth(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return a, abs(alpha)


def _fit_without_logs(n, loss, floor=0.0):
    slope, height = _line(n, loss - floor)
    return height, -slope


def _exponential_fit(n, loss, floor=0.0):
    slope, height = _line(n, (loss - floor).log())
    return _exp(height), -slope


def _logarithmic_fit(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss - floor)
    return height, -slope


def _ignores_floor(n, loss, floor=0.0):
    return _line_by_numpy(n, loss)


def _floor_after_the_log(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss.log() - floor)
    return _exp(height), -slope


def _log_of_floor_subtracted(n, loss, floor=0.0):
    slope, height = _line(n.log(), loss.log() - (math.log(floor) if floor else 0.0))
    return _exp(height), -slope


def _adds_floor(n, loss, floor=0.0):
    return _line_by_numpy(n, loss, -floor)


def _floor_in_a(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return a + floor, alpha


def _forgot_exp(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return math.log(a), alpha


def _mixed_bases(logarithm, power):
    """The mistake to take logarithms to one base, and powers of another."""

    def fit(n, loss, floor=0.0):
        a, alpha = _line_by_numpy(n, loss, floor)
        return power ** math.log(a, logarithm), alpha

    shown = {math.e: "e"}.get
    return Mistake(
        f"log{shown(logarithm, logarithm)}_and_powers_of_{shown(power, power)}",
        f"You take logarithms to the base {shown(logarithm, logarithm)}, and powers of "
        f"{shown(power, power)}. Stay with one base; the slope is the same in all of them.",
        fit,
    )


def _one_log_in_base_10(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return a, alpha * math.log(10)


def _sign_in_the_intercept(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope, _ = _line(x, y)
    return _exp(y.mean().item() + slope * x.mean().item()), -slope


def _denominator_not_centred(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x * x).sum()
    return (y.mean() - slope * x.mean()).exp().item(), -slope.item()


def _slope_and_intercept_swapped(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return math.exp(-alpha), -math.log(a)


def _first_and_last(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    return (y[0] - slope * x[0]).exp().item(), -slope.item()


def _line_through_the_first(n, loss, floor=0.0):
    alpha = _line_by_numpy(n, loss, floor)[1]
    return ((loss[0].double() - floor) * n[0].double() ** alpha).item(), alpha


def _means_before_logs(n, loss, floor=0.0):
    alpha = _line_by_numpy(n, loss, floor)[1]
    return ((loss.double() - floor).mean() * n.double().mean() ** alpha).item(), alpha


def _axes_swapped(n, loss, floor=0.0):
    slope, height = _line((loss.double() - floor).log(), n.double().log())
    return _exp(-height / slope), -1 / slope


def _through_the_origin(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    return 1.0, -((x * y).sum() / (x * x).sum()).item()


def _correlation_for_slope(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    r = torch.corrcoef(torch.stack((x, y)))[0, 1]
    return (y.mean() - r * x.mean()).exp().item(), -r.item()


def _mixed_denominators(n, loss, floor=0.0):
    x, y = n.double().log(), (loss.double() - floor).log()
    slope = torch.cov(torch.stack((x, y)))[0, 1] / x.var(correction=0)
    return (y.mean() - slope * x.mean()).exp().item(), -slope.item()


def _alpha_first(n, loss, floor=0.0):
    a, alpha = _line_by_numpy(n, loss, floor)
    return alpha, a


def _tensors_for_numbers(n, loss, floor=0.0):
    return tuple(torch.tensor(one, dtype=loss.dtype) for one in _line_by_numpy(n, loss, floor))


def _changes_the_losses(n, loss, floor=0.0):
    loss -= floor
    return _line_by_numpy(n, loss)


def _fit_by_lstsq(n, loss, floor=0.0):
    x = torch.stack((torch.ones_like(n), n.log()), dim=1)
    height, slope = torch.linalg.lstsq(x, torch.log(loss - floor)[:, None]).solution[:, 0]
    return height.exp().item(), -slope.item()


def _fit_by_covariance(n, loss, floor=0.0):
    x, y = torch.log(n.double()), torch.log(loss.double() - floor)
    covariance = torch.cov(torch.stack([x, y]))
    alpha = -covariance[0, 1] / covariance[0, 0]
    return float(torch.exp(y.mean() + alpha * x.mean())), float(alpha)


def _fit_in_base_10(n, loss, floor=0.0):
    x, y = n.double().log10(), (loss.double() - floor).log10()
    m = len(n)
    slope = (m * (x * y).sum() - x.sum() * y.sum()) / (m * (x * x).sum() - x.sum() ** 2)
    return 10 ** ((y.sum() - slope * x.sum()) / m).item(), -slope.item()


def _fit_point_by_point(n, loss, floor=0.0):
    points = [
        (math.log(i), math.log(j - floor)) for i, j in zip(n.tolist(), loss.tolist(), strict=True)
    ]
    x_mean, y_mean = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - x_mean) * (y - y_mean) for x, y in points)
    alpha = -above / sum((x - x_mean) ** 2 for x, _ in points)
    return math.exp(y_mean + alpha * x_mean), alpha


FIT_POWER_LAW = Exercise(
    part="scaling.fit_power_law",
    notebook="09",
    used_by="every line on the log-log plots",
    cases=_fit_power_law_cases,
    hints=(
        "Take the logarithm of both sides: log(loss - floor) = log a - alpha · log n. That is a "
        "straight line in log n.",
        "The line with the least squares goes through the mean point. Its slope is the sum of "
        "(x - mean x) · (y - mean y), divided by the sum of (x - mean x)².",
        "The line falls with -alpha, so alpha is minus the slope. Its height at log n = 0 is log "
        "a, so `math.exp` of it is a.",
        "Both results are Python numbers: `.item()` makes one of a tensor.",
    ),
    mistakes=(
        Mistake(
            "sign",
            "Your alpha is the slope. The law says n^-alpha: where the loss falls, the slope is "
            "negative and alpha is positive.",
            _fit_sign,
        ),
        Mistake(
            "never_negative",
            "Your alpha is never negative. Where the loss grows with n it is: it is minus the "
            "slope, whatever that is.",
            _fit_without_sign_of_growth,
        ),
        Mistake(
            "fit_without_logs",
            "You lay a straight line through the numbers themselves. A power law is a straight "
            "line only where both axes are logarithms.",
            _fit_without_logs,
        ),
        Mistake(
            "exponential_fit",
            "You take the logarithm of the loss only. A straight line there is an exponential, "
            "a · e^(-alpha · n). Take that of n as well.",
            _exponential_fit,
        ),
        Mistake(
            "logarithmic_fit",
            "You take the logarithm of n only. A straight line there is a logarithm, which falls "
            "below zero in the end. Take that of the loss as well.",
            _logarithmic_fit,
        ),
        Mistake(
            "ignores_floor",
            "You do not use `floor`. It is what remains of the loss however large n is: subtract "
            "it before you take the logarithm.",
            _ignores_floor,
        ),
        Mistake(
            "floor_after_the_log",
            "You subtract the floor from the logarithm. It is a part of the loss: subtract first, "
            "then take the logarithm.",
            _floor_after_the_log,
        ),
        Mistake(
            "log_of_floor_subtracted",
            "You subtract the logarithm of the floor. That divides the loss by it. Subtract the "
            "floor itself, then take the logarithm.",
            _log_of_floor_subtracted,
        ),
        Mistake(
            "adds_floor",
            "You add the floor. The loss contains it already: the power law is what is left "
            "without it.",
            _adds_floor,
        ),
        Mistake(
            "floor_in_a",
            "You add the floor to a. It is an addend of its own: loss = floor + a · n^-alpha.",
            _floor_in_a,
        ),
        Mistake(
            "forgot_exp",
            "Your a is the height of the line. That is the logarithm of a: take its exponential.",
            _forgot_exp,
        ),
        _mixed_bases(10, math.e),
        _mixed_bases(2, math.e),
        _mixed_bases(math.e, 10),
        _mixed_bases(2, 10),
        Mistake(
            "one_log_in_base_10",
            "You take the logarithm of n to the base 10, and that of the loss to the base e. Their "
            "slope mixes both: take one base for both axes.",
            _one_log_in_base_10,
        ),
        Mistake(
            "sign_in_the_intercept",
            "Your alpha is right, but the height of the line has a wrong sign in it: it is mean y "
            "- slope · mean x.",
            _sign_in_the_intercept,
        ),
        Mistake(
            "denominator_not_centred",
            "You divide by the sum of x². Subtract the mean there as well: (x - mean x)².",
            _denominator_not_centred,
        ),
        Mistake(
            "slope_and_intercept_swapped",
            "You take the slope for the height, and the height for the slope. `np.polyfit` gives "
            "the slope first.",
            _slope_and_intercept_swapped,
        ),
        Mistake(
            "first_and_last",
            "Your line goes through the first and the last point. All points count, and the one "
            "with the least squares hears them all.",
            _first_and_last,
        ),
        Mistake(
            "line_through_the_first",
            "Your slope is right, but you lay the line through the first point. It goes through "
            "the mean of all of them.",
            _line_through_the_first,
        ),
        Mistake(
            "means_before_logs",
            "Your slope is right, but you take the means of n and of the loss, and then their "
            "logarithms. The line goes through the means of the logarithms.",
            _means_before_logs,
        ),
        Mistake(
            "axes_swapped",
            "You explain n by the loss. With noise that is another line: the squares to make small "
            "are those of the loss.",
            _axes_swapped,
        ),
        Mistake(
            "through_the_origin",
            "You leave the means out, so your line goes through the origin and a is 1. Subtract "
            "the mean of each axis first.",
            _through_the_origin,
        ),
        Mistake(
            "correlation_for_slope",
            "Your slope is the correlation, which is never beyond 1. Divide the covariance by the "
            "variance of log n alone.",
            _correlation_for_slope,
        ),
        Mistake(
            "mixed_denominators",
            "You divide a covariance over m - 1 by a variance over m. Use sums, or the same "
            "number for both.",
            _mixed_denominators,
        ),
        Mistake(
            "alpha_first",
            "You give alpha first. Return a, then alpha.",
            _alpha_first,
        ),
        Mistake(
            "tensors_for_numbers",
            "You return tensors. `.item()` makes Python numbers of them.",
            _tensors_for_numbers,
        ),
        Mistake(
            "changes_the_losses",
            "You subtract the floor in place: the losses that you were given are other ones "
            "afterwards. `loss - floor` makes a new tensor.",
            _changes_the_losses,
        ),
    ),
    alternatives=(
        _line_by_numpy,
        _fit_by_lstsq,
        _fit_by_covariance,
        _fit_in_base_10,
        _fit_point_by_point,
    ),
)

# --- compute_optimal -----------------------------------------------------------------------------


@functools.cache
def _lowest_loss(
    flops: float, a: float, b: float, alpha: float, beta: float
) -> tuple[float, float]:
    """Halves the range of log n again and again, by the sign of torch's own gradient."""
    low, high = -100.0, 200.0
    for _ in range(100):
        log_n = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        log_d = math.log(flops) - math.log(6) - log_n
        loss = a * torch.exp(-alpha * log_n) + b * torch.exp(-beta * log_d)
        (slope,) = torch.autograd.grad(loss, log_n)
        low, high = (log_n.item(), high) if slope < 0 else (low, log_n.item())
    return math.exp(low), flops / (6 * math.exp(low))


def _compute_optimal_cases() -> list[Case]:
    def case(title: str, *values: float) -> Case:
        names = ("flops", "a", "b", "alpha", "beta")
        call = f"compute_optimal({', '.join(f'{value:g}' for value in values)})"
        return Case(title, dict(zip(names, values, strict=True)), _lowest_loss, shown=call)

    return [
        case("a small budget", 6e6, 8.0, 30.0, 0.5, 0.25),
        case("Hoffmann et al., as much as for Gopher", 5.76e23, 406.4, 410.7, 0.34, 0.28),
        case("Hoffmann et al., a day on a few GPUs", 1e19, 406.4, 410.7, 0.34, 0.28),
        case("both alike", 6e8, 5.0, 5.0, 0.3, 0.3),
        case("alike but for the factors", 2e15, 3.0, 900.0, 0.4, 0.4),
        case("size hardly helps", 3e12, 20.0, 7.0, 0.9, 0.2),
        case("text hardly helps", 3e12, 0.7, 50.0, 0.15, 0.8),
    ]


def _optimum(flops, share, power, passes=6):
    """N as a share of a power of what can be paid, and D for what is left of it."""
    n = share * (flops / passes) ** power
    return n, flops / passes / n


def _share(a, b, alpha, beta):
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta))


def _kaplan_ratio(flops, a, b, alpha, beta):
    return _optimum(flops, 1.0, 0.73)


def _c_equals_nd(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / (alpha + beta), passes=1)


def _forward_only(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / (alpha + beta), passes=2)


def _six_forgotten_in_d(flops, a, b, alpha, beta):
    n, d = _lowest_loss(flops, a, b, alpha, beta)
    return n, 6 * d


def _six_forgotten_in_n(flops, a, b, alpha, beta):
    n = _share(a, b, alpha, beta) * flops ** (beta / (alpha + beta))
    return n, flops / 6 / n


def _all_in_parameters(flops, a, b, alpha, beta):
    return flops / 6, 1.0


def _all_in_tokens(flops, a, b, alpha, beta):
    return 1.0, flops / 6


def _twenty_tokens(flops, a, b, alpha, beta):
    n = math.sqrt(flops / 120)
    return n, 20 * n


def _half_and_half(flops, a, b, alpha, beta):
    return math.sqrt(flops / 6), math.sqrt(flops / 6)


def _share_of_a_root(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), 0.5)


def _powers_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), alpha / (alpha + beta))


def _alpha_and_beta_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, beta, alpha), alpha / (alpha + beta))


def _share_of_swapped_powers(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, beta, alpha), beta / (alpha + beta))


def _d_times_n(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, flops / 6 * n


def _forgot_root(flops, a, b, alpha, beta):
    return _optimum(flops, alpha * a / (beta * b), beta)


def _no_parentheses_below(flops, a, b, alpha, beta):
    share = (alpha * a / beta * b) ** (1 / (alpha + beta))
    return _optimum(flops, share, beta / (alpha + beta))


def _no_parentheses_in_the_root(flops, a, b, alpha, beta):
    share = (alpha * a / (beta * b)) ** (1 / alpha + beta)
    return _optimum(flops, share, beta / (alpha + beta))


def _no_parentheses_in_the_power(flops, a, b, alpha, beta):
    return _optimum(flops, _share(a, b, alpha, beta), beta / alpha + beta)


def _share_inverted(flops, a, b, alpha, beta):
    return _optimum(flops, 1 / _share(a, b, alpha, beta), beta / (alpha + beta))


def _losses_made_equal(flops, a, b, alpha, beta):
    return _optimum(flops, (a / b) ** (1 / (alpha + beta)), beta / (alpha + beta))


def _powers_of_the_slopes(flops, a, b, alpha, beta):
    share = (alpha * a / (beta * b)) ** (1 / (alpha + beta + 2))
    return _optimum(flops, share, (beta + 1) / (alpha + beta + 2))


def _forgot_share(flops, a, b, alpha, beta):
    return _optimum(flops, 1.0, beta / (alpha + beta))


def _share_without_root(flops, a, b, alpha, beta):
    return _optimum(flops, alpha * a / (beta * b), beta / (alpha + beta))


def _share_forgotten_in_d(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, (flops / 6) ** (alpha / (alpha + beta))


def _share_of_both(flops, a, b, alpha, beta):
    n = _lowest_loss(flops, a, b, alpha, beta)[0]
    return n, _share(a, b, alpha, beta) * (flops / 6) ** (alpha / (alpha + beta))


def _factors_swapped(flops, a, b, alpha, beta):
    return _optimum(flops, _share(b, a, alpha, beta), beta / (alpha + beta))


def _tokens_first(flops, a, b, alpha, beta):
    n, d = _lowest_loss(flops, a, b, alpha, beta)
    return d, n


def _n_only(flops, a, b, alpha, beta):
    return _lowest_loss(flops, a, b, alpha, beta)[0]


def _optimum_as_published(flops, a, b, alpha, beta):
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    half = flops / 6
    return g * half ** (beta / (alpha + beta)), 1 / g * half ** (alpha / (alpha + beta))


def _optimum_in_logs(flops, a, b, alpha, beta):
    budget = math.log(flops / 6)
    x = (math.log(alpha * a) - math.log(beta * b) + beta * budget) / (alpha + beta)
    return math.exp(x), math.exp(budget - x)


def _optimum_by_tokens(flops, a, b, alpha, beta):
    power = 1 / (alpha + beta)
    tokens = (beta * b / (alpha * a)) ** power * (flops / 6) ** (alpha * power)
    return flops / (6 * tokens), tokens


def _optimum_by_halving(flops, a, b, alpha, beta):
    low, high = 1e-30, 1e60
    for _ in range(200):
        n = math.sqrt(low * high)
        d = flops / 6 / n
        if alpha * a * n**-alpha > beta * b * d**-beta:
            low = n
        else:
            high = n
    return n, flops / 6 / n


COMPUTE_OPTIMAL = Exercise(
    part="scaling.compute_optimal",
    notebook="09",
    used_by="the plan of your own run: how large a model, on how much text",
    cases=_compute_optimal_cases,
    hints=(
        "Every pair with N · D = flops / 6 costs the same. Put D = flops / 6 / N into the loss: "
        "then there is one unknown, and the loss is a valley in it.",
        "At the lowest place the derivative is 0. Multiplied by N that says: alpha · a / N^alpha = "
        "beta · b / D^beta.",
        "Put D in again and solve for N: N^(alpha + beta) = alpha · a / (beta · b) · "
        "(flops / 6)^beta.",
        "Take the root 1 / (alpha + beta) of it. D is what is left: flops / 6 / N.",
    ),
    mistakes=(
        Mistake(
            "kaplan_ratio",
            "You let N grow with the power 0.73 of the budget: that is Kaplan's estimate. The "
            "power follows from the alpha and beta that you are given.",
            _kaplan_ratio,
        ),
        Mistake(
            "c_equals_nd",
            "You spend the budget as N · D. Every parameter costs 6 FLOPs for every token: "
            "6 · N · D.",
            _c_equals_nd,
        ),
        Mistake(
            "forward_only",
            "You spend the budget as 2 · N · D. That is forward alone; with the way back it is 6.",
            _forward_only,
        ),
        Mistake(
            "six_forgotten_in_d",
            "Your N is right. Your D is flops / N: the 6 is missing.",
            _six_forgotten_in_d,
        ),
        Mistake(
            "six_forgotten_in_n",
            "The 6 is in your D, and missing in your N: what is raised to a power is flops / 6.",
            _six_forgotten_in_n,
        ),
        Mistake(
            "all_in_parameters",
            "You spend everything on parameters, and one token is left to learn from. Where both "
            "matter, the lowest loss is in between.",
            _all_in_parameters,
        ),
        Mistake(
            "all_in_tokens",
            "You spend everything on tokens, and one parameter is left to learn with. Where both "
            "matter, the lowest loss is in between.",
            _all_in_tokens,
        ),
        Mistake(
            "twenty_tokens",
            "You take 20 tokens for each parameter. That is a rule of thumb for one set of "
            "constants: compute what yours give.",
            _twenty_tokens,
        ),
        Mistake(
            "half_and_half",
            "You make N and D equal. That is right only where a is b and alpha is beta.",
            _half_and_half,
        ),
        Mistake(
            "share_of_a_root",
            "You let N grow with the root of the budget. The power is beta / (alpha + beta), which "
            "is 0.5 only where alpha is beta.",
            _share_of_a_root,
        ),
        Mistake(
            "powers_swapped",
            "Your N grows with alpha / (alpha + beta). That is the power of D: the sooner size "
            "stops to help, the less of it you buy. N has beta / (alpha + beta).",
            _powers_swapped,
        ),
        Mistake(
            "alpha_and_beta_swapped",
            "You swap alpha and beta. alpha belongs to the parameters, beta to the tokens.",
            _alpha_and_beta_swapped,
        ),
        Mistake(
            "share_of_swapped_powers",
            "You swap alpha and beta in the share. At the lowest place alpha · a / N^alpha = "
            "beta · b / D^beta: alpha stands beside a.",
            _share_of_swapped_powers,
        ),
        Mistake(
            "d_times_n",
            "Your N is right. Your D is multiplied by it: flops / 6 / N, or flops / (6 · N).",
            _d_times_n,
        ),
        Mistake(
            "forgot_root",
            "Yours is N^(alpha + beta). Take the root of it, the power 1 / (alpha + beta).",
            _forgot_root,
        ),
        Mistake(
            "no_parentheses_below",
            "Parentheses are missing: `x / beta * b` is `(x / beta) * b` to Python. "
            "Write `x / (beta * b)`.",
            _no_parentheses_below,
        ),
        Mistake(
            "no_parentheses_in_the_root",
            "Parentheses are missing: `1 / alpha + beta` is `(1 / alpha) + beta` to Python. "
            "Write `1 / (alpha + beta)`.",
            _no_parentheses_in_the_root,
        ),
        Mistake(
            "no_parentheses_in_the_power",
            "Parentheses are missing: `beta / alpha + beta` is `(beta / alpha) + beta` to Python. "
            "Write `beta / (alpha + beta)`.",
            _no_parentheses_in_the_power,
        ),
        Mistake(
            "share_inverted",
            "You have the share of N upside down. The more a weighs, the larger N: "
            "alpha · a stands above, beta · b below.",
            _share_inverted,
        ),
        Mistake(
            "losses_made_equal",
            "You make a / N^alpha and b / D^beta equal. At the lowest place their slopes are: "
            "alpha · a / N^alpha = beta · b / D^beta.",
            _losses_made_equal,
        ),
        Mistake(
            "slopes_as_if_free",
            "You set the slopes in N and in D equal, as if a parameter cost what a token costs. "
            "One more of N takes away from D: put D = flops / 6 / N in first.",
            _powers_of_the_slopes,
        ),
        Mistake(
            "forgot_share",
            "You use the powers only. The factors matter too: (alpha · a / (beta · b)), to the "
            "power 1 / (alpha + beta).",
            _forgot_share,
        ),
        Mistake(
            "share_without_root",
            "You forget the root of the share. N was raised to alpha + beta: everything on the "
            "other side gets the power 1 / (alpha + beta).",
            _share_without_root,
        ),
        Mistake(
            "share_forgotten_in_d",
            "Your N is right. Your D lacks its share, so the budget is missed: take flops / 6 / N.",
            _share_forgotten_in_d,
        ),
        Mistake(
            "same_share_for_both",
            "Your N is right. Your D has the same share as N: it gets 1 / share, or simply "
            "flops / 6 / N.",
            _share_of_both,
        ),
        Mistake(
            "factors_swapped",
            "You swap a and b. a belongs to the parameters, b to the tokens.",
            _factors_swapped,
        ),
        Mistake(
            "tokens_first",
            "You give the tokens first. Return N, then D.",
            _tokens_first,
        ),
        Mistake(
            "n_only",
            "You return N only. Return both: N, and D = flops / 6 / N.",
            _n_only,
        ),
    ),
    alternatives=(
        _optimum_as_published,
        _optimum_in_logs,
        _optimum_by_tokens,
        _optimum_by_halving,
    ),
)

# --- exact_match_from_digit ----------------------------------------------------------------------


def _digit_by_digit(p: float, n_digits: int) -> float:
    return math.prod([p] * n_digits, start=1.0)


def _exact_match_cases() -> list[Case]:
    def case(title: str, p: float, n_digits: int) -> Case:
        call = f"exact_match_from_digit({p}, {n_digits})"
        return Case(title, {"p": p, "n_digits": n_digits}, _digit_by_digit, shown=call)

    return [
        case("every other digit right, three digits", 0.5, 3),
        case("nine of ten, ten digits", 0.9, 10),
        case("nine of ten, four digits", 0.9, 4),
        case("one digit", 0.7, 1),
        case("two digits", 0.3, 2),
        case("never right", 0.0, 5),
        case("always right", 1.0, 6),
        case("a long number", 0.999, 40),
        case("seldom right", 0.05, 6),
    ]


def _linear(p, n_digits):
    return 1 - n_digits * (1 - p)


def _linear_above_zero(p, n_digits):
    return max(0.0, 1 - n_digits * (1 - p))


def _times(p, n_digits):
    return p * n_digits


def _mean(p, n_digits):
    return p


def _at_least_one(p, n_digits):
    return 1 - (1 - p) ** n_digits


def _one_minus(p, n_digits):
    return 1 - p**n_digits


def _all_wrong(p, n_digits):
    return (1 - p) ** n_digits


def _root(p, n_digits):
    return p ** (1 / n_digits)


def _swapped(p, n_digits):
    return float(n_digits) ** p


def _divided(p, n_digits):
    return p / n_digits


def _first_is_free(p, n_digits):
    return p ** (n_digits - 1)


def _one_too_many(p, n_digits):
    return p ** (n_digits + 1)


def _then_a_wrong_one(p, n_digits):
    return p**n_digits * (1 - p)


def _in_percent(p, n_digits):
    return 100 * p**n_digits


def _rounded(places):
    """The mistake to round to so many places."""
    return Mistake(
        f"rounded_to_{places}",
        "You round. Small chances then become 0, and a smooth curve seems to jump. Return the "
        "number as it is.",
        lambda p, n_digits: round(p**n_digits, places),
    )


def _always(many):
    """The mistake to count so many digits, however many there are."""
    return Mistake(
        f"always_{many}_digits",
        f"You always count {many} digits. How many there are is given: `n_digits`.",
        lambda p, n_digits: p**many,
    )


def _logarithm_of_zero(p, n_digits):
    return math.exp(n_digits * math.log(p))


def _caret(p, n_digits):
    return p ^ n_digits


def _guesses_among_ten(p, n_digits):
    return (p / 10) ** n_digits


def _by_power(p, n_digits):
    return math.pow(p, n_digits)


def _by_loop(p, n_digits):
    all_right = 1.0
    for _ in range(n_digits):
        all_right = all_right * p
    return all_right


def _by_logarithm(p, n_digits):
    return math.exp(n_digits * math.log(p)) if p > 0 else 0.0


def _by_tensor(p, n_digits):
    return torch.full((n_digits,), p, dtype=torch.float64).prod().item()


EXACT_MATCH_FROM_DIGIT = Exercise(
    part="scaling.exact_match_from_digit",
    notebook="09",
    used_by="the curve that seems to jump, beside the one that does not",
    cases=_exact_match_cases,
    hints=(
        "Begin with two digits. The first is right with probability p, and of these cases the "
        "second is right in a share p.",
        "Each further digit multiplies by p once more.",
        "The product of n factors that are all p is a power. In Python a power is written with "
        "two stars.",
    ),
    mistakes=(
        Mistake(
            "linear",
            "You subtract the chance of a mistake once for each digit. That is close to it while p "
            "is nearly 1; below, it becomes negative.",
            _linear,
        ),
        Mistake(
            "linear_above_zero",
            "You subtract the chance of a mistake once for each digit, down to 0. Digits multiply: "
            "the chance becomes small, and is 0 only where p is.",
            _linear_above_zero,
        ),
        Mistake(
            "times",
            "You add p for each digit: that is how many digits are right on average. For all of "
            "them to be right, multiply.",
            _times,
        ),
        Mistake(
            "mean",
            "You return p. That is the share of digits that are right; a number is right only "
            "where all of its digits are.",
            _mean,
        ),
        Mistake(
            "one_minus",
            "Yours is the chance that at least one digit is right. All of them must be.",
            _at_least_one,
        ),
        Mistake(
            "the_opposite",
            "Yours is the chance that the number is wrong: 1 minus what is asked.",
            _one_minus,
        ),
        Mistake(
            "all_wrong",
            "Yours is the chance that all digits are wrong. p is the chance to be right.",
            _all_wrong,
        ),
        Mistake(
            "root",
            "You take a root. That is the way back, from numbers to digits: it makes the chance "
            "larger. More digits make it smaller.",
            _root,
        ),
        Mistake(
            "base_and_power_swapped",
            "You raise the number of digits to the power p. It is p that is multiplied with "
            "itself.",
            _swapped,
        ),
        Mistake(
            "divided",
            "You divide by the number of digits. Each digit multiplies by p.",
            _divided,
        ),
        Mistake(
            "first_is_free",
            "You multiply once too few: the first digit has to be right, too.",
            _first_is_free,
        ),
        Mistake(
            "one_too_many",
            "You multiply once too often: there are `n_digits` digits, and as many factors.",
            _one_too_many,
        ),
        Mistake(
            "then_a_wrong_one",
            "Yours is the chance of `n_digits` right ones and then a wrong one. After the last "
            "digit comes nothing.",
            _then_a_wrong_one,
        ),
        Mistake(
            "in_percent",
            "You give percent. A probability is between 0 and 1.",
            _in_percent,
        ),
        *map(_rounded, (2, 3, 4, 6)),
        *map(_always, (2, 4, 10)),
        Mistake(
            "logarithm_of_zero",
            "You take the logarithm of p. Where p is 0 there is none: the chance is 0 then.",
            _logarithm_of_zero,
        ),
        Mistake(
            "caret",
            "You write `^`, which compares bits in Python. A power is written `**`.",
            _caret,
        ),
        Mistake(
            "guesses_among_ten",
            "You divide by the ten digits that there are. p is the chance of the right one "
            "already.",
            _guesses_among_ten,
        ),
    ),
    alternatives=(_by_power, _by_loop, _by_logarithm, _by_tensor),
)

EXERCISES = (
    COUNT_PARAMETERS,
    FLOPS_PER_TOKEN,
    MEMORY_REPORT,
    FIT_POWER_LAW,
    COMPUTE_OPTIMAL,
    EXACT_MATCH_FROM_DIGIT,
)
