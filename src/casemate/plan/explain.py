"""Why one path is visible as it is, by which rule, and which line would change it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Literal

from casemate.plan.layout import OWN_FILES, nearest, within
from casemate.plan.model import Bind, Directory, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.policy.locations import ORGANISATION_POLICY
from casemate.policy.model import Pattern
from casemate.policy.patterns import matches, parse_pattern
from casemate.policy.values import printable

Visibility = Literal["hidden", "read-only", "writable", "copy-on-write", "private", "absent"]

_LINKS_MAX = 40


@dataclass(frozen=True, slots=True)
class Explanation:
    """`change` is the line of policy that would make it otherwise, "" where none can."""

    path: str
    visibility: Visibility
    rule: str
    change: str = ""
    protected: str = ""
    """The pattern that holds a change to it back, if any."""
    via: str = ""
    """The path inside that a symbolic link leads to, where one was passed."""

    def as_text(self) -> str:
        """One line for what, and one each for the rest."""
        lines = [f"{printable(self.path)}: {self.visibility}"]
        lines += [f"  leads to: {printable(self.via)}"] if self.via else []
        lines += [f"  rule: {printable(self.rule)}"]
        lines += [f"  protected by: {printable(self.protected)}"] if self.protected else []
        lines += [f"  to change it: {printable(self.change)}"] if self.change else []
        return "\n".join(lines)

    def as_json(self) -> dict[str, str]:
        """JSON-ready; empty fields are left out."""
        fields = {
            "path": self.path,
            "visibility": self.visibility,
            "rule": self.rule,
            "change": self.change,
            "protected": self.protected,
            "via": self.via,
        }
        return {name: value for name, value in fields.items() if value}


def why(plan: Plan, path: str, *, is_directory: bool | None = None) -> Explanation:
    """Explain one absolute path.

    `is_directory` says what it is where that matters to a pattern; by default the host is asked.
    Links that the plan makes are followed as they would be inside; ones within a project are not.
    """
    path = os.path.normpath(path)
    real = _through_links(plan, path)
    if is_directory is None:
        is_directory = os.path.isdir(real) and not os.path.islink(real)
    steps = {step.target: step for step in plan.steps}
    step = steps.get(nearest(real, steps))
    found = _explain(plan, step, path, real, is_directory)
    return found if real == path else replace(found, via=real)


def _through_links(plan: Plan, path: str) -> str:
    links = {step.target: step.destination for step in plan.steps if isinstance(step, Symlink)}
    for _ in range(_LINKS_MAX):
        link = nearest(path, links)
        if not link:
            break
        rest = path[len(link) :]
        path = os.path.normpath(os.path.join(os.path.dirname(link), links[link]) + rest)
    return path


def _explain(
    plan: Plan, step: Step | None, path: str, real: str, is_directory: bool
) -> Explanation:
    shown = _home_path(plan, path)
    match step:
        case Root():
            return _in_root(plan, step, path, real, is_directory)
        case Bind(writable=True):
            return Explanation(path, "writable", step.reason, "remove it from files.write")
        case Bind():
            return Explanation(path, "read-only", step.reason, _grant("write", shown))
        case Scratch():
            if real == step.target:
                return Explanation(path, "private", step.reason)
            rule = f"nothing of the host's {step.target} is shown ({step.reason})"
            return Explanation(path, "private", rule, _show(plan, real, shown))
        case Mask():
            return Explanation(path, "hidden", step.reason, _unmask(step, shown))
        case File() if real == step.target:
            return Explanation(path, "read-only", step.reason)
        case Directory() if real == step.target:
            return Explanation(path, "read-only", step.reason)
        case _:
            return Explanation(path, "absent", "no rule shows it", _show(plan, real, shown))


def _in_root(plan: Plan, root: Root, path: str, real: str, is_directory: bool) -> Explanation:
    below = real[len(root.target) :].strip("/")
    parts = [part for part in (root.prefix, *below.split("/")) if part]
    pattern = matches(plan.hide, parts, is_directory) if below else None
    if pattern is not None:
        rule = _pattern_rule("hide", pattern)
        return Explanation(path, "hidden", rule, _exception("hide", plan.hide, parts, is_directory))
    guard = matches(plan.protect, parts, is_directory) if below else None
    protected = _pattern_rule("protect", guard) if guard is not None else ""
    visibility: Visibility = "copy-on-write"
    change = 'workspace.mode = "direct"'
    if root.mode == "direct":
        visibility = "read-only" if guard is not None else "writable"
        change = 'workspace.mode = "overlay"'
        if guard is not None:
            change = _exception("protect", plan.protect, parts, is_directory)
    elif root.mode == "readonly":
        visibility, change = "read-only", 'workspace.mode = "overlay"'
    rule = f"workspace.mode = {root.mode!r} of {root.reason} ({root.target})".replace("'", '"')
    return Explanation(path, visibility, rule, change, protected)


def _pattern_rule(key: str, pattern: Pattern) -> str:
    return f'workspace.{key} has "{pattern.text}": {pattern.origin}'


def _exception(
    key: str, patterns: tuple[Pattern, ...], parts: list[str], is_directory: bool
) -> str:
    """The line that takes a path back, and the directories above it that are matched as well."""
    added: list[Pattern] = []
    while True:
        ends = range(1, len(parts) + 1)
        prefixes = ((parts[:end], end < len(parts) or is_directory) for end in ends)
        found = ((names, matches((*patterns, *added), names, folder)) for names, folder in prefixes)
        names, pattern = next(((n, p) for n, p in found if p is not None), ([], None))
        if pattern is None:
            return f"workspace.{key} = [{', '.join(_toml(p.text) for p in added)}]"
        if pattern.origin.source == ORGANISATION_POLICY or not _is_text("/".join(names)):
            return ""
        added.append(parse_pattern("!/" + "/".join(_literal(name) for name in names)))


def _literal(name: str) -> str:
    """A file name as a pattern that matches nothing else."""
    return "".join(f"\\{c}" if c in "*?[\\ " else c for c in name)


def _is_text(path: str) -> bool:
    """Whether a path can stand in a policy file: UTF-8 and without line breaks."""
    try:
        return "\n" not in path and bool(path.encode())
    except UnicodeEncodeError:
        return False


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _show(plan: Plan, real: str, shown: str) -> str:
    kernel = ("/proc", "/sys", "/dev", "/run", "/etc", "/")
    if within(plan.home, real) or real in kernel or nearest(real, kernel[:4]):
        return ""
    return _grant("read", shown)


def _unmask(step: Mask, shown: str) -> str:
    return "" if step.reason == OWN_FILES else _grant("read", shown)


def _grant(kind: str, shown: str) -> str:
    return f"files.{kind} = [{_toml(shown)}]" if _is_text(shown) else ""


def _home_path(plan: Plan, path: str) -> str:
    return "~" + path[len(plan.home) :] if within(path, plan.home) else path
