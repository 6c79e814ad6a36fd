"""Promise: HTTP/2 is held to the same rules, stream by stream, gRPC included."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.arena import Arena, attack
from tests.support.internet import Internet, naive_proxy

VALUE = "sk-proj-r4nd0mV4lueThatIsTheSecret77"

pytestmark = pytest.mark.needs("node")

SERVER = """
const http2 = require("http2"), fs = require("fs"), pem = fs.readFileSync(process.argv[1]);
const server = http2.createSecureServer({key: pem, cert: pem});
server.on("stream", (stream, headers) => {
  const path = headers[":path"];
  if (path.startsWith("/bytes/")) {
    stream.respond({":status": 200});
    stream.end(Buffer.alloc(Number(path.slice(7))));
    return;
  }
  const pieces = [];
  stream.on("data", piece => pieces.push(piece));
  stream.on("error", () => {});
  stream.on("end", () => {
    if (stream.destroyed || stream.aborted) return;
    const body = Buffer.concat(pieces);
    const seen = {path, authority: headers[":authority"], auth: headers.authorization, te: headers.te,
                  length: body.length, body: body.length < 500 ? body.toString("latin1") : ""};
    console.log(JSON.stringify(seen));
    stream.respond({":status": 200, "content-type": "application/grpc",
                    "x-reflected": headers.authorization || "none"}, {waitForTrailers: true});
    stream.on("wantTrailers", () => stream.sendTrailers({"grpc-status": "0"}));
    stream.end(JSON.stringify(seen));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""

CLIENT = """
const http2 = require("http2"), net = require("net"), tls = require("tls");
const [proxy, host, requests] = JSON.parse(process.argv[1]);
const answers = [];
const raw = net.connect(proxy[1], proxy[0], () => raw.write(`CONNECT ${host}:443 HTTP/1.1\\r\\nHost: ${host}:443\\r\\n\\r\\n`));
raw.once("data", data => {
  if (!data.includes(" 200 ")) { console.log(JSON.stringify([String(data)])); process.exit(); }
  const socket = tls.connect({socket: raw, servername: host, ALPNProtocols: ["h2"], rejectUnauthorized: proxy[0].startsWith("198.")});
  socket.on("error", error => { console.log(JSON.stringify([String(error)])); process.exit(); });
  socket.on("secureConnect", () => {
    const client = http2.connect(`https://${host}`, {createConnection: () => socket});
    client.on("error", error => { console.log(JSON.stringify([String(error)])); process.exit(); });
    let left = requests.length;
    requests.forEach(([headers, size], index) => {
      const stream = client.request(headers, {endStream: false}), pieces = [];
      const answer = answers[index] = {};
      stream.on("response", found => { answer.status = found[":status"]; answer.reflected = found["x-reflected"]; });
      stream.on("trailers", found => { answer.trailers = found["grpc-status"]; });
      stream.on("data", piece => pieces.push(piece));
      stream.on("error", error => { answer.error = String(error); });
      stream.on("close", () => {
        const body = Buffer.concat(pieces);
        answer.length = body.length;
        answer.body = body.length < 2000 ? body.toString("latin1") : "";
        if (--left === 0) { console.log(JSON.stringify(answers)); process.exit(); }
      });
      stream.end(typeof size === "string" ? size : Buffer.alloc(size));
    });
  });
});
setTimeout(() => { console.log(JSON.stringify(["timeout"])); process.exit(); }, 30000);
"""


class Server:
    """An HTTP/2 server of node, and what it was asked."""

    def __init__(self, internet: Internet, *names: str) -> None:
        leaf = internet.authority.leaf(names)
        self.process = subprocess.Popen(
            ["node", "-e", SERVER, str(leaf)], stdout=subprocess.PIPE, text=True
        )
        self.told = ""
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        internet.pins |= dict.fromkeys([f"{name}:443" for name in names], port)

    def stop(self) -> list[dict[str, str]]:
        """Ends it; what it was asked."""
        if self.process.returncode is None:
            self.process.kill()
            self.told, _ = self.process.communicate()
        return [json.loads(line) for line in self.told.splitlines()]


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Hosts on loopback, and a key in the caller's environment."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("API_KEY", VALUE)
    directory = tmp_path / "internet"
    directory.mkdir()
    made = Internet(directory)
    yield made
    made.close()


@pytest.fixture
def server(internet: Internet) -> Iterator[Server]:
    """api.example and hidden.example on one server, as behind a content network."""
    made = Server(internet, "api.example", "hidden.example")
    yield made
    made.stop()


def ask(*requests: tuple[dict[str, str], int | str]) -> list[str]:
    """The client's command line, by the proxy of the sandbox."""
    return ["node", "-e", CLIENT, json.dumps([("198.18.0.1", 3128), "api.example", requests])]


def get(path: str, **headers: str) -> tuple[dict[str, str], int]:
    """A request without a body."""
    return {":path": path, **headers}, 0


def test_grpc_passes(arena: Arena, internet: Internet, server: Server) -> None:
    """A call with a body, `te: trailers`, and a status in the trailers."""
    call = {
        ":method": "POST",
        ":path": "/svc/Do",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    answers = arena.inside(ask((call, "hello")), *internet.options("api.example POST /svc/*")).json
    assert answers[0]["status"] == 200, answers
    assert answers[0]["trailers"] == "0"
    (asked,) = server.stop()
    assert (asked["body"], asked["te"], asked["authority"]) == ("hello", "trailers", "api.example")


def test_e24_another_authority_on_the_connection(
    arena: Arena, internet: Internet, server: Server
) -> None:
    """Coalescing: the connection is to an allowed host, the request on it is for another."""
    request = ({":path": "/stolen", ":authority": "hidden.example"}, 0)
    with naive_proxy(internet, "api.example") as port:
        place = ["node", "-e", CLIENT, json.dumps([("127.0.0.1", port), "api.example", [request]])]
        bare = arena.bare(place).json
    assert bare[0]["status"] == 200
    inside = arena.inside(ask(request), *internet.options("api.example GET")).json
    assert inside[0]["status"] == 403
    assert json.loads(inside[0]["body"])["error"] == "authority"
    assert [asked["authority"] for asked in server.stop()] == ["hidden.example"]


def test_each_stream_is_judged(arena: Arena, internet: Internet, server: Server) -> None:
    """A refused stream leaves the others alone, and says what would allow it."""
    requests = [get("/ok/1"), get("/no"), get("/ok/2"), ({":method": "POST", ":path": "/ok/3"}, 3)]
    answers = arena.inside(ask(*requests), *internet.options("api.example GET /ok/*")).json
    assert [answer["status"] for answer in answers] == [200, 403, 200, 403]
    assert json.loads(answers[1]["body"])["allow"] == 'network.allow = ["api.example:443 GET /no"]'
    assert sorted(asked["path"] for asked in server.stop()) == ["/ok/1", "/ok/2"]


def test_secrets(arena: Arena, internet: Internet, server: Server) -> None:
    """Put in, taken out of what is reflected, and refused on their way out in a body."""
    options = (
        *internet.options("api.example POST"),
        *("--set", 'secrets.API_KEY.to=["api.example"]'),
    )
    (arena.project / "found").write_text(VALUE)
    script = CLIENT.replace(
        "JSON.parse(process.argv[1])",
        'JSON.parse(process.argv[1].replaceAll("@KEY@", process.env.API_KEY)'
        '.replaceAll("@VALUE@", require("fs").readFileSync("found", "latin1")))',
    )
    requests = [
        ({":method": "POST", ":path": "/a", "authorization": "Bearer @KEY@"}, "x"),
        ({":method": "POST", ":path": "/b"}, "leak: @VALUE@"),
    ]
    command = ["node", "-e", script, json.dumps([("198.18.0.1", 3128), "api.example", requests])]
    inside = arena.inside(command, *options)
    answers = inside.json
    assert VALUE not in inside.out
    assert answers[0]["reflected"].startswith("Bearer sk-proj-")
    assert json.loads(answers[1]["body"])["error"] == "secret-leak"
    assert [(asked["path"], asked["auth"]) for asked in server.stop()] == [
        ("/a", f"Bearer {VALUE}")
    ]


def test_many_streams_and_large_bodies(arena: Arena, internet: Internet, server: Server) -> None:
    """Eighty streams at once, and megabytes both ways through windows of a quarter of one."""
    requests: list[tuple[dict[str, str], int | str]] = [get(f"/ok/{n}") for n in range(80)]
    requests += [get("/bytes/5000000"), ({":method": "POST", ":path": "/up"}, 5_000_000)]
    rules = ("api.example GET,POST <=20MB",)
    answers = arena.inside(ask(*requests), *internet.options(*rules), timeout=60).json
    assert [answer.get("status") for answer in answers] == [200] * 82, answers[-3:]
    assert answers[80]["length"] == 5_000_000
    assert json.loads(answers[81]["body"])["length"] == 5_000_000


def test_budgets(arena: Arena, internet: Internet, server: Server) -> None:
    """Requests and bytes are counted as in HTTP/1.1."""
    rules = internet.options("api.example <=3req")
    answers = arena.inside(ask(*[get(f"/{n}") for n in range(5)]), *rules).json
    assert sorted(answer["status"] for answer in answers) == [200, 200, 200, 403, 403]
    rules = internet.options("api.example GET <=1MB down")
    (answer,) = arena.inside(ask(get("/bytes/3000000")), *rules).json
    assert 0 < answer["length"] < 1_000_000


@pytest.mark.parametrize("flood", ["resets", "pings", "garbage"])
def test_floods_end_the_connection(
    arena: Arena, internet: Internet, server: Server, flood: str
) -> None:
    """Streams given up as fast as they are opened, frames that ask for nothing, and bytes that are
    no frames end that connection; the next one is served."""
    options = internet.options("api.example GET")
    told = arena.inside(attack("http2_flood", flood), *options, timeout=60).json
    assert told["closed"]
    assert told["after"] == 200
