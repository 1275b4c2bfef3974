"""`course_utils.efficiency` against torch's own, schedules made by hand, and published figures."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from course_utils import efficiency, encoder, modern, scaling
from course_utils.exercises.inputs import integers, normal

# --- checkpointing -------------------------------------------------------------------------------


def blocks(n: int) -> nn.ModuleList:
    """Of layers that save many kinds of things: whole tensors, outputs, masks, statistics."""
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.TransformerEncoderLayer(12, 3, 20, 0.3, "gelu", batch_first=True) for _ in range(n)
    )


def there_and_back(run, layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Output, gradients, and what is drawn after the way forward and after the way back."""
    layers.zero_grad()
    x = x.detach().requires_grad_()
    torch.manual_seed(1)
    y = x
    for layer in layers:
        y = run(layer, y)
    drawn = torch.rand(2)
    (y**3).sum().backward()
    return [y, drawn, torch.rand(2), *(one.grad for one in (x, *layers.parameters()))]


@pytest.mark.parametrize(
    "other",
    [
        lambda layer, x: layer(x),
        lambda layer, x: checkpoint(layer, x, use_reentrant=False),
        lambda layer, x: checkpoint(layer, x, use_reentrant=True),
    ],
)
def test_blocks_that_run_twice_give_the_same_to_the_last_bit(other):
    layers, x = blocks(3), normal(2, 5, 12)
    ours = there_and_back(efficiency.checkpointed, layers, x)
    theirs = there_and_back(other, layers, x)
    assert len(ours) == len(theirs) > 30
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("around_all", [False, True])
def test_autocast_around_the_way_forward_is_there_on_the_way_back(around_all):
    layers, x = blocks(2), normal(2, 5, 12)

    def found(run):
        def narrow(layer, y):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return run(layer, y)

        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around_all):
            return there_and_back(narrow, layers, x)

    ours = found(efficiency.checkpointed)
    theirs = found(lambda layer, y: checkpoint(layer, y, use_reentrant=False))
    assert all(map(torch.equal, ours, theirs))


def test_one_within_another():
    layers, x = blocks(2), normal(2, 5, 12)

    def both(run):
        pair = nn.ModuleList([nn.Sequential(*layers)])
        return there_and_back(run, pair, x)

    def inner(pair, x):
        return efficiency.checkpointed(lambda x: efficiency.checkpointed(pair, x), x)

    assert all(map(torch.equal, both(inner), both(lambda pair, x: pair(x))))


def test_a_frozen_layer_before_it_stops_nothing():
    layer, frozen = blocks(1)[0], normal(2, 5, 12)
    efficiency.checkpointed(layer, frozen).sum().backward()
    assert all(weight.grad is not None for weight in layer.parameters())


def test_one_block_at_a_time_has_inner_tensors():
    alive: list[StorageWeakRef] = []

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((30, 4), 0.1))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(sum(not one.expired() for one in alive))
            bent = (x @ self.weight.T).tanh()
            alive.append(StorageWeakRef(bent.untyped_storage()))
            return bent @ self.weight

    seen: list[int] = []
    x = normal(3, 4)
    for layer in [Wide() for _ in range(5)]:
        x = efficiency.checkpointed(layer, x)
    assert seen == [0] * 5
    x.sum().backward()
    assert seen == [0] * 10
    assert all(one.expired() for one in alive)


# --- loss scaling --------------------------------------------------------------------------------


def model_and_optimiser() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    return model, torch.optim.AdamW(two_groups(model.parameters()), lr=0.01)


def two_groups(weights: Iterable[nn.Parameter]) -> list[dict]:
    first, *others = weights
    return [{"params": [first], "lr": 0.02}, {"params": others}]


def half_loss(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.float16):
        logits = model(x)
    return F.cross_entropy(logits.float(), targets)


def test_steps_are_those_of_torchs_scaler():
    """From a scale that is far too large at first."""
    ours, our_optimiser = model_and_optimiser()
    theirs, their_optimiser = model_and_optimiser()
    scale = 2.0**24
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    scales = []
    for step in range(20):
        x, targets = normal(8, 6, seed=step), integers(8, below=3, seed=step)
        scale = efficiency.scaled_step(half_loss(ours, x, targets), our_optimiser, scale, 0.5)
        their_optimiser.zero_grad()
        scaler.scale(half_loss(theirs, x, targets)).backward()
        scaler.unscale_(their_optimiser)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        scaler.step(their_optimiser)
        scaler.update()
        scales.append(scale)
        assert scale == scaler.get_scale()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other)
    assert scales[0] == 2.0**23
    assert 1 < scales[-1] == scales[-2] < scales[0]


def test_a_loss_too_small_for_float16_is_learned_from():
    moved = []
    for scale in (1.0, 2.0**20):
        weight = nn.Parameter(torch.ones(4))
        optimiser = torch.optim.SGD([weight], lr=1e6)
        loss = (weight.half() * 1.0).float().sum() * 1e-8
        efficiency.scaled_step(loss, optimiser, scale, 1.0)
        moved.append((1 - weight).detach())
    torch.testing.assert_close(moved[0], torch.zeros(4))
    torch.testing.assert_close(moved[1], torch.full((4,), 0.01), rtol=1e-3, atol=0)


