"""A review: one session's changes against the project, and the decision to apply some of them.

with open_review(Store(state), session_id) as review:
    for change in review.changes: ...
    applied = review.apply(Selection(paths=(review.locate("src"),)))
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from casemate.errors import ConflictError, UsageError, WorkspaceError
from casemate.policy.patterns import Matcher
from casemate.workspace import apply, archive, baseline, flags, names, transaction
from casemate.workspace.archive import Archive
from casemate.workspace.changes import Baseline, Change, Key, PathTest, compare
from casemate.workspace.locks import Root, locked, open_roots
from casemate.workspace.recovery import Recovered, recover
from casemate.workspace.renames import with_renames
from casemate.workspace.selection import EVERYTHING, ApplyPlan, Held, Selection, plan_apply
from casemate.workspace.store import Session, Store
from casemate.workspace.undo import applied_keys


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did. `remaining` changes stay open in the session."""

    session: str
    changes: tuple[Change, ...]
    held: tuple[Held, ...]
    remaining: tuple[Change, ...]


class Review:
    """See `open_review`. `changes` are those not applied yet; `recovered` says what an earlier
    apply that was cut off came to."""

    def __init__(
        self,
        store: Store,
        session: Session,
        opened: Archive,
        roots: dict[int, Root],
        recovered: tuple[Recovered, ...],
        stack: ExitStack,
    ) -> None:
        self.store = store
        self.session = session
        self.archive = opened
        self.roots = roots
        self.recovered = recovered
        self._stack = stack
        self._hidden = Matcher(session.hide)
        self._protected = Matcher(session.protect)
        self._applied = applied_keys(session.directory)
        self._baselines = baseline.read(session.directory)
        self.changes = self._compare()
        if session.state == "open":
            with suppress(WorkspaceError):
                self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep_open(self) -> None:
        """Take the archive and the roots over from the stack that opened them."""
        self._stack = self._stack.pop_all()

    def close(self) -> None:
        """Close the archive and the roots."""
        self._stack.close()

    @property
    def complete(self) -> bool:
        """False where the session was cut off while its changes were saved."""
        return self.archive.complete

    def plan(self, selection: Selection = EVERYTHING) -> ApplyPlan:
        """What `apply` would do with `selection`."""
        return plan_apply(self.changes, selection, guarded=self._guarded)

    def apply(
        self,
        selection: Selection = EVERYTHING,
        *,
        hook: transaction.Hook = lambda _point: None,
    ) -> Applied:
        """Apply the selected changes as one transaction, all or nothing.

        Raises `ConflictError` if one of them conflicts and is not forced, or changes while this
        runs; `WorkspaceError` where the system refuses. The project is then as it was.
        """
        if self.session.state in ("running", "discarded"):
            raise UsageError(
                f"session {self.session.id} is {self.session.state}",
                hint="a discarded session is taken back with `casemate sessions --recover`"
                if self.session.state == "discarded"
                else "it can be applied when its command has ended",
            )
        plan = self.plan(selection)
        if plan.conflicts:
            shown = ", ".join(change.name for change in plan.conflicts[:5])
            raise ConflictError(
                f"changed on this machine since the session began: {shown}; nothing was applied",
                paths=tuple(names.to_text(change.path) for change in plan.conflicts),
                hint="see `casemate diff`; `--force PATH` takes the session's version, "
                "`--exclude PATH` leaves the path as it is",
            )
        if plan.chosen:
            self._run(plan, hook)
        return Applied(self.session.id, plan.chosen, plan.held, self.changes)

    def locate(self, argument: str, *, directory: str | None = None) -> Key:
        """The (root, path) that a path on the command line means, by its text.

        Relative to `directory` (default: the working directory). Raises `UsageError` for one
        that lies in no project root of the session.
        """
        text = os.path.normpath(os.path.join(directory or os.getcwd(), argument))
        for resolved in (text, os.path.join(os.path.realpath(os.path.dirname(text)), "")):
            full = text if resolved == text else resolved + os.path.basename(text)
            for root in sorted(self.roots.values(), key=lambda r: len(r.path), reverse=True):
                path = os.fsencode(os.path.relpath(full, root.path))
                if path != b".." and not path.startswith(b"../"):
                    return root.index, path
        raise UsageError(f"{argument!r} is in no project root of session {self.session.id}")

    def _run(self, plan: ApplyPlan, hook: transaction.Hook) -> None:
        session = self.session
        with locked(self.store.state, self.roots.values(), session=session.id):
            if applied_keys(session.directory) != self._applied or os.path.exists(
                f"{session.directory}/apply.journal"
            ):
                raise WorkspaceError(
                    f"session {session.id} was applied or undone by another casemate meanwhile",
                    code="stale",
                    hint="try again",
                )
            done = transaction.run(
                session.id,
                session.directory,
                self.roots,
                apply.steps(plan.chosen, self.archive),
                kind="apply",
                keys=[key for change in plan.chosen for key in change.keys],
                hook=hook,
            )
        self._applied |= set(done.keys)
        self.changes = tuple(c for c in self.changes if c.key not in self._applied)
        self._settle()

    def _settle(self) -> None:
        """The session is applied when nothing that could be applied is left."""
        waiting = any(not change.flags & flags.NEVER_APPLIED for change in self.changes)
        if self._applied and not waiting:
            self.store.mark(self.session.id, "applied")

    def _compare(self) -> tuple[Change, ...]:
        descriptors = {index: root.descriptor for index, root in self.roots.items()}
        found = compare(
            self.archive,
            descriptors,
            started_ns=self.session.started_ns,
            hidden=_test(self._hidden),
            protected=_test(self._protected),
            baselines=self._baselines,
        )
        waiting = tuple(change for change in found if change.key not in self._applied)
        self._remember(baseline.of(waiting))
        return with_renames(waiting, descriptors)

    def _remember(self, seen: dict[Key, Baseline]) -> None:
        """Record what lies on the host at the first review of each path."""
        if self.session.state == "running":
            return
        new = {key: entry for key, entry in seen.items() if key not in self._baselines}
        if new:
            self._baselines |= new
            # A state directory that cannot be written still allows to look.
            with suppress(OSError):
                baseline.write(self.session.directory, self._baselines)

    def _guarded(self, path: bytes, directory: bool) -> bool:
        return _test(self._hidden)(path, directory) or _test(self._protected)(path, directory)


