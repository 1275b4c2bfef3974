"""Our parts against models that we did not write: same weights in, same numbers out.

Each case builds a small model of Hugging Face or torch and ours beside it, copies the weights over,
asks both the same, and compares outputs and gradients. The weights are random, and far from those
that a new model has: with gains of 1 and biases of 0, many mistakes cannot be seen.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils import attention, decoder, encoder, families, positions
from course_utils.families import renaming

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

# All sizes differ, and eps is large enough to be missed.
D_MODEL, N_HEADS, D_HIDDEN, CONTEXT, VOCABULARY, EPS = 24, 4, 40, 16, 37, 0.02
BATCH, TARGET, SOURCE = 3, 7, 9

Question = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Case:
    """Two models with the same weights, and how each is asked; both give a list of tensors."""

    model: str
    compared: str
    theirs: nn.Module
    ours: nn.Module
    rules: renaming.Rules
    inputs: tuple[Tensor, ...]
    ask_theirs: Question
    ask_ours: Question
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Comparison:
    """The largest differences between two models."""

    model: str
    compared: str
    dtype: torch.dtype
    outputs: float
    gradients: float

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]

    @property
    def ok(self) -> bool:
        return self.outputs <= self.tolerance and self.gradients <= self.tolerance  # NaN is not


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
    )


def answer(
    model: nn.Module, ask: Question, inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """A model's outputs, and the gradients of a random sum of them."""
    model = model.to(dtype).eval()
    model.zero_grad()
    leaves = [_leaf(x, dtype) for x in inputs]
    outputs = ask(model, *leaves)
    generator = torch.Generator().manual_seed(1)
    loss = sum((_normal(y.shape, generator).to(y) * y).sum() / y.numel() ** 0.5 for y in outputs)
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
            noise = _normal(parameter.shape, generator)
            parameter.copy_(1 + 0.2 * noise if is_gain else 0.15 * noise)
    return model


def _filled(ours: nn.Module, theirs: nn.Module, rules: renaming.Rules) -> nn.Module:
    renaming.fill(ours, theirs.state_dict(), rules)
    return ours


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _features(n_tokens: int, seed: int) -> Tensor:
    return _normal((BATCH, n_tokens, D_MODEL), torch.Generator().manual_seed(seed))


def _ids(seed: int, n_tokens: int = TARGET, vocabulary: int = VOCABULARY) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (BATCH, n_tokens), generator=generator)


def _real_tokens(n_tokens: int) -> Tensor:
    """True at real tokens: the first row is full, the others are padded at their ends."""
    lengths = torch.tensor([n_tokens, n_tokens - 2, n_tokens - 3])
    return torch.arange(n_tokens) < lengths[:, None]


# --- torch ---------------------------------------------------------------------------------------


def _torch_attention() -> tuple[nn.Module, nn.Module]:
    theirs = randomise(nn.MultiheadAttention(D_MODEL, N_HEADS, batch_first=True))
    ours = attention.MultiHeadAttention(D_MODEL, N_HEADS)
    return theirs, _filled(ours, theirs, renaming.TORCH_ATTENTION)


def self_attention() -> Case:
    """A causal `nn.MultiheadAttention`."""
    theirs, ours = _torch_attention()
    return Case(
        "torch MultiheadAttention",
        "self, causal",
        theirs,
        ours,
        renaming.TORCH_ATTENTION,
        (_features(TARGET, 0),),
        lambda model, x: [model(x, x, x, attn_mask=_hidden_from(x))[0]],
        lambda model, x: [model(x, mask=decoder.causal_mask(x.shape[1]))],
    )


