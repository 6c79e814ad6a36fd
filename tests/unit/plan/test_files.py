"""The rules of [files]: what they show, and which are refused."""

from __future__ import annotations

import pytest
from tests.support.fake_host import DEVICE, DIRECTORY, FIFO, SOCKET, Entry, FakeHost, Link

from casemate.errors import PolicyError
from casemate.plan.files import Shown, Surroundings, show
from casemate.plan.model import Bind, Mask
from casemate.plan.roots import ProjectRoot
from casemate.policy.model import Files, Origin, PathRule

ORIGIN = Origin("casemate.toml", 3, "files.read[0]")
HOST: dict[str, Entry] = {
    **dict.fromkeys(
        (
            "/home/u/.cache/pip",
            "/home/u/.config/gh",
            "/home/u/.config/deep/er/secret",
            "/home/u/.config/casemate",
            "/home/u/p/src",
            "/home/u/w/q",
            "/opt/tool/lib",
            "/run/user/1000",
            "/run/current",
            "/dev/shm",
            "/sys/class",
            "/proc/1",
            "/etc/ssl",
            "/data/pip",
            "/var/tmp",
            "/tmp/d",
        ),
        DIRECTORY,
    ),
    "/home/u/.gitconfig": b"",
    "/home/u/.config/gh/hosts": b"",
    "/home/u/.dot": Link("/data"),
    "/home/u/planted": Link("w/link"),
    "/home/u/w/link": Link("/home/u/.ssh"),
    "/home/u/.ssh/id": b"",
    "/home/u/p/link": Link("/home/u/.ssh"),
    "/home/u/socket": SOCKET,
    "/home/u/fifo": FIFO,
    "/home/u/device": DEVICE,
    "/etc/passwd": b"",
    "/etc/hosts": Link("../run/hosts"),
    "/run/hosts": b"",
}
AROUND = Surroundings(
    home="/home/u",
    private=("/tmp", "/var/tmp", "/run", "/run/user/1000", "/home/u", "/etc/passwd", "/etc/hosts"),
    made=("/etc/passwd", "/etc/hosts"),
    roots=(
        ProjectRoot("/home/u/p", "/home/u/p", (), None),
        ProjectRoot("/home/u/w/q", "/home/u/w/q", (), None),
    ),
    own=("/home/u/.config/casemate",),
)


def rules(*paths: str, optional: bool = False) -> tuple[PathRule, ...]:
    return tuple(PathRule(path, ORIGIN, optional) for path in paths)


def shown(
    read: tuple[str, ...] = (), write: tuple[str, ...] = (), hide: tuple[str, ...] = ()
) -> Shown:
    files = Files(read=rules(*read), write=rules(*write), hide=rules(*hide))
    return show(files, FakeHost(HOST), AROUND)


def binds(found: Shown) -> dict[str, bool]:
    return {step.target: step.writable for step in found.steps if isinstance(step, Bind)}


def test_a_rule_shows_its_real_place_and_the_links_to_it() -> None:
    """The path means inside what it means outside."""
    found = shown(read=("~/.dot/pip",))
    assert binds(found) == {"/data/pip": False}
    assert found.links == (("/home/u/.dot", "/data", str(ORIGIN)),)


def test_a_rule_within_another_is_dropped() -> None:
    """With the same access, or under one that can write; equal ones count once."""
    assert binds(shown(read=("/opt/tool/lib", "/opt/tool", "/opt/tool"))) == {"/opt/tool": False}
    assert binds(shown(read=("/opt/tool/lib",), write=("/opt/tool",))) == {"/opt/tool": True}
    assert binds(shown(read=("/opt/tool",), write=("/opt/tool",))) == {"/opt/tool": True}


def test_writable_within_readable_is_kept() -> None:
    """The wider place stays read-only."""
    found = binds(shown(read=("/opt/tool",), write=("/opt/tool/lib",)))
    assert found == {"/opt/tool": False, "/opt/tool/lib": True}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("relative", "not absolute"),
        ("/home/u/none", "does not exist"),
        ("~/p/src", "part of the project"),
        ("~/p/link/id", "part of the project"),
        ("~/w/q", "part of the project"),
        ("~/socket", "it is a socket"),
        ("~/fifo", "it is a fifo"),
        ("~/device", "it is a device"),
        ("~/.config/casemate", "casemate's own"),
        ("/etc/passwd", "made for it"),
        ("/etc/hosts", "made for it"),
        ("/etc", "holds one"),
        ("~", "holds one"),
        ("/home", "holds one"),
        ("/", "holds one"),
        ("/tmp", "holds one"),
        ("/run/user", "holds one"),
        ("/dev/shm", "interface of the kernel"),
        ("/proc/1", "interface of the kernel"),
    ],
)
def test_a_rule_that_cannot_be_obeyed_is_refused(path: str, said: str) -> None:
    """The error names the line and the way out; an optional rule is passed over instead."""
    with pytest.raises(PolicyError, match=said) as caught:
        shown(read=(path,))
    assert (caught.value.path, caught.value.line) == ("casemate.toml", 3)
    assert caught.value.hint
    passed = show(Files(read=rules(path, optional=True)), FakeHost(HOST), AROUND)
    assert passed.steps == ()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~/w", "edits to it would not be held back"),
        ("~/.config", "casemate's own"),
        ("/sys/class", "interface of the kernel"),
    ],
)
def test_what_may_be_read_but_not_written(path: str, said: str) -> None:
    """Places around the project, around casemate's own state, and the kernel's."""
    shown(read=(path,))
    with pytest.raises(PolicyError, match=said):
        shown(write=(path,))


def test_a_link_the_sandbox_could_change_is_not_followed() -> None:
    """A link in a writable place may have been planted by an earlier session."""
    roots = ()
    around = Surroundings(home="/home/u", private=(), made=(), roots=roots, own=AROUND.own)
    files = Files(read=rules("~/planted/id"), write=rules("~/w"))
    with pytest.raises(PolicyError, match="the sandbox could change"):
        show(files, FakeHost(HOST), around)


def test_casemates_own_directory_is_covered_wherever_it_would_show() -> None:
    """Even before it exists: the cover is laid if it does by then."""
    found = shown(read=("~/.config",))
    assert Mask("/home/u/.config/casemate", "casemate's own") in found.steps


def test_hidden_paths_are_covered_unless_named() -> None:
    """A wide rule does not show them; a rule for the path itself does."""
    wide = shown(read=("~/.config",), hide=("~/.config/gh",))
    assert Mask("/home/u/.config/gh", "files.hide") in wide.steps
    named = shown(read=("~/.config", "~/.config/gh"), hide=("~/.config/gh",))
    assert not any(step.target == "/home/u/.config/gh" for step in named.steps)
    alone = shown(read=("/opt/tool",), hide=("~/.config/gh",))
    assert not any(isinstance(step, Mask) for step in alone.steps)


def test_what_is_hidden_in_a_writable_place_cannot_be_moved_away() -> None:
    """Each directory on the way to it is a mount point of its own."""
    hide = ("~/.config/deep/er/secret",)
    files = Files(write=rules("~/.config/deep"), hide=rules(*hide))
    found = show(files, FakeHost(HOST), AROUND)
    assert binds(found) == {"/home/u/.config/deep": True, "/home/u/.config/deep/er": True}
