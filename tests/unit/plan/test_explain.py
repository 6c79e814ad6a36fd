"""Why a path is visible as it is, and that the line given to change it does change it."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from conftest import Planner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate.plan.explain import Explanation, why
from casemate.plan.render import as_json, render


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def as_policy(line: str) -> str:
    """A line as `casemate why` gives it: a dotted key, which is TOML as it stands."""
    tomllib.loads(line)
    return line


@pytest.mark.parametrize(
    ("mode", "path", "visibility", "protected"),
    [
        ("overlay", "src/a.py", "copy-on-write", ""),
        ("overlay", ".git/hooks/pre-commit", "copy-on-write", "**/.git/hooks"),
        ("overlay", "sub/.env", "hidden", ""),
        ("direct", "src/a.py", "writable", ""),
        ("direct", "v/.git/config", "read-only", "**/.git/config"),
        ("direct", "a/server.pem", "hidden", ""),
        ("readonly", "src/a.py", "read-only", ""),
        ("overlay", "", "copy-on-write", ""),
    ],
)
def test_in_the_project(
    planner: Planner, project: Path, mode: str, path: str, visibility: str, protected: str
) -> None:
    """The mode, the hidden and the protected patterns decide."""
    found = why(planner(f'[workspace]\nmode = "{mode}"'), f"{project}/{path}", is_directory=False)

    assert found.visibility == visibility
    assert protected in found.protected
    assert bool(found.protected) == bool(protected)
    assert found.rule


def test_outside_the_project(planner: Planner, home: Path) -> None:
    """Each kind of step has its answer, and each answer its line where there can be one."""
    make(home / ".config/gh/hosts.yml")
    make(home / ".config/app/x")
    make(home / "out/x")
    plan = planner('[files]\nread = ["~/.config"]\nwrite = ["~/out"]')

    def told(path: str | Path) -> tuple[str, str]:
        found = why(plan, str(path))
        return found.visibility, found.change

    assert told("/usr/bin") == ("read-only", 'files.write = ["/usr/bin"]')
    assert told(home / ".config/app/x") == ("read-only", 'files.write = ["~/.config/app/x"]')
    assert told(home / ".config/gh/hosts.yml") == (
        "hidden",
        'files.read = ["~/.config/gh/hosts.yml"]',
    )
    assert told(home / "out/x") == ("writable", "remove it from files.write")
    assert told(home / ".ssh/id_rsa") == ("private", 'files.read = ["~/.ssh/id_rsa"]')
    assert told(home) == ("private", "")
    assert told("/etc/passwd") == ("read-only", "")
    assert told("/etc/shadow") == ("absent", 'files.read = ["/etc/shadow"]')
    assert told("/proc/1/environ") == ("absent", "")
    assert told("/run/docker.sock") == ("private", "")
    assert told("/srv/data") == ("absent", 'files.read = ["/srv/data"]')


def test_own_files_have_no_way_in(planner: Planner, home: Path) -> None:
    """No line shows casemate's own files."""
    make(home / ".config/casemate/policy.toml")
    plan = planner('[files]\nread = ["~/.config"]')
    found = why(plan, f"{home}/.config/casemate/policy.toml")

    assert (found.visibility, found.change) == ("hidden", "")


def test_links_are_followed(planner: Planner, home: Path, tmp_path: Path) -> None:
    """A path through a link of the plan is explained where it leads."""
    make(tmp_path / "big/pyenv/bin/python")
    (home / ".pyenv").symlink_to("../big/pyenv")
    found = why(planner(), f"{home}/.pyenv/bin/python")

    assert (found.visibility, found.via) == ("read-only", f"{tmp_path}/big/pyenv/bin/python")


