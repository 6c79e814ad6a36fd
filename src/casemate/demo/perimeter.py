"""Runs the agent's programs: in a session as `casemate run` opens it, and without one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from casemate.cli.prepare import prepare
from casemate.cli.run import Options, begin
from casemate.supervisor.protocol import EXIT_NOT_STARTED
from casemate.tiers.linux.open import environment
from casemate.workspace.create import finish

OUTPUT_MAX = 1 << 20
"""Bytes of a program's output that are looked at."""

NOT_STARTED = 127


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, where, and with which variables beyond the caller's.

    `script` is a file to feed to standard input.
    """

    arguments: Sequence[str]
    directory: str
    script: str = ""
    variables: Mapping[str, str] | None = None
    timeout: float = 120.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a command ended. `status` is 128 + signal for one that was killed."""

    status: int
    text: str


@contextlib.contextmanager
def caller(variables: Mapping[str, str]) -> Iterator[None]:
    """Within it, casemate's environment is that of a caller with these variables alone."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_without(command: Command) -> Output:
    """Runs a command on the host as any program is run."""
    with open(command.script or os.devnull, "rb") as script:
        ended = subprocess.run(
            command.arguments,
            cwd=command.directory,
            env=os.environ | dict(command.variables or {}),
            stdin=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=command.timeout,
            check=False,
        )
    status = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
    return Output(status, ended.stdout[:OUTPUT_MAX].decode("utf-8", "replace"))


class Perimeter:
    """A session around the project in a directory, opened with further lines of policy.

    Raises what `casemate run` raises: `PolicyError`, `UnsupportedError`, `SandboxError`.
    """

    def __init__(self, directory: str, settings: Sequence[str], tier: str = "") -> None:
        options = Options()
        options.values = {"directory": directory, "set": tuple(settings)}
        if tier:
            options.values["tier"] = tier
        self.launch = prepare(options)
        self.record, self.session = begin(self.launch, ["casemate", "demo"])
        self.closed = False

    @property
    def guarantees(self) -> dict[str, str]:
        """What holds each guarantee in this session."""
        return {name: by for name, _, by, _ in self.launch["guarantees"]}

    def run(self, command: Command) -> Output:
        """Runs a command inside until it ends, and gives what it wrote."""
        variables = environment(self.launch, os.environb, self.record.id)
        added = (command.variables or {}).items()
        variables += [os.fsencode(f"{name}={value}") for name, value in added]
        output = os.memfd_create("output")
        script = os.open(command.script or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            identifier = self.session.start(
                [os.fsencode(argument) for argument in command.arguments],
                variables,
                os.fsencode(command.directory),
                stdio=(script, output, output),
                time_limit_ms=int(command.timeout * 1000),
            )
            ended = self.session.wait(identifier)
            text = os.pread(output, OUTPUT_MAX, 0).decode("utf-8", "replace")
        finally:
            os.close(script)
            os.close(output)
        if ended.kind == EXIT_NOT_STARTED:
            return Output(NOT_STARTED, os.strerror(ended.status))
        return Output(ended.status if ended.kind == 0 else 128 + ended.status, text)

    def close(self) -> bool:
        """Ends everything inside and saves the changes; False if there were none."""
        if self.closed:
            return False
        self.closed = True
        try:
            self.session.close()
        finally:
            kept = finish(self.record, exit_status=0)
        return kept
