"""A certificate authority that lives as long as a test, and the certificates that it gives to servers."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_A_DAY = datetime.timedelta(days=1)


class Authority:
    """An authority that nobody knows who was not given its certificate.

    :ivar bundle: its certificate in PEM, as ``ca_cert`` wants it
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(f"authority {name}")
        builder = _certificate(self._subject, self._subject, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.bundle = directory / f"{name}.pem"
        self.bundle.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def certified(self, host: str, *, expired: bool = False) -> ssl.SSLContext:
        """What a server needs that shows itself as ``host``, which is an address or a name.

        :param expired: whether the certificate was good until yesterday
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate(self._subject, _named(host), key.public_key(), expired=expired)
        names = x509.SubjectAlternativeName([_alternative(host)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        signed = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
        chain = self._directory / f"{self._name}-{host}-{'expired' if expired else 'valid'}.pem"
        private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        chain.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, *private)
            + signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context


def _certificate(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _A_DAY)
        .not_valid_after(now - _A_DAY if expired else now + _A_DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
