"""`course_utils.runs.rehearsal`: what two processes write down, and that none of them is left."""

import re
from pathlib import Path

import psutil
import pytest
import torch

from course_utils.runs import checkpoints, rehearsal


@pytest.fixture(scope="module")
def stamps(tmp_path_factory) -> list[dict[str, list]]:
    folder = tmp_path_factory.mktemp("stamps")
    rehearsal.start(folder, "stamps")
    return rehearsal.read_stamps(folder)


def test_what_is_exchanged_at_once_is_what_is_exchanged_after(stamps):
    sums = [process[f"{way}, gradient"] for process in stamps for way in ("after", "at once")]
    for each in sums[1:]:
        torch.testing.assert_close(torch.tensor(each), torch.tensor(sums[0]))


def test_a_layer_is_exchanged_when_its_gradient_is_there(stamps):
    for way in ("after", "at once"):
        for step in (step for process in stamps for step in process[way]):
            began = {one.number: one.start for one in step if one.what == "exchange"}
            ready = {one.number: one.end for one in step if one.what == "backward"}
            assert sorted(began) == sorted(ready) == list(range(6))
            first_ready = max(ready.values()) if way == "after" else 0
            assert all(began[i] >= max(ready[i], first_ready) for i in began)


def test_where_nothing_is_started_again_nothing_is_left(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"killed in two processes: (.|\n)*exitcode: -9"):
        rehearsal.start(tmp_path, "killed")
    numbers = re.findall(r"number (\d+)", (tmp_path / "lives.txt").read_text(encoding="utf-8"))
    assert len(numbers) == 2
    assert not any(psutil.pid_exists(int(number)) for number in numbers)
    assert checkpoints.newest(tmp_path / "run").name == f"shards_{rehearsal.DIES_AT - 1:08d}"
