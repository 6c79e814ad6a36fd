"""What lay on the host when a session was first reviewed: `review.json`.

Without it a later change on the host would only be known by its time. With it, what is applied
is what was reviewed: the digest must still be the one recorded then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from casemate.workspace import durable, flags, names
from casemate.workspace.changes import Baseline, Change, Key
from casemate.workspace.entry import ABSENT, observe
from casemate.workspace.journal import Step, entry_from_json, entry_to_json
from casemate.workspace.locks import Root


def read(directory: str) -> dict[Key, Baseline]:
    """The baselines of the session in `directory`; empty before its first review, or if junk."""
    try:
        rows = durable.read_json(f"{directory}/review.json")
        return {
            (int(root), names.to_bytes(path)): Baseline(entry_from_json(entry), bool(conflict))
            for root, path, entry, conflict in rows
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write(directory: str, baselines: Mapping[Key, Baseline]) -> None:
    """Keep the baselines. Raises `OSError`."""
    rows = [
        [root, names.to_text(path), entry_to_json(baseline.entry), baseline.conflict]
        for (root, path), baseline in baselines.items()
    ]
    durable.write_json(f"{directory}/review.json", rows)


def of(changes: Iterable[Change]) -> dict[Key, Baseline]:
    """The baselines that these changes, as just compared, amount to."""
    found = {}
    for change in changes:
        if flags.UNREACHABLE in change.flags:
            continue
        conflict = flags.CONFLICT in change.flags
        if change.source:
            found[change.root, change.source] = Baseline(change.before, conflict)
            found[change.key] = Baseline(ABSENT, conflict)
        else:
            found[change.key] = Baseline(change.before, conflict)
    return found


def refresh(directory: str, steps: Iterable[Step], roots: Mapping[int, Root]) -> None:
    """After an undo: what was put back is no change of the user's. Raises `OSError`."""
    baselines = read(directory)
    for step in steps:
        root = roots[step.root].descriptor
        entry = observe(root, step.path, digest=bool(step.after.digest))
        baselines[step.root, step.path] = Baseline(entry, conflict=False)
    write(directory, baselines)
