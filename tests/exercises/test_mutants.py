"""Every check refuses at least 98 of 100 small changes to its part's reference.

The mutants that compute the same as the reference are listed, with the reason, in mutants.py.
"""

import signal
import time
from collections.abc import Iterator

import pytest
import torch

from course_utils import exercises
from course_utils.exercises import Exercise
from tests import mutants

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no timer that stops a mutant"
)

SUBTRACT = '''
def subtract(a, b):
    """Not changed: 1 - 2."""
    return a - b
'''


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are quicker so, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("exercise", exercises.all_exercises(), ids=lambda exercise: exercise.part)
def test_refuses_mutants(exercise: Exercise):
    result = mutants.examine(exercise)
    assert result.refused > 0
    assert result.share_refused >= 0.98, f"accepted, but not known as right: {result.survivors}"
    assert not result.stale, "listed as right, but refused, or not a mutant any more"


def test_mutants_of_a_function():
    changes = dict(mutants.mutants(SUBTRACT))
    assert set(changes) == {
        "return a - b → pass",
        "return a - b → return a",
        "return a - b → return b",
        "return a - b → return b - a",
        "a - b → a + b",
        "a - b → b - b",
        "a - b → a - a",
    }
    assert "return a + b" in changes["a - b → a + b"]
    assert all("Not changed: 1 - 2." in source for source in changes.values())


def test_mutants_of_a_class_are_those_of_its_forward():
    source = "class Add:\n    def __init__(self):\n        self.n = 7\n    def forward(self, x):\n"
    changes = dict(mutants.mutants(source + "        return x + self.n"))
    assert "x + self.n → x - self.n" in changes
    assert all("self.n = 7" in mutant for mutant in changes.values())


def test_endless_loop_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mutants, "SECONDS", 0.2)
    start = time.monotonic()
    endless = "def shape_of(x):\n    while True:\n        pass"
    assert not mutants.is_accepted(exercises.find("start_here.shape_of"), endless)
    assert time.monotonic() - start < 2
