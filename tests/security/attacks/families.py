"""Makes a socket of every family, type and protocol that leads out of a network namespace or into
the kernel. Reports those that could be made."""

import json
import socket

wanted = {
    "vsock": (40, socket.SOCK_STREAM, 0),
    "packet": (17, socket.SOCK_RAW, 0x0300),
    "packet cooked": (17, socket.SOCK_DGRAM, 0x0300),
    "raw": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    "raw icmp": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "raw6": (socket.AF_INET6, socket.SOCK_RAW, 58),
    "sctp": (socket.AF_INET, socket.SOCK_STREAM, 132),
    "mptcp": (socket.AF_INET, socket.SOCK_STREAM, 262),
    "netlink audit": (16, socket.SOCK_RAW, 9),
    "netlink netfilter": (16, socket.SOCK_RAW, 12),
    "netlink uevent": (16, socket.SOCK_RAW, 15),
    "netlink sock_diag": (16, socket.SOCK_RAW, 4),
    "netlink generic": (16, socket.SOCK_RAW, 16),
    "alg": (38, socket.SOCK_SEQPACKET, 0),
    "xdp": (44, socket.SOCK_RAW, 0),
    "tipc": (30, socket.SOCK_SEQPACKET, 0),
    "bluetooth": (31, socket.SOCK_RAW, 1),
    "can": (29, socket.SOCK_RAW, 1),
    "key": (15, socket.SOCK_RAW, 2),
    "rds": (21, socket.SOCK_SEQPACKET, 0),
    "kcm": (41, socket.SOCK_DGRAM, 0),
    "qipcrtr": (42, socket.SOCK_DGRAM, 0),
    "smc": (43, socket.SOCK_STREAM, 0),
}
made = []
for name, arguments in wanted.items():
    try:
        socket.socket(*arguments).close()
        made.append(name)
    except (OSError, OverflowError):
        pass
print(json.dumps(made))
