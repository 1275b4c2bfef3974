"""A trained model of others from its files: `config.json` and `*.safetensors`.

Only numbers are read; files that can run code (pickle) are refused. Every error names its file.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from course_utils.families import (
    barts,
    llamas,
    neox,
    renaming,
    rules_llamas,
    rules_seq2seq,
    rules_vision,
    speech,
    t5s,
    vision,
)
from course_utils.families.builders import bert, bert_masked, gpt2
from course_utils.families.config import Config

Rules = Callable[[Any], renaming.Rules]  # of the model, which is built and not yet filled
Family = tuple[Callable[[Config], nn.Module], Rules]


def _always(rules: renaming.Rules) -> Rules:
    return lambda model: rules


FAMILIES: dict[str, Family] = {
    "GPT2LMHeadModel": (gpt2, _always(renaming.GPT2)),
    "BertModel": (bert, _always(renaming.BERT)),
    "BertForMaskedLM": (bert_masked, _always(renaming.BERT_MASKED)),
    "LlamaForCausalLM": (llamas.llama, rules_llamas.llama),
    "MistralForCausalLM": (llamas.mistral, rules_llamas.llama),
    "MixtralForCausalLM": (llamas.mixtral, rules_llamas.mixtral),
    "Qwen3ForCausalLM": (llamas.qwen3, rules_llamas.llama),
    "GptOssForCausalLM": (llamas.gpt_oss, rules_llamas.gpt_oss),
    "GPTNeoXForCausalLM": (neox.gpt_neox, rules_llamas.gpt_neox),
    "T5ForConditionalGeneration": (t5s.t5, _always(rules_seq2seq.T5)),
    "BartForConditionalGeneration": (barts.bart, _always(rules_seq2seq.BART)),
    "BartModel": (barts.bart_body, _always(rules_seq2seq.BART)),
    "WhisperForConditionalGeneration": (speech.whisper, _always(rules_seq2seq.WHISPER)),
    "ViTModel": (vision.vit, _always(rules_vision.VIT)),
    "ViTForImageClassification": (vision.vit_classifier, _always(rules_vision.VIT_CLASSIFIER)),
    "CLIPModel": (vision.clip, _always(rules_vision.CLIP)),
}
INDEX = "model.safetensors.index.json"
# Some place the same weights in another layout beside them, such as consolidated.safetensors.
FETCHED = ["config.json", "model*.safetensors", INDEX]
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def load(source: str | Path) -> nn.Module:
    """The model in a folder (config.json and *.safetensors) or of that name on the hub.

    Raises FileNotFoundError where there is none, and ValueError where it does not fit our parts.
    Large models are spread over several files, of which one at a time is in memory.
    """
    folder = _find(source)
    config = _read_json(folder / "config.json")
    build, rules_of = family(config)
    files = _weight_files(folder)
    shapes = _shapes(files)
    model = build(config)
    rules = rules_of(model)
    renaming.refuse(renaming.misfits(model, renaming.rename(shapes, rules)))
    filled: set[str] = set()
    for file in files:
        filled = _fill_from(file, model, rules, filled)
    return model.eval()


def family(config: Config) -> Family:
    """How a model is built and how its weights are renamed, by the name of its architecture."""
    named = config.get("architectures") or ()
    for name in [named] if isinstance(named, str) else named:
        if name in FAMILIES:
            return FAMILIES[name]
    raise ValueError(
        f"config.json names the architectures {config.get('architectures')}; "
        f"one of {', '.join(FAMILIES)} is needed"
    )


def _find(source: str | Path) -> Path:
    """The folder itself, or the one into which the hub's files were fetched."""
    if Path(source).is_dir():
        return Path(source)
    if Path(source).is_file():
        raise ValueError(f"source: {source} is a file; give the folder that it is in")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(source), allow_patterns=FETCHED))
    except (ImportError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{str(source)!r} is not a folder here, and was not fetched from the hub: {error}"
        ) from error


# --- Files ---------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    _check_file(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not whole, or not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold names with values, got {found!r:.40}")
    return found


def _check_file(path: Path) -> None:
    """See that there is such a file, and that it is not one that only stands for it."""
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, should be a file")
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ValueError(
                f"{path} is a pointer of git-lfs, not the file itself: `git lfs pull` fetches it"
            )


def _fill_from(file: Path, model: nn.Module, rules: renaming.Rules, filled: set[str]) -> set[str]:
    """Copy one file's tensors into a model. Names of ours, those filled before included."""
    found = renaming.rename(_read_tensors(file), rules)
    renaming.refuse(renaming.unsound(model, found, filled))
    renaming.copy(model, found)
    return filled | found.keys()


def _shapes(files: list[Path]) -> dict[str, Tensor]:
    """Tensors of the shapes that stand at the head of each file, without numbers."""
    shapes: dict[str, Tensor] = {}
    for file in files:
        found = _read_shapes(file)
        twice = shapes.keys() & found.keys()
        if twice:
            raise ValueError(
                f"{min(twice)} is in two files of {file.parent}; {file.name} is the second"
            )
        shapes |= found
    return shapes


def _weight_files(folder: Path) -> list[Path]:
    """Those that the index names, where there is one, else every *.safetensors."""
    if (folder / INDEX).exists():
        return _shards(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no *.safetensors. Files such as pytorch_model.bin are pickles, which "
            "can run any code when they are opened, and are not read here"
        )
    return files


def _shards(folder: Path) -> list[Path]:
    """The files that the index names, which must hold what it says."""
    by_name = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(by_name, dict) or not by_name:
        raise ValueError(f"{folder / INDEX} has no weight_map, which says where a tensor is")
    shards = [folder / str(name) for name in sorted(set(map(str, by_name.values())))]
    for shard in shards:
        if not shard.exists():
            raise FileNotFoundError(
                f"{folder / INDEX} names {shard.name}, which is not there: fetch it, too"
            )
    for shard in shards:
        said = {renaming.unwrapped(name) for name, file in by_name.items() if file == shard.name}
        _check_index(folder / INDEX, shard, said)
    return shards


def _check_index(index: Path, shard: Path, said: set[str]) -> None:
    """See that the shard has what the index says, and nothing else."""
    there = _read_shapes(shard).keys()
    if said - there:
        raise ValueError(f"{index} says that {min(said - there)} is in {shard.name}: it is not")
    if there - said:
        raise ValueError(f"{shard.name} has {min(there - said)}, which {index} does not say")


def _read_shapes(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        shapes = {name: file.get_slice(name).get_shape() for name in _names(file)}
    return {
        renaming.unwrapped(name): torch.empty(shape, device="meta")
        for name, shape in shapes.items()
    }


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {renaming.unwrapped(name): file.get_tensor(name) for name in _names(file)}


def _names(file: Any) -> list[str]:
    return list(file.keys())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not whole, or not safetensors ({path.stat().st_size:,} bytes): {error}."
            " Fetch it again"
        ) from None
