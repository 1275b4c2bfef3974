"""What a later family, T5, needs finds its place without a change in a block or a model of ours.

The parts below are written in few lines, composed by `TransformerBlock` and `Encoder` as they are,
and compared with the encoder of T5, as in `course_utils.families.parity`.
CONTRIBUTING.md, "Model families", says the same in words.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from course_utils import attention, encoder, modern, positions
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
N_LAYERS, REACH = 2, 6


def linear(d_in: int, d_out: int) -> Linear:
    return Linear(d_in, d_out, bias=False)


# --- The parts -----------------------------------------------------------------------------------


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


def norm() -> nn.Module:
    return modern.RMSNorm(D_MODEL, EPS)


# --- The models ----------------------------------------------------------------------------------


def embedding() -> nn.Module:
    """Tokens only: their order comes in by attention."""
    return positions.InputEmbedding(Embedding(comparing.VOCABULARY, D_MODEL), nn.Identity())


def t5() -> nn.Module:
    bias = BucketedBias(8, N_HEADS)
    blocks = [
        encoder.TransformerBlock(T5Attention(bias), ReluFeedForward(), norm(), norm())
        for _ in range(N_LAYERS)
    ]
    return encoder.Encoder(embedding(), blocks, norm())


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
