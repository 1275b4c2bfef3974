"""Texts in figures: drawn as they are written, with whatever fonts this machine has."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FaceFlags, FT2Font

MISSING = "□"
NOTE = f"{MISSING}: no font of this machine has this letter"
UNSEEN = "\u200d\ufe0e\ufe0f"  # join or style the letters around them
NOT_FOR_TEXT = ("Last Resort", "Color", "STIXNonUnicode", "cm")  # boxes, bitmaps, TeX's order


@dataclass(frozen=True)
class Letters:
    """The family of the font that draws each of some letters; None where there is none."""

    families: Mapping[str, str | None]

    def __call__(self, text: object) -> str:
        """`text`, with a box for every letter that cannot be drawn."""
        seen = (letter for letter in str(text) if letter not in UNSEEN)
        return "".join(letter if self.families.get(letter, True) else MISSING for letter in seen)

    def note(self, label: str, advice: str = "") -> str:
        """A label, and below it what boxes mean, where there are some."""
        return label if all(self.families.values()) else f"{label}\n{NOTE}{advice}"


@contextmanager
def plain(*texts: object) -> Iterator[Letters]:
    """Inside the block figures draw `texts` as they are: "$" is a dollar, and nothing warns."""
    used = sorted({*"".join(map(str, texts))} - {*UNSEEN, "\n"})
    letters = Letters({letter: _family(letter) for letter in used})
    found = filter(None, letters.families.values())
    families = list(dict.fromkeys([*plt.rcParams["font.family"], *found]))
    with plt.rc_context({"text.parse_math": False, "font.family": families}):
        yield letters


def _family(letter: str) -> str | None:
    """The family of the first font that has `letter`; matplotlib's usual one comes first."""
    usual = (plt.rcParams["font.family"][0], findfont(FontProperties()))
    has = (name for name, path in (usual, *_fonts()) if ord(letter) in _letters_of(path))
    return next(has, None)


@cache
def _fonts() -> list[tuple[str, str]]:
    """Family and path of every font for text, the upright ones first."""
    fonts = sorted(fontManager.ttflist, key=lambda font: font.style != "normal")
    return [
        (font.name, font.fname)
        for font in fonts
        if not any(word in font.name for word in NOT_FOR_TEXT)
    ]


@cache
def _letters_of(path: str) -> frozenset[int]:
    """The letters of a font that can be drawn at any size."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a font that is not one
        return frozenset()
    return frozenset(font.get_charmap()) if FaceFlags.SCALABLE in font.face_flags else frozenset()
