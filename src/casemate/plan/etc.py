"""The files of /etc that are made for a sandbox instead of being shown from the host.

They name one user, no other machine, no name server and no other account.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from casemate.plan.host import Host
from casemate.plan.model import File
from casemate.plan.network import SERVICE

HOST_NAME = "casemate"
NOBODY = 65534
READABLE = 0o444

HOSTS = f"""\
127.0.0.1 localhost {HOST_NAME}
::1 localhost ip6-localhost ip6-loopback
"""
NAME_SERVICES = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
"""
NO_RESOLVER = "# No name server: nothing leaves.\n"
RESOLVER = f"# The broker's, which looks nothing up.\nnameserver {SERVICE}\noptions timeout:30\n"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)
_SHELL = re.compile(r"/[A-Za-z0-9_./+-]{1,254}", re.ASCII)


def account_name(wanted: str) -> str:
    """A user name that can stand in /etc/passwd; never the super-user's. passwd(5)"""
    if _NAME.fullmatch(wanted) and wanted not in ("root", "nobody", "nogroup"):
        return wanted
    return "agent"


def synthesised(
    host: Host,
    *,
    user: str,
    uid: int,
    gid: int,
    home: str,
    caller_home: str,
    roots: Sequence[str],
    environment: Mapping[str, str],
    online: bool,
) -> tuple[File, ...]:
    """The files, for the identity inside. `caller_home` is where the user's own settings are."""
    shell = environment.get("SHELL", "")
    if not _SHELL.fullmatch(shell) or host.resolve(shell).kind != "file":
        shell = "/bin/sh"
    # A colon or a line break in a home directory would make another entry of the rest of it.
    listed_home = home if not set(home) & set(":\n\0") else "/tmp"
    passwd = (
        f"{user}:x:{uid}:{gid}:{user}:{listed_home}:{shell}\n"
        f"nobody:x:{NOBODY}:{NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    group = f"{user}:x:{gid}:\nnogroup:x:{NOBODY}:\n"
    texts = {
        "/etc/passwd": passwd,
        "/etc/group": group,
        "/etc/hosts": HOSTS,
        "/etc/hostname": f"{HOST_NAME}\n",
        "/etc/nsswitch.conf": NAME_SERVICES,
        "/etc/resolv.conf": RESOLVER if online else NO_RESOLVER,
        "/etc/gitconfig": git_configuration(host, caller_home, roots, environment),
    }
    return tuple(
        File(path, os.fsencode(text), READABLE, "made for the sandbox")
        for path, text in texts.items()
    )


def git_configuration(
    host: Host, home: str, roots: Sequence[str], environment: Mapping[str, str]
) -> str:
    """A system-wide git configuration: who commits, and that the project is not a stranger's.

    Of the user's own configuration it holds `user.name` and `user.email` alone. As the system's it
    gives way to a ~/.gitconfig made inside. `safe.directory` names the roots and what lies in
    them, for files whose owner is another. Source: git-config(1).
    """
    base = environment.get("XDG_CONFIG_HOME", "")
    base = base if base.startswith("/") else f"{home}/.config"
    found: dict[str, str] = {}
    for path in (f"{base}/git/config", f"{home}/.gitconfig"):
        try:
            content = host.read(path)
        except OSError:
            continue
        found |= {
            key: value
            for key, value in read_git_configuration(content or b"").items()
            if key in ("user.name", "user.email") and value
        }
    lines = []
    if found:
        lines.append("[user]")
        lines += [f"\t{key.partition('.')[2]} = {_quoted(found[key])}" for key in sorted(found)]
    lines.append("[safe]")
    for root in roots:
        lines += [f"\tdirectory = {_quoted(root)}", f"\tdirectory = {_quoted(root + '/*')}"]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


CONFIGURATION_MAX = 1 << 20
"""Bytes of the largest git configuration that is looked into."""

_SECTION = re.compile(r"\[\s*([A-Za-z0-9.-]+)(\s+\"(?:[^\"\\]|\\.)*\")?\s*\](.*)", re.ASCII)
_SETTING = re.compile(r"([A-Za-z][A-Za-z0-9-]*)\s*(?:=\s*(.*))?", re.ASCII | re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


def read_git_configuration(content: bytes) -> dict[str, str]:
    """The plain settings of a git configuration file, by lower-case "section.key".

    Sections with a subsection are passed over, includes are not followed, and a line that makes no
    sense ends the reading: what was read before it counts. The last of a repeated key wins. Values
    with control characters are left out. Source: git-config(1), "Syntax".
    """
    if len(content) > CONFIGURATION_MAX:
        return {}
    found: dict[str, str] = {}
    section = ""
    lines = iter(os.fsdecode(content).removeprefix("\ufeff").split("\n"))
    for line in lines:
        text = line.strip()
        if text.startswith("["):
            head = _SECTION.fullmatch(text)
            if head is None:
                break
            section = "" if head[2] else head[1].lower()
            text = head[3].strip()
        if not text or text[0] in "#;":
            continue
        setting = _SETTING.fullmatch(text)
        if setting is None:
            break
        value = _value(setting[2] or "", lines)
        if value is None:
            break
        if section and not any(ord(character) < 32 or ord(character) == 127 for character in value):
            found[f"{section}.{setting[1].lower()}"] = value
    return found


def _value(text: str, lines: Iterator[str]) -> str | None:
    """A value with its quotes, escapes, comments and continuation lines resolved."""
    result = ""
    kept = 0
    quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            if position == len(text):
                text, position = next(lines, ""), 0
                continue
            if text[position] not in _ESCAPES:
                return None
            result += _ESCAPES[text[position]]
            position += 1
            kept = len(result)
        elif character == '"':
            quoted = not quoted
            kept = len(result)
        elif character in "#;" and not quoted:
            break
        else:
            result += character
            if quoted or not character.isspace():
                kept = len(result)
    return None if quoted else result[:kept]
