"""Which host paths outside the project are shown, from the rules of `[files]`.

A rule shows the real place it leads to, at that place; links on the way are made again as they
are on the host, so that a path means the same inside as outside. Access only adds up: what lies
in a place that can be written can be written, whatever a narrower rule says of reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from casemate.plan.host import Host, Resolved
from casemate.plan.model import Bind, Mask, Step
from casemate.plan.roots import ProjectRoot, expand, rule_error, within
from casemate.policy.model import Files, PathRule

KERNEL_TREES = ("/proc", "/dev", "/sys")
"""The sandbox has its own, or none."""

HIDDEN_REASON = "files.hide"
OWN_REASON = "casemate's own"

SOCKET_TREES = ("/run/user",)
"""Where the sockets of a user's other programs are: a connection is not stopped by read-only."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that holds on this host."""

    rule: PathRule
    real: str
    links: tuple[tuple[str, str], ...]
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What rules must respect. Every path is real but `home`, which stands for `~`."""

    home: str
    private: Sequence[str]
    """Places that are the sandbox's own: scratch directories and made files."""
    made: Sequence[str]
    """Of those, the made files."""
    roots: Sequence[ProjectRoot]
    own: Sequence[str]
    """casemate's own directories."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The outcome: steps in no particular order, links to make again, and what was passed over."""

    steps: tuple[Step, ...]
    links: tuple[tuple[str, str, str], ...]
    """Each with its reason."""
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Collected:
    grants: list[Grant] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(files: Files, host: Host, around: Surroundings) -> Shown:
    """The steps for the rules.

    Raises `PolicyError` for a rule that names nothing or what cannot be shown; one that is
    optional is passed over instead.
    """
    collected = _Collected()
    for rule in files.write:
        _collect(collected, rule, host, around, writable=True)
    for rule in files.read:
        _collect(collected, rule, host, around, writable=False)
    hidden = [host.resolve(expand(rule.path, around.home)) for rule in files.hide]
    covered = [(item.real, HIDDEN_REASON) for item in hidden if item.kind != "missing"]
    covered += [(path, OWN_REASON) for path in around.own]
    links = tuple(
        (place, destination, str(grant.rule.origin))
        for grant in collected.grants
        for place, destination in grant.links
    )
    return Shown(_lay_out(collected.grants, covered), links, tuple(collected.notes))


def _collect(
    collected: _Collected, rule: PathRule, host: Host, around: Surroundings, *, writable: bool
) -> None:
    path = expand(rule.path, around.home)
    resolved = host.resolve(path)
    if rule.optional and (resolved.kind == "missing" or path in around.made):
        return
    written = [grant.real for grant in collected.grants if grant.writable]
    problem = _problem(path, resolved, around, written, writable=writable)
    if problem is None:
        grant = Grant(rule, resolved.real, resolved.links, writable)
        collected.grants.append(grant)
    elif rule.optional:
        collected.notes.append(f"{path} is not shown: {problem[0]}")
    else:
        raise rule_error(rule, f"{path} cannot be shown: {problem[0]}", problem[1])


def _problem(
    path: str, resolved: Resolved, around: Surroundings, written: Sequence[str], *, writable: bool
) -> tuple[str, str] | None:
    """Why a rule cannot be obeyed, and the way out; None if it can."""
    real = resolved.real
    narrower = "name the directories or files in it that are needed"
    if not path.startswith("/"):
        return "it is not absolute", 'write it from "/" or "~/" on'
    if path in around.made or real in around.made:
        return "the sandbox has one made for it", "leave the rule out"
    for root in around.roots:
        if within(path, root.path) or within(real, root.real):
            return (
                "it is part of the project",
                "what a project shows and protects is said by workspace.hide and workspace.protect",
            )
    for place, _ in resolved.links:
        if any(within(place, held) for held in (*(root.real for root in around.roots), *written)):
            return (
                f"the way there goes through {place}, a link that the sandbox could change",
                f"name the place it leads to: {real}",
            )
    if resolved.kind == "missing":
        return "it does not exist", "create it, leave it out, or mark it: optional = true"
    if resolved.kind not in ("directory", "file"):
        return f"it is a {resolved.kind}", "only files and directories can be shown"
    for directory in around.own:
        if within(real, directory) or (writable and within(directory, real)):
            return f"{directory} is casemate's own", narrower
    if real in around.private or any(within(item, real) for item in around.private):
        return "the sandbox has its own, or it holds one that is", narrower
    if any(within(real, tree) for tree in SOCKET_TREES):
        return "other programs listen there", "copy what is needed to another place"
    for tree in KERNEL_TREES:
        if within(tree, real) or (within(real, tree) and (writable or tree != "/sys")):
            return "it is an interface of the kernel", "leave the rule out"
    for root in around.roots:
        if writable and within(root.real, real):
            return (
                f"the project {root.real} lies in it, and edits to it would not be held back",
                narrower,
            )
    return None


def _lay_out(grants: Iterable[Grant], covered: Iterable[tuple[str, str]]) -> tuple[Step, ...]:
    """Binds without those that another makes needless, and covers over what is hidden in them."""
    items: list[tuple[str, Grant | str]] = [(grant.real, grant) for grant in grants]
    named = {real for real, _ in items}
    items += [(path, reason) for path, reason in covered if path not in named]
    # From the top down; of rules for one place the one that may write first.
    items.sort(
        key=lambda item: (item[0].count("/"), isinstance(item[1], Grant) and not item[1].writable)
    )
    kept: dict[str, Grant | str] = {}
    for path, item in items:
        above = kept.get(nearest(path, kept, strict=True))
        if path in kept:
            continue
        if isinstance(item, str):
            if isinstance(above, Grant):
                kept[path] = item
        elif not isinstance(above, Grant) or (item.writable and not above.writable):
            kept[path] = item
    return (*_steps(kept), *_pins(kept))


def _steps(kept: Mapping[str, Grant | str]) -> Iterator[Step]:
    for path, item in kept.items():
        if isinstance(item, Grant):
            yield Bind(path, path, item.writable, str(item.rule.origin))
        else:
            yield Mask(path, item)


def _pins(kept: Mapping[str, Grant | str]) -> Iterator[Step]:
    """Holds the directories between a writable place and what is hidden in it.

    A directory that holds a mount point can be renamed and carries it along; what is hidden would
    be elsewhere, and in sight, the next time. One that is a mount point cannot be. rename(2)
    """
    pinned = set()
    for path, item in kept.items():
        above = nearest(path, kept, strict=True)
        holder = kept.get(above)
        if isinstance(item, Grant) or not isinstance(holder, Grant) or not holder.writable:
            continue
        parent = path.rpartition("/")[0]
        while parent != above:
            pinned.add(parent)
            parent = parent.rpartition("/")[0]
    for parent in sorted(pinned):
        yield Bind(parent, parent, True, "holds what is hidden in it in place")


def nearest(path: str, places: Iterable[str], *, strict: bool = False) -> str:
    """The deepest of some places that a path lies in (or, if not `strict`, is); "" if none."""
    known = places if isinstance(places, dict | set | frozenset) else set(places)
    if not strict and path in known:
        return path
    while path != "/" and path:
        path = path.rpartition("/")[0] or "/"
        if path in known:
            return path
    return ""
