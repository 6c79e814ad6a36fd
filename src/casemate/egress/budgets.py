"""Ceilings on traffic, exact to the byte: of each rule, and of the session as a whole.

Bytes are those handed to and received from the other side: of a tunnel all of them, of inspected
traffic the requests and responses themselves. What is counted is never given back, but for leases.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from casemate.errors import RefusedError
from casemate.policy.model import Budget, Endpoint
from casemate.policy.units import format_size

Direction = Literal["up", "down"]
MINUTE = 60.0


class Spent:
    """What has been used of one budget."""

    __slots__ = ("bytes_down", "bytes_up", "connections", "connections_total", "recent", "requests")

    def __init__(self) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.requests = 0
        self.connections = 0
        self.connections_total = 0
        self.recent: deque[float] = deque()

    def as_json(self) -> dict[str, int]:
        """The figures, for summaries."""
        names = ("bytes_up", "bytes_down", "requests", "connections", "connections_total")
        return {name: getattr(self, name) for name in names}


class _Meter:
    """One budget and what has been used of it."""

    __slots__ = ("budget", "name", "spent")

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.spent = Spent()

    def left(self, direction: Direction) -> int | None:
        """Bytes that may still pass; None for no ceiling."""
        budget, spent = self.budget, self.spent
        ceilings = []
        if direction == "up" and budget.bytes_up is not None:
            ceilings.append(budget.bytes_up - spent.bytes_up)
        if direction == "down" and budget.bytes_down is not None:
            ceilings.append(budget.bytes_down - spent.bytes_down)
        if budget.bytes_total is not None:
            ceilings.append(budget.bytes_total - spent.bytes_up - spent.bytes_down)
        return max(0, min(ceilings)) if ceilings else None

    def add(self, direction: Direction, count: int) -> None:
        if direction == "up":
            self.spent.bytes_up += count
        else:
            self.spent.bytes_down += count

    def check_connection(self) -> None:
        budget, spent = self.budget, self.spent
        if budget.connections is not None and spent.connections >= budget.connections:
            raise self.exhausted(f"{budget.connections} connections at once", "conn")
        total = budget.connections_total
        if total is not None and spent.connections_total >= total:
            raise self.exhausted(f"{total} connections", "conn total")

    def check_request(self, now: float) -> None:
        budget, spent = self.budget, self.spent
        if budget.requests is not None and spent.requests >= budget.requests:
            raise self.exhausted(f"{budget.requests} requests", "req")
        rate = budget.requests_per_minute
        if rate is not None:
            while spent.recent and spent.recent[0] <= now - MINUTE:
                spent.recent.popleft()
            if len(spent.recent) >= rate:
                raise self.exhausted(f"{rate} requests a minute", "req/min")

    def count_request(self, now: float) -> None:
        self.spent.requests += 1
        if self.budget.requests_per_minute is not None:
            self.spent.recent.append(now)

    def exhausted(self, what: str, unit: str) -> RefusedError:
        return RefusedError(
            f"the budget of {what} is used up",
            code="budget",
            rule=self.name,
            hint=f'raise its "<=... {unit}", or start a new session',
        )


class Budgets:
    """All budgets of one session. `clock` gives seconds."""

    def __init__(self, total: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = _Meter("network.total", total)
        self._rules: dict[Endpoint, _Meter] = {}
        self.clock = clock

    def account(self, rule: Endpoint) -> Account:
        """A connection under a rule. Raises `RefusedError` where no more may be made."""
        meter = self._rules.get(rule)
        if meter is None:
            meter = self._rules[rule] = _Meter(f'"{rule.text}" ({rule.origin})', rule.budget)
        meters = (meter, self._total)
        for one in meters:
            one.check_connection()
        for one in meters:
            one.spent.connections += 1
            one.spent.connections_total += 1
        return Account(meters, self.clock)

    def snapshot(self) -> Mapping[str, Mapping[str, int]]:
        """What has been used, by rule; the whole session under "total"."""
        found = {meter.name: meter.spent.as_json() for meter in self._rules.values()}
        return found | {"total": self._total.spent.as_json()}


class Account:
    """What one connection may use, of its rule's budget and the session's at once."""

    __slots__ = ("_clock", "_closed", "_meters", "down_bytes", "up_bytes")

    def __init__(self, meters: tuple[_Meter, ...], clock: Callable[[], float]) -> None:
        self._meters = meters
        self._clock = clock
        self._closed = False
        self.up_bytes = 0
        self.down_bytes = 0

    @property
    def limited(self) -> bool:
        """Whether any ceiling on bytes applies."""
        return any(m.left("up") is not None or m.left("down") is not None for m in self._meters)

    def request(self) -> None:
        """Counts one request. Raises `RefusedError` where no more may be made."""
        now = self._clock()
        for meter in self._meters:
            meter.check_request(now)
        for meter in self._meters:
            meter.count_request(now)

    def up(self, count: int) -> int:
        """How many of `count` bytes may go out now; they are counted."""
        passed = self._pass("up", count)
        self.up_bytes += passed
        return passed

    def down(self, count: int) -> int:
        """How many of `count` bytes may come in now; they are counted."""
        passed = self._pass("down", count)
        self.down_bytes += passed
        return passed

    def give_back(self, direction: Direction, count: int) -> None:
        """Takes back bytes that were counted ahead and never moved."""
        for meter in self._meters:
            meter.add(direction, -count)
        if direction == "up":
            self.up_bytes -= count
        else:
            self.down_bytes -= count

    def close(self) -> None:
        """The connection is over; what it used stays counted."""
        if not self._closed:
            self._closed = True
            for meter in self._meters:
                meter.spent.connections -= 1

    def exhausted(self, direction: Direction) -> RefusedError:
        """The error for a direction in which nothing more may pass."""
        for meter in self._meters:
            if meter.left(direction) == 0:
                budget = meter.budget
                limit = budget.bytes_up if direction == "up" else budget.bytes_down
                if limit is None or (budget.bytes_total or limit) < limit:
                    limit = budget.bytes_total
                return meter.exhausted(f"{format_size(limit or 0)} {direction}", direction)
        return self._meters[-1].exhausted("bytes", direction)

    def _pass(self, direction: Direction, count: int) -> int:
        for meter in self._meters:
            left = meter.left(direction)
            if left is not None and left < count:
                count = left
        for meter in self._meters:
            meter.add(direction, count)
        return count
