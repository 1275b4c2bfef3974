"""One run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from course_utils.runs import processes

NAME = ".lock"  # of the file. What holds a folder is the system's lock on it, not the file itself


@contextmanager
def in_use(folder: Path | str) -> Iterator[None]:
    """Hold a folder for this run, and make it where there is none.

    The same process may hold it again. Of several processes the first holds it for all. The system
    lets go of it when the process ends, however that is. Raises ValueError where it is taken.
    """
    if not processes.is_first():
        yield
        return
    path = Path(folder).resolve()
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / NAME, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"folder: another run is writing to {folder} now. Wait for its end, or give another"
            " folder (--out)"
        ) from None
    try:
        yield
    finally:
        lock.release()
