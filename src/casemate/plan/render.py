"""A plan as text for people and as data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from casemate.plan.model import Bind, Directory, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.policy.model import Budget, Endpoint
from casemate.policy.units import format_duration, format_size
from casemate.policy.values import printable

_BOLD, _DIM, _GREEN, _YELLOW, _RED = "1", "2", "32", "33", "31"

_Row = tuple[str, str, str, str]
"""Path, what it is, why, colour."""


def render(plan: Plan, *, colour: bool = False, verbose: bool = False) -> str:
    """The plan as a tree of groups, each entry with its reason.

    Directories that only lead to something are left out unless `verbose`.
    """
    groups: list[tuple[str, list[_Row]]] = [
        ("project", [_row(root) for root in plan.roots]),
        ("writable outside the project", _rows(plan, lambda s: isinstance(s, Bind) and s.writable)),
        ("private and empty", _rows(plan, lambda s: isinstance(s, Scratch))),
        ("read-only", _rows(plan, lambda s: isinstance(s, Bind) and not s.writable)),
        ("links", _rows(plan, lambda s: isinstance(s, Symlink))),
        ("made for the sandbox", _rows(plan, lambda s: isinstance(s, File))),
        ("covered", _rows(plan, lambda s: isinstance(s, Mask))),
    ]
    if verbose:
        groups.append(("directories", _rows(plan, lambda s: isinstance(s, Directory))))
    groups += [
        ("hidden in the project", _pattern_rows(plan.hide, _RED)),
        ("protected in the project", _pattern_rows(plan.protect, _YELLOW)),
        ("network", _network_rows(plan)),
        ("secrets", [(s.name, ", ".join(s.to), str(s.origin), _YELLOW) for s in plan.secrets]),
        ("limits", _limit_rows(plan)),
        ("environment", _environment_rows(plan)),
        ("given back or given up", _waiver_rows(plan)),
        ("notes", [(note, "", "", _YELLOW) for note in plan.notes]),
    ]
    strict = ", strict" if plan.strict else ""
    start = printable(plan.working_directory)
    head = f"tier {plan.tier}{strict}; commands start in {start}"
    head += f"; policy: {', '.join(map(printable, plan.sources))}"
    shown = [_group(title, rows, colour) for title, rows in groups if rows]
    return "\n\n".join([_paint(head, _BOLD, colour), *shown]) + "\n"


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON-ready data. Bytes are shown as text; evidence is left out."""
    return {
        "tier": plan.tier,
        "strict": plan.strict,
        "project": plan.project,
        "working_directory": plan.working_directory,
        "home": plan.home,
        "user": plan.user,
        "steps": [_step_json(step) for step in plan.steps],
        "hide": [_pattern_json(pattern) for pattern in plan.hide],
        "protect": [_pattern_json(pattern) for pattern in plan.protect],
        "disk": plan.disk,
        "files": plan.files,
        "limits": {name: getattr(plan.limits, name) for name in _LIMITS},
        "environment": {
            "pass": list(plan.environment_passed),
            "set": dict(plan.environment_set),
        },
        "kernel_allow": list(plan.kernel_allow),
        "network": {
            "allow": [_endpoint_json(endpoint) for endpoint in plan.network.allow],
            "deny": [_endpoint_json(endpoint) for endpoint in plan.network.deny],
            "total": _budget_json(plan.network.total),
        },
        "secrets": [
            {"name": s.name, "to": list(s.to), "form": s.form, "origin": str(s.origin)}
            for s in plan.secrets
        ],
        "waive": list(plan.waive),
        "sources": list(plan.sources),
        "notes": list(plan.notes),
    }


_LIMITS = ("memory", "processes", "cpus", "time", "open_files", "output", "scratch")


def _rows(plan: Plan, wanted: Any) -> list[_Row]:
    return [_row(step) for step in plan.steps if wanted(step)]


def _row(step: Step) -> _Row:
    colour = ""
    match step:
        case Root():
            what, colour = _MODES[step.mode], _GREEN
        case Bind():
            what, colour = ("writable", _YELLOW) if step.writable else ("", "")
        case Scratch():
            what, colour = "scratch", _GREEN
        case Symlink():
            what = f"-> {printable(step.destination)}"
        case File():
            what = f"{len(step.content)} bytes"
        case Mask():
            what, colour = "hidden", _RED
        case Directory():
            what = f"{step.mode:o}"
    return (printable(step.target), what, printable(step.reason), colour)


