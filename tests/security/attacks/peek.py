"""Looks for a marker in what the kernel tells of every process, and in the memory of those that
started this one. The marker comes backwards, so that the search does not find itself."""

import json
import os
import sys

marker = sys.argv[1][::-1].encode()
found = set()


def look(pid, name):
    path = f"/proc/{pid}/{name}"
    try:
        if name in ("cwd", "exe", "root"):
            return os.fsencode(os.readlink(path))
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def parent(pid):
    fields = look(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def memory(pid):
    regions = look(pid, "maps").decode(errors="replace").splitlines()
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        for region in regions:
            if "[stack]" in region or "[heap]" in region:
                first, last = (int(part, 16) for part in region.split()[0].split("-"))
                file.seek(first)
                yield file.read(last - first)


for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        for name in ("environ", "cmdline", "comm", "cwd", "exe"):
            if marker in look(pid, name):
                found.add(name)

pid = os.getppid()
while pid > 0:
    try:
        if any(marker in data for data in memory(pid)):
            found.add("mem")
    except OSError:
        pass
    pid = parent(pid)
if 1 not in map(int, filter(str.isdigit, os.listdir("/proc"))):
    found.add("no PID 1")
print(json.dumps(sorted(found)))
