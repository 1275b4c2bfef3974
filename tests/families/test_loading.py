"""Files of others: what is read, and that whatever is wrong with them is said, with its file."""

import json
import re
import sys
import weakref
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_utils import families, modern, projection
from course_utils.families import comparing, loading, parity, renaming

transformers = pytest.importorskip("transformers", reason='pip install -e ".[parity]"')

SAVED = {
    "gpt2": transformers.GPT2LMHeadModel,
    "bert": transformers.BertModel,
    "bert_masked": transformers.BertForMaskedLM,
}
NEWER = ["llama", "mistral", "mixtral", "qwen3", "gpt_oss", "gpt_neox", "gpt_neox_in_turn"]
SEQ2SEQ = ["t5", "t5_gated", "bart", "whisper"]
PICTURES = ["vit", "vit_classifier", "clip"]


def save(name: str, folder: Path, **options: object) -> comparing.Case:
    """Hugging Face's model of a case, saved in a folder as Hugging Face saves it."""
    case = parity.CASES[name]()
    case.theirs.save_pretrained(folder, **options)
    return case


def change(folder: Path, update: dict, remove: tuple[str, ...] = ()) -> None:
    """Change tensors in a saved model."""
    weights = load_file(folder / "model.safetensors") | update
    kept = {name: tensor for name, tensor in weights.items() if name not in remove}
    save_file(kept, folder / "model.safetensors")


def same(model: nn.Module, case: comparing.Case) -> bool:
    """Whether the loaded model answers as the case's model does."""
    with torch.no_grad():
        wanted, found = (case.ask_ours(which, *case.inputs) for which in (case.ours, model))
    return all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))


@pytest.mark.parametrize("name", [*SAVED, *NEWER, *SEQ2SEQ, *PICTURES])
def test_a_folder_is_loaded(name: str, tmp_path: Path) -> None:
    case = save(name, tmp_path)
    model = families.load(tmp_path)
    assert same(model, case)
    assert not model.training
    assert same(families.load(str(tmp_path)), case)


@pytest.mark.parametrize("name", [*SAVED, *NEWER, *SEQ2SEQ, *PICTURES])
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
    own = torch.randn(comparing.VOCABULARY, comparing.D_MODEL)
    change(tmp_path, {"lm_head.weight": own})
    model = families.load(tmp_path)
    assert torch.equal(model.head.weight, own)
    assert not torch.equal(model.embed.tokens.weight, own)


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    model = families.load(tmp_path)
    assert model.head.weight is model.embed.tokens.weight
    change(tmp_path, {"lm_head.weight": torch.zeros(comparing.VOCABULARY, comparing.D_MODEL)})
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
    ((name, patterns),) = asked
    files = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", loading.INDEX]
    others = ["consolidated.safetensors", "original/model.safetensors", "pytorch_model.bin"]
    fetched = [file for file in files + others if any(fnmatch(file, one) for one in patterns)]
    assert name == "somebody/gpt2" and fetched == files


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


# --- What is wrong with the files ----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save("gpt2", tmp_path)
    return tmp_path


