"""What the system tests share: the perimeter of the test's own project."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.perimeter import Perimeter


@pytest.fixture
def perimeter(project: Path, home: Path) -> Perimeter:
    """The small project, to run commands in."""
    return Perimeter(project, home)
