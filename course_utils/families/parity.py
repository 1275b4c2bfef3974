"""Our parts against models that we did not write: same weights in, same numbers out.

Each case builds a small model of Hugging Face or torch and ours beside it, copies the weights over,
asks both the same, and compares outputs and gradients, and what is read on from a cache.
"""

from collections.abc import Callable, Iterator

from course_utils.families import (
    cases_bert,
    cases_llamas,
    cases_seq2seq,
    cases_torch,
    cases_vision,
)
from course_utils.families.comparing import Case, Comparison, compare

CASES: dict[str, Callable[[], Case]] = {
    "self_attention": cases_torch.self_attention,
    "cross_attention": cases_torch.cross_attention,
    "encoder_layer_post": lambda: cases_torch.encoder_layer(norm_first=False),
    "encoder_layer_pre": lambda: cases_torch.encoder_layer(norm_first=True),
    "decoder_layer_post": lambda: cases_torch.decoder_layer(norm_first=False),
    "decoder_layer_pre": lambda: cases_torch.decoder_layer(norm_first=True),
    "rotary_attention": cases_llamas.rotary_attention,
    "gpt2": cases_bert.gpt2,
    "bert": cases_bert.bert,
    "bert_masked": cases_bert.bert_masked,
    "llama": cases_llamas.llama,
    "mistral": cases_llamas.mistral,
    "mixtral": cases_llamas.mixtral,
    "qwen3": cases_llamas.qwen3,
    "gpt_oss": cases_llamas.gpt_oss,
    "gpt_neox": cases_llamas.gpt_neox,
    "gpt_neox_in_turn": lambda: cases_llamas.gpt_neox(parallel=False),
    "t5": cases_seq2seq.t5,
    "t5_gated": cases_seq2seq.t5_gated,
    "bart": cases_seq2seq.bart,
    "whisper": cases_seq2seq.whisper,
    "vit": cases_vision.vit,
    "vit_classifier": cases_vision.vit_classifier,
    "clip": cases_vision.clip,
    "minilm": cases_bert.minilm,
}


# --- The table -----------------------------------------------------------------------------------


def comparisons(case: Case) -> Iterator[Comparison]:
    """The case in each of its precisions."""
    return (compare(case, dtype) for dtype in case.dtypes)


def report() -> bool:
    """Print a table of all cases; whether all that could be compared agree."""
    line = "{:30} {:28} {:8} {:>8} {:>10} {:>7} {:>10}  {}".format
    header = ("model", "compared", "numbers", "outputs", "gradients", "cached", "tolerance", "ok")
    print(line(*header))
    all_ok, left_out = True, []
    for name, build in CASES.items():
        try:
            case = build()
        except ModuleNotFoundError as error:
            left_out.append(f"not compared: {name}: {error}")
            continue
        for one in comparisons(case):
            all_ok &= one.ok
            numbers = str(one.dtype).removeprefix("torch.")
            figures = (one.outputs, one.gradients, one.cached, one.tolerance)
            shown = ("" if figure is None else f"{figure:.0e}" for figure in figures)
            print(line(one.model, one.compared, numbers, *shown, "yes" if one.ok else "NO"))
    for sentence in left_out:
        print(sentence)
    return all_ok
