"""The map of the transformer: every part in its place, the ones that you wrote filled in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path

from course_utils.views.page import View


@dataclass(frozen=True)
class PartState:
    """A part ("attention.softmax"), the notebook that builds it ("03"), and whether it is yours."""

    name: str
    notebook: str
    yours: bool

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]

    @property
    def function(self) -> str:
        return self.name.partition(".")[2]


@dataclass(frozen=True)
class Region:
    """A place on the map: one module. `order` lists parts in the order of the data's flow."""

    module: str
    notebook: str
    label: str
    column: int
    order: tuple[str, ...] = ()
    across: int = 1  # parts side by side
    flows: bool = True  # on the way from tokens to text


REGIONS = (
    Region("start_here", "00", "Tokens", 0),
    Region("tokenization", "10", "Text to tokens", 0, across=2),
    Region(
        "projection",
        "01",
        "Embedding, linear maps",
        0,
        ("embed", "linear", "is_linear", "dot_and_cosine"),
    ),
    Region("positions", "04", "Positions", 0),
    Region(
        "attention",
        "02, 03",
        "Attention: who looks at whom",
        1,
        (
            "project_qkv",
            "split_heads",
            "attention_scores",
            "score_scale",
            "softmax",
            "attention_weights",
            "mix_values",
            "scaled_dot_product_attention",
            "merge_heads",
            "MultiHeadAttention",
        ),
        across=2,
    ),
    Region("encoder", "05", "Feed-forward and norms", 1, across=2),
    Region("decoder", "06", "The whole model and its head", 2, across=2),
    Region("training", "07", "Training: from first weights to good ones", 1, across=2, flows=False),
    Region("sampling", "08", "Sampling: scores to text", 2, across=2),
    Region("scaling", "09", "Scaling: costs and gains", 2, flows=False),
    Region("modern", "12", "Modern parts: other choices", 1, across=2, flows=False),
    Region("interpretability", "11", "Looking inside", 2, flows=False),
    Region("inference", "13", "Fast inference", 2, across=2, flows=False),
    Region("efficiency", "14", "Efficient training", 1, across=2, flows=False),
    Region("objectives", "15", "Families: what is asked", 2, across=2, flows=False),
)
OTHER = Region(
    "", "", "More parts", 3, across=3, flows=False
)  # for parts of modules without a place above

LETTER = 6.8  # width of a letter of a part's name; these lengths are in pixels
PART, GAP, HEADING, PADDING = 24, 6, 26, 10
BETWEEN, GUTTER, FRAME = 20, 52, 30  # between regions, between columns, above the block's regions
TOP = 34


