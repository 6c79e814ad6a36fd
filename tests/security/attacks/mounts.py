"""Tries every call that changes the tree of mounts. Reports those that worked."""

import ctypes
import json
import os
import sys

outside = sys.argv[1].encode()
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "unshare(USER)": lambda: libc.unshare(0x10000000),
    "unshare(NS)": lambda: libc.unshare(0x00020000),
    "unshare(USER|NS)": lambda: libc.unshare(0x10020000),
    "umount /": lambda: libc.umount2(b"/", 2),
    "umount /proc": lambda: libc.umount2(b"/proc", 2),
    "umount /proc/keys": lambda: libc.umount2(b"/proc/keys", 2),
    "umount project": lambda: libc.umount2(os.getcwdb(), 2),
    "bind": lambda: libc.mount(outside, b"/tmp", None, 4096, None),
    "remount": lambda: libc.mount(None, b"/usr", None, 4096 | 32, None),
    "tmpfs": lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None),
    "proc": lambda: libc.mount(b"x", b"/tmp", b"proc", 0, None),
    "chroot": lambda: libc.chroot(b"/tmp"),
    "pivot_root": lambda: libc.syscall(155, b"/tmp", b"/tmp"),
    "open_tree": lambda: libc.syscall(428, -100, b"/", 1),
    "fsopen": lambda: libc.syscall(430, b"tmpfs", 0),
    "mount_setattr": lambda: libc.syscall(442, -100, b"/usr", 0, bytes(32), 32),
    "setns": lambda: libc.setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), 0),
}
worked = []
for name, call in calls.items():
    try:
        if call() >= 0:
            worked.append(name)
    except OSError:
        pass
print(json.dumps(worked))
