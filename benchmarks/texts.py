"""What `train --preset tiny` does with texts of any kind: its loss, the 5-gram's, and its time.

python benchmarks/texts.py [NAME …]
"""

import argparse
import ast
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data import topics
from types import ModuleType

from course_utils.corpora import stories, village
from course_utils.runs import checkpoints, folders, sources

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
GREEK = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβγδεφγηιξκλμνοπψρστυωχζθς")


def main() -> None:
    """Print a row for every text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TEXTS), help=", ".join(TEXTS))
    print("| text | characters | steps | loss | 5-gram | processor seconds | of them training |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in parser.parse_args().names:
            path = Path(folder, f"{name}.txt")
            path.write_text(TEXTS[name](), encoding="utf-8")
            print(row(name, path), flush=True)


def row(name: str, path: Path) -> str:
    """Train on the text, by the command and in a process of its own."""
    run = path.with_suffix("")
    whole = seconds("train", "--corpus", str(path), "--out", str(run), "--threads", "1")
    _, preset = folders.settings(run)
    # The same again with two steps: all that is not training.
    around = seconds(
        *("train", "--corpus", str(path), "--out", f"{run}-2", "--threads", "1", "--steps", "2")
    )
    loss = checkpoints.Log(run, preset.steps).records[-1]["validation"]
    corpus = sources.TextFile.open(path)
    n_characters, five_gram = len(path.read_text(encoding="utf-8")), corpus.levels()["5-gram"]
    training = (whole - around) / whole
    return (
        f"| {name} | {n_characters / 1e6:.1f} M | {preset.steps} | {loss:.3f} | {five_gram:.3f}"
        f" | {whole:.1f} | {training:.0%} |"
    )


def seconds(*command: str) -> float:
    """Processor time of a command of the course, from start to end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    one_thread = {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "course_utils", *command],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | one_thread,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


# --- Texts, none of them downloaded --------------------------------------------------------------


def documentation() -> str:
    """Python's own, on its language."""
    return "\n\n".join(topics.topics.values())


def docstrings() -> str:
    """What the standard library says about itself."""
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    nodes = (node for source in sources_of_library() for node in ast.walk(ast.parse(source)))
    found = (ast.get_docstring(node) for node in nodes if isinstance(node, documented))
    return "\n\n".join(each for each in found if each)[:1_100_000]


def source() -> str:
    """The standard library itself."""
    return "\n\n".join(sources_of_library())[:5_000_000]


def sources_of_library() -> Iterator[str]:
    """The files of the standard library, in order, without its tests."""
    for path in sorted(LIBRARY.rglob("*.py")):
        if not {"site-packages", "test", "tests", "lib2to3"} & set(path.parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def greek() -> str:
    """What is said in the village, in Greek letters."""
    return told(village, 45_000).lower().translate(GREEK)


def told(corpus: ModuleType, n_tokens: int) -> str:
    """What a corpus of ours tells, as a text of letters."""
    words = " ".join(corpus.decode(corpus.batch(0, 0, 1, n_tokens)[0].tolist()))
    pieces = words.replace(corpus.START, "").split(corpus.END)
    return "\n".join(corpus.text(piece.split()) for piece in pieces)


TEXTS: dict[str, Callable[[], str]] = {
    "greek": greek,
    "documentation": documentation,
    "docstrings": docstrings,
    "stories": lambda: told(stories, 420_000),
    "source": source,
}

if __name__ == "__main__":
    main()
