"""Cells as people write them: odd characters, other decorators, borrowed work, wrong forms."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.utils.capture import capture_output

from course_utils import attention
from course_utils.engine import checker, parts, source, store, worker
from course_utils.engine.comparing import compare_values, kind

PART = "attention.softmax"
MARK = '@completes("attention.softmax")\n'
DEF = "def softmax(scores, dim: int = -1):\n"
BODY = "    return torch.softmax(scores, dim)\n"
YOURS = f"{PART} is yours"

Run = Callable[[str], str]

# --- characters ----------------------------------------------------------------------------------

CUTS = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
"""Where `str.splitlines` cuts and Python does not."""


@pytest.mark.parametrize("cut", CUTS, ids=ascii)
@pytest.mark.parametrize(
    "body",
    [
        "    # one {} two\n" + BODY,
        '    """One {} two."""\n' + BODY,
        "    assert 'one {} two' != 'one'\n" + BODY,
    ],
)
def test_characters_that_end_no_line(run: Run, cut: str, body: str) -> None:
    assert YOURS in run(MARK + DEF + body.format(cut))
    (saved,) = store.load()
    assert saved.as_it_passed
    assert cut in saved.source
    text = run(MARK + DEF + body.format(cut) + "    +\n")  # cannot be read
    assert "Python cannot read line 5" in text
    below = f"    # one {cut} two\n    return scores.fill(2)\n"
    assert "line 4: return scores.fill(2)" in run(MARK + DEF + below)


@pytest.mark.parametrize("spoil", ["\r\n", "\r", "\ufeff", "\t", "\f"], ids=ascii)
def test_line_ends_and_marks_of_other_systems(run: Run, spoil: str) -> None:
    text = MARK + DEF + '    """One.\n\n    Two."""\n' + BODY
    text = {
        "\ufeff": spoil + text,
        "\t": text.replace("    ", "\t"),
        "\f": text.replace("def", "\f\ndef").replace("@", "\f\n@"),
    }.get(spoil, text.replace("\n", spoil))
    assert YOURS in run(text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=ascii)
def test_a_file_with_other_line_ends(home: Path, tmp_path: Path, end: str) -> None:
    text = "\ufeffimport torch\nfrom course_utils import completes\n\n" + MARK + DEF + BODY
    path = tmp_path / "answer.py"
    path.write_bytes(text.replace("\n", end).encode())
    shown = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert YOURS in shown.stdout


def test_a_null_character(run: Run) -> None:
    with pytest.raises(source.CellProblem, match="Python cannot read"):
        source.part_source(DEF + BODY + "# \0", PART)
    with pytest.raises(source.CellProblem, match="not UTF-8"):
        source.part_source(DEF + BODY + "# \udcf6", PART)


# --- decorators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decorators",
    [
        "from course_utils import completes as c\n@c('attention.softmax')\n",
        "import course_utils as cu\n@cu.completes('attention.softmax')\n",
        "NAME = 'attention.softmax'\n@completes(NAME)\n",
        "@completes(part='attention.softmax')\n",
        "@completes(\n    'attention.softmax'\n)\n",
        "mine = completes('attention.softmax')\n@mine\n",
        "@torch.enable_grad()\n" + MARK,
        MARK + "@torch.enable_grad()\n",
        "@torch.enable_grad()\n" + MARK + "@torch.enable_grad()\n",
        MARK + "@staticmethod\n",
        "import functools\n" + MARK + "@functools.lru_cache(maxsize=0)\n",
        "def same(f):\n    return f\n\n\n" + MARK + "@same\n",
    ],
)
def test_decorators_and_other_names(run: Run, decorators: str) -> None:
    assert YOURS in run(decorators + DEF + BODY)
    (saved,) = store.load()
    assert "attention.softmax" not in saved.source


def test_a_decorator_that_stops_gradients_is_seen(run: Run) -> None:
    assert "no gradient flows back" in run("@torch.no_grad()\n" + MARK + DEF + BODY)


@pytest.mark.parametrize("cell", ["@torch.compile\n" + MARK, MARK + "@torch.compile\n"])
def test_a_compiled_part(run: Run, monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.setattr(checker.Checker.examine, "__defaults__", (100.0,))
    assert "Take `@torch.compile` away" in run(cell + DEF + BODY)


def test_two_versions_in_one_cell(run: Run) -> None:
    text = run(MARK + DEF + "    return scores\n\n\n" + MARK + DEF + BODY)
    assert f"{PART} is not right yet" in text and YOURS in text
    text = run(MARK + DEF + BODY + "\n\n" + MARK + DEF + "    return scores\n")
    assert text.index(YOURS) < text.index(f"{PART} is not right yet")


# --- other people's work -------------------------------------------------------------------------

CALLS = {
    "its own name": "    return softmax(scores, dim)\n",
    "its module": "    import course_utils as c\n    return c.attention.softmax(scores, dim)\n",
}


@pytest.mark.parametrize("body", CALLS.values(), ids=CALLS)
def test_a_part_that_calls_itself(run: Run, body: str) -> None:
    assert "calls itself without end" in run(MARK + DEF + body)


BORROWED = [
    "_soft = attention.softmax\n" + MARK + DEF + "    return _soft(scores, dim)\n",
    "import course_utils.attention as a\n_s = a.softmax\n"
    + MARK
    + DEF
    + "    return _s(scores, dim)\n",
    "import sys\n_s = vars(sys.modules['course_utils.attention'])['softmax']\n"
    + MARK
    + DEF
    + "    return _s(scores, dim)\n",
    MARK
    + DEF
    + "    from course_utils.engine import parts\n"
    + "    return parts.reference('attention.softmax')(scores, dim)\n",
]


@pytest.mark.parametrize("cell", BORROWED)
def test_a_part_that_only_calls_the_packages_own(run: Run, cell: str) -> None:
    text = run(
        cell.replace("attention.softmax\n", "__import__('course_utils').attention.softmax\n")
    )
    assert "calls the package's own `softmax`" in text


CLASSES = [part for part, version in parts.references().items() if isinstance(version, type)]


@pytest.mark.parametrize("part", CLASSES)
@pytest.mark.parametrize(
    "cell",
    [
        "class {name}({name}):\n    pass\n",
        "class {name}(course_utils.{part}):\n    pass\n",
        "import course_utils\n_Base = course_utils.{part}\n\n\n@completes('{part}')\n"
        "class {name}(_Base):\n    def forward(self, *args, **kwargs):\n"
        "        return super().forward(*args, **kwargs)\n",
        "{name} = completes('{part}')(__import__('course_utils').{part})\n",
        "import importlib\n\n\n@completes('{part}')\n"
        "class {name}(importlib.import_module('course_utils.{module}').{name}):\n    x = 1\n",
    ],
)
def test_a_class_that_only_inherits(run: Run, part: str, cell: str) -> None:
    module, name = part.split(".")
    text = cell.format(part=part, name=name, module=module)
    head = "" if "completes" in text else f"import course_utils\n@completes('{part}')\n"
    run(f"from course_utils.{module} import {name}")
    assert f"{part} is not right yet" in run(head + text)
    assert not parts.is_yours(part)


# --- forms ---------------------------------------------------------------------------------------

FORMS = {
    "a lambda": (
        "softmax = completes('attention.softmax')(lambda scores, dim=-1: scores.softmax(dim))\n",
        "`softmax` is given a value here. Write it out, with `def` or `class`",
    ),
    "async": (MARK + "async " + DEF + BODY, "not `async def softmax`"),
    "a generator": (MARK + DEF + "    yield scores\n", "is a generator, because of `yield`"),
    "round brackets": (
        MARK + DEF + "    return (one for one in scores)\n",
        "is a generator, because of `for` in round brackets",
    ),
    "in a block": (
        "if True:\n    " + MARK + "    " + DEF + "        return scores\n",
        "at the left margin",
    ),
    "below the raise": (
        MARK + DEF + '    """Soft."""\n    raise NotImplementedError("your turn")\n' + BODY,
        "Delete line 4: nothing below `raise` in a function is reached",
    ),
    "display": (MARK + DEF + "    display(scores)\n" + BODY, "`display`, which only notebooks"),
    "get_ipython": (MARK + DEF + "    get_ipython()\n" + BODY, "which only notebooks have"),
    "the debugger": (MARK + DEF + "    breakpoint()\n" + BODY, "stops in the debugger"),
    "pdb": (MARK + DEF + "    import pdb\n    pdb.set_trace()\n" + BODY, "stops in the debugger"),
    "input": (MARK + DEF + "    input()\n" + BODY, "waits for something to be typed in"),
    "the whole module": (
        MARK + DEF + "    return vars(attention)\n",
        "Your code uses `attention`, and becomes part of `attention` itself",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_wrong_forms_are_said(run: Run, name: str) -> None:
    cell, sentence = FORMS[name]
    text = run(cell)
    assert f"{PART} is not right yet" in text
    assert sentence in text
    assert YOURS in run(MARK + DEF + BODY)


def test_a_helper_that_moved_after_the_part_had_passed(run: Run, shell: Any, home: Path) -> None:
    helper = "def _soft(s, d):\n    return torch.softmax(s, d)\n"
    uses = MARK + DEF + "    return _soft(scores, dim)\n"
    assert YOURS in run(uses + "\n\n" + helper)
    saved = (home / "attention.py").read_text()
    with capture_output():
        shell.run_cell(helper)
    text = run(uses)
    assert "Your code uses `_soft`, defined in another cell. Move it into this one" in text
    assert "Your version that passed before stays in use" in text
    assert (home / "attention.py").read_text() == saved
    assert attention.softmax(torch.zeros(2)).tolist() == [0.5, 0.5]


# --- words ---------------------------------------------------------------------------------------


def test_articles() -> None:
    values = [np.zeros(1), 1, np.uint8(1), np.int32(1), 1.0, None, [], torch.zeros(1), {}]
    assert [kind(value) for value in values] == [
        "an ndarray",
        "an int",
        "a uint8",
        "an int32",
        "a float",
        "None",
        "a list",
        "a Tensor",
        "a dict",
    ]


@pytest.mark.parametrize(
    ("wanted", "seen", "sentence"),
    [
        ((1, 2, 3), (1, 2, 4), "The third of 3 values is wrong."),
        ((1,), (2,), "The only value is wrong."),
        ((1, (2, 3)), (1, (2, 4)), "The second of 2 values in the second of 2 values is wrong."),
        ((0,) * 12, (0,) * 11 + (1,), "The 12th of 12 values is wrong."),
        ((1, 2), (1, 2, 3), "The result should be 2 values, yours is 3."),
    ],
)
def test_the_values_of_a_tuple_are_counted_in_words(
    wanted: tuple, seen: tuple, sentence: str
) -> None:
    difference = compare_values(wanted, seen, "the result")
    assert difference is not None
    assert difference.sentence == sentence


TWO_FAULTS = {
    "writes in place, and stops above the vocabulary": (
        "sampling.top_k",
        "def top_k(logits, k: int):\n    weakest = logits.topk(k).values[:, -1:]\n"
        "    logits[logits < weakest] = -math.inf\n    return logits\n",
        "k_over_vocab_error",
        "selected index k out of range",
    ),
    "drops ties, and stops above the vocabulary": (
        "sampling.top_k",
        "def top_k(logits, k: int):\n    best = logits.topk(k)\n"
        "    gone = torch.full_like(logits, -math.inf)\n"
        "    return gone.scatter(-1, best.indices, best.values)\n",
        "drops_ties",
        "numbers are wrong",
    ),
}


@pytest.mark.parametrize("name", TWO_FAULTS)
def test_headline_and_mistake_speak_of_one_fault(name: str) -> None:
    part, text, mistake, sentence = TWO_FAULTS[name]
    verdict = worker.examine(part, text)
    assert (verdict.mistake, sentence in verdict.headline) == (mistake, True), verdict


# --- the worker ----------------------------------------------------------------------------------


def test_torch_that_wraps_itself_is_not_blamed_on_the_learner(home: Path) -> None:
    """Its first optimiser loads torch's compiler, which wraps `torch.manual_seed`."""
    one = checker.Checker()
    right = parts.reference_source("training.adamw_step")
    one.examine("training.adamw_step", right)
    process = one.process
    assert process is not None
    assert one.examine("training.adamw_step", right).state == "right"
    assert one.process is process
    patch = "import functools\n@functools.wraps(torch.exp)\ndef exp(x):\n    return x\n"
    one.examine(PART, patch + DEF + "    torch.exp = exp\n    return scores\n")
    assert one.process is None
    one.stop()
