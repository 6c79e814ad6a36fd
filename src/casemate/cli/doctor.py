"""`casemate doctor`: what this machine offers, what stands in the way, and what a run would hold."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

from casemate import __version__
from casemate.cli import run
from casemate.cli.options import parse
from casemate.cli.prepare import prepare
from casemate.cli.style import Style, display, print_json
from casemate.errors import CasemateError, UnsupportedError, UsageError
from casemate.supervisor.protocol import EXIT_STATUS
from casemate.tiers.guarantees import Guarantee
from casemate.tiers.linux.machine import Fact, interpreter, survey
from casemate.tiers.linux.open import BARE, environment
from casemate.workspace.create import finish

MARKS = {"yes": ("✓", "green"), "partly": ("~", "yellow"), "no": ("✗", "red")}
PLAIN = {"yes": "yes", "partly": "partly", "no": "no"}
STRENGTHS = {"hard": "green", "soft": "yellow", "waived": "yellow", "absent": "red"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A default run, really made: how it went."""

    works: bool
    mode: str = ""
    """"namespaces" or "landlock alone"."""
    guarantees: tuple[Guarantee, ...] = ()
    milliseconds: float = 0.0
    problem: CasemateError | None = None


def main(arguments: list[str]) -> int:
    """Runs the verb; 1 where a default run cannot start here."""
    parsed = parse("doctor", arguments)
    facts = survey()
    trial = try_run(parsed.directory)
    if parsed.json:
        print_json(
            {
                "version": __version__,
                "python": interpreter(),
                "user": os.geteuid(),
                "facts": [asdict(fact) for fact in facts],
                "works": trial.works,
                "mode": trial.mode,
                "milliseconds": round(trial.milliseconds, 3),
                "guarantees": [asdict(guarantee) for guarantee in trial.guarantees],
                "problem": trial.problem.as_json() if trial.problem else None,
            }
        )
    else:
        style = Style(sys.stdout)
        style.print(*report(style, facts, trial))
    return 0 if trial.works else 1


def try_run(directory: str | None) -> Trial:
    """Starts a sandbox with the policy in force here and runs `true` in it.

    Where nobody says which project is meant and this directory cannot be one, an empty one is.
    """
    if directory is not None:
        return _try(directory)
    here = _try(".")
    if not isinstance(here.problem, UsageError):
        return here
    with tempfile.TemporaryDirectory(prefix="casemate-doctor-") as empty:
        return _try(empty)


def _try(directory: str) -> Trial:
    options = run.Options()
    options.command = ["true"]
    options.values["directory"] = directory
    try:
        launch = prepare(options)
        started = time.perf_counter()
        try:
            record, session = run.begin(launch, options.command)
        except UnsupportedError as refused:
            if refused.code != "namespaces":
                raise
            launch = prepare(options, bare=True)
            record, session = run.begin(launch, options.command)
        try:
            variables = environment(launch, os.environb, record.id)
            place = os.fsencode(launch["directory"])
            ended = session.wait(
                session.start([b"true"], variables, place, stdio=(None, None, None))
            )
            passed = (time.perf_counter() - started) * 1000
        finally:
            session.close(discard=True)
            finish(record, exit_status=None)
    except CasemateError as problem:
        return Trial(False, problem=problem)
    guarantees = tuple(Guarantee(*row) for row in launch["guarantees"])
    mode = "landlock alone" if launch["flags"] & BARE else "namespaces"
    return Trial(ended.kind == EXIT_STATUS and not ended.value, mode, guarantees, passed)


def report(style: Style, facts: tuple[Fact, ...], trial: Trial) -> list[str]:
    """Everything for people."""
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    lines = [f"casemate {__version__}, {interpreter()}, as {who}", ""]
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        lines += _fact(style, fact, width)
    lines.append("")
    if trial.problem is not None:
        lines.append(style.paint("A run with the policy in force here does not start.", "red"))
        return [*lines, *trial.problem.as_text().splitlines()]
    if not trial.works:
        return [*lines, style.paint("A sandbox starts here, but `true` fails in it.", "red")]
    head = f"A run works here ({trial.mode}): a sandbox and its first command in "
    lines.append(style.paint(f"{head}{trial.milliseconds:.1f} ms.", "green"))
    lines += ["", "With the policy in force here it holds:"]
    names = max((len(guarantee.name) for guarantee in trial.guarantees), default=0)
    for guarantee in trial.guarantees:
        reason = f"{guarantee.by} ({guarantee.note})" if guarantee.note else guarantee.by
        strength = style.paint(f"{guarantee.strength:<6}", STRENGTHS[guarantee.strength])
        indent = " " * (names + 12)
        first, *rest = style.wrap(reason, indent, hanging=indent)
        lines += [f"  {guarantee.name:<{names}}  {strength}  {first.strip()}", *rest]
    return lines


def _fact(style: Style, fact: Fact, width: int) -> list[str]:
    mark, colour = MARKS[fact.state]
    shown = style.paint(mark, colour) if style.terminal else f"{PLAIN[fact.state]:<6}"
    indent = " " * (width + (6 if style.terminal else 11))
    lines = [f"  {shown}  {fact.name:<{width}}  {display(fact.found)}"]
    lines += style.wrap(f"for {fact.gives}", indent)
    if fact.setting:
        lines += style.wrap(f"in the way: {fact.setting}", indent, hanging=indent + "  ")
    if fact.remedy and fact.state != "yes":
        lines += style.wrap(f"remedy: {fact.remedy}", indent, hanging=indent + "  ")
    return lines
