"""Whatever is in `my_parts`: the import goes on, and so do `check`, `progress` and `reset`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_utils import exercises
from course_utils.engine import completes, install, loading, parts, store

PART = "attention.softmax"
RIGHT = "def softmax(scores, dim: int = -1):\n    return scores.softmax(dim)  # {}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one saved part; afterwards every part is the reference again."""
    monkeypatch.setenv("COURSE_UTILS_HOME", str(tmp_path / "my_parts"))
    store.save(PART, RIGHT.format("here"))
    yield tmp_path / "my_parts"
    for part in parts.references():
        install.uninstall(part)


def is_alive() -> None:
    """Nothing is raised by what an import and the commands do."""
    assert loading.summary(loading.load_saved_parts()).startswith("course_utils: ")
    for saved in loading.saved_parts():
        loading.check_saved(saved)
    assert repr(completes.progress())
    completes.reset(PART)
    assert not parts.is_yours(PART)
    completes.reset("all")


# --- bytes ---------------------------------------------------------------------------------------


def spoilt(text: bytes) -> list[bytes]:
    """Files as editors, copies, full disks and other systems leave them."""
    return [
        text.replace(b"here", "schön".encode("latin-1")),
        text.replace(b"here", b"\0"),
        text.replace(b"here", b"\xed\xa0\x80"),
        text.replace(b"    return", b"\t return\n    return"),
        text.replace(b"return scores", b"return " + b"(" * 5000),
        text.replace(b"return scores", b"return " + b"-" * 50_000 + b"1"),
        text.replace(b"attention.softmax", b"attention"),
        text.replace(b"attention.softmax", b"a.b.c"),
        text.replace(b"attention.softmax", b"projection.linear"),
        text.replace(b"attention.softmax", b"..softmax"),
        text.decode().encode("utf-16"),
        text[: len(text) // 2],
        b"\xef\xbb\xbf" + text,
        text * 2,
        b"\0" * 4096,
        b"#" * (store.LARGEST + 1),
    ]


@pytest.mark.parametrize("number", range(16))
def test_a_file_of_any_bytes(home: Path, number: int) -> None:
    path = home / "attention.py"
    path.write_bytes(spoilt(path.read_bytes())[number])
    is_alive()


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(at=st.integers(0, 300), instead=st.binary(max_size=12), cut=st.integers(0, 12))
def test_a_file_with_some_bytes_changed(home: Path, at: int, instead: bytes, cut: int) -> None:
    store.save(PART, RIGHT.format("here"))
    path = home / "attention.py"
    text = path.read_bytes()
    path.write_bytes(text[:at] + instead + text[at + cut :])
    is_alive()


def test_bytes_that_are_no_text_are_put_aside_as_they_are(home: Path) -> None:
    path = home / "attention.py"
    path.write_bytes(path.read_bytes().replace(b"here", b"sch\xf6n"))
    completes.reset(PART)
    (aside,) = (home / "put_aside").iterdir()
    assert b"sch\xf6n" in aside.read_bytes()


# --- what is no file -----------------------------------------------------------------------------


def no_file(path: Path) -> None:
    path.mkdir()


def no_target(path: Path) -> None:
    path.symlink_to("nowhere")


def itself(path: Path) -> None:
    path.symlink_to(path)


def a_link_to_a_folder(path: Path) -> None:
    path.symlink_to(path.parent)


def without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)  # type: ignore[attr-defined,unused-ignore]


def not_for_us(path: Path) -> None:
    path.write_text(RIGHT)
    path.chmod(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["attention.py", "put_aside", ".lock", "."])
@pytest.mark.parametrize(
    "make",
    [no_file, no_target, itself, a_link_to_a_folder, without_end, a_pipe, not_for_us],
)
def test_something_else_where_a_file_should_be(
    home: Path, make: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT", 0.2)
    path = home / name
    if name == ".":
        home.rename(home.parent / "before")
        path = home
    elif path.exists():
        path.unlink()
    make(path)
    is_alive()
    completes._keep(completes.source.part_source(RIGHT, PART))  # says why it cannot be saved


def test_the_commands_go_on(home: Path) -> None:
    (home / "projection.py").mkdir()
    path = home / "attention.py"
    path.write_bytes(path.read_bytes().replace(b"here", b"sch\xf6n"))
    odd = os.fsencode(home) + b"/\xf6.py"
    with open(odd, "wb") as file:
        file.write(b"hello")
    answers = {"check": 1, "progress": 0, f"reset {PART}": 0, "reset all": 0}
    for command, answer in answers.items():
        program = [sys.executable, "-m", "course_utils", *command.split()]
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        result = subprocess.run(program, capture_output=True, check=False, env=environment)
        assert result.returncode == answer, result.stderr.decode()
    shown = subprocess.run(
        [sys.executable, "-c", "import course_utils"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"course_utils: 0 of" in shown.stdout


def test_a_line_like_those_between_parts_is_refused(home: Path) -> None:
    mark = f"# === {PART} === passed 2026-01-01 00:00, seal 0123456789abcdef"
    text = RIGHT.replace("\n", f'\n    """\n{mark}\n    """\n', 1)
    verdict, _ = completes.judge(PART, text, {})
    assert "looks like those between saved parts" in verdict.headline


# --- work from before ----------------------------------------------------------------------------


def test_work_that_passed_older_checks_is_checked_once_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is right stays; what only the older checks let through is said, and its text stays."""
    with monkeypatch.context() as older:
        older.setattr(store, "CHECKS_VERSION", "0")
        store.save(PART, RIGHT.format("right"))
        store.save("attention.score_scale", "def score_scale(d_k):\n    return 1.0\n")
    assert not any(saved.as_it_passed for saved in store.load())
    problems = loading.load_saved_parts()
    assert [problem.split()[0] for problem in problems] == ["attention.score_scale"]
    assert parts.is_yours(PART)
    assert [saved.part for saved in store.load() if saved.as_it_passed] == [PART]
    assert "return 1.0" in (home / "attention.py").read_text(encoding="utf-8")


def test_a_part_that_the_course_no_longer_has_is_put_aside_and_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("attention.old_name", "def old_name():\n    return 'mine'\n")
    monkeypatch.setattr(exercises, "RETIRED", {"attention.old_name": "it is now in attention.new"})
    (sentence,) = loading.load_saved_parts()
    (aside,) = (home / "put_aside").iterdir()
    assert sentence.startswith("attention.old_name is no part any more, it is now in attention.new")
    assert str(aside) in sentence and "'mine'" in aside.read_text(encoding="utf-8")
    assert loading.load_saved_parts() == [] and parts.is_yours(PART)
