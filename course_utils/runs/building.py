"""The model of a preset, and the optimiser for it."""

from functools import wraps

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_utils import decoder, modern, training
from course_utils.runs import optimisers, presets, seeds


def build(preset: presets.Preset, vocabulary: int) -> decoder.GPT:
    """The model of a preset, untrained. The same for the same `preset.seed`."""
    torch.manual_seed(seeds.for_torch(preset.seed))
    shape = vocabulary, preset.d_model, preset.n_heads, preset.n_layers
    if preset.parts == "modern":
        return modern.modern_gpt(*shape, preset.n_buckets, preset.longest, preset.drop)
    model = decoder.gpt(*shape, preset.block)
    if preset.tied:
        model.head.weight = model.embed.tokens.weight  # type: ignore[union-attr]
    training.init_weights(model, preset.n_layers)
    return model


def optimiser(preset: presets.Preset, model: nn.Module) -> Optimizer:
    """Muon and AdamW for modern parts. AdamW alone for GPT-2's, where only matrices decay."""
    if preset.parts == "modern":
        return optimisers.muon_and_adamw(
            model, preset.muon_lr, preset.adamw_lr, preset.weight_decay
        )
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": preset.weight_decay}, {"params": vectors}]
    return optimisers.AdamW(groups, preset.adamw_lr, betas=(0.9, 0.95))


def n_parameters(model: nn.Module) -> int:
    """How many numbers the model learns. Tied ones count once."""
    return sum(each.numel() for each in model.parameters())


def n_bytes(model: nn.Module) -> int:
    """What the numbers of a model take, learned or not. Tied ones count once."""
    numbers = (*model.parameters(), *model.buffers())
    return sum(each.numel() * each.element_size() for each in numbers)


def use_bfloat16(model: nn.Module, device: str) -> None:
    """Multiply matrices in bfloat16; weights, the stream and the logits stay in float32."""
    forward = model.forward
    kind = torch.device(device).type

    @wraps(forward)
    def narrow(ids: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            return forward(ids).float()

    model.forward = narrow


def check_compiler(device: str) -> None:
    """See that torch can compile here. Raises ValueError where it cannot."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"compile: torch cannot compile here ({reason}). Install a C++ compiler such as g++,"
            " clang or Visual Studio, or leave --compile away"
        ) from None
