"""Notebook 10: tokenization. From a text to the numbers that a model reads, and back.

A tokenizer cuts a text into pieces, and each piece has a number, its id. Symbols are strings, also
where they stand for bytes: each of the 256 bytes has a character of its own that can be printed.
"""

import functools
import heapq
import json
import re
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

Pair = tuple[str, str]

# --- Byte pair encoding --------------------------------------------------------------------------


def count_pairs(words: Mapping[tuple[str, ...], int]) -> Counter[tuple[str, str]]:
    """How often each pair of neighbours occurs. `words` has how often each word occurs.

    a a a has the pair (a, a) twice. No pair reaches from one word into the next.
    """
    counts: Counter[Pair] = Counter()
    for symbols, n_times in words.items():
        for pair in pairwise(symbols):
            counts[pair] += n_times
    return counts


def merge_pair(symbols: Sequence[str], pair: tuple[str, str]) -> tuple[str, ...]:
    """The symbols, with every occurrence of `pair` joined to one symbol.

    From left to right: a symbol that was joined is not joined once more, so a a a becomes aa a.
    """
    merged: list[str] = []
    place = 0
    while place < len(symbols):
        width = 2 if tuple(symbols[place : place + 2]) == pair else 1
        merged.append("".join(symbols[place : place + width]))
        place += width
    return tuple(merged)


def train_bpe(
    words: Mapping[str, int], vocabulary_size: int, min_frequency: int = 1
) -> list[tuple[str, str]]:
    """The pairs to merge, in order (Sennrich et al. 2016, §3.2). `words`: how often each occurs.

    The vocabulary begins with the characters, sorted, and each merge adds its symbol. The most
    frequent pair is merged in all words, then pairs are counted again. Of equally frequent pairs it
    is that whose left symbol came first into the vocabulary, then that whose right one did. It ends
    when the vocabulary has `vocabulary_size` symbols or no pair occurs `min_frequency` times.
    """
    ids = _alphabet(words)
    split = {tuple(word): n_times for word, n_times in words.items()}
    merges: list[Pair] = []
    while len(ids) < vocabulary_size:
        counts = count_pairs(split)
        ranked = [(-count, ids[pair[0]], ids[pair[1]], pair) for pair, count in counts.items()]
        if not ranked or -min(ranked)[0] < min_frequency:
            break
        best = min(ranked)[-1]
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        split = {merge_pair(symbols, best): n_times for symbols, n_times in split.items()}
    return merges


