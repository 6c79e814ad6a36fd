"""Rounds of interleaved measurements, so that what is compared meets the same noise."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from casemate.errors import SandboxError

Samples = dict[str, list[float]]
Measurement = Callable[[], Mapping[str, float]]
"""Takes one sample of one or more named quantities, in seconds."""


def interleave(measurements: Sequence[Measurement], rounds: int, *, warm_up: int = 2) -> Samples:
    """One sample of each in turn, round after round; the first rounds are thrown away."""
    samples: Samples = {}
    for number in range(-warm_up, rounds):
        for measurement in measurements:
            for name, seconds in measurement().items():
                if number >= 0:
                    samples.setdefault(name, []).append(seconds)
    return samples


def spawn(arguments: Sequence[str], environment: Mapping[str, str], *, quiet: bool = True) -> float:
    """Seconds from posix_spawn(3) of a program to its end. Raises `SandboxError` if it fails."""
    actions: list[tuple[int, int, str, int, int]] = []
    if quiet:
        actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    process = os.posix_spawn(arguments[0], list(arguments), environment, file_actions=actions)
    _, status = os.waitpid(process, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SandboxError(
            f"{' '.join(arguments)[:200]} ended with status {os.waitstatus_to_exitcode(status)}"
        )
    return seconds
