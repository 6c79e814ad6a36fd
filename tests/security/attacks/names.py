"""Makes files of names that no program expects, and a tree as deep as it will go."""

import json
import os
import sys

made = []
for name in (
    b"new\nline",
    b"tab\there",
    b"\x1b]0;title\x07",
    b"\x1b[2J",
    b"caf\xe9",
    b"\xff\xfe",
    b"-rf",
    b" ",
    b"...",
    b"\xe2\x80\xaegpj.exe",
    b"a" * 255,
    b"\x7f\x01\x02",
    b"*",
    b"$(id)",
    b"`id`",
    b"'\"\\",
    b"%s%n",
    b"CON",
    b"file:stream",
):
    try:
        with open(name, "wb") as file:
            file.write(name)
        os.symlink(name, b"l" + name[:200])
        made.append(repr(name))
    except OSError:
        pass
top = os.open(".", os.O_RDONLY)
depth = 0
try:
    while depth < int(sys.argv[1]):
        os.mkdir("d")
        os.chdir("d")
        depth += 1
    with open("bottom", "w") as file:
        file.write("deep")
except OSError:
    pass
os.fchdir(top)
length = 0
try:
    while length < 4096 - 200:
        os.mkdir("n" * 190)
        os.chdir("n" * 190)
        length += 191
except OSError:
    pass
os.fchdir(top)
print(json.dumps({"names": made, "depth": depth}))
