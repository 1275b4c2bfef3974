"""What a notebook shows: HTML where it can be drawn, plain text elsewhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class View:
    """A finished picture as HTML, with the same in words."""

    html: str
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def json_for_script(data: Any) -> str:
    """`data` as JSON that may stand inside a script element."""
    # only "<" could end the element: "\u003c" says the same
    return json.dumps(data).replace("<", "\\u003c")


def sizes(shape: Sequence[int]) -> str:
    """[layers, heads, tokens, keys] in words."""
    counts = zip(shape, ("layer", "head", "token", "key"), strict=True)
    return " × ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts)
