"""Looks for a value in the memory and environment of the processes around. Reports how often."""

import contextlib
import os
import sys

needle = "".join(sys.argv[1:]).encode()
found = 0
for name in os.listdir("/proc"):
    if not name.isdigit() or int(name) == os.getpid():
        continue
    with contextlib.suppress(OSError):
        # Outside there are too many processes: those started with this one will do.
        if "CASEMATE" not in os.environ and os.getpgid(int(name)) != os.getpgid(0):
            continue
        with open(f"/proc/{name}/environ", "rb") as file:
            found += file.read().count(needle)
        with open(f"/proc/{name}/maps") as maps, open(f"/proc/{name}/mem", "rb") as memory:
            for line in maps:
                if line.split()[1].startswith("r") and "[v" not in line:
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    with contextlib.suppress(OSError):
                        memory.seek(start)
                        found += memory.read(end - start).count(needle)
print(found)
