"""Runs in two processes: they end like a run in one, are taken up by it, and survive a kill.

Started by torchrun, this file does the runs; pytest compares them.
"""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_utils import __main__ as program
from course_utils import sampling, training
from course_utils.runs import (
    building,
    checkpoints,
    distributed,
    loop,
    presets,
    recipes,
    sources,
    writing,
)

STEPS, INTERVAL, STOP = 6, 2, 5
GPT = {"parts": "gpt2", "tied": False, "adamw_lr": 1e-3, "weight_decay": 0.1}
PRESETS = {
    "gpt2": GPT,
    "tied": {**GPT, "tied": True},
    "muon": {"parts": "modern", "n_buckets": 16},
    "diverging": {**GPT, "adamw_lr": 1e38},
}


def preset(name: str) -> presets.Preset:
    sizes = {"d_model": 16, "n_layers": 3, "n_heads": 2, "block": 12, "batch": 4}
    every = {"save_every": INTERVAL, "evaluate_every": 3}
    return presets.Preset(**sizes, **every, accumulation=2, steps=STEPS, **PRESETS[name])


class Uneven:
    """Random ids. Every row has another number of targets that count; some rows have none."""

    name, vocabulary, end = "uneven", range(23), None

    def __init__(self, until: int = STEPS * 2):
        self.until = until

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        if step == self.until:
            raise InterruptedError
        ids = torch.randint(23, (n_rows, n_tokens + 1), generator=torch.manual_seed(step))
        inputs, targets = ids[:, :-1].clone(), ids[:, 1:].clone()
        for row in range(n_rows):
            targets[row, : (5 * row + step) % n_tokens] = sources.NOT_COUNTED
        if step < 2:
            targets[1::2] = sources.NOT_COUNTED  # all rows of the second process, in all of step 0
        return inputs, targets

    def validation(self, n_tokens: int) -> list[training.Batch]:
        return [self.batch(0, 97, 3, n_tokens), self.batch(0, 98, 1, n_tokens)]

    def settings(self) -> dict:
        return {"corpus": "uneven"}


def train(folder: Path, name: str, parallel: str | None = None, stop: int = STEPS) -> list:
    """A run whose gradients are clipped; stopped before step `stop`, if that comes."""
    original = recipes._schedule
    recipes._schedule = lambda preset: replace(original(preset), max_norm=0.3)
    try:
        return recipes.train(Uneven(stop * 2), preset(name), folder, "cpu", parallel=parallel)
    except InterruptedError:
        return []
    finally:
        recipes._schedule = original


# What two processes do, each with the preset that it is about.
WHOLE = [
    *((mode, "gpt2") for mode in distributed.MODES),
    ("ddp", "muon"), ("pipeline", "muon"), ("fsdp", "tied"),
]  # fmt: skip
TURNS = [
    ("fsdp", "pipeline", "gpt2"), ("tensor", "fsdp", "gpt2"),
    (None, "tensor", "gpt2"), (None, "ddp", "muon"),
    ("ddp", None, "muon"), ("pipeline", None, "gpt2"), ("fsdp", None, "tied"),
]  # fmt: skip


def in_two_processes(root: Path) -> None:
    with distributed.processes("cpu"):
        for mode, name in WHOLE:
            train(root / f"{mode} {name}", name, mode)
        for first, then, name in TURNS:
            folder = root / f"{first} then {then} {name}"
            if first is not None:
                train(folder, name, first, STOP)
            if then is not None:
                train(folder, name, then)
        for mode in distributed.MODES:
            try:
                train(root / f"{mode} diverging", "diverging", mode)
            except loop.NotFiniteError as error:
                (root / f"{mode} {os.environ['RANK']}.txt").write_text(str(error))


def torchrun(*words: object, restarts: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", f"--max-restarts={restarts}", __file__, *map(str, words)]
    there = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=there)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folders of all runs, done but for those that one process has to take up."""
    root = tmp_path_factory.mktemp("two")
    for first, then, name in TURNS:
        if first is None:
            train(root / f"{first} then {then} {name}", name, None, STOP)
    done = torchrun("in_two_processes", root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of the run in one process that was never stopped."""
    root = tmp_path_factory.mktemp("one")

    @functools.cache
    def undisturbed(name: str) -> Path:
        train(root / name, name)
        return root / name

    return undisturbed


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    model = building.build(preset(name), 23)
    path = checkpoints.newest(folder)
    load = distributed.load_model if path.is_dir() else checkpoints.load_model
    load(path, model)
    assert path.stem.endswith(f"{STEPS:08d}")
    return model.state_dict()


