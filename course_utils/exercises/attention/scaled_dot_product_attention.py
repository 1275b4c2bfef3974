"""attention.scaled_dot_product_attention: the formula, whole."""

import math

import torch
from torch.nn import functional as F

from course_utils import attention
from course_utils.exercises import inputs
from course_utils.exercises.attention import attention_weights, shared
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "attention.scaled_dot_product_attention",
    used_by="`MultiHeadAttention`, for all heads at once",
    hints=(
        "You have both halves: the weights say how much of each value a query gets, and the values "
        "are then mixed with them.",
        "First `attention_weights`, which needs everything but the values. Do not forget to pass "
        "the mask and the bias on.",
        "`mix_values(weights, value)` does the rest. There is nothing left to scale or to sum.",
    ),
)


SMALL_VALUE = torch.tensor([[[4.0, 0.0, 1.0, -2.0], [0.0, 4.0, -1.0, 3.0], [-4.0, 2.0, 0.0, 1.0]]])


@exercise.cases
def cases() -> list[Case]:
    def with_value(given: dict, d_value: int | None = None) -> dict:
        """Values of the width of the keys, as in every head, or of another one."""
        key = given["key"]
        size = (*key.shape[:-1], d_value or key.shape[-1])
        small = given["key"] is shared.SMALL["key"]
        return {
            **given,
            "value": SMALL_VALUE if small else inputs.normal(*size, seed=2, dtype=key.dtype),
        }

    def case(title: str, given: dict, extra: dict, point: str) -> Case:
        arguments = given | extra
        call = shared.shown_call(exercise.name, arguments)
        return Case(title, arguments, shared.attended_by_torch, shown=call, point=point)

    small = with_value(shared.SMALL)
    width = (
        "Values may be wider or narrower than queries and keys: the result is as wide as the "
        "values, and the scale is that of the queries."
    )
    heads, mask = shared.queries_and_keys(4, 6, 5), {"mask": shared.random_mask(4, 6)}
    return [
        *(
            case(title, with_value(given), extra, point)
            for title, given, extra, point in shared.situations()
        ),
        case("wider values", with_value(heads, d_value=8), mask, width),
        case("narrower values", with_value(heads, d_value=2), mask, width),
        *shared.cases_of_nothing(exercise.name, small, shared.attended_by_torch),
    ]


@exercise.mistake(
    "You mix the keys. Keys only decide where to look; what is fetched are the values."
)
def keys_for_values(query, key, value, mask=None, bias=None):
    return shared.attended_by_torch(query, key, key, mask, bias)


@exercise.mistake("You swapped query and key, so the keys ask. The query comes first.")
def keys_ask(query, key, value, mask=None, bias=None):
    return shared.weigh(key, query, mask, bias) @ value


@exercise.mistake(
    "You turn the weights round before you mix. Their rows belong to queries already."
)
def weights_transposed(query, key, value, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias).mT @ value


@exercise.mistake(
    "You do not scale the scores. Use `attention_weights`, which scales by 1/√d_head."
)
def forgot_scale(query, key, value, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=1.0) @ value


@exercise.mistake(
    "You divide by the root of the values' size. A score is a dot product of a query and a "
    "key, so the size that counts is `query.shape[-1]`."
)
def scale_by_d_value(query, key, value, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=value.shape[-1] ** 0.5) @ value


@exercise.mistake(
    "You divide the scores by √d_head twice, so by d_head. `attention_weights` scales already."
)
def scales_twice(query, key, value, mask=None, bias=None):
    return shared.weigh(query, key, mask, bias, divisor=query.shape[-1]) @ value


@exercise.mistake(
    "You mix the values with scores. Weights are the softmax of the scores: positive, and "
    "each row sums to 1."
)
def forgot_softmax(query, key, value, mask=None, bias=None):
    return attention_weights.forgot_softmax(query, key, mask, bias) @ value


@exercise.mistake("You do not pass the mask on, so every query sees every key.")
def mask_not_passed_on(query, key, value, mask=None, bias=None):
    return shared.attended_by_torch(query, key, value, None, bias)


@exercise.mistake("You do not pass the bias on to `attention_weights`.")
def bias_not_passed_on(query, key, value, mask=None, bias=None):
    return shared.attended_by_torch(query, key, value, mask, None)


@exercise.mistake(
    "You pass neither mask nor bias on: `attention_weights` takes both after the key."
)
def nothing_passed_on(query, key, value, mask=None, bias=None):
    return shared.attended_by_torch(query, key, value)


@exercise.mistake(
    "You pass mask and bias on in the wrong order. The mask comes first, or name them: "
    "`mask=mask, bias=bias`."
)
def mask_and_bias_swapped(query, key, value, mask=None, bias=None):
    return attention.mix_values(attention.attention_weights(query, key, bias, mask), value)


@exercise.mistake("You hide what the mask allows. True means that the query may look at the key.")
def mask_inverted(query, key, value, mask=None, bias=None):
    return attention_weights.mask_inverted(query, key, mask, bias) @ value


@exercise.mistake(
    "You take the softmax of weights that are one already. The second makes them nearly equal, and "
    "what is hidden gets a share again. `attention_weights` has done it: mix with what it returns."
)
def softmax_again(query, key, value, mask=None, bias=None):
    return torch.softmax(shared.weigh(query, key, mask, bias), -1) @ value


@exercise.mistake(
    "With a mask you forget the bias. Pass both on at once: `attention_weights` sees to what is "
    "None."
)
def only_one_of_both(query, key, value, mask=None, bias=None):
    return shared.attended_by_torch(query, key, value, mask, bias if mask is None else None)


@exercise.mistake(
    "Where no mask is given you hide what comes later. Without a mask every query sees every key: "
    "whoever wants a causal mask gives one."
)
def causal_without_a_mask(query, key, value, mask=None, bias=None):
    return attention_weights.causal_without_a_mask(query, key, mask, bias) @ value


@exercise.mistake(
    "`torch.bmm` takes three axes, no more and no less. With heads there are four: `@` and "
    "`mix_values` take any number."
)
def three_axes_only(query, key, value, mask=None, bias=None):
    return torch.bmm(shared.weigh(query, key, mask, bias), value)


@exercise.mistake(
    "You return the weights as well. Return the mixed values alone: whoever wants to see "
    "the weights uses `attention.record()`."
)
def returns_weights_too(query, key, value, mask=None, bias=None):
    weights = shared.weigh(query, key, mask, bias)
    return weights @ value, weights


@exercise.alternative
def fused(query, key, value, mask=None, bias=None):
    if bias is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    added = bias if mask is None else bias.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=added)


@exercise.alternative
def spelled_out(query, key, value, mask=None, bias=None):
    return torch.einsum(
        "...qk,...kd->...qd", shared.weights_by_torch(query, key, mask, bias), value
    )


@exercise.alternative
def mixed_before_dividing(query, key, value, mask=None, bias=None):
    scores = query @ key.mT * query.shape[-1] ** -0.5 + shared.added_to_scores(
        query, key, mask, bias
    )
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return (exponentials @ value) / exponentials.sum(-1, keepdim=True)
