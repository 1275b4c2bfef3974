"""sampling.extend_beams: one step of beam search, one contest for all beams."""

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.extend_beams",
    used_by="`sampling.beam_search`, at every step",
    hints=(
        "The sum of a beam with one more token is the sum of the beam plus log p of the token: "
        "`totals[:, None] + log_p` is [beams, vocabulary].",
        "Flatten it, so that all candidates are in one contest, and take `topk`. Its indices count "
        "through all beams.",
        "`index // vocabulary` is the number of the beam, `index % vocabulary` the token. Put the "
        "token behind its beam: `torch.cat((beams[…], token[:, None]), dim=1)`.",
        "There may be fewer candidates than `n_best`, as when one beam begins. `topk` refuses: "
        "`min(n_best, …)`.",
    ),
)

Found = tuple[Tensor, Tensor]


def _by_hand(beams: Tensor, totals: Tensor, log_p: Tensor, n_best: int) -> Found:
    """Every candidate, sorted in plain Python."""
    candidates = [
        (total + log, [*beam, token])
        for beam, total, row in zip(beams.tolist(), totals.tolist(), log_p.tolist(), strict=True)
        for token, log in enumerate(row)
    ]
    best = sorted(candidates, key=lambda one: -one[0])[:n_best]
    return torch.tensor([text for _, text in best]), torch.tensor([total for total, _ in best])


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, beams: Tensor, totals: Tensor, log_p: Tensor, n_best: int, point: str = ""
    ) -> Case:
        arguments = {"beams": beams, "totals": totals, "log_p": log_p, "n_best": n_best}
        call = f"extend_beams(beams, totals, log_p, {n_best})"
        return Case(title, arguments, _by_hand, shared.numbers_alone, call, point=point)

    def random(
        title: str, n_beams: int, n_tokens: int, vocabulary: int, n_best: int, point: str = "",
        spread: float = 1.0,
    ) -> Case:  # fmt: skip
        beams = inputs.integers(n_beams, n_tokens, below=vocabulary, seed=n_best)
        totals = -3 * spread * inputs.normal(n_beams, seed=vocabulary).abs()
        log_p = inputs.normal(n_beams, vocabulary, seed=n_tokens).log_softmax(-1)
        return case(title, beams, totals, log_p, n_best, point)

    logs = torch.tensor([[0.35, 0.36, 0.29], [0.9, 0.06, 0.04]]).log()
    two, totals = torch.tensor([[0, 1], [0, 2]]), torch.tensor([0.6, 0.4]).log()
    tied = torch.full((3, 5), 0.2).log() - torch.arange(15.0).reshape(3, 5) / 100
    several = (
        "One beam may give several of the best, or all of them: the places belong to the best "
        "candidates, not to the beams."
    )
    as_asked = (
        "`n_best` says how many come back, whatever the number of beams: one beam may become many."
    )
    above = (
        "More may be asked for than the vocabulary has: all beams give candidates, so the limit "
        "is beams · vocabulary."
    )
    fewer = (
        "Where there are fewer candidates than `n_best`, all of them come back: `topk` refuses "
        "more than there are, `min(n_best, …)` does not."
    )
    row_length = (
        "There may be fewer tokens than beams: `//` and `%` take the length of a row, the "
        "vocabulary, and each beam may give all its tokens."
    )
    low = "Sums may lie far below 0, where `exp` gives 0: add logarithms and stay with them."
    return [
        case("the best is behind the second best", two, totals, logs, 2),
        random("sums that lie near together", 3, 5, 8, 6, spread=0.01),
        random("beams of one token", 3, 1, 6, 4),
        case("one alone", two, totals, logs, 1, points.AXIS_OF_ONE),
        random("one beam to begin with", 1, 4, 7, 6, as_asked),
        random("one beam is far ahead", 4, 2, 5, 4, several, spread=40.0),
        case("all from the first", two.repeat(2, 1)[:3], torch.zeros(3), tied, 4, several),
        random("fewer tokens than beams", 6, 3, 4, 3, row_length),
        random("as many beams as tokens", 5, 6, 5, 8, above),
        case("all of them", two, totals, logs, 6, above),
        case("more than there are", two, totals, logs, 10, fewer),
        case("long texts", two, totals - 150, logs, 3, low),
    ]


@exercise.mistake(
    "Every beam goes on with its own best token, so beams never compete: that is greedy search "
    "from several beginnings. Choose among the candidates of all beams together."
)
def greedy_in_disguise(beams, totals, log_p, n_best):
    best, token = log_p.max(-1)
    sums, order = (totals + best).sort(descending=True)
    return torch.cat((beams, token[:, None]), dim=1)[order][:n_best], sums[:n_best]


@exercise.mistake(
    "You compare the new tokens only. A candidate carries the sum of all its new tokens: "
    "`totals[:, None] + log_p`."
)
def forgets_the_sum(beams, totals, log_p, n_best):
    return _by_hand(beams, torch.zeros_like(totals), log_p, n_best)


@exercise.mistake(
    "The texts are right. What you return beside them is log p of the new token: return the whole "
    "sum, or the next step knows nothing of the tokens before."
)
def returns_the_last_log(beams, totals, log_p, n_best):
    texts, sums = _by_hand(beams, totals, log_p, n_best)
    parents = [beams.tolist().index(text[:-1].tolist()) for text in texts]
    return texts, sums - totals[parents]


@exercise.mistake(
    "You multiply logarithms. Chances multiply along a text, so their logarithms add."
)
def multiplies_logs(beams, totals, log_p, n_best):
    sums = (totals[:, None] * log_p).flatten()
    best, order = sums.topk(min(n_best, len(sums)))
    vocabulary = log_p.shape[1]
    return torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), 1), best