def configured(folder: Path, **changes: object) -> None:
    """Change settings; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    removed = {name for name, value in changes.items() if value is None}
    kept = {name: value for name, value in config.items() if name not in removed}
    path.write_text(json.dumps(kept), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        families.load(folder)
    return str(caught.value)


def test_numbers_that_are_none_are_named(folder: Path) -> None:
    names = "lm_head.weight", "transformer.wte.weight"
    spoilt = load_file(folder / "model.safetensors")["transformer.wte.weight"].clone()
    spoilt[1, 2:4] = torch.tensor([torch.nan, torch.inf])
    change(folder, {name: spoilt.clone() for name in names})
    said = refusal(folder)
    assert "not finite: embed.tokens.weight has 2 numbers that are NaN or infinite" in said
    assert "tied" not in said


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_weights_without_their_scales_are_refused(dtype: torch.dtype, folder: Path) -> None:
    weight = torch.ones(comparing.D_MODEL, 3 * comparing.D_MODEL, dtype=dtype)
    change(folder, {"transformer.h.1.attn.c_attn.weight": weight})
    kind = str(dtype).removeprefix("torch.")
    assert f"kind: blocks.1.attention.w_k.weight is {kind}: quantised" in refusal(folder)


def test_a_quantised_model_is_refused(folder: Path) -> None:
    configured(folder, quantization_config={"quant_method": "gptq"})
    assert "config.json says that the weights are quantised" in refusal(folder)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "is a pointer of git-lfs, not the file itself: `git lfs pull`"),
        (b"", "is not whole, or not "),
        (None, "is not whole, or not "),
        (b"\xff\xfe\x00 \x07 something else entirely", "is not whole, or not "),
    ],
    ids=["pointer", "empty", "half", "other"],
)
def test_a_file_that_is_not_whole_is_named(
    content: bytes | None, message: str, name: str, folder: Path
) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert f"{path} {message}" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{folder / name} is a folder, should be a file" in refusal(folder)


def test_a_file_in_place_of_the_folder_is_named(folder: Path) -> None:
    assert "give the folder that it is in" in refusal(folder / "model.safetensors")


def test_a_config_may_begin_with_a_mark(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert isinstance(families.load(folder), nn.Module)


def test_a_config_must_hold_names(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]", encoding="utf-8")
    assert "config.json must hold names with values, got [1, 2]" in refusal(folder)


LLAMA = (
    "hidden_size num_attention_heads num_hidden_layers intermediate_size vocab_size rms_norm_eps"
)
NEEDED = {
    "gpt2": "n_embd n_head n_layer n_positions vocab_size layer_norm_epsilon",
    "bert": "hidden_size num_attention_heads num_hidden_layers intermediate_size vocab_size"
    " max_position_embeddings type_vocab_size layer_norm_eps",
    "llama": LLAMA,
    "mistral": f"{LLAMA} sliding_window",
    "mixtral": f"{LLAMA} num_local_experts num_experts_per_tok",
    "qwen3": f"{LLAMA} head_dim",
    "gpt_oss": f"{LLAMA} head_dim sliding_window num_local_experts num_experts_per_tok",
    "gpt_neox": LLAMA.replace("rms", "layer"),
    "t5": "d_model d_kv d_ff num_heads num_layers vocab_size layer_norm_epsilon"
    " relative_attention_num_buckets",
    "whisper": "d_model vocab_size num_mel_bins max_source_positions max_target_positions"
    " encoder_layers encoder_attention_heads encoder_ffn_dim decoder_layers"
    " decoder_attention_heads decoder_ffn_dim",
    "vit": "hidden_size num_attention_heads num_hidden_layers intermediate_size layer_norm_eps"
    " image_size patch_size num_channels",
    "bart": "d_model vocab_size max_position_embeddings encoder_layers encoder_attention_heads"
    " encoder_ffn_dim decoder_layers decoder_attention_heads decoder_ffn_dim",
}


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model, names in NEEDED.items() for name in names.split()]
)
def test_a_number_that_is_not_there_is_named(model: str, name: str, tmp_path: Path) -> None:
    save(model, tmp_path)
    configured(tmp_path, **{name: None})
    assert f"config.json has no {name}; a " in refusal(tmp_path)
    for wrong in ("24", 0, -3, [2]):
        configured(tmp_path, **{name: wrong})
        assert f"config.json says {name} = {wrong!r}; a " in refusal(tmp_path)


@pytest.mark.parametrize("named", [None, [], "MambaForCausalLM"])
def test_an_architecture_that_is_not_said_is_asked_for(named: object, folder: Path) -> None:
    configured(folder, architectures=named)
    assert f"the architectures {named}; one of GPT2LMHeadModel" in refusal(folder)


def test_one_architecture_may_stand_without_a_list(folder: Path) -> None:
    configured(folder, architectures="GPT2LMHeadModel")
    assert isinstance(families.load(folder), nn.Module)


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", ""])
@pytest.mark.parametrize("head", ["kept", "taken", "given"])
def test_what_was_put_in_front_of_names_is_taken_away(
    head: str, prefix: str, name: str, tmp_path: Path
) -> None:
    """By what wrapped the model, and by the head that it was saved with, or without."""
    case = save(name, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    inner = "transformer." if name == "gpt2" else "bert."
    if head == "taken":
        weights = {each.removeprefix(inner): tensor for each, tensor in weights.items()}
    if head == "given" and name == "bert":
        weights = {inner + each: tensor for each, tensor in weights.items()}
    wrapped = {prefix + each: tensor for each, tensor in weights.items()}
    save_file(wrapped, tmp_path / "model.safetensors")
    assert same(families.load(tmp_path), case)


def test_wrapped_blocks_are_unwrapped(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    wrapped = {re.sub(r"(h\.\d+\.)", r"\1_orig_mod.", name): each for name, each in weights.items()}
    assert wrapped.keys() != weights.keys()
    save_file(wrapped, folder / "model.safetensors")
    assert isinstance(families.load(folder), nn.Module)


def test_names_of_another_kind_are_one_reason(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({f"net.{name}": each for name, each in weights.items()}, folder / "model.safetensors")
    said = refusal(folder)
    assert f"names: of {len(weights)} not one is known, such as net.transformer.h.0" in said
    assert len(said.splitlines()) == 2


def test_a_long_list_is_cut(folder: Path) -> None:
    strange = {f"adapter.{number}": torch.zeros(1) for number in range(50)}
    change(folder, strange)
    *_, last = said = refusal(folder).splitlines()
    assert last == "and 30 more" and len(said) == 22


def test_a_number_in_place_of_a_matrix_is_named(folder: Path) -> None:
    change(folder, {"transformer.h.1.attn.c_attn.bias": torch.tensor(1.0)})
    said = refusal(folder)
    assert "left over: transformer.h.1.attn.c_attn.bias []" in said


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    save("gpt2", tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    (tmp_path / "notes.safetensors").write_bytes(b"not one of the model's")
    assert isinstance(families.load(tmp_path), nn.Module)
    shards[1].unlink()
    assert f"names {shards[1].name}, which is not there: fetch it, too" in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    assert "index.json has no weight_map" in refusal(tmp_path)


# --- Several files -------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save("gpt2", tmp_path, max_shard_size="10KB")
    return tmp_path


def moved(folder: Path, name: str, file: str) -> None:
    """Let the index say that the tensor is in that file."""
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"][name] = file
    path.write_text(json.dumps(index), encoding="utf-8")


def test_an_index_that_names_the_wrong_file_is_refused(shards: Path) -> None:
    first, *_, last = sorted(shards.glob("*.safetensors"))
    name = min(load_file(last))
    moved(shards, name, first.name)
    assert f"says that {name} is in {first.name}: it is not" in refusal(shards)


def test_an_index_that_names_what_is_nowhere_is_refused(shards: Path) -> None:
    last = max(shards.glob("*.safetensors")).name
    moved(shards, "transformer.h.9.ln_1.bias", last)
    assert f"says that transformer.h.9.ln_1.bias is in {last}: it is not" in refusal(shards)


def test_a_tensor_that_the_index_does_not_say_is_refused(shards: Path) -> None:
    last = max(shards.glob("*.safetensors"))
    save_file(load_file(last) | {"adapter.weight": torch.zeros(2)}, last)
    assert f"{last.name} has adapter.weight, which " in refusal(shards)


def test_what_does_not_fit_is_known_before_a_number_is_read(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(shards, n_embd=20)
    monkeypatch.setattr(loading, "_read_tensors", lambda path: pytest.fail("was read"))
    assert "shape: embed.tokens.weight should be [37, 20], but is [37, 24]" in refusal(shards)


def test_one_file_at_a_time_is_in_memory(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = loading._read_tensors, []

    def watched(path: Path) -> dict[str, torch.Tensor]:
        assert not any(tensor() is not None for tensor in seen)
        tensors = read(path)
        seen.extend(weakref.ref(tensor) for tensor in tensors.values())
        return tensors

    monkeypatch.setattr(loading, "_read_tensors", watched)
    families.load(shards)
    assert len(seen) > 20


def test_numbers_that_are_none_are_named_in_every_file(shards: Path) -> None:
    last = max(shards.glob("*.safetensors"))
    spoilt = {name: tensor * torch.nan for name, tensor in load_file(last).items()}
    save_file(spoilt, last)
    assert "not finite: blocks.2." in refusal(shards)


@pytest.mark.parametrize("other", [False, True])
def test_a_tied_head_in_another_file_must_be_the_same(other: bool, shards: Path) -> None:
    """A file of float64 is rounded before it is compared."""
    head = torch.zeros(0)
    for file in shards.glob("*.safetensors"):
        head = load_file(file).get("transformer.wte.weight", head)
    save_file({"lm_head.weight": head.double() + 1e-12 + other}, shards / "more.safetensors")
    moved(shards, "lm_head.weight", "more.safetensors")
    if other:
        assert "tied: " in refusal(shards)
    else:
        assert isinstance(families.load(shards), nn.Module)


# --- Llama and its kin ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "mistral", "mixtral", "qwen3", "gpt_oss", "gpt_neox"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_head_may_be_tied_or_not(tied: bool, name: str, tmp_path: Path) -> None:
    """What Hugging Face makes of the folder is what we make of it."""
    save(name, tmp_path)
    configured(tmp_path, tie_word_embeddings=tied)
    files = load_file(tmp_path / "model.safetensors")
    key = "embed_out.weight" if name == "gpt_neox" else "lm_head.weight"
    files.pop(key, None)
    if not tied:
        files[key] = 0.15 * torch.randn(comparing.VOCABULARY, comparing.D_MODEL)
    save_file(files, tmp_path / "model.safetensors")
    ours = families.load(tmp_path)
    assert (ours.head.weight is ours.embed.tokens.weight) == tied
    assert_the_same(ours, tmp_path)


def assert_the_same(ours: nn.Module, folder: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = comparing.token_ids(5, 11)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "gpt_neox", "vit_classifier"])
def test_what_transformers_has_in_memory_fits_too(name: str) -> None:
    """Mixtral's experts are stacked there; its files have a matrix for each."""
    case = parity.CASES[name]()
    build, rules = loading.FAMILIES[type(case.theirs).__name__]
    ours = build(case.theirs.config.to_dict())
    renaming.fill(ours, case.theirs.state_dict(), rules(ours))
    assert same(ours.eval(), case)


