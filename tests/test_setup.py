"""The set-up is one thing: what is declared, pinned, installed and documented agrees."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import course_utils

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CONSTRAINTS = [
    line
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]
PINNED = {canonicalize_name(line.split("==")[0]) for line in CONSTRAINTS}


def needed(requirements: list[str], seen: set[str]) -> Iterator[str]:
    """Names of all packages that the requirements install on this machine."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        yield name
        yield from needed(requires(name) or [], seen)


def test_every_package_is_pinned_to_one_version() -> None:
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in CONSTRAINTS)
    assert len(PINNED) == len(CONSTRAINTS)
    assert "torch==2.13.0" in CONSTRAINTS


@pytest.mark.parametrize("extra", ["", "parity", "test"])
def test_everything_that_is_installed_is_pinned(extra: str) -> None:
    declared = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    assert set(needed(declared, set())) <= PINNED


def test_what_an_extra_asks_for_is_what_is_pinned() -> None:
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in map(Requirement, requirements):
            assert canonicalize_name(requirement.name) in PINNED, extra
            if requirement.specifier:
                assert f"{requirement.name}{requirement.specifier}" in CONSTRAINTS


def test_conda_and_binder_install_what_pip_installs() -> None:
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert python.replace("=", ">=", 1) == "python" + PROJECT["requires-python"]
    assert pip == "pip"
    # The project itself, so its list of packages stands in one place: pyproject.toml.
    assert from_pip == {"pip": ["--constraint constraints.txt", "--editable ."]}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the packages imported in a piece of code."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[0].lower() for name in names)


def test_every_import_of_the_package_is_declared() -> None:
    """What an extra installs may be imported too, but only inside the function that needs it."""
    declared = {canonicalize_name(name) for name in PROJECT["dependencies"]}
    known = declared | {name.lower() for name in sys.stdlib_module_names} | {"course_utils"}
    extras = PROJECT["optional-dependencies"]
    optional = {
        Requirement(name).name for extra in ("parity", "pretrained") for name in extras[extra]
    }
    for path in (REPOSITORY / "course_utils").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert set(imported(tree)) <= known | optional, path
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert set(imported(node)) <= known, path


def test_the_version_stands_in_two_places_and_agrees() -> None:
    assert course_utils.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (REPOSITORY / "CHANGELOG.md").read_text()


def find_python(candidates: str) -> subprocess.CompletedProcess[str]:
    """Ask the script of the Makefile for a Python among the candidates."""
    return subprocess.run(
        ["sh", REPOSITORY / "tools" / "find_python.sh"],
        env={"PYTHON": candidates, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
def test_the_first_python_that_fits_is_taken() -> None:
    assert find_python(f"no-such-python {sys.executable}").stdout == f"{sys.executable}\n"
    none = find_python("no-such-python")
    assert none.returncode == 1
    assert "Python 3.11 or newer" in none.stderr


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "data/README.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_in_the_documents_exists(name: str) -> None:
    document = (REPOSITORY / name).read_text()
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", document, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
    usage = subprocess.run(
        [sys.executable, "-m", "course_utils", "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = re.search(r"\{(.*?)\}", usage)
    assert verbs
    named = re.findall(r"-m course_utils ([a-z]+)", document)
    assert set(named) <= set(verbs[1].split(","))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_the_documents_point_to_exists(name: str) -> None:
    document = REPOSITORY / name
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