@dataclass
class Box:
    """A region with its parts, and where it is drawn."""

    region: Region
    parts: list[PartState]
    lit: frozenset[str]
    x: float = 0
    y: float = 0
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        longest = max((len(self.label(part)) for part in self.parts), default=0)
        across = self.region.across
        content = across * (longest * LETTER + 34) + (across - 1) * GAP if self.parts else 0
        self.width = 2 * PADDING + max(content, len(_heading(self)) * LETTER + 10)
        rows = -(-len(self.parts) // across)
        self.height = HEADING + rows * (PART + GAP) + GAP

    def label(self, part: PartState) -> str:
        return part.name if self.region is OTHER else part.function

    @property
    def is_lit(self) -> bool:
        return self.region.module in self.lit or any(part.name in self.lit for part in self.parts)


def progress_map(parts: Iterable[PartState], lit: str | Sequence[str] | None = None) -> View:
    """Draw the transformer with the parts that are yours filled in.

    `lit` is a module ("attention") or a list of parts: what the notebook at hand builds.
    """
    states = list(parts)
    shining = _lit_names(states, lit)
    yours = sum(part.yours for part in states)
    title = f"The transformer: {yours} of {len(states)} parts are yours"
    boxes = _boxes(states, shining)
    width, height = _place(boxes)
    text = "\n".join([title, *(_line(part, shining) for box in boxes for part in box.parts)])
    return View(_svg(boxes, width, height, title, text), text)


def _lit_names(states: list[PartState], lit: str | Sequence[str] | None) -> frozenset[str]:
    if lit is None:
        return frozenset()
    wanted = {lit} if isinstance(lit, str) else set(lit)
    modules = {part.module for part in states} | {region.module for region in REGIONS}
    unknown = wanted - {part.name for part in states} - modules
    if unknown:
        raise ValueError(f"lit must name modules or parts of the map, got {sorted(unknown)}")
    return frozenset(wanted | {part.name for part in states if part.module in wanted})


def _boxes(states: list[PartState], lit: frozenset[str]) -> list[Box]:
    """A box for every region, in the order of the table; unknown modules share the last one."""
    known = {region.module for region in REGIONS}
    boxes = [
        Box(one, _ordered(one, [p for p in states if p.module == one.module]), lit)
        for one in REGIONS
    ]
    rest = [part for part in states if part.module not in known]
    return [*boxes, Box(OTHER, rest, lit)] if rest else boxes


def _ordered(region: Region, parts: list[PartState]) -> list[PartState]:
    place = {name: number for number, name in enumerate(region.order)}
    return sorted(parts, key=lambda part: place.get(part.function, len(place)))


def _place(boxes: list[Box]) -> tuple[float, float]:
    """Give every box its place, column by column; returns the width and height of the picture."""
    x, bottom = float(PADDING), 0.0
    columns = [box for box in boxes if box.region is not OTHER]
    for number in sorted({box.region.column for box in columns}):
        column = [box for box in columns if box.region.column == number]
        width = max(box.width for box in column)
        y = float(TOP + FRAME)
        for box in column:
            box.x, box.y, box.width = x, y, width
            y += box.height + BETWEEN
        x, bottom = x + width + GUTTER, max(bottom, y)
    right = x - GUTTER + PADDING
    for box in boxes[len(columns) :]:
        box.x, box.y, box.width = PADDING, bottom + BETWEEN, max(box.width, right - 2 * PADDING)
        bottom, right = box.y + box.height + BETWEEN, max(right, box.width + 2 * PADDING)
    return right, bottom


def _heading(box: Box) -> str:
    notebook = f"{box.region.notebook} · " if box.region.notebook else ""
    return f"{notebook}{box.region.label}{' ◂ this notebook' if box.is_lit else ''}"


def _line(part: PartState, lit: frozenset[str]) -> str:
    here = "  <- this notebook" if part.name in lit else ""
    return f"[{'x' if part.yours else ' '}] {part.name}{here}"


# --- Drawing -------------------------------------------------------------------------------------


@cache
def _style() -> str:
    return Path(__file__).with_name("transformer_map.css").read_text(encoding="utf-8")


def _svg(boxes: list[Box], width: float, height: float, title: str, text: str) -> str:
    drawn = [_frame(boxes), *_arrows(boxes), *map(_region, boxes)]
    return f"""<svg class="cu-progress" data-view="progress" xmlns="http://www.w3.org/2000/svg"
 role="img" aria-label="{escape(title)}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">
<title>{escape(title)}</title>
<desc>{escape(text)}</desc>
<style>{_style()}</style>
<text class="cu-title" x="{PADDING}" y="22">{escape(title)}</text>
{chr(10).join(drawn)}
</svg>"""


def _frame(boxes: list[Box]) -> str:
    """The outline of the block: the regions of the middle column that data flows through."""
    inside = [box for box in boxes if box.region.column == 1 and box.region.flows]
    x, y = inside[0].x - 8, inside[0].y - FRAME + 6
    width, height = inside[0].width + 16, inside[-1].y + inside[-1].height - y + 8
    return (
        f'<rect class="cu-block" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'rx="10"/><text class="cu-note" x="{x + 10:.0f}" y="{y + 17:.0f}">'
        "one block, repeated layer after layer</text>"
    )


def _arrows(boxes: list[Box]) -> list[str]:
    """The way of the data: down a column, then up to the head of the next."""
    flow = [box for box in boxes if box.region.flows]
    paths = []
    for start, end in pairwise(flow):
        if start.x == end.x:
            middle = start.x + start.width / 2
            path = f"M{middle:.0f} {start.y + start.height:.0f}V{end.y:.0f}l-4-7m8 0l-4 7"
        else:
            y, turn = start.y + start.height / 2, start.x + start.width + GUTTER / 2
            path = f"M{start.x + start.width:.0f} {y:.0f}H{turn:.0f}V{end.y + 13:.0f}H{end.x:.0f}"
            path += "l-7-4m0 8l7-4"
        paths.append(f'<path class="cu-flow" d="{path}"/>')
    return paths


def _region(box: Box) -> str:
    kind = "cu-lit" if box.is_lit else "" if box.parts else "cu-empty"
    across = box.region.across
    parts = [
        _part(part, box, number % across, number // across) for number, part in enumerate(box.parts)
    ]
    return "\n".join(
        [
            f'<g class="cu-region {kind}" data-module="{escape(box.region.module)}">',
            f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
            f'height="{box.height:.0f}" rx="7"/>',
            f'<text class="cu-heading" x="{box.x + PADDING:.0f}" y="{box.y + 18:.0f}">'
            f"{escape(_heading(box))}</text>",
            *parts,
            "</g>",
        ]
    )


def _part(part: PartState, box: Box, column: int, row: int) -> str:
    width = (box.width - 2 * PADDING + GAP) / box.region.across - GAP
    x = box.x + PADDING + column * (width + GAP)
    y = box.y + HEADING + row * (PART + GAP)
    kind = " ".join(
        word
        for word, holds in (("cu-yours", part.yours), ("cu-lit", part.name in box.lit))
        if holds
    )
    mark = "M6 12l4 5l7-10" if part.yours else "M7 12a5 5 0 1 0 10 0a5 5 0 1 0-10 0"
    state = "yours" if part.yours else "not yet yours"
    return (
        f'<g class="cu-part {kind}" data-part="{escape(part.name)}" '
        f'data-yours="{str(part.yours).lower()}" transform="translate({x:.0f} {y:.0f})">'
        f"<title>{escape(part.name)}: {state}</title>"
        f'<rect width="{width:.0f}" height="{PART}" rx="5"/>'
        f'<path d="{mark}"/><text x="24" y="16">{escape(box.label(part))}</text></g>'
    )
