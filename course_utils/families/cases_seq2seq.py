"""T5, BART and Whisper, which read or hear, and write, beside those of Hugging Face."""

from typing import Any

import torch
from torch import Tensor, nn

from course_utils import decoder, encoder
from course_utils.families import barts, renaming, rules_seq2seq, speech, t5s
from course_utils.families.cached import CachedSeq2Seq
from course_utils.families.comparing import (
    BATCH,
    CONTEXT,
    D_HIDDEN,
    D_MODEL,
    EPS,
    N_HEADS,
    READ,
    SOURCE,
    VOCABULARY,
    Case,
    filled,
    normal,
    randomise,
    real_tokens,
    token_ids,
)

# All sizes differ. Some distances have a range alone, some share one, some are beyond the reach.
D_HEAD, N_RANGES, REACH, N_ENCODER, N_DECODER, N_MELS = 5, 10, 7, 2, 3, 6


def _t5(**own: Any) -> tuple[Any, dict[str, Any]]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=D_MODEL,
        d_kv=D_HEAD,
        d_ff=D_HIDDEN,
        num_layers=N_ENCODER,
        num_decoder_layers=N_DECODER,
        num_heads=N_HEADS,
        relative_attention_num_buckets=N_RANGES,
        relative_attention_max_distance=REACH,
        layer_norm_epsilon=EPS,
        **own,
    )
    return T5ForConditionalGeneration(config), config.to_dict()


def t5() -> Case:
    """T5, whose head is its embedding."""
    theirs, config = _t5()
    return _seq2seq("T5", theirs, t5s.t5(config), rules_seq2seq.T5, "a shared bias")


def t5_gated() -> Case:
    """T5 v1.1, which has a gate, and a head of its own."""
    theirs, config = _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    # transformers 5 ties it, unless a file has another.
    theirs.lm_head.weight = nn.Parameter(torch.empty(VOCABULARY, D_MODEL))
    return _seq2seq("T5 v1.1", theirs, t5s.t5(config), rules_seq2seq.T5, "a gate, own head")


def bart() -> Case:
    """BART, with a bias for every token that is not 0, as it is in all files."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=D_MODEL,
        encoder_layers=N_ENCODER,
        encoder_attention_heads=N_HEADS,
        encoder_ffn_dim=D_HIDDEN,
        decoder_layers=N_DECODER,
        decoder_attention_heads=2 * N_HEADS,
        decoder_ffn_dim=D_HIDDEN + 2,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    theirs: Any = BartForConditionalGeneration(config)
    theirs.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
    ours, rules = barts.bart(config.to_dict()), rules_seq2seq.BART
    both = (torch.float32, torch.float64)
    return _seq2seq("BART", theirs, ours, rules, "post-norm", both)


def whisper() -> Case:
    """Whisper, which hears frames that are as many as it must have."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=N_MELS,
        d_model=D_MODEL,
        encoder_layers=N_ENCODER,
        encoder_attention_heads=N_HEADS,
        encoder_ffn_dim=D_HIDDEN,
        decoder_layers=N_DECODER,
        decoder_attention_heads=2 * N_HEADS,
        decoder_ffn_dim=D_HIDDEN + 2,
        max_source_positions=SOURCE,
        max_target_positions=CONTEXT,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    theirs = randomise(WhisperForConditionalGeneration(config))
    frames = normal((BATCH, N_MELS, 2 * SOURCE), torch.Generator().manual_seed(0))
    return Case(
        "Hugging Face Whisper",
        "logits, frames",
        theirs,
        filled(speech.whisper(config.to_dict()), theirs, rules_seq2seq.WHISPER),
        rules_seq2seq.WHISPER,
        (frames, token_ids(1, READ[-1])),
        lambda model, frames, target: [model(frames, decoder_input_ids=target).logits],
        lambda model, frames, target: [model(frames, target)],
        read_theirs=_read_theirs,
        read_ours=_read_ours,
    )


def _seq2seq(
    name: str,
    theirs: nn.Module,
    ours: decoder.Seq2Seq,
    rules: renaming.Rules,
    special: str,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
) -> Case:
    """The scores of a target, read at once and bit by bit, beside a padded source.

    T5's norms are computed in float32 by Hugging Face, hence `dtypes`.
    """
    real = real_tokens(SOURCE)
    mask = encoder.padding_mask(real.long(), 0)
    return Case(
        f"Hugging Face {name}",
        f"logits, {special}",
        randomise(theirs),
        filled(ours, theirs, rules),
        rules,
        (token_ids(0, SOURCE) * real, token_ids(1, READ[-1])),
        lambda model, source, target: [model(source, real, target).logits],
        lambda model, source, target: [model(source, target, mask)],
        dtypes,
        lambda model, source, target: _read_theirs(model, source, target, attention_mask=real),
        lambda model, source, target: _read_ours(model, source, target, mask),
    )


def _read_theirs(model: Any, source: Tensor, target: Tensor, **mask: Tensor) -> list[Tensor]:
    """Logits of a target that Hugging Face's model reads on from its caches."""
    from transformers import DynamicCache, EncoderDecoderCache

    known = {
        "encoder_outputs": model.get_encoder()(source, **mask),
        "past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache()),
        "use_cache": True,  # Whisper does not see that it is given one
    } | mask
    parts = zip((0, *READ), READ, strict=False)
    return [model(decoder_input_ids=target[:, start:end], **known).logits for start, end in parts]


def _read_ours(
    model: decoder.Seq2Seq, source: Tensor, target: Tensor, mask: Tensor | None = None
) -> list[Tensor]:
    """Logits of a target that our model reads on from what it remembers."""
    cached = CachedSeq2Seq(model, CONTEXT, source, mask)
    return [cached(target[:, :end]) for end in READ]