# --- shares of a batch, and of a matrix ----------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 2, 9), (2, 5, 5), (12,)])
def test_the_mean_over_machines_is_the_gradient_of_the_whole_batch(sizes):
    """Two rows are padding: where they are all that a machine has, its gradient is NaN."""
    weight = normal(5, 3).requires_grad_()
    x, targets = normal(12, 3, seed=1), integers(12, below=5, seed=2)
    counts = torch.ones(12).index_fill(0, torch.arange(2), 0)

    def gradient(x: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        losses = F.cross_entropy(F.linear(x, weight), targets, reduction="none")
        return torch.autograd.grad((losses * counts).sum() / counts.sum(), weight)[0]

    shares = list(map(gradient, x.split(sizes), targets.split(sizes), counts.split(sizes)))
    found = efficiency.mean_gradient(shares, [int(one.sum()) for one in counts.split(sizes)])
    torch.testing.assert_close(found, gradient(x, targets, counts))
    assert shares[0].isnan().any() == (sizes[0] <= 2)


@pytest.mark.parametrize("n_parts", [1, 2, 3, 12])
def test_a_net_in_pieces_is_the_whole_net(n_parts):
    x, up, down = normal(2, 3, 4), normal(12, 4, seed=1), normal(7, 12, seed=2)
    given = [one.requires_grad_() for one in (x, up, down)]
    whole = encoder.feed_forward(x, up, torch.zeros(12), down, torch.zeros(7))
    found = efficiency.column_then_row(x, up, down, n_parts)
    torch.testing.assert_close(found, whole)
    ours, theirs = (torch.autograd.grad(y.sum(), given) for y in (found, whole))
    torch.testing.assert_close(ours, theirs)


# --- pipelines -----------------------------------------------------------------------------------


def one_forward_one_back(n_stages: int, n_micro: int) -> float:
    """Another schedule: a stage goes back with a micro-batch as soon as it can.

    Some forwards at first, then one back and one forward in turns, then the rest of the ways back
    (Narayanan et al. 2021, §2.2). The way back takes twice as long.
    """
    orders = []
    for stage in range(n_stages):
        first = min(n_micro, n_stages - stage)
        order = [("forward", micro) for micro in range(first)]
        for micro in range(n_micro):
            order.append(("back", micro))
            if first + micro < n_micro:
                order.append(("forward", first + micro))
        orders.append(order)
    end: dict[tuple[str, int, int], int] = {}
    free = [0] * n_stages
    while any(orders):
        for stage, order in enumerate(orders):
            way, micro = order[0] if order else ("", 0)
            needs = [(way, stage - 1, micro)] if way == "forward" and stage else []
            if way == "back":
                needs = [("forward", stage, micro)]
                needs += [("back", stage + 1, micro)] if stage + 1 < n_stages else []
            if way and all(one in end for one in needs):
                begin = max([free[stage], *(end[one] for one in needs)])
                free[stage] = end[way, stage, micro] = begin + (1 if way == "forward" else 2)
                order.pop(0)
    return 1 - 3 * n_micro / max(end.values())


@pytest.mark.parametrize(("n_stages", "n_micro"), [(1, 4), (2, 2), (4, 1), (4, 8), (3, 11), (8, 4)])
def test_the_bubble_is_that_of_a_schedule(n_stages, n_micro):
    found = efficiency.bubble(n_stages, n_micro)
    assert found == pytest.approx(one_forward_one_back(n_stages, n_micro))


def test_more_micro_batches_make_it_smaller():
    assert efficiency.bubble(4, 1) == 0.75
    shares = [efficiency.bubble(4, n) for n in range(1, 40)]
    assert all(after < before for before, after in pairwise(shares))


# --- utilisation ---------------------------------------------------------------------------------


def test_palm_used_46_percent_of_its_machines():
    """Chowdhery et al. 2022, appendix B: 238,300 tokens a second on 6,144 chips of 275 TFLOPS.

    48 heads of 256 features look at each other.
    """
    share = efficiency.mfu(238_300, 6144 * 275e12, 540_350_000_000, 118, 2048, 48 * 256)
    assert share == pytest.approx(0.462, abs=0.0005)


@pytest.mark.parametrize("tied", [False, True])
def test_it_counts_what_scaling_counts(tied):
    sizes = scaling.Sizes(50, 12, 3, 2, 9, tied)
    counts = scaling.count_parameters(sizes)
    multiplied = 12 * sizes.n_layers * sizes.d_model**2 + sizes.vocabulary * sizes.d_model
    assert multiplied < counts["total"]
    needed = scaling.flops_per_token(sizes, 7, training=True)
    assert efficiency.mfu(30, 1e6, multiplied, 2, 7, 12) == pytest.approx(30 * needed / 1e6)


def test_a_real_model_multiplies_so_often():
    """torch's own counter, on a model of ours."""
    model = modern.modern_gpt(13, 16, 2, 2)
    ids = integers(1, 8, below=13)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    weights = [one for name, one in model.named_parameters() if one.ndim == 2]
    tables = sum(one.numel() for name, one in model.named_parameters() if "embed" in name)
    n = sum(one.numel() for one in weights) - tables
    needed = efficiency.mfu(1, 1, n, 2, 8, 16)
    assert counter.get_total_flops() / 8 == pytest.approx(needed)
