"""Experiments that take too long for a notebook: run by name, and written down."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Experiment = Callable[[], list[dict[str, Any]]]
"""Gives a row for every run."""


def write_down(experiments: Mapping[str, Experiment], path: Path, names: Sequence[str]) -> None:
    """Run the named experiments, or all, on one thread. Results of the others stay in the file.

    Raises ValueError for a name that is none of theirs.
    """
    for name in names:
        if name not in experiments:
            raise ValueError(f"names: no experiment {name!r}, there are {', '.join(experiments)}")
    torch.set_num_threads(1)
    for name in names or experiments:
        started = time.perf_counter()
        rows = experiments[name]()
        # Read only now: another process may have written what it ran.
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(as_lines(results | {name: rows}), encoding="utf-8")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def as_lines(results: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """JSON with a line for every run."""
    tables = (
        f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
        for name, rows in results.items()
    )
    return "{\n" + ",\n".join(tables) + "\n}\n"
