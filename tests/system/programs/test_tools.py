"""Compilers, node, terminal multiplexers, watchers, servers and sockets inside."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

MAKEFILE = """
CFLAGS = -O1 -Wall
sum: main.o add.o
\t$(CC) -o $@ $^
clean:
\trm -f sum *.o
"""


@pytest.mark.needs("gcc")
def test_c_build(perimeter: Perimeter) -> None:
    """make and the C compiler build a program of two files, which runs."""
    if perimeter.run("make", "--version").returncode:
        pytest.skip("needs make")
    (perimeter.project / "Makefile").write_text(MAKEFILE)
    (perimeter.project / "add.c").write_text("int add(int a, int b) { return a + b; }\n")
    (perimeter.project / "main.c").write_text(
        "#include <stdio.h>\nint add(int, int);\n"
        'int main(void) { printf("%d\\n", add(40, 2)); return 0; }\n'
    )

    assert perimeter.script("make -s -j4; ./sum; make -s clean; ls *.o 2>/dev/null || :") == "42\n"


@pytest.mark.needs("node")
def test_node_children_and_workers(perimeter: Perimeter) -> None:
    """node starts child processes with a message channel, and worker threads."""
    (perimeter.project / "child.js").write_text(
        "process.on('message', m => { process.send(m * 2); process.disconnect(); });\n"
    )
    (perimeter.project / "main.js").write_text(
        "const { fork, execFileSync } = require('child_process');\n"
        "const { Worker } = require('worker_threads');\n"
        "console.log(execFileSync('echo', ['spawned']).toString().trim());\n"
        "const child = fork('./child.js');\n"
        "child.on('message', m => {\n"
        "  console.log('child', m);\n"
        "  new Worker(\"require('worker_threads').parentPort.postMessage(7)\", { eval: true })\n"
        "    .on('message', m => console.log('worker', m));\n"
        "});\n"
        "child.send(21);\n"
    )

    assert perimeter.output("node", "main.js") == "spawned\nchild 42\nworker 7\n"


@pytest.mark.needs("tmux")
def test_tmux(perimeter: Perimeter) -> None:
    """A detached tmux session takes keys and shows what they did."""
    seen = perimeter.script(
        "tmux -f /dev/null new-session -d -x 80 -y 24 'exec sh'; "
        "tmux send-keys 'echo $((6*7)) > done; tty > terminal' Enter; "
        "for i in $(seq 200); do [ -s terminal ] && break; sleep 0.05; done; "
        "tmux capture-pane -p | grep -c 'echo \\$((6' ; cat done terminal; tmux kill-server",
    )

    assert seen.split()[:2] == ["1", "42"]
    assert seen.split()[2].startswith("/dev/pts/")


@pytest.mark.needs("rg")
def test_ripgrep(perimeter: Perimeter) -> None:
    """ripgrep searches the project with its threads and its ignore rules, hidden files included."""
    seen = perimeter.script("rg -l --sort path 'def|API_KEY' --hidden .")

    assert seen.split() == ["./src/app.py", "./tests/test_app.py"]


def test_inotify(perimeter: Perimeter) -> None:
    """A watcher is told of files made, written and removed in the layer."""
    seen = perimeter.python(
        "import ctypes, os, struct\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "fd = libc.inotify_init1(0)\n"
        "assert libc.inotify_add_watch(fd, b'src', 0x100 | 0x8 | 0x200) > 0\n"
        "open('src/new', 'w').close(); os.unlink('src/new'); open('src/app.py', 'a').close()\n"
        "data = os.read(fd, 4096); at = 0\n"
        "while at < len(data):\n"
        "    _, mask, _, size = struct.unpack_from('iIII', data, at)\n"
        "    print(hex(mask), data[at + 16:at + 16 + size].rstrip(b'\\0').decode())\n"
        "    at += 16 + size\n"
    )

    assert seen.splitlines() == ["0x100 new", "0x8 new", "0x200 new", "0x8 app.py"]


def test_http_on_loopback(perimeter: Perimeter) -> None:
    """A server inside is reached from inside, by name, on IPv4 and where there is one on IPv6."""
    seen = perimeter.python(
        "import http.server, socket, threading, urllib.request\n"
        "class Server(http.server.ThreadingHTTPServer): pass\n"
        "server = Server(('127.0.0.1', 8080), http.server.SimpleHTTPRequestHandler)\n"
        "server.RequestHandlerClass.log_message = lambda *a: None\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "print(urllib.request.urlopen('http://localhost:8080/README.md').read().decode(), end='')\n"
        "six = socket.create_server(('::1', 8081), family=socket.AF_INET6)\n"
        "socket.create_connection(('::1', 8081)); print('six')\n"
        "server.shutdown(); server.server_close()\n"
    )

    assert seen == "# A project\nsix\n"


def test_the_same_port_in_two_sessions(perimeter: Perimeter) -> None:
    """Loopback is private: two sessions listen on one port, and neither hears the other."""
    listen = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 4000)); "
        "print('up', flush=True); sys.stdin.read(); s.setblocking(False)\n"
        "try: s.accept(); print('visited')\n"
        "except BlockingIOError: print('alone')"
    )
    pipes: dict[str, Any] = {"stdin": -1, "stdout": -1}
    both = [perimeter.popen("python3", "-c", listen, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout and process.stdout.readline() == b"up\n"

    assert [process.communicate()[0] for process in both] == [b"alone\n"] * 2


@pytest.mark.parametrize("place", ["/tmp/socket", "socket", "\\0abstract"])
def test_unix_sockets(perimeter: Perimeter, place: str) -> None:
    """Unix sockets connect two processes: in /tmp, in the project, and in the abstract space."""
    seen = perimeter.python(
        "import os, socket\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind('{place}'); s.listen()\n"
        "if os.fork():\n"
        "    c, _ = s.accept(); print(c.recv(9).decode()); os.wait()\n"
        "else:\n"
        f"    c = socket.socket(socket.AF_UNIX); c.connect('{place}'); c.send(b'hello'); os._exit(0)\n"
    )

    assert seen == "hello\n"


def test_shell_pipelines(perimeter: Perimeter) -> None:
    """find, xargs, sort, sed, awk, tar and process substitution do what they always do."""
    seen = perimeter.output(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        "find . -name '*.py' | sort | xargs -n1 basename | sed s/py/x/ | tr '\\n' ' ';"
        "tar -cf - src | tar -tf - | wc -l; diff <(echo a) <(echo a) && awk 'BEGIN{print 6*7}'",
    )

    assert seen.split() == ["app.x", "test_app.x", "2", "42"]


def test_chmod_touch_and_links(perimeter: Perimeter) -> None:
    """Modes, times, hard and symbolic links can be set on files of the project."""
    seen = perimeter.script(
        "chmod 751 README.md; touch -d @1000000000 README.md; ln README.md hard; ln -sf hard soft;"
        "stat -c '%a %Y %h' README.md; readlink soft; mv run.sh moved.sh; ./moved.sh && echo ran;"
        "mkdir -p a/b/c; mv a z; rmdir z/b/c; mv src lib; ls lib"
    )

    assert seen.split() == ["751", "1000000000", "2", "hard", "ran", "app.py"]