def test_git_directory_of_a_worktree(planner: Planner, home: Path, project: Path) -> None:
    """The patterns for .git hold for a git directory that is a root of its own."""
    common = home / "work/main/.git"
    for name in ("objects", "refs", "worktrees/x"):
        (common / name).mkdir(parents=True)
    (common / "HEAD").write_text("")
    (common / "worktrees/x/gitdir").write_text(f"{project}/.git\n")
    (common / "worktrees/x/commondir").write_text("../..\n")
    (project / ".git").write_text(f"gitdir: {common}/worktrees/x\n")
    plan = planner('[workspace]\nmode = "direct"')

    assert why(plan, f"{common}/config").visibility == "read-only"
    assert why(plan, f"{common}/hooks/post-commit").visibility == "read-only"
    assert why(plan, f"{common}/index").visibility == "writable"
    assert why(plan, f"{project}/.git").visibility == "read-only"


NAME = st.one_of(
    st.sampled_from([".env", ".ssh", "a", "id_rsa", "x.pem", ".aws", ".git", "hooks", "config"]),
    st.text(alphabet="ab*?[]\\!# é'\"\x7f", min_size=1, max_size=4),
)


@given(st.lists(NAME, min_size=1, max_size=4), st.sampled_from(["hide", "protect"]))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_line_given_works(planner: Planner, project: Path, parts: list[str], key: str) -> None:
    """Putting the line into the policy takes the path back, whatever its name."""
    path = f"{project}/{'/'.join(parts)}"
    text = '[workspace]\nmode = "direct"\n'
    before = why(planner(text), path, is_directory=False)
    if before.visibility == "hidden" and key == "hide":
        line = as_policy(before.change)
        after = why(
            planner(f"{line}\n".replace("workspace.", "[workspace]\n")), path, is_directory=False
        )
        assert after.visibility != "hidden", line
    if before.visibility == "read-only" and key == "protect":
        line = as_policy(before.change).replace("workspace.", text, 1)
        assert why(planner(line), path, is_directory=False).visibility == "writable", line


def test_names_that_no_file_can_hold(planner: Planner, project: Path) -> None:
    """A name that is not text has no line, and is shown escaped."""
    name = os.fsdecode(b"\xff")
    found = why(planner(), f"{project}/{name}/\x1b[2J.env")

    assert found.visibility == "hidden"
    assert found.change == ""
    assert "\x1b" not in found.as_text()
    found.as_text().encode()


def test_as_json() -> None:
    """Empty fields are left out."""
    found = Explanation("/a", "absent", "no rule shows it")

    assert found.as_json() == {"path": "/a", "visibility": "absent", "rule": "no rule shows it"}


def test_render(planner: Planner, home: Path, project: Path) -> None:
    """Everything in a plan is named with its reason; colour only when asked."""
    make(home / ".config/gh/hosts.yml")
    make(home / "out/x")
    plan = planner(
        'waive = ["cpu"]\n[files]\nread = ["~/.config"]\nwrite = ["~/out"]\n[kernel]\n'
        'allow = ["ptrace"]\n[network]\nallow = ["a.example GET <=1MB"]\n[secrets.KEY]\n'
        'to = ["a.example"]\n[workspace]\nhide = ["mine\\u001b"]'
    )
    text = render(plan)

    for step in plan.steps:
        assert step.target in text or type(step).__name__ == "Directory"
    for told in ("policy.toml:5 (files.write[0])", "ptrace", "waive", "a.example GET <=1MB", "KEY"):
        assert told in text
    assert "mine\\x1b" in text
    assert "\x1b" not in text
    assert "\x1b[32m" in render(plan, colour=True)
    assert len(render(plan, verbose=True)) > len(text)


def test_plan_as_json(planner: Planner, home: Path) -> None:
    """The plan is JSON, with every step and no evidence."""
    plan = planner('[network]\nallow = ["a.example GET <=1MB"]')
    data = json.loads(json.dumps(as_json(plan)))

    assert [step["target"] for step in data["steps"]] == [step.target for step in plan.steps]
    assert data["network"]["allow"][0]["budget"] == {"bytes_total": 1_000_000}
    assert "evidence" not in data
