"""Which changes are applied, which are held back, and why: a pure decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from casemate.policy.model import Pattern
from casemate.policy.patterns import Matcher
from casemate.workspace import flags, names
from casemate.workspace.changes import Change, Key, PathTest, never


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user asked for. Paths are (root index, path); a directory stands for all in it.

    Nothing in `paths` and `patterns` means everything; `exact` instead lists single changes, all
    of them named, and a directory there is itself alone. `force` names conflicting paths for which
    the session's version is wanted; `theirs` wants it for all of them.
    """

    paths: tuple[Key, ...] = ()
    exact: tuple[Key, ...] | None = None
    patterns: tuple[Pattern, ...] = ()
    exclude: tuple[Key, ...] = ()
    exclude_patterns: tuple[Pattern, ...] = ()
    force: tuple[Key, ...] = ()
    theirs: bool = False


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Held:
    """A change that was asked for and is not applied."""

    change: Change
    flag: str
    """The flag that holds it, or "depends" where another one held does."""
    reason: str
    nameable: bool
    """Whether naming exactly this path applies it."""


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """The decision. `conflicts` are among `chosen`: unless empty, nothing may be applied."""

    chosen: tuple[Change, ...]
    held: tuple[Held, ...]
    conflicts: tuple[Change, ...]


def plan_apply(
    changes: Iterable[Change], selection: Selection = EVERYTHING, *, guarded: PathTest = never
) -> ApplyPlan:
    """Decide about every change that the selection reaches.

    Hidden, protected and outward-linking changes need their own path in `selection.paths`, or a
    directory there that is itself `guarded` (hidden or protected). A change takes the new
    directories it lies in with it; a directory goes only with all that it holds.
    """
    return _Planner(tuple(changes), selection, guarded).plan()


class _Planner:
    def __init__(
        self, changes: tuple[Change, ...], selection: Selection, guarded: PathTest
    ) -> None:
        self.changes = sorted(changes, key=lambda change: change.key)
        self.selection = selection
        self.guarded = guarded
        self.paths = frozenset(selection.paths)
        self.exact = None if selection.exact is None else frozenset(selection.exact)
        self.force = frozenset(selection.force)
        self.exclude = frozenset(selection.exclude)
        self.include_matcher = Matcher(selection.patterns)
        self.exclude_matcher = Matcher(selection.exclude_patterns)
        self.chosen: dict[Key, Change] = {}
        self.held: dict[Key, Held] = {}

    def plan(self) -> ApplyPlan:
        for change in self.changes:
            if self.is_selected(change):
                self.choose(change)
        self.require_parents()
        self.require_empty_directories()
        chosen = tuple(change for change in self.changes if change.key in self.chosen)
        conflicts = tuple(
            change
            for change in chosen
            if flags.CONFLICT in change.flags and not self.is_forced(change)
        )
        held = tuple(self.held[key] for key in sorted(self.held))
        return ApplyPlan(chosen, held, conflicts)

    def choose(self, change: Change) -> None:
        """Take a change, or hold it for a flag of its own."""
        for flag in sorted(change.flags):
            never_applied = flag in flags.NEVER_APPLIED
            if never_applied or (flag in flags.NAMED_ONLY and not self.is_named(change)):
                self.hold(change, flag, flags.explain(flag), nameable=not never_applied)
                if never_applied:
                    return
        if change.key not in self.held:
            self.chosen[change.key] = change

    def hold(self, change: Change, flag: str, reason: str, *, nameable: bool = False) -> None:
        self.chosen.pop(change.key, None)
        self.held[change.key] = Held(change, flag, reason, nameable)

    def is_selected(self, change: Change) -> bool:
        if self.exact is not None:
            return change.key in self.exact
        selection = self.selection
        places = [change.path, *([change.source] if change.source else [])]
        if any(self.covers(self.exclude, change.root, place) for place in places):
            return False
        if self.matches(self.exclude_matcher, change):
            return False
        if not selection.paths and not selection.patterns:
            return True
        return any(self.covers(self.paths, change.root, place) for place in places) or self.matches(
            self.include_matcher, change
        )

    @staticmethod
    def covers(listed: frozenset[Key], root: int, path: bytes) -> bool:
        if (root, path) in listed or (root, b".") in listed:
            return True
        return any((root, above) in listed for above in names.ancestors(path))

    @staticmethod
    def matches(matcher: Matcher, change: Change) -> bool:
        if change.path == b".":
            return False
        return matcher.find(change.path.split(b"/"), change.is_directory) is not None

    def is_named(self, change: Change) -> bool:
        if change.key in self.paths or change.key in (self.exact or ()):
            return True
        return any(
            (change.root, above) in self.paths and self.guarded(above, True)
            for above in names.ancestors(change.path)
        )

    def is_forced(self, change: Change) -> bool:
        return self.selection.theirs or self.covers(self.force, change.root, change.path)

    def require_parents(self) -> None:
        """A new entry needs the new directories above it."""
        directories = {
            change.key: change
            for change in self.changes
            if change.after.kind == "directory" and change.kind != "mode"
        }
        for change in self.changes:
            if change.key not in self.chosen or not change.after.exists:
                continue
            for above in reversed(names.ancestors(change.path)):
                parent = directories.get((change.root, above))
                if parent is None or parent.key in self.chosen:
                    continue
                if parent.key not in self.held:
                    self.choose(parent)
                if parent.key in self.held:
                    reason = f"its directory {parent.name} is held back"
                    self.hold(change, "depends", reason)
                    break

    def require_empty_directories(self) -> None:
        """A directory is deleted or replaced only with all that it holds on the host."""
        staying: dict[Key, bytes] = {}
        for change in self.changes:
            if change.key in self.chosen or not change.before.exists:
                continue
            place = change.source or change.path
            for above in names.ancestors(place):
                staying.setdefault((change.root, above), place)
        for change in self.changes:
            leaves = change.before.kind == "directory" and change.after.kind != "directory"
            if leaves and change.key in self.chosen and change.key in staying:
                inner = names.display(staying[change.key])
                self.hold(change, "depends", f"it still holds {inner}")
