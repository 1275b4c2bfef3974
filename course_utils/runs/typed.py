"""Commands as they can be typed here, for messages."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def command(*words: object, module: str = "course_utils") -> str:
    """`python -m course_utils …`, by the Python that runs, quoted where a shell needs it."""
    line = [_python(), "-m", module, *map(str, words)]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def _python() -> str:
    """The Python that runs, as short as it can be written in this folder."""
    running, here = sys.executable or "python", Path.cwd()
    if running == shutil.which("python"):
        return "python"
    inside = Path(running).is_relative_to(here)
    return str(Path(running).relative_to(here)) if inside else running
