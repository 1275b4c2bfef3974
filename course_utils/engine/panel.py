"""The panel under an exercise cell, as HTML and as plain text.

Plain markup, no script: it survives saving, and reads well in both themes, by keyboard and aloud.
"""

import re
from dataclasses import dataclass
from html import escape

from course_utils.engine.verdict import Verdict

MARKS = {"right": "✓", "wrong": "✗", "unfinished": "○"}
TITLES = {"right": "is yours", "wrong": "is not right yet", "unfinished": "is not written yet"}

INPUTS_SHOWN = 4
"""A call with more arguments than this shows them on request only."""

STYLE = """
.cu-panel { border: 1px solid var(--jp-border-color2, #c4c4c4); border-left-width: 5px;
  border-radius: 4px; padding: 10px 14px; margin: 6px 0; max-width: 860px; line-height: 1.45;
  font-family: var(--jp-ui-font-family, sans-serif); font-size: 14px;
  color: var(--jp-ui-font-color1, #1b1b1b); background: var(--jp-layout-color1, #fff); }
.cu-panel.cu-right { border-left-color: #2e7d32; }
.cu-panel.cu-wrong { border-left-color: #c77700; }
.cu-panel.cu-unfinished { border-left-color: #7a7a7a; }
.cu-panel p { margin: 6px 0; }
.cu-panel .cu-title { font-weight: 600; font-size: 15px; margin-top: 0; }
.cu-panel .cu-says { border-left: 3px solid #c77700; padding-left: 10px; font-size: 15px; }
.cu-panel.cu-panel code, .cu-panel.cu-panel pre {
  font-family: var(--jp-code-font-family, monospace);
  font-size: 13px; background: var(--jp-layout-color2, #f2f2f2);
  color: var(--jp-ui-font-color1, #1b1b1b); border-radius: 3px; }
.cu-panel.cu-panel code { padding: 1px 4px; }
.cu-panel.cu-panel pre { padding: 6px 10px; margin: 4px 0; overflow-x: auto; white-space: pre;
  line-height: 1.35; }
.cu-panel .cu-sides { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.cu-panel .cu-sides > div { min-width: 150px; max-width: 100%; }
.cu-panel .cu-label, .cu-panel .cu-foot { font-size: 13px;
  color: var(--jp-ui-font-color2, #5a5a5a); }
.cu-panel mark { color: inherit; background: rgba(199, 119, 0, 0.25); border-radius: 2px; }
.cu-panel details { margin: 4px 0; }
.cu-panel details details { margin-left: 16px; }
.cu-panel summary { cursor: pointer; }
"""


