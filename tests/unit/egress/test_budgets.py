"""Budgets: exact, of every rule and of the session at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress.budgets import Budgets
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
