"""The end of a transaction: commit and clean up, or take every step back.

Rolling back looks at what is there, by inode, and so works the same after an error, after a crash
in the middle, and after a crash while rolling back. What someone changed meanwhile is left alone;
the pre-image of it is then kept and named.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from casemate.errors import WorkspaceError
from casemate.workspace import baseline, beneath, durable, names, store
from casemate.workspace import journal as journals
from casemate.workspace.entry import from_status, mode_for, same_mode
from casemate.workspace.journal import Journal, Step
from casemate.workspace.locks import Root


def commit(directory: str, journal: Journal) -> None:
    """The point of no return: the journal gets its name beside the pre-images."""
    pending = f"{directory}/apply.journal"
    committed = f"{directory}/undo/{journal.number}/journal"
    try:
        os.link(pending, committed)
    except OSError as error:
        if error.errno not in (errno.EPERM, *beneath.UNSUPPORTED):
            raise
        journals.write(committed, journal)
    durable.synchronise_directory(os.path.dirname(committed))


def is_committed(directory: str, journal: Journal) -> bool:
    """Whether `commit` was reached."""
    return os.path.exists(f"{directory}/undo/{journal.number}/journal")


def clean(directory: str, journal: Journal, roots: Mapping[int, Root]) -> None:
    """Finish a committed transaction: no staging directory in the project, no journal.

    After an undo the session is open again, what was put back counts as seen, and the pre-images
    that went back are gone.
    """
    _remove_staging(journal, roots)
    if journal.kind == "undo":
        baseline.refresh(directory, journal.steps, roots)
        store.mark(directory, "open")
        shutil.rmtree(f"{directory}/undo/{journal.reverts}", ignore_errors=True)
    _unlink_journal(directory)


def roll_back(directory: str, journal: Journal, roots: Mapping[int, Root]) -> tuple[bytes, ...]:
    """Take back every step that was taken; paths that could not be are returned.

    Raises `OSError` where the system refuses; the journal then stays, to try again later.
    """
    left = []
    home = f"{directory}/undo/{journal.number}"
    # A commit that failed half-way must not count as one after a crash from here on.
    _unlink(f"{home}/journal")
    # Without `home` the steps were taken back before, and only the cleaning was cut off.
    if journal.steps and os.path.isdir(home):
        with open_staging(journal, directory, roots) as places:
            for step in reversed(journal.steps):
                root = roots[step.root].descriptor
                if not _revert(step, root, places[step.staging], f"{journal.name}-{step.slot}"):
                    left.append(step.path)
            for opened in roots.values():
                beneath.synchronise(opened.descriptor)
    if left:
        os.rename(home, f"{directory}/undo/kept-{journal.number}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    _remove_staging(journal, roots)
    _unlink_journal(directory)
    return tuple(left)


def left_alone(paths: Sequence[bytes], home: str) -> WorkspaceError:
    """The error for paths that someone changed before they could be rolled back."""
    shown = ", ".join(names.display(path) for path in paths[:5])
    kept = f"{os.path.dirname(home)}/kept-{os.path.basename(home)}"
    return WorkspaceError(
        f"rolled back, but for {len(paths)} path(s) changed on this machine meanwhile: {shown}",
        code="kept",
        hint=f"what lay there before is kept in {kept}",
    )


@contextmanager
def open_staging(
    journal: Journal, directory: str, roots: Mapping[int, Root]
) -> Iterator[Sequence[int]]:
    """Descriptors of the staging directories, in the journal's order."""
    with ExitStack() as stack:
        places = []
        for location in journal.staging:
            if location.root < 0:
                place = beneath.open_root(f"{directory}/undo/{journal.number}")
            else:
                root = roots[location.root].descriptor
                place = beneath.open_directory(root, _staging_path(location.path, journal))
            stack.callback(os.close, place)
            places.append(place)
        yield places


def _revert(step: Step, root: int, place: int, temporary: str) -> bool:
    """Take one step back if it was taken; False where what is there now must stay.

    `temporary` is a name in the project that is this step's alone.
    """
    try:
        with beneath.open_parent(root, step.path) as (parent, name):
            if step.action == "mkdir":
                return _unmake(parent, name)
            if step.action == "rmdir":
                return _make_again(parent, name, step, temporary.encode())
            if step.action == "chmod":
                return _change_back(root, step)
            return _put_back(step, parent, name, place)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            # The directory above is gone, or never came.
            return not step.slot or _displaced(step, place) is None
        raise


def _unmake(parent: int, name: bytes) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return error.errno == errno.ENOTDIR
    return True


def _make_again(parent: int, name: bytes, step: Step, temporary: bytes) -> bool:
    """Make the directory beside its place and move it there: never there without its mode."""
    with suppress(FileNotFoundError):
        os.rmdir(temporary, dir_fd=parent)
    if _status(parent, name) is not None:
        return True
    os.mkdir(temporary, 0o700, dir_fd=parent)
    descriptor = beneath.open_directory(parent, temporary)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, step.before.user, step.before.group)
        os.fchmod(descriptor, step.before.mode)
    finally:
        os.close(descriptor)
    beneath.place_directory(parent, temporary, name)
    return True


def _change_back(root: int, step: Step) -> bool:
    status = beneath.status(root, step.path)
    if status is None:
        return True
    now = from_status(status)
    if now.kind == step.before.kind and same_mode(now, step.after):
        beneath.change_mode(root, step.path, mode_for(now, step.before))
    return True


def _put_back(step: Step, parent: int, name: bytes, place: int) -> bool:
    """Return the displaced entry to its path, or the new one to its slot."""
    now = _status(parent, name)
    old = _displaced(step, place)
    if now is not None and step.after.exists and now.st_ino == step.after.inode:
        if from_status(now).identity != step.after.identity:
            return False  # edited since: it is the user's now
        if old is not None:
            beneath.exchange(place, old, parent, name)
        else:
            beneath.rename(parent, name, place, step.slot.encode())
            # Two links to one inode: rename(2) then does nothing.
            if (still := _status(parent, name)) is not None and still.st_ino == now.st_ino:
                os.unlink(name, dir_fd=parent)
        return True
    if now is None and old is not None:
        beneath.place(place, old, parent, name)
        return True
    return old is None


def _displaced(step: Step, place: int) -> bytes | None:
    """The name under which the old entry lies in the staging directory, if it does."""
    if not step.before.exists:
        return None
    for slot in (step.slot.encode(), beneath.aside(step.slot.encode())):
        status = _status(place, slot)
        if status is not None and status.st_ino == step.before.inode:
            return slot
    return None


def _status(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _staging_path(path: bytes, journal: Journal) -> bytes:
    name = journal.name.encode()
    return name if path == b"." else path + b"/" + name


def _remove_staging(journal: Journal, roots: Mapping[int, Root]) -> None:
    for location in journal.staging:
        if location.root < 0:
            continue
        root = roots[location.root].descriptor
        try:
            place = beneath.open_directory(root, _staging_path(location.path, journal))
        except OSError:
            continue
        try:
            for staged in os.listdir(place):
                os.unlink(staged, dir_fd=place)
        finally:
            os.close(place)
        with beneath.open_parent(root, _staging_path(location.path, journal)) as (parent, name):
            os.rmdir(name, dir_fd=parent)


def _unlink_journal(directory: str) -> None:
    _unlink(f"{directory}/apply.journal")
    durable.synchronise_directory(directory)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
