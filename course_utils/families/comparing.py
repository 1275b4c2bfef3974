"""Two models with the same weights: how far apart are their numbers?

The weights are random, and far from those that a new model has: with gains of 1 and biases of 0,
many mistakes cannot be seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_utils import decoder, sampling
from course_utils.families import renaming

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

# All sizes differ, and eps is large enough to be missed.
D_MODEL, N_HEADS, D_HIDDEN, CONTEXT, VOCABULARY, EPS = 24, 4, 40, 16, 37, 0.02
BATCH, TARGET, SOURCE = 3, 7, 9
READ = (1, 2, 6, 7, 8, 11)  # tokens that a cache has read, after each call

Question = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Case:
    """Two models with the same weights, and how each is asked; both give a list of tensors.

    With `read_theirs` and `read_ours` they are asked once more: to read on from a cache.
    """

    model: str
    compared: str
    theirs: nn.Module
    ours: nn.Module
    rules: renaming.Rules
    inputs: tuple[Tensor, ...]
    ask_theirs: Question
    ask_ours: Question
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    read_theirs: Question | None = None
    read_ours: Question | None = None


@dataclass(frozen=True)
class Comparison:
    """The largest differences between two models."""

    model: str
    compared: str
    dtype: torch.dtype
    outputs: float
    gradients: float
    cached: float | None = None

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]

    @property
    def ok(self) -> bool:
        figures = (self.outputs, self.gradients, self.cached or 0.0)
        return all(figure <= self.tolerance for figure in figures)  # NaN is not


def compare(case: Case, dtype: torch.dtype = torch.float32) -> Comparison:
    """Ask both models and compare what they say, and how it depends on weights and inputs."""
    theirs, their_gradients = answer(case.theirs, case.ask_theirs, case.inputs, dtype)
    ours, our_gradients = answer(case.ours, case.ask_ours, case.inputs, dtype)
    return Comparison(
        case.model,
        case.compared,
        dtype,
        _difference(dict(enumerate(theirs)), dict(enumerate(ours))),
        _difference(renaming.rename(their_gradients, case.rules), our_gradients),
        _cached(case, dtype),
    )


@torch.no_grad()
def _cached(case: Case, dtype: torch.dtype) -> float | None:
    """How far apart the models are that go on from a cache."""
    if case.read_theirs is None or case.read_ours is None:
        return None
    inputs = [_leaf(x, dtype) for x in case.inputs]
    theirs = case.read_theirs(case.theirs, *inputs)
    ours = case.read_ours(case.ours, *inputs)
    return _difference(dict(enumerate(theirs)), dict(enumerate(ours)))


def answer(
    model: nn.Module, ask: Question, inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """A model's outputs, and the gradients of a random sum of them."""
    model = model.to(dtype).eval()
    model.zero_grad()
    leaves = [_leaf(x, dtype) for x in inputs]
    outputs = ask(model, *leaves)
    generator = torch.Generator().manual_seed(1)
    loss = sum((normal(y.shape, generator).to(y) * y).sum() / y.numel() ** 0.5 for y in outputs)
    torch.as_tensor(loss).backward()
    named = {**dict(model.named_parameters()), **{f"input {i}": x for i, x in enumerate(leaves)}}
    gradients = {name: x.grad for name, x in named.items() if x.grad is not None}
    return [output.detach() for output in outputs], gradients


def _leaf(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy that collects its gradient; ids have none."""
    return x.clone().to(dtype).requires_grad_() if x.is_floating_point() else x


def _difference(theirs: Mapping, ours: Mapping) -> float:
    """Largest difference of any number; a tensor that only one side has counts as zeros there."""
    zero = torch.zeros(())
    differences = [
        (theirs.get(name, zero) - ours.get(name, zero)).abs().max()
        for name in theirs.keys() | ours.keys()
    ]
    return torch.stack(differences).max().item()  # NaN, where there is one


# --- Making a case -------------------------------------------------------------------------------


def randomise(model: nn.Module) -> nn.Module:
    """Give every parameter random values: gains around 1, everything else around 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = parameter.dim() == 1 and name.endswith("weight")
            noise = normal(parameter.shape, generator)
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.15 * noise)
    return model


def filled(ours: nn.Module, theirs: nn.Module, rules: renaming.Rules) -> nn.Module:
    renaming.fill(ours, theirs.state_dict(), rules)
    return ours


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def features(n_tokens: int, seed: int) -> Tensor:
    return normal((BATCH, n_tokens, D_MODEL), torch.Generator().manual_seed(seed))


def token_ids(seed: int, n_tokens: int = TARGET, vocabulary: int = VOCABULARY) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (BATCH, n_tokens), generator=generator)


def real_tokens(n_tokens: int) -> Tensor:
    """True at real tokens: the first row is full, the others are padded at their ends."""
    lengths = torch.tensor([n_tokens, n_tokens - 2, n_tokens - 3])
    return torch.arange(n_tokens) < lengths[:, None]


# --- Language models -----------------------------------------------------------------------------


def language_model(
    name: str, theirs: nn.Module, ours: decoder.GPT, rules: renaming.Rules, special: str
) -> Case:
    """A model of Hugging Face and ours: the scores of a text, read at once and bit by bit.

    Hugging Face computes norms and angles in float32 whatever the weights are, hence `dtypes`.
    """
    return Case(
        f"Hugging Face {name}",
        f"logits, {special}",
        randomise(theirs),
        filled(ours, theirs, rules),
        rules,
        (token_ids(0, READ[-1]),),
        lambda model, ids: [model(ids).logits],
        lambda model, ids: [model(ids)],
        (torch.float32,),
        read_theirs,
        read_ours,
    )


def read_theirs(model: Any, ids: Tensor) -> list[Tensor]:
    """Logits of a text that Hugging Face's model reads on from its cache."""
    from transformers import DynamicCache

    cache, parts = DynamicCache(config=model.config), zip((0, *READ), READ, strict=False)
    return [model(ids[:, start:end], past_key_values=cache).logits for start, end in parts]


def read_ours(model: decoder.GPT, ids: Tensor) -> list[Tensor]:
    """Logits of a text that our model reads on from its cache."""
    cached = sampling.CachedModel(model, CONTEXT)
    return [cached(ids[:, :end]) for end in READ]
