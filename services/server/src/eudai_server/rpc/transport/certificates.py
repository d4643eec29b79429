"""The server's certificate and the CAs of its clients, read again when their files change.

gRPC asks for them at each handshake, on a thread of its own. So the files are read and checked
elsewhere, and gRPC gets a ready object. A pair that is not valid, such as a key that is half
written or belongs to another certificate, is never used: the server keeps the one it has.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

INTERVAL_S = 1.0
FILE_BYTES_MAX = 1 << 20
WARNING_TIME = timedelta(days=7)

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A file is not valid. The message says what to change, and contains no key."""

    def __init__(self, kind: str, reason: str) -> None:
        """`kind` is the field of CertificateFiles that names the file."""
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the certificate and its chain, its key, and the CAs of clients, if any."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class _Contents:
    cert: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """Valid certificates, as they were when the files were last valid."""

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files. Raises CertificateError."""
        self._files = files
        self._contents = _read_all(files)
        self._expires = _checked(self._contents)
        self._configuration = _configuration_of(self._contents)
        self._served: Any = self._configuration

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server that always uses the newest certificates.

        If there are CAs of clients, a client must present a certificate.
        """
        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,
            require_client_authentication=self._files.client_ca is not None,
        )
        return credentials

    async def watch(self) -> None:
        """Read the files every second, until cancelled."""
        complaint = ""
        warned = datetime.min.replace(tzinfo=UTC)
        while True:
            try:
                if await asyncio.to_thread(self._read_again):
                    fields = {"expires": self._expires.isoformat()}
                    log.info("the certificates were read again", extra={"fields": fields})
                complaint = ""
            except CertificateError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("the new certificates are not used: the %s %s", error.kind, error)
            now = datetime.now(UTC)
            if self._expires - now < WARNING_TIME and now - warned > timedelta(days=1):
                warned = now
                log.warning("the certificate expires at %s", self._expires.isoformat())
            await asyncio.sleep(INTERVAL_S)

    def _read_again(self) -> bool:
        contents = _read_all(self._files)
        if contents == self._contents:
            return False
        expires = _checked(contents)
        self._configuration = _configuration_of(contents)
        self._contents, self._expires = contents, expires
        return True

    def _fetch(self) -> Any:
        """The new configuration, or None if gRPC has it already."""
        if self._configuration is self._served:
            return None
        self._served = self._configuration
        return self._served


def _read_all(files: CertificateFiles) -> _Contents:
    return _Contents(
        _read_file("cert", files.cert),
        _read_file("key", files.key),
        _read_file("client_ca", files.client_ca) if files.client_ca else None,
    )


def _read_file(kind: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateError(kind, f"cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise CertificateError(kind, f"is larger than {FILE_BYTES_MAX} bytes")
    return data


def _checked(contents: _Contents) -> datetime:
    """When the certificate expires. Raises CertificateError if anything is not valid."""
    leaf = _parsed("cert", x509.load_pem_x509_certificates, contents.cert)[0]
    key = _parsed("key", lambda data: serialization.load_pem_private_key(data, None), contents.key)
    if key.public_key() != leaf.public_key():
        raise CertificateError("key", "does not belong to the certificate")
    now = datetime.now(UTC)
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise CertificateError(
            "cert",
            f"is valid only from {leaf.not_valid_before_utc.isoformat()} "
            f"to {leaf.not_valid_after_utc.isoformat()}",
        )
    if contents.client_ca is not None:
        _parsed("client_ca", x509.load_pem_x509_certificates, contents.client_ca)
    expires: datetime = leaf.not_valid_after_utc
    return expires


def _parsed(kind: str, parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(kind, "is not a valid PEM file, or is encrypted") from None


def _configuration_of(contents: _Contents) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.cert)], root_certificates=contents.client_ca
    )
