"""What a notebook shows: HTML where it can be drawn, plain text elsewhere."""

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
