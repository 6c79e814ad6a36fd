"""Looking at the host: links, and that nothing seen is forgotten."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import FakeHost, Link

from casemate.plan.evidence import holds
from casemate.plan.host import READ_MAX, Host


def test_resolve_follows_every_link_and_names_it(tmp_path: Path) -> None:
    """Relative, absolute and chained links, with the real place of each."""
    (tmp_path / "data/cache").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a").symlink_to("b")
    (tmp_path / "home/b").symlink_to(tmp_path / "data")
    found = Host().resolve(f"{tmp_path}/home/a/cache")
    assert (found.real, found.kind) == (f"{tmp_path}/data/cache", "directory")
    assert found.links == (
        (f"{tmp_path}/home/a", "b"),
        (f"{tmp_path}/home/b", f"{tmp_path}/data"),
    )


def test_a_loop_of_links_is_missing() -> None:
    """A loop ends, and leads nowhere."""
    host = FakeHost({"/a": Link("/b"), "/b": Link("/a")})
    assert host.resolve("/a/x").kind == "missing"


def test_what_lies_below_a_file_is_missing() -> None:
    """A file has nothing below it, whatever the path says."""
    host = FakeHost({"/f": b""})
    found = host.resolve("/f/x/y")
    assert (found.kind, found.real) == ("missing", "/f/x/y")


def test_kinds(tmp_path: Path) -> None:
    """Each kind of file is told apart without opening it."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "symlink").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for kind in ("directory", "file", "symlink", "fifo", "socket", "missing"):
            assert Host().kind(str(tmp_path / kind)) == kind
    assert Host().kind("/dev/null") == "device"


def test_every_look_is_evidence(tmp_path: Path) -> None:
    """After any look-up the evidence holds, and no longer once the answer would differ."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    host = Host()
    host.resolve(f"{tmp_path}/link/later")
    facts = [(e.path, e.signature, e.content) for e in host.evidence]
    assert holds(facts)
    (tmp_path / "dir/later").touch()
    assert not holds(facts)


def test_read_refuses_what_is_no_ordinary_file(tmp_path: Path) -> None:
    """A missing file is None; a directory, a FIFO and a huge file are errors, and none blocks."""
    assert Host().read(str(tmp_path / "no")) is None
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(READ_MAX + 1)
    for name in (".", "fifo", "huge"):
        with pytest.raises(OSError, match="regular|large"):
            Host().read(f"{tmp_path}/{name}")


NAMES = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "a/b", "b/c", "c/a"]), PATHS),
    path=PATHS,
)
def test_resolve_agrees_with_realpath(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str], path: str
) -> None:
    """For what exists, the same answer as realpath(3)."""
    base = tmp_path_factory.mktemp("tree").resolve()
    for name in sorted(set("abc") - set(links)):
        (base / name).mkdir()
    for name, destination in links.items():
        place = base / name
        if place.parent.is_dir() and not place.parent.is_symlink() and not place.exists():
            place.symlink_to(destination)
    wanted = f"{base}/{path}"
    found = Host().resolve(wanted)
    if os.path.exists(wanted):
        assert found.real == os.path.realpath(wanted)
        assert found.kind != "missing"
    else:
        assert found.kind == "missing"