def test_a_mixtral_file_has_a_matrix_for_each_expert(tmp_path: Path) -> None:
    save("mixtral", tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert "model.layers.1.block_sparse_moe.experts.5.w3.weight" in names
    families.load(tmp_path)


@pytest.mark.parametrize("name", ["llama", "mistral", "mixtral"])
def test_an_older_config_is_read(name: str, tmp_path: Path) -> None:
    """The base of RoPE stood beside the other numbers, and what was usual was left out."""
    case = save(name, tmp_path)
    base = case.theirs.config.rope_parameters["rope_theta"]
    configured(tmp_path, rope_parameters=None, rope_theta=base, attention_bias=None, mlp_bias=None)
    assert same(families.load(tmp_path), case)


def test_an_older_config_of_neox_is_read(tmp_path: Path) -> None:
    case = save("gpt_neox", tmp_path)
    rope = case.theirs.config.rope_parameters
    older = {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": rope["rope_theta"]}
    configured(tmp_path, rope_parameters=None, use_parallel_residual=None, **older)
    layer, strange = "gpt_neox.layers.1.attention.", torch.zeros(1, 1, 16, 16)
    change(tmp_path, {layer + "bias": strange, layer + "rotary_emb.inv_freq": torch.ones(2)})
    assert same(families.load(tmp_path), case)


def test_heads_need_no_groups_and_no_size_of_their_own(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=comparing.VOCABULARY,
        hidden_size=comparing.D_MODEL,
        num_hidden_layers=2,
        num_attention_heads=comparing.N_HEADS,
        intermediate_size=comparing.D_HIDDEN,
        rms_norm_eps=comparing.EPS,
    )
    comparing.randomise(transformers.LlamaForCausalLM(config)).save_pretrained(tmp_path)
    configured(tmp_path, head_dim=None, num_key_value_heads=None, rope_parameters=None)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    save_file(weights, tmp_path / "model.safetensors")
    ours = families.load(tmp_path)
    del weights["model.layers.0.self_attn.rotary_emb.inv_freq"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert_the_same(ours, tmp_path)


@pytest.mark.parametrize("name", ["mistral", "mixtral"])
@pytest.mark.parametrize("window", [None, 2])
def test_there_may_be_a_window_or_none(window: int | None, name: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["sliding_window"] = window
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ours = families.load(tmp_path)
    assert isinstance(ours.blocks[0].attention, modern.Windowed) == (window is not None)
    assert_the_same(ours, tmp_path)


def test_layers_of_gpt_oss_may_have_windows_in_any_order(tmp_path: Path) -> None:
    save("gpt_oss", tmp_path)
    kinds = ["full_attention", "sliding_attention", "sliding_attention"]
    configured(tmp_path, layer_types=kinds)
    ours = families.load(tmp_path)
    windows = [isinstance(block.attention, modern.Windowed) for block in ours.blocks]
    assert windows == [False, True, True]
    assert_the_same(ours, tmp_path)


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 50.0}


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        *(
            (name, {"rope_parameters": YARN}, "rope_parameters of the type 'yarn'")
            for name in NEWER
        ),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_scaling of"),
        ("llama", {"attention_bias": True}, "attention_bias = True"),
        ("llama", {"mlp_bias": True}, "mlp_bias = True"),
        *((name, {"hidden_act": "relu"}, "hidden_act = 'relu'") for name in NEWER),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window = True"),
        ("gpt_oss", {"attention_bias": False}, "attention_bias = False"),
        ("gpt_oss", {"layer_types": ["full_attention"]}, "layer_types"),
        ("gpt_oss", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ("gpt_neox", {"attention_bias": False}, "attention_bias = False"),
        (
            "mixtral",
            {"quantization_config": {"quant_method": "mxfp4"}},
            "that the weights are quantised",
        ),
        (
            "gpt_oss",
            {"quantization_config": {"quant_method": "mxfp4"}},
            "that the weights are quantised",
        ),
    ],
)
def test_a_variant_of_llama_that_is_not_built_is_refused(
    name: str, setting: dict, said: str, tmp_path: Path
) -> None:
    save(name, tmp_path)
    configured(tmp_path, **setting)
    assert f"config.json says {said}" in refusal(tmp_path)


# --- T5, BART and Whisper ------------------------------------------------------------------------


def assert_they_write_the_same(ours: nn.Module, folder: Path) -> None:
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    source, target = comparing.token_ids(5, 11), comparing.token_ids(6)
    with torch.no_grad():
        wanted = theirs(source, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, target), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("older", [False, True])
def test_the_head_of_t5_is_its_embedding_or_has_weights_of_its_own(
    older: bool, scaled: bool, tmp_path: Path
) -> None:
    """transformers 5 says in another place than older files which of both it is."""
    case = save("t5" if scaled else "t5_gated", tmp_path)
    if older:
        configured(tmp_path, scale_decoder_outputs=None, tie_word_embeddings=scaled)
    ours = families.load(tmp_path)
    assert (ours.head.weight is ours.embed.tokens.weight) == scaled
    assert same(ours, case)
    assert_they_write_the_same(ours, tmp_path)


def test_an_older_file_of_t5_is_read(tmp_path: Path) -> None:
    """It says less, and it has a bias that nothing used."""
    config = transformers.T5Config(
        vocab_size=comparing.VOCABULARY, d_model=24, d_kv=5, d_ff=40, num_layers=2, num_heads=4
    )
    theirs = comparing.randomise(transformers.T5ForConditionalGeneration(config))
    theirs.save_pretrained(tmp_path)
    said = ("num_decoder_layers", "relative_attention_max_distance", "feed_forward_proj")
    configured(tmp_path, **dict.fromkeys((*said, "tie_word_embeddings", "scale_decoder_outputs")))
    name, table = "layer.1.EncDecAttention.relative_attention_bias.weight", torch.ones(32, 4)
    change(tmp_path, {f"decoder.block.0.{name}": table})
    ours = families.load(tmp_path)
    source, target = comparing.token_ids(5, 200), comparing.token_ids(6, 150)
    with torch.no_grad():
        wanted = theirs.eval()(source, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, target), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_embeddings_of_bart_may_be_scaled(scaled: bool, tmp_path: Path) -> None:
    save("bart", tmp_path)
    configured(tmp_path, scale_embedding=scaled)
    assert_they_write_the_same(families.load(tmp_path), tmp_path)


def test_a_file_of_barts_body_gets_its_head(tmp_path: Path) -> None:
    case = save("bart", tmp_path)
    case.theirs.model.save_pretrained(tmp_path)
    change(tmp_path, {"encoder.version": torch.ones(1)})
    ours = families.load(tmp_path)
    change(tmp_path, {}, remove=("encoder.version",))
    assert ours.head.weight is ours.embed.tokens.weight and ours.head.bias is None
    assert_they_write_the_same(ours, tmp_path)


def test_every_copy_of_an_embedding_must_be_the_same(tmp_path: Path) -> None:
    case = save("bart", tmp_path)
    shared = load_file(tmp_path / "model.safetensors")["model.shared.weight"]
    copies = {
        f"model.{part}.embed_tokens.weight": shared.clone() for part in ("encoder", "decoder")
    }
    change(tmp_path, copies | {"lm_head.weight": shared.clone()})
    assert same(families.load(tmp_path), case)
    change(tmp_path, {"model.decoder.embed_tokens.weight": shared + 1})
    assert "two different tensors would become encoder.embed.tokens.weight" in refusal(tmp_path)


@pytest.mark.parametrize("weight", [torch.tensor(1.0), torch.ones(16, 24), torch.ones(24)])
def test_places_of_bart_in_another_shape_are_named(weight: torch.Tensor, tmp_path: Path) -> None:
    save("bart", tmp_path)
    change(tmp_path, {"model.encoder.embed_positions.weight": weight})
    assert "encoder.embed" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("t5", {"feed_forward_proj": "gated-silu"}),
        ("t5_gated", {"feed_forward_proj": "gelu"}),
        ("bart", {"activation_function": "relu"}),
        ("bart", {"normalize_before": True}),
        ("bart", {"add_final_layer_norm": True}),
        ("whisper", {"activation_function": "relu"}),
        ("whisper", {"scale_embedding": True}),
        ("vit", {"hidden_act": "gelu_new"}),
        ("vit_classifier", {"qkv_bias": False}),
    ],
)
def test_a_variant_that_is_not_built_is_refused(name: str, setting: dict, tmp_path: Path) -> None:
    save(name, tmp_path)
    configured(tmp_path, **setting)
    ((key, value),) = setting.items()
    assert f"config.json says {key} = {value!r}; " in refusal(tmp_path)


