"""The arena, for every test of a promise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.arena import Arena


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every attack needs a sandbox to be refused by."""
    for item in items:
        if "tests/security" in item.path.as_posix():
            item.add_marker(pytest.mark.needs("supervisor", "user namespaces", "overlay"))


@pytest.fixture
def arena(tmp_path: Path, home: Path) -> Iterator[Arena]:
    """A home with secrets, a project with a hidden file, and a sibling of like name."""
    made = Arena(tmp_path, home)
    yield made
    # Trees too deep for pytest's own clean-up, and directories that shut their owner out.
    subprocess.run(["chmod", "-R", "u+rwx", made.project], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", "--", made.project], check=True)
