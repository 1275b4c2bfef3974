"""Where a learner's parts are kept: one readable Python file for each module of the course.

A file is written beside the old one and then renamed over it, under a lock, so that neither a
second notebook nor a process that is killed can damage what was saved before.
"""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock

HEADER = '"""Your own parts of course_utils.{module}: the versions that passed their checks."""\n'
MARK = re.compile(
    r"^# === (?P<part>[\w.]+) === passed (?P<when>[^,\n]+), seal (?P<seal>\w+)$", re.M
)
CHECKS_VERSION = "2"
"""Raised when checks get stricter: saved parts are then checked once more."""
LARGEST = 1 << 20
"""Bytes of the largest file that is read as a learner's."""
LOCK_TIMEOUT = 20.0
"""Seconds to wait for another notebook that is saving."""


@dataclass(frozen=True)
class Saved:
    """One part as it stands in a file."""

    part: str
    source: str
    when: str
    seal: str

    @property
    def as_it_passed(self) -> bool:
        """Whether this is the text that passed the check, to the letter."""
        return self.seal == seal(self.part, self.source)


def home() -> Path:
    """The folder of the learner's parts: COURSE_UTILS_HOME, or `my_parts` beside the notebooks."""
    chosen = os.environ.get("COURSE_UTILS_HOME")
    if chosen:
        return Path(os.path.expanduser(chosen))
    course = Path(__file__).parents[2]
    return course / "my_parts" if (course / "notebooks").is_dir() else Path.home() / "my_parts"


def path_of(part: str) -> Path:
    """The file that keeps a part."""
    return home() / f"{part.split('.')[0]}.py"


def seal(part: str, source: str) -> str:
    """A short fingerprint of a part that passed."""
    text = f"{part}\n{CHECKS_VERSION}\n{source.strip()}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def load() -> list[Saved]:
    """All saved parts. Files that cannot be read give none."""
    found = []
    for path in _files():
        with suppress(OSError):
            found += [one for one in _split(_read(path))[1] if path_of(one.part) == path]
    return found


def unreadable() -> list[Path]:
    """Files with something in them, but no part; the folder itself where it is no folder."""
    try:
        os.listdir(home())
    except FileNotFoundError:
        return []
    except OSError:
        return [home()]
    return [path for path in _files() if _is_damaged(path)]


def save(part: str, source: str) -> Path:
    """Keep a part that has passed. Raises OSError where the folder cannot be written."""
    when = f"{datetime.now():%Y-%m-%d %H:%M}"
    with _changing(part) as (before, parts):
        parts[part] = Saved(part, source, when, seal(part, source))
        _write(path_of(part), before, parts)
    return path_of(part)


def put_aside(part: str) -> Path | None:
    """Take a part out of its file. Its text goes to a file of its own in `put_aside`."""
    if not os.path.lexists(path_of(part)):
        return None
    with _changing(part) as (before, parts):
        saved = parts.pop(part, None)
        if saved is None:
            return None
        aside = home() / "put_aside" / f"{part}_{datetime.now():%Y%m%d_%H%M%S_%f}.py"
        aside.parent.mkdir(exist_ok=True)
        _replace(aside, saved.source)
        _write(path_of(part), before, parts)
    return aside


# --- files ---------------------------------------------------------------------------------------


@contextmanager
def _changing(part: str) -> Iterator[tuple[str, dict[str, Saved]]]:
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / ".lock", timeout=LOCK_TIMEOUT):
        path = path_of(part)
        text = _read(path) if os.path.lexists(path) else HEADER.format(module=part.split(".")[0])
        before, saved = _split(text)
        yield before, {one.part: one for one in saved}


def _split(text: str) -> tuple[str, list[Saved]]:
    """What stands before the first part, and the parts."""
    marks = list(MARK.finditer(text))
    if not marks:
        return text, []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return text[: marks[0].start()], [
        Saved(mark["part"], text[mark.end() : end].strip() + "\n", mark["when"], mark["seal"])
        for mark, end in zip(marks, ends, strict=True)
    ]


def _write(path: Path, before: str, parts: dict[str, Saved]) -> None:
    blocks = [
        f"# === {one.part} === passed {one.when}, seal {one.seal}\n{one.source.strip()}\n"
        for one in parts.values()
    ]
    _replace(path, "\n\n".join([before.strip() + "\n", *blocks]))


def _replace(path: Path, text: str) -> None:
    """Write a file so that at every moment either the old or the new text is there, whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _files() -> list[Path]:
    """What has the name of a file of parts. It may be anything: a folder, a pipe, a broken link."""
    try:
        return sorted(home() / name for name in os.listdir(home()) if name.endswith(".py"))
    except OSError:
        return []


def _read(path: Path) -> str:
    """The text of a file, whatever bytes are in it: written back, they are the same.

    An OSError for all that is no file of a sensible size: reading a pipe would wait for ever.
    """
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise OSError(errno.EINVAL, "it is no file of Python code", str(path))
    return path.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("\ufeff")


def _is_damaged(path: Path) -> bool:
    try:
        text = _read(path)
    except OSError:
        return True
    nothing = ("", HEADER.format(module=path.stem).strip())
    return text.strip() not in nothing and not _split(text)[1]
