"""Budgets: exact, of every rule and of the session at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from casemate.egress.budgets import TICKS, Account, Budgets, Direction
from casemate.errors import RefusedError
from casemate.policy.endpoints import parse_budget, parse_endpoint
from casemate.policy.model import Budget

FIRST, SECOND = parse_endpoint("a.example <=100B"), parse_endpoint("b.example <=70B up")


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(0, 60)), max_size=40))
def test_bytes_are_exact(steps: list[tuple[int, bool, int]]) -> None:
    """Whatever passes in whatever order, each ceiling is reached to the byte and never passed."""
    budgets = Budgets(Budget(bytes_total=150))
    accounts = [budgets.account(rule) for rule in (FIRST, SECOND)]
    moved = {"a": 0, "b up": 0, "all": 0}
    for which, up, count in steps:
        passed = accounts[which].up(count) if up else accounts[which].down(count)
        room = 150 - moved["all"]
        if which == 0:
            room = min(room, 100 - moved["a"])
        elif up:
            room = min(room, 70 - moved["b up"])
        assert passed == min(count, room)
        moved["all"] += passed
        moved["a"] += passed if which == 0 else 0
        moved["b up"] += passed if which == 1 and up else 0
    total = budgets.snapshot()["total"]
    assert total["bytes_up"] + total["bytes_down"] == moved["all"] <= 150


def test_leases_are_given_back() -> None:
    """What was counted ahead and never moved is there for others."""
    budgets = Budgets(Budget())
    one, other = budgets.account(FIRST), budgets.account(FIRST)
    assert one.up(80) == 80
    assert other.up(80) == 20
    one.give_back("up", 50)
    assert other.down(80) == 50
    assert one.exhausted("up").code == "budget"
    assert "a.example" in one.exhausted("up").rule


def test_connections() -> None:
    """At once and in all; the refusal names the budget."""
    budgets = Budgets(parse_budget("<=3conn total"))
    rule = parse_endpoint("a.example <=1conn")
    first = budgets.account(rule)
    with pytest.raises(RefusedError, match="1 connections at once"):
        budgets.account(rule)
    first.close()
    first.close()
    budgets.account(rule).close()
    budgets.account(rule).close()
    with pytest.raises(RefusedError) as caught:
        budgets.account(rule)
    assert caught.value.rule == "network.total"


def test_requests() -> None:
    """In the session, and in any minute."""
    now = [0.0]
    budgets = Budgets(parse_budget("<=5req"), clock=lambda: now[0])
    account = budgets.account(parse_endpoint("a.example <=2req/min"))
    account.request()
    now[0] = 30.0
    account.request()
    with pytest.raises(RefusedError, match="2 requests a minute"):
        account.request()
    now[0] = 60.0
    account.request()
    with pytest.raises(RefusedError):
        account.request()
    now[0] = 200.0
    account.request()
    account.request()
    now[0] = 400.0
    with pytest.raises(RefusedError, match="5 requests"):
        account.request()
    assert budgets.snapshot()["total"]["requests"] == 5


def test_no_ceiling() -> None:
    """Without a budget everything passes, and is counted all the same."""
    budgets = Budgets(Budget())
    account = budgets.account(parse_endpoint("a.example"))
    assert not account.limited
    assert account.up(1 << 40) == 1 << 40
    assert budgets.account(FIRST).limited


@pytest.mark.parametrize(
    ("rule_text", "total", "use", "limit", "where"),
    [
        ("a.example <=100B up", "", "up", "<=100B up", "a.example <=100B up"),
        ("a.example <=70B up <=100B", "", "mixed", "<=100B", "a.example <=70B up <=100B"),
        ("a.example", "<=1kB down", "down", "<=1kB down", "network.total"),
        ("a.example <=0req", "", "request", "<=0req", "a.example <=0req"),
        ("a.example", "<=2req/min", "request", "<=2req/min", "network.total"),
    ],
)
def test_refusals_name_budget_limit_and_line(
    rule_text: str, total: str, use: str, limit: str, where: str
) -> None:
    """Which budget is used up, how much it was, and what to raise where."""
    budgets = Budgets(parse_budget(total), clock=lambda: 0.0)
    account = budgets.account(parse_endpoint(rule_text))
    direction: Direction = "down" if use == "down" else "up"
    if use == "request":
        with pytest.raises(RefusedError) as caught:
            for _ in range(3):
                account.request()
        error = caught.value
    else:
        if use == "mixed":
            account.down(60)
        account.up(10**6) if direction == "up" else account.down(10**6)
        error = account.exhausted(direction)
    assert error.code == "budget"
    assert f'"{limit}"' in error.hint
    assert where in error.hint
    assert where in error.rule


def test_the_window_is_bounded() -> None:
    """A million requests a minute are remembered in as many places as a minute has ticks."""
    now = [0.0]
    budgets = Budgets(parse_budget("<=1_000_000req/min"), clock=lambda: now[0])
    account = budgets.account(parse_endpoint("a.example"))
    for number in range(50_000):
        now[0] = number * 0.002
        account.request()
    window = budgets._total.window
    assert 30_000 <= window.count <= 30_010
    assert len(window._ticks) <= 60 * TICKS + 1


class AgainstAModel(RuleBasedStateMachine):
    """Connections of three rules under one total, against sums over what happened."""

    RULES = (
        parse_endpoint("a.example <=500B <=300B up <=2conn <=3req/min"),
        parse_endpoint("b.example <=400B down <=9conn total <=12req"),
        parse_endpoint("c.example"),
    )
    TOTAL = parse_budget("<=900B <=700B down <=4conn <=20conn total <=30req <=6req/min")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.budgets = Budgets(self.TOTAL, clock=lambda: self.now)
        self.open: list[tuple[int, Account]] = []
        self.made = [0, 0, 0]
        self.moved: list[dict[str, int]] = [{"up": 0, "down": 0} for _ in range(3)]
        self.requests: list[list[float]] = [[], [], []]

    def _budgets(self, which: int) -> list[tuple[Budget, list[int]]]:
        """The budgets that hold for a rule, and the rules that count for each."""
        return [(self.RULES[which].budget, [which]), (self.TOTAL, [0, 1, 2])]

    @rule(which=st.integers(0, 2))
    def connect(self, which: int) -> None:
        fits = True
        for budget, counted in self._budgets(which):
            at_once = sum(one in counted for one, _ in self.open)
            ever = sum(self.made[one] for one in counted)
            fits &= budget.connections is None or at_once < budget.connections
            fits &= budget.connections_total is None or ever < budget.connections_total
        try:
            self.open.append((which, self.budgets.account(self.RULES[which])))
            assert fits
            self.made[which] += 1
        except RefusedError as error:
            assert not fits
            assert "conn" in error.hint

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 99), twice=st.booleans())
    def close(self, index: int, twice: bool) -> None:
        _, account = self.open.pop(index % len(self.open))
        account.close()
        if twice:
            account.close()

    @precondition(lambda self: self.open)
    @rule(
        index=st.integers(0, 99),
        direction=st.sampled_from(["up", "down"]),
        count=st.integers(0, 250),
        back=st.integers(0, 250),
    )
    def move(self, index: int, direction: Direction, count: int, back: int) -> None:
        which, account = self.open[index % len(self.open)]
        room = count
        for budget, counted in self._budgets(which):
            up = sum(self.moved[one]["up"] for one in counted)
            down = sum(self.moved[one]["down"] for one in counted)
            own = {"up": (budget.bytes_up, up), "down": (budget.bytes_down, down)}[direction]
            for limit, used in (own, (budget.bytes_total, up + down)):
                room = room if limit is None else min(room, limit - used)
        passed = account.up(count) if direction == "up" else account.down(count)
        assert passed == room
        if passed < count:
            assert account.exhausted(direction).code == "budget"
        returned = min(back, passed)
        account.give_back(direction, returned)
        self.moved[which][direction] += passed - returned

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 99))
    def request(self, index: int) -> None:
        which, account = self.open[index % len(self.open)]
        fits = True
        for budget, counted in self._budgets(which):
            made = [at for one in counted for at in self.requests[one]]
            recent = sum(at > self.now - 60 for at in made)
            fits &= budget.requests is None or len(made) < budget.requests
            fits &= budget.requests_per_minute is None or recent < budget.requests_per_minute
        try:
            account.request()
            assert fits
            self.requests[which].append(self.now)
        except RefusedError as error:
            assert not fits
            assert "req" in error.hint

    @rule(seconds=st.sampled_from([0.25, 1.0, 29.5, 30.0, 59.75, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts(self) -> None:
        found = self.budgets.snapshot()
        assert found["total"]["connections"] == len(self.open)
        assert found["total"]["bytes_up"] == sum(one["up"] for one in self.moved)
        assert found["total"]["bytes_down"] == sum(one["down"] for one in self.moved)
        assert found["total"]["requests"] == sum(map(len, self.requests))
        for which, one in enumerate(self.RULES):
            spent = found.get(f'"{one.text}" ({one.origin})')
            assert spent is None or spent["bytes_up"] == self.moved[which]["up"]


TestAgainstAModel = AgainstAModel.TestCase
