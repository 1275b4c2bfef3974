"""`course_utils.tokenization` against the `tokenizers` library, MiniLM's own file, and itself."""

import argparse
import inspect
import json
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_utils import families, tokenization

REPOSITORY = Path(__file__).resolve().parents[2]
MIXED = (
    "Ünïcode naïve café cafe\u0301 ½ Ⅷ ² 10²3 日本語 한국어 مرحبا 😀🚗👩‍👩‍👧 snake_case it's WE'LL"
    "  \t\n\n x\u00a0y\u3000z\x1c\x1d"
)


def _read(*names: str) -> str:
    return "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in names)


def _mixed() -> str:
    """Words of many scripts, in random order, with signs and white space between them."""
    draw = random.Random(0)
    words = [*MIXED.split(), *_read("README.md").split()]
    return "".join(
        draw.choice(words) + draw.choice((" ", " ", "  ", "\n", ", ", "\t", ""))
        for _ in range(9000)
    )


TEXTS = {
    "stories": lambda: _read("data/stories.txt"),
    "village": lambda: _read("data/village.txt"),
    "Python": lambda: inspect.getsource(argparse) + inspect.getsource(inspect),
    "prose": lambda: _read(
        "README.md", "CONTRIBUTING.md", "data/README.md", "benchmarks/README.md"
    ),
    "mixed": _mixed,
}


# --- byte pair encoding --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_merges_and_ids_are_those_of_the_library(name):
    """2,000 merges, or as many as the text has pairs for."""
    theirs_of = pytest.importorskip("tokenizers")
    text, alphabet = TEXTS[name](), theirs_of.pre_tokenizers.ByteLevel.alphabet()
    theirs = theirs_of.Tokenizer(theirs_of.models.BPE())
    theirs.pre_tokenizer = theirs_of.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.train_from_iterator(
        [text],
        theirs_of.trainers.BpeTrainer(
            vocab_size=2256, initial_alphabet=alphabet, show_progress=False
        ),
    )
    ours = tokenization.BPE.train(text, 2256)
    merges = [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    assert list(ours.merges) == merges
    assert name in ("stories", "village") or len(merges) == 2000
    assert list(ours.vocabulary) == [theirs.id_to_token(i) for i in range(theirs.get_vocab_size())]
    for read in (text, text[:9000][::-1], MIXED):
        assert ours.encode(read).tolist() == theirs.encode(read).ids
        assert ours.decode(ours.encode(read)) == read


words_of_two = st.dictionaries(
    st.text("ab", max_size=9) | st.text("abcÿ😀", max_size=9), st.integers(1, 9), max_size=12
)


@given(words_of_two, st.integers(0, 40), st.integers(1, 6))
def test_the_fast_trainer_gives_the_same_merges(words, size, least):
    assert tokenization.train_fast(words, size, least) == tokenization.train_bpe(words, size, least)


def test_the_fast_trainer_gives_the_same_merges_on_a_text():
    words = Counter(tokenization.pretokenize(_read("README.md")))
    fast = tokenization.train_fast(words, 250)
    assert fast == tokenization.train_bpe(words, 250)
    assert len(fast) > 100


def test_what_a_tokenizer_leaves_out_takes_no_part():
    """A word is encoded with the merges that its letters can meet: as with all of them."""
    text = _read("README.md")
    tokenizer = tokenization.BPE.train(text, 700)
    for word in set(tokenization.pretokenize(text)):
        symbols = tokenization.byte_symbols(word)
        assert tokenizer.pieces(word) == tokenization.bpe_encode(symbols, tokenizer.merges)


# --- words and bytes -----------------------------------------------------------------------------


def _old(character: str) -> bool:
    """Assigned in the oldest list of Unicode that is involved (Python's 3.2)."""
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs")


characters = st.characters(exclude_categories=("Cs", "Cn"))


@given(st.text(characters | st.sampled_from(" \n'_19½²Ⅷaéß-\t\x1c\u00a0\u3000"), max_size=40))
def test_words_are_those_of_gpt2(text):
    theirs = pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours = [tokenization.byte_symbols(word) for word in tokenization.pretokenize(text)]
    assert ours == [word for word, _ in theirs.pre_tokenize_str(text)]


def test_the_characters_of_bytes_are_those_of_gpt2():
    theirs = pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel.alphabet()
    assert sorted(tokenization.BYTE_CHARACTERS.values()) == sorted(theirs)
    assert [tokenization.BYTE_CHARACTERS[byte] for byte in b" \nA\xff"] == ["Ġ", "Ċ", "A", "ÿ"]


TRAINED = tokenization.BPE.train("the car is red, the café is 🚗 " * 3 + MIXED, 400)
BYTE_LEVEL = pytest.mark.parametrize(
    "tokenizer", [tokenization.Bytes(), TRAINED], ids=["bytes", "bpe"]
)


@BYTE_LEVEL
@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    assert tokenizer.shown(ids) == tokenizer.pieces(text)


@BYTE_LEVEL
@given(content=st.binary())
def test_any_bytes_come_back(tokenizer, content):
    ids = tokenizer.encode(content.decode("utf-8", "surrogateescape"))
    assert tokenization.bytes_of("".join(tokenizer.shown(ids))) == content
    assert tokenizer.decode(ids) == content.decode("utf-8", "replace")


def test_a_byte_is_its_own_id():
    assert tokenization.Bytes().encode("é 🚗").tolist() == [*"é 🚗".encode()]


def test_words_are_the_most_frequent_ones():
    tokenizer = tokenization.Words.train("a b b c c c d d d d", 3)
    assert tokenizer.vocabulary == ("[UNK]", " d", " c")
    assert tokenizer.decode(tokenizer.encode(" d a c")) == " d[UNK] c"


# --- WordPiece -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm_file() -> Path:
    """MiniLM's own tokenizer; without it, its tests are skipped."""
    pytest.importorskip("tokenizers")
    try:
        return families.minilm_folder() / "tokenizer.json"
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def _lines(n_lines: int) -> list[str]:
    """Lines of words, signs and scripts in random order, and now and then any character."""
    draw = random.Random(1)
    words = [*MIXED.split(), *_read("README.md", "data/stories.txt").split()]
    special = ["a" * 99, "ab" * 50, "é" * 100, "x" * 101, "un" * 60, "中文字", "😀", "Σίσυφος"]
    special += ["İstanbul", "ﬁn", "ǅ", "Å", "e\u0301\u0323", "\u0301", "co-op", "[x]"]
    assigned = [c for c in map(chr, range(1, 0x2FFFF)) if _old(c)]
    odd = [*"\0\x07\x85\u200b\u00ad\ufffd\ufeff\u2028\u200d\t\r$^…"]

    def word() -> str:
        kind = draw.random()
        if kind < 0.15:
            return "".join(draw.choices(assigned, k=draw.randint(1, 4)))
        if kind < 0.3:
            return draw.choice(words)[:5] + draw.choice(odd) + draw.choice(words)
        return draw.choice(special if kind < 0.4 else words)

    return [
        "".join(word() + draw.choice(("", " ", " ", "  ")) for _ in range(draw.randint(0, 12)))
        for _ in range(n_lines)
    ]


def test_pieces_are_those_of_minilms_own_tokenizer(minilm_file):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(minilm_file))
    theirs.no_truncation()
    theirs.no_padding()
    ours = tokenization.WordPiece.from_file(minilm_file)
    lines = _lines(1000)
    wrong = []
    for line in lines:
        wanted = theirs.encode(line, add_special_tokens=False)
        if (ours.pieces(line), ours.encode(line).tolist()) != (wanted.tokens, wanted.ids):
            wrong.append((line, ours.pieces(line), wanted.tokens))
    assert wrong == []
    assert sum("[UNK]" in ours.pieces(line) for line in lines) > 200
    assert sum(len(word) > 100 for line in lines for word in tokenization.bert_words(line)) > 50


