"""A home directory, a project and a way to plan them, all on the real file system."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from casemate.plan.build import build
from casemate.plan.host import Host
from casemate.plan.model import Plan
from casemate.policy.layers import Ranked, combine
from casemate.policy.locations import Locations
from casemate.policy.reader import read

Planner = Callable[..., Plan]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def project(home: Path) -> Path:
    """A project in it."""
    path = home / "work/project"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def planner(home: Path, project: Path) -> Planner:
    """Plan the project under a policy given as text."""

    def plan(text: str = "", directory: Path | str = project, **options: object) -> Plan:
        layer = read(b"version = 1\n" + text.encode(), source="policy.toml", base=str(project))
        arguments: dict[str, object] = {
            "locations": Locations(
                str(home), f"{home}/.config/casemate", f"{home}/.local/state/casemate"
            ),
            "uid": 1000,
            "gid": 1000,
            "user": "ada",
            "environment": {},
        } | options
        return build(combine([Ranked(layer)]).policy, Host(), os.fspath(directory), **arguments)  # type: ignore[arg-type]

    return plan
