"""Prints where not every character can be printed, and where nobody reads."""

import sys
from contextlib import suppress


def say(text: object) -> None:
    """Print, whatever the console's encoding: a character that it lacks is spelled out."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):  # the other end of a pipe is gone, the stream is closed
        print(str(text).encode(encoding, "backslashreplace").decode(encoding))
