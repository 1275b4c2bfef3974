"""How well wrong answers are explained: a set of answers, run through the engine.

`python tests/answers.py FILE [--json OUT]`. A line of the file is an object: `part`, `id`, `kind`
("right", "wrong1" with one fault, "wrong2" with two), `code` (a whole cell) and `truth` (what is
wrong). OUT gets a record an answer, for reading what was said beside the truth.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("COURSE_UTILS_HOME", tempfile.mkdtemp(prefix="course-utils-"))
os.environ["COURSE_UTILS_PARTS"] = "reference"

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.engine import completes

NAMES = {"torch": torch, "nn": nn, "F": F}
"""What a notebook has imported by then."""

HOW = ("named", "located", "related", "neither")


def main() -> None:
    """Print a table by part and in all, and the answers that were judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path, help="write a record an answer")
    parser.add_argument("--only", default="", help="answers whose id contains this")
    chosen = parser.parse_args()
    lines = chosen.file.read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines if line.strip()]
    records = [record(answer) for answer in answers if chosen.only in answer["id"]]
    if chosen.json:
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
        chosen.json.write_text(text, encoding="utf-8")
    report(records)


def record(answer: dict[str, Any]) -> dict[str, Any]:
    """What the engine says of an answer, beside the answer."""
    start = time.perf_counter()
    verdict, _ = completes.examine(answer["part"], answer["code"], NAMES)
    seconds = time.perf_counter() - start
    told = "state headline case mistake says line expression way relation point".split()
    return {
        **{name: answer[name] for name in ("id", "part", "kind", "truth")},
        **{name: getattr(verdict, name) for name in told},
        "lines": verdict.lines,
        "change": verdict.way == "change",
        "seconds": round(seconds, 2),
    }


def how(record: dict[str, Any]) -> str:
    """How a refusal is explained, apart from its headline."""
    if record["mistake"]:
        return "named"
    if record["way"] in ("change", "split", "parting", "entry"):
        return "located"
    return "related" if record["relation"] or record["point"] else "neither"


def report(records: list[dict[str, Any]]) -> None:
    """The figures, and what was accepted or refused wrongly."""
    parts = list(dict.fromkeys(one["part"] for one in records))
    print(f"{'part':40} right  refused: " + "  ".join(HOW))
    for part in parts:
        print(_row(part, [one for one in records if one["part"] == part]))
    print(_row("all", records))
    for kind in ("wrong1", "wrong2"):
        print(_row(f"  {kind}", [one for one in records if one["kind"] == kind]))
    seconds = sorted(one["seconds"] for one in records if one["state"] == "wrong")
    if seconds:
        print(f"seconds of a refusal: median {seconds[len(seconds) // 2]}, most {seconds[-1]}")
    for one in records:
        if (one["kind"] == "right") != (one["state"] == "right"):
            print(f"{one['kind']} but {one['state']}: {one['id']}: {one['truth']}")
            print(f"    {one['headline']} {one['says']}")


def _row(name: str, records: Iterable[dict[str, Any]]) -> str:
    records = list(records)
    right = [one for one in records if one["kind"] == "right"]
    wrong = [one for one in records if one["kind"] != "right"]
    refused = [one for one in wrong if one["state"] != "right"]
    accepted = sum(one["state"] == "right" for one in right)
    ways = Counter(map(how, refused))
    counts = "  ".join(f"{ways[one]:{len(one)}}" for one in HOW)
    return f"{name:40} {accepted}/{len(right)}  {len(refused)}/{len(wrong)}:  {counts}"


if __name__ == "__main__":
    main()
