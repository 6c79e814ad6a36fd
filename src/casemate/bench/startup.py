"""Start-up: a session, a command in it, and the whole of `casemate run`, beside a bare spawn."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from casemate.bench.bubblewrap import bubblewrap
from casemate.bench.figures import Row, Skipped, at_most, figure, median, ratio_of
from casemate.bench.fixture import Size, launch_for, open_sandbox
from casemate.bench.rounds import Measurement, interleave, spawn
from casemate.errors import CasemateError

SECTION = "start-up"
STAGES = (
    "network namespace",
    "sources of mounts",
    "in-memory file systems",
    "steps of the plan",
    "devices",
    "root entered",
    "identity",
    "confinement",
)
"""What ends at each `Mark` of native/supervisor/linux.zig after the first."""

SPAWN, BWRAP = "posix_spawn", "bwrap, same tree"
OPEN, FIRST, EXEC, CLOSE = "open", "open + first command", "command in a session", "close"
ONE_SHOT, BARE, SITE = "casemate run, one shot", "python -I -S -c pass", "python -I -c pass"

ENTRY = "import sys; sys.path.insert(0, {!r}); from casemate.cli.main import main; sys.exit(main())"


def measure(project: str, size: Size, tier: str = "") -> list[Row]:
    """The rows of the section."""
    true = shutil.which("true") or "/bin/true"
    launch = launch_for(project, tier=tier)
    variables = dict(os.environ)
    measurements: list[Measurement] = [
        lambda: {SPAWN: spawn([true], variables)},
        lambda: _session(launch, true),
    ]
    skipped: list[Row] = []
    try:
        command = [*bubblewrap(project), true]
        spawn(command, variables)
        measurements.append(lambda: {BWRAP: spawn(command, variables)})
    except (CasemateError, OSError) as reason:
        skipped.append(Skipped(SECTION, BWRAP, str(reason)))
    samples = interleave(measurements, size.rounds)
    script = [*one_shot(), "run", "-q", "-C", project, "--", true]
    samples |= interleave(
        [
            lambda: {BARE: spawn([sys.executable, "-I", "-S", "-c", "pass"], variables)},
            lambda: {SITE: spawn([sys.executable, "-I", "-c", "pass"], variables)},
            lambda: {ONE_SHOT: spawn(script, variables)},
        ],
        size.rounds,
    )
    return [*rows(samples), *skipped, *stages(samples)]


def one_shot() -> list[str]:
    """How `casemate` is started: the installed script, or this interpreter with its entry."""
    script = os.path.join(os.path.dirname(sys.executable), "casemate")
    if os.access(script, os.X_OK):
        return [script]
    import casemate

    source = os.path.dirname(os.path.dirname(os.path.abspath(casemate.__file__)))
    return [sys.executable, "-I", "-c", ENTRY.format(source)]


def _session(launch: dict[str, Any], true: str) -> Mapping[str, float]:
    sandbox = open_sandbox(launch)
    try:
        first = sandbox.run([true])
        second = sandbox.run([true])
        marks = sandbox.session.launch_us
    finally:
        close = sandbox.close()
    taken = {stage: us / 1e6 for stage, us in zip(STAGES, marks, strict=False)}
    opened = sandbox.opened
    return {OPEN: opened, FIRST: opened + first, EXEC: second, CLOSE: close} | taken


def rows(samples: Mapping[str, list[float]]) -> list[Row]:
    """The figures with the bars for them."""
    base = (SPAWN, samples[SPAWN])
    first = [at_most(median(samples[FIRST]), 0.002, "<= 2 ms")]
    peers: list[Row] = []
    if BWRAP in samples:
        share = ratio_of(samples[FIRST], samples[BWRAP])
        first.append(at_most(share, 0.5, f"<= 0.5x bwrap ({share:.2f}x)"))
        peers.append(figure(SECTION, BWRAP, samples[BWRAP], against=base))
    in_session = ratio_of(samples[EXEC], samples[SPAWN])
    python = (BARE, samples[BARE])
    whole = ratio_of(samples[ONE_SHOT], samples[BARE])
    return [
        figure(SECTION, SPAWN, samples[SPAWN]),
        *peers,
        figure(SECTION, OPEN, samples[OPEN], against=base),
        figure(SECTION, FIRST, samples[FIRST], against=base, bars=tuple(first)),
        figure(
            SECTION, EXEC, samples[EXEC], against=base,
            bars=(at_most(in_session, 1.15, "<= 1.15x"),),
        ),
        figure(SECTION, CLOSE, samples[CLOSE], against=base),
        figure(SECTION, BARE, samples[BARE]),
        figure(SECTION, SITE, samples[SITE], against=python),
        figure(
            SECTION, ONE_SHOT, samples[ONE_SHOT], against=python,
            bars=(at_most(whole, 2.2, "<= 2.2x"),),
        ),
    ]  # fmt: skip


def stages(samples: Mapping[str, list[float]]) -> list[Row]:
    """How long the supervisor took for each stage of a launch, by its own clock."""
    section = "stages of open"
    return [figure(section, stage, samples[stage]) for stage in STAGES if stage in samples]
