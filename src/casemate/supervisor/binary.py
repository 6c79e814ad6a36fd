"""Finds the supervisor program that ships inside the package."""

from __future__ import annotations

import os

from casemate.errors import SandboxError


def supervisor_path() -> str:
    """Absolute path of the supervisor. Raises `SandboxError` when the package was not built."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(package, "bin", "casemate-supervisor")
    if not os.access(path, os.X_OK):
        raise SandboxError(
            f"the supervisor program is missing: {path}",
            hint="install the package (pip install .), or run `python hatch_build.py` in a checkout",
        )
    return path