def _hidden_from(x: Tensor) -> Tensor:
    """torch's causal mask: True where a query may not look."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)


def cross_attention() -> Case:
    """An `nn.MultiheadAttention` that asks another text."""
    theirs, ours = _torch_attention()
    return Case(
        "torch MultiheadAttention",
        "cross",
        theirs,
        ours,
        renaming.TORCH_ATTENTION,
        (_features(TARGET, 0), _features(SOURCE, 1)),
        lambda model, x, memory: [model(x, memory, memory)[0]],
        lambda model, x, memory: [model(x, memory)],
    )


def _torch_layer(layer: Callable[..., nn.Module], norm_first: bool) -> nn.Module:
    sizes = (D_MODEL, N_HEADS, D_HIDDEN)
    settings = {"dropout": 0.0, "activation": "gelu", "layer_norm_eps": EPS, "batch_first": True}
    return randomise(layer(*sizes, **settings, norm_first=norm_first))


def encoder_layer(norm_first: bool) -> Case:
    """An `nn.TransformerEncoderLayer` that reads a padded batch."""
    theirs = _torch_layer(nn.TransformerEncoderLayer, norm_first)
    ours = encoder.TransformerBlock(
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        encoder.FeedForward(D_MODEL, D_HIDDEN),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        norm_first,
    )
    real = _real_tokens(TARGET)
    return Case(
        "torch TransformerEncoderLayer",
        f"{'pre' if norm_first else 'post'}-norm, padded",
        theirs,
        _filled(ours, theirs, renaming.TORCH_ENCODER_LAYER),
        renaming.TORCH_ENCODER_LAYER,
        (_features(TARGET, 0),),
        lambda model, x: [model(x, src_key_padding_mask=~real)],
        lambda model, x: [model(x, encoder.padding_mask(real.long(), 0))],
    )


def decoder_layer(norm_first: bool) -> Case:
    """An `nn.TransformerDecoderLayer`: causal, and its source is padded."""
    theirs = _torch_layer(nn.TransformerDecoderLayer, norm_first)
    ours = decoder.DecoderBlock(
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        attention.MultiHeadAttention(D_MODEL, N_HEADS),
        encoder.FeedForward(D_MODEL, D_HIDDEN),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        encoder.LayerNorm(D_MODEL, EPS),
        norm_first,
    )
    real = _real_tokens(SOURCE)
    return Case(
        "torch TransformerDecoderLayer",
        f"{'pre' if norm_first else 'post'}-norm, padded",
        theirs,
        _filled(ours, theirs, renaming.TORCH_DECODER_LAYER),
        renaming.TORCH_DECODER_LAYER,
        (_features(TARGET, 0), _features(SOURCE, 1)),
        lambda model, x, memory: [
            model(x, memory, tgt_mask=_hidden_from(x), memory_key_padding_mask=~real)
        ],
        lambda model, x, memory: [
            model(x, memory, decoder.causal_mask(TARGET), encoder.padding_mask(real.long(), 0))
        ],
    )


# --- Hugging Face --------------------------------------------------------------------------------


def gpt2() -> Case:
    """GPT-2 with its language head."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=D_MODEL,
        n_layer=3,
        n_head=N_HEADS,
        n_inner=D_HIDDEN,
        layer_norm_epsilon=EPS,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = randomise(GPT2LMHeadModel(config))
    return Case(
        "Hugging Face GPT-2",
        "logits",
        theirs,
        _filled(families.gpt2(config.to_dict()), theirs, renaming.GPT2),
        renaming.GPT2,
        (_ids(0),),
        lambda model, ids: [model(ids).logits],
        lambda model, ids: [model(ids)],
    )


def _bert_config() -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=D_MODEL,
        num_hidden_layers=3,
        num_attention_heads=N_HEADS,
        intermediate_size=D_HIDDEN,
        max_position_embeddings=CONTEXT,
        type_vocab_size=2,
        layer_norm_eps=EPS,
    )


def bert() -> Case:
    """BERT's states at real tokens, after the embedding and after every block."""
    from transformers import BertModel

    config = _bert_config()
    theirs = randomise(BertModel(config, add_pooling_layer=False))
    real, types = _real_tokens(TARGET), _ids(1, vocabulary=3) - 1
    return Case(
        "Hugging Face BERT",
        "hidden states, padded",
        theirs,
        _filled(families.bert(config.to_dict()), theirs, renaming.BERT),
        renaming.BERT,
        (_ids(0) * real,),
        lambda model, ids: [
            state[real]
            for state in model(ids, real, types, output_hidden_states=True).hidden_states
        ],
        lambda model, ids: [
            state[real] for state in states(model, ids, encoder.padding_mask(ids, 0), types)
        ],
    )


def bert_masked() -> Case:
    """BERT's scores of every token at every real place of a padded batch."""
    from transformers import BertForMaskedLM

    config = _bert_config()
    theirs = randomise(BertForMaskedLM(config))
    real, types = _real_tokens(TARGET), _ids(1, vocabulary=3) - 1
    return Case(
        "Hugging Face BERT",
        "masked-token logits, padded",
        theirs,
        _filled(families.bert_masked(config.to_dict()), theirs, renaming.BERT_MASKED),
        renaming.BERT_MASKED,
        (_ids(0) * real,),
        lambda model, ids: [model(ids, real, types).logits[real]],
        lambda model, ids: [model(ids, encoder.padding_mask(ids, 0), types)[real]],
    )


