"""The arena, for every test of a promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.security.arena import Arena


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every attack needs a sandbox to be refused by."""
    for item in items:
        if "tests/security" in item.path.as_posix():
            item.add_marker(pytest.mark.needs("supervisor", "user namespaces", "overlay"))


@pytest.fixture
def arena(tmp_path: Path, home: Path) -> Arena:
    """A home with secrets, a project with a hidden file, and a sibling of like name."""
    return Arena(tmp_path, home)
