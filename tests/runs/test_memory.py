"""`course_utils.runs.memory`: bytes against arithmetic, and gradients against those without it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from course_utils import decoder, encoder, modern, training
from course_utils.runs import kernels, loop, memory

ROWS, TOKENS, VOCABULARY, D_MODEL, HEADS, LAYERS = 3, 20, 31, 24, 2, 4
FLOAT = 4  # bytes


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Dropping(encoder.TransformerBlock):
    """A block of somebody's own, with dropout."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return nn.functional.dropout(super().forward(x, mask), 0.3)


def dropping() -> decoder.GPT:
    model = decoder.gpt(VOCABULARY, D_MODEL, HEADS, LAYERS, TOKENS)
    for block in model.blocks:
        block.__class__ = Dropping
    return model


MODELS: dict[str, Callable[[], decoder.GPT]] = {
    "gpt": lambda: decoder.gpt(VOCABULARY, D_MODEL, HEADS, LAYERS, TOKENS),
    "modern": lambda: modern.modern_gpt(VOCABULARY, D_MODEL, HEADS, LAYERS, 16, 3, drop=0.5),
    "dropping": dropping,
}
KERNELS: dict[str, Callable[[], AbstractContextManager]] = {
    "explicit": nullcontext,
    "fused": kernels.fused,
}
everywhere = pytest.mark.parametrize("on", KERNELS)
each_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> decoder.GPT:
    torch.manual_seed(0)
    model = MODELS[name]()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model


def loss(model: nn.Module) -> Tensor:
    ids = torch.randint(VOCABULARY, (2, ROWS, TOKENS), generator=torch.manual_seed(1))
    return training.cross_entropy(model(ids[0]), ids[1])


def gradients(model: nn.Module) -> list[Tensor]:
    model.zero_grad()
    loss(model).backward()
    return [parameter.grad for parameter in model.parameters()]


# --- saved_bytes ---------------------------------------------------------------------------------


def test_what_a_run_holds_is_what_it_made_and_still_has():
    layer, x = nn.Linear(5, 7), torch.randn(3, 5, requires_grad=True)
    assert memory.held_bytes(lambda: None) == 0
    assert memory.held_bytes(lambda: layer(x)) == 3 * 7 * FLOAT  # x and the weights were there
    assert memory.held_bytes(lambda: layer(x).T[1:]) == 3 * 7 * FLOAT  # views of the same
    assert memory.held_bytes(lambda: (layer(x) * 2).relu()) == 3 * 7 * FLOAT  # by autograd alone
    assert memory.held_bytes(lambda: layer(x).exp().sum()) == (3 * 7 + 1) * FLOAT


def test_a_product_keeps_what_went_into_it():
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    assert memory.saved_bytes(layer, lambda: layer(x)) == x.numel() * FLOAT
    assert memory.saved_bytes(nn.Identity(), lambda: layer(x)) == (3 * 5) * FLOAT  # x needs none
    x.requires_grad_()
    assert memory.saved_bytes(nn.Identity(), lambda: layer(x)) == (3 * 5 + 7 * 5) * FLOAT


def test_the_same_numbers_count_once_and_whole():
    x = torch.randn(4, 6, requires_grad=True)
    assert memory.saved_bytes(nn.Identity(), lambda: x[:2] * x[2:]) == 4 * 6 * FLOAT


def test_what_is_freed_on_the_way_still_counts():
    x = torch.randn(100, requires_grad=True)

    def chain() -> Tensor:
        y = x
        for _ in range(10):
            y = y.exp()  # keeps its result
        return y

    assert memory.saved_bytes(nn.Identity(), chain) == 10 * x.numel() * FLOAT


def test_without_gradients_nothing_is_kept():
    model = made("gpt")
    with torch.no_grad():
        assert memory.saved_bytes(model, lambda: loss(model)) == 0


# --- recomputed ----------------------------------------------------------------------------------


