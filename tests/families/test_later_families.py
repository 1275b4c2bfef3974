"""What later families need finds its place without a change in a block or a model of ours.

The parts below are written in few lines, composed by `TransformerBlock`, `Encoder` and `GPT` as
they are, and compared with models of others, as in `course_utils.families.parity`.
CONTRIBUTING.md, "Model families", says the same in words.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import attention, decoder, encoder, positions
from course_utils.families import comparing
from course_utils.families.renaming import Rule, Rules, fill, nested
from course_utils.projection import Embedding, Linear

transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')

D_MODEL, D_HIDDEN, N_HEADS, EPS = (
    comparing.D_MODEL,
    comparing.D_HIDDEN,
    comparing.N_HEADS,
    comparing.EPS,
)
N_GROUPS, N_EXPERTS, N_LAYERS, WINDOW, REACH = 2, 5, 2, 3, 6


def linear(d_in: int, d_out: int) -> Linear:
    return Linear(d_in, d_out, bias=False)


# --- The parts -----------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    """Divides by the root of the mean square: a norm without mean and shift."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D_MODEL))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + EPS) * self.weight


class SwiGLU(nn.Module):
    """A feed-forward net that multiplies what it widens by a gate."""

    def __init__(self):
        super().__init__()
        self.gate = linear(D_MODEL, D_HIDDEN)
        self.up = linear(D_MODEL, D_HIDDEN)
        self.down = linear(D_HIDDEN, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MixtureOfExperts(nn.Module):
    """Feed-forward nets with a router that sends every token through two of them."""

    def __init__(self):
        super().__init__()
        self.router = linear(D_MODEL, N_EXPERTS)
        self.gate_and_up = nn.Parameter(torch.zeros(N_EXPERTS, 2 * D_HIDDEN, D_MODEL))
        self.down = nn.Parameter(torch.zeros(N_EXPERTS, D_MODEL, D_HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        best, chosen = self.router(x).softmax(-1).topk(2)
        shares = best / best.sum(-1, keepdim=True)
        gate, up = torch.einsum("btd,ehd->bteh", x, self.gate_and_up).chunk(2, -1)
        outputs = torch.einsum("bteh,edh->bted", F.silu(gate) * up, self.down)
        return (shares[..., None] * outputs.take_along_dim(chosen[..., None], -2)).sum(-2)


class GroupedAttention(nn.Module):
    """Rotary attention in which several heads share one head of keys and values."""

    def __init__(self):
        super().__init__()
        shared = D_MODEL // N_HEADS * N_GROUPS
        self.w_q, self.w_o = linear(D_MODEL, D_MODEL), linear(D_MODEL, D_MODEL)
        self.w_k, self.w_v = linear(D_MODEL, shared), linear(D_MODEL, shared)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query = attention.split_heads(self.w_q(x), N_HEADS)
        key = attention.split_heads(self.w_k(x), N_GROUPS)
        value = attention.split_heads(self.w_v(x), N_GROUPS)
        angles = positions.rope_angles(*query.shape[-2:])
        query, key = positions.apply_rope(query, angles), positions.apply_rope(key, angles)
        key, value = (each.repeat_interleave(N_HEADS // N_GROUPS, 1) for each in (key, value))
        heads = attention.scaled_dot_product_attention(query, key, value, mask)
        return self.w_o(attention.merge_heads(heads))


class Windowed(nn.Module):
    """Lets an attention see no further back than a window, which counts the token itself."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.inner(x, mask & torch.ones_like(mask).triu(1 - WINDOW))


class BucketedBias(nn.Embedding):
    """T5's bias: a number for each head and each range of distances; far ones share a range."""

    def forward(self, n_tokens: int) -> Tensor:
        half, places = self.num_embeddings // 2, torch.arange(n_tokens)
        distance = places - places[:, None]
        exact = half // 2
        growth = (distance.abs() / exact).log() / math.log(REACH / exact)
        far = (exact + growth.clamp_min(0) * (half - exact)).long().clamp_max(half - 1)
        near_or_far = torch.where(distance.abs() < exact, distance.abs(), far)
        return self.weight[near_or_far + half * (distance > 0)].permute(2, 0, 1)


class T5Attention(nn.Module):
    """Attention whose scores are not scaled, and have a bias that all layers share."""

    def __init__(self, bias: BucketedBias):
        super().__init__()
        self.w_q, self.w_k = linear(D_MODEL, D_MODEL), linear(D_MODEL, D_MODEL)
        self.w_v, self.w_o = linear(D_MODEL, D_MODEL), linear(D_MODEL, D_MODEL)
        self.bias = bias

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        maps = (self.w_q, self.w_k, self.w_v)
        query, key, value = (attention.split_heads(w(x), N_HEADS) for w in maps)
        query = query / attention.score_scale(query.shape[-1])
        bias = self.bias(x.shape[1])
        heads = attention.scaled_dot_product_attention(query, key, value, mask, bias)
        return self.w_o(attention.merge_heads(heads))


class ReluFeedForward(nn.Module):
    """T5's feed-forward net."""

    def __init__(self):
        super().__init__()
        self.up, self.down = linear(D_MODEL, D_HIDDEN), linear(D_HIDDEN, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


# --- The models ----------------------------------------------------------------------------------


def embedding() -> nn.Module:
    """Tokens only: their order comes in by attention."""
    return positions.InputEmbedding(Embedding(comparing.VOCABULARY, D_MODEL), nn.Identity())


def blocks(make_attention, make_feed_forward) -> list[nn.Module]:
    return [
        encoder.TransformerBlock(make_attention(), make_feed_forward(), RMSNorm(), RMSNorm())
        for _ in range(N_LAYERS)
    ]


def llama_like(make_attention, make_feed_forward) -> nn.Module:
    head = linear(D_MODEL, comparing.VOCABULARY)
    return decoder.GPT(embedding(), blocks(make_attention, make_feed_forward), RMSNorm(), head)


def t5() -> nn.Module:
    bias = BucketedBias(8, N_HEADS)
    return encoder.Encoder(
        embedding(), blocks(lambda: T5Attention(bias), ReluFeedForward), RMSNorm()
    )


def llama_rules(attention_path: str) -> Rules:
    return (
        Rule(r"model\.embed_tokens\.weight", ("embed.tokens.weight",)),
        Rule(r"model\.norm\.weight", ("norm.weight",)),
        Rule(r"lm_head\.weight", ("head.weight",)),
        *nested(
            (
                Rule(r"self_attn\.([qkvo])_proj\.weight", (rf"{attention_path}.w_\2.weight",)),
                Rule(r"input_layernorm\.weight", ("norm1.weight",)),
                Rule(r"post_attention_layernorm\.weight", ("norm2.weight",)),
                Rule(r"mlp\.(gate|up|down)_proj\.weight", (r"feed_forward.\2.weight",)),
                Rule(r"mlp\.gate\.weight", ("feed_forward.router.weight",)),
                Rule(r"mlp\.experts\.gate_up_proj", ("feed_forward.gate_and_up",)),
                Rule(r"mlp\.experts\.down_proj", ("feed_forward.down",)),
            ),
            theirs=r"model\.layers\.(\d+)\.",
            ours=r"blocks.\1.",
        ),
    )


T5: Rules = (
    Rule(r"shared\.weight|encoder\.embed_tokens\.weight", ("embed.tokens.weight",)),
    Rule(r"encoder\.final_layer_norm\.weight", ("norm.weight",)),
    *nested(
        (
            Rule(r"0\.SelfAttention\.([qkvo])\.weight", (r"attention.w_\2.weight",)),
            Rule(r"0\.SelfAttention\.relative_attention_bias\.weight", ("attention.bias.weight",)),
            Rule(r"0\.layer_norm\.weight", ("norm1.weight",)),
            Rule(r"1\.DenseReluDense\.wi\.weight", ("feed_forward.up.weight",)),
            Rule(r"1\.DenseReluDense\.wo\.weight", ("feed_forward.down.weight",)),
            Rule(r"1\.layer_norm\.weight", ("norm2.weight",)),
        ),
        theirs=r"encoder\.block\.(\d+)\.layer\.",
        ours=r"blocks.\1.",
    ),
)


# --- The comparison ------------------------------------------------------------------------------

LLAMA_SIZES = {
    "vocab_size": comparing.VOCABULARY,
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_GROUPS,
    "intermediate_size": D_HIDDEN,
    "rms_norm_eps": EPS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


def agree(theirs: nn.Module, ours: nn.Module, rules: Rules, answer: str) -> bool:
    """Whether outputs and gradients of both are the same, once they have the same weights."""
    comparing.randomise(theirs)
    fill(ours, theirs.state_dict(), rules)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(comparing.VOCABULARY, (3, 11), generator=generator)
    case = comparing.Case(
        theirs.__class__.__name__,
        answer,
        theirs,
        ours,
        rules,
        (ids,),
        lambda model, ids: [model(ids)[answer]],
        lambda model, ids: [model(ids)],
    )
    return comparing.compare(case).ok


def test_rms_norm_swiglu_grouped_heads_and_a_window_are_mistrals() -> None:
    config = transformers.MistralConfig(**LLAMA_SIZES, sliding_window=WINDOW)
    ours = llama_like(lambda: Windowed(GroupedAttention()), SwiGLU)
    theirs = transformers.MistralForCausalLM(config)
    assert agree(theirs, ours, llama_rules("attention.inner"), "logits")


def test_a_mixture_of_experts_is_mixtrals() -> None:
    config = transformers.MixtralConfig(**LLAMA_SIZES, num_local_experts=N_EXPERTS)
    ours = llama_like(GroupedAttention, MixtureOfExperts)
    assert agree(transformers.MixtralForCausalLM(config), ours, llama_rules("attention"), "logits")


def test_a_bias_that_layers_share_is_t5s() -> None:
    config = transformers.T5Config(
        vocab_size=comparing.VOCABULARY,
        d_model=D_MODEL,
        d_kv=D_MODEL // N_HEADS,
        d_ff=D_HIDDEN,
        num_layers=N_LAYERS,
        num_heads=N_HEADS,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=REACH,
        layer_norm_epsilon=EPS,
    )
    assert agree(transformers.T5EncoderModel(config), t5(), T5, "last_hidden_state")
