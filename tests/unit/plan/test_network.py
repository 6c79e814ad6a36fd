"""The way out as the plan has it: ports, and where programs look for whom they trust."""

from __future__ import annotations

import pytest
from tests.support.fake_host import Entry, FakeHost, Link

from casemate.errors import PolicyError
from casemate.plan.model import Listener
from casemate.plan.network import BUNDLE, PORTS_MAX, listeners, trust, variables
from casemate.policy.endpoints import parse_endpoint
from casemate.policy.model import Network

OWN = (Listener("names-udp", 53), Listener("names", 53), Listener("proxy", 3128))


def network(*rules: str) -> Network:
    """A network of these rules."""
    return Network(allow=tuple(map(parse_endpoint, rules)))


def test_listeners() -> None:
    """Each port once, in order, beside the name server's and the proxy's; none without a rule."""
    assert listeners(Network()) == ()
    found = listeners(network("a.example", "*.b.example:8443,80,443 tls", "c.example:53,3128 tcp"))
    assert found == OWN + tuple(Listener("tcp", port) for port in (80, 443, 8443))


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (["a.example", "b.example:1-65535 tcp"], "b.example:1-65535 tcp"),
        (["a.example:8000-8099 tcp", "b.example:9000 tcp"], "b.example:9000 tcp"),
        (["a.example:8000-8099 tcp", "b.example:9000-9099 tcp"], "b.example:9000-9099 tcp"),
    ],
)
def test_too_many_ports(rules: list[str], named: str) -> None:
    """More ports than can be listened on are refused, alone or together, and the rule is named."""
    with pytest.raises(PolicyError) as caught:
        listeners(network(*rules))
    assert named in str(caught.value)


def test_as_many_ports_as_there_can_be() -> None:
    """Ports that rules have in common count once."""
    rules = [f"{name}.example:8001-{8000 + PORTS_MAX} tcp" for name in "ab"]
    assert len(listeners(network(*rules))) == len(OWN) + PORTS_MAX


DEBIAN: dict[str, Entry] = {
    "/etc/ssl/certs/ca-certificates.crt": b"",
    "/etc/ssl/certs/java/cacerts": b"",
    "/usr/bin/java": Link("/etc/alternatives/java"),
    "/etc/alternatives/java": Link("/usr/lib/jvm/java-17/bin/java"),
    "/usr/lib/jvm/java-17/bin/java": b"",
    "/usr/lib/jvm/java-17/lib/security/cacerts": Link("/etc/ssl/certs/java/cacerts"),
}
FEDORA: dict[str, Entry] = {
    "/etc/pki/tls/certs/ca-bundle.crt": Link("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": b"",
    "/etc/ssl/cert.pem": Link("/etc/pki/tls/certs/ca-bundle.crt"),
    "/etc/pki/ca-trust/extracted/java/cacerts": b"",
}
OWN_JAVA: dict[str, Entry] = {
    "/etc/ssl/cert.pem": b"",
    "/opt/jdk/lib/security/cacerts": b"",
    "/opt/old/bin/java": b"",
    "/opt/old/jre/lib/security/cacerts": b"",
    "/work/authorities.pem": b"",
}


@pytest.mark.parametrize(
    ("entries", "environment", "bundle", "covers", "stores"),
    [
        (
            DEBIAN,
            {"PATH": "relative::/usr/bin"},
            "/etc/ssl/certs/ca-certificates.crt",
            ("/etc/ssl/certs/ca-certificates.crt",),
            ("/etc/ssl/certs/java/cacerts",),
        ),
        (
            FEDORA,
            {},
            "/etc/pki/tls/certs/ca-bundle.crt",
            ("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",),
            ("/etc/pki/ca-trust/extracted/java/cacerts",),
        ),
        (
            OWN_JAVA,
            {
                "JAVA_HOME": "/opt/jdk",
                "PATH": "/opt/old/bin",
                "SSL_CERT_FILE": "/work/authorities.pem",
            },
            "/work/authorities.pem",
            ("/etc/ssl/cert.pem",),
            ("/opt/jdk/lib/security/cacerts", "/opt/old/jre/lib/security/cacerts"),
        ),
        ({}, {"PATH": "/usr/bin", "JAVA_HOME": "x"}, "", (), ()),
    ],
    ids=["Debian", "Fedora", "other places", "nothing"],
)
def test_trust(
    entries: dict[str, Entry],
    environment: dict[str, str],
    bundle: str,
    covers: tuple[str, ...],
    stores: tuple[str, ...],
) -> None:
    """Where the authorities are is found out on the host, each file once, by its real place."""
    found = trust(FakeHost(entries), environment)
    assert (found.bundle, found.target, found.covers, found.java_stores) == (
        bundle,
        BUNDLE,
        covers,
        stores,
    )


def test_variables() -> None:
    """Programs are told of the proxy where there is a network, of authorities where it needs them."""
    offered = network("a.example")
    trusted = trust(FakeHost({}), {})
    assert variables(Network(), None) == {}
    assert "SSL_CERT_FILE" not in variables(offered, None)
    found = variables(offered, trusted)
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://198.18.0.1:3128"
    assert found["NODE_EXTRA_CA_CERTS"] == found["SSL_CERT_FILE"] == BUNDLE
