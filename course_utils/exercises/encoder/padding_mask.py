"""encoder.padding_mask: what is padding is not looked at."""

import torch
from torch import Tensor

from course_utils import attention
from course_utils.exercises import inputs
from course_utils.exercises.exercise import Case, Exercise, Part, Wrong

exercise = Exercise(
    "encoder.padding_mask",
    used_by="`Classifier`, and every model that reads sentences of different lengths",
    hints=(
        "Comparing a tensor with a number compares every entry: `ids != pad_id` is True at real "
        "tokens, with the shape [batch, tokens].",
        "Scores have four axes: [batch, heads, query, key]. What must not be looked at are keys, "
        "so the tokens belong on the last axis.",
        "Indexing with None makes an axis of size 1, which broadcasts: two of them go between "
        "batch and tokens, as in `[:, None, None, :]`.",
    ),
)


def _padding_mask_by_hand(ids: Tensor, pad_id: int) -> Tensor:
    return torch.tensor([[[[token != pad_id for token in row]]] for row in ids.tolist()])


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, ids: Tensor, pad_id: int) -> Case:
        call = f"padding_mask(ids, {pad_id})"
        arguments = {"ids": ids, "pad_id": pad_id}
        return Case(title, arguments, _padding_mask_by_hand, shown=call)

    some = inputs.integers(3, 5, below=4)
    return [
        case("the second sentence is shorter", torch.tensor([[5, 3, 8], [4, 7, 0]]), 0),
        case("another padding token", torch.tensor([[1, 2, 3, 9], [0, 9, 9, 9], [4, 0, 2, 1]]), 9),
        case("padding in front", torch.tensor([[2, 2, 6, 1], [7, 3, 0, 5]]), 2),
        case("no padding at all", torch.tensor([[5, 3, 8, 1], [4, 7, 6, 2]]), 0),
        case("tokens below and above the padding's", some, 2),
        case("a negative number for padding", torch.tensor([[3, 0, -1], [2, -1, -1]]), -1),
        case("a sentence of padding alone", torch.tensor([[0, 0, 0, 0], [1, 0, 2, 0]]), 0),
        case("as many sentences as tokens", inputs.integers(4, 4, below=3), 1),
        case("one token", torch.tensor([[3], [1], [3]]), 3),
        case("32-bit numbers", some.int(), 0),
        case("a transposed view", some.T, 1),
    ]


@exercise.holds
def _padding_changes_nothing(part: Part) -> None:
    layer = attention.MultiHeadAttention(6, 3)
    x = inputs.normal(2, 5, 6)
    ids = torch.tensor([[4, 2, 3, 9, 9], [1, 0, 2, 9, 9]])
    if not torch.allclose(layer(x, mask=part(ids, 9))[:, :3], layer(x[:, :3]), atol=1e-5):
        raise Wrong("With your mask, padding still changes what attention gives for real tokens.")


@exercise.mistake(
    "Your tokens stand on the axis of the queries: padding may not ask, but it is still "
    "looked at. Put them on the last axis: [batch, 1, 1, tokens]."
)
def masks_queries_not_keys(ids, pad_id):
    return (ids != pad_id)[:, None, :, None]


@exercise.mistake(
    "Yours is True at padding. True means: may be looked at. That is every real token."
)
def inverted(ids, pad_id):
    return (ids == pad_id)[:, None, None, :]


@exercise.mistake(
    "Yours has two axes. Against scores of four it would be read as [query, key]. Put axes "
    "of size 1 for heads and queries between batch and tokens."
)
def no_broadcast_axes(ids, pad_id):
    return ids != pad_id


@exercise.mistake(
    "Yours has three axes, so the batch would meet the heads. There are two axes between "
    "batch and tokens: heads and queries."
)
def one_axis_too_few(ids, pad_id):
    return (ids != pad_id)[:, None, :]


@exercise.mistake(
    "You put both new axes in front, so the batch would meet the queries. They go between "
    "batch and tokens."
)
def axes_in_front(ids, pad_id):
    return (ids != pad_id)[None, None]


@exercise.mistake(
    "You put both new axes behind, so the tokens would meet the heads. They go between "
    "batch and tokens."
)
def axes_behind(ids, pad_id):
    return (ids != pad_id)[:, :, None, None]


@exercise.mistake(
    "You compare with 0. The padding token has the number `pad_id`, which may be any."
)
def always_zero(ids, pad_id):
    return (ids != 0)[:, None, None, :]


@exercise.mistake(
    "You keep tokens whose numbers are above `pad_id`. Those below it are real as well: "
    "keep all that are not equal to it."
)
def above_padding(ids, pad_id):
    return (ids > pad_id)[:, None, None, :]


@exercise.mistake(
    "You return ones and zeros. A mask here is boolean: leave the comparison as it is."
)
def as_numbers(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].float()


@exercise.mistake(
    "You return whole numbers, for which `~` does something else (~1 is -2). A mask here "
    "is boolean: leave the comparison as it is."
)
def as_integers(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].long()


@exercise.mistake(
    "You return what could be added to the scores: 0 and minus infinity. A mask here is "
    "boolean, True at real tokens."
)
def as_bias(ids, pad_id):
    return torch.zeros(ids.shape).masked_fill(ids == pad_id, -torch.inf)[:, None, None, :]


@exercise.mistake(
    "You repeat the mask for every query. An axis of size 1 is enough, it broadcasts: "
    "[batch, 1, 1, tokens]."
)
def for_every_query(ids, pad_id):
    real = ids != pad_id
    return real[:, None, None, :].expand(-1, 1, ids.shape[1], -1)


@exercise.mistake(
    "You hide everything from padded queries too. Their rows would have no key left, which "
    "gives NaN. Nobody reads them: hide the keys only, [batch, 1, 1, tokens]."
)
def both_real(ids, pad_id):
    real = ids != pad_id
    return real[:, None, None, :] & real[:, None, :, None]


@exercise.alternative
def mask_by_unsqueeze(ids, pad_id):
    return ids.ne(pad_id).unsqueeze(1).unsqueeze(2)


@exercise.alternative
def mask_by_reshape(ids, pad_id):
    batch, tokens = ids.shape
    return ~torch.eq(ids, pad_id).reshape(batch, 1, 1, tokens)


@exercise.alternative
def mask_by_where(ids, pad_id):
    keep = torch.where(ids == pad_id, False, True)
    return torch.stack([row[None, None] for row in keep])
