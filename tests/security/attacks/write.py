"""Creates, changes, renames and removes in directories that are not its own."""

import json
import os
import sys

done = []
for place in sys.argv[1:]:
    name = f"{place}/planted"
    for label, action in (
        ("create", lambda: os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))),
        ("mkdir", lambda: os.mkdir(name + "-directory")),
        ("symlink", lambda: os.symlink("/etc/passwd", name + "-link")),
        ("fifo", lambda: os.mkfifo(name + "-fifo")),
        ("link", lambda: os.link("README.md", name + "-hard")),
        ("rename in", lambda: (open("moved", "w").close(), os.rename("moved", name + "-moved"))),
        ("truncate", lambda: os.close(os.open(f"{place}/secret", os.O_WRONLY | os.O_TRUNC))),
        ("chmod", lambda: os.chmod(f"{place}/secret", 0o777)),
        ("rename", lambda: os.rename(f"{place}/secret", f"{place}/renamed")),
        ("remove", lambda: os.unlink(f"{place}/renamed")),
    ):
        try:
            action()
            done.append(f"{label} {place}")
        except OSError:
            pass
print(json.dumps(done))
