"""sampling.beam_search: several texts go on at once."""

import functools
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.exercise import Case, Exercise, Part, Wrong
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.beam_search",
    used_by="notebook 08, which compares it with sampling",
    hints=(
        "Keep the texts that go on as one batch, with the sum of log p of each. `model(beams)` "
        "scores all of them at once, and `[:, -1].log_softmax(-1)` is what one more token adds.",
        "The candidates of all beams compete with each other: flatten [beams, vocabulary] and take "
        "the best of it. `// vocabulary` says from which beam one comes, `% vocabulary` by which "
        "token.",
        "Take 2 · `width` candidates. Those of the first `width` that end are put aside with their "
        "score, total / length ** alpha. The first `width` of those that do not end go on.",
        "In the last round every text is complete. Before that, it is over as soon as `width` are "
        "put aside and the best of the others, divided in the same way, is no better than they.",
    ),
)


class _Tree:
    """A model that knows what follows the last token, whatever came before: its table."""

    def __init__(self, table: Tensor):
        self.table = table

    def __repr__(self) -> str:
        return f"a model with p(next | last) =\n{self.table.softmax(-1)}"

    def __call__(self, ids: Tensor) -> Tensor:
        return self.table[ids]


# Token 0 begins; then 1 or 2; behind 1 nothing is likely, behind 2 token 3 is.
MISLED = _Tree(
    torch.tensor(
        [
            [1e-6, 0.6, 0.4, 1e-6],
            [0.32, 0.33, 1e-6, 0.35],
            [0.05, 0.03, 0.02, 0.9],
            [0.25, 0.25, 0.25, 0.25],
        ]
    ).log()
)


