"""Floods an HTTP/2 connection, then sees whether another is served."""

import json
import os
import socket
import ssl
import subprocess
import sys

kind = sys.argv[1]


def frame(type_, flags, stream, payload=b""):
    return (
        len(payload).to_bytes(3, "big")
        + bytes((type_, flags))
        + stream.to_bytes(4, "big")
        + payload
    )


raw = socket.create_connection(("198.18.0.1", 3128), timeout=20)
raw.sendall(b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n")
assert b" 200 " in raw.recv(4096)
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
context.set_alpn_protocols(["h2"])
client = context.wrap_socket(raw, server_hostname="api.example")
client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
# GET https / with :authority api.example, by the static table. RFC 7541
head = bytes((0x82, 0x87, 0x84, 0x41, 11)) + b"api.example"
closed = False
try:
    for number in range(20_000):
        if kind == "resets":
            stream = 2 * number + 1
            client.sendall(frame(1, 5, stream, head) + frame(3, 0, stream, bytes(4)))
        elif kind == "pings":
            client.sendall(frame(6, 0, 0, bytes(8)))
        else:
            client.sendall(os.urandom(100))
    client.settimeout(10)
    while client.recv(65536):
        pass
    closed = True
except OSError as error:
    closed = not isinstance(error, TimeoutError)
after = subprocess.run(
    ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "https://api.example/"],
    capture_output=True,
    text=True,
    check=False,
)
print(json.dumps({"closed": closed, "after": int(after.stdout or 0)}))
