"""What an exercise is made of: cases, known mistakes, right alternatives and hints.

Nothing here runs anything: `course_utils.engine` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Part = Callable[..., Any]


class Wrong(Exception):
    """Raised by a check that has seen a mistake. Its message is a sentence for the learner."""


def _call(part: Part, **arguments: Any) -> Any:
    return part(**arguments)


@dataclass(frozen=True)
class Case:
    """One use of a part, with an oracle that says what it must give.

    The oracle is somebody else's work (torch's own function, NumPy, a closed form, a brute force).
    It takes the same arguments, by position. `use` says how the part is called, where that is more
    than `part(**arguments)`: a class, for example, is built first. Floating-point arguments are
    also watched for their gradients, and every argument for changes made in place.
    """

    title: str
    arguments: Mapping[str, Any]
    oracle: Callable[..., Any]
    use: Callable[..., Any] = _call
    shown: str = ""


@dataclass(frozen=True)
class Mistake:
    """A wrong version of a part that people really write, and the sentence that explains it.

    `part` must give the wrong results that the mistake gives: an answer that behaves like it in
    every case is told `says`.
    """

    name: str
    says: str
    part: Part


@dataclass(frozen=True)
class Exercise:
    """Everything that belongs to one part of the course, named as "module.name"."""

    part: str
    notebook: str
    used_by: str
    cases: Callable[[], list[Case]]
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    alternatives: tuple[Part, ...]
    properties: tuple[Callable[[Part], None], ...] = ()

    @property
    def module_name(self) -> str:
        return f"course_utils.{self.part.split('.')[0]}"

    @property
    def name(self) -> str:
        return self.part.split(".")[1]
