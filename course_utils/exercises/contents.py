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
    ),
    "02": (
        "attention.project_qkv",
        "attention.attention_scores",
        "attention.mix_values",
        "attention.split_heads",
        "attention.merge_heads",
    ),
    "03": (
        "attention.score_scale",
        "attention.softmax",
        "attention.attention_weights",
        "attention.scaled_dot_product_attention",
        "attention.MultiHeadAttention",
    ),
    "04": (
        "positions.permutation_error",
        "positions.sinusoidal_positions",
        "positions.shift_matrix",
        "positions.add_positions",
        "positions.apply_rope",
        "positions.relative_bias",
    ),
    "05": (
        "encoder.layer_norm",
        "encoder.feed_forward",
        "encoder.residual_step",
        "encoder.TransformerBlock",
        "encoder.Encoder",
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
        "training.Scalar",
        "training.cross_entropy",
        "training.attention_score_grad",
        "training.init_weights",
        "training.lr_at_step",
        "training.adamw_step",
        "training.clip_gradients",
        "training.train_step",
        "training.accumulate",
    ),
    "08": (
        "sampling.generate",
        "sampling.entropy",
        "sampling.perplexity",
        "sampling.apply_temperature",
        "sampling.top_k",
        "sampling.top_p",
        "sampling.min_p",
        "sampling.KVCache",
        "sampling.read_on",
        "sampling.penalise",
        "sampling.extend_beams",
    ),
    "09": (
        "scaling.count_parameters",
        "scaling.flops_per_token",
        "scaling.memory_report",
        "scaling.fit_power_law",
        "scaling.foretell",
        "scaling.compute_optimal",
    ),
    "10": (
        "tokenization.count_pairs",
        "tokenization.merge_pair",
        "tokenization.train_bpe",
        "tokenization.bpe_encode",
        "tokenization.pair_score",
        "tokenization.wordpiece_encode",
    ),
    "11": (
        "interpretability.head_scores",
        "interpretability.ablate_head",
        "interpretability.patch",
        "interpretability.logit_lens",
        "interpretability.fit_probe",
        "interpretability.induction_score",
    ),
    "12": (
        "modern.rms_norm",
        "modern.swiglu",
        "modern.repeat_kv",
        "modern.sliding_window_mask",
        "modern.route",
        "modern.balance_loss",
    ),
    "13": (
        "inference.step_seconds",
        "inference.kv_cache_bytes",
        "inference.online_softmax_attention",
        "inference.accept",
        "inference.leftover",
        "inference.quantise",
    ),
    "14": (
        "efficiency.checkpointed",
        "efficiency.scaled_step",
        "efficiency.mean_gradient",
        "efficiency.column_then_row",
        "efficiency.bubble",
        "efficiency.mfu",
    ),
    "15": (
        "objectives.mask_tokens",
        "objectives.span_corrupt",
        "objectives.infill",
        "objectives.attention_pool",
        "objectives.info_nce",
    ),
}

RETIRED: dict[str, str] = {
    "projection.batched_shapes": "it is a table of shapes to predict in notebook 01",
    "positions.rope_angles": "it is shown in notebook 04: the angles of the sinusoids once more",
    "encoder.padding_mask": "it is one line that notebook 05 shows",
    "decoder.next_token_logits": "it is `unembed @ h`, which notebook 06 shows",
    "sampling.beam_search": "it is now given, and one step of it is sampling.extend_beams",
    "sampling.epsilon_cutoff": "it is one filter more of the same kind; the package keeps it",
    "scaling.exact_match_from_digit": "it is a power, p ** n_digits, and notebook 09 writes it out",
}
"""Parts that the course had once, each with what became of it, as a sentence goes on: "it is …"."""

PARTS = tuple(part for parts in NOTEBOOKS.values() for part in parts)


def notebook_of(part: str) -> str:
    """The number of the notebook in which a part is written, such as "03"."""
    return next(number for number, parts in NOTEBOOKS.items() if part in parts)
