"""`casemate trust`: a project's policy counts only when the user said so of exactly its content."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from casemate.cli.asking import agreed, require_person
from casemate.cli.options import parse
from casemate.cli.selecting import project_at
from casemate.cli.style import Style, age, count, display, print_json
from casemate.errors import CasemateError, PolicyError, UsageError
from casemate.policy.files import read_regular
from casemate.policy.layers import Notice, load
from casemate.policy.locations import PROJECT_POLICY, Locations, locate
from casemate.policy.reader import SIZE_MAX, read
from casemate.policy.trust import TrustStore
from casemate.workspace.names import display_line


def main(arguments: list[str]) -> int:
    """Runs the verb; 1 if the person said no, or if there was no trust to take back."""
    parsed = parse("trust", arguments)
    locations = locate(os.environ)
    store = TrustStore(locations.state)
    if parsed.list:
        return _list(store, as_json=parsed.json)
    path = os.path.abspath(parsed.file) if parsed.file else _own(parsed.directory)
    if parsed.revoke:
        return _revoke(store, path, as_json=parsed.json)
    return _trust(store, locations, path, parsed)


def _own(directory: str | None) -> str:
    return os.path.join(project_at(directory), PROJECT_POLICY)


def _list(store: TrustStore, *, as_json: bool) -> int:
    entries = store.entries()
    if as_json:
        print_json([{"path": e.path, "sha256": e.sha256, "since": e.since} for e in entries])
        return 0
    style = Style(sys.stdout)
    if not entries:
        style.print("nothing is trusted")
        return 0
    rows = [("SINCE", "STATE", "POLICY")]
    for entry in entries:
        rows.append(
            (age(time.time() - entry.since), _state(store, entry.path), display(entry.path))
        )
    style.print(*style.table(rows))
    return 0


def _state(store: TrustStore, path: str) -> str:
    try:
        content = read_regular(path, SIZE_MAX)
    except CasemateError:
        return "unreadable"
    if content is None:
        return "gone"
    return "trusted" if store.trusts(path, content.data) else "changed"


def _revoke(store: TrustStore, path: str, *, as_json: bool) -> int:
    done = store.revoke(path)
    if as_json:
        print_json({"path": path, "revoked": done})
    else:
        said = "is no longer trusted" if done else "was not trusted"
        Style(sys.stdout).print(f"{display(path)} {said}")
    return 0 if done else 1


def _trust(store: TrustStore, locations: Locations, path: str, parsed: Any) -> int:
    directory = os.path.realpath(os.path.dirname(path))
    path = os.path.join(directory, os.path.basename(path))
    content = read_regular(path, SIZE_MAX)
    if content is None:
        raise UsageError(
            f"there is no file {display(path)}", hint="`casemate init` writes a policy"
        )
    # A policy that cannot be read is an error now, not at the next run.
    read(content.data, source=path, base=directory)
    widened = () if store.trusts(path, content.data) else widens(directory, locations, path)
    style = Style(sys.stdout)
    if not parsed.json:
        _show(style, path, content.data, widened)
    if not parsed.yes:
        require_person("--yes")
        if not agreed("Trust this content?"):
            style.print("not trusted")
            return 1
    again = read_regular(path, SIZE_MAX)
    if again is None or again.data != content.data:
        raise PolicyError("it changed while you looked at it; nothing was trusted", path=path)
    entry = store.trust(path)
    if parsed.json:
        said = [str(notice) for notice in widened]
        print_json({"path": entry.path, "sha256": entry.sha256, "widens": said})
    else:
        style.print(f"trusted {display(entry.path)} (sha256 {entry.sha256[:16]}…)")
    return 0


def widens(project: str, locations: Locations, path: str) -> tuple[Notice, ...]:
    """What the policy would grant and does not while it is not trusted."""
    loaded = load(project, locations, explicit=path)
    return tuple(notice for notice in loaded.notices if notice.remedy)


def _show(style: Style, path: str, data: bytes, widened: tuple[Notice, ...]) -> None:
    style.print(style.paint(display(path), "bold"), "")
    style.print(*(f"  {display_line(line)}".rstrip() for line in data.splitlines()), "")
    if not widened:
        style.print("It widens nothing.", "")
        return
    style.print(style.paint(f"It widens {count(len(widened), 'rule')}:", "yellow"))
    for notice in widened:
        text = notice.message.partition(" ignored: ")[0]
        lines = style.wrap(f"! {notice.origin}: {text}", "  ", hanging="    ")
        style.print(*(style.paint(line, "yellow") for line in lines))
    style.print("")
