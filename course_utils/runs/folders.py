"""Folders of runs: where they are, whose they are, and the settings that a run keeps there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course_utils.runs import checkpoints, locks, presets, processes, sources

COURSE = Path(__file__).parents[2]
SETTINGS = "run.json"


def runs_folder() -> Path:
    """Where runs are kept: COURSE_UTILS_RUNS, or `my_runs` beside the notebooks."""
    chosen = os.environ.get("COURSE_UTILS_RUNS")
    if chosen:
        return Path(chosen).expanduser()
    return (COURSE if (COURSE / "notebooks").is_dir() else Path.home()) / "my_runs"


def newest_run() -> Path | None:
    """The run in `runs_folder()` that has the newest checkpoint."""
    runs = [each.parent for each in runs_folder().glob(f"*/{SETTINGS}")]
    saved = {each: checkpoints.saved_at(each) for each in runs}
    newest = max(runs, key=lambda each: saved[each] or 0, default=None)
    return newest if newest is not None and saved[newest] else None


# --- Settings ------------------------------------------------------------------------------------


@contextmanager
def claimed(folder: Path | str, corpus: sources.Corpus, preset: presets.Preset) -> Iterator[None]:
    """Hold a folder for a run. Where no step comes of it, nothing of it is left.

    Raises ValueError where another run is in the folder, now or before.
    """
    if not processes.is_first():
        yield
        return
    with locks.in_use(folder):
        try:
            claim(folder, corpus, preset)
            yield
        finally:
            if not _has_steps(folder):
                _give_back(Path(folder))


def claim(folder: Path | str, corpus: sources.Corpus, preset: presets.Preset) -> None:
    """Write the settings of a run to its folder, or see that they are those that are there.

    Raises ValueError with the first setting that differs. Settings of a run that has no checkpoint
    bind nobody.
    """
    path, settings = Path(folder, SETTINGS), corpus.settings() | asdict(preset)
    if not path.exists() or checkpoints.newest(folder) is None:
        checkpoints.write_whole(path, json.dumps(settings, indent=2) + "\n")
        return
    there = _read(path)
    for name, value in settings.items():
        if name != "path" and there.get(name) != value:
            raise ValueError(f"folder: {folder} holds a run {_difference(name, there, settings)}")


def _has_steps(folder: Path | str) -> bool:
    log = Path(folder, checkpoints.LOG)
    return checkpoints.newest(folder) is not None or (log.is_file() and log.stat().st_size > 0)


def _give_back(folder: Path) -> None:
    """Remove what a run without steps has written, and the folder, if it holds nothing else."""
    with suppress(OSError):
        for name in (SETTINGS, checkpoints.LOG, locks.NAME):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _difference(name: str, there: dict[str, Any], settings: dict[str, Any]) -> str:
    if name == "text_checksum":
        return (
            f"that began with another text: {settings['path']} has changed since, or is another"
            " file. Give another folder (--out) for this text, or bring the old one back"
        )
    if name == "tokenizer":
        return (
            "whose text is cut into other tokens. Give another folder (--out), or the --tokenizer"
            " and the --vocabulary of that run"
        )
    return (
        f"with {name} = {there.get(name)!r}, and this one has {name} = {settings[name]!r}. Give"
        " another folder (--out), or the settings of that run"
    )


def settings(folder: Path | str) -> tuple[sources.Corpus, presets.Preset]:
    """The corpus and the preset of the run in a folder.

    Raises FileNotFoundError where there is none, ValueError where its settings cannot be read.
    """
    path = Path(folder, SETTINGS)
    if not path.exists():
        raise FileNotFoundError(f"folder: there is no run in {folder} (no file {SETTINGS})")
    found = _read(path)
    fields = presets.Preset.__dataclass_fields__
    numbers = {name: found.pop(name) for name in fields if name in found}
    try:
        return sources.kept(found), presets.Preset(**numbers)
    except (KeyError, TypeError) as error:
        raise ValueError(f"folder: {path} does not have the settings of a run: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"folder: {path} does not have the settings of a run: {found!r}")
    return sources.renewed(found)