def test_a_head_of_whisper_may_be_stored_or_not(tmp_path: Path) -> None:
    case = save("whisper", tmp_path)
    name = "model.decoder.embed_tokens.weight"
    tokens = load_file(tmp_path / "model.safetensors")[name]
    change(tmp_path, {"proj_out.weight": tokens.clone()})
    assert same(families.load(tmp_path), case)
    change(tmp_path, {"proj_out.weight": tokens + 1})
    assert "tied: " in refusal(tmp_path)


# --- ViT and CLIP --------------------------------------------------------------------------------


def test_a_file_of_vit_may_have_a_pooler(tmp_path: Path) -> None:
    case = save("vit", tmp_path)
    pooler = {"pooler.dense.weight": torch.ones(24, 24), "pooler.dense.bias": torch.ones(24)}
    change(tmp_path, pooler)
    assert same(families.load(tmp_path), case)


def test_two_classes_need_no_names(tmp_path: Path) -> None:
    save("vit_classifier", tmp_path)
    configured(tmp_path, id2label=None, label2id=None)
    change(tmp_path, {"classifier.weight": torch.ones(2, 24), "classifier.bias": torch.ones(2)})
    assert families.load(tmp_path).head.out_features == 2


def clip_configured(folder: Path, texts: dict, images: dict) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"] |= texts
    config["vision_config"] |= images
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("texts", "images"),
    [
        ({"hidden_act": "gelu"}, {}),
        ({}, {"hidden_act": "gelu"}),
        ({"eos_token_id": 2}, {}),  # the first files say so, and mean the last token
        ({"eos_token_id": 36}, {}),
    ],
)
def test_clip_is_what_its_file_says(texts: dict, images: dict, tmp_path: Path) -> None:
    case = save("clip", tmp_path)
    clip_configured(tmp_path, texts, images)
    change(tmp_path, {"text_model.embeddings.position_ids": torch.arange(16)[None]})
    ours = families.load(tmp_path)
    change(tmp_path, {}, remove=("text_model.embeddings.position_ids",))
    theirs = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    pictures, ids = case.inputs
    ids = ids.clone()
    ids[:, 4] = comparing.VOCABULARY - 1
    with torch.no_grad():
        wanted = theirs(ids, pictures).logits_per_image
        torch.testing.assert_close(ours(pictures, ids), wanted, rtol=0, atol=1e-5)


