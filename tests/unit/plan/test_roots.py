"""Which directories may be a project."""

from __future__ import annotations

import pytest
from tests.support.fake_host import DIRECTORY, FakeHost, Link

from casemate.errors import PolicyError, UsageError
from casemate.plan.roots import ROOTS_MAX, project_roots
from casemate.policy.model import Origin, PathRule, Policy, Workspace, WorkspaceMode

HOME = "/home/u"
OWN = ("/home/u/.config/casemate", "/home/u/.local/state/casemate")


def rule(path: str, optional: bool = False) -> PathRule:
    return PathRule(path, Origin("casemate.toml", 7, "workspace.roots[0]"), optional)


def policy(*roots: PathRule, mode: WorkspaceMode = "overlay") -> Policy:
    return Policy(workspace=Workspace(mode=mode, roots=roots))


def host() -> FakeHost:
    paths = ("/home/u/p/src", "/home/u/q", "/usr/lib/x", "/usr/src/app", "/var/lib/w", *OWN)
    entries: dict[str, bytes | str] = dict.fromkeys(paths, DIRECTORY)
    entries |= {
        "/home/u/file": b"",
        "/home/u/link": Link("p"),
        "/tmp": DIRECTORY,
        "/etc/nixos": DIRECTORY,
        "/proc/1": DIRECTORY,
        "/run/user/1000/p": DIRECTORY,
        "/work": Link("/home/u"),
    }
    return FakeHost(entries, unreadable=["/home/u/q"])


def roots(project: str, chosen: Policy | None = None) -> list[str]:
    found = project_roots(chosen or policy(), host(), project, home=HOME, own=OWN)
    return [root.real for root in found]


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("/", "whole file system"),
        ("/home", "above the home"),
        ("/home/u", "the home directory"),
        ("/work", "the home directory"),
        ("/usr", "system directory"),
        ("/usr/lib/x", "system directory"),
        ("/var/lib", "system directory"),
        ("/tmp", "system directory"),
        ("/etc/nixos", "system directory"),
        ("/proc/1", "system directory"),
        ("/run/user/1000/p", "system directory"),
        ("/home/u/none", "no such"),
        ("/home/u/file", "not a directory"),
        ("/home/u/q", "cannot be read"),
        ("/home/u/.config/casemate", "own directory"),
        ("/home/u/.config", "holds casemate's own"),
        ("p", "absolute"),
    ],
)
def test_a_directory_that_cannot_be_a_project_is_refused(project: str, said: str) -> None:
    """Each error says why and what to do instead."""
    with pytest.raises(UsageError, match=said) as caught:
        roots(project)
    assert caught.value.hint


@pytest.mark.parametrize("project", ["/home/u/p", "/usr/src/app", "/var/lib/w"])
def test_ordinary_places_are_accepted(project: str) -> None:
    """Also where container images keep theirs."""
    assert roots(project) == [project]


def test_a_link_to_a_project_is_its_real_place() -> None:
    """The root is where the link leads, and the link is remembered."""
    found = project_roots(policy(), host(), "/home/u/link", home=HOME, own=OWN)
    assert found[0].real == "/home/u/p"
    assert found[0].links == (("/home/u/link", "p"),)


def test_casemates_own_directory_in_a_project_is_tolerated_read_only() -> None:
    """What cannot be written there needs no refusal."""
    assert roots("/home/u/.config", policy(mode="readonly")) == ["/home/u/.config"]


@pytest.mark.parametrize("further", ["/home/u/p", "/home/u/p/src", "/home/u/link"])
def test_roots_within_each_other_are_refused(further: str) -> None:
    """Whichever way round, and through links; the error names the line of the policy."""
    with pytest.raises(PolicyError, match="lie in each other") as caught:
        roots("/home/u/p", policy(rule(further)))
    assert (caught.value.path, caught.value.line) == ("casemate.toml", 7)
    with pytest.raises(PolicyError, match="lie in each other"):
        roots("/home/u/p/src", policy(rule("~/p")))


def test_a_missing_further_root_is_an_error_unless_optional() -> None:
    """A root that is not there is passed over only if the policy says so."""
    with pytest.raises(PolicyError, match="no such"):
        roots("/home/u/p", policy(rule("~/none")))
    assert roots("/home/u/p", policy(rule("~/none", optional=True))) == ["/home/u/p"]


def test_too_many_roots_are_refused() -> None:
    """A change set can name so many and no more."""
    names = [f"/w/{number}" for number in range(ROOTS_MAX + 1)]
    many = policy(*(rule(name) for name in names[1:]))
    with pytest.raises(UsageError, match="more than"):
        project_roots(many, FakeHost(dict.fromkeys(names, DIRECTORY)), names[0], home=HOME, own=OWN)
