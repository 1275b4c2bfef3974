"""Seeds: any whole number will do, however large."""

N_SEEDS = 2**63  # what torch can take


def for_torch(seed: int) -> int:
    """The seed as torch takes it. One that torch can take stays as it is."""
    return seed % N_SEEDS
