"""Runs the installed `casemate`, as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = Path(sys.executable).with_name("casemate")
COMMAND = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "casemate"]
"""The console script of this environment or, in a checkout that is not installed, the module."""

needs_script = pytest.mark.skipif(
    len(COMMAND) > 1, reason="casemate is not installed in this environment; run: pip install -e ."
)


def casemate(
    *arguments: str | Path, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run `casemate ARGUMENTS` to its end and return its status, stdout and stderr (bytes).

    Standard input is empty. `options` are those of `subprocess.run`. A run that takes longer than
    `timeout` seconds raises `subprocess.TimeoutExpired`.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if "input" not in options:
        streams["stdin"] = subprocess.DEVNULL
    command = [*COMMAND, *map(str, arguments)]
    settings: dict[str, Any] = streams | options
    return subprocess.run(command, check=False, timeout=timeout, **settings)
