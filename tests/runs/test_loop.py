"""Many steps: what is logged, how rates go, going on to the bit, and numbers that are none."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from course_utils import decoder, training
from course_utils.runs import loop, optimisers

VOCABULARY = 11


def small_gpt(n_layers: int = 2) -> decoder.GPT:
    torch.manual_seed(0)
    model = decoder.gpt(VOCABULARY, d_model=12, n_heads=3, n_layers=n_layers, context=8)
    training.init_weights(model, n_layers)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are quicker so, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batches_of(step: int) -> list[training.Batch]:
    """Two micro-batches in which the next token is this one plus one, with some padding."""
    ids = torch.randint(VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(step))
    targets = (ids + 1) % VOCABULARY
    targets[::3, 4:] = training.NOT_COUNTED
    return list(zip(ids.split(2), targets.split(2), strict=True))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_the_parts_in_use_make_the_step(monkeypatch: pytest.MonkeyPatch):
    used = []

    def note(name: str) -> None:
        part = getattr(training, name)
        monkeypatch.setattr(training, name, lambda *given: (used.append(name), part(*given))[1])

    for name in ("cross_entropy", "lr_at_step", "clip_gradients", "accumulate", "train_step"):
        note(name)
    note("adamw_step")
    model = small_gpt(1)
    optimiser = optimisers.AdamW([model.head.weight], lr=0.01)
    loop.train(model, optimiser, batches_of, loop.Schedule(steps=1))
    order = ["lr_at_step", "train_step", "accumulate", "cross_entropy", "cross_entropy"]
    assert used == [*order, "clip_gradients", "adamw_step"]


# --- train ---------------------------------------------------------------------------------------


SCHEDULE = loop.Schedule(steps=6, warmup=2, floor=0.1, evaluate_every=4, save_every=2)


def run(
    schedule: loop.Schedule = SCHEDULE,
    make: Callable[..., torch.optim.Optimizer] = optimisers.AdamW,
    **given: object,
) -> tuple[list[dict[str, float]], nn.Module, torch.optim.Optimizer]:
    model = small_gpt()
    optimiser = make(model.parameters(), lr=0.02)
    return loop.train(model, optimiser, batches_of, schedule, **given), model, optimiser


def test_a_run_learns_and_keeps_a_log():
    schedule = replace(SCHEDULE, steps=40, evaluate_every=15)
    log, model, _ = run(schedule, validate=lambda model: training.evaluate(model, batches_of(99)))
    assert [record["step"] for record in log] == list(range(40))
    assert [record["step"] for record in log if "validation" in record] == [14, 29, 39]
    assert log[0]["loss"] == pytest.approx(math.log(VOCABULARY), abs=0.05)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["validation"] == training.evaluate(model, batches_of(99))
    assert all(record["norm"] > 0 for record in log)


def test_torchs_optimisers_fit():
    ours, model, _ = run()
    theirs, other, optimiser = run(make=torch.optim.AdamW)
    assert optimiser.param_groups[0]["peak_lr"] == 0.02
    assert optimiser.param_groups[0]["lr"] == pytest.approx(
        training.lr_at_step(SCHEDULE.steps - 1, 0.02, 2, SCHEDULE.steps, 0.002)
    )
    assert ours[0] == theirs[0]
    assert len(weights_of(model)) == len(weights_of(other))


def test_every_group_has_its_own_peak():
    model = small_gpt(1)
    groups = [
        {"params": [model.head.weight], "lr": 0.1},
        {"params": list(model.blocks.parameters()), "lr": 0.01},
    ]
    optimiser = optimisers.AdamW(groups)
    loop.train(model, optimiser, batches_of, replace(SCHEDULE, steps=3))
    rates = [group["lr"] for group in optimiser.param_groups]
    assert rates[0] == pytest.approx(10 * rates[1])
    assert [group["peak_lr"] for group in optimiser.param_groups] == [0.1, 0.01]


@pytest.mark.parametrize("make", [optimisers.AdamW, torch.optim.AdamW])
@pytest.mark.parametrize("stopped_after", [2, 3, 5])
def test_a_run_that_is_killed_goes_on_to_the_bit(tmp_path, stopped_after, make):
    wanted, model, _ = run(make=make)

    def killed(step: int) -> list[training.Batch]:
        if step == stopped_after:
            raise KeyboardInterrupt
        return batches_of(step)

    other = small_gpt()
    with pytest.raises(KeyboardInterrupt):
        loop.train(other, make(other.parameters(), lr=0.02), killed, SCHEDULE, folder=tmp_path)
    log, again, _ = run(make=make, folder=tmp_path)
    assert log == wanted
    for name, weight in weights_of(model).items():
        assert torch.equal(weight, weights_of(again)[name]), name


# --- numbers that are none -----------------------------------------------------------------------


class SpoiltAt(nn.Module):
    """A layer of a block that gives NaN from one step on."""

    def __init__(self, inner: nn.Module, value: float):
        super().__init__()
        self.inner = inner
        self.value = value
        self.broken = False

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.value if self.broken else self.inner(x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_names_the_first_module(value):
    model = small_gpt()
    model.blocks[1].feed_forward = SpoiltAt(model.blocks[1].feed_forward, value)
    optimiser, seen = optimisers.AdamW(model.parameters(), lr=0.02), {}

    def batches(step: int) -> list[training.Batch]:
        if step == 3:
            seen.update(weights_of(model))
            model.blocks[1].feed_forward.broken = True
        return batches_of(step)

    with pytest.raises(loop.NotFiniteError, match=r"^step 3: .* is blocks\.1\.feed_forward$"):
        loop.train(model, optimiser, batches, SCHEDULE)
    for name, weight in weights_of(model).items():
        assert torch.equal(weight, seen[name]), name
    assert not any(module._forward_hooks for module in model.modules())
    assert not optimiser._optimizer_step_pre_hooks


def test_not_finite_names_a_weight():
    model = small_gpt()
    with torch.no_grad():
        model.blocks[0].attention.w_v.weight[2, 1] = math.nan
    with pytest.raises(loop.NotFiniteError, match=r"the weight blocks\.0\.attention\.w_v\.wei"):
        loop.train(model, optimisers.AdamW(model.parameters()), batches_of, SCHEDULE)


class RootOfSquares(nn.Module):
    """0 where x is 0, but with the gradient 0 · ∞."""

    def forward(self, x: Tensor) -> Tensor:
        return x + ((x - x) ** 2).sqrt()


def test_not_finite_names_a_gradient():
    model = nn.Sequential(nn.Embedding(VOCABULARY, 4), RootOfSquares(), nn.Linear(4, VOCABULARY))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(loop.NotFiniteError, match=r"finite, but the gradient of 0\.weight is"):
        loop.train(model, optimiser, batches_of, SCHEDULE)


class Huge(torch.autograd.Function):
    """Passes numbers on, and gradients enlarged."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return 1e30 * gradient


def test_not_finite_where_only_the_length_is_not():
    linear = nn.Linear(4, VOCABULARY)
    model = nn.Sequential(nn.Embedding(VOCABULARY, 4), linear)
    linear.register_forward_hook(lambda module, given, output: Huge.apply(output))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(loop.NotFiniteError, match="the gradients' length is not"):
        loop.train(model, optimiser, batches_of, replace(SCHEDULE, max_norm=math.inf))
