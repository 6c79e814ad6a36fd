"""Joins a sandbox to the broker. On the start-up path of a run that has endpoints."""

from __future__ import annotations

import os

from casemate.egress.client import connect
from casemate.errors import SandboxError
from casemate.tiers.linux.open import late_directory, late_file, open_session
from casemate.workspace.create import quote

BUNDLE_MAX = 1 << 20
"""Bytes of the host's file of authorities: copies of it travel in one frame of 8 MiB."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from casemate.tiers.linux.session import Session
    from casemate.workspace.create import NewSession


def open_online(launch: dict[str, Any], record: NewSession) -> Session:
    """Starts a sandbox whose ways out end in the broker.

    The broker is asked first: it comes up while the sandbox is made. Raises `SandboxError`; a
    sandbox that cannot be joined to the broker is not left behind.
    """
    wanted = launch["egress"]
    place = journal_path(launch["state"], record.id)
    head = f'"version":1,"session":{quote(record.id)},"journal":{quote(place)}'
    late: list[bytes] = []
    variables: list[tuple[bytes, bytes]] = []
    values: list[int] = []
    told: list[str] = []
    if wanted["secrets"]:
        from casemate.vault import files, sources

        held = sources.read(wanted["secrets"], os.environb)
        variables, told = sources.variables(held), [wanted["told"][one.name] for one in held]
        values = [sources.seal(held)] if held else []
        late = _files(wanted["home"], files.credential_files(held, os.path.expanduser("~")))
    secrets = f'"secrets":[{",".join(told)}]'
    registration = f'{{"register":{{{head},{secrets},{wanted["registration"]}}}}}'
    try:
        link = connect(launch["state"], registration, values)
    finally:
        for descriptor in values:
            os.close(descriptor)
    try:
        if wanted["trust"] is not None:
            late += _trust(wanted["trust"], link.certificate())
        session = open_session(launch, record.id, record.archive, late)
        try:
            listeners = list(zip(wanted["listeners"], session.listeners, strict=True))
            session.listeners.clear()
            link.attach(listeners)
        except BaseException:
            session.close(discard=True)
            raise
    except BaseException:
        link.close()
        raise
    session.network = link
    session.variables = variables
    return session


def journal_path(state: str, session: str) -> str:
    """Where the journal of a session is."""
    return f"{state}/journals/{session}.jsonl"


def _files(home: str, files: list[tuple[str, bytes]]) -> list[bytes]:
    """Credential files in the private home, with the directories on the way to them."""
    steps: dict[str, bytes] = {}
    for path, content in files:
        place = home + path[1:]
        at = len(home)
        while (at := place.find("/", at + 1)) > 0:
            steps.setdefault(place[:at], late_directory(place[:at]))
        steps[place] = late_file(place, content)
    return list(steps.values())


def _trust(
    places: tuple[str, str, tuple[str, ...], tuple[str, ...]], certificate: bytes
) -> list[bytes]:
    """The host's authorities and the session's, where programs inside look for them."""
    bundle, target, covers, java_stores = places
    content = b""
    if bundle:
        try:
            with open(bundle, "rb") as file:
                content = file.read(BUNDLE_MAX + 1)
        except OSError as error:
            raise SandboxError(f"cannot read {bundle}: {error.strerror}") from error
        if len(content) > BUNDLE_MAX:
            raise SandboxError(f"{bundle} is larger than the {BUNDLE_MAX} bytes that can be shown")
    content = content.rstrip(b"\n") + b"\n" + certificate
    steps = [late_file(target, content, mode=0o444)]
    steps += [late_file(path, content, cover=True) for path in covers]
    if java_stores:
        from casemate.egress.java_store import java_store

        store = java_store(content)
        steps += [late_file(path, store, cover=True) for path in java_stores]
    return steps
