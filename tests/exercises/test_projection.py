"""Answers to the exercises of notebook 01 that a check once took, or refused, wrongly."""

from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import exercises, projection
from course_utils.engine.check import check

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def verdict_on(name, answer):
    return check(exercises.find(f"projection.{name}"), answer)


# --- is_linear -----------------------------------------------------------------------------------


def agree(f, x, y, a, b):
    return torch.allclose(f(a * x + b * y), a * f(x) + b * f(y), rtol=1e-3, atol=1e-3)


def near_and_far(f, d):
    sizes = (1, 1, 10, 100)
    return all(agree(f, *(size * torch.randn(2, d)), *torch.randn(2)) for size in sizes)


def draws_whole_numbers(f, d):
    draw = torch.randint
    return all(agree(f, *draw(-9, 10, (2, d)).float(), *draw(-5, 6, (2,))) for _ in range(20))


def draws_vectors_of_size_one(f, d):
    return all(agree(f, *torch.randn(2, d), *torch.randn(2)) for _ in range(10))


def calls_with_one_row(f, d):
    return near_and_far(lambda x: f(x[None]), d)


def calls_with_many_rows(f, d):
    return agree(f, *(10 * torch.randn(2, 50, d)), *torch.randn(2, 50, 1))


def draws_five_numbers(f, d):
    return near_and_far(f, 5)


def compares_the_first_number(f, d):
    return near_and_far(lambda x: f(x).flatten()[:1], d)


def cannot_take_a_layer(f, d):
    return near_and_far(lambda x: torch.from_numpy(f(x).numpy()), d)


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (draws_whole_numbers, "only_whole_numbers"),
        (calls_with_one_row, ""),
        (calls_with_many_rows, ""),
        (draws_five_numbers, ""),
        (compares_the_first_number, ""),
        (draws_vectors_of_size_one, "only_small_vectors"),
        (cannot_take_a_layer, ""),
    ],
)
def test_a_tester_that_looks_in_one_place_only_is_refused(answer, mistake):
    verdict = verdict_on("is_linear", answer)
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_drawn_the_hints_lead_to_a_right_tester(seed):
    def by_the_hints(f, d):
        torch.manual_seed(seed)
        return all(near_and_far(f, d) for _ in range(3))

    assert verdict_on("is_linear", by_the_hints).state == "right"


@pytest.mark.parametrize("bound", [0.01, 1, 10, 1000])
def test_the_reference_sees_a_bend_near_and_far(bound):
    assert not projection.is_linear(lambda x: x.clamp(-bound, bound), 6)
    assert not projection.is_linear(lambda x: F.hardshrink(x, bound), 6)


def test_the_reference_takes_layers():
    assert projection.is_linear(nn.Linear(6, 4, bias=False), 6)
    assert not projection.is_linear(nn.Linear(6, 4), 6)


# --- dot_and_cosine ------------------------------------------------------------------------------


def guards_zero_alone(a, b):
    lengths = a.norm(dim=-1)[:, None] * b.norm(dim=-1)
    return a @ b.T, torch.where(lengths == 0, 0, a @ b.T / lengths)


def guards_each_length(a, b):
    return a @ b.T, F.cosine_similarity(a[:, None], b, dim=-1)


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [(guards_zero_alone, "tiny_lengths_not_guarded"), (guards_each_length, "")],
)
def test_a_product_of_lengths_is_guarded_and_torch_does_so(answer, mistake):
    assert verdict_on("dot_and_cosine", answer).mistake == mistake


# --- linear --------------------------------------------------------------------------------------


def test_no_bias_is_not_a_float32_bias():
    def linear(x, weight, bias=None):
        return x @ weight.T + (torch.zeros(len(weight)) if bias is None else bias)

    assert verdict_on("linear", linear).case == "bfloat16, no bias"


# --- embed ---------------------------------------------------------------------------------------


def test_one_hot_as_the_notebook_writes_it_is_right():
    notebook = nbformat.read(NOTEBOOKS / "01_projection.ipynb", as_version=4)
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()]
    (line,) = [line for line in lines if line.startswith("one_hot = ")]
    namespace = {"nn": nn}
    exec(f"def embed(ids, table):\n    {line}\n    return one_hot @ table", namespace)
    assert verdict_on("embed", namespace["embed"]).state == "right"
