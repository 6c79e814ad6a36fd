"""The journal of a transaction on the project: every step, with what was there and what comes.

It is on disk before the first step, and with inode numbers in it each step can be told done or
not done by looking, so that a crash at any point can be rolled back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from casemate.errors import WorkspaceError
from casemate.workspace import durable, names
from casemate.workspace.entry import ABSENT, Entry

Action = Literal["place", "swap", "take", "mkdir", "rmdir", "chmod"]
TransactionKind = Literal["apply", "undo"]


@dataclass(frozen=True, slots=True)
class Step:
    """One path and its states before and after.

    `slot` names the staged entry in staging directory number `staging`: before the step the new
    content, after it what was displaced.
    """

    root: int
    path: bytes
    before: Entry
    after: Entry
    slot: str = ""
    staging: int = 0

    @property
    def action(self) -> Action:
        """What the two states ask for."""
        if self.after.kind == "directory":
            return "chmod" if self.before.kind == "directory" else "mkdir"
        if self.before.kind == "directory":
            return "rmdir"
        if not self.before.exists:
            return "place"
        if not self.after.exists:
            return "take"
        return "chmod" if self.before.same_content(self.after) else "swap"

    @property
    def inverse(self) -> Step:
        """The step that takes this one back."""
        return Step(self.root, self.path, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Location:
    """A staging directory: in the session's directory (root -1), or in a project directory."""

    root: int
    path: bytes


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """A project root as it was when the transaction began."""

    index: int
    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One transaction, numbered within its session.

    `keys` are the (root, path) of the changes it applied, `reverts` the number of the one undone.
    """

    session: str
    number: int
    kind: TransactionKind
    reverts: int
    keys: tuple[tuple[int, bytes], ...]
    roots: tuple[RootIdentity, ...]
    staging: tuple[Location, ...]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """Of a staging directory in the project."""
        return f".casemate-{self.session}-{self.number}"


def write(path: str, journal: Journal) -> None:
    """Keep the journal durably. Raises `OSError`."""
    durable.write_json(
        path,
        {
            "version": 1,
            "session": journal.session,
            "number": journal.number,
            "kind": journal.kind,
            "reverts": journal.reverts,
            "keys": [[root, names.to_text(path)] for root, path in journal.keys],
            "roots": [[r.index, r.path, r.device, r.inode] for r in journal.roots],
            "staging": [[s.root, names.to_text(s.path)] for s in journal.staging],
            "steps": [
                [
                    step.root,
                    names.to_text(step.path),
                    entry_to_json(step.before),
                    entry_to_json(step.after),
                    step.slot,
                    step.staging,
                ]
                for step in journal.steps
            ],
        },
    )


def read(path: str) -> Journal:
    """The journal in the file. Raises `FileNotFoundError` and, where it is junk, `WorkspaceError`."""
    try:
        value = durable.read_json(path)
        if value["version"] != 1:
            raise ValueError(f"version {value['version']} is not known")
        return Journal(
            session=str(value["session"]),
            number=int(value["number"]),
            kind=value["kind"],
            reverts=int(value["reverts"]),
            keys=tuple((root, _path(path)) for root, path in value["keys"]),
            roots=tuple(RootIdentity(*root) for root in value["roots"]),
            staging=tuple(Location(root, _path(path)) for root, path in value["staging"]),
            steps=tuple(
                Step(
                    root,
                    _path(path),
                    entry_from_json(before),
                    entry_from_json(after),
                    str(slot),
                    int(staging),
                )
                for root, path, before, after, slot, staging in value["steps"]
            ),
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"the journal {path!r} cannot be read: {error}",
            code="journal",
            hint="the files it displaced lie beside it, in `undo`; nothing is removed while it "
            "is there",
        ) from error


_DEFAULTS = asdict(ABSENT)


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """An entry as JSON-ready data, what is as in an absent entry left out."""
    found = {}
    for field in fields(Entry):
        value = getattr(entry, field.name)
        if value != _DEFAULTS[field.name] or field.name == "kind":
            found[field.name] = names.to_text(value) if isinstance(value, bytes) else value
    return found


def entry_from_json(value: dict[str, Any]) -> Entry:
    """The inverse of `entry_to_json`."""
    target = names.to_bytes(value.get("target", ""))
    return Entry(**(value | {"target": target}))


def _path(text: str) -> bytes:
    path = names.to_bytes(text)
    if problem := names.path_problem(path):
        raise ValueError(problem)
    return path
