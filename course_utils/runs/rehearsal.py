"""Small runs in two processes, for notebook 14. They write down what they did, and when.

`start` has torchrun begin two processes, which work on the processor and share it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils import training
from course_utils.runs import presets, recipes, sources

PRESET = presets.Preset(
    parts="gpt2", tied=False, d_model=32, n_layers=4, n_heads=4, block=32, batch=8,
    steps=8, save_every=2, evaluate_every=8, adamw_lr=3e-3,
)  # fmt: skip
DIES_AT = 5  # step; the newest checkpoint then is that of step 4
SECONDS = 300  # far more than any of it takes, on a busy machine, too
TELLS = "tells: "  # how a line begins that is printed at once


class Stamp(NamedTuple):
    """What a process did between two moments, in seconds since all of them were ready."""

    what: str
    number: int
    start: float
    end: float


# --- Starting ------------------------------------------------------------------------------------


def start(folder: Path, *what: str, restarts: int = 0) -> str:
    """Have two processes do `what`, by the names of functions below, in `folder`; what was printed.

    What the processes say with `tell` is printed at once. When one of them dies, all are started
    again, at most `restarts` times. Raises RuntimeError where that does not help. None of them is
    left, whatever happens.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [f"--max-restarts={restarts}", "-m", __name__, str(folder), *what]
    there = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=there,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    lines, too_long = list[str](), threading.Timer(SECONDS, process.terminate)
    too_long.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith(TELLS):
                print(line.removeprefix(TELLS), end="")
    finally:
        too_long.cancel()
        process.terminate()  # torchrun then ends those that it has started
        process.wait()
        process.stdout.close()
    said = "".join(lines)
    if process.returncode:
        raise RuntimeError(f"{' '.join(what)} in two processes: {said[-2000:]}")
    return said


def tell(what: str) -> None:
    """Have a line printed where the processes were started, by the first of them."""
    if os.environ["RANK"] == "0":
        print(f"{TELLS}{what}", flush=True)


# --- A run of the course's own -------------------------------------------------------------------


class Stories(sources.Stories):
    """Stories, of which only a few are kept for testing."""

    def validation(self, n_tokens: int) -> list[training.Batch]:
        return [self.batch(1, 0, 4, n_tokens)]


class Fatal(Stories):
    """Kills the second process in the middle of its first life."""

    def batch(self, seed: int, step: int, n_rows: int, n_tokens: int) -> training.Batch:
        life = os.environ["TORCHELASTIC_RESTART_COUNT"]
        if (step, os.environ["RANK"], life) == (DIES_AT, "1", "0"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(seed, step, n_rows, n_tokens)


def alone(folder: Path) -> None:
    """The run in this process, without its progress."""
    with redirect_stdout(StringIO()):
        recipes.train(Stories(), PRESET, folder, "cpu")


def modes(folder: Path) -> None:
    """The run, shared in each of the four ways."""
    from course_utils.runs import distributed

    for mode in distributed.MODES:
        recipes.train(Stories(), PRESET, folder / mode, "cpu", parallel=mode)
        tell(f"{mode}: done")


def killed(folder: Path) -> None:
    """The run with shared rows, in which a process is killed."""
    with (folder / "lives.txt").open("a", encoding="utf-8") as file:
        life, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
        file.write(f"life {life}: process {rank} has the number {os.getpid()}\n")
    recipes.train(Fatal(), PRESET, folder / "run", "cpu", parallel="ddp")


# --- Steps with time stamps ----------------------------------------------------------------------


class Clock:
    """Stamps of this process, whose time begins when all processes are ready."""

    def __init__(self) -> None:
        torch.distributed.barrier()
        self.begin, self.stamps = time.perf_counter(), list[Stamp]()

    @contextmanager
    def stamped(self, what: str, number: int) -> Iterator[None]:
        start = time.perf_counter() - self.begin
        yield
        self.stamps.append(Stamp(what, number, start, time.perf_counter() - self.begin))


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def step_with_exchange(
    layers: list[nn.Linear], x: Tensor, link: ThreadPoolExecutor, at_once: bool
) -> list[Stamp]:
    """Forward, backward, and the sum of all processes' gradients, layer by layer.

    A layer's gradient is sent at once, while the layers before it are still at work; or all are
    sent when the last of them is there. The `link` sends one after the other.
    """
    clock, passed, sent = Clock(), list[tuple[Tensor, Tensor]](), list[Future]()

    def exchange(number: int) -> None:
        with clock.stamped("exchange", number):
            torch.distributed.all_reduce(layers[number].weight.grad)

    for number, layer in enumerate(layers):
        x = x.detach().requires_grad_()
        with clock.stamped("forward", number):
            passed.append((x, layer(x)))
        x = passed[-1][1]
    gradient = torch.ones_like(x)
    for number in reversed(range(len(layers))):
        before, after = passed[number]
        with clock.stamped("backward", number):
            after.backward(gradient)
        gradient = _gradient(before)
        if at_once:
            sent.append(link.submit(exchange, number))
    if not at_once:
        sent = [link.submit(exchange, number) for number in reversed(range(len(layers)))]
    for each in sent:
        each.result()
    return clock.stamps


def stamps(folder: Path) -> None:
    """Both kinds of steps, each a few times, with what was exchanged. A file for each process."""
    torch.manual_seed(torch.distributed.get_rank())
    rows, layers = torch.randn(256, 768), [nn.Linear(768, 768, bias=False) for _ in range(6)]
    found: dict[str, list] = {}
    with ThreadPoolExecutor(1) as link:
        for name, at_once in (("after", False), ("at once", True)):
            for _ in range(3):
                for layer in layers:
                    layer.weight.grad = None
                found.setdefault(name, []).append(step_with_exchange(layers, rows, link, at_once))
            found[f"{name}, gradient"] = [_gradient(layer.weight).sum().item() for layer in layers]
    path = folder / f"stamps_{torch.distributed.get_rank()}.json"
    path.write_text(json.dumps(found), encoding="utf-8")


def read_stamps(folder: Path) -> list[dict[str, list]]:
    """What `stamps` wrote, by process: a list of stamps for every repeat."""
    found = [json.loads((folder / f"stamps_{i}.json").read_text(encoding="utf-8")) for i in (0, 1)]
    return [
        {
            name: each
            if name.endswith("gradient")
            else [[Stamp(*one) for one in step] for step in each]
            for name, each in process.items()
        }
        for process in found
    ]


DOES: dict[str, Callable[[Path], None]] = {"modes": modes, "killed": killed, "stamps": stamps}

if __name__ == "__main__":
    from course_utils.runs.distributed import processes

    torch.set_num_threads(1)
    with processes("cpu"):
        for each in sys.argv[2:]:
            DOES[each](Path(sys.argv[1]))
