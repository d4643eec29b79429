"""Reads the configuration from the environment and validates it.

`__main__` passes the environment in; no other module reads it.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eudai_server.core.access import Scope, scopes_from


class ConfigError(Exception):
    """An environment variable has an invalid value.

    The message names the variable and the reason.
    """

    def __init__(self, variable: str, reason: str) -> None:
        """The message is shown to the operator."""
        super().__init__(f"{variable} {reason}")
        self.variable = variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of an operator. Names and defaults are a contract (docs/configuration.md)."""

    ollama_base_url: str = "http://127.0.0.1:11434"
    listen: str = "127.0.0.1:50051"
    # A second address for health checks only, without TLS.
    health_listen: str | None = None
    reflection: bool = True
    admin: bool = False
    load_options: bool = False
    max_running: int = 1
    max_queued: int = 4
    expect_gpu: bool = False
    # What a caller without a credential may do; None if the operator did not say.
    anonymous: frozenset[Scope] | None = None
    tokens_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    jwks_file: Path | None = None
    jwt_issuer: str = ""
    jwt_audience: str = ""
    # With it, a client must present a certificate of one of these CAs.
    tls_client_ca: Path | None = None
    registries: tuple[str, ...] = ("registry.ollama.ai",)
    first_event_timeout_s: float = 300.0
    event_timeout_s: float = 120.0
    drain_grace_s: float = 30.0
    lame_duck_s: float = 3.0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Config":
        """Read every variable; an empty variable counts as unset.

        Raises ConfigError for the first invalid one.
        """
        for variable in UNSUPPORTED:
            if env.get(variable, "") not in ("", HARMLESS.get(variable, "")):
                raise ConfigError(variable, f"is set, but {UNSUPPORTED[variable]}; unset it")
        fields: dict[str, Any] = {}
        for variable, (name, parse) in VARIABLES.items():
            text = env.get(variable, "")
            if text:
                try:
                    fields[name] = parse(text)
                except ValueError as error:
                    raise ConfigError(variable, str(error)) from None
        fields.setdefault("max_queued", QUEUED_PER_RUNNING * fields.get("max_running", 1))
        config = cls(**fields)
        _require_pair(config)
        _require_jwt_rules(config)
        _require_door(config)
        return config


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= COUNT_MAX:
            raise ValueError(f"must be a whole number between {least} and {COUNT_MAX}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError("must be a number of seconds, such as 2.5") from None
    if not math.isfinite(seconds) or not 0 <= seconds <= SECONDS_MAX:
        raise ValueError(f"must be between 0 and {SECONDS_MAX} seconds")
    return seconds


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise ValueError("must be more than 0 seconds")
    return seconds


def _base_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an http or https URL, such as http://127.0.0.1:11434")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must not contain a user, a query or a fragment")
    _ = url.port  # raises ValueError if it is not a valid port
    return text.rstrip("/")


def _registries(text: str) -> tuple[str, ...]:
    registries = tuple(part.strip().rstrip("/") for part in text.split(","))
    for registry in registries:
        host = registry.removeprefix("http://").removeprefix("https://")
        if not host or not host.isascii() or any(character in host for character in " /@"):
            raise ValueError(
                "must be hosts separated by commas, such as "
                "registry.ollama.ai,hf.co,http://localhost:5000"
            )
    return registries


def _address(text: str) -> str:
    """One address. gRPC would accept several, and other schemes, in ways that hide the host."""
    match = _ADDRESS.fullmatch(text)
    if not match or (match["port"] and int(match["port"]) > PORT_MAX):
        raise ValueError(
            "must be one host:port, such as 127.0.0.1:50051 or [::1]:50051, or unix:/path"
        )
    if match["ipv6"]:
        try:
            IPv6Address(match["ipv6"])
        except ValueError:
            raise ValueError("must have a valid IPv6 address between [ and ]") from None
    return text


def _scopes(text: str) -> frozenset[Scope]:
    return scopes_from(part.strip() for part in text.split(","))


def is_local(address: str) -> bool:
    """Whether only this machine can reach a listener on this address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # Other names may resolve to any address.
        return host == "localhost"


def _require_pair(config: Config) -> None:
    """Refuse a certificate without its key, and CAs of clients without encryption."""
    if not config.tls_cert and (config.tls_key or config.tls_client_ca):
        raise ConfigError("EUDAI_TLS_CERT", "must be set too, for TLS")
    if config.tls_cert and not config.tls_key:
        raise ConfigError("EUDAI_TLS_KEY", "must be set too, for TLS")


def _require_jwt_rules(config: Config) -> None:
    """Refuse keys without the issuer and the audience that their tokens must name."""
    named = {
        "EUDAI_JWKS_FILE": config.jwks_file,
        "EUDAI_JWT_ISSUER": config.jwt_issuer,
        "EUDAI_JWT_AUDIENCE": config.jwt_audience,
    }
    missing = [variable for variable, value in named.items() if not value]
    if 0 < len(missing) < len(named):
        raise ConfigError(missing[0], "must be set too, for JWTs")


def _require_door(config: Config) -> None:
    """Refuse to serve strangers everything because the operator has not thought of them."""
    listen = config.listen
    authenticates = config.tokens_file or config.jwks_file or config.tls_client_ca
    if not (is_local(listen) or authenticates or config.anonymous is not None):
        raise ConfigError(
            "EUDAI_LISTEN",
            f"is {listen}, which other machines can reach, but callers are not authenticated; "
            "set EUDAI_TOKENS_FILE, EUDAI_JWKS_FILE or EUDAI_TLS_CLIENT_CA, or say what anyone may "
            "do, with EUDAI_ANONYMOUS=generate,embed,models.read, or listen on 127.0.0.1",
        )


# The host may be an IPv4 address, an IPv6 address or a name.
_ADDRESS = re.compile(
    r"unix:[^\0]+|(?:\[(?P<ipv6>[0-9a-f:.]+)\]|[0-9a-z_.-]+):(?P<port>\d{1,5})",
    re.IGNORECASE | re.ASCII,
)
# One week. A longer time is a mistake, and overflows the timers of some platforms.
SECONDS_MAX = 7 * 24 * 3600
PORT_MAX = 65535
COUNT_MAX = 10_000
QUEUED_PER_RUNNING = 4

VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "OLLAMA_BASE_URL": ("ollama_base_url", _base_url),
    "EUDAI_LISTEN": ("listen", _address),
    "EUDAI_HEALTH_LISTEN": ("health_listen", _address),
    "EUDAI_ANONYMOUS": ("anonymous", _scopes),
    "EUDAI_TOKENS_FILE": ("tokens_file", Path),
    "EUDAI_JWKS_FILE": ("jwks_file", Path),
    "EUDAI_JWT_ISSUER": ("jwt_issuer", str),
    "EUDAI_JWT_AUDIENCE": ("jwt_audience", str),
    "EUDAI_TLS_CERT": ("tls_cert", Path),
    "EUDAI_TLS_KEY": ("tls_key", Path),
    "EUDAI_TLS_CLIENT_CA": ("tls_client_ca", Path),
    "EUDAI_REFLECTION": ("reflection", _switch),
    "EUDAI_ADMIN": ("admin", _switch),
    "EUDAI_LOAD_OPTIONS": ("load_options", _switch),
    "EUDAI_MAX_RUNNING": ("max_running", _count(1)),
    "EUDAI_MAX_QUEUED": ("max_queued", _count(0)),
    "EUDAI_EXPECT_GPU": ("expect_gpu", _switch),
    "EUDAI_REGISTRIES": ("registries", _registries),
    "EUDAI_FIRST_EVENT_TIMEOUT": ("first_event_timeout_s", _positive_seconds),
    "EUDAI_EVENT_TIMEOUT": ("event_timeout_s", _positive_seconds),
    "EUDAI_DRAIN_GRACE": ("drain_grace_s", _seconds),
    "EUDAI_LAME_DUCK": ("lame_duck_s", _seconds),
}

# These are refused rather than ignored, because an operator who sets one would rely on a protection
# or a limit that does not exist.
UNSUPPORTED: Mapping[str, str] = {
    "EUDAI_METRICS_LISTEN": "metrics are not supported yet",
    "EUDAI_WORKERS": "only one process is supported yet",
    "EUDAI_STRICT": "the version of Ollama is not checked yet",
}

# The defaults of some of them, which are accepted because they promise nothing.
HARMLESS: Mapping[str, str] = {"EUDAI_WORKERS": "1", "EUDAI_STRICT": "false"}
