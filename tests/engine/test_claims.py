"""A claim holds, or stops its cell with the sentence."""

import numpy as np
import pytest
import torch

from course_utils import claim


def test_what_holds_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    claim("two is more", torch.tensor(2.0) > 1)
    claim("so with arrays", np.float64(2) > 1)
    claim("in most runs", [True, torch.tensor(False), np.True_], at_least=2)
    assert capsys.readouterr().out.splitlines() == [
        "✓ two is more",
        "✓ so with arrays",
        "✓ in most runs (2 of 3)",
    ]


@pytest.mark.parametrize("holds", [False, torch.tensor(False), [True, False, True]])
def test_what_fails_stops_the_cell(holds: object) -> None:
    with pytest.raises(AssertionError, match="here this does not hold: a sentence"):
        claim("a sentence", holds)


def test_fewer_seeds_than_said_fail() -> None:
    with pytest.raises(AssertionError, match="1 of 3"):
        claim("in two of three", [True, False, False], at_least=2)


@pytest.mark.parametrize("holds", [0.98, torch.tensor(1.0), [0.5], "yes", None])
def test_only_truth_is_a_claim(holds: object) -> None:
    with pytest.raises(TypeError, match="holds must be true or false"):
        claim("a number", holds)


def test_no_seed_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        claim("nothing", [])


def test_how_many_needs_a_list() -> None:
    with pytest.raises(TypeError, match="at_least needs a list"):
        claim("one", True, at_least=1)
