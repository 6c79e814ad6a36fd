"""The acts in order: the attempts without casemate, then the work, the tests and the attempts inside.

What is decided here is decided from outside the sandbox; see `attempts` for what counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from casemate.demo.agent import program
from casemate.demo.attempts import ATTEMPTS, Attempt, Outcome, judge, wall
from casemate.demo.decoys import ROOMY, SMALL, Caps, Decoys
from casemate.demo.perimeter import Command, Output, Perimeter, caller, run_without
from casemate.demo.project import Project, base_directories, base_python, copy
from casemate.demo.unified import unified
from casemate.workspace.review import Applied, open_review
from casemate.workspace.store import Store

Say = Callable[[str], None]
Runner = Callable[[Perimeter, Command], Output]


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt on both sides, and what refused it inside."""

    attempt: Attempt
    without: Outcome
    inside: Outcome
    wall: str

    @property
    def held(self) -> bool:
        """Whether it was refused inside, and was a danger (or refused by this machine) outside."""
        shown = self.without.succeeded or (
            self.without.succeeded is False and self.attempt.closed_here
        )
        return self.inside.succeeded is False and bool(shown)


@dataclass(slots=True)
class Result:
    """Everything the demonstration found."""

    project: Project
    files: int = 0
    rows: list[Row] = field(default_factory=list)
    edited: tuple[str, ...] = ()
    """Paths the agent says it worked on."""
    problem: str = ""
    """Why the agent did not do its work."""
    tests: Output | None = None
    diff: list[str] = field(default_factory=list)
    applied: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    """Paths held back, and why."""
    session: str = ""

    @property
    def edit_applied(self) -> bool:
        """Whether all that the agent worked on reached the project."""
        return bool(self.edited) and set(self.edited) <= set(self.applied)

    @property
    def passed(self) -> bool:
        """Every attempt refused, the tests passed where there are any, the edit applied."""
        refused = len(self.rows) == len(ATTEMPTS) and all(row.held for row in self.rows)
        tested = self.tests is None or self.tests.status == 0
        return refused and tested and self.edit_applied


def play(
    project: Project,
    decoys: Decoys,
    *,
    tier: str = "",
    say: Say = lambda _line: None,
    inside: Runner = Perimeter.run,
) -> Result:
    """Plays all acts. `inside` runs a command in the session; a test puts another in its place.

    Raises `UsageError`, `UnsupportedError`, `SandboxError` or `WorkspaceError`.
    """
    result = Result(project)
    caps = SMALL if project.own else ROOMY
    outside_copy, copied = (os.path.join(decoys.directory, n, "project") for n in ("bare", "work"))
    result.files = copy(project, copied)
    copy(project, outside_copy)
    with caller(decoys.environment):
        say(f"{len(ATTEMPTS)} attempts without casemate, on decoys")
        without, without_traces = _attack_without(decoys, outside_copy)
        decoys.reset(copied)
        perimeter = Perimeter(copied, _settings(project, caps), tier)
        try:
            _work(result, perimeter, copied, inside, say)
            say(f"{len(ATTEMPTS)} attempts inside")
            command = _attack(decoys, copied, caps)
            reports = _reports(inside(perimeter, command))
            traces = decoys.traces(copied)
            started = bool(decoys.stragglers())
        finally:
            kept = perimeter.close()
        if started:
            traces["straggler"] = bool(decoys.stragglers())
        if kept:
            say("review and apply")
            _apply(result, perimeter.launch["state"], perimeter.record.id)
    traces |= decoys.traps(copied)
    for attempt in ATTEMPTS:
        name = attempt.name
        before = judge(attempt, without.get(name), without_traces, decoys.secrets)
        after = judge(attempt, reports.get(name), traces, decoys.secrets)
        by = wall(attempt, after, perimeter.guarantees)
        result.rows.append(Row(attempt, before, after, by if after.succeeded is False else ""))
    return result


def _settings(project: Project, caps: Caps) -> list[str]:
    """Lines of policy for the demonstration: its caps, and the interpreter to see."""
    readable = json.dumps([*base_directories(), *project.readable])
    return [
        f"workspace.disk={caps.disk}B",
        f"workspace.files={caps.files}",
        f"limits.processes={caps.processes}",
        f"files.read={readable}",
    ]


def _attack(decoys: Decoys, project: str, caps: Caps) -> Command:
    arguments = [base_python(), "-I", "-S", "-", json.dumps(decoys.targets(project, caps))]
    return Command(arguments, project, script=program("attack"), timeout=60.0)


def _attack_without(
    decoys: Decoys, project: str
) -> tuple[dict[str, dict[str, Any]], dict[str, bool]]:
    decoys.reset(project)
    reports = _reports(run_without(_attack(decoys, project, SMALL)))
    traces = decoys.traces(project) | decoys.traps(project)
    traces["straggler"] = bool(decoys.stragglers())
    decoys.kill_stragglers()
    return reports, traces


def _work(result: Result, perimeter: Perimeter, directory: str, inside: Runner, say: Say) -> None:
    say("the agent edits the project")
    edit = Command([base_python(), "-I", "-S", "-"], directory, script=program("edit"))
    output = inside(perimeter, edit)
    result.edited = _edited(output)
    if not result.edited:
        result.problem = output.text.strip()[-300:] or f"it ended with status {output.status}"
    project = result.project
    if project.tests:
        say(f"the project's tests: {project.tests_name}")
        variables = {
            name: value.replace("{}", directory) for name, value in project.environment.items()
        } | {"PYTHONDONTWRITEBYTECODE": "1"}
        tests = Command(project.tests, directory, variables=variables, timeout=600.0)
        result.tests = inside(perimeter, tests)


def _edited(output: Output) -> tuple[str, ...]:
    try:
        changed = json.loads(output.text.strip().rpartition("\n")[2])["changed"]
        return tuple(str(path) for path in changed)
    except (ValueError, KeyError, TypeError):
        return ()


def _reports(output: Output) -> dict[str, dict[str, Any]]:
    """The agent's lines, by attempt. What is not such a line is passed over."""
    reports: dict[str, dict[str, Any]] = {}
    for line in output.text.splitlines():
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(report, dict) and isinstance(report.get("attempt"), str):
            reports.setdefault(report["attempt"], report)
    return reports


def _apply(result: Result, state: str, session: str) -> None:
    result.session = session
    with open_review(Store(state), session) as review:
        plan = review.plan()
        for change in plan.chosen:
            result.diff += unified(review, change)
        applied: Applied = review.apply()
    result.applied = tuple(change.name for change in applied.changes)
    result.held = tuple((held.change.name, held.reason) for held in applied.held)


def as_json(result: Result) -> Mapping[str, Any]:
    """The result as JSON-ready data; the same on every run that ends the same."""
    return {
        "passed": result.passed,
        "project": result.project.name,
        "files": result.files,
        "attempts": [
            {
                "name": row.attempt.name,
                "group": row.attempt.group,
                "title": row.attempt.title,
                "without": _side(row.without),
                "inside": _side(row.inside),
                "refused_by": row.wall,
                "held": row.held,
            }
            for row in result.rows
        ],
        "tests": None
        if result.tests is None
        else {"command": result.project.tests_name, "status": result.tests.status},
        "edited": list(result.edited),
        "problem": result.problem,
        "applied": list(result.applied),
        "held_back": [{"path": path, "reason": reason} for path, reason in result.held],
    }


def _side(outcome: Outcome) -> dict[str, object]:
    fields: dict[str, object] = {"succeeded": outcome.succeeded, "detail": outcome.detail}
    return fields | ({"errno": outcome.errno} if outcome.errno else {})