def open_review(
    store: Store, id: str, *, incomplete: bool = False, snapshot: int | None = None
) -> Review:
    """The review of a session, after finishing or rolling back what was cut off before.

    `incomplete` also takes a session that was killed while its changes were saved. `snapshot` is
    the descriptor of an archive of the session as it runs, which can be looked at but not
    applied; it is owned by the review. Raises `WorkspaceError` for a damaged or running session.
    """
    session = store.load(id)
    if session.state == "damaged":
        raise WorkspaceError(
            f"session {id} is damaged: {session.problem}",
            code="damaged",
            hint="`casemate sessions --remove` deletes it",
        )
    if session.state == "running" and snapshot is None:
        raise WorkspaceError(f"session {id} is still running", code="running")
    paths = [(root.index, root.path) for root in session.roots if root.mode != "readonly"]
    recovered = tuple(done for _, path in paths for done in recover(store.state, path))
    with ExitStack() as stack:
        roots = stack.enter_context(open_roots(paths))
        descriptor = snapshot
        if descriptor is None:
            try:
                descriptor = os.open(session.archive_path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise WorkspaceError(
                    f"the changes of session {id} cannot be opened: {error.strerror}"
                ) from error
        limits = archive.Limits(roots=max(roots, default=0) + 1)
        opened = archive.read(descriptor, limits=limits, allow_incomplete=incomplete)
        stack.callback(opened.close)
        review = Review(store, session, opened, roots, recovered, stack)
        review.keep_open()
    return review


def _test(matcher: Matcher) -> PathTest:
    def test(path: bytes, directory: bool) -> bool:
        if path == b".":
            return False
        return matcher.find(path.split(b"/"), directory) is not None

    return test
