"""`course_utils.training` against torch's own losses, optimisers, schedules and clipping."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import decoder, training
from course_utils.engine import worker
from course_utils.exercises.inputs import integers, normal
from course_utils.runs import optimisers

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 5)

VOCABULARY = 11


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are quicker so, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@few
@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(-2, 2))
def test_scalars_have_the_gradients_of_autograd(a, b, c):
    def formula(a, b, c):
        total = a.exp() + b.exp() + c.exp()
        return (a * b + a).log() * c.exp() + total.log() * a

    ours = [training.Scalar(number) for number in (a, b, c)]
    theirs = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in (a, b, c)]
    formula(*ours).backward()
    formula(*theirs).backward()
    for one, other in zip(ours, theirs, strict=True):
        assert other.grad is not None
        assert one.grad == pytest.approx(other.grad.item())


def small_gpt(n_layers: int = 2, seed: int = 0) -> decoder.GPT:
    torch.manual_seed(seed)
    model = decoder.gpt(VOCABULARY, d_model=12, n_heads=3, n_layers=n_layers, context=8)
    training.init_weights(model, n_layers)
    return model


def batches_of(step: int, n: int = 2) -> list[training.Batch]:
    """Micro-batches in which the next token is this one plus one, with some padding."""
    ids = integers(2 * n, 7, below=VOCABULARY, seed=step)
    targets = (ids + 1) % VOCABULARY
    targets[::3, 4:] = -100
    return list(zip(ids.split(2), targets.split(2), strict=True))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


# --- cross_entropy -------------------------------------------------------------------------------


@few
@given(st.lists(sizes, min_size=1, max_size=3), st.integers(2, 9), st.sampled_from([-100, -1, 0]))
def test_cross_entropy_is_torchs(shape, vocabulary, ignored):
    logits = (5 * normal(*shape, vocabulary)).requires_grad_()
    targets = integers(*shape, below=vocabulary)
    targets.view(-1)[0] = vocabulary - 1  # one at least counts
    targets.view(-1)[1::3] = ignored
    wanted = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignored)
    loss = training.cross_entropy(logits, targets, ignored)
    torch.testing.assert_close(loss, wanted)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, logits)[0])


def test_gradient_of_the_loss_is_p_minus_y():
    logits, targets = normal(3, 5).requires_grad_(), torch.tensor([4, 0, 2])
    (gradient,) = torch.autograd.grad(training.cross_entropy(logits, targets), logits)
    wanted = (torch.softmax(logits, -1) - F.one_hot(targets, 5)) / 3
    torch.testing.assert_close(gradient, wanted)


def test_loss_of_one_place():
    logits = normal(5)
    loss = training.cross_entropy(logits, torch.tensor(3))
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor(3)))


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1)])
def test_targets_must_fit_the_logits(shape):
    with pytest.raises(IndexError, match="shape"):
        training.cross_entropy(normal(2, 3, 5), integers(*shape, below=5))


@pytest.mark.parametrize("target", [5, -1])
def test_a_target_must_be_in_the_vocabulary(target):
    with pytest.raises(RuntimeError, match="out of bounds"):
        training.cross_entropy(normal(1, 5), torch.tensor([target]))


# --- attention_score_grad ------------------------------------------------------------------------


@few
@given(st.lists(sizes, min_size=2, max_size=4))
def test_score_gradient_is_torchs(shape):
    scores = (3 * normal(*shape, dtype=torch.float64)).requires_grad_()
    weights = torch.softmax(scores, -1)
    weights_grad = normal(*shape, seed=1, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(weights, scores, weights_grad)
    torch.testing.assert_close(training.attention_score_grad(weights, weights_grad), wanted)


# --- init_weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 3])
def test_first_weights_are_those_of_gpt2(n_layers):
    model = decoder.gpt(200, d_model=96, n_heads=4, n_layers=n_layers, context=100)
    gains = {name: gain for name, gain in weights_of(model).items() if gain.ndim == 1}
    training.init_weights(model, n_layers)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif weight.ndim == 1:
            assert torch.equal(weight, gains[name]), name
        else:
            writes = "w_o" in name or "down" in name
            std = 0.02 / math.sqrt(2 * n_layers) if writes else 0.02
            assert weight.std().item() == pytest.approx(std, rel=0.04), name
            assert abs(weight.mean().item()) < std / 15, name


def test_the_first_loss_is_that_of_a_guess():
    model = small_gpt(3)
    (ids, targets), *_ = batches_of(0)
    loss = training.cross_entropy(model(ids), targets).item()
    assert loss == pytest.approx(math.log(VOCABULARY), abs=0.02)


def test_the_stream_does_not_grow_with_depth():
    def deviation(n_layers: int) -> float:
        torch.manual_seed(0)
        model = decoder.gpt(50, 64, 4, n_layers, 16)
        training.init_weights(model, n_layers)
        x = model.embed(integers(4, 16, below=50))
        for block in model.blocks:
            x = block(x)
        return x.std().item()

    assert deviation(12) < 1.2 * deviation(1)


# --- lr_at_step ----------------------------------------------------------------------------------


@few
@given(st.integers(0, 9), st.integers(1, 30), st.sampled_from([0.0, 0.1]))
def test_schedule_is_torchs(warmup, n_down, floor):
    peak, total = 0.3, warmup + n_down
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    down = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_down, peak * floor)
    up = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (step + 1) / max(1, warmup))
    wanted = []
    for step in range(warmup):
        wanted.append(peak * up.lr_lambdas[0](step))
    for group in optimiser.param_groups:
        group["lr"] = peak
    for _ in range(n_down + 1):
        wanted.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        down.step()
    found = [
        training.lr_at_step(step, peak, warmup, total, peak * floor) for step in range(total + 1)
    ]
    assert found == pytest.approx(wanted, abs=1e-12)


def test_schedule_stays_at_its_floor():
    rates = [training.lr_at_step(step, 1.0, 3, 10, 0.2) for step in range(20)]
    assert rates[2] == rates[3] == max(rates) == 1.0
    assert rates[10:] == [0.2] * 10
    assert all(one > other for one, other in pairwise(rates[3:11]))


# --- clip_gradients ------------------------------------------------------------------------------


@few
@given(st.lists(sizes, min_size=1, max_size=4), st.floats(0.1, 20))
def test_clipping_is_torchs(lengths, max_norm):
    ours, theirs = ([nn.Parameter(torch.zeros(n)) for n in lengths] for _ in range(2))
    for number, pair in enumerate(zip(ours, theirs, strict=True)):
        for one in pair:
            one.grad = 3 * normal(len(one), seed=number)
    norm = training.clip_gradients(iter(ours), max_norm)
    assert norm == pytest.approx(nn.utils.clip_grad_norm_(theirs, max_norm).item())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_parameters_without_gradients_are_left_out():
    with_gradient, without = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    with_gradient.grad = torch.tensor([3.0, 4.0])
    assert training.clip_gradients([without, with_gradient], 1.0) == 5.0
    assert without.grad is None
    torch.testing.assert_close(with_gradient.grad, torch.tensor([0.6, 0.8]))
    assert training.clip_gradients([without], 1.0) == 0.0


# --- adamw_step ----------------------------------------------------------------------------------


@few
@given(
    st.lists(sizes, min_size=0, max_size=3),
    st.sampled_from([(0.9, 0.999), (0.5, 0.9)]),
    st.sampled_from([1e-8, 0.1]),
    st.sampled_from([0.0, 0.3]),
)
def test_adamw_is_torchs(shape, betas, eps, weight_decay):
    theirs = nn.Parameter(normal(*shape))
    optimiser = torch.optim.AdamW([theirs], 0.05, betas, eps, weight_decay)
    ours, mean, square = theirs.detach().clone(), torch.zeros(shape), torch.zeros(shape)
    for step in range(1, 6):
        theirs.grad = normal(*shape, seed=step)
        optimiser.step()
        ours, mean, square = training.adamw_step(
            ours, theirs.grad, mean, square, step, 0.05, betas, eps, weight_decay
        )
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


# --- accumulate and train_step -------------------------------------------------------------------


def one_large_batch(model: nn.Module, micro_batches: list[training.Batch]) -> Tensor:
    ids, targets = (torch.cat(each) for each in zip(*micro_batches, strict=True))
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


def test_micro_batches_are_one_large_batch():
    ours, theirs, micro_batches = small_gpt(), small_gpt(), batches_of(0, n=3)
    loss = training.accumulate(ours, micro_batches, training.cross_entropy)
    wanted = one_large_batch(theirs, micro_batches)
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_a_micro_batch_without_targets_changes_nothing():
    ours, theirs, micro_batches = small_gpt(), small_gpt(), batches_of(0, n=2)
    ids = micro_batches[0][0]
    with_nothing = [(ids, torch.full_like(ids, training.NOT_COUNTED)), *micro_batches]
    loss = training.accumulate(ours, with_nothing, training.cross_entropy)
    assert loss == training.accumulate(theirs, micro_batches, training.cross_entropy)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    nothing = training.train_step(ours, with_nothing[:1], torch.optim.SGD(ours.parameters()), 1.0)
    assert nothing == (0.0, 0.0)


def test_steps_are_those_of_plain_torch():
    ours, theirs = small_gpt(), small_gpt()
    our_optimiser = optimisers.AdamW(ours.parameters(), lr=0.01, weight_decay=0.1)
    optimiser = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(4):
        found = training.train_step(ours, batches_of(step), our_optimiser, max_norm=0.5)
        optimiser.zero_grad()
        loss = one_large_batch(theirs, batches_of(step))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimiser.step()
        assert found == pytest.approx((loss.item(), norm.item()), rel=1e-4)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# --- evaluate ------------------------------------------------------------------------------------


def test_evaluate_is_the_mean_over_all_targets():
    model, batches = small_gpt(), [*batches_of(0), *batches_of(1, 3)]
    wanted = one_large_batch(model, batches).item()
    assert training.evaluate(model, iter(batches)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_rests_while_evaluating(mode):
    model = nn.Sequential(nn.Embedding(5, 8), nn.Dropout(0.5), nn.Linear(8, 5)).train(mode)
    batch = integers(2, 3, below=5), integers(2, 3, below=5, seed=1)
    losses = {training.evaluate(model, [batch]) for _ in range(3)}
    assert len(losses) == 1
    assert model.training == mode
    assert all(weight.grad is None for weight in model.parameters())


def test_batches_without_targets():
    model, ids = small_gpt(1), integers(2, 4, below=VOCABULARY)
    nothing = ids, torch.full_like(ids, -100)
    alone = training.evaluate(model, [(ids, ids)])
    assert training.evaluate(model, [(ids, ids), nothing]) == alone
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="batches must hold targets"):
            training.evaluate(model, batches)


# --- spelled as a learner might ------------------------------------------------------------------

HEADS = {
    "cross_entropy": "logits, targets, ignore_index=-100",
    "init_weights": "model, n_layers",
    "lr_at_step": "step, peak, warmup, total, floor=0.0",
    "clip_gradients": "parameters, max_norm",
    "accumulate": "model, micro_batches, loss_fn",
    "train_step": "model, micro_batches, optimiser, max_norm",
}

SPELLINGS = [
    (
        "cross_entropy",
        "unstable_log",
        "keep = targets != ignore_index\n"
        "p = torch.softmax(logits[keep], -1)\n"
        "return -torch.log(p[torch.arange(len(p)), targets[keep]]).mean()",
    ),
    (
        "cross_entropy",
        "ignores_nothing",
        "log_p = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1))\n"
        "return -log_p.squeeze(-1).mean()",
    ),
    (
        "init_weights",
        "tables_left",
        "for name, m in model.named_modules():\n"
        "    if isinstance(m, nn.Linear):\n"
        "        s = 0.02 / math.sqrt(2 * n_layers) if name.endswith(('w_o', 'down')) else 0.02\n"
        "        nn.init.normal_(m.weight, 0, s)\n"
        "for name, p in model.named_parameters():\n"
        "    if name.endswith('.bias'):\n"
        "        p.data.zero_()",
    ),
    (
        "init_weights",
        "residual_not_scaled",
        "for name, p in model.named_parameters():\n"
        "    if p.dim() > 1:\n"
        "        p.data.copy_(0.02 * torch.randn_like(p))\n"
        "    elif name.endswith('bias'):\n"
        "        p.data.zero_()",
    ),
    (
        "lr_at_step",
        "starts_at_zero",
        "if step < warmup:\n"
        "    return peak * step / warmup\n"
        "x = min(1.0, (step - warmup) / max(1, total - warmup)) if step < total else 1.0\n"
        "return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * x))",
    ),
    (
        "clip_gradients",
        "crashes_without_gradient",
        "ps = list(parameters)\n"
        "norm = math.sqrt(sum((p.grad ** 2).sum().item() for p in ps))\n"
        "if norm > max_norm:\n"
        "    for p in ps:\n"
        "        p.grad *= max_norm / norm\n"
        "return norm",
    ),
    (
        "clip_gradients",
        "loops_a_generator_twice",
        "total = 0.0\n"
        "for p in parameters:\n"
        "    if p.grad is not None:\n"
        "        total += p.grad.pow(2).sum().item()\n"
        "norm = total ** 0.5\n"
        "for p in parameters:\n"
        "    if p.grad is not None and norm > max_norm:\n"
        "        p.grad.mul_(max_norm / norm)\n"
        "return norm",
    ),
    (
        "accumulate",
        "mean_of_means",
        "total = 0\n"
        "for x, y in micro_batches:\n"
        "    loss = loss_fn(model(x), y) / len(micro_batches)\n"
        "    loss.backward()\n"
        "    total += loss.item()\n"
        "return total",
    ),
    (
        "train_step",
        "zero_grad_before_step",
        "loss = accumulate(model, micro_batches, cross_entropy)\n"
        "norm = clip_gradients(model.parameters(), max_norm)\n"
        "optimiser.zero_grad()\n"
        "optimiser.step()\n"
        "return loss, norm",
    ),
    (
        "train_step",
        "clips_after_step",
        "optimiser.zero_grad(set_to_none=True)\n"
        "loss = accumulate(model, micro_batches, cross_entropy)\n"
        "optimiser.step()\n"
        "return loss, clip_gradients(list(model.parameters()), max_norm)",
    ),
]


@pytest.mark.parametrize(("name", "mistake", "body"), SPELLINGS)
def test_other_spellings_are_named(name, mistake, body):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    verdict = worker.examine(f"training.{name}", f"def {name}({HEADS[name]}):\n{lines}")
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict


def test_a_crash_without_gradient_shows_the_line():
    source = (
        "def clip_gradients(parameters, max_norm):\n"
        "    kept = list(parameters)\n"
        "    norm = math.sqrt(sum(p.grad.square().sum() for p in kept))\n"
        "    for p in kept:\n"
        "        p.grad *= max_norm / norm if norm > max_norm else 1\n"
        "    return norm\n"
    )
    verdict = worker.examine("training.clip_gradients", source)
    assert verdict.mistake == "crashes_without_gradient"
    assert verdict.lines[0] == (3, source.splitlines()[2].strip())
