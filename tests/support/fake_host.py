"""A host made of a dictionary, for tests of what is decided about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from casemate.plan.host import Host

OWNER = 1000
TYPES = {
    "directory": 0o040000,
    "file": 0o100000,
    "symlink": 0o120000,
    "socket": 0o140000,
    "fifo": 0o010000,
    "device": 0o020000,
}
DIRECTORY = "directory"
SOCKET = "socket"
FIFO = "fifo"
DEVICE = "device"


class Link(str):
    """What a symbolic link holds."""


Entry = bytes | str | Link
"""The bytes of a file, a link, or one of the words above."""


class FakeHost(Host):
    """Directories above an entry exist without being named."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        *,
        owners: Mapping[str, int] | None = None,
        unreadable: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.entries: dict[str, Entry] = dict(entries)
        for path in entries:
            while path := path.rpartition("/")[0]:
                self.entries.setdefault(path, DIRECTORY)
        self.owners = dict(owners or {})
        self.unreadable = unreadable
        self.numbers: dict[str, int] = {}

    def readable(self, path: str) -> bool:
        return path not in self.unreadable

    def _signature(self, path: str, content: bool) -> tuple[int, ...]:
        if content:
            resolved = self.resolve(path)
            path = resolved.real
        entry = DIRECTORY if path == "/" else self.entries.get(path)
        if entry is None:
            return ()
        kind = TYPES[_kind(entry)]
        number = self.numbers.setdefault(path, len(self.numbers) + 1)
        if content:
            return (kind, 1, number, len(entry), 0, 0)
        return (kind, 1, number, self.owners.get(path, OWNER))

    def _readlink(self, path: str) -> str:
        entry = self.entries.get(path)
        return str(entry) if isinstance(entry, Link) else ""

    def _read(self, path: str) -> bytes:
        entry = self.entries[self.resolve(path).real]
        assert isinstance(entry, bytes)
        return entry


def _kind(entry: Entry) -> str:
    if isinstance(entry, bytes):
        return "file"
    return "symlink" if isinstance(entry, Link) else entry
