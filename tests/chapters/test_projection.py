"""`course_utils.projection` against torch's own functions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_utils import projection

few = settings(max_examples=30, deadline=None)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- dot_and_cosine ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns", "d"), [(3, 4, 5), (1, 2, 1), (4, 1, 3)])
def test_dots_and_cosines_are_torchs(rows, columns, d, dtype):
    a, b = normal(rows, d, dtype=dtype), normal(columns, d, seed=1, dtype=dtype)
    dots, cosines = projection.dot_and_cosine(a, b)
    torch.testing.assert_close(dots, torch.einsum("nd,md->nm", a, b))
    torch.testing.assert_close(cosines, F.cosine_similarity(a[:, None], b[None], dim=-1))


def test_cosine_with_a_vector_of_zeros_is_zero_and_has_a_gradient():
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    b = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    dots, cosines = projection.dot_and_cosine(a, b)
    torch.testing.assert_close(cosines, torch.tensor([[0.0, 0.0], [0.6, 0.0]]))
    (gradient,) = torch.autograd.grad(cosines.sum() + dots.sum(), a)
    assert gradient.isfinite().all()


# --- linear --------------------------------------------------------------------------------------


@few
@given(st.lists(st.integers(0, 4), max_size=3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_linear_is_torchs(batch, d_in, d_out, with_bias):
    x, weight = normal(*batch, d_in, dtype=torch.float64), normal(d_out, d_in).double()
    bias = normal(d_out, seed=2).double() if with_bias else None
    torch.testing.assert_close(projection.linear(x, weight, bias), F.linear(x, weight, bias))


def test_linear_of_transposed_and_of_half_precision():
    x, weight = normal(2, 5, 3).mT, normal(5, 4).T
    torch.testing.assert_close(projection.linear(x, weight), F.linear(x, weight))
    x, weight, bias = (t.bfloat16() for t in (normal(2, 3, 5), normal(4, 5), normal(4)))
    ours, theirs = projection.linear(x, weight, bias), F.linear(x, weight, bias)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_gradients_of_linear_are_torchs():
    given_ = [normal(2, 3, 5), normal(4, 5, seed=1), normal(4, seed=2)]
    given_ = [tensor.requires_grad_() for tensor in given_]
    ours = torch.autograd.grad(projection.linear(*given_).sin().sum(), given_)
    theirs = torch.autograd.grad(F.linear(*given_).sin().sum(), given_)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer_holds_the_weights_of_torchs(bias):
    ours, theirs = projection.Linear(5, 4, bias=bias), nn.Linear(5, 4, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(normal(2, 3, 5)), theirs(normal(2, 3, 5)))


# --- embed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (3, 0)])
def test_embed_is_torchs(shape):
    ids = torch.randint(7, shape, generator=torch.Generator().manual_seed(0))
    table = normal(7, 4)
    torch.testing.assert_close(projection.embed(ids, table), F.embedding(ids, table))
    one_hot = F.one_hot(ids, 7).to(table.dtype) @ table
    torch.testing.assert_close(projection.embed(ids, table), one_hot)


def test_only_rows_that_are_used_get_a_gradient():
    table = normal(6, 3).requires_grad_()
    ids = torch.tensor([[1, 4, 1]])
    (gradient,) = torch.autograd.grad(projection.embed(ids, table).sum(), table)
    assert gradient.sum(1).tolist() == [0.0, 6.0, 0.0, 0.0, 3.0, 0.0]


def test_embedding_layer_holds_the_weights_of_torchs():
    ours, theirs = projection.Embedding(7, 4), nn.Embedding(7, 4)
    ours.load_state_dict(theirs.state_dict())
    ids = torch.tensor([[0, 6, 3], [3, 3, 1]])
    torch.testing.assert_close(ours(ids), theirs(ids))


# --- is_linear -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 7])
def test_linear_functions_are_found_linear(d):
    weight = normal(3, d)
    for function in (lambda x: x, lambda x: weight @ x, lambda x: 0 * x, lambda x: x.flip(0)):
        assert projection.is_linear(function, d)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_other_functions_are_not_linear(d):
    others = (torch.abs, torch.relu, torch.square, torch.tanh, lambda x: x + 1, lambda x: x.norm())
    for function in others:
        assert not projection.is_linear(function, d)


def test_is_linear_leaves_the_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    projection.is_linear(torch.relu, 4)
    assert torch.equal(torch.get_rng_state(), before)
