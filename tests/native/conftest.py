"""What the tests of the native programs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.perimeter import Perimeter


@pytest.fixture
def perimeter(project: Path, home: Path) -> Perimeter:
    """The small project, to run commands in."""
    return Perimeter(project, home)