def rotary_attention() -> Case:
    """Llama's attention, which turns queries and keys (RoPE)."""
    from transformers import LlamaConfig
    from transformers.models.llama import modeling_llama as llama

    config = LlamaConfig(hidden_size=D_MODEL, num_attention_heads=N_HEADS, attention_bias=True)
    config.attn_implementation = "eager"
    theirs = randomise(llama.LlamaAttention(config, layer_idx=0))
    rotary, places = llama.LlamaRotaryEmbedding(config), torch.arange(TARGET)[None]
    hidden = torch.full((TARGET, TARGET), -math.inf).triu(1)
    ours = positions.RotaryAttention(D_MODEL, N_HEADS)
    return Case(
        "Hugging Face Llama attention",
        "RoPE, causal",
        theirs,
        _filled(ours, theirs, renaming.LLAMA_ATTENTION),
        renaming.LLAMA_ATTENTION,
        (_features(TARGET, 0),),
        lambda model, x: [model(x, rotary(x, places), hidden)[0]],
        lambda model, x: [model(x, mask=decoder.causal_mask(x.shape[1]))],
        dtypes=(torch.float32,),  # Hugging Face computes the angles in float32
    )


def minilm() -> Case:
    """The embeddings of a trained model, all-MiniLM-L6-v2; here the weights are its own."""
    from transformers import BertConfig, BertModel

    ours, folder = families.minilm(), families.minilm_folder()
    theirs = BertModel(BertConfig.from_json_file(folder / "config.json"))
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.position_ids"]  # 0, 1, 2 …: today's BertModel makes them itself
    theirs.load_state_dict(weights)
    ids = ours.ids(["The car is red.", "A vehicle of a bright colour", "It rains", "unbelievable"])
    real = ids != ours.pad_id

    def embed(model: nn.Module, ids: Tensor) -> list[Tensor]:
        last = model(ids, real.long()).last_hidden_state
        means = torch.stack([row[kept].mean(0) for row, kept in zip(last, real, strict=True)])
        return [means / means.norm(dim=-1, keepdim=True)]

    return Case(
        "MiniLM (Hugging Face BERT)",
        "sentence embeddings",
        theirs,
        ours,
        renaming.nested(renaming.BERT, theirs="", ours="encoder."),
        (ids,),
        embed,
        lambda model, ids: [model.embed(ids)],
        dtypes=(torch.float32,),
    )


def states(model: encoder.Encoder, *inputs: Tensor) -> list[Tensor]:
    """What leaves an encoder's embedding and each of its blocks."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: found.append(output))
        for module in (model.embed, *model.blocks)
    ]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


CASES: dict[str, Callable[[], Case]] = {
    "self_attention": self_attention,
    "cross_attention": cross_attention,
    "encoder_layer_post": lambda: encoder_layer(norm_first=False),
    "encoder_layer_pre": lambda: encoder_layer(norm_first=True),
    "decoder_layer_post": lambda: decoder_layer(norm_first=False),
    "decoder_layer_pre": lambda: decoder_layer(norm_first=True),
    "rotary_attention": rotary_attention,
    "gpt2": gpt2,
    "bert": bert,
    "bert_masked": bert_masked,
    "minilm": minilm,
}


# --- The table -----------------------------------------------------------------------------------


def comparisons(case: Case) -> Iterator[Comparison]:
    """The case in each of its precisions."""
    return (compare(case, dtype) for dtype in case.dtypes)


def report() -> bool:
    """Print a table of all cases; whether all that could be compared agree."""
    line = "{:30} {:28} {:8} {:>8} {:>10} {:>10}  {}".format
    header = ("model", "compared", "numbers", "outputs", "gradients", "tolerance", "ok")
    print(line(*header))
    all_ok, left_out = True, []
    for name, build in CASES.items():
        try:
            case = build()
        except ModuleNotFoundError as error:
            left_out.append(f"not compared: {name}: {error}")
            continue
        for one in comparisons(case):
            all_ok &= one.ok
            numbers = str(one.dtype).removeprefix("torch.")
            figures = (f"{figure:.0e}" for figure in (one.outputs, one.gradients, one.tolerance))
            print(line(one.model, one.compared, numbers, *figures, "yes" if one.ok else "NO"))
    for sentence in left_out:
        print(sentence)
    return all_ok
