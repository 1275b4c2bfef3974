"""Answers to notebook 09 that were judged wrongly once: refused though right, or accepted."""

import pytest

from course_utils import exercises
from course_utils.engine import parts
from course_utils.engine.check import check
from course_utils.engine.verdict import Verdict


def verdict_on(name: str, source: str) -> Verdict:
    """The verdict on a source that defines the part, beside the references of the others."""
    part = f"scaling.{name}"
    namespace = dict(parts.namespace(part))
    exec(source, namespace)
    return check(exercises.find(part), namespace[name])


LEAST_SQUARES = """
def fit_power_law(n, loss, floor=0.0):
    n, loss = MADE_ALIKE
    x = torch.stack((torch.ones_like(n), n.log()), dim=1)
    height, slope = torch.linalg.lstsq(x, torch.log(loss - floor)[:, None]).solution[:, 0]
    return height.exp().item(), -slope.item()
"""
PRODUCT = """
def fit_power_law(n, loss, floor=0.0):
    n, loss = MADE_ALIKE
    x, y = n.log(), (loss - floor).log()
    deviation = x - x.mean()
    slope = deviation @ (y - y.mean()) / (deviation @ deviation)
    return (y.mean() - slope * x.mean()).exp().item(), -slope.item()
"""


@pytest.mark.parametrize("source", [LEAST_SQUARES, PRODUCT], ids=["lstsq", "product"])
@pytest.mark.parametrize(
    "alike", ["n.double(), loss.double()", "n, loss.to(n)", "n.to(loss), loss"]
)
def test_sizes_and_losses_of_two_dtypes_are_fitted(source, alike):
    verdict = verdict_on("fit_power_law", source.replace("MADE_ALIKE", alike))
    assert verdict.state == "right", verdict


@pytest.mark.parametrize(
    ("source", "mistake"),
    [(LEAST_SQUARES, ""), (PRODUCT, "needs_one_dtype")],
    ids=["lstsq", "product"],
)
def test_a_fit_that_needs_one_dtype_is_refused(source, mistake):
    verdict = verdict_on("fit_power_law", source.replace("MADE_ALIKE", "n, loss"))
    assert (verdict.state, verdict.mistake) == ("wrong", mistake)
    assert "dtype" in verdict.headline


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.float64"])
def test_tensors_for_numbers_are_named_in_any_dtype(dtype):
    source = PRODUCT.replace("MADE_ALIKE", "n.double(), loss.double()")
    source = source.replace(
        ".exp().item(), -slope.item()", f".exp().to({dtype}), -slope.to({dtype})"
    )
    verdict = verdict_on("fit_power_law", source)
    assert (verdict.state, verdict.mistake) == ("wrong", "tensors_for_numbers")


def test_every_other_mode_is_a_value_error():
    """The exercise's text says so, and a KeyError is not one."""
    verdict = verdict_on(
        "memory_report",
        """
def memory_report(sizes, n_rows, n_tokens, mode="training", bytes_per_number=4):
    n, tokens, d = count_parameters(sizes)["total"], n_rows * n_tokens, sizes.d_model
    kept = tokens * (16 * sizes.n_layers * d + 2 * d + sizes.vocabulary)
    numbers = {
        "training": {"weights": n, "gradients": n, "optimiser": 2 * n, "activations": kept},
        "generation": {"weights": n, "cache": 2 * sizes.n_layers * d * tokens},
    }[mode]
    report = {name: count * bytes_per_number for name, count in numbers.items()}
    return {**report, "total": sum(report.values())}
""",
    )
    assert verdict.state == "wrong"
    assert "should raise a ValueError" in verdict.headline
