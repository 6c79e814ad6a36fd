"""The same sandbox with less work at every start: fewer mounts, and fewer facts to check.

A mount costs four or five times what a small file or a directory does, and a plan rests on a few
hundred facts, most of them that some file of /etc does not exist.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict

from casemate.plan.evidence import signature
from casemate.plan.model import Bind, Directory, Evidence, File, Root, Scratch, Step, Symlink

FILE_MAX = 32 << 10
"""Bytes of the largest file that is copied rather than mounted."""
ENTRIES_MAX = 8
"""Entries of the largest directory that is copied rather than mounted."""
SIBLINGS_MIN = 3
"""Facts about one directory's entries from which on the directory itself is watched instead."""


def lighten(
    steps: tuple[Step, ...], evidence: tuple[Evidence, ...]
) -> tuple[tuple[Step, ...], tuple[Evidence, ...]]:
    """Steps that make the same tree, and evidence that is stale whenever the original would be.

    Small read-only files and directories of /etc are copied in; what they were copied from
    becomes evidence. A private directory inside another one needs no mount of its own.
    """
    result: list[Step] = []
    facts = list(evidence)
    for step in steps:
        copies = _copies(step) if isinstance(step, Bind) else None
        if copies is not None:
            result += copies[0]
            facts += copies[1]
        elif isinstance(step, Scratch) and _inside_scratch(step, steps):
            result.append(Directory(step.target, step.mode, step.reason))
        else:
            result.append(step)
    return tuple(result), condense(facts)


def condense(evidence: list[Evidence]) -> tuple[Evidence, ...]:
    """Fewer facts: a directory's times stand for the presence or absence of its entries.

    Not for directories in the user's home or for temporary ones, which change all the time.
    """
    groups: defaultdict[str, list[Evidence]] = defaultdict(list)
    result: list[Evidence] = []
    for fact in dict.fromkeys(map(_rooted, evidence)):
        directory = os.path.dirname(fact.path)
        if fact.content or not directory.startswith(("/etc", "/usr", "/opt", "/nix")):
            result.append(fact)
        else:
            groups[directory].append(fact)
    for directory, facts in groups.items():
        watched = signature(directory, True)
        if len(facts) < SIBLINGS_MIN or not watched:
            result += facts
        elif all(signature(fact.path, False) == fact.signature for fact in facts):
            result.append(Evidence(directory, watched, content=True))
        else:
            result += facts
    return tuple(result)


def _rooted(fact: Evidence) -> Evidence:
    """For a path that does not exist, the topmost part of it that does not: many share one."""
    path = fact.path
    if fact.signature:
        return fact
    while path != "/" and not os.path.lexists(os.path.dirname(path)):
        path = os.path.dirname(path)
    return Evidence(path, (), content=False)


def _copies(step: Bind) -> tuple[list[Step], list[Evidence]] | None:
    """What stands for a mount of something small; None for what has to be mounted."""
    if step.writable or not step.target.startswith("/etc/"):
        return None
    try:
        status = os.stat(step.source)
        if stat.S_ISREG(status.st_mode):
            copy = _copy(step.source, step.target, step.reason)
            return None if copy is None else ([copy], [_fact(step.source)])
        return _copied_directory(step) if stat.S_ISDIR(status.st_mode) else None
    except OSError:
        return None


def _copied_directory(step: Bind) -> tuple[list[Step], list[Evidence]] | None:
    names = sorted(os.listdir(step.source))
    if len(names) > ENTRIES_MAX:
        return None
    steps: list[Step] = [Directory(step.target, 0o755, step.reason)]
    facts = [_fact(step.source)]
    for name in names:
        source, target = os.path.join(step.source, name), os.path.join(step.target, name)
        if os.path.islink(source):
            steps.append(Symlink(target, os.readlink(source), step.reason))
            continue
        copy = _copy(source, target, step.reason)
        if copy is None:
            return None
        steps.append(copy)
        facts.append(_fact(source))
    return steps, facts


def _copy(source: str, target: str, reason: str) -> File | None:
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Asked before it is made a file object: that refuses a directory and would not close it.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MAX:
            return None
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(FILE_MAX)
    finally:
        os.close(descriptor)
    return File(target, content, status.st_mode & 0o555, reason)


def _fact(path: str) -> Evidence:
    return Evidence(path, signature(path, True), content=True)


def _inside_scratch(step: Scratch, steps: tuple[Step, ...]) -> bool:
    """Whether the nearest mount around a private directory is a private directory too."""
    nearest: Step | None = None
    for other in steps:
        around = step.target.startswith(other.target.rstrip("/") + "/")
        nearer = nearest is None or len(other.target) > len(nearest.target)
        if around and nearer and isinstance(other, Bind | Root | Scratch):
            nearest = other
    return isinstance(nearest, Scratch)
