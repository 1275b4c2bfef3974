"""sampling.generate: one token after the other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import inputs, points
from course_utils.exercises.exercise import Case, Exercise
from course_utils.exercises.sampling import shared

exercise = Exercise(
    "sampling.generate",
    used_by="`stream`, and by every text that a model of this course writes",
    hints=(
        "Repeat `n_new` times: ask the model, look at the last place, choose, append.",
        "`model(ids)` scores what follows every token. What follows the text is at the last place: "
        "`[:, -1]`.",
        "`choose(logits, ids)` gives one token for each row. `chosen[:, None]` makes a column of "
        "them, and `torch.cat((…, …), dim=1)` puts it behind the text.",
        "With a `context` the model is given `ids[:, -context:]`. Cut what the model reads, not "
        "the text itself.",
    ),
)


def _best(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.argmax(-1)


def _nought(logits: Tensor, ids: Tensor) -> Tensor:
    return torch.zeros_like(ids[:, 0])


def _by_logits_and_text(logits: Tensor, ids: Tensor) -> Tensor:
    """Depends on the size of the logits, and on every token of the text: a 0 counts as well."""
    size = (3 * logits.abs().sum(-1)).long()
    places = torch.arange(1, ids.shape[1] + 1)
    return (size + ((ids + 2) * places).sum(-1)) % logits.shape[-1]


class _LastPlaceAlone(shared.Teller):
    """As a model that remembers: it gives no logits for what it had read before."""

    def __repr__(self) -> str:
        return "a model that remembers, and gives the logits of the newest place alone"

    def __call__(self, ids: Tensor) -> Tensor:
        return super().__call__(ids)[:, -1:]


def _generate_by_hand(
    model: Callable, ids: Tensor, n_new: int, choose: Callable, context: int | None = None
) -> Tensor:
    """One row after the other, as lists."""
    texts = ids.tolist()
    for text in texts:
        for _ in range(n_new):
            seen = text[-context:] if context else text
            logits = model(torch.tensor([seen]))[:, -1]
            text.append(int(choose(logits, torch.tensor([text]))))
    return torch.tensor(texts)


@exercise.cases
def cases() -> list[Case]:
    def case(
        title: str, ids: Tensor, n_new: int, choose: Callable = _best, point: str = "",
        model: Any = None, **context: Any,
    ) -> Case:  # fmt: skip
        model = model or shared.Teller(longest=context.get("context"))
        arguments = {"model": model, "ids": ids, "n_new": n_new, "choose": choose, **context}
        given = "".join(f", {name}={value}" for name, value in context.items())
        call = f"generate(model, ids, {n_new}, choose{given})"
        return Case(title, arguments, _generate_by_hand, shown=call, point=point)

    several = inputs.integers(3, 5, below=7)
    by_text = _by_logits_and_text
    given = (
        "`choose` is given the logits themselves, [rows, vocabulary], and the text so far with "
        "what was chosen just now. What it gives is taken."
    )
    all_of_it = (
        "`choose` is given the whole text, also where the model reads only the end of it: a "
        "penalty counts what was said long ago."
    )
    cut = (
        "The model reads the last `context` tokens, `ids[:, -context:]`, cut anew at every step. "
        "What is returned stays whole."
    )
    longer = (
        "A context may be longer than the text, which is then read in full: `shape[1] - context` "
        "would be below 0."
    )
    count = (
        "`n_new` is the number of new tokens: with 0 the text comes back as it is, and nothing "
        "that only the loop makes is needed after it."
    )
    no_end = "No token ends a text here, 0 least of all: there are always `n_new` new ones."
    newest = (
        "A model that remembers gives logits for its newest tokens alone. The last place is "
        "`[:, -1]`, not a number counted along the text."
    )
    return [
        case("two new tokens", torch.tensor([[1, 4, 2]]), 2),
        case("several texts", several, 6),
        case("as many texts as tokens", inputs.integers(4, 4, below=7), 4),
        case("no context", several, 4, context=None),
        case("one new token", several, 1),
        case("nothing new", several, 0, point=count),
        case("one token to begin with", several[:, :1], 5, point=points.AXIS_OF_ONE),
        case("a choice that looks at the text", several, 6, by_text, given),
        case("the same token every time", several, 3, _nought, no_end),
        case("a short context", several, 6, point=cut, context=3),
        case("a context of one token", several, 4, point=cut, context=1),
        case("a context that is filled on the way", several, 6, point=cut, context=8),
        case("such a choice, and a context", several, 6, by_text, all_of_it, context=3),
        case("a context that is never full", several, 4, point=longer, context=20),
        case("a transposed view", several.T, 3, point=points.OTHER_ORDER),
        case("the last place alone", several, 4, point=newest, model=_LastPlaceAlone()),
    ]


class _Writer:
    """`generate` in steps, which the mistakes below replace one by one."""

    def __call__(self, model, ids, n_new, choose, context=None):
        for _ in range(n_new):
            logits = self.look(model(self.seen(ids, context)))
            ids = self.put(ids, self.pick(choose, logits, ids, context))
        return ids

    def seen(self, ids, context):
        return ids if context is None else ids[:, -context:]

    def look(self, logits):
        return logits[:, -1]

    def pick(self, choose, logits, ids, context):
        return choose(logits, ids)

    def put(self, ids, chosen):
        return torch.cat((ids, chosen[:, None]), dim=1)


mistake = shared.mistake_in_steps(exercise)


@mistake(
    "You choose from the logits at the first place: what follows the first token, which is "
    "known. Look at the last place, `[:, -1]`."
)
class UsesFirstPositionLogits(_Writer):
    def look(self, logits):
        return logits[:, 0]


@mistake(
    "You average the logits of all places. Each says what follows its own token: only the "
    "last one is new."
)
class MeanOfPositions(_Writer):
    def look(self, logits):
        return logits.mean(1)


@mistake("`[-1]` is the last text of the batch. The last place of every text is `[:, -1]`.")
class LastRow(_Writer):
    def look(self, logits):
        return logits[-1]


@mistake(
    "You give the model the whole text, however long. With a `context` it can read only "
    "the last so many tokens."
)
class NoCropToContext(_Writer):
    def seen(self, ids, context):
        return ids


@mistake(
    "You keep the beginning of the text and cut its end. The model needs the last "
    "`context` tokens: `ids[:, -context:]`."
)
class CropsTheWrongEnd(_Writer):
    def seen(self, ids, context):
        return ids if context is None else ids[:, :context]


@mistake("You give the model one token less than it could read.")
class CropsOneTooMany(_Writer):
    def seen(self, ids, context):
        return ids if context is None else ids[:, -max(context - 1, 1) :]


@mistake("You give the model the last token only. Without a memory it needs the whole text.")
class SeesTheLastTokenOnly(_Writer):
    def seen(self, ids, context):
        return ids[:, -1:]


@mistake(
    "You cut the text itself to the context, so its beginning is lost. Cut only what the "
    "model reads."
)
class TextLosesItsBeginning(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        for _ in range(n_new):
            ids = self.seen(ids, context)
            ids = self.put(ids, choose(model(ids)[:, -1], ids))
        return ids


@mistake("You give probabilities to `choose`, which takes logits and does its own softmax.")
class ProbabilitiesToChoose(_Writer):
    def pick(self, choose, logits, ids, context):
        return choose(logits.softmax(-1), ids)


@mistake("You always take the best token. Let `choose` decide.")
class SamplesFromLogitsNotChoose(_Writer):
    def pick(self, choose, logits, ids, context):
        return logits.argmax(-1)


@mistake(
    "You give `choose` the cut text. It should know all of it: a penalty counts what was "
    "said long ago, too."
)
class ChoosesFromTheCut(_Writer):
    def pick(self, choose, logits, ids, context):
        return choose(logits, self.seen(ids, context))


@mistake(
    "You give `choose` the room for tokens that are still to come, too. It should be given the "
    "text so far and no more: a penalty would take what stands there for something said."
)
class ChoosesFromTheBuffer(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        buffer = torch.cat((ids, ids.new_zeros(len(ids), n_new)), dim=1)
        for end in range(ids.shape[1], buffer.shape[1]):
            logits = model(self.seen(buffer[:, :end], context))[:, -1]
            buffer[:, end] = choose(logits, buffer)
        return buffer


@mistake(
    "You count the places from the front. A model that remembers gives those of the new tokens "
    "alone: the last place is `[:, -1]`."
)
class CountsFromTheFront(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        for _ in range(n_new):
            seen = self.seen(ids, context)
            ids = self.put(ids, choose(model(seen)[:, seen.shape[1] - 1], ids))
        return ids


@mistake("You return the new tokens alone. Return the text with them.")
class NewTokensOnly(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        return super().__call__(model, ids, n_new, choose, context)[:, ids.shape[1] :]


@mistake(
    "You ask the model about the same text every time. What it chose must be there when it "
    "is asked again."
)
class ForgetsToAppend(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        text = ids
        for _ in range(n_new):
            text = self.put(text, choose(model(self.seen(ids, context))[:, -1], ids))
        return text


@mistake("You append to the first text every time, so only the last token stays.")
class KeepsOnlyTheLast(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        start = ids
        for _ in range(n_new):
            chosen = choose(model(self.seen(ids, context))[:, -1], ids)
            ids = self.put(start, chosen)
        return ids


@mistake("You put new tokens in front of the text.")
class PutsInFront(_Writer):
    def put(self, ids, chosen):
        return torch.cat((chosen[:, None], ids), dim=1)


@mistake("You write one token more than `n_new`.")
class OneTooMany(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        return super().__call__(model, ids, n_new + 1, choose, context)


@mistake("You stop when the whole text has `n_new` tokens. That is the number of new ones.")
class UpToNTokens(_Writer):
    def __call__(self, model, ids, n_new, choose, context=None):
        missing = max(n_new - ids.shape[1], 0)
        return super().__call__(model, ids, missing, choose, context)


@mistake("You append along axis 0, as if a new text began. Tokens are axis 1.")
class AppendsARow(_Writer):
    def put(self, ids, chosen):
        return torch.cat((ids, chosen[None]), dim=0)


@exercise.alternative
def generate_in_steps(model, ids, n_new, choose, context=None):
    return _Writer()(model, ids, n_new, choose, context)


@exercise.alternative
def generate_into_a_buffer(model, ids, n_new, choose, context=None):
    start = ids.shape[1]
    text = torch.cat((ids, torch.empty(len(ids), n_new, dtype=torch.long)), dim=1)
    for end in range(start, start + n_new):
        first = 0 if context is None else max(end - context, 0)
        text[:, end] = choose(model(text[:, first:end])[:, -1], text[:, :end])
    return text


@exercise.alternative
def generate_with_columns(model, ids, n_new, choose, context=None):
    columns = list(ids.unbind(1))
    for _ in range(n_new):
        text = torch.stack(columns, dim=1)
        seen = text[:, -(context or text.shape[1]) :]
        columns.append(choose(model(seen)[:, -1, :], text))
    return torch.stack(columns, dim=1)


@exercise.alternative
def generate_by_recursion(model, ids, n_new, choose, context=None):
    if n_new == 0:
        return ids
    start = max(0, ids.shape[1] - context) if context is not None else 0
    chosen = choose(model(ids[:, start:])[:, -1], ids)
    return generate_by_recursion(
        model, torch.hstack((ids, chosen.unsqueeze(1))), n_new - 1, choose, context
    )
