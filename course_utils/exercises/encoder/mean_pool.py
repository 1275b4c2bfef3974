"""encoder.mean_pool: a sentence as the mean of its tokens."""

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "encoder.mean_pool",
    used_by="`Classifier`: it makes one vector of a sentence of any length",
    hints=(
        "A mean is a sum divided by a count. Tokens that are not kept add nothing to either.",
        "`keep[..., None]` has an axis for the features, so that it broadcasts against `x`. "
        "Multiplying with it (as numbers) makes 0 of every token that is not kept.",
        "Sum over the tokens, axis 1, and divide by how many are kept in each sentence, "
        "[batch, 1].",
    ),
)


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, x: Tensor, keep: Tensor, point: str = "") -> Case:
        arguments = {"x": x, "keep": keep}
        return Case(title, arguments, mean_pool_by_hand, shown="mean_pool(x, keep)", point=point)

    normal = inputs.normal
    small = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [8.0, 4.0]], [[2.0, 5.0], [4.0, 2.0], [9.0, 9]]])
    lengths = torch.arange(4) < torch.tensor([[4], [2], [1]])
    two_each = torch.tensor([[True, True, False, False]] * 3)
    two_somewhere = torch.tensor(
        [[False, True, False, True], [True, False, True, False], [False, False, True, True]]
    )
    x = normal(3, 4, 5)
    own_number = (
        "Each sentence keeps another number of tokens: sum and count for every sentence by itself, "
        "along axis 1. `x[keep]` no longer says which token was whose."
    )
    anywhere = (
        "The kept tokens may stand anywhere: pick them with `keep`, not by counting from the front."
    )
    nothing_added = (
        "What is not kept adds nothing to the sum, however large it is: make it 0, and not just "
        "small."
    )
    count_by_keep = (
        "A kept token may have features that are 0: count by `keep`, not by what is in `x`."
    )
    its_axes = (
        "`keep` belongs to axes 0 and 1 of `x`, also where all sizes are equal: `keep[..., None]` "
        "gives it an axis for the features."
    )
    return [
        case(
            "the second sentence is shorter",
            small,
            torch.tensor([[True] * 3, [True, True, False]]),
            own_number,
        ),
        case("each sentence keeps two tokens", x, two_each),
        case("three lengths", x, lengths, own_number),
        case("nothing is padding", x, torch.ones(3, 4, dtype=torch.bool)),
        case("padding in front", x, two_each.flip(1), anywhere),
        case("padding anywhere", x, two_somewhere, anywhere),
        case(
            "large numbers in the padding",
            torch.where(two_each[..., None], x, 1e4),
            two_each,
            nothing_added,
        ),
        case("features that are 0", x.relu(), two_each, count_by_keep),
        case(
            "as many sentences, tokens and features",
            normal(4, 4, 4),
            torch.tensor([[True, True, False, False]] * 4),
            its_axes,
        ),
        case("one sentence", normal(1, 4, 3), two_each[:1]),
        case("one token", normal(3, 1, 4), torch.ones(3, 1, dtype=torch.bool), points.AXIS_OF_ONE),
        case("one feature", normal(3, 4, 1), two_each, points.AXIS_OF_ONE),
        case("a transposed view", normal(3, 5, 4).mT, two_each, points.OTHER_ORDER),
        case("float64", x.double(), torch.tensor([[True] * 3 + [False]] * 3), points.FLOAT64),
    ]


@exercise.mistake(
    "You average over all tokens, padding too. The same sentence would get another vector "
    "for every amount of padding. Leave out what `keep` does not keep."
)
def counts_padding(x, keep):
    return x.mean(1)


@exercise.mistake(
    "You leave padding out of the sum but not out of the count, so short sentences get "
    "short vectors. Divide by the number of tokens that are kept."
)
def divides_by_t(x, keep):
    return (x * keep[..., None]).mean(1)


@exercise.mistake(
    "You average over the features, so every token keeps one number. Average over the "
    "tokens, axis 1: the features stay."
)
def pools_features(x, keep):
    return x.mean(-1) * keep


@exercise.mistake(
    "You average over the sentences, axis 0. Each sentence has a vector of its own: use "
    "the tokens, axis 1."
)
def pools_the_batch(x, keep):
    return (x * keep[..., None]).sum(0) / keep.sum(0)[:, None]