@everywhere
@each_model
def test_gradients_are_the_same(name, on):
    model = made(name)
    with KERNELS[on]():
        expected = gradients(model)
        with memory.recomputed(model):
            found = gradients(model)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@everywhere
@pytest.mark.parametrize("name", ["gpt", "modern"])
def test_a_block_keeps_its_input_instead_of_all_that_it_computes(name, on):
    model = made(name)
    x = torch.randn(ROWS, TOKENS, D_MODEL, requires_grad=True)
    with KERNELS[on]():
        mask = decoder.causal_mask(TOKENS)
        plain = memory.saved_bytes(model, lambda: loss(model))
        block = memory.saved_bytes(model, lambda: model.blocks[0](x, mask))
        with memory.recomputed(model):
            held = memory.saved_bytes(model, lambda: loss(model))
    inputs = x.numel() * FLOAT
    assert plain - held == pytest.approx(LAYERS * (block - inputs), rel=0.01)
    assert block > 10 * inputs


def test_what_is_held_is_what_arithmetic_says():
    model = made("gpt")
    with kernels.fused(), memory.recomputed(model):
        held = memory.saved_bytes(model, lambda: loss(model))
    # inputs of all blocks, of the last norm and of the head, and the logits' logarithms; then ids
    # and targets, the norm's means and deviations, and the mask
    numbers = (LAYERS + 2) * D_MODEL + VOCABULARY + 2 * 2 + 2
    known = ROWS * TOKENS * numbers * FLOAT + TOKENS * TOKENS
    assert known <= held <= known + 16


def test_every_block_runs_once_more():
    model, calls = made("gpt"), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda *_: calls.append(1))
    gradients(model)
    assert len(calls) == LAYERS
    calls.clear()
    with memory.recomputed(model):
        value = loss(model)
        assert len(calls) == LAYERS
        value.backward()
    assert len(calls) == 2 * LAYERS


def test_blocks_learn_where_the_embedding_does_not():
    model = made("gpt")
    model.embed.requires_grad_(False)
    with memory.recomputed(model):
        found = gradients(model)
    assert all(gradient is not None for gradient in found[-20:])


def test_without_gradients_every_block_runs_once():
    model, calls = made("gpt"), []
    model.blocks[1].attention.register_forward_hook(lambda *_: calls.append(1))
    with memory.recomputed(model), torch.no_grad():
        loss(model)
    assert calls == [1]


def test_an_encoder_works_too():
    model = encoder.Encoder(
        nn.Embedding(5, 8), [encoder.block(8, 2), encoder.block(8, 2)], nn.Identity()
    )
    ids = torch.tensor([[0, 3, 1, 4]])
    with memory.recomputed(model):
        held = memory.saved_bytes(model, lambda: model(ids))
    assert held == 2 * 4 * 8 * FLOAT + ids.nbytes


def test_afterwards_the_model_is_as_before():
    model = made("gpt")
    model.blocks[1].forward = changed = model.blocks[1].forward  # somebody else's, on the instance
    before = [dict(vars(block)) for block in model.blocks]
    with pytest.raises(ZeroDivisionError), memory.recomputed(model):
        1 / ("forward" not in vars(model.blocks[0]))
    assert [vars(block) for block in model.blocks] == before
    assert model.blocks[1].forward is changed
    assert "forward" not in vars(model.blocks[0])


def test_it_can_be_trained():
    """A whole run ends with the weights of one that keeps everything."""
    batch = torch.randint(VOCABULARY, (2, ROWS, TOKENS), generator=torch.manual_seed(2))
    ends = []
    for recompute in (False, True):
        model = made("modern")
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        with memory.recomputed(model) if recompute else nullcontext(), kernels.fused():
            loop.train(model, optimiser, lambda _: [tuple(batch)], loop.Schedule(3))
        ends.append(model.state_dict())
    assert all(torch.equal(ends[1][name], value) for name, value in ends[0].items())


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="model must have blocks, as a GPT has; got Linear"):
        memory.recomputed(nn.Linear(2, 2)).__enter__()
