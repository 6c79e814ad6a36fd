"""kill -9 at any point of an apply, an undo or a recovery never leaves half of it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.support import workbench
from tests.support.workbench import Snapshot, Workbench

from casemate.workspace.recovery import recover
from casemate.workspace.undo import undo

Act = Callable[[Callable[[str], None]], object]


def forked(act: Act, *, die_at: int = 0) -> bool:
    """Run `act` in a child that is killed at point `die_at`; whether it was."""
    child = os.fork()
    if child == 0:
        passed = 0

        def hook(_point: str) -> None:
            nonlocal passed
            passed += 1
            if passed == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            act(hook)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def check(bench: Workbench, before: Snapshot) -> bool:
    """After recovery there is all or nothing, and no debris; whether it is all."""
    recover(bench.store.state, str(bench.project))
    now = bench.snapshot()
    assert now in (before, workbench.RESULT)
    assert bench.debris() == []
    return now == workbench.RESULT


def applying(bench: Workbench, id: str) -> Act:
    def act(hook: Callable[[str], None]) -> None:
        with bench.review(id) as review:
            review.apply(hook=hook)

    return act


def undoing(bench: Workbench, id: str) -> Act:
    return lambda hook: undo(bench.store, id, hook=hook)


@pytest.mark.parametrize("what", ["apply", "undo"])
def test_killed_at_every_point(bench: Workbench, what: str) -> None:
    """Killed at each point in turn, the next call rolls back or finds it done."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)
    applied = False
    outcomes = []
    for point in range(1, 200):
        if what == "undo" and not applied:
            bench.apply(id)
        act = applying(bench, id) if what == "apply" else undoing(bench, id)
        killed = forked(act, die_at=point)
        applied = check(bench, before)
        outcomes.append(applied)
        if not killed:
            break
        if what == "apply" and applied:
            undo(bench.store, id)
    assert len(outcomes) > 30
    # Rolled back up to the commit, done from there on.
    assert outcomes == sorted(outcomes, reverse=what == "undo")
    assert len(set(outcomes)) == 2


def test_killed_while_rolling_back(bench: Workbench) -> None:
    """A recovery that is itself killed is taken up by the next one."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)
    interrupted = 0
    for point in (20, 30, 36, 40):
        assert forked(applying(bench, id), die_at=point)
        for delay in (0.0005, 0.001, 0.002, 0.004):
            child = os.fork()
            if child == 0:
                try:
                    recover(bench.store.state)
                finally:
                    os._exit(0)
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            interrupted += os.WIFSIGNALED(status)
        if check(bench, before):
            undo(bench.store, id)
        assert bench.snapshot() == before
    assert interrupted


def test_killed_while_a_directory_is_made_again(bench: Workbench) -> None:
    """A directory that goes back never stands in its place without the mode it had."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)
    interrupted = 0
    for point in range(25, 45):
        if not forked(applying(bench, id), die_at=point):
            break
        child = os.fork()
        if child == 0:
            os.fchmod = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            try:
                recover(bench.store.state)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        interrupted += os.WIFSIGNALED(status)
        if check(bench, before):
            undo(bench.store, id)
        assert bench.snapshot() == before
    assert interrupted


def test_killed_at_random_moments(bench: Workbench) -> None:
    """Killed at random moments of endless applying and undoing, nothing is ever half done."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)

    def forever(_hook: Callable[[str], None]) -> None:
        while True:
            bench.apply(id)
            undo(bench.store, id)

    seen = set()
    for _ in range(60):
        child = os.fork()
        if child == 0:
            try:
                forever(lambda _point: None)
            finally:
                os._exit(1)
        time.sleep(random.uniform(0.001, 0.08))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        applied = check(bench, before)
        seen.add(applied)
        if applied:
            undo(bench.store, id)
    assert bench.snapshot() == before
