"""The files of /etc that are made for the sandbox instead of shown: they would say who else uses
the machine, and where it stands. Sources: passwd(5), group(5), hosts(5), nsswitch.conf(5),
resolv.conf(5)."""

from __future__ import annotations

from casemate.plan.model import File

HOST_NAME = "casemate"
"""The name of every sandbox; the host's own is not told."""

_NSSWITCH = """\
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

_HOSTS = f"""\
127.0.0.1 localhost {HOST_NAME}
::1 localhost ip6-localhost ip6-loopback
"""

# With the network closed nothing answers there and every look-up fails at once.
_RESOLV = """\
nameserver 127.0.0.1
options timeout:1 attempts:1
"""


def system_files(
    *, uid: int, gid: int, user: str, home: str, shell: str, git: bytes
) -> tuple[File, ...]:
    """Those files, for the one user that exists inside."""
    passwd = [
        "root:x:0:0:root:/root:/usr/sbin/nologin",
        f"{user}:x:{uid}:{gid}:{user}:{home}:{shell}",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    ]
    group = ["root:x:0:", "tty:x:5:", f"{user}:x:{gid}:", "nogroup:x:65534:"]
    contents = {
        "/etc/group": _lines(group),
        "/etc/gitconfig": git,
        "/etc/hostname": f"{HOST_NAME}\n".encode(),
        "/etc/hosts": _HOSTS.encode(),
        "/etc/nsswitch.conf": _NSSWITCH.encode(),
        "/etc/passwd": _lines(passwd),
        "/etc/resolv.conf": _RESOLV.encode(),
    }
    return tuple(
        File(target, content, 0o644, "made for the sandbox") for target, content in contents.items()
    )


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
