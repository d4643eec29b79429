"""How to reach a server: address, TLS, token, metadata and timeouts, checked once for both clients.

The environment gives the defaults: EUDAI_ADDRESS, EUDAI_CA_FILE and EUDAI_TOKEN_FILE.
"""

import contextlib
import ipaddress
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

import grpc

import eudai
from eudai.channel import CHANNEL_OPTIONS
from eudai.errors import ConfigError

DEFAULT_ADDRESS = "127.0.0.1:50051"
TIMEOUT_S = 600.0
TRANSFER_TIMEOUT_S = 86_400.0
TOKEN_BYTES_MAX = 16 << 10

Metadata = Mapping[str, str]
FilePath = str | os.PathLike[str]

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class ConnectionOptions(TypedDict, total=False):
    """The options of `Client` and `AsyncClient`.

    - tls: whether to use TLS. By default, if a CA or a certificate is given.
    - ca_file: the CAs that may sign the server's certificate, as a PEM file. By default the file
      that EUDAI_CA_FILE names; with TLS but without a file, the public CAs.
    - certificate_file, key_file: the client's certificate and its key, as PEM files.
    - token_file: a file with a bearer token, which is read for each call. By default the file that
      EUDAI_TOKEN_FILE names.
    - token: a function that returns a bearer token; it is called for each call and must not block.
      A token is sent only over TLS, or to a loopback address.
    - metadata: metadata of every call.
    - timeout_s: the timeout of every call that has none of its own, by default 600. Transfers of
      models have 86,400.

    >>> options: eudai.ConnectionOptions = {"timeout_s": 30, "metadata": {"team": "search"}}
    >>> with eudai.Client(address, **options) as client:
    ...     client.health()
    True
    """

    tls: bool
    ca_file: FilePath
    certificate_file: FilePath
    key_file: FilePath
    token_file: FilePath
    token: Callable[[], str]
    metadata: Metadata
    timeout_s: float


class Connection:
    """The checked options of a client. Raises ConfigError if one of them is wrong."""

    def __init__(self, address: str | None = None, **options: Unpack[ConnectionOptions]) -> None:
        """`address` is host:port or unix:path; by default EUDAI_ADDRESS, or 127.0.0.1:50051."""
        unknown = set(options) - ConnectionOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown option {min(unknown)!r}")
        self.address = _checked_address(
            address or os.environ.get("EUDAI_ADDRESS") or DEFAULT_ADDRESS
        )
        self.timeout_s = _timeout_from(options, TIMEOUT_S)
        ca_file = options.get("ca_file") or os.environ.get("EUDAI_CA_FILE")
        pair = options.get("certificate_file"), options.get("key_file")
        if bool(pair[0]) != bool(pair[1]):
            raise ConfigError("certificate_file and key_file must be set together")
        tls = options.get("tls")
        self.tls = bool(ca_file or pair[0]) if tls is None else tls
        self._pem = [_pem(path) for path in (ca_file, pair[1], pair[0])] if self.tls else []
        self._metadata = metadata_from(options.get("metadata"))
        self._token_file = options.get("token_file") or os.environ.get("EUDAI_TOKEN_FILE")
        self._token = options.get("token")
        if (self._token or self._token_file) and not self.tls and not _is_loopback(self.address):
            raise ConfigError(
                f"the token would be sent to {self.address} without encryption: "
                "set ca_file (EUDAI_CA_FILE) or tls=True"
            )

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """The credentials of the channel; None without TLS."""
        if not self.tls:
            return None
        root, key, chain = self._pem
        return grpc.ssl_channel_credentials(root, key, chain)

    @property
    def channel_options(self) -> tuple[tuple[str, str | int], ...]:
        """The options of the channel."""
        return (
            *CHANNEL_OPTIONS,
            ("grpc.primary_user_agent", f"eudai-python/{eudai.__version__}"),
        )

    def call_arguments(
        self, options: Mapping[str, Any], model: str = "", timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The arguments of a gRPC call. `timeout_s` is the timeout if the options have none."""
        return {
            "timeout": self.timeout_of(options, timeout_s),
            "metadata": self.metadata(options.get("metadata"), model, options.get("request_id")),
        }

    def timeout_of(self, options: Mapping[str, Any], timeout_s: float | None = None) -> float:
        """The timeout of a call in seconds; `timeout_s` if the options have none."""
        return _timeout_from(options, timeout_s or self.timeout_s)

    def metadata(
        self, extra: Metadata | None = None, model: str = "", request_id: str | None = None
    ) -> list[tuple[str, str]]:
        """The metadata of one call. `model` lets a proxy route by model."""
        pairs = [*self._metadata, *metadata_from(extra)]
        if request_id:
            pairs += metadata_from({"eudai-request-id": request_id})
        if model and _TOKEN.fullmatch(model):
            pairs.append(("eudai-model", model))
        if token := self._read_token():
            pairs.append(("authorization", f"Bearer {token}"))
        return [*pairs, *_trace_context().items()]

    def _read_token(self) -> str:
        if self._token:
            source, token = "token", self._token()
        elif self._token_file:
            source, token = f"token file {self._token_file}", ""
            try:
                with open(self._token_file, "rb") as file:  # noqa: PTH123 - also file descriptors
                    token = file.read(TOKEN_BYTES_MAX).decode("ascii", "replace").strip()
            except OSError as error:
                raise ConfigError(f"{source}: {error.strerror}") from error
        else:
            return ""
        if not _TOKEN.fullmatch(token):
            raise ConfigError(f"{source}: must be printable ASCII without spaces")
        return token


def metadata_from(metadata: Metadata | None) -> list[tuple[str, str]]:
    """Metadata as gRPC takes it. Raises ConfigError if a key or a value is not allowed."""
    pairs = list((metadata or {}).items())
    for key, value in pairs:
        if not _METADATA_KEY.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
            raise ConfigError(
                f"metadata key {key!r}: use lower-case letters, digits, '_', '-' and '.', "
                "and neither the prefix grpc- nor the suffix -bin"
            )
        if not isinstance(value, str) or not _METADATA_VALUE.fullmatch(value):
            raise ConfigError(f"metadata {key}: the value must be printable ASCII")
    return pairs


def _checked_address(address: str) -> str:
    if "://" in address:
        raise ConfigError(f"address {address!r} is a URL: write host:port")
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    match = _HOST_PORT.fullmatch(address)
    if not match or not 0 < int(match[2]) <= 65535:  # noqa: PLR2004 - the largest port
        raise ConfigError(f"address {address!r}: write host:port, for example {DEFAULT_ADDRESS}")
    return address


def _timeout_from(options: Mapping[str, Any], default_s: float) -> float:
    """The option `timeout_s`; None means the default."""
    timeout_s = options.get("timeout_s")
    if timeout_s is None:
        return default_s
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
        raise ConfigError(f"timeout_s must be a number of seconds above 0, not {timeout_s!r}")
    return timeout_s


def _is_loopback(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(path: FilePath | None) -> bytes | None:
    """The contents of a PEM file."""
    if not path:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if b"-----BEGIN " not in data:
        raise ConfigError(f"{path}: not a PEM file")
    return data


def _trace_context() -> dict[str, str]:
    """The current trace as metadata. Only a program that has imported OpenTelemetry has one."""
    carrier: dict[str, str] = {}
    if "opentelemetry" in sys.modules:
        with contextlib.suppress(ImportError):
            from opentelemetry import propagate  # noqa: PLC0415 - optional

            propagate.inject(carrier)
    return carrier
