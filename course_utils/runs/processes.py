"""Which of several processes this is. One alone is the first."""

from torch import distributed


def is_first() -> bool:
    """Whether this process is the one that speaks for all. True where it is the only one."""
    together = distributed.is_available() and distributed.is_initialized()
    return not together or distributed.get_rank() == 0