_MODES = {
    "overlay": "copy-on-write: edits wait for `casemate apply`",
    "direct": "writable: edits are live",
    "readonly": "read-only",
}


def _pattern_rows(patterns: Sequence[Any], colour: str) -> list[_Row]:
    """Patterns by where they come from; the many of one preset in one row."""
    by_source: dict[str, list[str]] = {}
    for pattern in patterns:
        by_source.setdefault(pattern.origin.source, []).append(printable(pattern.text))
    return [
        (", ".join(texts[:12]) + (f" and {len(texts) - 12} more" if len(texts) > 12 else ""),
         "", source, colour)
        for source, texts in by_source.items()
    ]  # fmt: skip


def _network_rows(plan: Plan) -> list[_Row]:
    if not plan.network.allow:
        return [("closed", "no connection leaves", "no network.allow", _GREEN)]
    rows = [(e.text, "allowed", str(e.origin), _YELLOW) for e in plan.network.allow]
    rows += [(e.text, f"denied {e.reason}".strip(), str(e.origin), _RED) for e in plan.network.deny]
    total = _budget_json(plan.network.total)
    if total:
        rows.append(("total", ", ".join(f"{k} {v}" for k, v in total.items()), "", ""))
    return [(printable(a), printable(b), printable(c), colour) for a, b, c, colour in rows]


def _limit_rows(plan: Plan) -> list[_Row]:
    limits = plan.limits
    sizes = {"memory": limits.memory, "output": limits.output, "scratch": limits.scratch}
    texts = {name: "none" if size is None else format_size(size) for name, size in sizes.items()}
    texts |= {
        "processes": str(limits.processes or "none"),
        "open files": str(limits.open_files or "none"),
        "cpus": "none" if limits.cpus is None else f"{limits.cpus:g}",
        "time": "none" if limits.time is None else format_duration(limits.time),
    }
    if any(root.mode == "overlay" for root in plan.roots):
        texts |= {"disk": format_size(plan.disk), "files": str(plan.files)}
    return [(name, text, "", "") for name, text in sorted(texts.items())]


def _environment_rows(plan: Plan) -> list[_Row]:
    rows: list[_Row] = [(printable(n), printable(v), "set", "") for n, v in plan.environment_set]
    return [*rows, (", ".join(plan.environment_passed), "", "passed on if set", "")]


def _waiver_rows(plan: Plan) -> list[_Row]:
    rows: list[_Row] = [(name, "", "kernel.allow", _RED) for name in plan.kernel_allow]
    return [*rows, *((name, "", "waive", _RED) for name in plan.waive)]


def _group(title: str, rows: list[_Row], colour: bool) -> str:
    width = min(48, max(len(path) for path, *_ in rows))
    lines = [_paint(title, _BOLD, colour)]
    for index, (path, what, why, paint) in enumerate(rows):
        branch = "`-- " if index == len(rows) - 1 else "|-- "
        text = f"{path:<{width}}" if what or why else path
        line = branch + _paint(text, paint, colour)
        line += f"  {what}" if what else ""
        line += "  " + _paint(f"({why})", _DIM, colour) if why else ""
        lines.append(line.rstrip())
    return "\n".join(lines)


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def _step_json(step: Step) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": type(step).__name__.lower(), "target": step.target}
    for name in ("source", "destination", "mode", "writable", "index", "prefix", "reason"):
        if hasattr(step, name):
            fields[name] = getattr(step, name)
    if isinstance(step, File):
        fields["content"] = step.content.decode("utf-8", "replace")
    return fields


def _pattern_json(pattern: Any) -> dict[str, str]:
    return {"pattern": pattern.text, "origin": str(pattern.origin)}


def _endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rule": endpoint.text,
        "host": endpoint.host,
        "ports": [list(ports) for ports in endpoint.ports],
        "methods": list(endpoint.methods),
        "path": endpoint.path,
        "budget": _budget_json(endpoint.budget),
        "reason": endpoint.reason,
        "origin": str(endpoint.origin),
    }
    return {name: value for name, value in found.items() if value}


def _budget_json(budget: Budget) -> dict[str, int]:
    names = Budget.__dataclass_fields__
    return {name: getattr(budget, name) for name in names if getattr(budget, name) is not None}
