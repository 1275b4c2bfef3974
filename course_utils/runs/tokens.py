"""Which tokens a text file is cut into: a tokenizer by its name, as a run asks for it.

With "bpe" the learner's own parts do the work, where they are written: `merge_pair` inside of
`train_fast`, which finds the merges, and `bpe_encode`, once for every different word of the text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from course_utils import tokenization
from course_utils.corpora import text
from course_utils.runs import baselines

Tokenizer = text.Characters | tokenization.Tokenizer
Learner = Callable[[text.Text], Tokenizer]
"""Makes the tokenizer for a text. What it counts, it counts in the part to learn from alone."""

VOCABULARY = 2048  # tokens, where it can be chosen and is not


def characters(found: text.Text) -> text.Characters:
    """A token for every character, those that only the validation text has as well."""
    return text.Characters.of(found.training + found.validation)


FIXED: dict[str, Learner] = {
    "characters": characters,
    "bytes": lambda found: tokenization.Bytes(),
}
TRAINED: dict[str, Callable[[str, int], Tokenizer]] = {
    "bpe": tokenization.BPE.train,
    "words": tokenization.Words.train,
}
NAMES = [*FIXED, *TRAINED]


def learner(name: str = "characters", vocabulary: int | None = None) -> Learner:
    """What makes the tokenizer of this name, with at most so many tokens.

    Raises ValueError where there is none, or where the number of its tokens cannot be chosen.
    """
    if name not in NAMES:
        raise ValueError(f"tokenizer must be one of {', '.join(NAMES)}, got {name!r}")
    if name in TRAINED:
        size = VOCABULARY if vocabulary is None else vocabulary
        return lambda found: TRAINED[name](found.training, size)
    if vocabulary is not None:
        raise ValueError(
            f"vocabulary: how many tokens there are cannot be chosen with {name}. Leave it away, or"
            f" take the tokenizer {' or '.join(TRAINED)}"
        )
    return FIXED[name]


def kept(settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `settings` these are."""
    if settings["kind"] == "characters":
        return text.Characters(settings["vocabulary"])
    return tokenization.tokenizer_of(settings)


def spelling(tokenizer: Tokenizer, found: text.Text) -> float:
    """Nats to say what the tokenizer loses of the validation text.

    That is the words that are [UNK]: each is spelled in bytes, with its end, by a 5-gram that was
    counted in the different words of the training text.
    """
    if not isinstance(tokenizer, tokenization.Words):
        return 0.0
    known = set(tokenizer.vocabulary)
    lost = [word for word in tokenization.pretokenize(found.validation) if word not in known]
    return baselines.spelling(lost, set(tokenization.pretokenize(found.training)))
