"""GPT-NeoX, composed of our parts: attention and feed-forward read the same stream."""

from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_utils import decoder, encoder, modern, positions
from course_utils.families import builders
from course_utils.families.config import Config, need, require, rope
from course_utils.projection import Embedding


class ParallelBlock(encoder.TransformerBlock):
    """A pre-norm block whose two steps read the stream at once, and both add to it.

    Neither waits for the other (Wang & Komatsuzaki 2021; Black et al. 2022, §2.1.2).
    """

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """`mask` says which tokens a token may look at, as in `attention.attention_weights`."""
        return x + self.attention(self.norm1(x), mask=mask) + self.feed_forward(self.norm2(x))


def gpt_neox(config: Config) -> decoder.GPT:
    """GPT-NeoX, and Pythia: parallel blocks that turn a part of every head; not yet filled."""
    need(config, "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    need(config, "vocab_size", "layer_norm_eps")
    require(config, hidden_act="gelu", attention_bias=True)
    d_model = config["hidden_size"]
    norm = partial(encoder.LayerNorm, d_model, config["layer_norm_eps"])
    make_block = (
        ParallelBlock if config.get("use_parallel_residual", True) else encoder.TransformerBlock
    )
    tokens = Embedding(config["vocab_size"], d_model)
    blocks = [
        make_block(
            _attention(config),
            encoder.FeedForward(d_model, config["intermediate_size"]),
            norm(),
            norm(),
        )
        for _ in range(config["num_hidden_layers"])
    ]
    return decoder.GPT(
        positions.InputEmbedding(tokens, nn.Identity()),
        blocks,
        norm(),
        builders.head(tokens, {"tie_word_embeddings": False} | config, bias=False),
    )


def _attention(config: Config) -> nn.Module:
    """Attention with biases. Older files call the numbers of its rotation by other names."""
    d_model, n_heads = config["hidden_size"], config["num_attention_heads"]
    older = {"rope_theta": config.get("rotary_emb_base", 10000.0)}
    said = {"partial_rotary_factor": config.get("rotary_pct", 0.25)} | rope(older | config)
    d_turned = int(d_model // n_heads * said["partial_rotary_factor"])
    rotary = modern.Rotary(d_turned, said["rope_theta"])
    return modern.GroupedAttention(d_model, n_heads, n_heads, rotary=rotary, biases="qkvo")
