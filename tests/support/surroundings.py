"""A program: runs a command on a machine that lacks something.

    surroundings.py [small PATH BYTES] [tiny PATH] [readonly PATH] [cover PATH] [empty PATH] [without FEATURE] -- COMMAND...

Mounts happen in a mount namespace of its own (as an ordinary user also in a user namespace that
maps nobody but them); features are system calls taken away by seccomp(2): "namespaces" or
"landlock". Everything is undone when the command ends.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
ARM = platform.machine() == "aarch64"
CLONE, UNSHARE, CLONE3 = (220, 97, 435) if ARM else (56, 272, 435)
LANDLOCK = (444, 445, 446)


def check(result: int, what: str) -> None:
    """Exit with a message if a call failed."""
    if result:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)"""
    words = [word.encode() for word in (source, target, kind)]
    check(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def enter_namespaces() -> None:
    """Take a mount namespace; nothing done in it reaches the machine."""
    uid, gid = os.getuid(), os.getgid()
    check(LIBC.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)), "unshare")
    if uid:
        for name, text in (
            ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"),
        ):  # fmt: skip
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def filter_out(program: list[tuple[int, int, int, int]]) -> None:
    """Install a classic BPF program over system calls, which allows what it does not decide."""
    program = [*program, (0x06, 0, 0, ALLOW)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    packed = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, packed), "seccomp")


def without(feature: str) -> None:
    """Take a feature of the kernel away."""
    load_number, load_flags = (0x20, 0, 0, 0), (0x20, 0, 0, 16)
    if feature == "landlock":
        for number in LANDLOCK:
            filter_out([load_number, (0x15, 0, 1, number), (0x06, 0, 0, ERRNO | ENOSYS)])
    elif feature == "namespaces":
        filter_out([load_number, (0x15, 0, 1, CLONE3), (0x06, 0, 0, ERRNO | ENOSYS)])
        for number in (CLONE, UNSHARE):
            filter_out(
                [
                    load_number,
                    (0x15, 0, 3, number),
                    load_flags,
                    (0x45, 0, 1, CLONE_NEWUSER),
                    (0x06, 0, 0, ERRNO | EPERM),
                ]
            )
    else:
        sys.exit(f"unknown feature {feature}")


def main() -> None:
    """Carry out the arguments in order, then become the command."""
    words = iter(sys.argv[1:])
    features, entered = [], False
    for word in words:
        if word == "--":
            break
        if word == "without":
            features.append(next(words))
            continue
        if not entered:
            enter_namespaces()
            entered = True
        path = next(words)
        if word == "small":
            mount("none", path, "tmpfs", 0, f"size={next(words)},mode=700")
        elif word == "tiny":
            # Directories fit, files do not.
            mount("none", path, "tmpfs", 0, "nr_inodes=3,mode=700")
        elif word == "readonly":
            mount(path, path, "", MS_BIND)
            mount("none", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY)
        elif word == "cover":
            mount("/dev/null", path, "", MS_BIND)
        elif word == "empty":
            mount("none", path, "tmpfs", 0, "size=4k,mode=755")
        else:
            sys.exit(f"unknown word {word}")
    for feature in features:
        without(feature)
    command = list(words)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
