"""House rules: what every notebook, module and picture keeps to."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

from course_utils import exercises
from course_utils.engine import parts
from tools import shape

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "course_utils"
OURS = (
    "benchmarks",
    "course_utils",
    "data",
    "docs",
    "images",
    "jupyter",
    "notebooks",
    "tests",
    "tools",
)
COMPLETES = re.compile(r'^@completes\("(.+)"\)$', re.MULTILINE)


def files(*endings: str) -> list[Path]:
    """Our files with one of the endings, those at the top of the repository included."""
    found = [path for folder in OURS for path in (REPOSITORY / folder).rglob("*")]
    found += [
        *REPOSITORY.glob("*"),
        *(REPOSITORY / ".github" / "workflows").glob("*"),
        REPOSITORY / ".ci/run",
    ]
    return sorted(path for path in found if path.is_file() and path.name.endswith(endings))


# --- Notebooks -----------------------------------------------------------------------------------

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[str]:
    """Sources of a notebook's cells of one kind."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@each_notebook
def test_it_is_a_clean_notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.source


@each_notebook
def test_it_has_one_title_and_a_quiz(path: Path) -> None:
    headings = [
        line
        for source in cells(path, "markdown")
        for line in re.sub(r"```.*?```", "", source, flags=re.DOTALL).splitlines()
        if re.match(r"#+ ", line)
    ]
    assert [line for line in headings if line.startswith("# ")] == headings[:1]
    assert path.stem[:2] in headings[0]
    assert any("quiz" in line.lower() for line in headings)


@each_notebook
def test_its_prose_is_short(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        source = cell.source if cell.cell_type == "markdown" else ""
        if shape.LIST_TAG in cell.metadata.get("tags", []):
            source = source.split("\n\n")[0]  # the list is written by tools/shape.py
        prose = re.sub(r"```.*?```|^\|.*?$", "", source, flags=re.DOTALL | re.MULTILINE)
        words = re.sub(r"\]\([^)]*\)|<[^>]*>", " ", prose).split()
        assert len(words) <= 120, f"{len(words)} words: {source[:60]}"


LONG = {"07": 120, "08": 120}  # minutes of the core; of all others 90


@each_notebook
def test_its_core_can_be_finished(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    found = shape.sections(notebook)
    assert len(notebook.cells) <= 120
    assert shape.length(notebook) <= 5000
    assert shape.minutes(found, "core") <= LONG.get(path.stem[:2], 90)


@each_notebook
def test_its_minutes_folds_and_list_are_right(path: Path) -> None:
    """`python tools/shape.py NN` writes them."""
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    assert [shape.LIST_TAG in cell.metadata.get("tags", []) for cell in notebook.cells].count(
        True
    ) == 1
    shape.put_in_shape(notebook)
    assert nbformat.writes(notebook) == before


@each_notebook
def test_the_readme_says_how_long_it_takes(path: Path) -> None:
    found = shape.sections(nbformat.read(path, as_version=4))
    core, more = shape.minutes(found, "core"), shape.minutes(found, "more")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    said = re.search(rf"notebooks/{path.name}\).*\| (\d+) \| (\d+) \|", readme)
    assert said and (int(said[1]), int(said[2])) == (core, core + more)


@each_notebook
def test_its_pictures_exist_and_have_a_text_alternative(path: Path) -> None:
    prose = "\n".join(cells(path, "markdown"))
    for alternative, target in re.findall(r"!\[(.*?)\]\((.*?)\)", prose):
        assert len(alternative.split()) >= 3, target
        assert (path.parent / target).exists(), target
    for tag in re.findall(r"<img[^>]*>", prose):
        assert re.search(r'alt="[^"]{10,}"', tag), tag


@each_notebook
def test_its_corpora_are_ours(path: Path) -> None:
    assert "shakespeare" not in path.read_text().lower()


@each_notebook
def test_its_exercise_cells_are_the_blanks(path: Path) -> None:
    for source in cells(path, "code"):
        for part in COMPLETES.findall(source):
            assert exercises.notebook_of(part) == path.stem[:2]
            assert source.strip() == f'@completes("{part}")\n{parts.blank(part)}'.strip()


def test_every_exercise_is_in_one_notebook() -> None:
    found = Counter(
        part
        for path in NOTEBOOKS
        for source in cells(path, "code")
        for part in COMPLETES.findall(source)
    )
    assert found == {exercise.part: 1 for exercise in exercises.all_exercises()}


# --- Sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(".svg"), ids=lambda path: path.name)
def test_a_drawing_has_a_text_alternative(path: Path) -> None:
    assert re.search(r"<title.*?>.{10,}</title>.*?<desc.*?>.{40,}</desc>", path.read_text(), re.S)


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.~])/(work|root|home|Users|tmp|farm)/\w|[A-Z]:\\\\?Users")
    text = (".py", ".ipynb", ".md", ".toml", ".yml", ".txt", ".json", ".sh", "Makefile", "run")
    found = [
        f"{path.relative_to(REPOSITORY)}: {match[0]}"
        for path in files(*text)
        for match in machine.finditer(path.read_text())
    ]
    assert found == []


