"""Looks for a secret below the working directory in every way that a name can be got around."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import unicodedata

secret = sys.argv[1].encode()
paths = sys.argv[2:]
found = []
libc = ctypes.CDLL(None, use_errno=True)


def check(label, action):
    try:
        data = action()
    except (OSError, shutil.Error, ValueError, subprocess.SubprocessError):
        return
    if isinstance(data, bytes) and secret in data:
        found.append(label)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def linked(path, name):
    os.link(path, name)
    return read(name)


def soft(path):
    os.symlink(os.path.abspath(path), "soft-link")
    try:
        return read("soft-link")
    finally:
        os.unlink("soft-link")


def renamed(path):
    os.rename(path, path + "-renamed")
    try:
        return read(path + "-renamed")
    finally:
        os.rename(path + "-renamed", path)


def parent_renamed(path):
    above, _, name = path.rpartition("/")
    os.rename(above, above + "-renamed")
    try:
        return read(f"{above}-renamed/{name}")
    finally:
        os.rename(above + "-renamed", above)


def parent_exchanged(path):
    above, _, name = path.rpartition("/")
    os.mkdir("exchange")
    if libc.syscall(316, -100, os.fsencode(above), -100, b"exchange", 2) < 0:
        raise OSError("renameat2")
    try:
        return read(f"exchange/{name}")
    finally:
        libc.syscall(316, -100, os.fsencode(above), -100, b"exchange", 2)
        os.rmdir("exchange")


def handle(path):
    data = ctypes.create_string_buffer(8 + 128)
    data[0:4] = (128).to_bytes(4, "little")
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), data, ctypes.byref(mount), 0) < 0:
        raise OSError("name_to_handle_at")
    top = os.open(".", os.O_RDONLY)
    descriptor = libc.open_by_handle_at(top, data, os.O_RDONLY)
    if descriptor < 0:
        raise OSError("open_by_handle_at")
    return os.read(descriptor, 1000)


def path_descriptor(path):
    descriptor = os.open(path, os.O_PATH)
    try:
        return read(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def below(path):
    above, _, name = path.rpartition("/")
    directory = os.open(above or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        return os.read(os.open(name, os.O_RDONLY, dir_fd=directory), 1000)
    finally:
        os.close(directory)


def copied_tree(path):
    copy = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"copied-{os.getpid()}")
    shutil.copytree(".", copy, symlinks=True, ignore_dangling_symlinks=True)
    return subprocess.run(["grep", "-rs", secret, copy], capture_output=True).stdout


def archived(_):
    return subprocess.run(["tar", "-cf", "-", "."], capture_output=True).stdout


def permitted(path):
    os.chmod(path, 0o666)
    return read(path)


def recreated(path):
    # What is made anew under a hidden name is one's own, and shows nothing of what was there.
    with open(path, "ab") as file:
        file.write(b"")
    return read(path)


def marked(path):
    # overlayfs' own marks, as an attacker would set them.
    above = path.rpartition("/")[0] or "."
    os.mkdir("marked")
    for name in ("redirect", "opaque", "metacopy", "origin", "whiteout"):
        for prefix in ("user.overlay.", "trusted.overlay.", "user.overlay.overlay."):
            try:
                os.setxattr("marked", prefix + name, os.fsencode("/" + above))
            except OSError:
                pass
    return read("marked/" + path.rpartition("/")[2])


def mapped(path):
    return subprocess.run(["dd", f"if={path}"], capture_output=True).stdout


def removed_parent(path):
    above, _, name = path.rpartition("/")
    shutil.rmtree(above, ignore_errors=True)
    os.makedirs(above, exist_ok=True)
    return read(path)


for path in paths:
    name = os.path.basename(path)
    check(f"read {path}", lambda: read(path))
    check(f"absolute {path}", lambda: read(os.path.abspath(path)))
    check(f"dots {path}", lambda: read(f"././/{path}"))
    check(f"self root {path}", lambda: read("/proc/self/root" + os.path.abspath(path)))
    check(f"self cwd {path}", lambda: read("/proc/self/cwd/" + path))
    check(f"PID 1 {path}", lambda: read("/proc/1/cwd/" + path))
    check(f"link {path}", lambda: linked(path, "hard-link"))
    check(f"soft {path}", lambda: soft(path))
    check(f"O_PATH {path}", lambda: path_descriptor(path))
    check(f"directory {path}", lambda: below(path))
    check(f"handle {path}", lambda: handle(path))
    check(f"dd {path}", lambda: mapped(path))
    check(f"chmod {path}", lambda: permitted(path))
    check(f"renamed {path}", lambda: renamed(path))
    for label, other in (
        ("upper", path.upper()),
        ("lower", path.lower()),
        ("title", path.title()),
        ("nfd", unicodedata.normalize("NFD", path)),
        ("nfkc", unicodedata.normalize("NFKC", path)),
        ("dot", path + "."),
        ("space", path + " "),
        ("slash", path + "/"),
        ("stream", path + "::$DATA"),
        ("wide", path.replace(name, "．" + name[1:])),
        ("backup", path + "~"),
    ):
        check(f"{label} {path}", lambda other=other: read(other))
    if "/" in path:
        check(f"parent renamed {path}", lambda: parent_renamed(path))
        check(f"parent exchanged {path}", lambda: parent_exchanged(path))
check("copied tree", lambda: copied_tree("."))
check("tar", lambda: archived("."))
for path in paths:
    check(f"marked {path}", lambda: marked(path))
    check(f"recreated {path}", lambda: recreated(path))
    if "/" in path:
        check(f"removed parent {path}", lambda: removed_parent(path))
print(json.dumps(found))
