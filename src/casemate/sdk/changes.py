"""The changes of a session as plain values, for programs and for `--json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from casemate.workspace import changes as workspace
from casemate.workspace import flags, names


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the project and what the session left.

    Paths are relative to their root, in UTF-8 with surrogate escapes; they came out of a sandbox,
    so they are never to be printed as they are: `name` is fit for a terminal.
    """

    kind: workspace.Kind
    path: str
    name: str
    root: str
    """The project root it lies in."""
    flags: tuple[str, ...] = ()
    """What a reviewer must know, as words; `warnings` says it in sentences."""
    warnings: tuple[str, ...] = ()
    source: str = ""
    """Of a rename: the old path."""
    size: int = 0
    """Bytes, of what the session wants there."""
    mode: int = 0
    """Permission bits, of what the session wants there."""
    target: str = ""
    """Of a symbolic link: where it leads."""


def public(found: Iterable[workspace.Change], roots: Mapping[int, str]) -> tuple[Change, ...]:
    """The changes as values of this module; `roots` are the paths of the roots by index."""
    return tuple(
        Change(
            kind=change.kind,
            path=names.to_text(change.path),
            name=change.name,
            root=roots[change.root],
            flags=tuple(sorted(change.flags)),
            warnings=warnings(change),
            source=names.to_text(change.source),
            size=change.after.size,
            mode=change.after.mode,
            target=names.to_text(change.after.target),
        )
        for change in found
    )


def warnings(change: workspace.Change) -> tuple[str, ...]:
    """What a reviewer must know about a change, in sentences."""
    said = []
    for flag in sorted(change.flags):
        sentence = flags.explain(flag)
        if flag == flags.RUNS_ON_HOST:
            sentence = flags.runs_on_host(change.path)
        if sentence:
            said.append(sentence)
    return tuple(said)