def is_text(mode: ast.expr | None) -> bool:
    """Whether a file of this mode is text. Where nothing is said, it is."""
    return mode is None or (isinstance(mode, ast.Constant) and "b" not in str(mode.value))


def has_no_encoding(call: ast.Call) -> bool:
    """Whether a call leaves it to the machine how characters are stored."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    mode = given.get("mode")
    match call.func:
        case ast.Attribute(attr="read_text" | "write_text"):
            guesses = True
        case ast.Name(id="open"):
            guesses = is_text(call.args[1] if call.args[1:] else mode)
        case ast.Attribute(attr="open"):
            guesses = is_text(call.args[0] if call.args else mode)
        case ast.Attribute(attr="NamedTemporaryFile" | "TemporaryFile" | "fdopen"):
            guesses = mode is not None and is_text(mode)
        case ast.Attribute(attr="run" | "Popen" | "check_output"):
            guesses = "text" in given or "universal_newlines" in given
        case _:
            guesses = False
    return guesses and "encoding" not in given


PROGRAMS = [path for path in files(".py") if path.relative_to(REPOSITORY).parts[0] != "tests"]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_is_read_and_written_in_an_encoding_that_is_named(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if has_no_encoding(call)] == []


# --- Who may import whom -------------------------------------------------------------------------

# A room may import itself and the rooms named here. What lies at the top is a chapter.
MAY_IMPORT: dict[str, set[str]] = {
    "chapters": set(),
    "corpora": set(),
    "views": set(),
    "families": {"chapters"},
    "runs": {"chapters", "corpora", "families"},
    "exercises": {"chapters"},
    "engine": {"exercises", "views"},
}
# What a user of the package meets; they may import everything.
DOORS = {"__init__", "__main__"}
REGISTRY = {"course_utils.exercises", "course_utils.exercises.exercise"}


def module_name(path: Path) -> str:
    """`course_utils.engine.check` for the file course_utils/engine/check.py."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    """The room that a module of ours belongs to."""
    second = module.split(".")[1]
    return second if second in MAY_IMPORT else "chapters"


def imported(module: str) -> Iterator[tuple[str, str]]:
    """What a module imports from ours, as (module, name); the name is empty for a whole module."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full, from course_utils"
            for name in (alias.name for alias in node.names):
                whole = f"{node.module}.{name}"
                if whole in MODULES:
                    yield whole, ""
                elif node.module in MODULES:
                    yield node.module, name


INNER = sorted(
    module
    for module, path in MODULES.items()
    if not (path.parent == PACKAGE and path.stem in DOORS)
)


@pytest.mark.parametrize("module", INNER)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    allowed = MAY_IMPORT[room(module)] | {room(module)}
    for target, _ in imported(module):
        assert target != "course_utils", "import the module that is meant"
        assert room(target) in allowed, f"{module} imports {target}"
        if room(module) == "engine" and room(target) == "exercises":
            assert target in REGISTRY, f"{module} imports {target}: go through the registry"


def test_every_part_on_the_contents_page_has_its_file_and_no_other_file_is_there() -> None:
    """What parts of a chapter share is `shared`; what chapters share lies beside the page."""
    folder = PACKAGE / "exercises"
    files = {path.relative_to(folder).with_suffix("") for path in folder.glob("*/*.py")}
    parts_of = {str(path).replace("/", ".") for path in files}
    ours = {name for name in parts_of if name.endswith((".__init__", ".shared"))}
    assert parts_of - ours == set(exercises.PARTS)


def test_the_contents_page_is_in_the_order_of_the_notebooks() -> None:
    in_notebooks = [
        part
        for path in NOTEBOOKS
        for source in cells(path, "code")
        for part in COMPLETES.findall(source)
    ]
    assert list(exercises.PARTS) == in_notebooks


@pytest.mark.parametrize("module", INNER)
def test_parts_are_used_through_their_module(module: str) -> None:
    """`from … import softmax` would keep the reference after the learner's version is installed."""
    known = {exercise.part for exercise in exercises.all_exercises()}
    names = {f"{target.split('.')[-1]}.{name}" for target, name in imported(module)}
    assert names & known == set()


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: {target for target, _ in imported(module)} - {module} for module in INNER}
    list(TopologicalSorter(graph).static_order())
