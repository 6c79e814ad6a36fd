"""`casemate why PATH`: what a command inside finds at a path, by which rule, and what changes it.

The path is walked as the kernel would walk it inside the sandbox: links that are there are
followed, those that are not are not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from casemate.plan.files import HIDDEN_REASON, KERNEL_TREES, SOCKET_TREES, nearest
from casemate.plan.host import LINKS_MAX, Host
from casemate.plan.model import Bind, File, Mask, Plan, Root, Scratch, Step, Symlink
from casemate.plan.roots import expand, within
from casemate.policy.model import Pattern
from casemate.policy.patterns import matches
from casemate.policy.values import printable

Verdict = Literal[
    "hidden",
    "readonly",
    "writable",
    "copy-on-write",
    "private",
    "synthesised",
    "masked",
    "absent",
]

SENTENCES: dict[Verdict, str] = {
    "hidden": "cannot be seen: it matches a hidden pattern",
    "readonly": "can be read, not written",
    "writable": "can be read and written, for real",
    "copy-on-write": "can be read and written; what is written waits for `casemate apply`",
    "private": "is the sandbox's own and goes with it",
    "synthesised": "is made for the sandbox; the host's is not shown",
    "masked": "is covered with nothing",
    "absent": "does not exist inside",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for one path."""

    path: str
    """Where the path leads inside."""
    verdict: Verdict
    rule: str
    origin: str
    allow: str = ""
    """The line of policy that would change it; "" where no line does."""
    note: str = ""

    def as_text(self) -> str:
        """For a terminal; nothing in it is obeyed by one."""
        lines = [f"{printable(self.path)} {SENTENCES[self.verdict]}"]
        if self.rule:
            where = f", from {printable(self.origin)}" if self.origin else ""
            lines.append(f"  rule: {printable(self.rule)}{where}")
        if self.allow:
            lines.append(f"  to change it: {printable(self.allow)}")
        if self.note:
            lines.append(f"  note: {printable(self.note)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, str]:
        """All fields; empty ones are left out."""
        fields = {
            "path": self.path,
            "verdict": self.verdict,
            "rule": self.rule,
            "origin": self.origin,
            "allow": self.allow,
            "note": self.note,
        }
        return {name: value for name, value in fields.items() if value}


def why(plan: Plan, path: str, host: Host) -> Explanation:
    """What a path is inside. A relative one starts at the project, `~` is the home directory."""
    wanted = expand(path, plan.home)
    if not wanted.startswith("/"):
        wanted = f"{plan.project}/{wanted}"
    return _Walk(plan, host).explain(wanted)


class _Walk:
    def __init__(self, plan: Plan, host: Host) -> None:
        self._plan = plan
        self._host = host
        self._steps: dict[str, Step] = {step.target: step for step in plan.steps}

    def explain(self, path: str) -> Explanation:
        pending = path.split("/")[::-1]
        real: list[str] = []
        followed = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                real = real[:-1]
                continue
            here = "/".join(("", *real, name))
            destination = self._link(here)
            if destination is not None and followed < LINKS_MAX:
                followed += 1
                if destination.startswith("/"):
                    real = []
                pending += destination.split("/")[::-1]
                continue
            real.append(name)
            ended = self._end(here)
            if ended is not None:
                rest = [part for part in reversed(pending) if part not in ("", ".", "..")]
                return self._at("/".join((here, *rest)))
        return self._at("/".join(("", *real)) or "/")

    def _around(self, path: str) -> Step | None:
        return self._steps.get(nearest(path, self._steps))

    def _link(self, path: str) -> str | None:
        """What a symbolic link at a place inside holds; None if there is none."""
        step = self._around(path)
        if isinstance(step, Symlink):
            return step.destination if step.target == path else None
        if isinstance(step, Bind | Root) and self._host.kind(path) == "symlink":
            if isinstance(step, Root) and self._hiding(step, path) is not None:
                return None
            return self._host.readlink(path)
        return None

    def _end(self, path: str) -> bool | None:
        """True where nothing of the host's lies further down."""
        step = self._around(path)
        if isinstance(step, Bind | Root):
            return None
        return None if any(within(target, path) for target in self._steps) else True

    def _at(self, path: str) -> Explanation:
        for tree in ("/proc", "/dev"):
            if within(path, tree):
                private = within(path, "/dev/shm")
                verdict: Verdict = "private" if private else "synthesised"
                return Explanation(path, verdict, f"the sandbox has its own {tree}", "default")
        step = self._around(path)
        match step:
            case Root():
                return self._in_root(step, path)
            case Bind():
                return self._in_bind(step, path)
            case File():
                return Explanation(path, "synthesised", f"file {step.target}", step.reason)
            case Mask():
                return self._in_mask(step, path)
            case Scratch():
                return self._in_scratch(step, path)
            case Symlink():
                return Explanation(path, "absent", f"link {step.target}", step.reason)
            case _:
                if any(within(target, path) for target in self._steps):
                    rule = "a directory on the way to what is shown"
                    return Explanation(path, "readonly", rule, "default")
                return self._absent(path, "nothing shows it", "default")

    def _in_root(self, root: Root, path: str) -> Explanation:
        hidden = self._hiding(root, path)
        if hidden is not None:
            pattern, part = hidden
            return Explanation(
                path,
                "hidden",
                f'workspace.hide = ["{pattern.text}"]',
                str(pattern.origin),
                f"workspace.hide = {_list('!/' + _literal(part))}",
            )
        protected = _first_match(self._plan.protect, *self._parts(root, path))
        note = self._presence(path)
        if root.mode == "readonly":
            allow = 'workspace.mode = "overlay"'
            rule = 'workspace.mode = "readonly"'
            return Explanation(path, "readonly", rule, root.reason, allow, note)
        if protected is None:
            verdict: Verdict = "copy-on-write" if root.mode == "overlay" else "writable"
            return Explanation(
                path, verdict, f'workspace.mode = "{root.mode}"', root.reason, "", note
            )
        pattern, part = protected
        rule = f'workspace.protect = ["{pattern.text}"]'
        allow = f"workspace.protect = {_list('!/' + _literal(part))}"
        if root.mode == "direct":
            return Explanation(path, "readonly", rule, str(pattern.origin), allow, note)
        note = "protected: an edit to it is applied only if you name it"
        return Explanation(path, "copy-on-write", rule, str(pattern.origin), allow, note)

    def _hiding(self, root: Root, path: str) -> tuple[Pattern, str] | None:
        return _first_match(self._plan.hide, *self._parts(root, path))

    def _parts(self, root: Root, path: str) -> tuple[list[str], bool]:
        relative = path[len(root.target) :].strip("/")
        directory = self._host.kind(path) == "directory"
        return (relative.split("/") if relative else []), directory

    def _in_bind(self, bind: Bind, path: str) -> Explanation:
        if self._host.kind(path) == "missing":
            note = self._presence(path)
            verdict: Verdict = "writable" if bind.writable else "absent"
            return Explanation(path, verdict, f'shows "{bind.target}"', bind.reason, "", note)
        key = "files.write" if bind.writable else "files.read"
        rule = f'{key} = ["{self._short(bind.target)}"]'
        if bind.writable:
            return Explanation(path, "writable", rule, bind.reason)
        allow = f"files.write = {_list(self._short(path))}"
        if within(path, "/sys"):
            allow = ""
        return Explanation(path, "readonly", rule, bind.reason, allow)

    def _in_mask(self, mask: Mask, path: str) -> Explanation:
        if mask.reason == HIDDEN_REASON:
            allow = f"files.read = {_list(self._short(mask.target))}"
            return Explanation(path, "masked", f'files.hide = ["{mask.target}"]', "", allow)
        return Explanation(path, "masked", mask.reason, "default", "", "no rule shows it")

    def _in_scratch(self, scratch: Scratch, path: str) -> Explanation:
        rule = f"{scratch.target} is private to the sandbox"
        own = path == scratch.target or self._on_the_way(path)
        if not own and self._host.kind(path) != "missing":
            return self._absent(path, rule, "default")
        return Explanation(path, "private", rule, "default")

    def _on_the_way(self, path: str) -> bool:
        return any(within(target, path) for target in self._steps)

    def _absent(self, path: str, rule: str, origin: str) -> Explanation:
        resolved = self._host.resolve(path)
        if resolved.kind == "missing":
            return Explanation(path, "absent", rule, origin, "", "it does not exist on the host")
        if resolved.kind not in ("directory", "file"):
            return Explanation(
                path, "absent", rule, origin, "", f"a {resolved.kind} is never shown"
            )
        kept = [*KERNEL_TREES, *SOCKET_TREES]
        private = [step.target for step in self._plan.steps if isinstance(step, Scratch | File)]
        if any(within(resolved.real, tree) for tree in kept) or any(
            within(item, resolved.real) for item in private
        ):
            return Explanation(path, "absent", rule, origin, "", "no rule shows it")
        return Explanation(path, "absent", rule, origin, f"files.read = {_list(self._short(path))}")

    def _presence(self, path: str) -> str:
        missing = self._host.kind(path) == "missing"
        return "it does not exist on the host now" if missing else ""

    def _short(self, path: str) -> str:
        home = self._plan.home
        return "~" + path[len(home) :] if within(path, home) else path


def _first_match(
    patterns: Sequence[Pattern], parts: Sequence[str], directory: bool
) -> tuple[Pattern, str] | None:
    """The pattern that decides, and the part of the path it matches: the path or one above it."""
    for length in range(1, len(parts) + 1):
        prefix = parts[:length]
        found = matches(patterns, prefix, length < len(parts) or directory)
        if found is not None:
            return found, "/".join(prefix)
    return None


def _literal(path: str) -> str:
    """A path as a gitignore pattern that matches nothing else."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in path)


def _list(item: str) -> str:
    """One string as a TOML array."""
    return f"[{json.dumps(item, ensure_ascii=False)}]"
