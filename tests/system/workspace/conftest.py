"""A project with the state directory on the same and on another file system."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench


@pytest.fixture(params=["same file system", "other file system"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workbench]:
    """The project that `workbench.everything` changes."""
    state = None
    if request.param.startswith("other"):
        shared = Path("/dev/shm")
        if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is not another file system here")
        state = Path(tempfile.mkdtemp(dir=shared))
    made = Workbench(tmp_path, state=state)
    workbench.fill(made.project)
    yield made
    if state is not None:
        shutil.rmtree(state)
