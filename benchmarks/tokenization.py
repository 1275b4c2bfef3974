"""Byte pair encoding, 1.1 MB of text, 4,096 tokens: our two trainers beside two others.

    python benchmarks/tokenization.py [runs]

The text is generated: words that are made of syllables and occur as often as Zipf says, so it is
the same everywhere. All begin with the same words (`tokenization.pretokenize`) but the `tokenizers`
library, which cuts them itself. What counts is processor time on one thread. The two that count all
pairs anew after each merge are timed for their first merges; for all of them, that is multiplied:
too much by some, as words have fewer symbols later.
The ways take turns. Ratios are medians of the ratios of single rounds.
"""

import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

os.environ["RAYON_NUM_THREADS"] = "1"  # before the library is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers

from course_utils import tokenization

CHARACTERS, VOCABULARY = 1_100_000, 4096
N_MERGES = VOCABULARY - 256
FIRST_MERGES = {"recounting, all words of the text": 1, "`train_bpe`, each word once": 3}

Pair = tuple[str, str]


def main() -> None:
    """Measure all ways in turn and print the medians."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    text = generated_text()
    ways = all_ways(text)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        found = {}
        for name, way in ways.items():
            start = time.process_time()
            found[name] = way()
            times = N_MERGES / FIRST_MERGES[name] if name in FIRST_MERGES else 1
            seconds[name].append((time.process_time() - start) * times)
        check(found)
    print(heading(text), table(seconds), sep="\n\n")


def generated_text() -> str:
    """Sentences of 60,000 words, the most frequent of them as frequent as "the"."""
    draw = random.Random(0)
    starts, vowels = (
        "b br c ch d f g gr h l m n p pl r s st t th v w".split(),
        "a e i o u ea ou".split(),
    )
    ends = " . . . n r s t l ng nd st".split(" ")
    syllables = [
        start + vowel + end.strip(".") for start in starts for vowel in vowels for end in ends
    ]
    lengths = draw.choices((1, 2, 3, 4), (2, 5, 4, 1), k=60_000)
    words = ["".join(draw.choices(syllables, k=length)) for length in lengths]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    drawn = draw.choices(words, cum_weights=weights, k=CHARACTERS // 4)
    ends_of_words = draw.choices((" ", ", ", ". ", ".\n", " 1 "), (80, 8, 8, 3, 1), k=len(drawn))
    return "".join(map("".join, zip(drawn, ends_of_words, strict=True)))[:CHARACTERS]


def all_ways(text: str) -> dict[str, Callable[[], Sequence[Pair]]]:
    """The trainers, by what they are called in the table."""
    pieces = [tokenization.byte_symbols(word) for word in tokenization.pretokenize(text)]
    alphabet = dict.fromkeys(tokenization.BYTE_CHARACTERS.values(), 0)
    words = alphabet | dict(Counter(pieces))
    every_word, each_word = FIRST_MERGES
    return {
        "`train_fast`, with the words cut": lambda: tokenization.BPE.train(text, VOCABULARY).merges,
        "`train_fast` alone": lambda: tokenization.train_fast(words, VOCABULARY),
        each_word: lambda: tokenization.train_bpe(words, 256 + FIRST_MERGES[each_word]),
        every_word: lambda: recounting(pieces, FIRST_MERGES[every_word]),
        "`tokenizers` (Rust)": lambda: by_the_library(text),
    }


def recounting(pieces: Sequence[str], n_merges: int) -> list[Pair]:
    """Our stand-in for minbpe's `RegexTokenizer`: every word of the text, whenever it occurs."""
    ids = {character: index for index, character in enumerate(sorted(set("".join(pieces))))}
    split = [tuple(piece) for piece in pieces]
    merges: list[Pair] = []
    for _ in range(n_merges):
        counts: Counter[Pair] = Counter()
        for symbols in split:
            for pair in pairwise(symbols):
                counts[pair] += 1
        best = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        split = [tokenization.merge_pair(symbols, best) for symbols in split]
    return merges


def by_the_library(text: str) -> list[Pair]:
    """The merges of the `tokenizers` library."""
    level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    symbols = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return [("", symbol) for symbol, _ in symbols[256:]]


def check(found: dict[str, Sequence[Pair]]) -> None:
    """All find the same symbols in the same order, as far as they go."""
    joined = {name: ["".join(pair) for pair in merges] for name, merges in found.items()}
    first = next(iter(joined.values()))
    assert len(first) == N_MERGES
    for name, symbols in joined.items():
        assert symbols == first[: len(symbols)], name


def heading(text: str) -> str:
    """What was measured, for the line above the table."""
    words = tokenization.pretokenize(text)
    return f"{len(text):,} characters, {len(words):,} words, {len(set(words)):,} different ones"


def table(seconds: dict[str, list[float]]) -> str:
    """Median seconds, and the median ratio to the first way."""
    first = next(iter(seconds))
    lines = ["| trainer | seconds | a merge, ms | times the first |", "| --- | --- | --- | --- |"]
    for name, measured in seconds.items():
        median = statistics.median(measured)
        ratio = statistics.median(a / b for a, b in zip(measured, seconds[first], strict=True))
        guessed = "about " if name in FIRST_MERGES else ""
        lines.append(
            f"| {name} | {guessed}{median:,.2f} | {1000 * median / N_MERGES:,.2f} | {ratio:,.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