def assert_same(folder: Path, other: Path, name: str) -> None:
    expected = weights(other, name)
    for key, value in weights(folder, name).items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-5, msg=key)
    log, expected_log = (checkpoints.read_log(each / "log.jsonl") for each in (folder, other))
    assert [record["step"] for record in log] == list(range(STEPS))
    for record, expected_record in zip(log, expected_log, strict=True):
        assert record == pytest.approx(expected_record, rel=1e-5)
    assert max(record["norm"] for record in log) > 0.3  # so that clipping was needed


@pytest.mark.parametrize(("mode", "name"), WHOLE)
def test_two_processes_end_like_one(mode, name, two, one):
    assert_same(two / f"{mode} {name}", one(name), name)


@pytest.mark.parametrize(("first", "then", "name"), TURNS)
def test_a_run_goes_on_in_another_number_of_processes_or_another_mode(first, then, name, two, one):
    folder = two / f"{first} then {then} {name}"
    if then is None:
        assert checkpoints.newest(folder).name == f"shards_{STOP - 1:08d}"
        train(folder, name)
        assert not list(folder.glob("shards_*"))
    assert_same(folder, one(name), name)
    assert len(list(folder.glob("[!.]*"))) == 3  # settings, log, and one checkpoint


@pytest.mark.parametrize("mode", distributed.MODES)
def test_where_a_run_diverges_all_processes_stop(mode, two):
    said = [(two / f"{mode} {rank}.txt").read_text() for rank in (0, 1)]
    assert all("not finite" in each and each.startswith("step") for each in said)
    assert said[0].split(":")[0] == said[1].split(":")[0]


def test_the_newest_checkpoint_is_a_complete_one(tmp_path):
    assert checkpoints.newest(tmp_path) is None
    for folder in ("shards_00000004", "shards_00000009.unfinished"):
        (tmp_path / folder).mkdir()
    assert checkpoints.newest(tmp_path).name == "shards_00000004"
    (tmp_path / "step_00000004.safetensors").touch()  # made of the shards, which then go
    assert checkpoints.newest(tmp_path).is_file()
    (tmp_path / "shards_00000006").mkdir()
    assert checkpoints.newest(tmp_path).name == "shards_00000006"


# --- The command, killed -------------------------------------------------------------------------

TEXT = "".join(f"{n} bottles, and {n + 1} more; the {n}th is empty.\n" for n in range(100))
KILLED, FAILED = 4, 7  # in the first life while it saves this step; in the second in that step


def command(root: Path, *more: str) -> None:
    """The command as it is typed, with a preset that is small."""
    small = {"d_model": 16, "n_layers": 2, "n_heads": 2, "steps": 9, "save_every": INTERVAL}
    presets.PRESETS["nano"] = replace(presets.PRESETS["nano"], **small)
    words = ["train", "--preset", "nano", "--corpus", root / "bottles.txt", "--device", "cpu"]
    sys.argv = ["course_utils", *map(str, words), "--out", *more]
    assert program.main() == 0


def killed_and_failed(root: Path) -> None:
    """Three lives of a run. In one, the second process is killed while it writes a checkpoint; in
    another, the first process fails.
    """
    rank, life = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    original = sources.TextFile.batch

    def batch(self: sources.TextFile, seed: int, step: int, *shape: int) -> training.Batch:
        if rank == 0 and shape[0] > 1:
            with (root / "steps.txt").open("a") as file:
                file.write(f"{life} {step}\n")
        if (rank, life, step) == (0, 1, FAILED):
            raise RuntimeError("out of luck")
        return original(self, seed, step, *shape)

    save = distributed.dcp.save

    def killed_within(state: dict, checkpoint_id: Path) -> None:
        checkpoint_id.mkdir(exist_ok=True)
        (checkpoint_id / "__1_0.distcp").write_bytes(b"half of")
        os.kill(os.getpid(), signal.SIGKILL)

    def save_or_die(state: dict, checkpoint_id: Path) -> None:
        dies = (rank, life) == (1, 0) and checkpoint_id.stem.endswith(str(KILLED))
        (killed_within if dies else save)(state, checkpoint_id=checkpoint_id)

    sources.TextFile.batch, distributed.dcp.save = batch, save_or_die
    command(root, str(root / "killed"), "--parallel", "ddp")


