"""What a test may need of the machine, and why this machine does not have it."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import casemate

PACKAGES = {
    "bwrap": "bubblewrap",
    "curl": "curl",
    "gcc": "gcc",
    "git": "git",
    "keytool": "default-jre-headless",
    "node": "nodejs",
    "ps": "procps",
    "rg": "ripgrep",
    "setfattr": "attr",
    "setpriv": "util-linux",
    "strace": "strace",
    "tmux": "tmux",
}
"""Programs that can be asked for by name, and the Debian package of each."""

# A new user namespace may be granted and then hold no capability: an AppArmor profile does that.
# So the namespace is tried out with the first mount.
_TRIAL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
def check(result, what):
    if result:
        sys.exit(what + ": " + os.strerror(ctypes.get_errno()))
check(libc.unshare(0x10000000 | 0x00020000), "unshare(CLONE_NEWUSER | CLONE_NEWNS)")
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    try:
        with open("/proc/self/" + name, "w") as file:
            file.write(text)
    except OSError as error:
        sys.exit(f"writing {name}: {error.strerror}")
check(libc.mount(b"none", sys.argv[1].encode(), b"tmpfs", 0, None), "mounting a tmpfs")
if sys.argv[2] == "overlay":
    os.chdir(sys.argv[1])
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(name)
    options = b"lowerdir=lower,upperdir=upper,workdir=work,userxattr"
    check(libc.mount(b"none", b"merged", b"overlay", 0, options), "mounting an overlay")
"""


def _trial(what: str) -> str:
    command = [sys.executable, "-I", "-S", "-c", _TRIAL, "/tmp", what]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stderr.strip()


def _landlock() -> str:
    landlock_create_ruleset, version = 444, 1
    abi = ctypes.CDLL(None, use_errno=True).syscall(landlock_create_ruleset, None, 0, version)
    return "" if abi > 0 else f"the kernel has no Landlock: {os.strerror(ctypes.get_errno())}"


def _memory_controller() -> str:
    if os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK):
        return ""
    own = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().split() if line[:3] == "0::"),
        "/",
    )
    group = Path("/sys/fs/cgroup" + own)
    listed = group / "cgroup.controllers"
    if listed.exists() and "memory" in listed.read_text() and os.access(group, os.W_OK):
        return ""
    return f"no memory controller is delegated to uid {os.getuid()}"


def _supervisor() -> str:
    program = Path(casemate.__file__).parent / "bin/casemate-supervisor"
    return "" if os.access(program, os.X_OK) else "not compiled; run: python hatch_build.py"


def _zig() -> str:
    found = os.environ.get("CASEMATE_ZIG") or importlib.util.find_spec("ziglang")
    return "" if found else "no compiler; run: pip install --group build"


AGENTS = {
    "codex": "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
    "claude": "@anthropic-ai/claude-code-linux-x64/claude",
}
"""Real agents, below the place where `.ci/agents` installs their packages."""

_AGENTS = Path(os.environ.get("CASEMATE_AGENTS", ".venv/agents")).absolute()


def agent(name: str) -> Path:
    """Where an agent's program is, if it is installed."""
    return _AGENTS / "node_modules" / AGENTS[name]


def _agent(name: str) -> str:
    return "" if os.access(agent(name), os.X_OK) else "not installed; run: make packages"


_CHECKS: dict[str, Callable[[], str]] = {
    "user namespaces": functools.partial(_trial, "userns"),
    "overlay": functools.partial(_trial, "overlay"),
    "landlock": _landlock,
    "memory controller": _memory_controller,
    "supervisor": _supervisor,
    "zig": _zig,
    **{name: functools.partial(_agent, name) for name in AGENTS},
    "root": lambda: "" if os.getuid() == 0 else "the tests do not run as root",
    "ordinary user": lambda: "" if os.getuid() != 0 else "the tests run as root",
}
NAMES = sorted({*_CHECKS, *PACKAGES})


@functools.cache
def missing(name: str) -> str:
    """Why capability `name` is not there, in a line; "" when it is. `NAMES` lists what can be asked.

    Raises `KeyError` for any other name.
    """
    if name in _CHECKS:
        return _CHECKS[name]()
    package = PACKAGES[name]
    return "" if shutil.which(name) else f"not installed; run: sudo apt-get install {package}"
