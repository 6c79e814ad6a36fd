"""What a sandbox is, whether its callers wait in threads or in an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from casemate.errors import SandboxError, UsageError
from casemate.sdk.changes import Change, public
from casemate.sdk.dispatcher import CLOSED, Dispatcher
from casemate.sdk.opening import Opened, Settings, make_plan, open_sandbox
from casemate.sdk.request import Request, Word, build
from casemate.sdk.running import Running
from casemate.tiers.guarantees import Guarantee
from casemate.tiers.linux.open import environment
from casemate.workspace import selection
from casemate.workspace.create import finish

if TYPE_CHECKING:
    from casemate.plan.model import Plan
    from casemate.workspace.review import Applied, Review

STARTED_AS_ROOT = 2


class SandboxBase:
    """The state of a sandbox and all that can be done about it without waiting."""

    _opened: Opened | None = None
    _shared: Dispatcher | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = threading.Lock()
        self._closed = False
        self._kept = False

    def _open(self) -> None:
        opened = open_sandbox(self._settings)
        launch = opened.launch
        self._environment = environment(
            launch, os.environb, opened.record.id, opened.session.variables
        )
        self._shared = Dispatcher(
            opened.session, foreign_pipes=bool(launch["flags"] & STARTED_AS_ROOT)
        )
        self._opened = opened

    def __repr__(self) -> str:
        if self._opened is None:
            return f"<{type(self).__name__} {self._settings.project!r} not open>"
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.project!r} {state}, session {self.id}>"

    @property
    def _open_now(self) -> Opened:
        if self._opened is None:
            raise _not_open()
        return self._opened

    @property
    def _dispatcher(self) -> Dispatcher:
        if self._shared is None:
            raise _not_open()
        return self._shared

    @property
    def id(self) -> str:
        """The session, as `casemate diff` and `casemate sessions` name it."""
        return self._open_now.record.id

    @property
    def project(self) -> str:
        """The main project root, absolute."""
        return self._settings.project

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What this sandbox promises, by what and how strongly; waivers are marked."""
        return tuple(Guarantee(*row) for row in self._open_now.launch["guarantees"])

    @property
    def notices(self) -> tuple[str, ...]:
        """What limits have ended, and what of the policy could not be granted, in sentences."""
        opened = self._open_now
        policy = [text for text, _ in opened.launch.get("notices", ())]
        return (*policy, *(text for _, text in opened.session.notices))

    @property
    def plan(self) -> Plan:
        """Everything that is mounted, hidden and limited, made anew from the policy as it is now."""
        from casemate.policy.locations import locate

        plan: Plan = make_plan(self._settings, locate(os.environ))[0]
        return plan

    def _request(
        self,
        command: str | Sequence[Word],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        timeout: float | None,
        limits: Mapping[str, int] | None,
    ) -> Request:
        directory = self._open_now.launch["directory"]
        if self._closed:
            raise SandboxError(CLOSED, code="closed")
        return build(
            command,
            environment=self._environment,
            env=env,
            directory=directory,
            cwd=cwd,
            timeout=timeout,
            limits=limits,
        )

    def _path(self, path: str | os.PathLike[str]) -> str:
        text = os.path.join(self._open_now.launch["directory"], os.fspath(path))
        if "\0" in text:
            raise UsageError("a path cannot hold a zero byte")
        # `..` stays: beneath a link it means another directory than its text says.
        return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))

    def _close(self, *, discard: bool = False) -> None:
        with self._closing:
            if self._closed or self._opened is None:
                self._closed = True
                return
            self._closed = True
            try:
                saved = self._dispatcher.close(discard=discard)
            finally:
                self._kept = finish(self._opened.record, exit_status=None)
            if saved.errno:
                raise SandboxError(
                    f"the changes are not saved yet: {os.strerror(saved.errno)}",
                    hint="free some space: the session's keeper tries again every second for "
                    "ten minutes",
                    code="not-saved",
                )

    def _begin_snapshot(self) -> tuple[int, Running]:
        """The file that the changes so far are being written to, and what to wait for."""
        descriptor = _unnamed_file(self._open_now.record.directory)
        try:
            return descriptor, self._dispatcher.snapshot(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _review(self, snapshot: int | None = None) -> Review:
        """The review of a snapshot, or of all that a closed sandbox has left."""
        from casemate.workspace.review import open_review
        from casemate.workspace.store import Store

        store = Store(self._open_now.launch["state"])
        if snapshot is None and not self._kept:
            raise UsageError("the sandbox has left no changes")
        return open_review(store, self.id, snapshot=snapshot)

    def _changes_of(self, snapshot: int | None) -> tuple[Change, ...]:
        if snapshot is None and not self._kept:
            return ()
        with self._review(snapshot) as review:
            return public(review.changes, self._root_paths)

    def _diff_of(self, snapshot: int | None) -> str:
        from casemate.sdk.patch import render

        if snapshot is None and not self._kept:
            return ""
        with self._review(snapshot) as review:
            return "".join(f"{line}\n" for line in render(review, review.changes))

    @property
    def _root_paths(self) -> dict[int, str]:
        return {index: path for index, path, _ in self._open_now.launch["roots"]}

    def _apply(
        self, paths: Iterable[str | os.PathLike[str]] | None, force: bool
    ) -> tuple[Change, ...]:
        self._close()
        if not self._kept:
            return ()
        with self._review() as review:
            wanted = tuple(
                review.locate(os.fspath(path), directory=self.project) for path in paths or ()
            )
            if paths is not None and not wanted:
                return ()
            chosen = selection.Selection(paths=wanted, theirs=force)
            applied: Applied = review.apply(chosen)
            return public(applied.changes, self._root_paths)

    def _discard(self) -> None:
        from casemate.workspace.store import Store

        if not self._closed:
            self._close(discard=True)
        elif self._kept:
            Store(self._open_now.launch["state"]).discard(self.id)


def _not_open() -> UsageError:
    return UsageError("the sandbox has not been opened", hint="async with AsyncSandbox(...)")


def _unnamed_file(directory: str) -> int:
    """A file without a name on the disk that holds the session; in memory where that cannot be."""
    with suppress(OSError):
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    return os.memfd_create("casemate-snapshot", os.MFD_CLOEXEC)