@dataclass(frozen=True)
class Panel:
    """What the learner is told after running an exercise cell. `foot` says what is in use now."""

    verdict: Verdict
    foot: str
    hints: tuple[str, ...] = ()
    solution: str = ""

    def _repr_html_(self) -> str:
        verdict = self.verdict
        title = f"{MARKS[verdict.state]} <code>{verdict.part}</code> {TITLES[verdict.state]}"
        body = [f'<p class="cu-title">{title}</p>']
        if verdict.says:
            body.append(f'<p class="cu-says">{_inline(verdict.says)}</p>')
        if verdict.state == "wrong":
            body.append(f"<p>{_inline(verdict.headline)}</p>")
        if verdict.point != verdict.says:
            body.append(f"<p>{_inline(verdict.point)}</p>")
        body += [_lines_html(verdict), _call_html(verdict), _relation_html(verdict)]
        body.append(_printed_html(verdict))
        body.append(f'<p class="cu-foot">{_inline(self.foot)}</p>')
        body.append(_hints_html(self.hints))
        if self.solution:
            body.append(_fold("Solution", _pre(self.solution)))
        return (
            f"<style>{STYLE}</style>"
            f'<section class="cu-panel cu-{verdict.state}" role="status" '
            f'aria-label="{verdict.part} {TITLES[verdict.state]}">{"".join(body)}</section>'
        )

    def __repr__(self) -> str:
        verdict = self.verdict
        lines = [f"{MARKS[verdict.state]} {verdict.part} {TITLES[verdict.state]}"]
        if verdict.says:
            lines.append(verdict.says)
        if verdict.state == "wrong":
            lines.append(verdict.headline)
        if verdict.point != verdict.says:
            lines.append(verdict.point)
        lines += [f"  line {number}: {text.strip()}" for number, text in verdict.lines]
        if verdict.call:
            lines.append(f"The call: {verdict.call}   ({verdict.case})")
            lines += [_labelled(name, value) for name, value in verdict.inputs]
        if verdict.expected:
            lines.append(_labelled("should be", verdict.expected))
        if verdict.got:
            lines.append(_labelled("yours is", verdict.got))
        if verdict.relation and verdict.relation != verdict.says:
            lines.append(verdict.relation)
        if verdict.printed:
            lines.append(_labelled("printed", verdict.printed))
        lines.append(self.foot)
        if self.hints:
            lines.append(
                f'hint("{verdict.part}") gives a hint, solution("{verdict.part}") the solution.'
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Note:
    """A titled text or piece of code, as HTML and as plain text."""

    title: str
    text: str
    code: bool = False

    def _repr_html_(self) -> str:
        body = _pre(self.text) if self.code else f"<p>{_inline(self.text)}</p>"
        return (
            f'<style>{STYLE}</style><section class="cu-panel cu-unfinished">'
            f'<p class="cu-title">{_inline(self.title)}</p>{body}</section>'
        )

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text}"


# --- pieces --------------------------------------------------------------------------------------


def _hints_html(hints: tuple[str, ...]) -> str:
    """Each hint is folded into the one before it, so that they come one at a time."""
    html = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        html = _fold(f"Hint {number} of {len(hints)}", f"<p>{_inline(hint)}</p>{html}")
    return html


def _lines_html(verdict: Verdict) -> str:
    if not verdict.lines:
        return ""
    lines = "\n".join(f"line {number}: {text.strip()}" for number, text in verdict.lines[-4:])
    text, expression = escape(lines), escape(verdict.expression)
    marked = text.replace(expression, f"<mark>{expression}</mark>", 1) if expression else text
    return f'<p class="cu-label">In your cell:</p><pre>{marked}</pre>'


def _call_html(verdict: Verdict) -> str:
    if not verdict.call:
        return ""
    inputs = "".join(_side(name, value) for name, value in verdict.inputs)
    results = _side("it should give", verdict.expected) if verdict.expected else ""
    results += _side("yours gives", verdict.got) if verdict.got else ""
    few = len(verdict.inputs) <= INPUTS_SHOWN
    folded = "" if few else _fold("Its inputs", f'<div class="cu-sides">{inputs}</div>')
    return (
        f'<p class="cu-label">The call <code>{escape(verdict.call)}</code>, '
        f"{escape(verdict.case)}:</p>"
        f'<div class="cu-sides">{inputs if few else ""}{results}</div>{folded}'
    )


def _relation_html(verdict: Verdict) -> str:
    """What the result has to do with the right one, folded where something else is said first."""
    if not verdict.relation or verdict.relation == verdict.says:
        return ""
    return _fold("What your result has to do with it", f"<p>{_inline(verdict.relation)}</p>")


def _printed_html(verdict: Verdict) -> str:
    return _fold("What your code printed", _pre(verdict.printed)) if verdict.printed else ""


def _side(label: str, value: str) -> str:
    return f'<div><span class="cu-label">{escape(label)}</span>{_pre(value)}</div>'


def _fold(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _pre(text: str) -> str:
    return f"<pre>{escape(text.rstrip())}</pre>"


def _inline(text: str) -> str:
    """Escaped text in which `code` is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _labelled(label: str, value: str) -> str:
    return f"  {label}: " + value.rstrip().replace("\n", "\n    ")
