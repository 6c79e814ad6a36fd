"""A plan for people, as a tree, and for programs, as JSON-ready data.

Names may come from a hostile project: whatever a terminal could obey is escaped. Values of
environment variables are never shown, since they may be secrets; their names are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from casemate.plan.model import Bind, Directory, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.plan.render_network import network_as_json, network_rows, secret_rows
from casemate.policy.model import Pattern
from casemate.policy.units import format_duration, format_size
from casemate.policy.values import printable

COLORS = {
    "copy-on-write": "33",
    "writable": "31",
    "private": "36",
    "masked": "35",
    "soft": "33",
    "waived": "33",
    "absent": "31",
}
NAME_MAX = 48
"""Columns of the widest first column."""


class Held(Protocol):
    """A guarantee as a tier states it: `casemate.tiers.guarantees.Guarantee`."""

    @property
    def name(self) -> str: ...
    @property
    def strength(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def note(self) -> str: ...


def access(step: Step) -> str:
    """What can be done at a step's place, in one word."""
    match step:
        case Bind():
            return "writable" if step.writable else "read-only"
        case Root():
            words = {"overlay": "copy-on-write", "direct": "writable", "readonly": "read-only"}
            return words[step.mode]
        case Scratch():
            return "private"
        case Mask():
            return "masked"
        case File():
            return "made"
        case Symlink():
            return "link"
        case Directory():
            return "empty"


def as_text(plan: Plan, guarantees: Sequence[Held], *, color: bool, width: int) -> str:
    """The plan for a terminal `width` columns wide."""
    table = _Table(color, width)
    mode = plan.roots[0].mode if plan.roots else "readonly"
    lines = [f"plan for {printable(plan.project)}: {mode}, tier {plan.tier}", ""]
    lines += ["files", *table.rows(_tree(plan.steps))]
    for title, patterns in (("hidden", plan.hide), ("protected", plan.protect)):
        if patterns:
            lines += ["", f"{title} in the project", *_shipped(patterns, width)]
            lines += table.rows(_patterns(patterns))
    limits = [(name, text, "") for name, text in _limits(plan)]
    lines += ["", "limits", *table.rows(limits)]
    lines += ["", "network", *table.rows(network_rows(plan))]
    if plan.secrets:
        lines += ["", "secrets, inside as placeholders", *table.rows(secret_rows(plan))]
    lines += ["", "environment", *_wrapped(_variables(plan), width)]
    if guarantees:
        held = [(f"  {item.name}", item.strength, _reason(item)) for item in guarantees]
        lines += ["", "guarantees", *table.rows(held)]
    if plan.notes:
        lines += ["", "notes", *(f"  {printable(note)}" for note in plan.notes)]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan, guarantees: Sequence[Held]) -> dict[str, object]:
    """The plan as JSON-ready data. Sizes are bytes, times seconds, null no limit."""
    limits = plan.limits
    return {
        "project": plan.project,
        "working_directory": plan.working_directory,
        "tier": plan.tier,
        "strict": plan.strict,
        "home": plan.home,
        "user": plan.user,
        "files": [_step(step) for step in plan.steps],
        "hide": [_pattern(pattern) for pattern in plan.hide],
        "protect": [_pattern(pattern) for pattern in plan.protect],
        "limits": {
            "disk": plan.disk,
            "files": plan.files,
            "memory": limits.memory,
            "processes": limits.processes,
            "cpus": limits.cpus,
            "time": limits.time,
            "open_files": limits.open_files,
            "output": limits.output,
            "scratch": limits.scratch,
        },
        "network": network_as_json(plan),
        "secrets": [{"name": item.name, "to": list(item.to)} for item in plan.secrets],
        "environment": {
            "passed": list(plan.environment_passed),
            "set": [name for name, _ in plan.environment_set],
        },
        "kernel_allow": list(plan.kernel_allow),
        "waive": list(plan.waive),
        "guarantees": [
            {"name": item.name, "strength": item.strength, "by": item.by, "note": item.note}
            for item in guarantees
        ],
        "notes": list(plan.notes),
        "sources": list(plan.sources),
    }


def _step(step: Step) -> dict[str, object]:
    found: dict[str, object] = {
        "path": step.target,
        "access": access(step),
        "reason": step.reason,
    }
    if isinstance(step, Bind | Root):
        found["source"] = step.source
    if isinstance(step, Symlink):
        found["destination"] = step.destination
    if isinstance(step, File):
        found["bytes"] = len(step.content)
    if isinstance(step, Root):
        found["root"] = step.index
    return found


