"""Checkpoints of a training run and its log: enough to go on as if nothing had happened."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

_MODEL = "model/"  # what the names of a model's tensors begin with
LOG = "log.jsonl"


def save(folder: Path | str, step: int, model: nn.Module, optimiser: Optimizer) -> None:
    """Write the state after `step` steps, all of it or nothing, and remove what was there before.

    A checkpoint is one file, tensors with JSON in their header. It gets its name when it is
    complete and on the disk, so a run that is killed at any time, or finds the disk full, leaves
    the checkpoint before it whole.
    """
    tensors = {_MODEL + name: value for name, value in model.state_dict().items()}
    settings = {"step": step, "optimiser": _taken_out(optimiser.state_dict(), "optimiser", tensors)}
    finished = Path(folder, f"step_{step:08d}.safetensors")
    unfinished = finished.with_suffix(".unfinished")
    finished.parent.mkdir(parents=True, exist_ok=True)
    copies = {name: each.to("cpu", copy=True).contiguous() for name, each in tensors.items()}
    try:
        _write(copies, unfinished, {"settings": json.dumps(settings)})
        _replace(unfinished, finished)
    finally:
        unfinished.unlink(missing_ok=True)
    for other in finished.parent.glob("step_*"):
        if other != finished:
            with suppress(PermissionError):  # Windows keeps what somebody is reading: the next time
                other.unlink()


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """As `save_file`, but others may read the file where the system's settings say so."""
    path.touch()
    usual = path.stat().st_mode
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    path.chmod(usual)


def newest(folder: Path | str) -> Path | None:
    """The newest checkpoint of a run, or None where there is none.

    It is a file, or a folder of shards, which several processes have written.
    """
    found = [*Path(folder).glob("step_*[0-9].safetensors"), *Path(folder).glob("shards_*[0-9]")]
    return max(found, key=number, default=None)


def number(checkpoint: Path) -> int:
    """How many steps were made before it."""
    return int(checkpoint.stem.split("_")[1])


def saved_at(folder: Path | str) -> float | None:
    """When the newest checkpoint of a run was written, or None where there is none."""
    while (path := newest(folder)) is not None:
        with suppress(FileNotFoundError):  # a run that goes on has just replaced it
            return path.stat().st_mtime
    return None


def load(folder: Path | str, model: nn.Module, optimiser: Optimizer) -> int:
    """Take up the newest checkpoint, in place; return the number of steps that were made.

    0 where there is none.
    """
    path = newest(folder)
    if path is None:
        return 0
    tensors = _tensors(path, model)
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["settings"])
    _take_weights(model, tensors)
    optimiser.load_state_dict(_put_back(settings["optimiser"], tensors))
    return settings["step"]


def load_model(path: Path | str, model: nn.Module) -> None:
    """Take the weights of the model from the checkpoint `path`, in place, to use and not to train.

    Raises RuntimeError where the checkpoint is one of another model.
    """
    _take_weights(model, _tensors(path, model))


class Log:
    """A record for every step: in `records`, and as a line of JSON each in `folder`/`LOG`.

    Records from step `first` on are forgotten: they belong to steps that are made again.
    """

    def __init__(self, folder: Path | str | None, first: int):
        self.path = None if folder is None else Path(folder, LOG)
        self.records: list[dict[str, float]] = []
        if self.path is None:
            return
        if self.path.exists():
            self.records = [each for each in read_log(self.path) if each["step"] < first]
        write_whole(self.path, "".join(json.dumps(record) + "\n" for record in self.records))

    def write(self, record: dict[str, float]) -> None:
        """Add a record."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def read_log(path: Path | str) -> list[dict[str, float]]:
    """The records of a log. Lines that are not whole, as when a run was killed, are left out."""
    *lines, _unfinished = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    return [record for record in map(_record, lines) if record is not None]


def _record(line: str) -> dict[str, float] | None:
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict) and "step" in found:
            return found
    return None


def write_whole(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        _replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _replace(unfinished: Path, finished: Path) -> None:
    """Rename a file when it is on the disk, and not only on its way there."""
    with unfinished.open("rb+") as opened:
        os.fsync(opened.fileno())
    unfinished.replace(finished)
    if os.name == "posix":  # Windows writes names down by itself
        names = os.open(finished.parent, os.O_RDONLY)
        os.fsync(names)
        os.close(names)


def _tensors(path: Path | str, model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the device of the model."""
    return load_file(path, device=str(next(model.parameters()).device))


def _take_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    weights = {
        name.removeprefix(_MODEL): each for name, each in tensors.items() if name.startswith(_MODEL)
    }
    model.load_state_dict(weights)


def _taken_out(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with every tensor moved to `tensors`, under the path where it was.

    JSON knows only lists and text as keys: tuples and dictionaries say what they are.
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, dict):
        pairs = [[key, _taken_out(each, f"{path}/{key}", tensors)] for key, each in tree.items()]
        return {"pairs": pairs}
    if isinstance(tree, list | tuple):
        items = [_taken_out(each, f"{path}/{i}", tensors) for i, each in enumerate(tree)]
        return {"tuple": items} if isinstance(tree, tuple) else items
    return tree


def _put_back(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_put_back(each, tensors) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "tuple" in tree:
        return tuple(_put_back(each, tensors) for each in tree["tuple"])
    return {key: _put_back(each, tensors) for key, each in tree["pairs"]}
