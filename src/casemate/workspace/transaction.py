"""One transaction on the project: all of its steps or none.

Order: journal, stage new content, journal with inode numbers, disk; then each step by one
rename(2) between descriptors opened beneath the root that moment, the old content checked by
digest right before and landing in the staging directory, which thereby holds the pre-images;
disk; commit. Until the commit every failure, and a crash at any point, is rolled back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from casemate.errors import CasemateError, WorkspaceError
from casemate.workspace import beneath, journal, names, rollback, staging, steps
from casemate.workspace.changes import Key
from casemate.workspace.entry import Entry, observe
from casemate.workspace.journal import Journal, Location, RootIdentity, Step
from casemate.workspace.locks import Root

Hook = Callable[[str], None]
"""Called with the name of each point passed; a test dies in it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A step to take, and where new content comes from (None: no file content is needed)."""

    step: Step
    source: staging.Source | None = None


def run(
    session: str,
    directory: str,
    roots: Mapping[int, Root],
    planned: Sequence[Planned],
    *,
    kind: journal.TransactionKind,
    keys: Iterable[Key] = (),
    reverts: int = 0,
    hook: Hook = lambda _point: None,
) -> Journal:
    """Take all steps, in order, or none, and give the committed journal.

    `directory` is the session's; the pre-images stay in its `undo/<number>`. `keys` are the
    changes that the steps stand for. The caller holds the locks of the roots. Raises `ConflictError` where something is not as planned, `WorkspaceError`
    where the system refuses; the project is then as it was.
    """
    blank = Journal(
        session=session,
        number=next_number(directory),
        kind=kind,
        reverts=reverts,
        keys=tuple(keys),
        roots=tuple(RootIdentity(root.index, root.path, *root.identity) for root in roots.values()),
        staging=(Location(-1, b"."),),
        steps=(),
    )
    planned = _opened_up(planned, roots)
    try:
        return _Transaction(blank, directory, roots, hook).run(planned, local=True)
    except _OtherFileSystem:
        return _Transaction(blank, directory, roots, hook).run(planned, local=False)


class _OtherFileSystem(Exception):
    """Staging in the state directory turned out to be on another file system."""


class _Transaction:
    def __init__(
        self, blank: Journal, directory: str, roots: Mapping[int, Root], hook: Hook
    ) -> None:
        self.journal = blank
        self.directory = directory
        self.roots = roots
        self.hook = hook
        self.path = f"{directory}/apply.journal"
        self.home = f"{directory}/undo/{self.journal.number}"

    def run(self, planned: Sequence[Planned], *, local: bool) -> Journal:
        current: Step | None = None
        try:
            self.begin([p.step for p in planned], local=local)
            with rollback.open_staging(self.journal, self.directory, self.roots) as places:
                self.stage(planned, places)
                journal.write(self.path, self.journal)
                self.hook("journal")
                for step in self.journal.steps:
                    current = step
                    steps.execute(step, self.roots[step.root].descriptor, places[step.staging])
                    self.hook("step")
            current = None
            for root in self.roots.values():
                beneath.synchronise(root.descriptor)
            self.hook("executed")
            rollback.commit(self.directory, self.journal)
        except BaseException as error:
            self.hook("failed")
            self.roll_back(error)
            if isinstance(error, OSError):
                if error.errno == errno.EXDEV and local:
                    raise _OtherFileSystem from error
                raise _refused(error, current) from error
            raise
        self.hook("committed")
        # What cannot be cleaned now is cleaned by the next recovery: the journal is still there.
        with suppress(OSError):
            rollback.clean(self.directory, self.journal, self.roots)
        return self.journal

    def roll_back(self, cause: BaseException) -> None:
        """Take everything back; what cannot be is left to `recovery`."""
        try:
            left = rollback.roll_back(self.directory, self.journal, self.roots)
        except OSError as error:
            raise WorkspaceError(
                f"applying failed ({cause}) and could not be taken back: {error.strerror}",
                code="interrupted",
                hint="the journal is kept; the next casemate command in the project tries again",
            ) from cause
        if left:
            raise rollback.left_alone(left, self.home) from cause

    def begin(self, planned: Sequence[Step], *, local: bool) -> None:
        """Choose the staging directories, write them down, and only then make them."""
        located = _Locations(self.roots, self.directory if local else "")
        numbered = tuple(
            replace(step, slot=f"{number}", staging=located.of(step))
            for number, step in enumerate(planned)
        )
        self.journal = replace(self.journal, staging=tuple(located.found))
        os.makedirs(f"{self.directory}/undo", 0o700, exist_ok=True)
        journal.write(self.path, self.journal)
        self.hook("begun")
        os.mkdir(self.home, 0o700)
        for location in self.journal.staging[1:]:
            root = self.roots[location.root].descriptor
            with beneath.open_parent(root, location.path + b"/x") as (parent, _):
                os.mkdir(self.journal.name, 0o700, dir_fd=parent)
        self.steps = numbered

    def stage(self, planned: Sequence[Planned], places: Sequence[int]) -> None:
        """Prepare every new entry, and copy what the staging directory will not keep."""
        ready = []
        made: dict[tuple[int, bytes], Entry] = {}
        for numbered, plan in zip(self.steps, planned, strict=True):
            root = self.roots[numbered.root].descriptor
            key = (numbered.root, numbered.path)
            # What an earlier step makes of the path cannot be looked at yet.
            now = made.get(key) or observe(root, numbered.path, digest=bool(numbered.before.digest))
            steps.require(numbered, now)
            made[key] = numbered.after
            step = replace(numbered, before=now)
            if step.action in ("place", "swap"):
                step = replace(step, after=_staged(root, step, plan.source, places[step.staging]))
            if step.staging and step.action in ("take", "swap"):
                staging.keep_preimage(root, step.path, now, places[0], step.slot)
            ready.append(step)
            self.hook("stage")
        for place in places:
            beneath.synchronise(place)
        self.journal = replace(self.journal, steps=tuple(ready))


def next_number(directory: str) -> int:
    """The number of the next transaction of the session in `directory`."""
    try:
        used = os.listdir(f"{directory}/undo")
    except FileNotFoundError:
        return 1
    numbers = (name.removeprefix("kept-") for name in used)
    return max((int(number) for number in numbers if number.isdecimal()), default=0) + 1


def _opened_up(planned: Sequence[Planned], roots: Mapping[int, Root]) -> Sequence[Planned]:
    """With a step that makes each directory of this user writable where it is not, and one that
    takes that back in the end."""
    if os.geteuid() == 0:
        return planned
    first, last = [], []
    own = {(p.step.root, p.step.path): p.step for p in planned if p.step.after.kind == "directory"}
    gone = {(p.step.root, p.step.path) for p in planned if p.step.action == "rmdir"}
    inside = {(p.step.root, names.parent(p.step.path)) for p in planned if p.step.action != "chmod"}
    for root, path in sorted(inside - own.keys()):
        try:
            now = observe(roots[root].descriptor, path, digest=False)
        except OSError:
            continue
        if now.kind == "directory" and now.user == os.geteuid() and now.mode & 0o300 != 0o300:
            usable = replace(now, mode=now.mode | 0o300)
            first.append(Planned(Step(root, path, now, usable)))
            if (root, path) not in gone:
                last.append(Planned(Step(root, path, usable, now)))
    return [*first, *planned, *reversed(last)]


class _Locations:
    """Staging directories for steps: the session's own where a rename can reach from there."""

    def __init__(self, roots: Mapping[int, Root], directory: str) -> None:
        self.roots = roots
        self.found = [Location(-1, b".")]
        self.home = (0, 0)
        if directory:
            descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
            self.home = beneath.location(descriptor)
            os.close(descriptor)
        self.known: dict[tuple[int, bytes], tuple[int, int] | None] = {}

    def of(self, step: Step) -> int:
        """The number of the staging directory for `step`."""
        parent = names.parent(step.path)
        if step.action not in ("place", "swap", "take"):
            return 0
        chain = [parent, *names.ancestors(parent), b"."]
        existing = [path for path in chain if self.location(step.root, path)]
        here = self.location(step.root, existing[0])
        if here == self.home:
            return 0
        # The topmost directory on the same file system, so that there are few.
        top = existing[0]
        for path in existing:
            if self.location(step.root, path) != here:
                break
            top = path
        wanted = Location(step.root, top)
        if wanted not in self.found:
            self.found.append(wanted)
        return self.found.index(wanted)

    def location(self, root: int, path: bytes) -> tuple[int, int] | None:
        key = (root, path)
        if key not in self.known:
            try:
                descriptor = beneath.open_beneath(
                    self.roots[root].descriptor, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                )
            except OSError:
                self.known[key] = None
            else:
                self.known[key] = beneath.location(descriptor)
                os.close(descriptor)
        return self.known[key]


def _staged(root: int, step: Step, source: staging.Source | None, place: int) -> Entry:
    if step.after.kind == "symlink":
        return staging.stage_symlink(step.after, place, step.slot)
    assert source is not None, "BUG: a file without a source of its content"
    return staging.stage_file(root, step.path, step.before, step.after, source, place, step.slot)


def _refused(error: OSError, step: Step | None) -> CasemateError:
    place = names.display(step.path) if step else "the new content"
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space and try again; the session keeps the changes"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "the directory must be writable for you"
    return WorkspaceError(
        f"could not write {place}: {error.strerror}; the project is as it was",
        code="refused",
        hint=hint,
    )
