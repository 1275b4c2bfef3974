"""Foreign weights under our names: rules as data, and a strict way to fill a model with them.

Every library names and stores the same matrices in its own way. What differs stands here, so that
the modules need not know: names, GPT-2's and torch's fused queries, keys and values, and GPT-2's
matrices, which are stored as [d_in, d_out].
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rule:
    """A tensor whose whole name fits `pattern` becomes the tensors named in `into`.

    It is transposed first, if `transposed`, and then cut into equal runs of rows, one for each
    name. With several `groups` (of a head's queries, keys and values) each is cut so, and what
    belongs together is joined. If `stacked`, all this is done to every entry of the first axis,
    whose number takes the place of # in the names. `skipped` rows at the beginning are left out,
    and the axes from number `flattened` on are made one. A tensor that becomes nothing is one that
    our model does not need.
    """

    pattern: str
    into: tuple[str, ...] = ()
    transposed: bool = False
    groups: int = 1
    stacked: bool = False
    skipped: int = 0
    flattened: int | None = None


Rules = tuple[Rule, ...]

NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # that weights may be
MOST_SHOWN = 20  # problems


def nested(rules: Rules, theirs: str, ours: str) -> Rules:
    """The rules for a model that stands inside another: under `theirs` (a pattern) and `ours`."""
    return tuple(
        replace(rule, pattern=theirs + rule.pattern, into=tuple(ours + name for name in rule.into))
        for rule in rules
    )


def rename(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The tensors under our names. One that no rule fits keeps its name."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for ours, piece in _apply_first_rule(name, tensor, rules).items():
            if ours in renamed and not _same(renamed[ours], piece):
                raise ValueError(f"two different tensors would become {ours}; one is {name}")
            renamed[ours] = piece
    return renamed


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same. NaN is the same as NaN here; no numbers are all alike."""
    if one.is_meta or one.shape != other.shape:
        return one.shape == other.shape
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _apply_first_rule(name: str, tensor: Tensor, rules: Rules) -> dict[str, Tensor]:
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match and not rule.into:
            return {}
        if match and tensor.ndim >= _axes(rule):
            names = [match.expand(template) for template in rule.into]
            if not rule.stacked:
                return dict(zip(names, _cut(tensor, rule), strict=True))
            return {
                name.replace("#", str(number)): piece
                for number, one in enumerate(tensor)
                for name, piece in zip(names, _cut(one, rule), strict=True)
            }
    return {name: tensor}


def _axes(rule: Rule) -> int:
    """How many axes a tensor must have for the rule."""
    has_rows = len(rule.into) > 1 or rule.skipped > 0
    return rule.stacked + max(has_rows, 1 + rule.flattened if rule.flattened else 0)


def _cut(tensor: Tensor, rule: Rule) -> Sequence[Tensor]:
    """The pieces of one tensor, in the order of the rule's names."""
    rows = tensor.transpose(0, -1) if rule.transposed else tensor
    rows = rows[rule.skipped :] if rule.skipped else rows
    rows = rows if rule.flattened is None else rows.flatten(rule.flattened)
    n_pieces = len(rule.into)
    if rule.groups == 1 or len(rows) % (rule.groups * n_pieces):  # the shape will be refused
        return rows.tensor_split(n_pieces) if n_pieces > 1 else [rows]
    pieces = rows.unflatten(0, (rule.groups, n_pieces, -1)).unbind(1)
    return [piece.flatten(0, 1) for piece in pieces]


# What other libraries put around a model: several GPUs, a compiler, memory savers.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


def unwrapped(name: str) -> str:
    """The name that a tensor had before its model was wrapped."""
    return _WRAPPERS.sub("", name)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], rules: Rules = ()) -> None:
    """Copy the tensors into the model: each parameter once, and nothing left over.

    Raises ValueError with everything that does not fit; the model is then left as it was.
    """
    found = rename(tensors, rules)
    refuse(misfits(model, found) or unsound(model, found))
    copy(model, found)


