"""scaling.flops_per_token: how much a model computes."""

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.scaling import shared
from course_utils.scaling import Sizes

exercise = Exercise(
    "scaling.flops_per_token",
    used_by="the time a run will take, and the share of the machine's peak that it reaches",
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
)


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


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, sizes: Sizes, n_tokens: int, point: str = "", **training: bool) -> Case:
        given = "".join(f", {name}={value}" for name, value in training.items())
        return Case(
            title,
            {"sizes": sizes, "n_tokens": n_tokens, **training},
            flops_by_products,
            shown=f"flops_per_token(sizes, {n_tokens}{given})",
            point=point,
        )

    small, tied = Sizes(50, 12, 3, 2, 9), Sizes(23, 20, 5, 7, 30, tied=True)
    large = Sizes(50257, 768, 12, 12, 1024)
    learns = (
        "With `training` there is the way back as well. It costs twice forward, in every product: "
        "3 times forward in all."
    )
    head = "A tied head saves memory, not work: the product with every word's vector is made."
    beyond = "`n_tokens` is what the text has, also where that is more than `context`."
    compared = Case(
        "learning, compared with reading",
        {"sizes": small, "n_tokens": 7},
        lambda *_: 3.0,
        _learning_by_reading,
        "flops_per_token(sizes, 7, training=True) / flops_per_token(sizes, 7)",
        point=learns,
    )
    return [
        compared,
        case("a small model reads", small, 7),
        case("one block, one head", Sizes(31, 10, 1, 1, 17), 6),
        case("one token alone", small, 1, training=False),
        case("the whole context", Sizes(7, 8, 2, 5, 40), 40),
        case("the size of GPT-2, a short text", large, 100),
        case("it learns", small, 7, learns, training=True),
        case("the size of GPT-2 learns, the longest text", large, 1024, learns, training=True),
        case("the head is tied", tied, 11, head),
        case("the head is tied, a longer text", tied, 30, head),
        case("a longer text than the context", small, 12, beyond),
    ]


def _learning_by_reading(part: Part, **arguments: Any) -> Any:
    """How many times as much learning costs: right even where both are wrong in the same way.

    Of what is no number other cases say what it should be.
    """
    reads, learns = part(**arguments), part(**arguments, training=True)
    if not (isinstance(reads, Real) and isinstance(learns, Real) and reads):
        return 3.0
    times = float(learns) / float(reads)
    if abs(times - 3) > 0.001:
        raise Wrong(
            f"Learning costs {times:.3g} times what reading does, and should cost 3 times: the way "
            "back makes two products for every one of the way forward."
        )
    return 3.0


@exercise.mistake(
    "Yours is half of it. You count a multiplication and its addition as one; here they "
    "are two FLOPs."
)
def mac_not_flop(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens, training) // 2


def _flops(sizes, training, blocks=None, head=None, looked_at=0, backward=2):
    """FLOPs of which some share is wrong. `backward` is its cost as a multiple of forward's."""
    blocks = 12 * sizes.n_layers * sizes.d_model**2 if blocks is None else blocks
    head = sizes.vocabulary * sizes.d_model if head is None else head
    forward = 2 * (blocks + head + looked_at)
    return forward * (1 + backward) if training else forward


def _looked_at(sizes, n_tokens):
    return 2 * sizes.n_layers * n_tokens * sizes.d_model


@exercise.mistake(
    "Training costs you twice as much as reading. Backward alone is twice forward: one "
    "product for the gradient of the input, one for that of the weights. With forward, 3."
)
def backward_equals_forward(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens), backward=1)


@exercise.mistake("You do not look at `training`. With the way back it costs three times as much.")
def ignores_training(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens)


@exercise.mistake("You always count the way back. Without `training` there is forward only.")
def always_training(sizes, n_tokens, training=False):
    return flops_by_products(sizes, n_tokens, True)


@exercise.mistake(
    "You leave out that tokens look at each other. For short texts it hardly matters; the "
    "longer the text, the more: 2 · 2 · n_tokens · d a layer."
)
def no_attention_term(sizes, n_tokens, training=False):
    return _flops(sizes, training)


@exercise.mistake(
    "You count 2 FLOPs for every parameter, 6 while learning. A good guess, but a row of a "
    "table is looked up, a tied head is used again, and scores have no parameters."
)
def six_times_all_parameters(sizes, n_tokens, training=False):
    return (6 if training else 2) * shared.counted(sizes)["total"]


@exercise.mistake(
    "You take every parameter for a weight of a matrix. A row of a table is looked up, a "
    "bias is added, a tied head is used again: 12 · d² a block, and vocabulary · d."
)
def all_parameters_and_attention(sizes, n_tokens, training=False):
    blocks, looked_at = shared.counted(sizes)["total"], _looked_at(sizes, n_tokens)
    return _flops(sizes, training, blocks=blocks, head=0, looked_at=looked_at)


@exercise.mistake(
    "You count the biases: 9 · d a block. They are added; asked are products of matrices."
)
def biases_multiplied(sizes, n_tokens, training=False):
    blocks = sizes.n_layers * (12 * sizes.d_model**2 + 9 * sizes.d_model)
    return _flops(sizes, training, blocks=blocks, looked_at=_looked_at(sizes, n_tokens))


