"""What a check found out, in a form that can be sent between processes and shown."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    `state` is "right", "wrong" or "unfinished". `headline` is one sentence for the learner; the
    other fields hold what there is to show beside it. `mistake` and `says` are set where the
    answer behaves like a known mistake. `point` tells what is asked in all the calls that go wrong
    and in no other. `lines` are the learner's own lines on the way to an error.
    `way` is how the cause was found, where it is no known mistake: by a "change" of the learner's
    code that makes it right, by one that makes right what fails now ("split"), where the numbers
    part from ours ("parting"), by what the wrong calls ask ("point"), or by a "relation" of the
    results. A known mistake that is made only where the answer is wrong is named "in part"; "both"
    is one beside a second fault. `line` and `expression` are the place, and `says` tells of it.
    """

    part: str
    state: str
    headline: str
    case: str = ""
    call: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    expected: str = ""
    got: str = ""
    mistake: str = ""
    says: str = ""
    lines: tuple[tuple[int, str], ...] = ()
    printed: str = ""
    way: str = ""
    line: int = 0
    expression: str = ""
    relation: str = ""
    point: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Verdict":
        pairs = {name: tuple(tuple(pair) for pair in fields[name]) for name in ("inputs", "lines")}
        return cls(**{**fields, **pairs})


def too_slow(seconds: float) -> str:
    """The sentence for code that was stopped because it did not end."""
    return (
        f"Your code did not finish within {seconds:g} seconds and was stopped. "
        "Is there an endless loop?"
    )
