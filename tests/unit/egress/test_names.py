"""Host names from inside: one spelling, and no tricks (E19, E23)."""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress.addresses import classify
from casemate.egress.model import MalformedError
from casemate.egress.names import is_address, normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM.", "api.example.com"),
        (b"xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("_acme.example.com", "_acme.example.com"),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        (b"::1", "::1"),
    ],
)
def test_plain_hosts(text: str | bytes, normal: str) -> None:
    """Names and addresses have one normal form, which is its own."""
    assert normalise(text) == normal
    assert normalise(normal) == normal


def test_e19_a_name_with_a_zero_byte() -> None:
    """A check of the suffix lets it pass, and a resolver written in C stops at the zero."""
    trick = b"attacker.example\0.allowed.example"
    assert trick.endswith(b".allowed.example")
    assert trick.split(b"\0")[0] == b"attacker.example"
    with pytest.raises(MalformedError):
        normalise(trick)


@pytest.mark.parametrize("trick", ["127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001"])
def test_e23_other_spellings_of_an_address(trick: str) -> None:
    """inet_aton(3) takes each for 127.0.0.1; here none is an address or a name."""
    assert socket.inet_aton(trick) == bytes((127, 0, 0, 1))
    with pytest.raises(MalformedError):
        normalise(trick)


def test_e23_user_information() -> None:
    """What looks like the allowed host to a person is another to a URL parser."""
    trick = "allowed.example@attacker.example"
    assert trick.startswith("allowed.example")
    assert urllib.parse.urlsplit(f"https://{trick}/").hostname == "attacker.example"
    with pytest.raises(MalformedError):
        normalise(trick)


def test_e23_other_scripts() -> None:
    """IDNA turns letters of full width into plain ones; here they are no name."""
    trick = "\uff41llowed.example"
    assert trick.encode("idna") == b"allowed.example"
    with pytest.raises(MalformedError):
        normalise(trick)
    with pytest.raises(MalformedError):
        normalise(trick.encode())


@pytest.mark.parametrize(
    "trick",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        "-a.b",
        "a-.b",
        "a b",
        "a\r\nHost: b",
        "a%2eb",
        "a/b",
        "a:80",
        "*.b",
    ]
    + ["[::1", "::1]", "[1.2.3.4]", "::ffff:127.0.0.1", "fe80::1%lo", "1.2.3.4.", "256.1.1.1"]
    + ["xn--\udcff", "xn--abc-", "xn--", "a" * 64 + ".b", "a." * 127 + "b"],
)
def test_what_is_no_host(trick: str) -> None:
    """Everything else is refused, or is the plain name without the dot at its end."""
    if trick == "a.":
        assert normalise(trick) == "a"
        return
    with pytest.raises(MalformedError):
        normalise(trick)


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_text(text: str | bytes) -> None:
    """Whatever comes is refused or normal: lower-case ASCII, and the same when read again."""
    try:
        found = normalise(text)
    except MalformedError:
        return
    assert found.isascii()
    assert found == found.lower() == normalise(found)


@given(st.ip_addresses())
def test_any_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """An address in its usual spelling is one, and public ones are what the registries say."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return
    found = normalise(str(address))
    assert found == str(address)
    assert is_address(found)
    if classify(found) == "public":
        assert address.is_global


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "shared"),
        ("169.254.169.254", "metadata"),
        ("169.254.1.1", "link-local"),
        ("fd00:ec2::254", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("198.18.0.1", "benchmark"),
        ("fe80::1", "link-local"),
        ("fd12::1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", "mapped"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("64:ff9b::808:808", "nat64"),
        ("2002:7f00:1::", "loopback"),
        ("2002:808:808::", "6to4"),
        ("2001:0:0:0:0:0:80ff:fffe", "loopback"),
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
    ],
)
def test_e25_addresses_that_are_not_public(address: str, kind: str) -> None:
    """Loopback, private, metadata and every way to write them inside of an IPv6 address."""
    assert classify(address) == kind
