"""The process in which a learner's code is tried before it gets near the notebook.

It reads requests as JSON lines and answers each with a verdict. What the code under test does to
its process (exits, loops, fills the memory, patches torch) ends with the process, at most.
"""

import builtins
import io
import json
import linecache
import math
import os
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any, TextIO

import torch
from torch import _compile
from torch.nn import functional

from course_utils import exercises
from course_utils.engine import borrowed, install, parts
from course_utils.engine.check import check, stopped
from course_utils.engine.explaining.explain import explain, related
from course_utils.engine.explaining.trial import TooSlow
from course_utils.engine.verdict import Verdict, too_slow

PRINTED_AT_MOST = 2_000
MEMORY = 2 << 30
EXPLAINED_WITHIN = 3.5
COMPILED = (
    "Take `@torch.compile` away: a part is kept as plain code, which runs on every machine. "
    "Compile the whole model, where you use it."
)
WATCHED = (torch, torch.Tensor, functional, math, builtins)


class Bounded(io.TextIOBase):
    """Keeps the beginning of what is written to it and counts the rest."""

    def __init__(self) -> None:
        self.kept, self.dropped = "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = PRINTED_AT_MOST - len(self.kept)
        self.kept += text[:room]
        self.dropped += max(0, len(text) - room)
        return len(text)

    def text(self) -> str:
        more = f"\n… and {self.dropped:,} characters more" if self.dropped else ""
        return self.kept + more


def examine(part: str, source: str) -> Verdict:
    """Run the source in the part's module, check what it defines, and put the module back."""
    parts.references()
    namespace = parts.namespace(part)
    before = dict(namespace)
    printed = Bounded()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            verdict = _examine(part, source, before)
    finally:
        namespace.clear()
        namespace.update(before)
    return Verdict.from_dict({**verdict.to_dict(), "printed": printed.text()})


def _examine(part: str, source: str, before: dict[str, Any]) -> Verdict:
    exercise = exercises.find(part)
    try:
        install.run(part, source, install.cell_name(part))
    except (Exception, SystemExit) as error:
        return stopped(exercise, error)
    namespace = parts.namespace(part)
    version = namespace[exercise.name]
    if borrowed.inherits(part, version):
        return Verdict(part, "wrong", _borrows(exercise.name, "inherits from"))
    if hasattr(version, "_torchdynamo_orig_callable"):
        return Verdict(part, "wrong", COMPILED)
    verdict = check(exercise, version)
    if verdict.state != "right":
        return verdict
    if borrowed.calls(exercise, version):
        return Verdict(part, "wrong", _borrows(exercise.name, "calls"))
    for name, value in before.items():
        if name not in (exercise.name, "__builtins__") and namespace.get(name) is not value:
            sentence = f"Your code changes `{name}` for its whole module. Use a name of your own."
            return Verdict(part, "wrong", sentence)
    return verdict


def explained(part: str, source: str, verdict: Verdict) -> Verdict:
    """The verdict with its cause, where one is found. Whatever goes wrong here, it stays."""
    with redirect_stdout(Bounded()), redirect_stderr(Bounded()):
        try:
            return explain(exercises.find(part), source, verdict)
        except (Exception, SystemExit, TooSlow):
            return verdict


def _borrows(name: str, how: str) -> str:
    return (
        f"Your version {how} the package's own `{name}`, which is what you should write yourself."
    )


# --- the process ---------------------------------------------------------------------------------


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more, or until the code under test has changed torch."""
    untouched = _snapshot()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        part, source = request["part"], request["source"]
        slow = Verdict(part, "wrong", too_slow(request["seconds"]))
        with _Watchdog(slow, request["seconds"], answers):
            verdict = examine(part, source)
        n_modules = len(sys.modules)  # an import that the explaining interrupts is broken for good
        if verdict.state == "wrong" and not verdict.says:
            _reset_torch()
            with _Watchdog(related(verdict), EXPLAINED_WITHIN, answers):
                verdict = explained(part, source, verdict)
        _reset_torch()
        leaving = _touched(untouched) or len(sys.modules) > n_modules
        _answer(answers, verdict, leaving)
        if leaving:
            return


def _answer(answers: TextIO, verdict: Verdict, leaving: bool) -> None:
    print(json.dumps({"verdict": verdict.to_dict(), "leaving": leaving}), file=answers, flush=True)


class _Watchdog:
    """Gives a verdict on code that does not end, with the line it was in, and ends the process."""

    def __init__(self, verdict: Verdict, seconds: float, answers: TextIO):
        self.verdict, self.answers = verdict, answers
        self.main = threading.get_ident()
        self.timer = threading.Timer(seconds, self._give_up)
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *error: object) -> None:
        self.timer.cancel()

    def _give_up(self) -> None:
        frame = sys._current_frames().get(self.main)
        name = install.cell_name(self.verdict.part)
        lines: list[int] = []
        while frame:
            if frame.f_code.co_filename == name:
                lines.insert(0, frame.f_lineno)
            frame = frame.f_back
        told = tuple((line, linecache.getline(name, line).rstrip()) for line in lines)
        _answer(self.answers, replace(self.verdict, lines=told or self.verdict.lines), leaving=True)
        os._exit(1)


def _snapshot() -> list[dict[str, Any]]:
    return [dict(vars(watched)) for watched in WATCHED]


def _touched(untouched: list[dict[str, Any]]) -> bool:
    return any(
        vars(watched).get(name) is not value and not _is_wrapped_by_torch(vars(watched).get(name))
        for watched, before in zip(WATCHED, untouched, strict=True)
        for name, value in before.items()
    )


def _is_wrapped_by_torch(value: Any) -> bool:
    """As torch itself does with some of its functions, when its compiler is loaded."""
    code = getattr(value, "__code__", None)
    return hasattr(value, "__wrapped__") and getattr(code, "co_filename", "") == _compile.__file__


def _reset_torch() -> None:
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    with (
        open("/proc/self/statm", encoding="ascii")
        if os.path.exists("/proc/self/statm")
        else io.StringIO("0") as file
    ):
        used = int(file.read().split()[0]) * resource.getpagesize()
    if used:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))


def main() -> None:
    """Keep the two pipes for ourselves: what the code under test prints must not get into them."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    parts.references()
    _reset_torch()
    _limit_memory()
    serve(requests, answers)


if __name__ == "__main__":
    main()
