"""What the broker knows of one sandbox: its rules, budgets, names, journal and counters."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

from casemate.audit.journal import JournalError
from casemate.egress.budgets import Budgets
from casemate.egress.model import Target
from casemate.egress.names import is_address
from casemate.egress.rules import LOCALHOST, Rules
from casemate.egress.synthetic import Names, number_of
from casemate.egress.upstream import resolve
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.audit.journal import Journal, Value
    from casemate.egress.authority import Authority
    from casemate.egress.upstream import Resolve
    from casemate.policy.model import Network, Secret
    from casemate.vault.client import SecretSession

CONNECTIONS_MAX = 1024
"""Connections of one sandbox at once: one that opens them without end starves only itself."""
REFUSALS_MAX = 200
"""Different refusals that are remembered for the summary."""


class Session:
    """One sandbox as the broker sees it."""

    def __init__(
        self,
        identifier: str,
        network: Network,
        secrets: Sequence[Secret],
        journal: Journal,
        lookup: Resolve = resolve,
    ) -> None:
        self.identifier = identifier
        self.network = network
        self.rules = Rules(network, secrets)
        self.budgets = Budgets(network.total)
        self.names = Names()
        self.journal = journal
        self.lookup = lookup
        self.tasks: set[asyncio.Task[None]] = set()
        self.allowed = 0
        self.refused = 0
        self.trust: tuple[str, ...] = ()
        """Files of further authorities for servers."""
        self.teaches = False
        """The sandbox trusts the session's authority, so refusals can be told over TLS."""
        self.secrets: SecretSession | None = None
        self._authority: Authority | None = None
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._refusals: dict[tuple[str, str, int], dict[str, Value]] = {}

    @property
    def authority(self) -> Authority:
        """The session's certificate authority, made when it is first needed."""
        if self._authority is None:
            from casemate.egress.authority import Authority

            self._authority = Authority()
        return self._authority

    def upstream_context(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """For TLS to servers: verified by the system's authorities and those of the policy."""
        found = self._contexts.get(protocols)
        if found is None:
            found = ssl.create_default_context()
            for path in self.trust:
                found.load_verify_locations(path)
            found.set_alpn_protocols(list(protocols))
            self._contexts[protocols] = found
        return found

    def target(self, host: str, port: int) -> Target:
        """Who is meant by a host in normal form: behind a synthetic address a name, behind every
        loopback address the services of this machine. Raises `RefusedError`."""
        if host == LOCALHOST or not is_address(host):
            return Target(host, port)
        if host == "::1" or host.startswith("127.") or host in ("0.0.0.0", "::"):
            return Target(LOCALHOST, port)
        if number_of(host) is not None:
            name = self.names.name(host)
            if name is None:
                raise RefusedError(f"{host} stands for no name that was asked for", code="host")
            return Target(name, port)
        return Target(host, port)

    def check_journal(self) -> None:
        """Raises `RefusedError` where nothing can be recorded, and so nothing may be allowed."""
        if self.journal.full:
            raise RefusedError(
                "the journal of this session is full or cannot be written",
                code="journal",
                hint="start a new session to go on",
            )

    def record(self, event: str, **fields: Value) -> None:
        """One allowed connection or request. Raises `RefusedError` where it cannot be recorded."""
        self.allowed += 1
        try:
            self.journal.write(event, verdict="allowed", **fields)
        except JournalError as error:
            raise RefusedError(error.message, code="journal") from error

    def record_refusal(
        self, event: str, target: Target | None, error: RefusedError, **fields: Value
    ) -> None:
        """One refusal, for the journal and for the summary."""
        self.refused += 1
        host, port = (target.host, target.port) if target else ("", 0)
        key = (error.code, host, port)
        known = self._refusals.get(key)
        if known is not None:
            known["count"] = int(known["count"] or 0) + 1
        elif len(self._refusals) < REFUSALS_MAX:
            self._refusals[key] = {
                "code": error.code,
                "host": host,
                "port": port,
                "message": error.message,
                "allow": error.allow,
                "count": 1,
            }
        try:
            self.journal.write_refusal(
                (event, *key),
                event,
                verdict="refused",
                host=host,
                port=port,
                code=error.code,
                why=error.message,
                rule=error.rule,
                **fields,
            )
        except JournalError:
            # It is refused already; a journal that cannot be written allows nothing either.
            pass

    def summary(self) -> dict[str, object]:
        """What the run's summary tells."""
        head = self.journal.head
        return {
            "allowed": self.allowed,
            "refused": self.refused,
            "refusals": list(self._refusals.values()),
            "budgets": self.budgets.snapshot(),
            "journal": {"lines": head.lines, "sha256": head.digest},
        }

    async def close(self) -> None:
        """Ends every connection at once, and the journal when the last has told what it did."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            self.journal.close(allowed=self.allowed, refused=self.refused)
        except (JournalError, OSError):
            pass


def milliseconds_since(start: float) -> float:
    """Milliseconds since `start` of time.monotonic(), for journal lines."""
    return round((time.monotonic() - start) * 1000, 3)
