"""A run that is killed and started again ends like one that was left alone, to the last bit.

Run as a script, this file is the run that is killed: it starts itself anew, as a process of its
own, until the run is over.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save as serialise
from torch import nn

from course_utils import decoder, modern, training
from course_utils.runs import checkpoints, loop, optimisers

STEPS = 12
SCHEDULE = loop.Schedule(steps=STEPS, warmup=3, evaluate_every=5, save_every=2, seed=5)
VOCABULARY, ROWS, TOKENS = 11, 3, 8


# --- The run -------------------------------------------------------------------------------------


def draw(number: int) -> training.Batch:
    generator = torch.Generator().manual_seed(number)
    return decoder.shift_targets(torch.randint(VOCABULARY, (ROWS, TOKENS + 1), generator=generator))


def batches(step: int) -> list[training.Batch]:
    """Two micro-batches, of which one does not count everywhere."""
    inputs, targets = draw(2 * step + 1)
    return [draw(2 * step), (inputs, targets.masked_fill(targets == 3, -100))]


def with_dropout(model: decoder.GPT) -> decoder.GPT:
    model.embed = nn.Sequential(model.embed, nn.Dropout(0.3))
    return model


def in_bfloat16(model: decoder.GPT) -> decoder.GPT:
    forward = model.forward
    model.forward = lambda ids: torch.autocast("cpu", torch.bfloat16)(forward)(ids).float()
    return model


def muon(change: Callable = lambda model: model) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = change(modern.modern_gpt(VOCABULARY, 8, 2, 1, n_buckets=20, drop=0.4))
    return model, optimisers.muon_and_adamw(model)


def adamw() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = decoder.gpt(VOCABULARY, 8, 2, 1, TOKENS)
    model.head.weight = model.embed.tokens.weight
    return model, optimisers.AdamW(model.parameters(), 1e-2, weight_decay=0.1)


def torch_adamw() -> tuple[nn.Module, torch.optim.Optimizer]:
    model, _ = adamw()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2, amsgrad=True)
    optimiser.param_groups[0]["peak_lr"] = 1e-2
    return model, optimiser


SETUPS = {
    "muon": muon,
    "adamw, tied": adamw,
    "torch's adamw": torch_adamw,
    "dropout": functools.partial(muon, with_dropout),
    "bfloat16": functools.partial(muon, in_bfloat16),
}
each_setup = pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)


def run(setup: Callable, folder: Path | None, batches: Callable = batches) -> tuple:
    """The weights and the log at the end."""
    model, optimiser = setup()
    validation = [draw(-1)]
    log = loop.train(
        model,
        optimiser,
        batches,
        SCHEDULE,
        lambda model: training.evaluate(model, validation),
        folder,
    )
    return model.state_dict(), log


def assert_same(one: tuple, other: tuple) -> None:
    weights, log = one
    assert log == other[1]
    assert [record["step"] for record in log] == list(range(STEPS))
    for name, value in other[0].items():
        assert torch.equal(weights[name], value), name


class Stopped(Exception):
    """In place of somebody's Ctrl-C."""


# --- Going on ------------------------------------------------------------------------------------


@functools.cache
def undisturbed(setup: Callable) -> tuple:
    return run(setup, None)


@pytest.mark.parametrize(
    ("name", "last"),
    [*((name, 7) for name in SETUPS), *(("muon", last) for last in (0, 1, 2, 10, 11))],
)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(name, last, tmp_path):
    setup = SETUPS[name]

    def stopping(step: int) -> list[training.Batch]:
        if step == last:
            raise Stopped
        return batches(step)

    with pytest.raises(Stopped):
        run(setup, tmp_path, stopping)
    torch.rand(7)  # whatever else is drawn in between
    resumed = run(setup, tmp_path)
    assert_same(resumed, undisturbed(setup))
    assert checkpoints.read_log(tmp_path / "log.jsonl") == resumed[1]