def test_pieces_become_words_again(minilm_file):
    tokenizer = tokenization.WordPiece.from_file(minilm_file)
    assert tokenizer.decode(tokenizer.encode("Unbelievable  cafés")) == "unbelievable cafes"


def test_other_files_are_refused(tmp_path):
    file = {"model": {"type": "BPE", "continuing_subword_prefix": None}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(ValueError, match="is a BPE, not a WordPiece"):
        tokenization.WordPiece.from_file(tmp_path / "tokenizer.json")


def test_wordpiece_merges_what_is_seldom_seen_apart():
    """The example of Hugging Face's course. Its first merge is worked out there by hand."""
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    vocabulary = tokenization.train_wordpiece(words, 8)
    assert vocabulary == ["##g", "##n", "##s", "##u", "b", "h", "p", "##gs"]
    assert tokenization.train_bpe(words, 8)[0] == ("u", "g")
    assert tokenization.wordpiece_encode("hugs", vocabulary) == ["h", "##u", "##gs"]


def test_wordpiece_goes_on_with_merged_symbols():
    """In zqx no symbol is seen without the others: they are merged first, however rare."""
    words = {"ug": 50, "ub": 30, "gu": 40, "zqx": 1}
    merged = tokenization.train_wordpiece(words, 100)[8:]
    assert merged == ["##qx", "zqx", "gu", "ub", "ug"]


# --- what is kept, and what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    "tokenizer",
    [
        tokenization.Bytes(),
        TRAINED,
        tokenization.Words.train("the car is red", 4),
        tokenization.WordPiece(("[UNK]", "car", "##s", "the"), longest=7),
    ],
    ids=lambda tokenizer: type(tokenizer).__name__,
)
def test_settings_make_the_tokenizer_again(tokenizer):
    again = tokenization.tokenizer_of(json.loads(json.dumps(tokenizer.settings())))
    text = "the cars is red"
    assert type(again) is type(tokenizer)
    assert again.settings() == tokenizer.settings()
    assert list(again.vocabulary) == list(tokenizer.vocabulary)
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert tokenizer.encode("").tolist() == [] and tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match=f"{len(tokenizer.vocabulary)} is not between 0 and"):
        tokenizer.decode([0, len(tokenizer.vocabulary)])
    with pytest.raises(ValueError, match="-1 is not between 0 and"):
        tokenizer.decode([-1])
    with pytest.raises(TypeError, match="text: bytes is not a str"):
        tokenizer.encode(b"the")


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="text is empty"):
        tokenization.BPE.train("", 300)
    with pytest.raises(ValueError, match="text is empty"):
        tokenization.Words.train("", 300)
    with pytest.raises(ValueError, match="vocabulary_size: 255 is below 256"):
        tokenization.BPE.train("red", 255)
    with pytest.raises(ValueError, match="vocabulary_size: 1 is below 2"):
        tokenization.Words.train("red", 1)
    with pytest.raises(ValueError, match="the kind 'unigram' is none of"):
        tokenization.tokenizer_of({"kind": "unigram"})
