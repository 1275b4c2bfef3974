"""Answers to the exercise of notebook 00 that a check once took for what they are not."""

import numpy as np

from course_utils import exercises
from course_utils.engine.check import check


def test_numpy_integers_are_no_plain_integers():
    verdict = check(exercises.find("start_here.shape_of"), lambda x: tuple(np.array(x.shape)))
    assert verdict.state == "wrong"
    assert "int64" in verdict.headline
