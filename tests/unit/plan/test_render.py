"""A plan on a terminal and as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from tests.support.fake_host import DIRECTORY, FakeHost, Link

from casemate.plan.build import build
from casemate.plan.model import Plan
from casemate.plan.render import as_json, as_text
from casemate.policy.endpoints import parse_budget, parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import (
    Endpoint,
    Environment,
    Files,
    Network,
    Origin,
    PathRule,
    Policy,
    Workspace,
)
from casemate.policy.patterns import parse_pattern
from casemate.tiers.guarantees import Guarantee

HELD = (
    Guarantee("files", "hard", "mount namespace"),
    Guarantee("memory", "soft", "supervisor", note="looked at every 100 ms"),
)
NASTY = "/home/u/p\x1b[2J\n\u202eevil\udcff"


def made(project: str = "/home/u/p") -> Plan:
    host = FakeHost(
        {
            "/usr/bin": DIRECTORY,
            "/bin": Link("usr/bin"),
            project: DIRECTORY,
            "/home/u/.cache/pip": DIRECTORY,
        }
    )
    file = Origin("casemate.toml", 4, "workspace.hide[0]")
    policy = Policy(
        workspace=Workspace(
            hide=(parse_pattern("*.key", Origin("preset default")), parse_pattern("mine", file))
        ),
        files=Files(
            read=(PathRule("/usr", Origin("preset system")), PathRule("~/.cache/pip", file))
        ),
        network=Network(allow=(Endpoint(text="api.example.org:443", host="api.example.org"),)),
        environment=Environment(values=(("TOKEN", "very-secret"),)),
    )
    return build(
        policy,
        host,
        project,
        working_directory=project,
        uid=1000,
        gid=1000,
        user="u",
        home="/home/u",
        environment={"PATH": "/usr/bin"},
    )


def test_the_tree_shows_each_place_once_with_its_access() -> None:
    """Directories on the way are drawn, links say where they lead, and reasons stand beside."""
    text = as_text(made(), HELD, color=False, width=100)
    lines = text.splitlines()
    assert lines[0] == "plan for /home/u/p: overlay, tier auto"
    shown = {line.strip(" │├└─").split("  ")[0]: line for line in lines}
    assert "copy-on-write" in shown["p"]
    assert "the project" in shown["p"]
    assert "link" in shown["bin -> usr/bin"]
    assert shown["pip"].endswith("casemate.toml:4 (workspace.hide[0])")
    assert any("passwd" in line and "made" in line for line in lines)


def test_patterns_limits_network_and_guarantees_are_listed() -> None:
    """Shipped patterns in a paragraph, the user's with their line."""
    text = as_text(made(), HELD, color=False, width=100)
    assert "  preset default: *.key\n" in text
    assert any(
        line.split() == ["mine", "casemate.toml:4", "(workspace.hide[0])"]
        for line in text.splitlines()
    )
    assert "disk        2GiB" in text
    assert re.search(r"^  api\.example\.org:443 +allowed ", text, re.MULTILINE)
    assert re.search(
        r"^  ports with a listener +443; others only by the proxy$", text, re.MULTILINE
    )
    assert "memory  soft  supervisor (looked at every 100 ms)" in text


def test_all_of_the_network_is_listed() -> None:
    """Rules with their budgets, the session's budgets, pins, hosts that stay closed, denials."""
    network = Network(
        allow=(parse_endpoint("a.example GET <=5MB"),),
        deny=(parse_denial("b.example", reason="no uploads"),),
        total=parse_budget("<=1GB up <=9conn"),
        opaque=("c.example",),
        resolve=(parse_pin("d.example = 127.0.0.1:9443"),),
    )
    plan = replace(made(), network=network)
    rows = [
        " ".join(line.split()) for line in as_text(plan, HELD, color=False, width=120).split("\n")
    ]
    for row in ("a.example GET <=5MB allowed default", "<=1GB up budget of the session"):
        assert row in rows
    for row in ("<=9conn budget of the session", "b.example denied no uploads (default)"):
        assert row in rows
    for row in (
        "c.example opaque never looked into",
        "d.example:443 pinned to 127.0.0.1:9443; default",
    ):
        assert row in rows
    found = as_json(plan, HELD)["network"]
    assert isinstance(found, dict)
    assert found["allow"][0]["budgets"] == ["<=5MB"]
    assert found["total"] == ["<=1GB up", "<=9conn"]


def test_values_of_variables_are_never_shown() -> None:
    """They may be secrets: neither text nor JSON has them."""
    plan = made()
    assert "very-secret" not in as_text(plan, HELD, color=True, width=80)
    assert "very-secret" not in json.dumps(as_json(plan, HELD))
    assert "TOKEN" in as_text(plan, HELD, color=False, width=80)


@pytest.mark.parametrize("color", [True, False])
def test_nothing_hostile_reaches_the_terminal(color: bool) -> None:
    """Control characters, direction overrides and undecodable bytes of names are escaped."""
    plan = made(NASTY)
    plan = replace(plan, notes=(f"note about {NASTY}",))
    text = as_text(plan, HELD, color=color, width=60)
    if color:
        for code in ("31", "33", "35", "36"):
            text = text.replace(f"\x1b[{code}m", "")
        text = text.replace("\x1b[0m", "")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "evil" in text


@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_reasons_give_way_to_the_width(width: int) -> None:
    """Only a name that is longer than the line makes it longer."""
    text = as_text(made(), HELD, color=False, width=width)
    assert all(len(line) <= max(width, 60) for line in text.splitlines())


def test_json_has_every_step_and_can_be_written() -> None:
    """For programs: all steps in order, with undecodable names intact."""
    plan = made(NASTY)
    data = json.loads(json.dumps(as_json(plan, HELD)))
    assert [item["path"] for item in data["files"]] == [step.target for step in plan.steps]
    root = next(item for item in data["files"] if item.get("root") == 0)
    assert (root["source"], root["access"]) == (NASTY, "copy-on-write")
    assert data["guarantees"][1]["strength"] == "soft"
    assert data["limits"]["time"] is None