@exercise.mistake("You add probabilities up. Chances multiply along a text: add their logarithms.")
def adds_probabilities(beams, totals, log_p, n_best):
    return _by_hand(beams, totals.exp(), log_p.exp(), n_best)


@exercise.mistake("You keep the worst candidates. Sorting goes up unless you say `descending`.")
def worst_first(beams, totals, log_p, n_best):
    texts, sums = _by_hand(beams, -totals, -log_p, n_best)
    return texts, -sums


@exercise.mistake(
    "Your texts are right, but in the order of the beams that they come from. The best one must "
    "come first."
)
def in_the_order_of_the_beams(beams, totals, log_p, n_best):
    sums = (totals[:, None] + log_p).flatten()
    order = sums.topk(min(n_best, len(sums))).indices.sort().values
    vocabulary = log_p.shape[1]
    return torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), 1), sums[order]


@exercise.mistake("You return the new tokens alone. Return the texts, each with its new token.")
def new_tokens_alone(beams, totals, log_p, n_best):
    texts, sums = _by_hand(beams, totals, log_p, n_best)
    return texts[:, -1:], sums


@exercise.mistake(
    "Yours stops where there are fewer candidates than `n_best`. Then all of them are wanted: "
    "`min(n_best, …)`."
)
def too_many_for_topk(beams, totals, log_p, n_best):
    best, order = (totals[:, None] + log_p).flatten().topk(n_best)
    vocabulary = log_p.shape[1]
    return torch.cat((beams[order // vocabulary], order[:, None] % vocabulary), 1), best


@exercise.mistake(
    "You divide by the number of beams. Flattened, a row of [beams, vocabulary] has `vocabulary` "
    "numbers: divide by that."
)
def divides_by_the_beams(beams, totals, log_p, n_best):
    sums = (totals[:, None] + log_p).flatten()
    best, order = sums.topk(min(n_best, len(sums)))
    return torch.cat((beams[order // len(beams)], order[:, None] % len(beams)), 1), best


@exercise.mistake(
    "You have the two parts of the index the wrong way round: `//` says which beam, `%` which "
    "token."
)
def beam_and_token_exchanged(beams, totals, log_p, n_best):
    best, order = (totals[:, None] + log_p).flatten().topk(min(n_best, log_p.numel()))
    vocabulary = log_p.shape[1]
    return torch.cat((beams[order % vocabulary], order[:, None] // vocabulary), 1), best


@exercise.mistake(
    "What you put behind the beams is the place in the flat list. It counts through all beams: the "
    "token is what is left of it, `% vocabulary`."
)
def place_for_a_token(beams, totals, log_p, n_best):
    best, order = (totals[:, None] + log_p).flatten().topk(min(n_best, log_p.numel()))
    return torch.cat((beams[order // log_p.shape[1]], order[:, None]), 1), best


@exercise.mistake(
    "You take the best of each row, so that the beams never compete. Flatten first: `topk` looks "
    "along the last axis alone."
)
def without_flattening(beams, totals, log_p, n_best):
    vocabulary = log_p.shape[1]
    best, order = (totals[:, None] + log_p).topk(min(n_best, vocabulary))
    return torch.cat((beams[order // vocabulary], (order % vocabulary)[:, None]), 1), best


@exercise.mistake("You put the new token in front of its beam. It comes last.")
def token_in_front(beams, totals, log_p, n_best):
    texts, sums = _by_hand(beams, totals, log_p, n_best)
    return texts.roll(1, dims=1), sums


@exercise.mistake(
    "You keep as many texts as there are beams. How many are wanted is said by `n_best`: one beam "
    "must be able to become many."
)
def as_many_as_beams(beams, totals, log_p, n_best):
    return _by_hand(beams, totals, log_p, len(beams))


@exercise.alternative
def by_sorting(beams, totals, log_p, n_best):
    sums = totals.unsqueeze(1) + log_p
    ordered, places = sums.view(-1).sort(descending=True)
    rows = torch.div(places, log_p.size(1), rounding_mode="floor")
    tokens = places - rows * log_p.size(1)
    return torch.hstack((beams[rows], tokens.unsqueeze(1)))[:n_best], ordered[:n_best]


@exercise.alternative
def in_plain_python(beams, totals, log_p, n_best):
    found = []
    for i in range(len(beams)):
        for token in range(log_p.shape[1]):
            text = torch.cat((beams[i], torch.tensor([token])))
            found.append((totals[i] + log_p[i, token], text))
    found.sort(key=lambda pair: pair[0], reverse=True)
    found = found[:n_best]
    return torch.stack([text for _, text in found]), torch.stack([total for total, _ in found])


@exercise.alternative
def by_growing_all(beams, totals, log_p, n_best):
    """All candidates are written out, and the best of them picked."""
    n_beams, vocabulary = log_p.shape
    tokens = torch.arange(vocabulary).repeat(n_beams)[:, None]
    grown = torch.cat((beams.repeat_interleave(vocabulary, dim=0), tokens), dim=1)
    best, order = torch.add(totals[:, None], log_p).flatten().topk(min(n_best, len(grown)))
    return grown[order], best


@exercise.alternative
def by_unravelling(beams, totals, log_p, n_best):
    sums = totals[:, None] + log_p
    order = sums.flatten().argsort(descending=True)[:n_best]
    beam, token = torch.unravel_index(order, sums.shape)
    return torch.cat([beams[beam], token[:, None]], dim=-1), sums[beam, token]
