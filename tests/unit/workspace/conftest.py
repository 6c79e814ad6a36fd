"""A project and its sessions, on every kind of file system that a transaction may meet."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.workspace import beneath


def other_file_system(tmp_path: Path) -> Path:
    """A directory on another file system than `tmp_path`."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system here")
    return Path(tempfile.mkdtemp(dir=shared))


@pytest.fixture(params=["same file system", "other file system", "no rename flags"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workbench]:
    """A project with the state on the same file system, on another, and without renameat2."""
    state = other_file_system(tmp_path) if request.param.startswith("other") else None
    if request.param.startswith("no"):
        monkeypatch.setattr(beneath, "_renameat2_number", None)
    bench = Workbench(tmp_path, state=state)
    workbench.fill(bench.project)
    yield bench
    if state is not None:
        shutil.rmtree(state)
