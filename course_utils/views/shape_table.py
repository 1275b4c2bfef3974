"""What goes into every module of a model, what comes out, and how many parameters it holds."""

import html
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.views.page import View

HEADER = ("module", "class", "shape in", "shape out", "parameters")
FONT = "font-family:var(--jp-code-font-family,monospace)"
SIDES = ("left", "left", "left", "left", "right")


@dataclass
class Row:
    """One call of one module.

    `parameters` counts its own, and those of modules inside it that are never called themselves.
    """

    path: str
    kind: str
    shape_in: str
    shape_out: str
    parameters: int


@dataclass(frozen=True, repr=False)
class ShapeTable(View):
    """The rows in the order of the calls, and the number of all parameters, each counted once."""

    rows: tuple[Row, ...]
    total: int


def shapes(
    model: nn.Module, *inputs: Any, axes: Mapping[str, int] | None = None, **keywords: Any
) -> ShapeTable:
    """Run `model` once, without gradients and in eval mode, and list every call of its modules.

    `axes` gives sizes names, such as `{"B": 2, "T": 9}`; a size that has two names keeps none. The
    model is left as it was, also where the run raises.
    """
    names = _unique_names(axes or {})
    with _at_rest(model), _watch(model, names) as rows, torch.no_grad():
        model(*inputs, **keywords)
    _count_parameters(model, rows)
    total = sum(parameter.numel() for parameter in model.parameters())
    return ShapeTable(_html(rows, total), _text(rows, total), tuple(rows), total)


def describe(value: Any, names: Mapping[int, str]) -> str:
    """The shape of a tensor, or of all tensors inside a tuple, list or dictionary."""
    if isinstance(value, Tensor):
        sizes = (f"{names[size]}={size}" if size in names else str(size) for size in value.shape)
        return f"[{', '.join(sizes)}]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={describe(inner, names)}" for key, inner in value.items())
    if isinstance(value, (tuple, list)):
        return f"({', '.join(describe(inner, names) for inner in value)})"
    return str(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def _unique_names(axes: Mapping[str, int]) -> dict[int, str]:
    sizes = list(axes.values())
    return {size: name for name, size in axes.items() if sizes.count(size) == 1}


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while: no dropout, and no running mean that moves."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _watch(model: nn.Module, names: Mapping[int, str]) -> Iterator[list[Row]]:
    """A row for every call inside the block, parents before the modules that they call."""
    rows: list[Row] = []
    running: list[Row] = []
    paths = {module: path or "(the model)" for path, module in model.named_modules()}

    def enter(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        given = [describe(value, names) for value in arguments]
        given += [f"{key}={describe(value, names)}" for key, value in keywords.items()]
        running.append(Row(paths[module], type(module).__name__, ", ".join(given), "", 0))
        rows.append(running[-1])

    def leave(module: nn.Module, arguments: tuple, output: Any) -> None:
        running.pop().shape_out = describe(output, names)

    with ExitStack() as hooks:
        for module in paths:
            hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield rows


def _count_parameters(model: nn.Module, rows: list[Row]) -> None:
    """Give every module's own parameters to its first call, or to that of the module around it."""
    first_calls = {row.path: row for row in reversed(rows)}
    for path, module in model.named_modules():
        while path and path not in first_calls:
            path = path.rpartition(".")[0]
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        first_calls[path or "(the model)"].parameters += own


def _cells(row: Row) -> tuple[str, ...]:
    own = f"{row.parameters:,}" if row.parameters else ""
    return (row.path, row.kind, row.shape_in, row.shape_out, own)


def _text(rows: list[Row], total: int) -> str:
    lines = [HEADER, *map(_cells, rows), ("total", "", "", "", f"{total:,}")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = (
        "  ".join(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False))
        + "  "
        + line[-1].rjust(widths[-1])
        for line in lines
    )
    return "\n".join(texts)


def _html(rows: list[Row], total: int) -> str:
    body = "\n".join(f"<tr>{_html_cells('td', _cells(row))}</tr>" for row in rows)
    return f"""<table data-view="shapes">
<caption style="text-align:left">Every call in its order; parameters are a module's own</caption>
<thead><tr>{_html_cells('th scope="col"', HEADER)}</tr></thead>
<tbody style="{FONT}">
{body}
</tbody>
<tfoot><tr>{_html_cells("td", ("total", "", "", "", f"{total:,}"))}</tr></tfoot>
</table>"""


def _html_cells(kind: str, cells: tuple[str, ...]) -> str:
    return "".join(
        f'<{kind} style="text-align:{side}">{html.escape(cell)}</{kind[:2]}>'
        for side, cell in zip(SIDES, cells, strict=True)
    )
