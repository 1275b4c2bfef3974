"""Names and layouts of T5, BART and Whisper under our names, as data."""

from course_utils.families.renaming import Rule, Rules, nested

# --- T5 ------------------------------------------------------------------------------------------

_T5_FEED_FORWARD: Rules = (
    Rule(r"DenseReluDense\.(?:wi|wi_1)\.weight", ("feed_forward.up.weight",)),
    Rule(r"DenseReluDense\.wi_0\.weight", ("feed_forward.gate.weight",)),  # v1.1
    Rule(r"DenseReluDense\.wo\.weight", ("feed_forward.down.weight",)),
)


def _t5_self_attention(ours: str) -> Rules:
    """The bias, which all layers share, is stored with the first."""
    return (
        Rule(r"0\.SelfAttention\.([qkvo])\.weight", (rf"{ours}.inner.w_\2.weight",)),
        Rule(r"0\.SelfAttention\.relative_attention_bias\.weight", (f"{ours}.bias.weight",)),
        Rule(r"0\.layer_norm\.weight", ("norm1.weight",)),
    )


T5: Rules = (
    Rule(r"(?:shared|(?:en|de)coder\.embed_tokens)\.weight", ("encoder.embed.tokens.weight",)),
    Rule(r"encoder\.final_layer_norm\.weight", ("encoder.norm.weight",)),
    Rule(r"decoder\.final_layer_norm\.weight", ("norm.weight",)),
    Rule(r"lm_head\.weight", ("head.weight",)),
    *nested(
        (
            *_t5_self_attention("attention"),
            Rule(r"1\.layer_norm\.weight", ("norm2.weight",)),
            *nested(_T5_FEED_FORWARD, theirs=r"1\.", ours=""),
        ),
        theirs=r"encoder\.block\.(\d+)\.layer\.",
        ours=r"encoder.blocks.\1.",
    ),
    *nested(
        (
            *_t5_self_attention("self_attention"),
            Rule(r"1\.EncDecAttention\.([qkvo])\.weight", (r"cross_attention.w_\2.weight",)),
            Rule(r"1\.EncDecAttention\.relative_attention_bias\.weight"),  # which nothing used
            Rule(r"1\.layer_norm\.weight", ("norm2.weight",)),
            Rule(r"2\.layer_norm\.weight", ("norm3.weight",)),
            *nested(_T5_FEED_FORWARD, theirs=r"2\.", ours=""),
        ),
        theirs=r"decoder\.block\.(\d+)\.layer\.",
        ours=r"blocks.\1.",
    ),
)


# --- BART ----------------------------------------------------------------------------------------


def _bart_attention(theirs: str, ours: str) -> Rules:
    return (
        Rule(theirs + r"\.([qkv])_proj\.(weight|bias)", (rf"{ours}.w_\2.\3",)),
        Rule(theirs + r"\.out_proj\.(weight|bias)", (rf"{ours}.w_o.\2",)),
    )


def _bart_layer(norms: tuple[str, ...]) -> Rules:
    """What encoder and decoder have in common. The norms are in the order of the steps."""
    return (
        Rule(r"fc1\.(weight|bias)", (r"feed_forward.up.\2",)),
        Rule(r"fc2\.(weight|bias)", (r"feed_forward.down.\2",)),
        *(
            Rule(rf"{name}_layer_norm\.(weight|bias)", (rf"norm{number}.\2",))
            for number, name in enumerate(norms, start=1)
        ),
    )


def _bart_embedding(theirs: str, ours: str) -> Rules:
    """The table of positions begins with two rows that no token stands at."""
    return (
        Rule(theirs + r"embed_positions\.weight", (f"{ours}embed.positions.weight",), skipped=2),
        Rule(theirs + r"layernorm_embedding\.(weight|bias)", (rf"{ours}embed.norm.\1",)),
        Rule(theirs + r"version"),  # which old files store
    )


_BART_BLOCKS: Rules = (
    *nested(
        _bart_attention("self_attn", "attention") + _bart_layer(("self_attn", "final")),
        theirs=r"encoder\.layers\.(\d+)\.",
        ours=r"encoder.blocks.\1.",
    ),
    *nested(
        (
            *_bart_attention("self_attn", "self_attention"),
            *_bart_attention("encoder_attn", "cross_attention"),
            *_bart_layer(("self_attn", "encoder_attn", "final")),
        ),
        theirs=r"decoder\.layers\.(\d+)\.",
        ours=r"blocks.\1.",
    ),
)

BART: Rules = (
    *nested(
        (
            Rule(
                r"(?:shared|(?:en|de)coder\.embed_tokens)\.weight",
                ("encoder.embed.tokens.weight",),
            ),
            *_bart_embedding(r"encoder\.", "encoder."),
            *_bart_embedding(r"decoder\.", ""),
            *_BART_BLOCKS,
        ),
        theirs=r"(?:model\.)?",  # there when it was saved together with its head
        ours="",
    ),
    Rule(r"lm_head\.weight", ("head.weight",)),
    Rule(r"final_logits_bias", ("head.bias",), flattened=0),  # [1, vocabulary] there
)


# --- Whisper -------------------------------------------------------------------------------------

WHISPER: Rules = (
    *nested(
        (
            Rule(r"encoder\.conv1\.(weight|bias)", (r"encoder.embed.near.\1",)),
            Rule(r"encoder\.conv2\.(weight|bias)", (r"encoder.embed.halve.\1",)),
            Rule(r"encoder\.embed_positions\.weight", ("encoder.embed.positions.weight",)),
            Rule(r"encoder\.layer_norm\.(weight|bias)", (r"encoder.norm.\1",)),
            Rule(r"decoder\.embed_tokens\.weight", ("embed.tokens.weight",)),
            Rule(r"decoder\.embed_positions\.weight", ("embed.positions.weight",)),
            Rule(r"decoder\.layer_norm\.(weight|bias)", (r"norm.\1",)),
            *_BART_BLOCKS,
        ),
        theirs=r"model\.",
        ours="",
    ),
    Rule(r"proj_out\.weight", ("head.weight",)),
)
