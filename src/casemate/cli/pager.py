"""A pager for long reports on a terminal, as git has it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

DEFAULT = ["less", "-R"]


def pager() -> list[str]:
    """The command of the pager: $PAGER, else less; empty where there is none or none is wanted."""
    wanted = os.environ.get("PAGER")
    if wanted is None:
        return DEFAULT if shutil.which(DEFAULT[0]) else []
    try:
        words = shlex.split(wanted)
    except ValueError:
        return []
    return [] if words in ([], ["cat"]) or not shutil.which(words[0]) else words


@contextmanager
def paged(wanted: bool) -> Iterator[IO[str]]:
    """Where a report goes: a pager on a terminal, standard output otherwise."""
    command = pager() if wanted and sys.stdout.isatty() else []
    if not command:
        yield sys.stdout
        return
    # As git: stay on one screen without paging, keep colours, leave the text on the screen.
    environment = {"LESS": "FRX", **os.environ}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, env=environment, text=True, errors="backslashreplace"
    )
    assert process.stdin is not None
    try:
        yield process.stdin
    except BrokenPipeError:
        pass
    finally:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        # Ctrl-C is the pager's own affair: the terminal is its.
        while True:
            try:
                process.wait()
                break
            except KeyboardInterrupt:
                continue
