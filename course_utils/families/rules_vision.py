"""Names and layouts of ViT and CLIP under our names, as data."""

from course_utils.families.renaming import Rule, Rules, nested

# --- ViT -----------------------------------------------------------------------------------------

_VIT: Rules = (
    Rule(r"embeddings\.cls_token", ("embed.whole",), flattened=0),
    Rule(r"embeddings\.position_embeddings", ("embed.positions.weight",), stacked=True),
    Rule(
        r"embeddings\.patch_embeddings\.projection\.weight",
        ("embed.patches.weight",),
        flattened=1,
    ),
    Rule(r"embeddings\.patch_embeddings\.projection\.bias", ("embed.patches.bias",)),
    *nested(
        (
            Rule(r"layernorm_before\.(weight|bias)", (r"norm1.\2",)),
            Rule(r"layernorm_after\.(weight|bias)", (r"norm2.\2",)),
            Rule(r"attention\.attention\.([qkv])\w+\.(weight|bias)", (r"attention.w_\2.\3",)),
            Rule(r"attention\.output\.dense\.(weight|bias)", (r"attention.w_o.\2",)),
            Rule(r"intermediate\.dense\.(weight|bias)", (r"feed_forward.up.\2",)),
            Rule(r"output\.dense\.(weight|bias)", (r"feed_forward.down.\2",)),
            # What transformers 5 has in memory.
            Rule(r"attention\.([qkvo])_proj\.(weight|bias)", (r"attention.w_\2.\3",)),
            Rule(r"mlp\.fc1\.(weight|bias)", (r"feed_forward.up.\2",)),
            Rule(r"mlp\.fc2\.(weight|bias)", (r"feed_forward.down.\2",)),
        ),
        theirs=r"(?:encoder\.layer|layers)\.(\d+)\.",
        ours=r"blocks.\1.",
    ),
    Rule(r"layernorm\.(weight|bias)", (r"norm.\1",)),
    Rule(r"pooler\..*"),  # of no use without what it was trained for
)

# The prefix is there when the weights were saved together with a head.
VIT: Rules = nested(_VIT, theirs=r"(?:vit\.)?", ours="")

VIT_CLASSIFIER: Rules = (
    *nested(_VIT, theirs=r"(?:vit\.)?", ours="encoder."),
    Rule(r"classifier\.(weight|bias)", (r"head.\1",)),
)


# --- CLIP ----------------------------------------------------------------------------------------

_CLIP_TOWER: Rules = (
    Rule(r"embeddings\.position_embedding\.weight", ("embed.positions.weight",)),
    Rule(r"embeddings\.position_ids"),  # the numbers 0, 1, 2 …
    *nested(
        (
            Rule(r"self_attn\.([qkv])_proj\.(weight|bias)", (r"attention.w_\2.\3",)),
            Rule(r"self_attn\.out_proj\.(weight|bias)", (r"attention.w_o.\2",)),
            Rule(r"layer_norm([12])\.(weight|bias)", (r"norm\2.\3",)),
            Rule(r"mlp\.fc1\.(weight|bias)", (r"feed_forward.up.\2",)),
            Rule(r"mlp\.fc2\.(weight|bias)", (r"feed_forward.down.\2",)),
        ),
        theirs=r"encoder\.layers\.(\d+)\.",
        ours=r"blocks.\1.",
    ),
)

CLIP: Rules = (
    *nested(
        (
            *_CLIP_TOWER,
            Rule(r"embeddings\.token_embedding\.weight", ("embed.tokens.weight",)),
            Rule(r"final_layer_norm\.(weight|bias)", (r"norm.\1",)),
        ),
        theirs=r"text_model\.",
        ours="texts.",
    ),
    *nested(
        (
            *_CLIP_TOWER,
            Rule(r"embeddings\.class_embedding", ("embed.whole",)),
            Rule(r"embeddings\.patch_embedding\.weight", ("embed.patches.weight",), flattened=1),
            Rule(r"pre_layrnorm\.(weight|bias)", (r"embed.norm.\1",)),
            Rule(r"post_layernorm\.(weight|bias)", (r"norm.\1",)),
        ),
        theirs=r"vision_model\.",
        ours="images.",
    ),
    Rule(r"text_projection\.weight", ("texts.head.weight",)),
    Rule(r"visual_projection\.weight", ("image_head.weight",)),
    Rule(r"logit_scale", ("log_scale",)),
)
