"""A trained model writes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from course_utils import decoder, inference, sampling
from course_utils.families import pretrained
from course_utils.runs import baselines, quick, sources

UNFINISHED = "\ufffd"  # what a decoder gives for bytes that are no character, or not one yet
AHEAD = 4  # tokens that a draft guesses at once
N_COUNTED_TOKENS = 300_000  # of the training text, for a table: a second

Adds = Callable[[Tensor, int], Iterator[Tensor]]
"""Adds at most so many tokens to the ids of a text [1, tokens], and gives them as they come."""


def shipped() -> tuple[decoder.GPT, sources.Corpus]:
    """The story-teller that comes with the course, in the form of `load`."""
    return pretrained.stories_model(), sources.Stories()


def write(
    model: decoder.GPT,
    corpus: sources.Corpus,
    prompt: str,
    n_new: int,
    choose: sampling.Sampler,
    context: int,
) -> Iterator[str]:
    """Go on from a prompt, one token after the other, as `go_on` does."""
    add = one_by_one(quick.cached(model, context), choose)
    return go_on(corpus, prompt, n_new, context, add)


def one_by_one(model: sampling.CachedModel, choose: sampling.Sampler) -> Adds:
    """Adds the tokens that `choose` chooses."""
    return lambda ids, n_new: sampling.stream(model, ids, n_new, choose)


class Ahead:
    """Adds the tokens that a model would draw, where a draft guesses and the model checks.

    `n_tokens` were added in `n_calls` of the model.
    """

    def __init__(
        self,
        model: inference.Reader,
        draft: inference.Reader,
        filters: Sequence[sampling.Filter],
        generator: torch.Generator | None = None,
    ):
        self.n_tokens = self.n_calls = 0
        self._readers = model, draft
        self._how = filters, generator

    def __call__(self, ids: Tensor, n_new: int) -> Iterator[Tensor]:
        for new in inference.rounds(*self._readers, ids, n_new, AHEAD, *self._how):
            self.n_calls += 1
            self.n_tokens += new.shape[1]
            yield new[0]


def table(corpus: sources.Corpus) -> inference.TableDraft:
    """The n-grams of up to four tokens of the text that a run was trained on, as a draft.

    Raises ValueError where a text file is not there any more, or has other characters.
    """
    counted = baselines.NGram(corpus.counted()[:N_COUNTED_TOKENS], 4, len(corpus.vocabulary))
    return inference.TableDraft(counted.probabilities, counted.order - 1)


def go_on(
    corpus: sources.Corpus, prompt: str, n_new: int, context: int, add: Adds
) -> Iterator[str]:
    """Go on from a prompt, by at most `n_new` tokens: every piece of text as soon as it is there.

    It stops where the text ends. No more than `context` tokens are ever read: when so many are, the
    first half of them is forgotten. A character of several bytes waits for the last one.
    """
    ids = corpus.encode(prompt)
    said = whole = corpus.decode(ids.tolist())
    for token in _tokens(ids[None], n_new, context, add):
        if token == corpus.end:
            break
        ids = torch.cat((ids, torch.tensor([token])))
        whole = corpus.decode(ids.tolist())
        complete = whole.removesuffix(UNFINISHED)
        yield complete[len(said) :]
        said = complete
    if whole != said:
        yield whole[len(said) :]


def _tokens(ids: Tensor, n_new: int, context: int, add: Adds) -> Iterator[int]:
    while n_new > 0:
        if ids.shape[1] > context:
            ids = ids[:, -max(1, context // 2) :]
        room = min(n_new, context - ids.shape[1] + 1)
        for new in add(ids, room):
            ids = torch.cat((ids, new[None]), dim=1)
            yield from new.tolist()
        n_new -= room
