"""Formatting, lint and types, as tests: what `make lint` runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from tests.support import tree

COMMANDS = {
    "ruff check": ["ruff", "check"],
    "ruff format": ["ruff", "format", "--check", "--diff"],
    "mypy --strict": ["mypy"],
    "zig fmt": ["ziglang", "fmt", "--check", "native"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_linter_is_content(name: str) -> None:
    """The linter finds nothing in the whole checkout."""
    module, *arguments = COMMANDS[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: not installed; run: pip install --group dev")

    command = [sys.executable, "-m", module, *arguments]
    run = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
