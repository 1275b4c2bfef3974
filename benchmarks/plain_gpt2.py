"""What one would write without this course: a GPT-2 in plain torch, trained as is usual.

Its size and its settings are those that nanoGPT's guide gives for a small run on a processor.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, BATCH, LAYERS, HEADS, WIDTH = 64, 12, 4, 4, 128
STEPS, WARMUP, PEAK, FLOOR = 2000, 100, 1e-3, 1e-4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        together = self.query_key_value(x).unflatten(-1, (3, HEADS, -1))
        query, key, value = together.permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, d_head] each
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(heads.transpose(1, 2).flatten(-2))


class PlainGPT2(nn.Module):
    """Learned positions, pre-norm blocks, and a head that shares its weights with the embedding."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            into_stream = name.endswith(("output.weight", "down.weight"))
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS if into_stream else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1])
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.positions(positions))))


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW that lets matrices and tables decay, and nothing else."""
    decaying = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK,
        betas=(0.9, 0.99),
        fused=True,
    )


def crops(ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of pieces from random places: what is read, and what follows each token."""
    starts = torch.randint(len(ids) - CONTEXT, (BATCH, 1), generator=generator)
    pieces = ids[starts + torch.arange(CONTEXT + 1)]
    return pieces[:, :-1], pieces[:, 1:]


def step(
    model: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor, targets: Tensor
) -> None:
    """One step of training."""
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def train(model: nn.Module, ids: Tensor, seed: int) -> None:
    """The whole run, on random pieces of `ids`."""
    optimiser = adamw(model)
    generator = torch.Generator().manual_seed(seed)
    for number in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(number)
        step(model, optimiser, *crops(ids, generator))


def learning_rate(number: int) -> float:
    """Up in a straight line, then down along half a cosine."""
    if number < WARMUP:
        return PEAK * (number + 1) / (WARMUP + 1)
    progress = (number - WARMUP) / (STEPS - WARMUP)
    return FLOOR + (PEAK - FLOOR) * (1 + math.cos(math.pi * progress)) / 2
