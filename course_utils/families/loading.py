"""A trained model of others from its files: `config.json` and `*.safetensors`.

Only numbers are read; files that can run code (pickle) are refused. Every error names its file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils.families import renaming
from course_utils.families.builders import Config, bert, bert_masked, gpt2

Family = tuple[Callable[[Config], nn.Module], renaming.Rules]

FAMILIES: dict[str, Family] = {
    "GPT2LMHeadModel": (gpt2, renaming.GPT2),
    "BertModel": (bert, renaming.BERT),
    "BertForMaskedLM": (bert_masked, renaming.BERT_MASKED),
}
INDEX = "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def load(source: str | Path) -> nn.Module:
    """The model in a folder (config.json and *.safetensors) or of that name on the hub.

    Raises FileNotFoundError where there is none, and ValueError where it does not fit our parts.
    """
    folder = _find(source)
    config = _read_json(folder / "config.json")
    build, rules = family(config)
    weights = _read_weights(folder)
    model = build(config)
    renaming.fill(model, weights, rules)
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

        return Path(snapshot_download(str(source), allow_patterns=["config.json", "*.safetensors"]))
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


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder; large models are spread over several files."""
    weights: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        tensors = _read_tensors(file)
        twice = weights.keys() & tensors.keys()
        if twice:
            raise ValueError(f"{min(twice)} is in two files of {folder}; {file.name} is the second")
        weights |= tensors
    return weights


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
    """The files that the index names."""
    by_name = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(by_name, dict):
        raise ValueError(f"{folder / INDEX} has no weight_map, which says where a tensor is")
    shards = [folder / str(name) for name in sorted(set(by_name.values()))]
    for shard in shards:
        if not shard.exists():
            raise FileNotFoundError(
                f"{folder / INDEX} names {shard.name}, which is not there: fetch it, too"
            )
    return shards


def _read_tensors(path: Path) -> dict[str, Tensor]:
    _check_file(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not whole, or not safetensors ({path.stat().st_size:,} bytes): {error}."
            " Fetch it again"
        ) from None
    return {renaming.unwrapped(name): tensor for name, tensor in tensors.items()}