@pytest.fixture(scope="module")
def lives(tmp_path_factory) -> tuple[Path, str]:
    """The folder of the run, and what was printed."""
    root = tmp_path_factory.mktemp("lives")
    (root / "bottles.txt").write_text(TEXT)
    done = torchrun("killed_and_failed", root, restarts=2)
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout + done.stderr


def test_a_process_that_is_killed_costs_less_than_an_interval(lives):
    steps = [list(map(int, line.split())) for line in (lives[0] / "steps.txt").open()]
    by_life = [[step for life, step in steps if life == number] for number in range(3)]
    assert by_life == [[0, 1, 2, 3], [2, 3, 4, 5, 6, 7], [6, 7, 8]]


def test_a_run_of_three_lives_ends_like_a_run_of_one(lives, monkeypatch):
    root, _ = lives
    monkeypatch.setitem(presets.PRESETS, "nano", presets.PRESETS["nano"])
    command(root, str(root / "undisturbed"))
    models = [recipes.load(root / name)[0].state_dict() for name in ("killed", "undisturbed")]
    for key, value in models[0].items():
        torch.testing.assert_close(value, models[1][key], rtol=0, atol=1e-5, msg=key)
    assert [each["step"] for each in checkpoints.read_log(root / "killed/log.jsonl")] == [*range(9)]


def test_only_the_first_process_speaks(lives):
    assert lives[1].count("to beat") == 3  # once in each life
    assert lives[1].count("this model") == 1
    assert "ddp in 2 processes" in lives[1]


def test_a_checkpoint_of_two_processes_can_write(lives):
    root, _ = lives
    model, corpus = recipes.load(root / "killed")
    assert "".join(writing.write(model, corpus, "7 bottles", 5, sampling.greedy, 64))


# --- What cannot be shared -----------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, capsys, tmp_path) -> Iterator[Callable]:
    """Type a command as one of so many processes; what it printed."""
    (tmp_path / "bottles.txt").write_text(TEXT)

    def run(n_processes: int | None, *words: str) -> str:
        if n_processes is not None:
            monkeypatch.setenv("WORLD_SIZE", str(n_processes))
        typed = ["train", "--corpus", str(tmp_path / "bottles.txt"), "--out", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["course_utils", *typed, *words])
        with pytest.raises(SystemExit, match="2"):
            program.main()
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("n_processes", "words", "message"),
    [
        (None, "--parallel ddp", "parallel: start several processes with torchrun, for example"),
        (2, "--parallel rows", "parallel must be one of ddp, fsdp, tensor, pipeline, got 'rows'"),
        (
            5,
            "--parallel ddp --preset nano",
            "parallel: 5 processes cannot share 12 rows of a batch evenly",
        ),
        (3, "--parallel tensor --preset nano", "3 processes cannot share 4 heads evenly"),
        (6, "--parallel pipeline --preset nano", "6 processes cannot share 4 blocks"),
        (2, "--parallel pipeline --preset gpt2", "Take a preset that is not tied"),
        (2, "--parallel fsdp", "fsdp cuts matrices, and Muon needs them whole. Take --preset nano"),
        (
            2,
            "--parallel ddp --preset nano --compile",
            "compile: a run in several processes is not compiled",
        ),
        (
            2,
            "--parallel ddp --preset nano --device mps",
            "device must be cpu or cuda for several processes",
        ),
        (2, "", "parallel: torchrun has started several processes; say what they share"),
    ],
)
def test_what_cannot_be_shared_is_named(n_processes, words, message, call):
    if "gpt2" in words:
        words += " --corpus stories"  # which is long enough
    assert message in call(n_processes, *words.split())


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"in_two_processes": in_two_processes, "killed_and_failed": killed_and_failed}[sys.argv[1]](
        Path(sys.argv[2])
    )
