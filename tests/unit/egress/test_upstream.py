"""Where an allowed name may lead: only to addresses that were checked, and looked up once (E25)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from casemate.egress.model import Target, UpstreamError
from casemate.egress.rules import Rules
from casemate.egress.upstream import choose, dial
from casemate.errors import RefusedError
from casemate.policy.endpoints import parse_endpoint, parse_pin
from casemate.policy.model import Network


def rules(*allow: str, resolve: tuple[str, ...] = ()) -> Rules:
    return Rules(
        Network(allow=tuple(map(parse_endpoint, allow)), resolve=tuple(map(parse_pin, resolve)))
    )


def answering(*answers: list[str]) -> tuple[Callable[[str, int], Awaitable[list[str]]], list[str]]:
    """A resolver that gives one answer after the other, and what it was asked."""
    asked: list[str] = []

    async def lookup(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    return lookup, asked


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "10.0.0.5", "::1", "fd00::1", "::ffff:127.0.0.1"]
    + ["64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "100.64.0.1", "198.18.0.1"],
)
def test_e25_an_allowed_name_that_leads_inside(address: str) -> None:
    """A naive check of the name lets it pass; the address it leads to is refused."""
    found = rules("rebound.example")
    assert found.connection(Target("rebound.example", 443))
    lookup, _ = answering([address])
    with pytest.raises(RefusedError) as caught:
        asyncio.run(choose(found, Target("rebound.example", 443), lookup))
    assert caught.value.code == "address"
    assert address in caught.value.allow


def test_e25_an_answer_that_flips() -> None:
    """A name that is public when it is checked and private when it is dialled: it is looked up
    once, and what was checked is what is dialled."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    lookup, asked = answering(["203.0.114.9", "127.0.0.1"], ["127.0.0.1"])
    target = Target("rebound.example", port)
    found = rules(f"rebound.example:{port}")
    assert asyncio.run(choose(found, target, lookup)) == [("203.0.114.9", port)]
    assert asked == ["rebound.example"]
    server.close()


def test_a_listed_address_may_be_private() -> None:
    """What a rule lists by address is reached by a name that leads there."""
    found = rules("intranet.example:443", "10.1.0.0/16:443")
    lookup, _ = answering(["10.1.2.3", "10.2.0.1"])
    assert asyncio.run(choose(found, Target("intranet.example", 443), lookup)) == [
        ("10.1.2.3", 443)
    ]


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "192.168.1.1"])
def test_the_whole_internet_is_not_the_local_network(address: str) -> None:
    """A rule for every address means the public ones: by name or by number, others are refused."""
    found = rules("0.0.0.0/0:80", "a.example:80")
    for host in (address, "a.example"):
        lookup, _ = answering([address])
        assert found.connection(Target(host, 80))
        with pytest.raises(RefusedError, match="not a public address"):
            asyncio.run(choose(found, Target(host, 80), lookup))
    listed = rules(f"{address}:80")
    assert asyncio.run(choose(listed, Target(address, 80))) == [(address, 80)]


def test_pins_and_host_services() -> None:
    """A pin is not looked up; a service of this machine is on its loopback and nowhere else."""
    found = rules("a.example", "localhost:5432", resolve=("a.example = 127.0.0.1:8443",))
    lookup, asked = answering()
    assert asyncio.run(choose(found, Target("a.example", 443), lookup)) == [("127.0.0.1", 8443)]
    local = asyncio.run(choose(found, Target("localhost", 5432), lookup))
    assert local == [("127.0.0.1", 5432), ("::1", 5432)]
    assert asked == []


def test_nobody_there() -> None:
    """A name without an address, and an address where nobody listens, are told apart from refusals."""
    lookup, _ = answering([])
    with pytest.raises(UpstreamError, match="no address"):
        asyncio.run(choose(rules("a.example"), Target("a.example", 443), lookup))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = rules("a.example", resolve=(f"a.example = 127.0.0.1:{port}",))
    with pytest.raises(UpstreamError, match="Connection refused"):
        asyncio.run(dial(found, Target("a.example", 443)))
