"""Runs a program that ought not to run, by other names and other doors."""

import json
import os
import shutil
import subprocess
import sys

tool, loader = sys.argv[1:]
scratch = os.environ.get("TMPDIR", "/tmp")
ran = []


def check(label, command, **options):
    try:
        run = subprocess.run(
            [*command, "-I", "-S", "-c", "print('it ran')"],
            capture_output=True,
            timeout=20,
            **options,
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if b"it ran" in run.stdout:
        ran.append(label)


def attempt(action):
    try:
        return action()
    except OSError:
        return None


def memory():
    descriptor = os.memfd_create("x")
    with open(tool, "rb") as source:
        os.write(descriptor, source.read())
    return descriptor


check("plain", [tool])
check("relative", ["./tool"])
check("proc root", [f"/proc/self/root{tool}"])
check("proc cwd", ["/proc/self/cwd/tool"])
check("loader", [loader, tool])
copy = f"{scratch}/copy-{os.getpid()}"
attempt(lambda: shutil.copy(tool, copy))
check("copy", [copy])
attempt(lambda: os.unlink(copy))
attempt(lambda: os.link("tool", "hard"))
check("hard link", ["./hard"])
soft = f"{scratch}/soft-{os.getpid()}"
attempt(lambda: os.symlink(tool, soft))
check("link", [soft])
attempt(lambda: os.unlink(soft))
descriptor = attempt(memory)
if descriptor is not None:
    check("memfd", [f"/proc/self/fd/{descriptor}"], pass_fds=(descriptor,))
path = attempt(lambda: os.open(tool, os.O_PATH))
if path is not None:
    check("path descriptor", [f"/proc/self/fd/{path}"], pass_fds=(path,))
attempt(lambda: os.rename("tool", "renamed"))
check("renamed", ["./renamed"])
print(json.dumps(ran))
