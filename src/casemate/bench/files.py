"""Run time: what tools that work on many files cost inside and outside, on the same project."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from casemate.bench.figures import Bar, Row, Skipped, at_least, figure, ratio_of
from casemate.bench.fixture import Sandbox, Size, launch_for, open_sandbox
from casemate.bench.rounds import Measurement, interleave, spawn
from casemate.demo.project import base_directories, base_python

SECTION = "files, inside / outside"
SPEED = 0.97
"""The bar: the speed inside as a share of that outside."""

UNPACKED = "unpacked"
FIRST_ROUNDS = 5
VARIABLES = {"GIT_CONFIG_NOSYSTEM": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def commands(python: str) -> dict[str, tuple[str, ...]]:
    """What is measured, by name; run in the project's directory."""
    importing = "import sys; sys.path.insert(0, '.'); import package"
    return {
        "git status": ("git", "status", "--porcelain"),
        "grep -r": ("grep", "-r", "-c", "needle", "text"),
        "find": ("find", ".", "-type", "f", "-size", "+1k"),
        "python import": (python, "-I", "-S", "-c", importing),
        "untar": ("tar", "-xf", "archive.tar", "-C", UNPACKED),
    }


def measure(project: str, size: Size, tier: str = "") -> list[Row]:
    """The rows of the section."""
    rows: list[Row] = []
    readable = ", ".join(f'"{path}"' for path in base_directories())
    launch = launch_for(project, [f"files.read=[{readable}]"], tier)
    sandbox = open_sandbox(launch)
    here = os.getcwd()
    try:
        os.chdir(project)
        for name, command in commands(base_python()).items():
            program = shutil.which(command[0])
            if program is None:
                rows.append(Skipped(SECTION, name, f"{command[0]} is not installed"))
                continue
            rows += _compare(sandbox, name, [program, *command[1:]], size)
    finally:
        os.chdir(here)
        sandbox.close()
    return rows + _first(launch, size)


def _first(launch: dict[str, Any], size: Size) -> list[Row]:
    """A session on this project from its start: opening looks for hidden files in all of it.

    The first `git status` inside finds another owner or other inodes than the index says, reads
    every file and writes a new index into the layer.
    """
    opening, status = [], []
    git = shutil.which("git")
    for _ in range(min(size.file_rounds, FIRST_ROUNDS)):
        sandbox = open_sandbox(launch)
        try:
            opening.append(sandbox.opened)
            if git:
                status.append(sandbox.run([git, "status", "--porcelain"], variables=VARIABLES))
        finally:
            sandbox.close()
    rows: list[Row] = [figure(SECTION, "open", opening)]
    if status:
        rows.append(figure(SECTION, "git status, first in a session", status))
    return rows


def _compare(sandbox: Sandbox, name: str, command: Sequence[str], size: Size) -> list[Row]:
    outside = partial(spawn, command, os.environ | VARIABLES)
    inside = partial(sandbox.run, command, variables=VARIABLES)
    measurements: list[Measurement] = [
        lambda: {"outside": outside()},
        lambda: {"inside": inside()},
    ]
    if name == "untar":
        measurements = [
            lambda: _unpack("outside", outside, _outside_directory),
            lambda: _unpack("inside", inside, partial(_inside_directory, sandbox)),
        ]
    samples = interleave(measurements, size.file_rounds)
    bars: tuple[Bar, ...] = ()
    if name in ("git status", "grep -r", "python import"):
        speed = ratio_of(samples["inside"], samples["outside"], "speed")
        bars = (at_least(speed, SPEED, f">= {SPEED}x speed"),)
    base = (f"{name}, outside", samples["outside"])
    return [
        figure(SECTION, f"{name}, outside", samples["outside"]),
        figure(
            SECTION, f"{name}, inside", samples["inside"], against=base, kind="speed", bars=bars
        ),
    ]


def _unpack(
    name: str, unpack: Callable[[], float], prepare: Callable[[bool], None]
) -> Mapping[str, float]:
    prepare(True)
    seconds = unpack()
    prepare(False)
    return {name: seconds}


def _outside_directory(make: bool) -> None:
    if make:
        os.mkdir(UNPACKED)
    else:
        shutil.rmtree(UNPACKED)


def _inside_directory(sandbox: Sandbox, make: bool) -> None:
    sandbox.run(["mkdir", UNPACKED] if make else ["rm", "-rf", UNPACKED])
