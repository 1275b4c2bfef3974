"""Names and layouts of Llama and its kin, and of GPT-NeoX, under our names, as data.

Some rules depend on the model: on its windows, on how many heads are stored in one matrix.
"""

from typing import Any

from course_utils import decoder, modern
from course_utils.families.renaming import Rule, Rules, nested

ALONE: Rules = (Rule(r"([qkvo])_proj\.(weight|bias)", (r"w_\1.\2",)),)  # one attention

ATTENTION: Rules = (
    Rule(r"([qkvo])_proj\.(weight|bias)", (r"w_\2.\3",)),
    Rule(r"([qk])_norm\.weight", (r"norm_\2.weight",)),  # Qwen3
    Rule(r"sinks", ("sinks",)),  # gpt-oss
    Rule(r"rotary_emb\.inv_freq"),  # which old files store
)

BLOCK: Rules = (
    Rule(r"input_layernorm\.weight", ("norm1.weight",)),
    Rule(r"post_attention_layernorm\.weight", ("norm2.weight",)),
    Rule(r"mlp\.(gate|up|down)_proj\.weight", (r"feed_forward.\2.weight",)),
)

# Mixtral's files have a matrix for each expert. transformers 5 stacks them in memory.
MIXTRAL: Rules = (
    Rule(r"(?:block_sparse_moe|mlp)\.gate\.weight", ("feed_forward.router.weight",)),
    *(
        Rule(
            rf"block_sparse_moe\.experts\.(\d+)\.{theirs}\.weight",
            (rf"feed_forward.experts.\2.{ours}.weight",),
        )
        for theirs, ours in (("w1", "gate"), ("w2", "down"), ("w3", "up"))
    ),
    Rule(
        r"mlp\.experts\.gate_up_proj",
        ("feed_forward.experts.#.gate.weight", "feed_forward.experts.#.up.weight"),
        stacked=True,
    ),
    Rule(r"mlp\.experts\.down_proj", ("feed_forward.experts.#.down.weight",), stacked=True),
)


NEOX: Rules = (
    Rule(r"attention\.dense\.(weight|bias)", (r"attention.w_o.\2",)),
    Rule(r"mlp\.dense_h_to_4h\.(weight|bias)", (r"feed_forward.up.\2",)),
    Rule(r"mlp\.dense_4h_to_h\.(weight|bias)", (r"feed_forward.down.\2",)),
    Rule(r"input_layernorm\.(weight|bias)", (r"norm1.\2",)),
    Rule(r"post_attention_layernorm\.(weight|bias)", (r"norm2.\2",)),
    Rule(r"attention\.(?:masked_bias|bias|rotary_emb\.inv_freq)"),  # which old files store
)


def _gpt_oss_block(d_hidden: int) -> Rules:
    """Experts are stacked and stored as [d_in, d_out]; rows of gate and up take turns."""
    gate_and_up = tuple(f"feed_forward.experts.#.{name}" for name in ("gate", "up"))
    down = "feed_forward.experts.#.down"
    return (
        Rule(r"mlp\.router\.(weight|bias)", (r"feed_forward.router.\2",)),
        Rule(
            r"mlp\.experts\.gate_up_proj",
            tuple(f"{name}.weight" for name in gate_and_up),
            transposed=True,
            groups=d_hidden,
            stacked=True,
        ),
        Rule(
            r"mlp\.experts\.gate_up_proj_bias",
            tuple(f"{name}.bias" for name in gate_and_up),
            groups=d_hidden,
            stacked=True,
        ),
        Rule(r"mlp\.experts\.down_proj", (f"{down}.weight",), transposed=True, stacked=True),
        Rule(r"mlp\.experts\.down_proj_bias", (f"{down}.bias",), stacked=True),
    )


def _llama(model: decoder.GPT, block: Rules) -> Rules:
    """Rules for a model of llamas.py. Where a layer has a window, its attention is inside."""
    layer = r"model\.layers\.{}\."
    windowed = [
        str(number)
        for number, each in enumerate(model.blocks)
        if isinstance(each.attention, modern.Windowed)
    ]
    inside = layer.format(f"({'|'.join(windowed)})") + r"self_attn\."
    plain = layer.format(r"(\d+)")
    return (
        Rule(r"model\.embed_tokens\.weight", ("embed.tokens.weight",)),
        *(nested(ATTENTION, inside, r"blocks.\1.attention.inner.") if windowed else ()),
        *nested(ATTENTION, plain + r"self_attn\.", r"blocks.\1.attention."),
        *nested(BLOCK + block, plain, r"blocks.\1."),
        Rule(r"model\.norm\.weight", ("norm.weight",)),
        Rule(r"lm_head\.weight", ("head.weight",)),
    )


def llama(model: decoder.GPT) -> Rules:
    """Rules for Llama, Mistral and Qwen3."""
    return _llama(model, ())


def mixtral(model: decoder.GPT) -> Rules:
    """Rules for Mixtral."""
    return _llama(model, MIXTRAL)


def gpt_oss(model: decoder.GPT) -> Rules:
    """Rules for gpt-oss."""
    net: Any = model.blocks[0].feed_forward
    return _llama(model, _gpt_oss_block(net.experts[0].gate.out_features))


def gpt_neox(model: decoder.GPT) -> Rules:
    """Rules for GPT-NeoX, whose queries, keys and values stand together head by head."""
    attention: Any = model.blocks[0].attention
    return (
        Rule(r"gpt_neox\.embed_in\.weight", ("embed.tokens.weight",)),
        *nested(
            (
                Rule(
                    r"attention\.query_key_value\.(weight|bias)",
                    tuple(rf"attention.w_{name}.\2" for name in "qkv"),
                    groups=attention.n_heads,
                ),
                *NEOX,
            ),
            theirs=r"gpt_neox\.layers\.(\d+)\.",
            ours=r"blocks.\1.",
        ),
        Rule(r"gpt_neox\.final_layer_norm\.(weight|bias)", (r"norm.\1",)),
        Rule(r"(?:embed_out|lm_head)\.weight", ("head.weight",)),
    )
