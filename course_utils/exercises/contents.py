"""The course on one page: every part, in order, with its notebook.

The exercise of `attention.softmax` stands in `exercises/attention/softmax.py`.
"""

NOTEBOOKS = {
    "00": ("start_here.shape_of",),
    "01": (
        "projection.dot_and_cosine",
        "projection.is_linear",
        "projection.linear",
        "projection.embed",
        "projection.batched_shapes",
    ),
    "02": (
        "attention.project_qkv",
        "attention.attention_scores",
        "attention.mix_values",
        "attention.split_heads",
        "attention.merge_heads",
    ),
    "03": (
        "attention.softmax",
        "attention.score_scale",
        "attention.attention_weights",
        "attention.scaled_dot_product_attention",
        "attention.MultiHeadAttention",
    ),
    "04": (
        "positions.permutation_error",
        "positions.sinusoidal_positions",
        "positions.shift_matrix",
        "positions.add_positions",
        "positions.relative_bias",
        "positions.rope_angles",
        "positions.apply_rope",
    ),
    "05": (
        "encoder.layer_norm",
        "encoder.feed_forward",
        "encoder.residual_step",
        "encoder.TransformerBlock",
        "encoder.padding_mask",
        "encoder.mean_pool",
    ),
    "06": (
        "decoder.causal_mask",
        "decoder.shift_targets",
        "decoder.GPT",
        "decoder.DecoderBlock",
        "decoder.Seq2Seq",
    ),
    "07": (
        "training.cross_entropy",
        "training.attention_score_grad",
        "training.init_weights",
        "training.lr_at_step",
        "training.clip_gradients",
        "training.adamw_step",
        "training.accumulate",
        "training.train_step",
    ),
    "08": (
        "sampling.entropy",
        "sampling.perplexity",
        "sampling.apply_temperature",
        "sampling.top_k",
        "sampling.top_p",
        "sampling.min_p",
        "sampling.epsilon_cutoff",
        "sampling.penalise",
        "sampling.generate",
        "sampling.beam_search",
        "sampling.KVCache",
        "sampling.read_on",
    ),
    "09": (
        "scaling.count_parameters",
        "scaling.flops_per_token",
        "scaling.memory_report",
        "scaling.fit_power_law",
        "scaling.compute_optimal",
        "scaling.exact_match_from_digit",
    ),
}

RETIRED: dict[str, str] = {
    "decoder.next_token_logits": "it is `unembed @ h`, which notebook 06 shows",
}
"""Parts that the course had once, each with what became of it, as a sentence goes on: "it is …"."""

PARTS = tuple(part for parts in NOTEBOOKS.values() for part in parts)


def notebook_of(part: str) -> str:
    """The number of the notebook in which a part is written, such as "03"."""
    return next(number for number, parts in NOTEBOOKS.items() if part in parts)
