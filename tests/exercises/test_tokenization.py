"""Answers to notebook 10 in other styles than ours: the right ones pass, the wrong ones do not."""

import pytest

from course_utils import exercises
from course_utils.engine import parts
from course_utils.engine.check import check
from course_utils.engine.verdict import Verdict


def verdict_on(name: str, source: str) -> Verdict:
    """The verdict on a source that defines the part, beside the references of the others."""
    part = f"tokenization.{name}"
    namespace = dict(parts.namespace(part))
    exec(source, namespace)
    return check(exercises.find(part), namespace[name])


RIGHT = {
    "count_pairs, update": """
def count_pairs(words):
    counts = Counter()
    for word, n in words.items():
        for i in range(len(word) - 1):
            counts.update({word[i:i + 2]: n})
    return counts
""",
    "merge_pair, for with skip": """
def merge_pair(symbols, pair):
    out, skip = [], False
    for i, s in enumerate(symbols):
        if skip:
            skip = False
        elif i + 1 < len(symbols) and s == pair[0] and symbols[i + 1] == pair[1]:
            out.append(s + symbols[i + 1])
            skip = True
        else:
            out.append(s)
    return tuple(out)
""",
    "train_bpe, a list of lists": """
def train_bpe(words, vocabulary_size, min_frequency=1):
    vocabulary = sorted({c for w in words for c in w})
    items = [(tuple(w), n) for w, n in words.items()]
    out = []
    for _ in range(vocabulary_size - len(vocabulary)):
        c = Counter()
        for w, n in items:
            c.update({p: m * n for p, m in count_pairs({w: 1}).items()})
        c = {p: n for p, n in c.items() if n >= min_frequency}
        if not c:
            break
        p = sorted(c, key=lambda p: (-c[p], vocabulary.index(p[0]), vocabulary.index(p[1])))[0]
        out += [p]
        vocabulary += [p[0] + p[1]]
        items = [(merge_pair(w, p), n) for w, n in items]
    return out
""",
    "bpe_encode, index": """
def bpe_encode(word, merges):
    merges = list(merges)
    parts = list(word)
    while True:
        found = {p for p in zip(parts, parts[1:]) if p in merges}
        if not found:
            return parts
        parts = list(merge_pair(parts, sorted(found, key=merges.index)[0]))
""",
    "pair_score, product first": """
def pair_score(pair_count, left_count, right_count):
    by_chance = float(left_count) * right_count
    return pair_count / by_chance
""",
    "wordpiece_encode, for else": """
def wordpiece_encode(word, vocabulary, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return [unknown]
    out, text = [], word
    while text not in ("", "##"):
        for end in range(len(text), 2 * bool(out), -1):
            if text[:end] in vocabulary:
                out.append(text[:end])
                text = "##" + text[end:]
                break
        else:
            return [unknown]
    return out
""",
}

WRONG = {
    "count_pairs, keeps its counter": """
kept = Counter()
def count_pairs(words):
    for word, n in words.items():
        for pair in pairwise(word):
            kept[pair] += n
    return Counter(kept)
""",
    "count_pairs, words of two or more alone": """
def count_pairs(words):
    counts = Counter()
    for word, n in words.items():
        for pair in pairwise(word):
            counts[pair] += n if len(word) > 2 else 1
    return counts
""",
    "merge_pair, in the list that it was given": """
def merge_pair(symbols, pair):
    symbols = symbols if isinstance(symbols, list) else list(symbols)
    i = 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i:i + 2] = ["".join(pair)]
        i += 1
    return tuple(symbols)
""",
    "merge_pair, twice at most": """
def merge_pair(symbols, pair):
    out, n, i = [], 0, 0
    while i < len(symbols):
        if n < 2 and tuple(symbols[i:i + 2]) == pair:
            out.append("".join(pair))
            n += 1
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)
""",
    "train_bpe, sorts the vocabulary again": """
def train_bpe(words, vocabulary_size, min_frequency=1):
    vocabulary = sorted(set("".join(words)))
    split = {tuple(w): n for w, n in words.items()}
    merges = []
    while len(vocabulary) < vocabulary_size:
        c = count_pairs(split)
        if not c or max(c.values()) < min_frequency:
            break
        p = min(c, key=lambda p: (-c[p], vocabulary.index(p[0]), vocabulary.index(p[1])))
        merges.append(p)
        vocabulary = sorted([*vocabulary, "".join(p)])
        split = {merge_pair(w, p): n for w, n in split.items()}
    return merges
""",
    "train_bpe, words of one character left out": """
def train_bpe(words, vocabulary_size, min_frequency=1):
    words = {w: n for w, n in words.items() if len(w) > 1}
    return train_fast(words, vocabulary_size, min_frequency)
""",
    "bpe_encode, two rounds alone": """
def bpe_encode(word, merges):
    symbols = tuple(word)
    for _ in range(2):
        known = [p for p in pairwise(symbols) if p in merges]
        if known:
            symbols = merge_pair(symbols, min(known, key=merges.index))
    return list(symbols)
""",
    "pair_score, rounded": """
def pair_score(pair_count, left_count, right_count):
    return round(pair_count / (left_count * right_count), 4)
""",
    "wordpiece_encode, the mark has a length": """
def wordpiece_encode(word, vocabulary, unknown="[UNK]", longest=100):
    out, rest = [], word
    if len(word) > longest:
        return [unknown]
    while rest:
        piece = ("##" if out else "") + rest
        while piece and piece not in vocabulary:
            piece = piece[:-1]
        if not piece:
            return [unknown]
        out.append(piece)
        rest = rest[len(piece):]
    return out
""",
    "wordpiece_encode, a hundred whatever is given": """
def wordpiece_encode(word, vocabulary, unknown="[UNK]", longest=100):
    part = parts_of(word, vocabulary) if len(word) <= 100 else None
    return [unknown] if part is None else part
def parts_of(word, vocabulary, mark=""):
    if not word:
        return []
    for end in range(len(word), 0, -1):
        if mark + word[:end] in vocabulary:
            rest = parts_of(word[end:], vocabulary, "##")
            return None if rest is None else [mark + word[:end], *rest]
""",
}


@pytest.mark.parametrize("title", RIGHT)
def test_right_answers_pass(title: str) -> None:
    verdict = verdict_on(title.split(",")[0], RIGHT[title])
    assert verdict.state == "right", verdict


@pytest.mark.parametrize("title", WRONG)
def test_wrong_answers_are_refused(title: str) -> None:
    assert verdict_on(title.split(",")[0], WRONG[title]).state == "wrong"
