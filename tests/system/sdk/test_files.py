"""Files through a sandbox: what works, what is refused, what stays unseen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate import Sandbox
from casemate.errors import SandboxError, UsageError

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


@pytest.fixture
def sandbox(project: Path) -> Iterator[Sandbox]:
    """An open sandbox around the project."""
    with Sandbox(project) as opened:
        yield opened


def test_content_survives_to_the_byte(sandbox: Sandbox, project: Path) -> None:
    """What is written is read back, large and binary, and the host's project is untouched."""
    data = os.urandom(2_000_000)
    sandbox.files.write("deep/er/data.bin", data)

    assert sandbox.files.read("deep/er/data.bin") == data
    assert not (project / "deep").exists()


@pytest.mark.parametrize(
    "name", ["-n", "a b", "new\nline", "quo'te", "$(id)", "ünï", "back\\slash"]
)
def test_odd_names_are_only_names(sandbox: Sandbox, name: str) -> None:
    """No name of a file is taken for an option or a piece of script."""
    sandbox.files.write(f"odd/{name}", "x")

    assert [entry.name for entry in sandbox.files.list("odd")] == [name]
    assert sandbox.files.read(f"odd/{name}") == b"x"
    sandbox.files.rename(f"odd/{name}", "odd/plain")
    sandbox.files.remove("odd/plain")
    assert sandbox.files.list("odd") == []


def test_a_listing_tells_what_is_there(sandbox: Sandbox) -> None:
    """Types, sizes and modes are those inside, links are not followed."""
    sandbox.run("mkdir d; printf 12345 > d/f; chmod 600 d/f; ln -s f d/l; mkfifo d/p; mkdir d/e")
    entries = {entry.name: entry for entry in sandbox.files.list("d")}

    kinds = {name: entry.type for name, entry in entries.items()}
    assert kinds == {"f": "file", "l": "symlink", "p": "other", "e": "directory"}
    assert (entries["f"].size, entries["f"].mode) == (5, 0o600)
    assert sandbox.files.info("d/l").type == "symlink"
    assert sandbox.files.make_dir("d/e") is False
    assert sandbox.files.make_dir("d/x/y") is True


def test_hidden_files_stay_hidden(sandbox: Sandbox, project: Path) -> None:
    """The file verbs see no more than any process inside."""
    assert "API_KEY" in (project / ".env").read_text()
    with pytest.raises(SandboxError):
        sandbox.files.read(".env")


def test_links_lead_nowhere_on_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    """A link that the sandbox made to a file of the host is followed inside, where it is not."""
    outside = tmp_path / "outside"
    outside.write_text("secret")
    sandbox.run(["ln", "-s", str(outside), "trap"])

    with pytest.raises(SandboxError) as caught:
        sandbox.files.read("trap")
    assert caught.value.code == "not-found"
    # Whether that place can be made in the sandbox's own /tmp depends on who runs this.
    with contextlib.suppress(SandboxError):
        sandbox.files.write("trap", "changed")
    assert outside.read_text() == "secret"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("read missing", "not-found"),
        ("read src", "is-a-directory"),
        ("list README.md", "not-a-directory"),
        ("remove missing", "not-found"),
        ("write /usr/lib/x", "permission-denied"),
        ("info missing", "not-found"),
    ],
)
def test_errors_say_why(sandbox: Sandbox, script: str, code: str) -> None:
    """Each failure has a code that a program can tell from the others."""
    verb, path = script.split()
    arguments = (path, "x") if verb == "write" else (path,)
    with pytest.raises(SandboxError) as caught:
        getattr(sandbox.files, verb)(*arguments)

    assert caught.value.code == code
    assert path in caught.value.message


def test_a_file_above_the_ceiling_is_an_error(sandbox: Sandbox) -> None:
    """A file is never handed over without its end."""
    sandbox.run("head -c 100000 /dev/zero > zeros")

    with pytest.raises(SandboxError) as caught:
        sandbox.files.read("zeros", size_max=1000)
    assert caught.value.code == "too-large"


def test_a_full_disk_is_told_and_nothing_breaks(project: Path) -> None:
    """Writing beyond the cap on bytes raises "no-space", and the sandbox lives on."""
    with Sandbox(project, settings=["workspace.disk=1MiB"]) as sandbox:
        with pytest.raises(SandboxError) as caught:
            sandbox.files.write("big", b"x" * 3_000_000)

        assert caught.value.code == "no-space"
        sandbox.files.remove("big")
        sandbox.files.write("small", "x")


def test_a_path_with_a_zero_byte_is_refused(sandbox: Sandbox) -> None:
    """A path that no system call takes is a `UsageError`."""
    with pytest.raises(UsageError):
        sandbox.files.read("a\0b")