@exercise.mistake(
    "You add the tokens up. Divide by how many there were, or long sentences get long vectors."
)
def only_sums(x, keep):
    return (x * keep[..., None]).sum(1)


@exercise.mistake(
    "You divide by the number of tokens that are kept in the whole batch. Count them for "
    "each sentence: along axis 1."
)
def divides_by_all_that_are_kept(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum()


@exercise.mistake(
    "You count along the batch. Count the tokens that are kept in each sentence: axis 1."
)
def counts_wrong_axis(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum(0)[:, None]


@exercise.mistake(
    "Your counts have the shape [batch], which meets the features. Give them an axis of "
    "size 1: [batch, 1]."
)
def forgot_count_axis(x, keep):
    return (x * keep[..., None]).sum(1) / keep.sum(1)


@exercise.mistake(
    "`x * keep` has no axis of features in `keep`: an error, or silently wrong numbers "
    "where the sizes happen to fit. Multiply with `keep[..., None]`."
)
def forgot_feature_axis(x, keep):
    return (x * keep).sum(1) / keep.sum(1)


@exercise.mistake("You average what should be left out. True in `keep` means: a real token.")
def pools_the_padding(x, keep):
    hidden = ~keep[..., None]
    return (x * hidden).sum(1) / hidden.sum(1)


@exercise.mistake(
    "You add up what should be left out, and divide by the number of all tokens. True in `keep` "
    "means: a real token. Divide by how many of those there are."
)
def means_of_the_padding_over_all(x, keep):
    return (x * ~keep[..., None]).mean(1)


@exercise.mistake(
    "You divide by the right count, but padding is still in your sum. Set it to 0 first."
)
def sums_all_divides_by_kept(x, keep):
    return x.sum(1) / keep.sum(1, keepdim=True)


@exercise.mistake(
    "You take the largest number of each feature. That is max pooling. Take the mean."
)
def takes_the_largest(x, keep):
    return x.masked_fill(~keep[..., None], -torch.inf).amax(1)


@exercise.mistake(
    "You take the first token, as BERT's classifier does. Take the mean of all that are kept."
)
def takes_the_first(x, keep):
    return x[:, 0]


@exercise.mistake(
    "`x[keep]` puts the tokens of all sentences into one row, so all are averaged together "
    "and the batch is lost. Multiply with `keep` instead."
)
def one_mean_for_all(x, keep):
    return x[keep].mean(0)


@exercise.mistake(
    "Your numbers are right, but the axis of the tokens is still there. The result has the "
    "shape [batch, d_model]."
)
def keeps_the_axis(x, keep):
    return mean_pool_by_hand(x, keep)[:, None]


@exercise.mistake(
    "Your shares are float32: that is what True and False divided by a count become, and of "
    "float64 half the digits are lost. Begin with `keep.to(x.dtype)`."
)
def shares_in_float32(x, keep):
    return (keep / keep.sum(1, keepdim=True))[:, None].to(x.dtype).matmul(x)[:, 0]


@exercise.alternative
def mean_pool_by_hand(x: Tensor, keep: Tensor) -> Tensor:
    rows = []
    for sentence, kept in zip(x, keep.tolist(), strict=True):
        tokens = [token for token, is_kept in zip(sentence, kept, strict=True) if is_kept]
        rows.append(torch.stack(tokens).mean(0))
    return torch.stack(rows)


@exercise.alternative
def pools_by_weights(x, keep):
    weights = keep.to(x.dtype) / keep.sum(1, keepdim=True)
    return torch.einsum("bt,btd->bd", weights, x)


@exercise.alternative
def pools_with_float_mask(x, keep):
    """Of a mask in float32, whatever `x` is: True is exactly 1 there."""
    mask = keep.float()
    return (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


@exercise.alternative
def pools_by_masked_fill(x, keep):
    kept = x.masked_fill(~keep.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / keep.sum(dim=1, keepdim=True).clamp_min(1)


@exercise.alternative
def pools_by_softmax(x, keep):
    """Attention with equal scores is a mean."""
    weights = torch.zeros(keep.shape, dtype=x.dtype).masked_fill(~keep, -torch.inf).softmax(-1)
    return (weights[:, None] @ x)[:, 0]
