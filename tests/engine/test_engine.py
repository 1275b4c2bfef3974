"""The engine as a learner meets it: cells run in a real IPython, checked by a real worker."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.utils.capture import capture_output

import course_utils
from course_utils import attention
from course_utils.engine import checker, completes, loading, parts, store
from course_utils.engine.comparing import compare_values

HEAD = '@completes("attention.softmax")\ndef softmax(scores, dim: int = -1):\n'
RIGHT = HEAD + "    return torch.softmax(scores, dim)\n"
WRONG = HEAD + "    return torch.softmax(scores, -1)\n"

Run = Callable[[str], str]


def said(text: str, sentence: str, state: str = "is not right yet") -> None:
    """The panel is there, in the given state, with the given words."""
    assert f"attention.softmax {state}" in text
    assert sentence in text
    assert not parts.is_yours("attention.softmax") or state == "is yours"


# --- what a learner may write --------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", ['raise NotImplementedError("your turn")', "...", "pass", '"""To do."""']
)
def test_unfinished_code_is_no_error(run: Run, body: str) -> None:
    said(run(f"{HEAD}    {body}\n"), "everything below works", "is not written yet")


BROKEN = {
    "a syntax error": ("return torch.exp(scores", "line 3: '(' was never closed"),
    "a return at the wrong place": ("return scores\nreturn 1", "Python cannot read line 4"),
    "a wrong name inside": ("return torch.softmax(score, dim)", "name 'score' is not defined"),
    "a list for a tensor": ("return scores.tolist()", "should be a tensor, yours is a list"),
    "no return": ("torch.softmax(scores, dim)", "where no `return` is reached"),
    "a wrong shape": (
        "return torch.softmax(scores, dim)[None]",
        "should have the shape [3], yours has [1, 3]",
    ),
    "a wrong dtype": (
        "return torch.softmax(scores, dim).double()",
        "should have the dtype torch.float32",
    ),
    "NaN": ("return torch.softmax(scores, dim) * math.nan", "contains NaN"),
    "a change in place": (
        "scores -= scores.amax(dim, keepdim=True)\n    return torch.softmax(scores, dim)",
        "changes `scores` in place",
    ),
    "no gradient": (
        "return torch.softmax(scores.detach(), dim)",
        "no gradient flows back to `scores`",
    ),
    "a huge allocation": ("return torch.ones(10**11)", "more memory than a check may use"),
    "a megabyte printed": ("print('x' * 1_000_000)\n    return scores", "characters more"),
    "exit()": ("exit()", "asks Python to exit"),
    "the end of the process": ("import os; os._exit(0)", "ended the Python process"),
    "a patched torch": ("torch.softmax = lambda s, d: s\n    return scores", "numbers are wrong"),
    "a branch that is not written": (
        "if dim == -1:\n        return torch.softmax(scores, dim)\n    raise NotImplementedError",
        "stopped with NotImplementedError",
    ),
    "endless recursion": ("return softmax(scores, dim)", "RecursionError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_code_is_explained(run: Run, name: str) -> None:
    body, sentence = BROKEN[name]
    said(run(f"{HEAD}    {body}\n"), sentence)
    said(run(RIGHT), "Saved in", "is yours")


def test_an_endless_loop_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker.Checker.examine, "__defaults__", (1.0,))
    text = run(HEAD + "    while True:\n        pass\n")
    said(text, "did not finish within 1 seconds")
    assert "line 3: while True:" in text or "line 4: pass" in text


def test_a_wrong_name(run: Run) -> None:
    run(RIGHT)
    completes.reset("attention.softmax")
    text = run(RIGHT.replace("def softmax", "def soft_max"))
    said(text, "This cell should define `softmax`, and it defines `soft_max`")


def test_a_wrong_signature(run: Run) -> None:
    text = run(RIGHT.replace("scores, dim: int = -1", "scores, axis"))
    said(text, "`softmax` takes (scores, dim=-1), yours takes (scores, axis)")


def test_a_helper_from_another_cell(run: Run, shell: Any) -> None:
    shell.run_cell("def rotate(x):\n    return x")
    text = run(HEAD + "    return rotate(scores)\n")
    said(text, "Your code uses `rotate`, defined in another cell. Move it into this one")


def test_a_missing_import_is_added(run: Run, home: Path) -> None:
    said(run(f"# maths\n{HEAD}    return math.e * score\n"), "line 4: return math.e * score")
    text = run(HEAD + "    return F.softmax(scores, np.int64(dim).item())\n")
    said(text, "with `from torch.nn import functional as F`, with `import numpy as np`", "is yours")
    assert load(home, IS_YOURS).endswith("True\n")


def test_an_added_import_stands_behind_those_from_the_future(run: Run, home: Path) -> None:
    future = "from __future__ import annotations\n\n\nHALF = math.sqrt(1 / 4)\n\n\n"
    body = "    return F.softmax(scores, dim) * 2 * HALF\n"
    said(run(future + HEAD + body), "Saved in", "is yours")
    assert load(home, IS_YOURS).endswith("True\n")


def test_the_modules_own_name(run: Run) -> None:
    text = run(HEAD + "    return attention.merge_heads(scores)\n")
    said(text, "Your code uses `attention.merge_heads`. It becomes part of `attention` itself")
    text = run(HEAD + "    return attention.softmax(scores)\n")
    said(text, "`attention.softmax`, which is what you are writing: it would call itself for ever")


def test_an_unknown_annotation(run: Run) -> None:
    cell = RIGHT.replace("dim: int", "dim: Foat")
    said(run(cell), "name 'Foat' is not defined")


@pytest.mark.parametrize("name", ["merge_heads", "sum", "super", "tuple", "math", "nn", "Tensor"])
def test_a_helper_may_have_any_name(run: Run, home: Path, name: str) -> None:
    there = vars(attention).get(name, "nothing")
    cell = HEAD + f"    return {name}(torch.softmax(scores, dim))\n\n\n"
    said(run(cell + f"def {name}(x):\n    return x\n"), "Saved in", "is yours")
    assert vars(attention).get(name, "nothing") is there
    model = "course_utils.attention.MultiHeadAttention(8, 2)(__import__('torch').ones(1, 3, 8))"
    assert load(home, f"{IS_YOURS}\n{model}").endswith("True\n")


def test_two_parts_may_have_helpers_of_one_name(run: Run, home: Path) -> None:
    run(HEAD + "    return _help(torch.softmax(scores, dim))\n\n\ndef _help(x):\n    return x\n")
    mix = '@completes("attention.mix_values")\ndef mix_values(weights, value):\n'
    run(mix + "    return _help(weights, value)\n\n\ndef _help(x, y):\n    return x @ y\n")
    used = "import torch\ncourse_utils.attention.scaled_dot_product_attention(*torch.ones(3, 2, 2))"
    assert "2 of" in load(home, used)


@pytest.mark.parametrize(
    "cell",
    [
        "import math\nCOUNT = 0\n{}    global COUNT\n    COUNT += 1\n    return _soft(scores)",
        "import math as m, torch\nfrom torch import nn\n{}    m.pi, nn\n    return _soft(scores)",
    ],
)
def test_what_a_cell_binds_beside_its_part(run: Run, cell: str) -> None:
    helper = "\n\ndef _soft(x):\n    return torch.exp(x - torch.logsumexp(x, dim, keepdim=True))\n"
    text = cell.format(HEAD).replace("_soft(scores)", "_soft(scores, dim)")
    said(run(text + helper.replace("(x):", "(x, dim):")), "Saved in", "is yours")


def test_reset_heals_the_module(run: Run, home: Path) -> None:
    body = "    global math\n    if scores.ndim == 7:\n        math = None\n"
    run(HEAD + body + "    return torch.softmax(scores, dim)\n")
    attention.softmax(torch.zeros([1] * 7))
    completes.reset("attention.softmax")
    assert vars(attention)["math"] is math


def test_a_part_may_not_change_its_module(run: Run) -> None:
    body = "    global math\n    math = None\n    return torch.softmax(scores, dim)\n"
    said(run(HEAD + body), "changes `math` for its whole module")


def test_only_what_the_part_uses_is_kept(run: Run, home: Path) -> None:
    cell = "import torch.nn.functional as F\nSMALL = 0\n" + HEAD
    cell += "    return _soft(scores, dim) + SMALL\n\n\n"
    cell += "def _soft(s, d):\n    return F.softmax(s, d)\n\n\nprint('try', softmax)\n"
    said(run(cell), "Saved in", "is yours")
    kept = (home / "attention.py").read_text()
    assert "_soft" in kept and "SMALL" in kept and "import torch.nn.functional" in kept
    assert "print" not in kept and "completes" not in kept


def test_tracebacks_show_the_learners_lines(run: Run) -> None:
    run(
        HEAD
        + "    if scores.shape[0] == 77:\n        raise ValueError('mine')\n"
        + "    return torch.softmax(scores, dim)\n"
    )
    with pytest.raises(ValueError, match="mine") as caught:
        attention.softmax(torch.zeros(77))
    entry = caught.traceback[-1]
    assert str(entry.path) == "your cell (attention.softmax)" and entry.lineno + 1 == 4


@pytest.mark.parametrize(
    ("wanted", "seen", "said"),
    [
        ({"a": 1}, {"a": 2}, "Entry `a` of the result is wrong. It should be 1, yours is 2."),
        ({"W": 1}, {"W": 1.0}, "Entry `W` of the result should be an int, yours is a float. It"),
        ({"a": 0}, {"a": False}, "Entry `a` of the result should be an int, yours is a bool."),
        ({"a": 1}, {"a": torch.tensor(1)}, "should be an int, yours is a Tensor."),
        ({"a": 1, "b": 2}, {"a": 1}, "The result has no entry `b`."),
        ({"a": 1}, {"b": 2, "a": 1}, "The result should have no entry `b`."),
        ({"a": torch.ones(2)}, {"a": torch.zeros(2)}, "Entry `a` of the result has the right"),
        ((1, {"a": 1}), (1, {"a": 2}), "Entry `a` of the second of 2 values is wrong."),
        (1, np.int64(2), "The result is wrong."),
        (1, np.int32(1), "The result should be an int, yours is an int32."),
        (1, np.True_, "The result should be an int, yours is a bool."),
    ],
)
def test_what_is_said_of_a_wrong_result(wanted: Any, seen: Any, said: str) -> None:
    difference = compare_values(wanted, seen, "the result")
    assert difference is not None
    assert said in difference.sentence


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (1, np.int64(1)),
        ({"a": 1, "b": 2}, {"b": np.int64(2), "a": 1}),
        ({"a": 0.3}, {"a": 0.1 + 0.2}),
        ((1, 2), (np.int64(1), 2)),
    ],
)
def test_results_that_are_as_good(wanted: Any, seen: Any) -> None:
    assert compare_values(wanted, seen, "the result") is None


def test_a_dictionary_is_shown_line_by_line() -> None:
    difference = compare_values({"head": 1, "norms": 2}, {"head": 1, "norms": 3}, "the result")
    assert difference is not None
    assert (difference.expected, difference.got) == ("head: 1\nnorms: 2", "head: 1\nnorms: 3")


# --- what stays --------------------------------------------------------------------------------


def test_a_right_part_is_used_by_the_package(run: Run) -> None:
    run(HEAD + "    global used\n    used = True\n    return torch.softmax(scores, dim)\n")
    q = torch.randn(1, 2, 3, 4)
    attention.attention_weights(q, q)
    assert attention.used  # type: ignore[attr-defined]
    del attention.used  # type: ignore[attr-defined]


def test_a_later_wrong_version_loses_nothing(run: Run, home: Path) -> None:
    run(RIGHT)
    before = (home / "attention.py").read_bytes()
    text = run(WRONG)
    assert "Your version that passed before stays in use" in text
    assert (home / "attention.py").read_bytes() == before
    assert parts.is_yours("attention.softmax")


def test_reset_puts_the_text_aside(run: Run, home: Path) -> None:
    run(RIGHT)
    completes.reset("attention.softmax")
    assert not parts.is_yours("attention.softmax")
    (aside,) = (home / "put_aside").iterdir()
    assert "return torch.softmax" in aside.read_text()
    assert "=== attention.softmax" not in (home / "attention.py").read_text()


def test_reset_of_an_unknown_part_names_the_parts() -> None:
    with pytest.raises(KeyError, match=r"there is no part 'attention.sofmax'.*attention.softmax"):
        completes.reset("attention.sofmax")


def test_a_read_only_folder(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = home.parent / "file"
    blocked.write_text("no folder")  # even root cannot make a folder inside a file
    monkeypatch.setenv("COURSE_UTILS_HOME", str(blocked / "my_parts"))
    said(run(RIGHT), "could not be saved", "is yours")


def test_strict_mode_raises(shell: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_UTILS_STRICT", "1")
    for cell in (WRONG, HEAD + "    ...", HEAD + "    return ("):
        with capture_output():
            result = shell.run_cell(cell, store_history=True)
        assert isinstance(result.error_in_exec, completes.NotYours)


def test_hints_come_one_at_a_time() -> None:
    first, second = completes.hint("attention.softmax"), completes.hint("attention.softmax")
    assert first.title.startswith("Hint 1 of") and second.title.startswith("Hint 2 of")
    assert "def softmax" in completes.solution("attention.softmax").text


def test_panels_escape_what_they_show(run: Run, shell: Any) -> None:
    with capture_output() as shown:
        shell.run_cell(
            HEAD + "    raise ValueError('<script>alert(1)</script>')", store_history=True
        )
    html = shown.outputs[0].data["text/html"]
    assert "&lt;script&gt;" in html and "<script" not in html
    assert 'role="status"' in html and "<summary>Hint 1 of " in html


# --- the files -----------------------------------------------------------------------------------


def load(home: Path, code: str = "") -> str:
    """What a fresh Python prints when it imports the course."""
    program = f"import course_utils\nfrom course_utils.engine import parts\n{code}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


IS_YOURS = "print(parts.is_yours('attention.softmax'))"


def test_a_fresh_python_uses_the_saved_parts(run: Run, home: Path) -> None:
    run(RIGHT)
    shown = load(home, IS_YOURS)
    assert f"course_utils: 1 of {len(parts.references())} parts are yours" in shown
    assert shown.endswith("True\n")


def test_saved_parts_can_be_left_out(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(RIGHT)
    monkeypatch.setenv("COURSE_UTILS_PARTS", "reference")
    assert load(home, IS_YOURS) == "False\n"


def test_a_part_edited_by_hand_is_checked_again(run: Run, home: Path) -> None:
    run(RIGHT)
    path = home / "attention.py"
    right = path.read_text()
    path.write_text(right.replace("torch.softmax(scores, dim)", "torch.softmax(scores, 0)"))
    shown = load(home, IS_YOURS)
    assert (
        "attention.softmax" in shown and "no longer passes" in shown and shown.endswith("False\n")
    )
    path.write_text(right.replace("torch.softmax(scores, dim)", "scores.softmax(dim)"))
    assert load(home, IS_YOURS).endswith("True\n")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("def softmax", "def softmax(("),
        lambda text: text[: len(text) // 2],
        lambda text: "\x00\x01 no part at all",
        lambda text: text.replace("seal ", "seal x"),
        lambda text: "",
        lambda text: (
            text + "\n# === other.thing === passed 2026-01-01 00:00, seal 0\nwhile True: pass\n"
        ),
    ],
)
def test_a_spoilt_file_never_stops_the_import(
    run: Run, home: Path, spoil: Callable[[str], str]
) -> None:
    run(RIGHT)
    path = home / "attention.py"
    path.write_text(spoil(path.read_text()))
    assert "course_utils: " in load(home)


def test_bytes_that_are_no_text_are_kept(run: Run, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "attention.py").write_bytes(b"\xff\xfe precious \x80\n")
    assert "holds no part that can be read" in load(home)
    run(RIGHT)
    assert b"\xff\xfe precious \x80" in (home / "attention.py").read_bytes()
    assert load(home, IS_YOURS).endswith("True\n")


SAVE_MANY = """
import sys
from course_utils.engine import store
for number in range(20):
    store.save(sys.argv[1], f"def f():\\n    return {number}\\n")
"""


def test_two_notebooks_save_at_once(home: Path) -> None:
    names = ["attention.softmax", "attention.mix_values", "attention.split_heads"]
    running = [subprocess.Popen([sys.executable, "-c", SAVE_MANY, name]) for name in names]
    assert [process.wait() for process in running] == [0, 0, 0]
    saved = {one.part: one for one in store.load()}
    assert set(saved) == set(names)
    assert all("return 19" in one.source and one.as_it_passed for one in saved.values())


def test_a_process_killed_while_saving_leaves_the_old_text(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("attention.softmax", "def softmax(): ...\n")
    program = (
        "import os\nfrom course_utils.engine import store\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        "store.save('attention.softmax', 'def softmax(): lost\\n')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    (saved,) = store.load()
    assert saved.source == "def softmax(): ...\n"
    store.save("attention.softmax", "def softmax(): 'next'\n")  # the lock died with the process
    assert "next" in store.load()[0].source


def test_import_line_counts(home: Path) -> None:
    assert loading.summary(["x"]).splitlines()[0].startswith("course_utils: 0 of ")
    assert course_utils.__version__