def refuse(problems: list[str]) -> None:
    """Raise ValueError where there is a problem."""
    if problems:
        raise ValueError("\n".join(["the weights do not fit the model", *_shortened(problems)]))


def copy(model: nn.Module, found: Mapping[str, Tensor]) -> None:
    """Copy tensors that fit into the model."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in found.items():
            parameters[name].copy_(tensor)


def _shortened(problems: list[str]) -> list[str]:
    rest = len(problems) - MOST_SHOWN
    return problems if rest <= 0 else [*problems[:MOST_SHOWN], f"and {rest} more"]


def misfits(model: nn.Module, found: Mapping[str, Tensor]) -> list[str]:
    """What is missing, left over or of another shape. Only shapes are looked at."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if found and not found.keys() & parameters.keys():
        return [
            f"names: of {len(found)} not one is known, such as {min(found)}. Is something in front"
            " of them, or is it another architecture?"
        ]
    problems = []
    for name, tensor in found.items():
        parameter = parameters.get(name)
        if parameter is None:
            problems.append(f"left over: {name} {list(tensor.shape)}")
        elif parameter.shape != tensor.shape:
            wanted = list(parameter.shape)
            problems.append(f"shape: {name} should be {wanted}, but is {list(tensor.shape)}")
    # A parameter with two names, such as a head tied to the embedding, is needed under one of them.
    there = {id(parameters[name]) for name in found.keys() & parameters.keys()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in there:
            problems.append(f"missing: {name} {list(parameter.shape)}")
    return problems


def unsound(
    model: nn.Module, found: Mapping[str, Tensor], filled: Container[str] = ()
) -> list[str]:
    """What is of another kind, not finite, or two things where there is one.

    The tensors have the right shapes. `filled` are the parameters that already have their values.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    given: dict[int, Tensor] = {
        id(each): each for name, each in parameters.items() if name in filled
    }
    problems = []
    for name, tensor in found.items():
        parameter = parameters[name]
        if tensor.dtype not in NUMBERS:
            kind = str(tensor.dtype).removeprefix("torch.")
            problems.append(f"kind: {name} is {kind}: quantised, and of no use without its scales")
        elif not tensor.isfinite().all():
            n_spoilt = int((~tensor.isfinite()).sum())
            problems.append(f"not finite: {name} has {n_spoilt} numbers that are NaN or infinite")
        elif not _same(*_both_as(parameter, given.setdefault(id(parameter), tensor), tensor)):
            problems.append(f"tied: {name} is one with another weight, but has other values")
    return problems


def _both_as(parameter: Tensor, *tensors: Tensor) -> list[Tensor]:
    """As they will be in the model, where a number of float64 is rounded."""
    return [tensor.to(parameter.dtype) for tensor in tensors]


# --- Hugging Face --------------------------------------------------------------------------------

# The prefix is there when the weights were saved together with a head.
GPT2: Rules = (
    *nested(
        (
            Rule(r"wte\.weight", ("embed.tokens.weight",)),
            Rule(r"wpe\.weight", ("embed.positions.weight",)),
            Rule(r"ln_f\.(weight|bias)", (r"norm.\1",)),
            Rule(r"h\.(\d+)\.ln_([12])\.(weight|bias)", (r"blocks.\1.norm\2.\3",)),
            Rule(
                r"h\.(\d+)\.attn\.c_attn\.(weight|bias)",
                tuple(rf"blocks.\1.attention.w_{name}.\2" for name in "qkv"),
                transposed=True,
            ),
            Rule(
                r"h\.(\d+)\.attn\.c_proj\.(weight|bias)",
                (r"blocks.\1.attention.w_o.\2",),
                transposed=True,
            ),
            Rule(
                r"h\.(\d+)\.mlp\.c_fc\.(weight|bias)",
                (r"blocks.\1.feed_forward.up.\2",),
                transposed=True,
            ),
            Rule(
                r"h\.(\d+)\.mlp\.c_proj\.(weight|bias)",
                (r"blocks.\1.feed_forward.down.\2",),
                transposed=True,
            ),
            Rule(r"h\.\d+\.attn\.(masked_)?bias"),  # the causal mask, which old files store
        ),
        theirs=r"(?:transformer\.)?",
        ours="",
    ),
    Rule(r"lm_head\.weight", ("head.weight",)),
)

# Old files call a norm's gain gamma and its shift beta.
_NORM = (r"LayerNorm\.(?:weight|gamma)", r"LayerNorm\.(?:bias|beta)")


def _norm(theirs: str, ours: str) -> Rules:
    return tuple(
        Rule(theirs + pattern, (f"{ours}.{name}",))
        for pattern, name in zip(_NORM, ("weight", "bias"), strict=True)
    )


_BERT: Rules = (
    Rule(r"embeddings\.word_embeddings\.weight", ("embed.tokens.weight",)),
    Rule(r"embeddings\.position_embeddings\.weight", ("embed.positions.weight",)),
    Rule(r"embeddings\.token_type_embeddings\.weight", ("embed.types.weight",)),
    *_norm(r"embeddings\.", "embed.norm"),
    *nested(
        (
            Rule(r"attention\.self\.([qkv])\w+\.(weight|bias)", (r"attention.w_\2.\3",)),
            Rule(r"attention\.output\.dense\.(weight|bias)", (r"attention.w_o.\2",)),
            *_norm(r"attention\.output\.", "norm1"),
            Rule(r"intermediate\.dense\.(weight|bias)", (r"feed_forward.up.\2",)),
            Rule(r"output\.dense\.(weight|bias)", (r"feed_forward.down.\2",)),
            *_norm(r"output\.", "norm2"),
        ),
        theirs=r"encoder\.layer\.(\d+)\.",
        ours=r"blocks.\1.",
    ),
    Rule(r"embeddings\.position_ids"),  # the numbers 0, 1, 2 …
    Rule(r"pooler\..*"),  # belongs to BERT's second task, as does seq_relationship
)

# The prefix is there when the weights were saved together with a head.
BERT: Rules = nested(_BERT, theirs=r"(?:bert\.)?", ours="")

BERT_MASKED: Rules = (
    *nested(_BERT, theirs=r"(?:bert\.)?", ours="encoder."),
    Rule(r"cls\.predictions\.transform\.dense\.(weight|bias)", (r"head.transform.\1",)),
    *_norm(r"cls\.predictions\.transform\.", "head.norm"),
    Rule(r"cls\.predictions\.decoder\.weight", ("head.out.weight",)),
    Rule(r"cls\.predictions\.(?:decoder\.)?bias", ("head.out.bias",)),
    Rule(r"cls\.seq_relationship\..*"),
)


# --- torch ---------------------------------------------------------------------------------------

TORCH_ATTENTION: Rules = (
    Rule(r"in_proj_weight", ("w_q.weight", "w_k.weight", "w_v.weight")),
    Rule(r"in_proj_bias", ("w_q.bias", "w_k.bias", "w_v.bias")),
    Rule(r"out_proj\.(weight|bias)", (r"w_o.\1",)),
)

_TORCH_FEED_FORWARD: Rules = (
    Rule(r"linear1\.(weight|bias)", (r"feed_forward.up.\1",)),
    Rule(r"linear2\.(weight|bias)", (r"feed_forward.down.\1",)),
)

# The norms are called norm1, norm2 and norm3 there, too.
TORCH_ENCODER_LAYER: Rules = (
    *nested(TORCH_ATTENTION, theirs=r"self_attn\.", ours="attention."),
    *_TORCH_FEED_FORWARD,
)

TORCH_DECODER_LAYER: Rules = (
    *nested(TORCH_ATTENTION, theirs=r"self_attn\.", ours="self_attention."),
    *nested(TORCH_ATTENTION, theirs=r"multihead_attn\.", ours="cross_attention."),
    *_TORCH_FEED_FORWARD,
)
