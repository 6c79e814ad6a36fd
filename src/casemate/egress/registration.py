"""What a program that opens sandboxes and the broker say to each other. docs/protocol.md

Frames on a unix stream socket: u32 length, then JSON; descriptors travel as SCM_RIGHTS with the
first byte of their frame. The program is the user's own, and its frames are checked all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from casemate.errors import ProtocolError
from casemate.policy.endpoints import parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import Budget, Endpoint, Network, Origin, Secret

VERSION = 1
FRAME_MAX = 8 << 20


def pack(message: dict[str, Any]) -> bytes:
    """A message as a frame."""
    data = json.dumps(message, separators=(",", ":")).encode("ascii")
    return len(data).to_bytes(4, "little") + data


def network_as_json(network: Network) -> dict[str, Any]:
    """The network policy as it travels; rules as their text, with where they came from."""
    return {
        "allow": [_rule(rule.text, rule.reason, rule.origin) for rule in network.allow],
        "deny": [_rule(rule.text, rule.reason, rule.origin) for rule in network.deny],
        "total": {key: value for key, value in asdict(network.total).items() if value is not None},
        "opaque": list(network.opaque),
        "resolve": [
            _rule(_pin_text(pin.host, pin.port, pin.address, pin.to_port), "", pin.origin)
            for pin in network.resolve
        ],
    }


def network_from_json(value: dict[str, Any]) -> Network:
    """The network policy again. Raises `ProtocolError`, `PolicyError`."""
    try:
        return Network(
            allow=tuple(_endpoint(item) for item in value["allow"]),
            deny=tuple(_endpoint(item, parse_denial) for item in value["deny"]),
            total=Budget(**value["total"]),
            opaque=tuple(str(host) for host in value["opaque"]),
            resolve=tuple(
                parse_pin(item["text"], origin=Origin(*item["origin"])) for item in value["resolve"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"a registration makes no sense: {error}") from error


def secrets_from_json(value: list[dict[str, Any]]) -> tuple[Secret, ...]:
    """Which secrets belong to which hosts; never a value. Raises `ProtocolError`."""
    try:
        return tuple(
            Secret(
                name=str(item["name"]),
                to=tuple(str(host) for host in item["to"]),
                own_only=bool(item["own_only"]),
            )
            for item in value
        )
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"a registration makes no sense: {error}") from error


def _rule(text: str, reason: str, origin: Origin) -> dict[str, Any]:
    return {
        "text": text,
        "reason": reason,
        "origin": [origin.source, origin.line, origin.key],
    }


def _endpoint(item: dict[str, Any], parse: Callable[..., Endpoint] = parse_endpoint) -> Endpoint:
    origin = Origin(*item["origin"])
    return parse(item["text"], reason=str(item["reason"]), origin=origin)


def _pin_text(host: str, port: int, address: str, to_port: int) -> str:
    def place(name: str, number: int) -> str:
        return f"[{name}]:{number}" if ":" in name else f"{name}:{number}"

    return f"{place(host, port)} = {place(address, to_port)}"
