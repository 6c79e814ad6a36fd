"""What the parts of the broker hand each other: targets, and refusals that teach."""

from __future__ import annotations

from dataclasses import dataclass

from casemate.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection wants to go.

    `host` is in the normal form of `names.normalise`: a lower-case name without a dot at the end,
    or an IP address without brackets.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class MalformedError(RefusedError):
    """Bytes from inside the sandbox that no honest program sends, or that two readers could
    understand differently."""

    code = "malformed"


class UpstreamError(RefusedError):
    """The rules allow it, and the other side cannot be reached or is not who it should be."""

    code = "upstream"
