"""The notebook's side of the worker: sends it a learner's code and waits, but not for ever."""

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from course_utils.engine.verdict import Verdict, too_slow

TIME_LIMIT = 10.0
"""Seconds that a check may take."""
START_LIMIT = 120.0
"""Seconds that a worker may take to import torch on a busy machine."""


class Checker:
    """Keeps one worker ready, and starts another when that one is lost."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str] = queue.Queue()
        self.ready = False

    def start(self) -> None:
        """Start the worker, without waiting until it is ready."""
        if self.process and self.process.poll() is None:
            return
        package_root = str(Path(__file__).parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "course_utils.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "COURSE_UTILS_PARTS": "reference",
                "TORCH_COMPILE_DISABLE": "1",  # it takes longer than a check may
            },
        )
        self.answers, self.ready = queue.Queue(), False
        threading.Thread(target=_read, args=(self.process, self.answers), daemon=True).start()

    def examine(self, part: str, source: str, seconds: float = TIME_LIMIT) -> Verdict:
        """The worker's verdict on the source of a part, or a verdict on the loss of the worker."""
        try:
            self.start()
            self._wait_until_ready()
            self._send({"part": part, "source": source, "seconds": seconds})
            answer = self._answer(seconds + 10)  # the worker's own watchdogs come first
            if answer["leaving"]:
                self.stop()
        except (EOFError, OSError):
            self.stop()
            return Verdict(part, "wrong", "Your code ended the Python process that checked it.")
        except queue.Empty:
            self.stop()
            return Verdict(part, "wrong", too_slow(seconds))
        except BaseException:  # the learner interrupts the cell: the worker is still busy
            self.stop()
            raise
        return Verdict.from_dict(answer["verdict"])

    def stop(self) -> None:
        """End the worker."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _wait_until_ready(self) -> None:
        if not self.ready:
            self._answer(START_LIMIT)
            self.ready = True

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process
        assert self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def _answer(self, seconds: float) -> dict[str, Any]:
        line = self.answers.get(timeout=seconds)
        if not line:
            raise EOFError
        return json.loads(line)


def _read(process: subprocess.Popen[str], answers: "queue.Queue[str]") -> None:
    assert process.stdout
    for line in process.stdout:
        answers.put(line)
    answers.put("")


checker = Checker()
atexit.register(checker.stop)
