"""Reads the configuration from the environment and validates it.

`__main__` passes the environment in; no other module reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eudai_server.config_values import (
    parse_address,
    parse_base_url,
    parse_count,
    parse_limits,
    parse_positive_seconds,
    parse_registries,
    parse_scopes,
    parse_seconds,
    parse_switch,
    parse_workloads,
)
from eudai_server.core.access import Scope
from eudai_server.core.call_limits import UNLIMITED, CallLimits
from eudai_server.rpc.access.client_certificate import WorkloadNames


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
    # The CAs to trust in place of the system's, and a bearer token, for an Ollama behind a proxy.
    ollama_ca_file: Path | None = None
    ollama_token_file: Path | None = None
    # Whether to refuse a version of Ollama that is known to be vulnerable.
    strict: bool = False
    listen: str = "127.0.0.1:50051"
    # A second address for health checks only, without TLS.
    health_listen: str | None = None
    reflection: bool = True
    admin: bool = False
    load_options: bool = False
    max_running: int = 1
    max_queued: int = 4
    # The size of an uploaded file, in GiB.
    max_upload: int = 512
    expect_gpu: bool = False
    # What a caller without a credential may do; None if the operator did not say.
    anonymous: frozenset[Scope] | None = None
    tokens_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    jwks_file: Path | None = None
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_scopes_claim: str = "scope"
    jwt_models_claim: str = "eudai_models"
    jwt_limits_claim: str = "eudai_limits"
    # Of each caller whose credential has none.
    call_limits: CallLimits = UNLIMITED
    # With it, a client must present a certificate of one of these CAs.
    tls_client_ca: Path | None = None
    # The names of which the certificate must have one; None: any.
    tls_client_names: WorkloadNames | None = None
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
        _require_encryption(config)
        _require_pair(config)
        _require_jwt_rules(config)
        _require_door(config)
        return config


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


def _require_encryption(config: Config) -> None:
    """Refuse CAs that would not be used, and a token that would cross the network in plain text."""
    url = urlsplit(config.ollama_base_url)
    if url.scheme == "https":
        return
    if config.ollama_ca_file:
        raise ConfigError("OLLAMA_CA_FILE", "needs an OLLAMA_BASE_URL that begins with https://")
    if config.ollama_token_file and not is_local(f"{url.hostname}:0"):
        raise ConfigError(
            "OLLAMA_TOKEN_FILE",
            "needs an OLLAMA_BASE_URL that begins with https://, because the token would cross "
            "the network unencrypted",
        )


def _require_pair(config: Config) -> None:
    """Refuse a certificate without its key, and CAs of clients without encryption."""
    if not config.tls_cert and (config.tls_key or config.tls_client_ca):
        raise ConfigError("EUDAI_TLS_CERT", "must be set too, for TLS")
    if config.tls_cert and not config.tls_key:
        raise ConfigError("EUDAI_TLS_KEY", "must be set too, for TLS")
    if config.tls_client_names and not config.tls_client_ca:
        raise ConfigError("EUDAI_TLS_CLIENT_CA", "must be set too, for EUDAI_TLS_CLIENT_NAMES")


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


QUEUED_PER_RUNNING = 4

VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "OLLAMA_BASE_URL": ("ollama_base_url", parse_base_url),
    "OLLAMA_CA_FILE": ("ollama_ca_file", Path),
    "OLLAMA_TOKEN_FILE": ("ollama_token_file", Path),
    "EUDAI_STRICT": ("strict", parse_switch),
    "EUDAI_LISTEN": ("listen", parse_address),
    "EUDAI_HEALTH_LISTEN": ("health_listen", parse_address),
    "EUDAI_ANONYMOUS": ("anonymous", parse_scopes),
    "EUDAI_TOKENS_FILE": ("tokens_file", Path),
    "EUDAI_JWKS_FILE": ("jwks_file", Path),
    "EUDAI_JWT_ISSUER": ("jwt_issuer", str),
    "EUDAI_JWT_AUDIENCE": ("jwt_audience", str),
    "EUDAI_JWT_SCOPES_CLAIM": ("jwt_scopes_claim", str),
    "EUDAI_JWT_MODELS_CLAIM": ("jwt_models_claim", str),
    "EUDAI_JWT_LIMITS_CLAIM": ("jwt_limits_claim", str),
    "EUDAI_CALL_LIMITS": ("call_limits", parse_limits),
    "EUDAI_TLS_CERT": ("tls_cert", Path),
    "EUDAI_TLS_KEY": ("tls_key", Path),
    "EUDAI_TLS_CLIENT_CA": ("tls_client_ca", Path),
    "EUDAI_TLS_CLIENT_NAMES": ("tls_client_names", parse_workloads),
    "EUDAI_REFLECTION": ("reflection", parse_switch),
    "EUDAI_ADMIN": ("admin", parse_switch),
    "EUDAI_LOAD_OPTIONS": ("load_options", parse_switch),
    "EUDAI_MAX_RUNNING": ("max_running", parse_count(1)),
    "EUDAI_MAX_QUEUED": ("max_queued", parse_count(0)),
    "EUDAI_MAX_UPLOAD": ("max_upload", parse_count(1)),
    "EUDAI_EXPECT_GPU": ("expect_gpu", parse_switch),
    "EUDAI_REGISTRIES": ("registries", parse_registries),
    "EUDAI_FIRST_EVENT_TIMEOUT": ("first_event_timeout_s", parse_positive_seconds),
    "EUDAI_EVENT_TIMEOUT": ("event_timeout_s", parse_positive_seconds),
    "EUDAI_DRAIN_GRACE": ("drain_grace_s", parse_seconds),
    "EUDAI_LAME_DUCK": ("lame_duck_s", parse_seconds),
}

# These are refused rather than ignored, because an operator who sets one would rely on a protection
# or a limit that does not exist.
UNSUPPORTED: Mapping[str, str] = {
    "EUDAI_METRICS_LISTEN": "metrics are not supported yet",
    "EUDAI_WORKERS": "only one process is supported yet",
}

# The defaults of some of them, which are accepted because they promise nothing.
HARMLESS: Mapping[str, str] = {"EUDAI_WORKERS": "1"}
