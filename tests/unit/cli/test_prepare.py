"""When the launch of the last run may be taken again."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path

import pytest

from casemate.cli.prepare import ENVIRONMENT, cache_key
from casemate.cli.run import parse
from casemate.plan.build import build
from casemate.plan.host import Host
from casemate.policy.endpoints import parse_endpoint
from casemate.policy.model import INDEXES, Network, Policy


class Watched(UserDict[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        self.asked: set[object] = set()
        super().__init__(values)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(key)
        return super().__contains__(key)


def test_every_variable_that_a_plan_looks_at_is_in_the_key(project: Path, home: Path) -> None:
    """A launch is not taken again where a variable that it was made from has changed."""
    caller = Watched({"PATH": "/usr/bin", "HOME": str(home)})
    network = Network(allow=(parse_endpoint("a.example GET"),), indexes=tuple(INDEXES))
    build(
        Policy(network=network),
        Host(),
        str(project),
        working_directory=str(project),
        uid=1000,
        gid=1000,
        user="agent",
        home=str(home),
        environment=caller,
    )
    assert len(caller.asked) > 10
    assert caller.asked <= {*ENVIRONMENT}


@pytest.mark.needs("supervisor")
@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_variable_changes_the_key(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Set, unset and with another value a variable makes three keys."""
    keys = set()
    options = parse(["--", "true"])
    for value in ("", "/one", "/another"):
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
        keys.add(cache_key(options, str(project), str(project), False))
    assert len(keys) == 3