def test_a_run_that_is_over_stays_as_it_is(tmp_path):
    first = run(muon, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert_same(run(muon, tmp_path), first)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- What is kept --------------------------------------------------------------------------------


def trained(setup: Callable) -> tuple[nn.Module, torch.optim.Optimizer]:
    model, optimiser = setup()
    loop.train(model, optimiser, batches, loop.Schedule(steps=3))
    return model, optimiser


def assert_equal_trees(one: object, other: object) -> None:
    """Equal values of equal types, all the way down."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_equal_trees(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for value, value_of_other in zip(one, other, strict=True):
            assert_equal_trees(value, value_of_other)
    else:
        assert one == other


@each_setup
def test_all_of_an_optimiser_comes_back(setup, tmp_path):
    model, optimiser = trained(setup)
    checkpoints.save(tmp_path, 3, model, optimiser)
    fresh_model, fresh = setup()
    assert checkpoints.load(tmp_path, fresh_model, fresh) == 3
    assert_equal_trees(fresh.state_dict(), optimiser.state_dict())
    assert_equal_trees(fresh_model.state_dict(), model.state_dict())


def test_trees_of_any_shape_come_back():
    tree = {0: (1, [2.5, None]), "0": torch.ones(2), "tensor": {"pairs": (), 7: [True, 1e-300]}}
    tensors: dict[str, torch.Tensor] = {}
    stored = json.loads(json.dumps(checkpoints._taken_out({"x": tree, "y": tree[0]}, "", tensors)))
    assert_equal_trees(checkpoints._put_back(stored, tensors), {"x": tree, "y": tree[0]})


def test_saving_changes_nothing_and_shares_nothing(tmp_path):
    model, optimiser = trained(muon)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoints.save(tmp_path, 3, model, optimiser)
    assert_equal_trees(dict(model.state_dict()), before)


def test_tied_weights_are_tied_when_they_come_back(tmp_path):
    checkpoints.save(tmp_path, 3, *trained(adamw))
    model, optimiser = adamw()
    checkpoints.load(tmp_path, model, optimiser)
    assert model.head.weight is model.embed.tokens.weight


def test_a_model_can_be_taken_without_an_optimiser(tmp_path):
    model, optimiser = trained(muon)
    checkpoints.save(tmp_path, 3, model, optimiser)
    fresh, _ = muon()
    checkpoints.load_model(checkpoints.newest(tmp_path), fresh)
    assert_equal_trees(dict(fresh.state_dict()), dict(model.state_dict()))


def test_weights_of_another_model_are_refused(tmp_path):
    checkpoints.save(tmp_path, 3, *trained(muon))
    with pytest.raises(RuntimeError, match="Missing key"):
        checkpoints.load(tmp_path, *adamw())


def test_only_the_newest_is_kept(tmp_path):
    model, optimiser = trained(muon)
    for step in (3, 9, 10, 10):
        checkpoints.save(tmp_path, step, model, optimiser)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010.safetensors"]


def test_without_a_checkpoint_a_run_begins_at_the_beginning(tmp_path):
    assert checkpoints.load(tmp_path / "nowhere", *muon()) == 0
    assert checkpoints.newest(tmp_path) is None


def test_what_is_unfinished_is_not_taken_up(tmp_path):
    model, optimiser = trained(muon)
    checkpoints.save(tmp_path, 3, model, optimiser)
    (tmp_path / "step_00000004.unfinished").write_bytes(b"half of")
    assert checkpoints.load(tmp_path, *muon()) == 3
    checkpoints.save(tmp_path, 5, model, optimiser)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005.safetensors"]


@pytest.mark.parametrize("name", ["save_file", "_replace"])
def test_where_the_disk_is_full_the_old_checkpoint_stays(name, tmp_path, monkeypatch):
    model, optimiser = trained(muon)
    checkpoints.save(tmp_path, 3, model, optimiser)

    def fail(first: object, second: Path, metadata: object = None) -> None:
        second.write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, name, fail if name == "save_file" else lambda *_: fail(*_))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path, 4, model, optimiser)
    monkeypatch.undo()
    (tmp_path / "step_00000004.safetensors").unlink(missing_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003.safetensors"]
    assert checkpoints.load(tmp_path, *muon()) == 3


# --- The log -------------------------------------------------------------------------------------


def test_a_log_forgets_the_steps_that_are_made_again(tmp_path):
    log = checkpoints.Log(tmp_path, 0)
    for step in range(5):
        log.write({"step": step, "loss": 1 / (step + 3)})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed here
    again = checkpoints.Log(tmp_path, 3)
    assert [record["step"] for record in again.records] == [0, 1, 2]
    again.write({"step": 3, "loss": 0.1})
    assert checkpoints.read_log(tmp_path / "log.jsonl") == again.records
    assert again.records[2]["loss"] == 1 / 5
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_log_without_a_folder_is_kept_in_memory():
    log = checkpoints.Log(None, 0)
    log.write({"step": 0})
    assert log.records == [{"step": 0}]


# --- Killed --------------------------------------------------------------------------------------

DEATH = 7  # a step with a checkpoint behind it, and one before it


def in_a_process(do: Callable[[], object], life: float | None = None) -> bool:
    """Do it in a process of its own, killed after `life` seconds; whether it came to its end."""
    child = os.fork()
    if child == 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        do()
        os._exit(0)
    if life is not None:
        time.sleep(life)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def killed_at_random(folder: Path) -> int:
    """Start a run again and again; return how often it was killed."""
    random, n_killed, in_time = Random(folder.name), 0, 0.05
    while not in_a_process(lambda: run(muon, folder), random.uniform(0, in_time)):
        n_killed += 1
        in_time *= 1.15  # so that it ends some time
    return n_killed


def killed_at(arm: Callable[[], None], folder: Path) -> int:
    """Die in the middle of a save, as `arm` has prepared it, and go on; return how often."""

    def dying(step: int) -> list[training.Batch]:
        if step == DEATH:
            arm()
        return batches(step)

    n_killed = 0 if in_a_process(lambda: run(muon, folder, dying)) else 1
    in_a_process(lambda: run(muon, folder))
    return n_killed


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(module: object, name: str) -> None:
    setattr(module, name, die)


def dying_after(module: object, name: str) -> None:
    original = getattr(module, name)
    setattr(module, name, lambda *arguments, **named: die(original(*arguments, **named)))


def dying_within_the_file() -> None:
    def half(tensors: dict, path: Path, metadata: dict) -> None:
        whole = serialise(tensors, metadata)
        path.write_bytes(whole[: len(whole) // 2])
        die()

    checkpoints.save_file = half


PLACES = {
    "before the file": lambda: dying_before(checkpoints, "save_file"),
    "within the file": dying_within_the_file,
    "after the file": lambda: dying_after(checkpoints, "save_file"),
    "after the disk": lambda: dying_after(os, "fsync"),
    "before the name": lambda: dying_before(Path, "replace"),
    "after the name": lambda: dying_after(Path, "replace"),
    "before the old one goes": lambda: dying_after(Path, "unlink"),
    "within the log": lambda: dying_after(json, "dumps"),
}
AT_RANDOM = ("at random 0", "at random 1")


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with one run for every way to be killed, and how often each of them was."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, __file__, folder], check=True, timeout=200)
    return folder


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("left_alone")
    run(muon, folder)
    return folder


@pytest.mark.parametrize("name", [*PLACES, *AT_RANDOM])
def test_a_run_that_was_killed_ends_like_one_that_was_not(name, killed, left_alone):
    n_killed = json.loads((killed / "killed.json").read_text())[name]
    assert n_killed == 1 if name in PLACES else n_killed >= 5
    end = f"step_{STEPS:08d}.safetensors"
    assert (killed / name / end).read_bytes() == (left_alone / end).read_bytes()
    log = checkpoints.read_log(killed / name / "log.jsonl")
    assert log == checkpoints.read_log(left_alone / "log.jsonl")
    assert [record["step"] for record in log] == list(range(STEPS))
    left = {path.name for path in (killed / name).glob("[!.]*")}
    assert {each for each in left if not each.endswith(".unfinished")} == {end, "log.jsonl"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    muon()  # torch imports what an optimiser needs when there is one: once, not in every process
    root = Path(sys.argv[1])
    found = {name: killed_at(arm, root / name) for name, arm in PLACES.items()}
    found |= {name: killed_at_random(root / name) for name in AT_RANDOM}
    (root / "killed.json").write_text(json.dumps(found))
