"""The command line: `python -m course_utils progress`, and so on."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

from course_utils import exercises
from course_utils.engine import completes, console, loading, parts, store
from course_utils.families import parity
from course_utils.runs import command_line

COURSE = Path(__file__).parents[1]


def main() -> int:
    """Run one command; 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m course_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("progress", help="which parts are yours")
    commands.add_parser("check", help="check your saved parts once more")
    commands.add_parser("lab", help="open the course in JupyterLab")
    commands.add_parser("test", help="run all tests")
    commands.add_parser("parity", help="compare your parts with Hugging Face's and torch's models")
    for name, text in (
        ("hint", "the hints for a part"),
        ("solution", "the solution of a part"),
        ("reset", "make a part blank again (your text is put aside); `all` for every part"),
    ):
        commands.add_parser(name, help=text).add_argument("part", help="such as attention.softmax")
    command_line.add_train(commands.add_parser("train", help="train a model on stories or a file"))
    command_line.add_sample(commands.add_parser("sample", help="let a trained model write"))
    command_line.add_search(
        commands.add_parser("search", help="find passages in a folder of notes by their meaning")
    )
    chosen = parser.parse_args()
    _print_what_can_be_printed()
    try:
        return COMMANDS[chosen.command](chosen)
    except KeyError as error:
        parser.error(str(error.args[0]))
    except command_line.WrongInput as error:
        parser.error(str(error))


def _print_what_can_be_printed() -> None:
    """A "?" for what the console, or the file behind a `>`, has no character for; not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def show_progress(chosen: argparse.Namespace) -> int:
    """List every part, and count yours."""
    for part in exercises.PARTS:
        mark = "x" if parts.is_yours(part) else " "
        print(f"[{mark}] {exercises.notebook_of(part)}  {part}")
    mine, all_parts = completes.count()
    console.say(f"{mine} of {all_parts} parts are yours (kept in {store.home()})")
    return 0


def show_hints(chosen: argparse.Namespace) -> int:
    """Print every hint of a part."""
    for number, hint in enumerate(exercises.find(chosen.part).hints, 1):
        print(f"{number}. {hint}")
    return 0


def check_saved(chosen: argparse.Namespace) -> int:
    """Check every saved part against its exercise."""
    problems = loading.unreadable()
    for problem in problems:
        console.say(problem)
    verdicts = [loading.check_saved(saved) for saved in loading.saved_parts()]
    for verdict in verdicts:
        console.say(f"{verdict.part}: {verdict.headline}")
    return 1 if problems or any(verdict.state != "right" for verdict in verdicts) else 0


def open_lab(chosen: argparse.Namespace) -> int:
    """Start JupyterLab as the course wants it: on this machine, quiet, calling nobody."""
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": str(COURSE / "jupyter")}
    return subprocess.call([sys.executable, "-m", "jupyterlab"], env=environment)


def run_tests(chosen: argparse.Namespace) -> int:
    """Run the tests of the repository."""
    return subprocess.call(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile"], cwd=COURSE
    )


def show_parity(chosen: argparse.Namespace) -> int:
    """Compare models of the parts in use with models of others that have the same weights."""
    return 0 if parity.report() else 1


def _print(note: object) -> int:
    print(note)
    return 0


COMMANDS = {
    "progress": show_progress,
    "check": check_saved,
    "lab": open_lab,
    "test": run_tests,
    "parity": show_parity,
    "train": command_line.train,
    "sample": command_line.sample,
    "search": command_line.search,
    "hint": show_hints,
    "solution": lambda chosen: _print(completes.solution(chosen.part)),
    "reset": lambda chosen: _print(completes.reset(chosen.part)),
}


if __name__ == "__main__":
    raise SystemExit(main())
