"""`course_utils.runs.optimisers` against torch's own, against the SVD, and stopped and taken up."""

import json

import pytest
import torch
from torch import nn

from course_utils import modern, training
from course_utils.exercises.inputs import integers, normal
from course_utils.runs import optimisers

GROUPS = [{"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}]


def weights(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(normal(*shape)) for shape in shapes]


def set_gradients(parameters: list[nn.Parameter], step: int) -> None:
    for place, p in enumerate(parameters):
        generator = torch.Generator().manual_seed(100 * step + place)
        p.grad = torch.randn(p.shape, generator=generator)


# --- AdamW ---------------------------------------------------------------------------------------


def test_adamw_is_torchs():
    """Twenty steps, two groups with settings of their own, one weight with a gradient at times."""
    shapes = ((3, 4), (5,), (2, 2, 2), (6,))
    ours, theirs = weights(*shapes), weights(*shapes)
    made = [
        kind([{"params": p[:2], **GROUPS[0]}, {"params": p[2:], **GROUPS[1]}])
        for kind, p in ((optimisers.AdamW, ours), (torch.optim.AdamW, theirs))
    ]
    made[1].param_groups[1]["weight_decay"] = 0.0  # torch's default is 0.01
    for step in range(20):
        for parameters, optimiser in zip((ours, theirs), made, strict=True):
            set_gradients(parameters, step)
            if step % 3 == 1:
                parameters[1].grad = None
            optimiser.param_groups[0]["lr"] = 0.05 / (1 + step)
            optimiser.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_adamw_runs_on_the_part_that_is_in_use(monkeypatch):
    monkeypatch.setattr(training, "adamw_step", lambda p, g, m, v, *settings: (p - 1, m, v))
    (p,) = weights((3,))
    before = p.detach().clone()
    p.grad = torch.ones(3)
    optimisers.AdamW([p]).step()
    torch.testing.assert_close(p.detach(), before - 1)


# --- Muon ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4), (3, 5, 8), (1, 7)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_orthogonalise_keeps_singular_vectors_and_evens_their_values(shape, scale):
    matrices = scale * normal(*shape)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ optimisers.orthogonalise(matrices) @ vt.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=1e-4)
    residue = optimisers.orthogonalise(matrices) - u @ inside @ vt
    assert residue.abs().max() < 1e-4  # and nothing outside them


def test_orthogonalise_leaves_zeros_alone():
    assert optimisers.orthogonalise(torch.zeros(3, 4)).abs().max() == 0


def test_muon_is_torchs():
    """Torch's works in bfloat16, so to 3 % of a step; matrices of equal shape go together here."""
    shapes = ((6, 8), (8, 6), (6, 8), (5, 5))
    ours, theirs = weights(*shapes), weights(*shapes)
    before = [p.detach().clone() for p in ours]
    made = (
        optimisers.Muon(ours, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1),
    )
    for step in range(5):
        for parameters, optimiser in zip((ours, theirs), made, strict=True):
            set_gradients(parameters, step)
            optimiser.step()
    for one, other, start in zip(ours, theirs, before, strict=True):
        assert (one - other).norm() < 0.03 * (other - start).norm()


def test_muon_leaves_a_matrix_without_gradient_alone():
    idle, used = weights((3, 4), (4, 3))
    before = idle.detach().clone()
    used.grad = torch.ones(4, 3)
    optimisers.Muon([idle, used], weight_decay=0.1).step()
    assert torch.equal(idle.detach(), before)


def test_muon_is_for_matrices():
    with pytest.raises(ValueError, match=r"matrices.*\[5\]"):
        optimisers.Muon(weights((3, 4), (5,)))


# --- both together -------------------------------------------------------------------------------


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return modern.modern_gpt(vocabulary=9, d_model=8, n_heads=2, n_layers=2, n_buckets=30)


def test_every_weight_has_one_optimiser():
    model = small_model()
    names = {p: name for name, p in model.named_parameters()}
    optimiser = optimisers.muon_and_adamw(model, 0.3, 0.1, weight_decay=0.2)
    muon, tables, vectors = optimiser.param_groups
    found = [names[p] for group in optimiser.param_groups for p in group["params"]]
    assert sorted(found) == sorted(names.values())
    assert {names[p] for p in muon["params"]} == {
        name for name in names.values() if name.startswith("blocks.") and "norm" not in name
    }
    assert {names[p] for p in vectors["params"]} == {n for n in names.values() if "norm" in n}
    assert [each["peak_lr"] for each in optimiser.param_groups] == [0.3, 0.1, 0.1]
    assert [each["weight_decay"] for each in optimiser.param_groups] == [0.2, 0.2, 0.0]
    assert "momentum" in muon and "betas" in tables and "betas" in vectors


def train(model: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        ids = integers(4, 7, below=9).roll(step, 0)
        for group in optimiser.param_groups:
            group["lr"] = training.lr_at_step(step, group["peak_lr"], 3, 20)
        optimiser.zero_grad()
        training.cross_entropy(model(ids[:, :-1]), ids[:, 1:]).backward()
        optimiser.step()


def test_a_run_that_was_stopped_goes_on_to_the_bit():
    straight = small_model()
    train(straight, optimisers.muon_and_adamw(straight), range(12))
    stopped = small_model()
    first = optimisers.muon_and_adamw(stopped)
    train(stopped, first, range(5))
    again = small_model()
    again.load_state_dict(stopped.state_dict())
    second = optimisers.muon_and_adamw(again)
    second.load_state_dict(first.state_dict())
    train(again, second, range(5, 12))
    for one, other in zip(straight.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_state_is_tensors_and_plain_numbers():
    model = small_model()
    optimiser = optimisers.muon_and_adamw(model)
    train(model, optimiser, range(2))
    saved = optimiser.state_dict()
    json.dumps(saved["param_groups"])
    for state in saved["state"].values():
        assert all(isinstance(value, torch.Tensor | int) for value in state.values())


def test_training_makes_the_loss_fall():
    model, ids = small_model(), integers(4, 7, below=9)
    before = training.cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item()
    train(model, optimisers.muon_and_adamw(model), range(20))
    after = training.cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item()
    assert after < before - 0.5
