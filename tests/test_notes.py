"""docs/notes.md: every section that it names is in its notebook, and every code stands once."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([ABC]\d+) \| (.+?) \| (.+?) \| (seen|told) \|$", re.MULTILINE)
NOTES = (ROOT / "docs/notes.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^## (\d\d) .*?\n(.*?)(?=^## |\Z)", NOTES, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("number", CHAPTERS)
def test_sections_are_there(number: str) -> None:
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    notebook = path.read_text(encoding="utf-8")
    missing = {
        section
        for _, _, section, _ in ROW.findall(CHAPTERS[number])
        if not re.search(rf"\"#+ {re.escape(section)}( \(|\\n|\")", notebook)
    }
    assert missing == set()


def test_every_row_is_read_and_every_code_stands_once() -> None:
    codes = [code for code, *_ in ROW.findall(NOTES)]
    assert len(codes) == len(re.findall(r"^\| [ABC]\d", NOTES, re.MULTILINE))
    assert [code for code, n in Counter(codes).items() if n > 1] == []
