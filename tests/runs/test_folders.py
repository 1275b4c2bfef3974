"""A folder belongs to one run, and to one process at a time."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_utils.runs import checkpoints, folders, locks, loop, presets, recipes, sources

TEXT = "".join(f"{n} bottles, and {n + 1} more; the {n}th is empty.\n" for n in range(100))


@pytest.fixture
def corpus(tmp_path) -> sources.Corpus:
    path = tmp_path / "bottles.txt"
    path.write_text(TEXT, encoding="utf-8")
    return sources.find(str(path))


def mini(corpus: sources.Corpus, **changes: object) -> presets.Preset:
    small = {"d_model": 8, "n_layers": 1, "n_heads": 2, "batch": 2, "n_buckets": 16, "block": 32}
    return presets.preset("tiny", corpus, **(small | {"steps": 4, "save_every": 2} | changes))


# --- Whose it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed = 0, and this one has seed = 1"),
        ({"steps": 5}, "steps = 4, and this one has steps = 5"),
        ({"muon_lr": 0.5}, r"muon_lr = 0\.02, and this one has muon_lr = 0\.5"),
    ],
)
def test_a_folder_keeps_to_its_settings(changes, message, corpus, tmp_path):
    recipes.train(corpus, mini(corpus), tmp_path / "run")
    recipes.train(corpus, mini(corpus), tmp_path / "run")
    with pytest.raises(ValueError, match=f"{message}.*--out"):
        recipes.train(corpus, mini(corpus, **changes), tmp_path / "run")


def test_a_text_that_changed_is_another_text(corpus, tmp_path):
    recipes.train(corpus, mini(corpus), tmp_path / "run")
    moved = Path(corpus.path).rename(tmp_path / "elsewhere.txt")
    folders.claim(tmp_path / "run", sources.find(str(moved)), mini(corpus))
    moved.write_text(TEXT.replace("7", "8", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"began with another text: .*elsewhere\.txt has changed"):
        folders.claim(tmp_path / "run", sources.find(str(moved)), mini(corpus))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("others", [[], ["mine.txt"]])
def test_what_fails_before_its_first_step_leaves_nothing(
    others, error, corpus, tmp_path, monkeypatch
):
    def failing(*_: object) -> None:
        raise error

    folder = tmp_path / "run"
    for name in others:
        folder.mkdir()
        (folder / name).touch()
    monkeypatch.setattr(sources.TextFile, "batch", failing)
    with pytest.raises(error):
        recipes.train(corpus, mini(corpus), folder)
    assert folder.exists() == bool(others)
    assert [path.name for path in folder.glob("*")] == others


def test_settings_without_a_checkpoint_bind_nobody(corpus, tmp_path):
    """As they are left by a run that was killed too early."""
    folders.claim(tmp_path, corpus, mini(corpus))
    folders.claim(tmp_path, corpus, mini(corpus, seed=7))
    assert folders.settings(tmp_path)[1].seed == 7
    (tmp_path / "run.json").write_text("half of", encoding="utf-8")
    folders.claim(tmp_path, corpus, mini(corpus))
    assert folders.settings(tmp_path)[1].seed == 0


def test_a_run_from_before_is_taken_up(corpus, tmp_path):
    """Its settings as an earlier version of the course has written them, and no lock."""
    recipes.train(corpus, mini(corpus), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", "log.jsonl", "run.json", "step_00000004.safetensors"}
    kept = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert (
        list(kept)
        == (
            "corpus text_checksum path tokenizer parts tied d_model n_layers n_heads block batch"
            " accumulation steps n_buckets longest drop muon_lr adamw_lr weight_decay warmup floor"
            " evaluate_every save_every bfloat16 seed"
        ).split()
    )
    kept["characters"] = kept.pop("tokenizer")["vocabulary"]
    (tmp_path / "run/run.json").write_text(json.dumps(kept), encoding="utf-8")
    (tmp_path / "run/.lock").unlink()
    assert len(recipes.train(corpus, mini(corpus), tmp_path / "run")) == 4


# --- In use --------------------------------------------------------------------------------------

HOLD = """
import sys
from course_utils.runs import locks
with locks.in_use(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path) -> Iterator[subprocess.Popen]:
    """Another process that holds a folder."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    while held.stdout.readline() != b"held\n":
        assert held.poll() is None
    yield held
    held.kill()
    held.communicate()


def test_a_folder_in_use_says_so(other, corpus, tmp_path):
    with pytest.raises(ValueError, match=r"another run is writing to .*run now.*--out"):
        recipes.train(corpus, mini(corpus), tmp_path / "run")
    with pytest.raises(ValueError, match="another run is writing to"):
        loop.train(None, None, None, loop.Schedule(1), folder=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    other.kill()  # and so leaves nothing that is in the way
    other.wait()
    assert len(recipes.train(corpus, mini(corpus), tmp_path / "run")) == 4


def test_a_process_may_hold_a_folder_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with locks.in_use("run"), locks.in_use(tmp_path / "run"):
        pass


# --- Who may read it -----------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="this system has no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_a_checkpoint_may_be_read_by_who_may_read_the_settings(umask, corpus, tmp_path):
    before = os.umask(umask)
    try:
        recipes.train(corpus, mini(corpus), tmp_path / "run")
    finally:
        os.umask(before)
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "run").iterdir()
        if path.name != locks.NAME
    }
    assert modes == {0o666 & ~umask}


def test_a_log_with_damaged_lines_is_no_obstacle(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 0, "loss": 1.0}\n\xff\x00\n[1]\n{"st\n{"step": 1}\n{"step": 2')
    assert [each["step"] for each in checkpoints.read_log(path)] == [0, 1]
