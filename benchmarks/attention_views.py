"""From "Run" to a drawn picture: our attention explorer beside inspectus, CircuitsVis and bertviz.

    python benchmarks/attention_views.py [runs]

Every run opens a notebook in JupyterLab in headless Chromium, imports and warms up the package in
one cell, and then times the next: from "Run" until the picture stands and the page is quiet. The
packages take turns, so that a busy machine disturbs all of them. No request leaves the machine.
"""

import importlib.util
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "browser"))

from lab import UI, Lab  # noqa: E402

LAYERS, HEADS, TOKENS = 12, 12, 128
GIVE_UP = 400  # seconds
SLOW = 30  # seconds; a package that takes longer runs once

SETUP = """import torch

def attention(layers, heads, tokens):
    torch.manual_seed(0)
    scores = 3 * torch.randn(layers, heads, tokens, tokens)
    mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights, [f"word{{i}}" for i in range(tokens)]

{imports}
def show(weights, tokens):
    return {call}

show(*attention(1, 1, 2))
weights, tokens = attention({layers}, {heads}, {tokens});"""

# Resolves to the milliseconds until the last change of the output before a second of rest.
# A frame that comes late counts as a change: the page was busy. What JupyterLab changes in the cell
# around the output does not count.
DRAWN = """
const [selector, seconds] = argument;
const start = performance.now();
let last = start, previous = start;
const cell = notebook.content.widgets[1];
const observer = new MutationObserver(() => { last = performance.now(); });
observer.observe(cell.outputArea.node, { subtree: true, childList: true, attributes: true });
app.commands.execute("notebook:run-all-below");
for (;;) {
    await new Promise(resolve => requestAnimationFrame(resolve));
    const now = performance.now();
    if (now - previous > 100) last = now;
    previous = now;
    const found = cell.node.querySelector(selector);
    const idle = notebook.sessionContext.session.kernel.status === "idle";
    if (found && idle && now - last > 1000) return last - start;
    if (now - start > 1000 * seconds) return null;
}"""

# Bytes of the file that "Save" writes. Saving itself would meet JupyterLab's own autosave, which
# asks what to do about a file that has changed.
SIZE = "return new Blob([JSON.stringify(notebook.content.model.toJSON(), null, 1)]).size"


@dataclass
class Package:
    """A view to measure, and what was measured: seconds to draw, bytes of the saved notebook."""

    label: str
    module: str
    imports: str
    call: str
    drawn: str  # selector of what is there once the picture is drawn
    patience: int = GIVE_UP
    seconds: list[float] = field(default_factory=list)
    size: int = 0
    asked_network: bool = False

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def cells(self) -> list[str]:
        sizes = {"layers": LAYERS, "heads": HEADS, "tokens": TOKENS}
        return [
            SETUP.format(imports=self.imports, call=self.call, **sizes),
            "show(weights, tokens)",
        ]


PACKAGES = [
    Package(
        "course_utils `explore`",
        "course_utils",
        "from course_utils import views",
        "views.explore(weights, tokens)",
        ".cu-explore[data-drawn] canvas",
    ),
    Package(
        "inspectus",
        "inspectus",
        "import inspectus",
        "inspectus.attention(weights, tokens)",
        ".jp-OutputArea-output svg, .jp-OutputArea-output canvas",
    ),
    Package(
        "CircuitsVis",
        "circuitsvis",
        "from circuitsvis.attention import attention_heads",
        "attention_heads(attention=weights.flatten(0, 1), tokens=tokens)",
        ".jp-OutputArea-output img, .jp-OutputArea-output canvas",
    ),
    Package(
        "bertviz `head_view`",
        "bertviz",
        "from bertviz import head_view",
        "head_view([layer[None] for layer in weights], tokens)",
        ".jp-OutputArea-output svg",
        patience=40,
    ),
]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    packages = [package for package in PACKAGES if package.installed]
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        for number in range(runs):
            for package in packages:
                if number == 0 or (package.seconds and max(package.seconds) < SLOW):
                    with lab.browser() as ui:
                        measure(ui, package, Path(folder))
                    print(package.label, package.seconds, package.size, file=sys.stderr)
    print(table(packages, runs))


def measure(ui: UI, package: Package, folder: Path) -> None:
    """One run in a fresh window with a fresh kernel."""
    path = folder / f"{package.module}.ipynb"
    path.write_text(json.dumps(notebook(package.cells())), encoding="utf-8")
    ui.open(path.name)
    ui.js("notebook.content.activeCellIndex = 0")
    ui.command("notebook:run-cell")
    ui.wait_until_done()
    ui.js("notebook.content.activeCellIndex = 1")
    milliseconds = ui.js(DRAWN, [package.drawn, package.patience], seconds=package.patience + 60)
    if milliseconds is not None:
        package.seconds.append(milliseconds / 1000)
    package.asked_network |= bool(ui.off_host)
    ui.wait_until_done(GIVE_UP)
    package.size = ui.js(SIZE)
    ui.js("await notebook.sessionContext.shutdown()")


def notebook(cells: list[str]) -> dict:
    made: list[dict] = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def table(packages: list[Package], runs: int) -> str:
    """Markdown: medians, and how many times ours they are."""
    ours = packages[0]
    lines = [
        f"{LAYERS} layers × {HEADS} heads × {TOKENS} tokens, median of up to {runs} runs",
        "",
        "| view | seconds to draw | times ours | saved notebook, MB | times ours |",
        "| --- | --- | --- | --- | --- |",
    ]
    for package in packages:
        why = "offline" if package.asked_network else f"in {package.patience} s"
        seconds = f"not drawn {why}", ""
        if package.seconds:
            median = statistics.median(package.seconds)
            spread = f"{min(package.seconds):.1f}–{max(package.seconds):.1f}"
            times = median / statistics.median(ours.seconds)
            seconds = f"{median:.2f} ({spread}, n = {len(package.seconds)})", f"{times:.1f}"
        size = f"{package.size / 1e6:.2f}", f"{package.size / ours.size:.1f}"
        lines.append(f"| {' | '.join((package.label, *seconds, *size))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