def test_what_a_file_of_clip_leaves_out_is_as_in_the_first() -> None:
    with torch.device("meta"):
        theirs = transformers.CLIPModel(transformers.CLIPConfig())
        ours = families.clip({})
    rules = loading.FAMILIES["CLIPModel"][1]
    assert renaming.misfits(ours, renaming.rename(theirs.state_dict(), rules(ours))) == []
    assert ours.end_id == transformers.CLIPTextConfig().eos_token_id


@pytest.mark.parametrize(
    "name",
    [
        "T5ForConditionalGeneration",
        "BartForConditionalGeneration",
        "WhisperForConditionalGeneration",
        "ViTForImageClassification",
        "ViTModel",
        "CLIPModel",
    ],
)
def test_models_of_the_usual_sizes_fit(name: str) -> None:
    """Whatever a config of transformers says without being told; no numbers are made."""
    with torch.device("meta"):
        kind = getattr(transformers, name)
        config = kind.config_class()
        theirs, (build, rules) = kind(config), loading.FAMILIES[name]
        ours = build(json.loads(config.to_json_string(use_diff=False)))
    assert renaming.misfits(ours, renaming.rename(theirs.state_dict(), rules(ours))) == []


def test_a_variant_of_clip_that_is_not_built_is_refused(tmp_path: Path) -> None:
    save("clip", tmp_path)
    clip_configured(tmp_path, {"hidden_act": "relu"}, {})
    assert "config.json says hidden_act = 'relu'; one of ['quick_gelu'" in refusal(tmp_path)
    clip_configured(tmp_path, {"hidden_act": "gelu", "hidden_size": 0}, {})
    assert "config.json says hidden_size = 0; a whole number" in refusal(tmp_path)
    configured(tmp_path, projection_dim="14")
    assert "config.json says projection_dim = '14'; a whole number" in refusal(tmp_path)


@pytest.mark.parametrize("shape", [(), (24,)])
def test_patches_in_another_shape_are_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    save("vit", tmp_path)
    change(tmp_path, {"embeddings.patch_embeddings.projection.weight": torch.ones(shape)})
    said = refusal(tmp_path)
    assert f"left over: embeddings.patch_embeddings.projection.weight {list(shape)}" in said
