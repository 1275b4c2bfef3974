"""objectives.info_nce: every row finds its partner among the others."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise

exercise = Exercise(
    "objectives.info_nce",
    used_by="the sentence encoder that you train",
    hints=(
        "Which row of `b` belongs to row i of `a`? It is a question with `len(b)` answers, of "
        "which number i is right: cross-entropy, with cosines as scores.",
        "`projection.dot_and_cosine(a, b)[1]` has the cosine of every row of `a` with every row of "
        "`b`. Divide by `temperature`, and you have logits [batch, batch].",
        "The targets are `torch.arange(len(a))`. For the other way round, the rows of `b` ask: "
        "that is the transpose, `logits.T`, with the same targets.",
        "`(training.cross_entropy(logits, own) + training.cross_entropy(logits.T, own)) / 2`.",
    ),
)


def _by_torch(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
    own = torch.arange(len(a))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, a: Tensor, b: Tensor, temperature: float, point: str = "") -> Case:
        given = {"a": a, "b": b, "temperature": temperature}
        call = f"info_nce(a, b, {temperature})"
        return Case(title, given, _by_torch, shown=call, point=point)

    def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        return inputs.normal(*shape, dtype=dtype), inputs.normal(*shape, seed=1, dtype=dtype)

    small = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, -3.0]])
    close = torch.tensor([[2.0, 1.0], [0.5, 1.0], [1.0, -1.0]])
    a, b = pair(5, 3)
    stretch = torch.tensor([[0.1], [3.0], [20.0], [0.5], [7.0]])
    cosine = (
        "Cosines compare directions: each row of `a` and of `b` is divided by its own length, "
        "however long it is."
    )
    both = (
        "Both ways count, one half each: rows of `a` look among `b`, and rows of `b` among `a`. "
        "The two losses differ."
    )
    small_temperature = (
        "Logits are cosines divided by the temperature: 0.01 makes them a hundred times as large, "
        "and nothing overflows in `training.cross_entropy`."
    )
    alone = "A single pair has no wrong answers: its loss is 0, the cross-entropy of one choice."
    equal = "Where all rows are the same every answer is as good as any: the loss is log(batch)."
    opposite = "Partners may point in opposite directions. That costs much, and is no error."
    square = (
        "There may be as many rows as features: the rows are axis 0, and lengths go over the last "
        "axis."
    )
    one_feature = "With one feature a direction is a sign, and every cosine is 1 or -1."
    crowded = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [0.1, 1.0]])
    spread = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [-1.0, -1.0], [0.0, 1.0]])
    return [
        case("three pairs", small, close, 0.5),
        case("five pairs", a, b, 1.0),
        case("a lower temperature", a, b, 0.2),
        case("partners that are close", a, a + 0.3 * b, 0.1),
        case("partners that are the same", a, a.clone(), 0.5),
        case("a crowd, and others far apart", crowded, spread, 0.4, both),
        case("others far apart, and a crowd", spread, crowded, 0.4, both),
        case("rows of all lengths", stretch * a, stretch.flip(0) * b, 0.3, cosine),
        case("long rows", 100 * a, 50 * b, 0.7, cosine),
        case("a very low temperature", a, b, 0.01, small_temperature),
        case("a high temperature", a, b, 30.0),
        case("partners that are opposite", a, -a + 0.1 * b, 0.05, opposite),
        case("all rows are the same", a[:1].repeat(4, 1), a[:1].repeat(4, 1), 0.2, equal),
        case("one pair", *pair(1, 4), 0.3, alone),
        case("as many pairs as features", *pair(4, 4), 0.5, square),
        case("two pairs", *pair(2, 6), 0.8),
        case("one feature", *pair(3, 1), 0.6, one_feature),
        case("many pairs", *pair(40, 8), 0.1),
        case("a transposed view", pair(3, 6)[0].T, pair(3, 6)[1].T, 0.4, points.OTHER_ORDER),
        case("float64", *pair(3, 5, dtype=torch.float64), 0.3, points.FLOAT64),
    ]


def _cosines(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def _both_ways(logits):
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@exercise.mistake(
    "You only ask partners to be close. One vector for all texts would make that perfect: all "
    "would collapse to it. The other rows, as wrong answers, prevent it."
)
def positives_only(a, b, temperature):
    return -(F.cosine_similarity(a, b) / temperature).mean()


@exercise.mistake(
    "You only ask partners to be close, 1 - cosine. One vector for all texts would make that "
    "perfect. The other rows, as wrong answers, prevent it: cross-entropy."
)
def one_minus_cosine(a, b, temperature):
    return (1 - F.cosine_similarity(a, b)).mean()


@exercise.mistake(
    "You compare by dot products, so long vectors win whatever they mean. Take cosines: divide "
    "each row by its length."
)
def unnormalised(a, b, temperature):
    return _both_ways(a @ b.T / temperature)


@exercise.mistake(
    "You divide the rows of `a` by their lengths, and not those of `b`. A cosine needs both."
)
def only_a_normalised(a, b, temperature):
    return _both_ways(F.normalize(a, dim=-1) @ b.T / temperature)


@exercise.mistake(
    "You have one half: rows of `a` look for their partner among `b`. Rows of `b` look among `a` "
    "as well, `logits.T`, and the loss is the mean of both."
)
def one_direction(a, b, temperature):
    return F.cross_entropy(_cosines(a, b) / temperature, torch.arange(len(a)))


@exercise.mistake(
    "You have one half: rows of `b` look for their partner among `a`. Rows of `a` look among `b` "
    "as well, and the loss is the mean of both."
)
def the_other_direction(a, b, temperature):
    return F.cross_entropy(_cosines(b, a) / temperature, torch.arange(len(a)))


@exercise.mistake("You add both directions up. The loss is their mean: divide by 2.")
def sum_of_both(a, b, temperature):
    return 2 * _both_ways(_cosines(a, b) / temperature)


@exercise.mistake(
    "You multiply with the temperature. A low one makes differences larger: divide by it."
)
def multiplies_by_temperature(a, b, temperature):
    return _both_ways(_cosines(a, b) * temperature)


@exercise.mistake(
    "You do not use the temperature. Cosines lie between -1 and 1, so softmax could never be "
    "sure: divide them by it."
)
def forgot_temperature(a, b, temperature):
    return _both_ways(_cosines(a, b))


@exercise.mistake(
    "You divide by the temperature twice, each side once. The cosine is divided once."
)
def temperature_twice(a, b, temperature):
    return _both_ways(_cosines(a, b) / temperature**2)


@exercise.mistake(
    "You divide the loss by the temperature. It belongs into the logits, before the softmax."
)
def temperature_outside(a, b, temperature):
    return _both_ways(_cosines(a, b)) / temperature


@exercise.mistake(
    "You add up the losses of all rows. `cross_entropy` takes their mean, so that the batch size "
    "does not matter to the learning rate."
)
def sum_over_rows(a, b, temperature):
    return len(a) * _both_ways(_cosines(a, b) / temperature)


@exercise.mistake(
    "You leave the partner out of the denominator. It is one of the answers: softmax goes over "
    "all rows, the right one, too."
)
def partner_not_in_the_denominator(a, b, temperature):
    logits = _cosines(a, b) / temperature
    others = logits.masked_fill(torch.eye(len(a), dtype=torch.bool), -torch.inf)
    there, back = (others.logsumexp(axis) - logits.diagonal() for axis in (1, 0))
    return (there + back).mean() / 2


@exercise.mistake(
    "Your wrong answers include rows of the same side. Here a row of `a` looks among the rows of "
    "`b` only, and the other way round: logits [batch, batch]."
)
def own_side_too(a, b, temperature):
    both = torch.cat((a, b))
    logits = _cosines(both, both) / temperature
    logits = logits.masked_fill(torch.eye(len(both), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(both)).roll(len(a)))


@exercise.mistake(
    "Your logits go through softmax twice: `cross_entropy` takes it itself. Give it the logits."
)
def softmax_twice(a, b, temperature):
    logits = _cosines(a, b) / temperature
    own = torch.arange(len(a))
    there, back = F.cross_entropy(logits.softmax(1), own), F.cross_entropy(logits.T.softmax(1), own)
    return (there + back) / 2


@exercise.mistake(
    "You take exp of the logits as they are. At a temperature of 0.01 that is exp(100), which "
    "float32 cannot hold. `training.cross_entropy`, or `logsumexp`, sees to it."
)
def overflows(a, b, temperature):
    e = torch.exp(_cosines(a, b) / temperature)
    there, back = (torch.log(e.diagonal() / e.sum(axis)) for axis in (1, 0))
    return -(there + back).mean() / 2


@exercise.mistake(
    "You divide each feature by its length over the batch. A cosine needs the length of a row: "
    "over the features, the last axis."
)
def normalised_over_the_batch(a, b, temperature):
    return _both_ways(F.normalize(a, dim=0) @ F.normalize(b, dim=0).T / temperature)


@exercise.mistake(
    "Yours has the wrong sign: training would part what belongs together. It is minus the log of "
    "a probability."
)
def forgot_minus(a, b, temperature):
    return -_both_ways(_cosines(a, b) / temperature)


@exercise.mistake(
    "You ask of every pair by itself whether it belongs together (a sigmoid). Here the rows are "
    "answers to one question: softmax over them, that is cross-entropy."
)
def sigmoid_of_each_pair(a, b, temperature):
    return F.binary_cross_entropy_with_logits(_cosines(a, b) / temperature, torch.eye(len(a)))


@exercise.mistake(
    "You return a loss for every row. Return one number: the mean over the rows, and over both "
    "directions."
)
def one_for_each_row(a, b, temperature):
    logits = _cosines(a, b) / temperature
    return (logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()


@exercise.alternative
def nce_by_diagonals(a, b, temperature):
    logits = F.cosine_similarity(a[:, None], b[None], dim=-1) / temperature
    return -(logits.log_softmax(0) + logits.log_softmax(1)).diagonal().mean() / 2


@exercise.alternative
def nce_by_logsumexp(a, b, temperature):
    a = a / a.norm(dim=1, keepdim=True)
    b = b / b.norm(dim=1, keepdim=True)
    logits = torch.einsum("id,jd->ij", a, b) / temperature
    right = torch.diag(logits)
    return 0.5 * ((logits.logsumexp(1) - right).mean() + (logits.logsumexp(0) - right).mean())


@exercise.alternative
def nce_row_by_row(a, b, temperature):
    a = [row / row.pow(2).sum().sqrt() for row in a]
    b = [row / row.pow(2).sum().sqrt() for row in b]
    losses = []
    for asking, answers in ((a, b), (b, a)):
        for i in range(len(asking)):
            scores = torch.stack([asking[i] @ answer for answer in answers]) / temperature
            losses.append(-torch.log_softmax(scores, dim=0)[i])
    return torch.stack(losses).mean()


@exercise.alternative
def nce_with_one_hot_targets(a, b, temperature):
    logits = F.normalize(a) @ F.normalize(b).t() / temperature
    own = torch.eye(a.shape[0], dtype=a.dtype)
    return torch.lerp(F.cross_entropy(logits, own), F.cross_entropy(logits.t(), own), 0.5)