def _pattern(pattern: Pattern) -> dict[str, object]:
    return {"pattern": pattern.text, "origin": str(pattern.origin)}


Row = tuple[str, str, str]


def _tree(steps: Sequence[Step]) -> list[Row]:
    """One row for each step, in the order of a directory listing, with branches drawn."""
    children: dict[str, set[str]] = {}
    by_path = {step.target: step for step in steps}
    for path in by_path:
        while path:
            parent = path.rpartition("/")[0]
            children.setdefault(parent, set()).add(path)
            path = parent
    rows: list[Row] = [("  /", "", "")]
    pending = [("", "  ")]
    while pending:
        path, indent = pending.pop()
        if path:
            step = by_path.get(path)
            # A directory that holds one thing only is shown on one line with it.
            first = path
            while step is None and len(children.get(path, ())) == 1:
                path = next(iter(children[path]))
                step = by_path.get(path)
            name = path[len(first.rpartition("/")[0]) + 1 :]
            label = f"{indent}{printable(name)}"
            if isinstance(step, Symlink):
                label += f" -> {printable(step.destination)}"
            rows.append((label, access(step) if step else "", step.reason if step else ""))
            indent = _below(indent)
        below = sorted(children.get(path, ()), reverse=True)
        for position, child in enumerate(below):
            pending.append((child, indent + ("└─ " if position == 0 else "├─ ")))
    return rows


def _below(indent: str) -> str:
    return indent.replace("├─ ", "│  ").replace("└─ ", "   ")


def _from_preset(pattern: Pattern) -> bool:
    return pattern.origin.source.startswith("preset ")


def _shipped(patterns: Sequence[Pattern], width: int) -> list[str]:
    """The patterns of presets, a paragraph for each preset."""
    groups: dict[str, list[str]] = {}
    for item in patterns:
        if _from_preset(item):
            groups.setdefault(item.origin.source, []).append(printable(item.text))
    lines: list[str] = []
    for source, texts in groups.items():
        lines += _wrapped(f"{printable(source)}: {'  '.join(texts)}", width)
    return lines


def _patterns(patterns: Sequence[Pattern]) -> list[Row]:
    """The others, each with its own place in a file."""
    return [
        (f"  {printable(item.text)}", "", str(item.origin))
        for item in patterns
        if not _from_preset(item)
    ]


def _limits(plan: Plan) -> list[tuple[str, str]]:
    limits = plan.limits
    shown = [
        ("disk", format_size(plan.disk)),
        ("files", str(plan.files)),
        ("scratch", format_size(limits.scratch)),
        ("memory", "none" if limits.memory is None else format_size(limits.memory)),
        ("processes", "none" if limits.processes is None else str(limits.processes)),
        ("cpus", "none" if limits.cpus is None else f"{limits.cpus:g}"),
        ("time", "none" if limits.time is None else format_duration(limits.time)),
        ("open files", "none" if limits.open_files is None else str(limits.open_files)),
        ("output", "none" if limits.output is None else format_size(limits.output)),
    ]
    return [(f"  {name}", text) for name, text in shown]


def _variables(plan: Plan) -> str:
    passed = ", ".join(printable(name) for name in plan.environment_passed)
    made = ", ".join(printable(name) for name, _ in plan.environment_set)
    return f"passed if set: {passed}\nset: {made}"


def _reason(item: Held) -> str:
    return f"{item.by} ({item.note})" if item.note else item.by


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    lines: list[str] = []
    for paragraph in text.splitlines():
        lines += textwrap.wrap(
            paragraph,
            max(20, width - 1),
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


class _Table:
    """Rows of name, one word, and reason; the reason gives way when the line is too long."""

    def __init__(self, color: bool, width: int) -> None:
        self._color = color
        self._width = max(40, width)

    def rows(self, rows: Sequence[Row]) -> list[str]:
        names = [len(name) for name, _, _ in rows if len(name) <= NAME_MAX]
        first = max(names, default=0)
        second = max((len(word) for _, word, _ in rows), default=0)
        return [self._row(*row, first, second) for row in rows]

    def _row(self, name: str, word: str, reason: str, first: int, second: int) -> str:
        room = self._width - max(first, len(name)) - second - 4
        text = printable(reason)
        if len(text) > room:
            text = text[: max(0, room - 1)] + "…" if room > 8 else ""
        shown = word.ljust(second)
        if self._color and word in COLORS:
            shown = f"\x1b[{COLORS[word]}m{shown}\x1b[0m"
        return f"{name.ljust(first)}  {shown}  {text}".rstrip()
