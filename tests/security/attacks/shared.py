"""Reads what other programs left in shared memory, semaphores, queues and the kernel's keyrings."""

import ctypes
import json
import os
import sys

key, name = int(sys.argv[1]), sys.argv[2].encode()
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
found = []
identifier = libc.shmget(key, 0, 0)
if identifier >= 0:
    found.append("shmget")
    address = libc.shmat(identifier, None, 0o10000)
    if (
        address
        and address != ctypes.c_void_p(-1).value
        and b"secret" in ctypes.string_at(address, 64)
    ):
        found.append("shmat")
if libc.msgget(key, 0) >= 0:
    found.append("msgget")
if libc.semget(key, 0, 0) >= 0:
    found.append("semget")
if os.path.exists("/dev/shm/" + name.decode()):
    found.append("shm_open")
if libc.mq_open(b"/" + name, os.O_RDONLY) >= 0:
    found.append("mq_open")
print(json.dumps(found))
