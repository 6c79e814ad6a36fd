"""A program: runs a command, adopts every orphan it leaves, and says when nobody is left.

Prints "started PID", "ended STATUS" and "nobody is left". Source: PR_SET_CHILD_SUBREAPER, prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import sys


def main() -> None:
    """Run the command in the arguments."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        sys.exit("prctl failed")
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
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
