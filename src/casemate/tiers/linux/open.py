"""Opens a session of the process tier from a launch. On the start-up path of `casemate run`."""

from __future__ import annotations

import os

from casemate.errors import SandboxError
from casemate.supervisor.binary import supervisor_path
from casemate.supervisor.protocol import string, u32, u64
from casemate.tiers.linux.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

SPECIFICATION_VERSION = 2
ARCHIVE, ROOT, BARE = 1, 2, 8
"""Flags of a launch: a file for the changes comes along, started as root, without namespaces."""
OUTSIDE_BASE = 0x70000000
"""First of the identities given to sandboxes started as root: a range no distribution assigns."""
OOM_SCORE = 500
"""When memory runs out on the host, the sandbox goes before the user's other programs."""


def late_file(target: str, content: bytes, *, mode: int = 0o600, cover: bool = False) -> bytes:
    """A step for a file that is known only now: the sandbox's own in a private directory, or
    (`cover`) in the place of one that is there, read-only."""
    place = string(os.fsencode(target))
    return bytes((8, cover)) + u32(mode) + place + string(content)


def late_directory(target: str) -> bytes:
    """A step for a directory of the sandbox's own in a private one."""
    return bytes((1,)) + u32(0o700) + string(os.fsencode(target))


def open_session(
    launch: dict[str, Any], identifier: str, archive: int, late: Sequence[bytes] = ()
) -> Session:
    """Starts the sandbox; `archive` is where its changes will be saved.

    `identifier` names the session and its control groups; `late` are steps after those of the
    launch. Raises `SandboxError`.
    """
    root = bool(launch["flags"] & ROOT)
    inside_uid, inside_gid = launch["inside"]
    if root:
        outside_uid = OUTSIDE_BASE + int.from_bytes(os.urandom(3), "little")
        outside_gid = outside_uid
    else:
        outside_uid, outside_gid = os.getuid(), os.getgid()
        if (outside_uid, outside_gid) != (inside_uid, inside_gid):
            raise SandboxError("the launch was made for another user")
    owner = os.stat(launch["project"])
    scratch = scratch_directory(launch, identifier)
    groups = [
        string(os.fsencode(directory.replace("{id}", identifier)))
        + u32(len(settings))
        + b"".join(string(text.encode()) for setting in settings for text in setting)
        for directory, settings in launch["groups"]
    ]
    specification = b"".join(
        (
            u32(SPECIFICATION_VERSION),
            u32(launch["flags"]),
            u32(inside_uid),
            u32(inside_gid),
            u32(outside_uid),
            u32(outside_gid),
            u32(owner.st_uid),
            u32(owner.st_gid),
            *(u64(value) for value in launch["caps"]),
            u32(OOM_SCORE),
            string(b"casemate"),
            string(os.fsencode(scratch)),
            u32(len(groups)),
            *groups,
            launch["tail"],
            u32(launch["steps"][0] + len(late)),
            launch["steps"][1],
            *late,
        )
    )
    return Session(
        supervisor_path(), specification, archive, launch["wrapper"], launch["listeners"]
    )


def scratch_directory(launch: dict[str, Any], identifier: str) -> str:
    """Where a session without mounts keeps its private files; "" for one with mounts."""
    if not launch["flags"] & BARE:
        return ""
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return os.path.join(base, f"casemate-{identifier}")


def environment(
    launch: dict[str, Any],
    caller: Mapping[bytes, bytes],
    identifier: str,
    own: Iterable[tuple[bytes, bytes]] = (),
) -> list[bytes]:
    """The variables a command inside gets: those passed by name, those the policy sets, and the
    session's own."""
    values: dict[bytes, bytes] = {}
    for name in launch["environment_passed"]:
        wanted = os.fsencode(name)
        if wanted.endswith(b"*"):
            prefix = wanted[:-1]
            values.update((key, value) for key, value in caller.items() if key.startswith(prefix))
        elif wanted in caller:
            values[wanted] = caller[wanted]
    values.update(
        (os.fsencode(name), os.fsencode(value)) for name, value in launch["environment_set"]
    )
    values.update(own)
    scratch = os.fsencode(scratch_directory(launch, identifier))
    if scratch:
        values[b"HOME"] = scratch + b"/home"
        values[b"TMPDIR"] = scratch + b"/tmp"
    return [name + b"=" + value for name, value in values.items()]