@exercise.mistake(
    "You count the table of words as a product. A row is looked up there: only the head multiplies."
)
def words_multiplied(sizes, n_tokens, training=False):
    head = 2 * sizes.vocabulary * sizes.d_model
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


@exercise.mistake(
    "You count the tables of words and places as products. A row is looked up there: no "
    "multiplication."
)
def tables_multiplied(sizes, n_tokens, training=False):
    head = (2 * sizes.vocabulary + sizes.context) * sizes.d_model
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


@exercise.mistake(
    "You forget the head: a product with every word's vector, vocabulary · d weights."
)
def forgot_head(sizes, n_tokens, training=False):
    return _flops(sizes, training, head=0, looked_at=_looked_at(sizes, n_tokens))


@exercise.mistake(
    "Your tied head costs nothing. It saves memory, not work: the product with every "
    "word's vector is still made."
)
def tied_head_is_free(sizes, n_tokens, training=False):
    head = 0 if sizes.tied else None
    return _flops(sizes, training, head=head, looked_at=_looked_at(sizes, n_tokens))


@exercise.mistake(
    "You take `context`, the longest text that fits. What is looked at are the `n_tokens` "
    "of this text."
)
def context_for_n_tokens(sizes, n_tokens, training=False):
    return flops_by_products(sizes, sizes.context, training)


@exercise.mistake("Yours is the cost of the whole text. Asked is that of one token.")
def whole_text(sizes, n_tokens, training=False):
    return n_tokens * flops_by_products(sizes, n_tokens, training)


@exercise.mistake(
    "You count half of what looking at `n_tokens` costs. It takes a score and a share of a "
    "value, each with d multiplications and d additions; and later tokens count too."
)
def half_the_looking(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens) // 2)


@exercise.mistake(
    "You count the tokens that a causal mask leaves: half of them, on average. A product "
    "of matrices is made in full and masked afterwards: count all `n_tokens`."
)
def earlier_tokens_only(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=sizes.n_layers * (n_tokens + 1) * sizes.d_model)


@exercise.mistake("You count n_tokens - 1 tokens to look at. A token looks at itself, too.")
def other_tokens_only(sizes, n_tokens, training=False):
    return _flops(sizes, training, looked_at=_looked_at(sizes, n_tokens - 1))


@exercise.mistake(
    "You multiply by the heads. All heads together are d wide, so their scores take d "
    "multiplications for each token that is looked at."
)
def attention_times_heads(sizes, n_tokens, training=False):
    looked_at = sizes.n_heads * _looked_at(sizes, n_tokens)
    return _flops(sizes, training, looked_at=looked_at)


@exercise.mistake(
    "You count the scores and shares of one head. All heads together take d multiplications each."
)
def attention_of_one_head(sizes, n_tokens, training=False):
    looked_at = _looked_at(sizes, n_tokens) // sizes.n_heads
    return _flops(sizes, training, looked_at=looked_at)


@exercise.mistake("Your tokens look at each other in one layer. They do so in every one.")
def attention_of_one_layer(sizes, n_tokens, training=False):
    looked_at = _looked_at(sizes, n_tokens) // sizes.n_layers
    return _flops(sizes, training, looked_at=looked_at)


@exercise.mistake(
    "You count n_tokens² scores for one token. That is all tokens' scores together; one "
    "token has `n_tokens` of them."
)
def all_scores_for_each_token(sizes, n_tokens, training=False):
    looked_at = n_tokens * _looked_at(sizes, n_tokens)
    return _flops(sizes, training, looked_at=looked_at)


@exercise.mistake("You leave the feed-forward nets out: 8 · d² weights a block.")
def forgot_feed_forward(sizes, n_tokens, training=False):
    blocks = 4 * sizes.n_layers * sizes.d_model**2
    return _flops(sizes, training, blocks=blocks, looked_at=_looked_at(sizes, n_tokens))


@exercise.alternative
def flops_by_products(sizes: Sizes, n_tokens: int, training: bool = False) -> int:
    """FLOPs for one token, product by product."""
    products = list(_products(sizes, n_tokens))
    if training:
        products += [one for product in products for one in _backward(product)]
    return sum(2 * math.prod(product) for product in products) // n_tokens


@exercise.alternative
def flops_by_kaplan(sizes, n_tokens, training=False):
    n = 2 * sizes.d_model * sizes.n_layers * (2 * sizes.d_model + 4 * sizes.d_model)
    forward = 2 * n + 4 * sizes.n_layers * n_tokens * sizes.d_model
    forward += 2 * sizes.d_model * sizes.vocabulary
    return forward + 2 * forward * training


@exercise.alternative
def flops_block_by_block(sizes, n_tokens, training=False):
    d, total = sizes.d_model, 0
    for _ in range(sizes.n_layers):
        total += 4 * 2 * d * d
        total += 2 * 2 * n_tokens * sizes.n_heads * (d // sizes.n_heads)
        total += 2 * 2 * d * 4 * d
    total += 2 * d * sizes.vocabulary
    return total * 3 if training else total


@exercise.alternative
def flops_by_matrices(sizes, n_tokens, training=False):
    d = sizes.d_model
    matrices = [(d, d)] * 4 + [(d, 4 * d), (4 * d, d)] + [(n_tokens, d)] * 2
    multiplications = [a * b for a, b in matrices * sizes.n_layers] + [sizes.vocabulary * d]
    return sum(multiplications) * {False: 2, True: 6}[training]
