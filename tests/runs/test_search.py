"""Search in a folder: what a passage is, and which are found."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from course_utils.runs import search
from course_utils.runs.command_line import WrongInput


def counts(texts: Sequence[str]) -> Tensor:
    """Letters, counted, at length 1: the same letters have cosine 1."""
    rows = [[text.lower().count(letter) + 1e-3 for letter in "abcdefghij"] for text in texts]
    return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.md").write_text("# Bees\nabab abab bbaa bbaa abab\n\n## Cod\ncd dc cd dc cd\n")
    (tmp_path / "b.txt").write_text("eeee ffff eeee ffff eeee ffff\n\ntoo short\n")
    cells = [
        {"cell_type": "markdown", "source": ["## Gap\n", "gh hg gh hg gh hg"]},
        {"cell_type": "code", "source": ["a b c d e f g"]},
    ]
    (tmp_path / "c.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def test_a_passage_is_a_section_or_a_paragraph(folder: Path) -> None:
    found = [(one.path.name, one.text) for one in search.passages(folder)]
    assert found == [
        ("a.md", "Bees abab abab bbaa bbaa abab"),
        ("a.md", "Cod cd dc cd dc cd"),
        ("b.txt", "eeee ffff eeee ffff eeee ffff"),
        ("c.ipynb", "Gap gh hg gh hg gh hg"),
    ]


def test_the_closest_is_found_first(folder: Path) -> None:
    index = search.Index(search.passages(folder), counts)
    (cosine, best), (second, _) = index.ask("fe ef", 2)
    assert best.path.name == "b.txt" and cosine > 0.99 and cosine > second
    assert len(index.ask("x", 10)) == 4


def test_batches_keep_the_order() -> None:
    texts = ["a" * n for n in (5, 1, 9, 3, 7)]
    found = search.vectors(texts, lambda some: torch.tensor([[float(len(t))] for t in some]), 2)
    assert found[:, 0].tolist() == [5, 1, 9, 3, 7]


def test_a_folder_without_notes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to search"):
        search.passages(tmp_path)


def test_the_command_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    chosen = argparse.Namespace(folder=tmp_path, question="where?")
    with pytest.raises(WrongInput, match="folder: nothing to search"):
        search.search(chosen)
