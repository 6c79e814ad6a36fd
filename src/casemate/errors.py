"""The one exception family of casemate.

    CasemateError
    |- UsageError         the command line or the call is wrong
    |- PolicyError        a policy file is wrong: knows file, line and key
    |- UnsupportedError   this machine cannot hold a guarantee the policy asks for
    |- RefusedError       a rule said no: knows the rule and the line that would allow it
    |- SandboxError       the sandbox could not be started or broke
    |  `- ProtocolError   bytes from the supervisor made no sense
    `- WorkspaceError     a change set could not be read, applied or undone
       `- ConflictError   a file changed on the host since the sandbox saw it

Every error has a stable machine code, and `as_json` is what `--json` prints and what an agent gets.
This module is on the start-up path of `casemate run`: it imports nothing.
"""

from __future__ import annotations

EXIT_FAILURE = 125
"""Exit status of casemate's own failures, as `env`, `timeout` and `docker run` have it."""


class CasemateError(Exception):
    """Root of the family.

    `code` is stable and meant for programs; `hint` says what to do next; `allow` is the exact line
    of policy (or the exact command) that would permit what was refused, where there is one.
    """

    code = "error"

    def __init__(
        self, message: str, *, hint: str = "", allow: str = "", rule: str = "", code: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.allow = allow
        self.rule = rule
        if code:
            self.code = code

    def as_json(self) -> dict[str, object]:
        """The error as JSON-ready data; empty fields are left out."""
        fields = {
            "error": self.code,
            "message": self.message,
            "rule": self.rule,
            "allow": self.allow,
            "hint": self.hint,
        }
        return {name: value for name, value in fields.items() if value}

    def as_text(self) -> str:
        """The error for a person, one line each for what, by which rule, and the way on."""
        lines = [f"error: {self.message}"]
        if self.rule:
            lines.append(f"  rule: {self.rule}")
        if self.allow:
            lines.append(f"  to allow it: {self.allow}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(CasemateError):
    """The command line or the call is wrong."""

    code = "usage"


class PolicyError(CasemateError):
    """A policy file is wrong.

    `path` names the file ("" for a policy built in code), `line` counts from 1 (0 if unknown),
    `key` is the dotted key, as in `network.allow[1]`.
    """

    code = "policy"

    def __init__(
        self, message: str, *, path: str = "", line: int = 0, key: str = "", hint: str = ""
    ) -> None:
        place = f"{path}:{line}" if line else path
        prefix = ": ".join(part for part in (place, key) if part)
        super().__init__(f"{prefix}: {message}" if prefix else message, hint=hint)
        self.path = path
        self.line = line
        self.key = key
        self.problem = message

    def as_json(self) -> dict[str, object]:
        fields = super().as_json()
        place = {"path": self.path, "line": self.line, "key": self.key}
        return fields | {name: value for name, value in place.items() if value}


class UnsupportedError(CasemateError):
    """This machine cannot hold a guarantee that the policy asks for, and nobody waived it."""

    code = "unsupported"


class RefusedError(CasemateError):
    """A rule said no."""

    code = "refused"


class SandboxError(CasemateError):
    """The sandbox could not be started, or broke."""

    code = "sandbox"


class ProtocolError(SandboxError):
    """Bytes from the supervisor made no sense; the session is closed."""

    code = "protocol"


class WorkspaceError(CasemateError):
    """A change set could not be read, applied or undone."""

    code = "workspace"


class ConflictError(WorkspaceError):
    """A file changed on the host since the sandbox saw it. `paths` are relative to their root."""

    code = "conflict"

    def __init__(self, message: str, *, paths: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.paths = paths

    def as_json(self) -> dict[str, object]:
        return super().as_json() | {"paths": list(self.paths)}
