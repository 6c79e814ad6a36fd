"""The way out of a sandbox as its programs meet it: ports, variables, and whom they trust.

Without endpoints there is none of it. With them a name has an address at once (the broker's name
server makes one up), and a connection to any address and a listed port ends in the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from casemate.errors import PolicyError
from casemate.plan.host import Host
from casemate.plan.model import Listener, Trust
from casemate.policy.model import Network

SERVICE = "198.18.0.1"
"""Where the name server and the proxy are, inside. RFC 2544 keeps the network for such use."""
PROXY_PORT = 3128
NAMES_PORT = 53
PORTS_MAX = 100
"""Ports with a listener of their own. The proxy reaches any."""

BUNDLE = "/run/casemate/ca-certificates.crt"
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep their authorities: Debian, Fedora, SUSE, Alpine."""
JAVA_STORES = (
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
)
"""Where they keep those of Java programs: Debian, Fedora, SUSE."""

TRUST_VARIABLES = (
    "SSL_CERT_FILE",  # OpenSSL, Go, rustls
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
    "CODEX_CA_CERTIFICATE",
)
"""What programs look at for a file of authorities of their own."""


def listeners(network: Network) -> tuple[Listener, ...]:
    """The ports that need a listener. Raises `PolicyError` where they are too many."""
    if not network.allow:
        return ()
    ports: set[int] = set()
    for rule in network.allow:
        for low, high in rule.ports:
            few = high - low < PORTS_MAX
            ports.update(range(low, high + 1) if few else ())
            if not few or len(ports) > PORTS_MAX:
                raise PolicyError(
                    f'"{rule.text}" brings the ports to more than the {PORTS_MAX} that can be '
                    "listened on",
                    path=rule.origin.source,
                    line=rule.origin.line,
                    key=rule.origin.key,
                    hint="name the ports that are needed",
                )
    own = (
        Listener("names-udp", NAMES_PORT),
        Listener("names", NAMES_PORT),
        Listener("proxy", PROXY_PORT),
    )
    return own + tuple(Listener("tcp", port) for port in sorted(ports - {PROXY_PORT, NAMES_PORT}))


def trust(host: Host, environment: Mapping[str, str]) -> Trust:
    """Whom programs trust, and where they look for it."""
    own = environment.get("SSL_CERT_FILE", "")
    bundles = _files(host, (own, *BUNDLES) if own.startswith("/") else BUNDLES)
    covers = tuple(real for path, real in bundles.items() if path in BUNDLES)
    stores = _files(host, (*JAVA_STORES, *_java_stores(host, environment)))
    return Trust(
        next(iter(bundles), ""),
        BUNDLE,
        tuple(dict.fromkeys(covers)),
        tuple(dict.fromkeys(stores.values())),
    )


def _files(host: Host, paths: Iterable[str]) -> dict[str, str]:
    """Those that are files, and where they really are."""
    found = {path: host.resolve(path) for path in paths}
    return {path: place.real for path, place in found.items() if place.kind == "file"}


def _java_stores(host: Host, environment: Mapping[str, str]) -> Iterator[str]:
    """What the Java installations of the caller trust by themselves."""
    homes = [environment.get("JAVA_HOME", "")]
    for directory in environment.get("PATH", "").split(":"):
        if directory.startswith("/"):
            homes.append(host.resolve(f"{directory}/java").real.rpartition("/bin/")[0])
    for home in dict.fromkeys(homes):
        if home.startswith("/"):
            yield f"{home}/lib/security/cacerts"
            yield f"{home}/jre/lib/security/cacerts"


def variables(network: Network, trusted: Trust | None) -> dict[str, str]:
    """For programs that look for a proxy, and for those that look for authorities."""
    if not network.allow:
        return {}
    proxy = f"http://{SERVICE}:{PROXY_PORT}"
    found = {}
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        found[name] = found[name.upper()] = proxy
    found["no_proxy"] = found["NO_PROXY"] = "localhost,127.0.0.1,::1"
    if trusted is not None:
        found |= dict.fromkeys(TRUST_VARIABLES, trusted.target)
    return found
