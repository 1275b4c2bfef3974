"""A trained model writes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from course_utils import decoder, sampling
from course_utils.families import pretrained
from course_utils.runs import quick, sources

UNFINISHED = "\ufffd"  # what a decoder gives for bytes that are no character, or not one yet


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
    """Go on from a prompt, by at most `n_new` tokens: every piece of text as soon as it is there.

    It stops where the text ends. The model never sees more than `context` tokens: when so many are
    read, it forgets the first half of them. A character of several bytes waits for the last one.
    """
    ids = corpus.encode(prompt)
    said = whole = corpus.decode(ids.tolist())
    for token in _tokens(model, ids[None], n_new, choose, context):
        if token == corpus.end:
            break
        ids = torch.cat((ids, torch.tensor([token])))
        whole = corpus.decode(ids.tolist())
        complete = whole.removesuffix(UNFINISHED)
        yield complete[len(said) :]
        said = complete
    if whole != said:
        yield whole[len(said) :]


def _tokens(
    model: decoder.GPT, ids: Tensor, n_new: int, choose: sampling.Sampler, context: int
) -> Iterator[int]:
    while n_new > 0:
        if ids.shape[1] > context:
            ids = ids[:, -max(1, context // 2) :]
        room = min(n_new, context - ids.shape[1] + 1)
        for chosen in sampling.stream(quick.cached(model, context), ids, room, choose):
            ids = torch.cat((ids, chosen[:, None]), dim=1)
            yield int(chosen)
        n_new -= room