class _Search:
    """Beam search in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, n_new, width, alpha=1.0, end=None):
        beams, aside = [(ids, 0.0)], []
        for length in range(1, n_new + 1):
            grown, last = self.grow(model, beams, width), length == n_new
            for text, total in self.may_be_put_aside(grown, width):
                if last or self.ended(text, end):
                    aside.append((text, self.score(total, length, alpha, len(text))))
            aside = sorted(aside, key=lambda one: -one[1])[:width]
            beams = [one for one in grown if not self.ended(one[0], end)]
            beams = beams[: self.room(width, aside)]
            if last or not beams or self.over(beams, aside, length, alpha, width):
                break
        return aside

    def grow(self, model, beams, width):
        """All continuations of all texts by one token, the best first."""
        grown = [one for text, total in beams for one in self.steps(model, text, total)]
        return sorted(grown, key=lambda one: -one[1])

    def steps(self, model, text, total):
        pairs = enumerate(self.log_p(model(text[None])[0]).tolist())
        return [(torch.cat((text, torch.tensor([i]))), self.add(total, one)) for i, one in pairs]

    def log_p(self, logits):
        return logits[-1].double().log_softmax(-1)

    def add(self, total, one):
        return total + one

    def may_be_put_aside(self, grown, width):
        return grown[:width]

    def score(self, total, length, alpha, whole):
        return total / length**alpha

    def ended(self, text, end):
        return end is not None and int(text[-1]) == end

    def room(self, width, aside):
        return width

    def over(self, beams, aside, length, alpha, width):
        text, total = beams[0]
        return len(aside) == width and self.score(total, length, alpha, len(text)) <= aside[-1][1]


def _searched(part: Part, *given: Any, **arguments: Any) -> Any:
    """The texts that were found, and a tensor of their scores."""
    found = part(*given, **arguments)
    if found is None:
        return None
    pairs = isinstance(found, list) and all(
        isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], Tensor) for one in found
    )
    if not pairs or not all(isinstance(score, float) for _, score in found):
        raise Wrong("Return a list of pairs: a text (its ids, a tensor) and its score, a float.")
    return (*(text for text, _ in found), torch.tensor([score for _, score in found]))


@exercise.cases
def cases() -> list[Case]:
    def case(title: str, model: Any, ids: Tensor, n_new: int, width: int, **named: Any) -> Case:
        arguments = {"model": model, "ids": ids, "n_new": n_new, "width": width}
        arguments |= {"alpha": 1.0, **named}
        given = "".join(f", {name}={value}" for name, value in named.items())
        call = f"beam_search(model, ids, {n_new}, {width}{given})"
        return Case(title, arguments, functools.partial(_searched, _Search()), _searched, call)

    start, some = torch.tensor([0]), torch.tensor([2, 5, 1])
    teller, few = shared.Teller(), shared.Teller(vocabulary=4, seed=3)

    def ends_often(title: str, seed: int, n_new: int, width: int, **named: Any) -> Case:
        model = shared.Teller(vocabulary=5, seed=seed)
        return case(title, model, torch.tensor([1]), n_new, width, **named)

    return [
        case("the best is behind the second best", MISLED, start, 2, 2, alpha=0.0),
        case("one beam: greedy search", MISLED, start, 2, 1, alpha=0.0),
        case("three beams", teller, some, 5, 3),
        case("no division", teller, some, 5, 3, alpha=0.0),
        case("half a division", teller, some, 4, 2, alpha=0.6),
        case("one new token", teller, some, 1, 4),
        case("more beams than tokens", few, torch.tensor([1, 2]), 3, 6),
        case("all texts of two tokens", few, torch.tensor([3]), 2, 16),
        case("texts that end", teller, some, 6, 3, end=4),
        case("texts that end, not divided", teller, some, 6, 3, alpha=0.0, end=4),
        case("texts that end, longer ones preferred", teller, some, 8, 2, alpha=1.5, end=0),
        case("the end is among the first words", few, torch.tensor([0, 3, 1]), 5, 2, end=3),
        case("fewer texts than beams", few, torch.tensor([1, 0]), 1, 6),
        ends_often("many texts end", 5, 5, 2, alpha=0.0, end=0),
        ends_often("many texts end at once", 23, 6, 3, end=3),
        ends_often("many texts end, divided by a root", 27, 8, 3, alpha=0.5, end=0),
        ends_often("many texts end, divided by a square", 38, 8, 2, alpha=2.0, end=0),
    ]


mistake = shared.mistake_in_steps(exercise)


@mistake(
    "Every beam goes on with its own best token, so beams never compete: that is greedy "
    "search from `width` beginnings. Choose among the candidates of all beams together."
)
class GreedyInDisguise(_Search):
    def grow(self, model, beams, width):
        if beams[0][1] == 0.0:
            return super().grow(model, beams, width)
        best = [max(self.steps(model, *one), key=lambda step: step[1]) for one in beams]
        return sorted(best, key=lambda one: -one[1])


@mistake("You keep one text, whatever the `width`.")
class OnlyGreedy(_Search):
    def grow(self, model, beams, width):
        return super().grow(model, beams, width)[:1]


@mistake("You add probabilities up. Chances multiply along a text: add their logarithms.")
class SumsProbabilities(_Search):
    def log_p(self, logits):
        return logits[-1].softmax(-1)


@mistake("You add logits up. Those of different places cannot be compared: use `log_softmax`.")
class SumsLogits(_Search):
    def log_p(self, logits):
        return logits[-1]


@mistake(
    "You do not divide by the length, so short texts win. The score is the sum divided by "
    "length ** alpha."
)
class NoLengthNormalisation(_Search):
    def score(self, total, length, alpha, whole):
        return total


@mistake("You always divide by the length itself. Divide by length ** alpha: 0 does nothing.")
class IgnoresAlpha(_Search):
    def score(self, total, length, alpha, whole):
        return total / length


@mistake("You divide by length · alpha. The length is raised to the power alpha.")
class MultipliesWithAlpha(_Search):
    def score(self, total, length, alpha, whole):
        return total / (length * alpha) if alpha else total


@mistake("You divide by the length of the whole text. Only the new tokens have a score.")
class CountsThePrompt(_Search):
    def score(self, total, length, alpha, whole):
        return total / whole**alpha


@mistake("You use the logits at the first place. What follows the text is at the last one.")
class LooksAtTheFirstPlace(_Search):
    def log_p(self, logits):
        return logits[0].log_softmax(-1)


@mistake("You compare the last tokens only. A beam carries the sum of all its new tokens.")
class ForgetsTheSum(_Search):
    def add(self, total, one):
        return one


@mistake("You keep the worst candidates.")
class WorstFirst(_Search):
    def grow(self, model, beams, width):
        return super().grow(model, beams, width)[::-1]


@exercise.mistake("You found the right texts, but the best must come first.")
def not_sorted(model, ids, n_new, width, alpha=1.0, end=None):
    found = _Search()(model, ids, n_new, width, alpha, end)
    return sorted(found, key=lambda one: one[0].tolist())


@exercise.mistake("You return the best text only. Return all that were found, up to `width`.")
def only_the_best(model, ids, n_new, width, alpha=1.0, end=None):
    return _Search()(model, ids, n_new, width, alpha, end)[:1]


@exercise.mistake("You return the new tokens alone. Return the texts with what they began with.")
def new_tokens_alone(model, ids, n_new, width, alpha=1.0, end=None):
    found = _Search()(model, ids, n_new, width, alpha, end)
    return [(text[len(ids) :], score) for text, score in found]


@mistake("Your texts go on behind the token `end`. There they are complete.")
class IgnoresTheEnd(_Search):
    def ended(self, text, end):
        return False


@mistake(
    "Texts that are complete take the room of others. Put them aside: `width` texts go on "
    "as long as there are so many."
)
class CompleteOnesTakeRoom(_Search):
    def room(self, width, aside):
        return max(width - len(aside), 0)


@mistake(
    "You always search to the last step. It is over when `width` texts are complete and "
    "none that goes on has a better score than the worst of them."
)
class NeverOver(_Search):
    def over(self, beams, aside, length, alpha, width):
        return False


@mistake("You stop as soon as `width` texts are complete. One that goes on may still be better.")
class OverWhenFull(_Search):
    def over(self, beams, aside, length, alpha, width):
        return len(aside) == width


@mistake(
    "You put every text aside that ends. Only those among the best `width` candidates "
    "count: the others lost to texts that go on."
)
class EndsBeyondTheWidth(_Search):
    def may_be_put_aside(self, grown, width):
        return grown


@exercise.alternative
def beams_in_steps(model, ids, n_new, width, alpha=1.0, end=None):
    return _Search()(model, ids, n_new, width, alpha, end)


@exercise.alternative
def beams_as_a_batch(model, ids, n_new, width, alpha=1.0, end=None):
    texts, sums, done = ids[None], torch.zeros(1), []
    for length in range(1, n_new + 1):
        log_p = torch.log_softmax(model(texts)[:, -1], dim=-1)
        vocabulary = log_p.shape[1]
        ordered, places = (sums[:, None] + log_p).view(-1).sort(descending=True)
        texts = torch.hstack((texts[places // vocabulary], (places % vocabulary)[:, None]))
        ready = torch.full(ordered.shape, length == n_new)
        if end is not None:
            ready |= texts[:, -1] == end
        for i in ready[:width].nonzero().flatten():
            done.append((texts[i], ordered[i].item() / length**alpha))
        done = sorted(done, key=lambda pair: pair[1], reverse=True)[:width]
        texts, sums = texts[~ready][:width], ordered[~ready][:width]
        full = len(done) == width
        if full and (length == n_new or sums[0].item() / length**alpha <= done[-1][1]):
            break
    return done


@exercise.alternative
def beams_in_rounds(model, ids, n_new, width, alpha=1.0, end=None):
    """New tokens are lists, and texts are made of them at the end."""
    live: list = [([], 0.0)]
    complete: list = []
    length = 0
    while live and length < n_new:
        length += 1
        batch = torch.tensor([ids.tolist() + new for new, _ in live])
        rows = model(batch)[:, -1].log_softmax(-1).tolist()
        pairs = [(one, row) for one, row in zip(live, rows, strict=True)]
        grown = [([*new, i], s + r) for (new, s), row in pairs for i, r in enumerate(row)]
        grown.sort(key=lambda one: one[1], reverse=True)
        ends = lambda one: length == n_new or one[0][-1] == end  # noqa: B023, E731
        complete += [(new, s / length**alpha) for new, s in filter(ends, grown[:width])]
        complete.sort(key=lambda one: one[1], reverse=True)
        del complete[width:]
        live = [one for one in grown if not ends(one)][:width]
        if len(complete) == width and live and complete[-1][1] >= live[0][1] / length**alpha:
            break
    return [(torch.tensor(ids.tolist() + new), score) for new, score in complete]
