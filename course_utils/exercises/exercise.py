"""What an exercise is made of: cases, known mistakes, right alternatives and hints.

Nothing here runs anything: `course_utils.engine` does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    also watched for their gradients, and every argument for changes made in place. Where `use`
    puts together what no single call returns, `values` names each: "the loss", "`weight.grad`".
    `point` is what the case asks beyond the plain ones, as a sentence for those who get it wrong
    and the plain ones right: "Padding may stand in front."
    """

    title: str
    arguments: Mapping[str, Any]
    oracle: Callable[..., Any]
    use: Callable[..., Any] = _call
    shown: str = ""
    values: tuple[str, ...] = ()
    point: str = ""


@dataclass(frozen=True)
class Mistake:
    """A wrong version of a part that people really write, and the sentence that explains it.

    `part` must give the wrong results that the mistake gives: an answer that behaves like it in
    every case is told `says`.
    """

    name: str
    says: str
    part: Part


@dataclass
class Exercise:
    """Everything that belongs to one part of the course, named as "module.name".

    The methods are decorators: they say of the code below them what it is.
    """

    part: str
    used_by: str
    hints: tuple[str, ...]
    methods: tuple[str, ...] = ()  # of a class: those left to write, if not the first alone
    make_cases: Callable[[], list[Case]] = list
    properties: list[Callable[[Part], None]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    alternatives: list[Part] = field(default_factory=list)

    @property
    def module_name(self) -> str:
        return f"course_utils.{self.part.split('.')[0]}"

    @property
    def name(self) -> str:
        return self.part.split(".")[1]

    def cases(self, make: Callable[[], list[Case]]) -> Callable[[], list[Case]]:
        """Of a function that gives the cases, anew whenever it is called."""
        self.make_cases = make
        return make

    def holds(self, check: Callable[[Part], None]) -> Callable[[Part], None]:
        """Of a function that raises Wrong where something does not hold of a part."""
        self.properties.append(check)
        return check

    def mistake(self, says: str) -> Callable[[Part], Part]:
        """Of a wrong version, with the sentence that explains it. Its name is the mistake's."""

        def add(wrong: Part) -> Part:
            self.mistakes.append(Mistake(_words_of(wrong), says, wrong))
            return wrong

        return add

    def alternative(self, right: Part) -> Part:
        """Of a right version that is written another way."""
        self.alternatives.append(right)
        return right


def _words_of(part: Part) -> str:
    """`forgot_scale` for the function of that name, and for a class `ForgotScale`."""
    name = getattr(part, "__name__", type(part).__name__)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
