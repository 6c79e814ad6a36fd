"""The certificate authority of one session: made with it, gone with it, its key never on a disk.

It vouches to the programs of one sandbox for the broker, where a rule needs the broker to see
requests. No other sandbox and nothing on the host trusts it. Source: RFC 5280.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections import OrderedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from casemate.egress.names import is_address

CONTEXTS_MAX = 256
_BEFORE = datetime.timedelta(days=1)
_AFTER = datetime.timedelta(days=30)


class Authority:
    """Signs a certificate for each name that is asked for."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # One key for all leaves: making one costs more than signing a certificate, and all of them
        # are used by this process alone.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"casemate session {os.urandom(4).hex()}")]
        )
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            identifier
        )
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        self._contexts: OrderedDict[tuple[str, tuple[str, ...]], ssl.SSLContext] = OrderedDict()

    def context(self, name: str, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """What a server of this name needs for a handshake that ends in one of `protocols`."""
        key = (name, protocols)
        found = self._contexts.get(key)
        if found is None:
            found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            found.minimum_version = ssl.TLSVersion.TLSv1_2
            self._load(found, name)
            found.set_alpn_protocols(list(protocols))
            self._contexts[key] = found
            if len(self._contexts) > CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(key)
        return found

    def server(self, name: str) -> bytes:
        """Key and certificate of a server of this name, in PEM."""
        private = self._leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return private + self._leaf(name)

    def _load(self, context: ssl.SSLContext, name: str) -> None:
        # OpenSSL reads keys from files alone: this one is memory.
        memory = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            os.write(memory, self.server(name))
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)

    def _leaf(self, name: str) -> bytes:
        alternative: x509.GeneralName = x509.DNSName(name)
        if is_address(name):
            alternative = x509.IPAddress(ipaddress.ip_address(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        public = self._leaf_key.public_key()
        certificate = (
            self._builder(subject, public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(self._issuer_identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            # A clock inside that is a little off must not matter.
            .not_valid_before(now - _BEFORE)
            .not_valid_after(now + _AFTER)
        )