def bpe_encode(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """The word in symbols: it begins as characters, and neighbours are merged as in training.

    As long as any two neighbours are in `merges`, the pair that stands first there is merged,
    wherever it occurs in the word. A character that `merges` does not know stays as it is.
    """
    rank = {pair: index for index, pair in enumerate(merges)}
    symbols = tuple(word)
    while known := [pair for pair in pairwise(symbols) if pair in rank]:
        symbols = merge_pair(symbols, min(known, key=rank.__getitem__))
    return list(symbols)


def _alphabet(words: Iterable[str]) -> dict[str, int]:
    return {character: index for index, character in enumerate(sorted(set("".join(words))))}


def train_fast(
    words: Mapping[str, int], vocabulary_size: int, min_frequency: int = 1
) -> list[tuple[str, str]]:
    """What `train_bpe` gives, sooner: counts are kept, and change only where a word does.

    A heap has the pairs, the best first. An entry whose count is no longer true is passed over.
    """
    ids = _alphabet(words)
    known = _KeptCounts(words)
    heap = [_entry(pair, count, ids) for pair, count in known.counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(ids) < vocabulary_size:
        count, _, _, best = heapq.heappop(heap)
        if -count != known.counts[best]:
            continue
        if -count < min_frequency:
            break
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        for pair in known.merge(best):
            heapq.heappush(heap, _entry(pair, known.counts[pair], ids))
    return merges


def _entry(pair: Pair, count: int, ids: Mapping[str, int]) -> tuple[int, int, int, Pair]:
    """The smallest entry is the most frequent pair, and of equal ones that which is oldest."""
    return -count, ids[pair[0]], ids[pair[1]], pair


class _KeptCounts:
    """Words in symbols, how often each pair occurs in them, and in which of them it does."""

    def __init__(self, words: Mapping[str, int]):
        self.split: list[tuple[str, ...]] = [tuple(word) for word in words]
        self.n_times = list(words.values())
        self.counts: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place, symbols in enumerate(self.split):
            for pair in pairwise(symbols):
                self.counts[pair] += self.n_times[place]
                self.places[pair].add(place)

    def merge(self, best: Pair) -> list[Pair]:
        """Join a pair in all words that have it. Gives the pairs whose count is another now."""
        changed: Counter[Pair] = Counter()
        for place in self.places.pop(best):
            n = self.n_times[place]
            before, after = self.split[place], merge_pair(self.split[place], best)
            self.split[place] = after
            for pair in pairwise(before):
                changed[pair] -= n
            for pair in pairwise(after):
                changed[pair] += n
                self.places[pair].add(place)
        for pair, change in changed.items():
            self.counts[pair] += change
        return [pair for pair, change in changed.items() if change and self.counts[pair] > 0]


# --- WordPiece -----------------------------------------------------------------------------------

CONTINUES = "##"
"""Stands before a symbol that goes on with a word."""


def pair_score(pair_count: int, left_count: int, right_count: int) -> float:
    """WordPiece's score of a pair: its count over the product of the counts of its two symbols.

    High where the two are seldom seen without each other. This is the score of Hugging Face's
    course: Google has not published how it trained WordPiece.
    """
    return pair_count / (left_count * right_count)


def wordpiece_encode(
    word: str, vocabulary: Collection[str], unknown: str = "[UNK]", longest: int = 100
) -> list[str]:
    """The word in symbols of the vocabulary: again and again the longest that fits (BERT).

    Those after the first have "##" in front, in the vocabulary and in the result. A word is
    [unknown] as a whole where nothing fits at some place, or if it has more than `longest`
    characters.
    """
    if len(word) > longest:
        return [unknown]
    symbols: list[str] = []
    start = 0
    while start < len(word):
        mark = CONTINUES if start else ""
        fitting = (
            end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary
        )
        end = next(fitting, None)
        if end is None:
            return [unknown]
        symbols.append(mark + word[start:end])
        start = end
    return symbols


def train_wordpiece(words: Mapping[str, int], vocabulary_size: int) -> list[str]:
    """A vocabulary for `wordpiece_encode`: the pair with the best `pair_score` is merged each time.

    It begins with the characters, those inside of words with "##". Of pairs with the same score,
    that whose symbols came first into the vocabulary.
    """
    split = {_marked(word): n_times for word, n_times in words.items() if word}
    ids = {
        symbol: index for index, symbol in enumerate(sorted({s for word in split for s in word}))
    }
    while len(ids) < vocabulary_size:
        pairs, singles = count_pairs(split), _count_symbols(split)
        scored = [
            (
                -pair_score(count, singles[left], singles[right]),
                ids[left],
                ids[right],
                (left, right),
            )
            for (left, right), count in pairs.items()
        ]
        if not scored:
            break
        best = min(scored)[-1]
        joined = best[0] + best[1].removeprefix(CONTINUES)
        ids.setdefault(joined, len(ids))
        split = {
            tuple(
                joined if symbol == "".join(best) else symbol for symbol in merge_pair(word, best)
            ): n
            for word, n in split.items()
        }
    return list(ids)


def _marked(word: str) -> tuple[str, ...]:
    return (word[0], *(CONTINUES + character for character in word[1:]))


def _count_symbols(words: Mapping[tuple[str, ...], int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for symbols, n_times in words.items():
        for symbol in symbols:
            counts[symbol] += n_times
    return counts


# --- Words and bytes -----------------------------------------------------------------------------


def pretokenize(text: str) -> list[str]:
    """The text in words, as GPT-2 cuts it: no merge crosses their borders. Joined, it is the text.

    A word has the space before it. Letters, digits and other signs are never in one word, and 's,
    't, 're, 've, 'm, 'll and 'd are words of their own (Radford et al. 2019, their `encoder.py`).
    """
    return _gpt2_pattern().findall(_checked(text))


@functools.cache
def _gpt2_pattern() -> re.Pattern[str]:
    r"""GPT-2's pattern. `re` has no \p{L} and no \p{N}: Unicode's list of numbers makes both."""
    numbers = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if _kind(c) in ("Nl", "No"))
    letter, number = rf"[^\W\d_{numbers}]", rf"[\d{numbers}]"
    space = r"[^\S\x1c-\x1f]"  # Python counts these four as white space, Unicode does not
    other = r"(?:[^\s\w]|[_\x1c-\x1f])"
    return re.compile(
        rf"'(?:s|t|re|ve|m|ll|d)| ?{letter}+| ?{number}+| ?{other}+|{space}+(?={space}|\Z)|{space}+"
    )


_kind = unicodedata.category


def _byte_characters() -> dict[int, str]:
    """GPT-2's list: bytes that Latin-1 can print stand for themselves, the others for 256, 257 …"""
    printed = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    hidden = [byte for byte in range(256) if byte not in printed]
    shown = {byte: chr(byte) for byte in printed}
    shown |= {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    return {byte: shown[byte] for byte in range(256)}


BYTE_CHARACTERS: Mapping[int, str] = _byte_characters()
"""A character that can be printed for every byte, as in GPT-2: a space is "Ġ", a new line "Ċ"."""

_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def byte_symbols(text: str) -> str:
    """The text's bytes in UTF-8, each as its character in `BYTE_CHARACTERS`.

    A byte that came in by `bytes.decode("utf-8", "surrogateescape")` is that byte again.
    """
    return "".join(BYTE_CHARACTERS[byte] for byte in text.encode("utf-8", "surrogateescape"))


def bytes_of(symbols: str) -> bytes:
    """The bytes behind the characters: the inverse of `byte_symbols`."""
    return bytes(_BYTES[character] for character in symbols)


def _text_of_bytes(symbols: str) -> str:
    return bytes_of(symbols).decode("utf-8", "replace")


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text: {type(text).__name__} is not a str")
    return text


# --- Tokenizers ----------------------------------------------------------------------------------


class Tokenizer(ABC):
    """Cuts a text into pieces of a vocabulary. The place of a piece there is its id."""

    vocabulary: Sequence[str]

    @abstractmethod
    def pieces(self, text: str) -> list[str]:
        """The text in pieces, as `vocabulary` shows them."""

    @abstractmethod
    def joined(self, pieces: Sequence[str]) -> str:
        """The text that the pieces make."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `tokenizer_of` needs to make this tokenizer again: it can be written as JSON."""

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {piece: index for index, piece in enumerate(self.vocabulary)}

    def encode(self, text: str) -> Int[Tensor, " tokens"]:
        """The ids of the text's pieces."""
        return torch.tensor([self._id_of[each] for each in self.pieces(text)], dtype=torch.long)

    def decode(self, ids: Int[Tensor, " tokens"] | Iterable[int]) -> str:
        """The text behind the ids. A ValueError names an id that is not in the vocabulary.

        Bytes that are no UTF-8 become "\N{REPLACEMENT CHARACTER}".
        """
        return self.joined(self.shown(ids))

    def shown(self, ids: Int[Tensor, " tokens"] | Iterable[int]) -> list[str]:
        """The pieces behind the ids. A ValueError names an id that is not in the vocabulary."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else [int(index) for index in ids]
        for index in numbers:
            if not 0 <= index < len(self.vocabulary):
                raise ValueError(f"ids: {index} is not between 0 and {len(self.vocabulary) - 1}")
        return [self.vocabulary[index] for index in numbers]


@dataclass(frozen=True)
class Bytes(Tokenizer):
    """A token for each byte of the text in UTF-8. Its id is the byte."""

    vocabulary: Sequence[str] = tuple(BYTE_CHARACTERS.values())

    def pieces(self, text: str) -> list[str]:
        """The text's bytes, each as its character in `BYTE_CHARACTERS`."""
        return list(byte_symbols(_checked(text)))

    def joined(self, pieces: Sequence[str]) -> str:
        """The text of these bytes."""
        return _text_of_bytes("".join(pieces))

    def settings(self) -> dict[str, Any]:
        """Nothing but the kind."""
        return {"kind": "bytes"}


@dataclass(frozen=True)
class Words(Tokenizer):
    """A token for each word that `pretokenize` finds. Those that are not known are `unknown`."""

    vocabulary: Sequence[str]
    unknown: str = "[UNK]"

    @classmethod
    def train(cls, text: str, vocabulary_size: int) -> "Words":
        """The most frequent words of a text, the first to occur where they tie, and "[UNK]"."""
        counts = _counted(text)
        if vocabulary_size < 2:
            raise ValueError(f"vocabulary_size: {vocabulary_size} is below 2, [UNK] and one word")
        frequent = (word for word, _ in counts.most_common() if word != cls.unknown)
        return cls((cls.unknown, *list(frequent)[: vocabulary_size - 1]))

    def pieces(self, text: str) -> list[str]:
        """The text's words, each with the space before it."""
        return [word if word in self._id_of else self.unknown for word in pretokenize(text)]

    def joined(self, pieces: Sequence[str]) -> str:
        """The words, one after the other."""
        return "".join(pieces)

    def settings(self) -> dict[str, Any]:
        """The words."""
        return {"kind": "words", "vocabulary": list(self.vocabulary), "unknown": self.unknown}


@dataclass(frozen=True)
class BPE(Tokenizer):
    """Byte pair encoding of bytes, as in GPT-2: it can write any text, and knows frequent pieces.

    The vocabulary has the 256 characters of `BYTE_CHARACTERS`, sorted, and what merges add.
    """

    merges: Sequence[tuple[str, str]]

    @classmethod
    def train(cls, text: str, vocabulary_size: int, min_frequency: int = 1) -> "BPE":
        """Learn the merges from a text. Fewer than asked for where no pairs are left.

        Raises ValueError where the text is empty or `vocabulary_size` is below 256.
        """
        if vocabulary_size < len(BYTE_CHARACTERS):
            raise ValueError(f"vocabulary_size: {vocabulary_size} is below 256, one for each byte")
        words = dict.fromkeys(BYTE_CHARACTERS.values(), 0)
        for word, n_times in _counted(text).items():
            symbols = byte_symbols(word)
            words[symbols] = words.get(symbols, 0) + n_times
        return cls(tuple(train_fast(words, vocabulary_size, min_frequency)))

    @cached_property
    def vocabulary(self) -> Sequence[str]:  # type: ignore[override]
        """The 256 bytes, then each merge's symbol where it is new."""
        merged = ("".join(pair) for pair in self.merges)
        return tuple(dict.fromkeys((*sorted(BYTE_CHARACTERS.values()), *merged)))

    @cached_property
    def _ranks_of(self) -> dict[str, list[int]]:
        """For a symbol, the places of the merges that make it."""
        ranks: defaultdict[str, list[int]] = defaultdict(list)
        for rank, pair in enumerate(self.merges):
            ranks["".join(pair)].append(rank)
        return ranks

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.vocabulary))

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        return {}

    def _merges_within(self, word: str) -> list[Pair]:
        """The merges whose symbol occurs in the word: no other can take part."""
        parts = {
            word[start:end]
            for start in range(len(word))
            for end in range(start + 2, min(start + self._longest, len(word)) + 1)
        }
        ranks = {rank for part in parts for rank in self._ranks_of.get(part, ())}
        return [self.merges[rank] for rank in sorted(ranks)]

    def pieces(self, text: str) -> list[str]:
        """The text's symbols, word by word. What was found for a word is kept."""
        pieces: list[str] = []
        for word in pretokenize(text):
            if word not in self._known:
                symbols = byte_symbols(word)
                self._known[word] = bpe_encode(symbols, self._merges_within(symbols))
            pieces += self._known[word]
        return pieces

    def joined(self, pieces: Sequence[str]) -> str:
        """The text of the bytes that the pieces stand for."""
        return _text_of_bytes("".join(pieces))

    def settings(self) -> dict[str, Any]:
        """The merges."""
        return {"kind": "bpe", "merges": [list(pair) for pair in self.merges]}


@dataclass(frozen=True)
class WordPiece(Tokenizer):
    """BERT's tokenizer, for text without capitals and accents: what it drops, no `decode` returns.

    It adds no [CLS] and no [SEP].
    """

    vocabulary: Sequence[str]
    unknown: str = "[UNK]"
    longest: int = 100

    @classmethod
    def from_file(cls, path: str | Path) -> "WordPiece":
        """From a `tokenizer.json` of the `tokenizers` library.

        Raises ValueError where it is of another kind, or one that keeps capitals.
        """
        file = json.loads(Path(path).read_text(encoding="utf-8"))
        model, normalizer = file["model"], file.get("normalizer") or {}
        if model.get("type") != "WordPiece" or model["continuing_subword_prefix"] != CONTINUES:
            raise ValueError(f"path: {path} is a {model.get('type')}, not a WordPiece with ##")
        if normalizer.get("type") != "BertNormalizer" or not normalizer["lowercase"]:
            raise ValueError(f"path: {path} does not normalise as BERT without capitals does")
        vocabulary = tuple(sorted(model["vocab"], key=model["vocab"].__getitem__))
        return cls(vocabulary, model["unk_token"], model["max_input_chars_per_word"])

    def pieces(self, text: str) -> list[str]:
        """The text's symbols, word by word."""
        pieces: list[str] = []
        for word in bert_words(text):
            pieces += wordpiece_encode(word, self._id_of, self.unknown, self.longest)
        return pieces

    def joined(self, pieces: Sequence[str]) -> str:
        """The words, with spaces between them: what stood there before is lost."""
        return " ".join(pieces).replace(" " + CONTINUES, "")

    def settings(self) -> dict[str, Any]:
        """The vocabulary."""
        kept = {"unknown": self.unknown, "longest": self.longest}
        return {"kind": "wordpiece", "vocabulary": list(self.vocabulary)} | kept


def tokenizer_of(settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that gave these `settings()`. A ValueError names a kind that is not known."""
    kept = {name: value for name, value in settings.items() if name != "kind"}
    match settings.get("kind"):
        case "bytes":
            return Bytes()
        case "bpe":
            return BPE(tuple((left, right) for left, right in kept["merges"]))
        case "words":
            return Words(**kept)
        case "wordpiece":
            return WordPiece(**kept)
    raise ValueError(
        f"settings: the kind {settings.get('kind')!r} is none of bytes, bpe, words, wordpiece"
    )


def _counted(text: str) -> Counter[str]:
    counts = Counter(pretokenize(text))
    if not counts:
        raise ValueError("text is empty: there is nothing to learn from")
    return counts


# --- BERT's words --------------------------------------------------------------------------------


def bert_words(text: str) -> list[str]:
    """The text in words, as BERT without capitals cuts it (Devlin et al. 2019, `tokenization.py`).

    Control characters, accents and white space go; a sign and a Chinese character are words alone.
    """
    cleaned = "".join(map(_cleaned, _checked(text)))
    bare = (c for c in unicodedata.normalize("NFD", cleaned) if _kind(c) != "Mn")
    lower = "".join(character.lower() for character in bare)  # one by one: "Σ" is "σ" everywhere
    return "".join(f" {c} " if _is_sign(c) else c for c in lower).split()


def _cleaned(character: str) -> str:
    if character in "\t\n\r":
        return " "
    if character == "\N{REPLACEMENT CHARACTER}" or _kind(character) in ("Cc", "Cf", "Co"):
        return ""
    return f" {character} " if _is_chinese(character) else character


def _is_sign(character: str) -> bool:
    return _kind(character).startswith("P") or character in "$+<=>^`|~"


_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_chinese(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _CHINESE)
