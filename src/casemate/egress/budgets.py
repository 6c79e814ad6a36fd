"""Ceilings on traffic, exact to the byte: of each rule, and of the session as a whole.

Bytes are those handed to and received from the other side: of a tunnel all of them, of inspected
traffic the requests and responses themselves. What is counted is never given back, but for leases.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from casemate.errors import RefusedError
from casemate.policy.model import Budget, Endpoint
from casemate.policy.units import format_size

Direction = Literal["up", "down"]
MINUTE = 60.0
TICKS = 100
"""In a second: as finely as the requests of the last minute are told apart."""


class Spent:
    """What has been used of one budget."""

    __slots__ = ("bytes_down", "bytes_up", "connections", "connections_total", "requests")

    def __init__(self) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.requests = 0
        self.connections = 0
        self.connections_total = 0

    def as_json(self) -> dict[str, int]:
        """The figures, for summaries."""
        return {name: getattr(self, name) for name in self.__slots__}


class _Window:
    """How many requests the last minute had; requests of one tick are counted together."""

    __slots__ = ("_ticks", "count")

    def __init__(self) -> None:
        self.count = 0
        self._ticks: deque[list[int]] = deque()

    def forget(self, now: float) -> None:
        """Leave out what is a minute old."""
        while self._ticks and self._ticks[0][0] <= math.floor((now - MINUTE) * TICKS):
            self.count -= self._ticks.popleft()[1]

    def add(self, now: float) -> None:
        """One request. It is counted as of the end of its tick, so never forgotten early."""
        tick = math.ceil(now * TICKS)
        if self._ticks and self._ticks[-1][0] >= tick:
            self._ticks[-1][1] += 1
        else:
            self._ticks.append([tick, 1])
        self.count += 1


class _Meter:
    """One budget and what has been used of it."""

    __slots__ = ("budget", "name", "spent", "window")

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.spent = Spent()
        self.window = _Window()

    def ceilings(self, direction: Direction) -> list[tuple[int, int, str]]:
        """Bytes left, the limit, and its word in the grammar."""
        budget, spent = self.budget, self.spent
        both = spent.bytes_up + spent.bytes_down
        found = []
        if direction == "up" and budget.bytes_up is not None:
            found.append((budget.bytes_up - spent.bytes_up, budget.bytes_up, " up"))
        if direction == "down" and budget.bytes_down is not None:
            found.append((budget.bytes_down - spent.bytes_down, budget.bytes_down, " down"))
        if budget.bytes_total is not None:
            found.append((budget.bytes_total - both, budget.bytes_total, ""))
        return found

    def left(self, direction: Direction) -> int | None:
        """Bytes that may still pass; None for no ceiling."""
        return min((left for left, _, _ in self.ceilings(direction)), default=None)

    def add(self, direction: Direction, count: int) -> None:
        if direction == "up":
            self.spent.bytes_up += count
        else:
            self.spent.bytes_down += count

    def check_connection(self) -> None:
        budget, spent = self.budget, self.spent
        if budget.connections is not None and spent.connections >= budget.connections:
            raise self.exhausted(
                f"{budget.connections} connections at once", f"{budget.connections}conn"
            )
        total = budget.connections_total
        if total is not None and spent.connections_total >= total:
            raise self.exhausted(f"{total} connections", f"{total}conn total")

    def check_request(self, now: float) -> None:
        budget, spent = self.budget, self.spent
        if budget.requests is not None and spent.requests >= budget.requests:
            raise self.exhausted(f"{budget.requests} requests", f"{budget.requests}req")
        rate = budget.requests_per_minute
        if rate is not None:
            self.window.forget(now)
            if self.window.count >= rate:
                raise self.exhausted(f"{rate} requests a minute", f"{rate}req/min")

    def count_request(self, now: float) -> None:
        self.spent.requests += 1
        if self.budget.requests_per_minute is not None:
            self.window.add(now)

    def exhausted(self, what: str, limit: str) -> RefusedError:
        return RefusedError(
            f"the budget of {what} is used up",
            code="budget",
            rule=self.name,
            hint=f'raise "<={limit}" in {self.name}, or start a new session',
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
        found = [
            (left, limit, word, meter)
            for meter in self._meters
            for left, limit, word in meter.ceilings(direction)
        ]
        _, limit, word, meter = min(found, key=lambda one: one[0])
        size = format_size(limit)
        return meter.exhausted(f"{size}{word}" if word else f"{size} both ways", f"{size}{word}")

    def _pass(self, direction: Direction, count: int) -> int:
        for meter in self._meters:
            left = meter.left(direction)
            if left is not None and left < count:
                count = left
        for meter in self._meters:
            meter.add(direction, count)
        return count
