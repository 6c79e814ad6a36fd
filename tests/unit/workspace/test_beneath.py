"""Opening beneath a root: no link, no mount, no device is ever followed or waited for."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.workspace import beneath
from casemate.workspace.entry import observe


@pytest.fixture(params=["openat2", "walk"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """A root with a directory, files, links and a fifo, opened in both ways of resolving."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_have_openat2", False)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    top = tmp_path / "top"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/sub/file").write_text("content")
    (top / "dir/link").symlink_to(tmp_path / "outside")
    (top / "within").symlink_to("dir")
    (top / "file-link").symlink_to("dir/sub/file")
    os.mkfifo(top / "fifo")
    descriptor = beneath.open_root(str(top))
    yield descriptor
    os.close(descriptor)


def test_plain_paths_open(root: int) -> None:
    """A regular file and a directory beneath the root open."""
    descriptor = beneath.open_file(root, b"dir/sub/file")
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
    descriptor = beneath.open_directory(root, b".")
    assert sorted(os.listdir(descriptor)) == ["dir", "fifo", "file-link", "within"]
    os.close(descriptor)


@pytest.mark.parametrize(
    "path",
    [b"dir/link/secret", b"within/sub/file", b"file-link", b"dir/link", b"../outside/secret"],
)
def test_links_and_climbing_are_refused(root: int, path: bytes) -> None:
    """No link is followed, not even one that stays inside, and `..` does not leave."""
    with pytest.raises(OSError):
        os.close(beneath.open_file(root, path))


def test_status_does_not_follow(root: int) -> None:
    """A link is itself; what lies behind a link is not there."""
    assert observe(root, b"dir/link").kind == "symlink"
    assert observe(root, b"dir/link/secret").kind == "absent"
    assert observe(root, b"dir/sub/file/below").kind == "absent"
    assert observe(root, b"nothing/here").kind == "absent"


def test_observe_reads_content(root: int) -> None:
    """The digest of a file is its SHA-256, a link has its target."""
    entry = observe(root, b"dir/sub/file")
    assert entry.digest == hashlib.sha256(b"content").hexdigest()
    assert observe(root, b"within").target == b"dir"


def test_fifo_and_socket_are_not_waited_for(root: int) -> None:
    """Opening a fifo as a file fails at once instead of waiting for a writer."""
    with pytest.raises(OSError) as caught:
        beneath.open_file(root, b"fifo")
    assert caught.value.errno == errno.EINVAL
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{root}/socket")
        assert observe(root, b"socket").kind == "special"


def test_mode_of_a_link_target_stays(root: int) -> None:
    """Changing a mode never reaches through a link, and works on what may not be read."""
    with pytest.raises(OSError):
        beneath.change_mode(root, b"file-link", 0o600)
    beneath.change_mode(root, b"dir/sub/file", 0o000)
    beneath.change_mode(root, b"dir/sub/file", 0o640)
    assert observe(root, b"dir/sub/file").mode == 0o640


def test_rename_flags(root: int) -> None:
    """NOREPLACE refuses an existing target and EXCHANGE swaps."""
    with beneath.open_parent(root, b"dir/sub/file") as (directory, name):
        fifo = observe(root, b"fifo").inode
        file = observe(root, b"dir/sub/file").inode
        with pytest.raises(FileExistsError):
            beneath.rename(root, b"fifo", directory, name, beneath.RENAME_NOREPLACE)
        beneath.rename(root, b"fifo", directory, name, beneath.RENAME_EXCHANGE)
    assert observe(root, b"fifo").inode == file
    assert observe(root, b"dir/sub/file").inode == fifo


def test_location_tells_file_systems_apart(root: int) -> None:
    """Two directories on one mount have one location; /proc has another."""
    descriptor = beneath.open_directory(root, b"dir")
    other = beneath.open_root("/proc")
    assert beneath.location(descriptor) == beneath.location(root)
    assert beneath.location(other) != beneath.location(root)
    os.close(descriptor)
    os.close(other)
