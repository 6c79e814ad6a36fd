"""casemate: a security perimeter for AI coding agents."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.errors import CasemateError as CasemateError
    from casemate.sandbox import Sandbox as Sandbox
    from casemate.sandbox_async import AsyncSandbox as AsyncSandbox

_EXPORTS = {
    "Sandbox": "casemate.sandbox",
    "AsyncSandbox": "casemate.sandbox_async",
    "CasemateError": "casemate.errors",
}


def __getattr__(name: str) -> object:
    # The SDK costs tens of milliseconds to import and `casemate run` needs none of it.
    if name not in _EXPORTS:
        raise AttributeError(f"module 'casemate' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
