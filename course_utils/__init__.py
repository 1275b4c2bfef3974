"""A transformer that you write yourself, part by part.

The modules are the transformer, in reading order: `projection`, `attention`, … A part that you have
completed in a notebook takes the place of the one that is shipped here.
"""

import sys

from course_utils import (
    attention,
    decoder,
    efficiency,
    encoder,
    inference,
    interpretability,
    modern,
    objectives,
    positions,
    projection,
    sampling,
    scaling,
    start_here,
    tokenization,
    training,
    views,
)
from course_utils.engine import console, loading
from course_utils.engine.claims import claim
from course_utils.engine.completes import completes, hint, progress, reset, solution

__version__ = "0.1.0"
__all__ = [
    "attention",
    "claim",
    "completes",
    "decoder",
    "efficiency",
    "encoder",
    "hint",
    "inference",
    "interpretability",
    "modern",
    "objectives",
    "positions",
    "progress",
    "projection",
    "reset",
    "sampling",
    "scaling",
    "solution",
    "start_here",
    "tokenization",
    "training",
    "views",
]


def _open() -> None:
    """Use the learner's saved parts, and watch the notebook where there is one."""
    if not loading.wanted():
        return
    problems = loading.load_saved_parts()
    if sys.argv[:1] != ["-m"]:  # `python -m course_utils …` says what it has to say itself
        console.say(loading.summary(problems))
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        from course_utils.engine import notebook

        notebook.hook(shell)


_open()
