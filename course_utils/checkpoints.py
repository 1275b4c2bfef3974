"""Checkpoints of a training run and its log: enough to go on as if nothing had happened."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer


def save(folder: Path | str, step: int, model: nn.Module, optimiser: Optimizer) -> None:
    """Write the state after `step` steps, all of it or nothing, and remove older ones.

    The new checkpoint gets its name when it is complete and on the disk, so that a run that is
    killed at any time leaves the one before it whole.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    settings = {"step": step, "optimiser": _taken_out(optimiser.state_dict(), "optimiser", tensors)}
    unfinished, finished = Path(folder, "unfinished"), Path(folder, f"step_{step:08d}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(
        {name: value.clone().contiguous() for name, value in tensors.items()},
        unfinished / "tensors.safetensors",
    )
    (unfinished / "settings.json").write_text(json.dumps(settings))
    for file in unfinished.iterdir():
        _to_disk(file)
    shutil.rmtree(finished, ignore_errors=True)
    unfinished.rename(finished)
    for old in _complete(folder)[:-1]:
        shutil.rmtree(old)


def load(folder: Path | str, model: nn.Module, optimiser: Optimizer) -> int:
    """Take up the newest checkpoint, in place; return the number of steps that were made.

    0 where there is none.
    """
    complete = _complete(folder)
    if not complete:
        return 0
    device = next(model.parameters()).device
    tensors = load_file(complete[-1] / "tensors.safetensors", device=str(device))
    settings = json.loads((complete[-1] / "settings.json").read_text())
    prefix = "model/"
    model.load_state_dict(
        {
            name.removeprefix(prefix): each
            for name, each in tensors.items()
            if name.startswith(prefix)
        }
    )
    optimiser.load_state_dict(_put_back(settings["optimiser"], tensors))
    return settings["step"]


class Log:
    """A record for every step: in `records`, and as a line of JSON each in `folder`/log.jsonl.

    Records from step `first` on are forgotten: they belong to steps that are made again.
    """

    def __init__(self, folder: Path | str | None, first: int):
        self.path = None if folder is None else Path(folder, "log.jsonl")
        self.records: list[dict[str, float]] = []
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.records = [each for each in read_log(self.path) if each["step"] < first]
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(lines)
        unfinished.replace(self.path)

    def write(self, record: dict[str, float]) -> None:
        """Add a record."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def read_log(path: Path | str) -> list[dict[str, float]]:
    """The records of a log. A last line that was cut off, when a run was killed, is left out."""
    *lines, _unfinished = Path(path).read_text().split("\n")
    return [json.loads(line) for line in lines]


def _complete(folder: Path | str) -> list[Path]:
    return sorted(Path(folder).glob("step_*"))


def _taken_out(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with every tensor moved to `tensors`, under the path where it was.

    JSON knows only text as keys, so a dictionary becomes a list of pairs.
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, dict):
        pairs = [[key, _taken_out(each, f"{path}/{key}", tensors)] for key, each in tree.items()]
        return {"pairs": pairs}
    if isinstance(tree, list | tuple):
        return [_taken_out(each, f"{path}/{i}", tensors) for i, each in enumerate(tree)]
    return tree


def _put_back(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict) and "tensor" in tree:
        return tensors[tree["tensor"]]
    if isinstance(tree, dict):
        return {key: _put_back(each, tensors) for key, each in tree["pairs"]}
    if isinstance(tree, list):
        return [_put_back(each, tensors) for each in tree]
    return tree


def _to_disk(file: Path) -> None:
    """Have the system write the file now, not when it likes."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
