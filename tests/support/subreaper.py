"""A program: runs a command, adopts every orphan it leaves, and says when nobody is left.

The first argument is the file for the command's output, the rest is the command.
Prints "started PID", "ended STATUS" and "nobody is left". Source: PR_SET_CHILD_SUBREAPER, prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import sys


def main() -> None:
    """Run the command that the arguments name."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        sys.exit("prctl failed")
    output, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    redirect = [(os.POSIX_SPAWN_OPEN, 1, output, flags, 0o600)]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect)
    print("started", pid, flush=True)
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            break
        if ended == pid:
            print("ended", os.waitstatus_to_exitcode(status), flush=True)
    print("nobody is left", flush=True)


if __name__ == "__main__":
    main()
