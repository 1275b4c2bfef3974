"""Experiments are run by name and written down, a line for every run."""

import json
from pathlib import Path

import pytest

from course_utils.runs.experiments import write_down

EXPERIMENTS = {
    "one": lambda: [{"seed": 0, "end": 1.5}, {"seed": 1, "end": 1.25}],
    "two": lambda: [{"seed": 0}],
}


def test_only_what_is_named_is_run_anew(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"two": [{"seed": 7}], "gone": []}', encoding="utf-8")
    write_down(EXPERIMENTS, path, ["one"])
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored == {"two": [{"seed": 7}], "gone": [], "one": EXPERIMENTS["one"]()}
    assert '\n{"seed": 1, "end": 1.25}\n' in path.read_text(encoding="utf-8")
    write_down(EXPERIMENTS, path, [])
    assert json.loads(path.read_text(encoding="utf-8"))["two"] == [{"seed": 0}]


def test_an_unknown_name_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no experiment 'three', there are one, two"):
        write_down(EXPERIMENTS, tmp_path / "results.json", ["one", "three"])
    assert not (tmp_path / "results.json").exists()
