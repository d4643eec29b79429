"""The configuration: environment variables, their defaults, and errors that name the variable."""

from pathlib import Path

import pytest
from eudai_server.config import HARMLESS, UNSUPPORTED, VARIABLES, Config, ConfigError
from eudai_server.core.access import Scope
from eudai_server.core.call_limits import CallLimits
from eudai_server.rpc.access.client_certificate import WorkloadNames

BAD = [
    ("OLLAMA_BASE_URL", "localhost:11434"),
    ("OLLAMA_BASE_URL", "ftp://host"),
    ("OLLAMA_BASE_URL", "http://user:secret@host"),
    ("OLLAMA_BASE_URL", "http://host:99999"),
    ("OLLAMA_BASE_URL", "http://host/?x=1"),
    ("EUDAI_LISTEN", "50051"),
    ("EUDAI_LISTEN", "127.0.0.1:port"),
    ("EUDAI_LISTEN", "127.0.0.1:70000"),
    ("EUDAI_LISTEN", "ipv4:127.0.0.1:1,0.0.0.0:50051"),
    ("EUDAI_LISTEN", "127.0.0.1:1,0.0.0.0:50051"),
    ("EUDAI_LISTEN", "dns:///localhost:50051"),
    ("EUDAI_LISTEN", "[fe80::1%25eth0]:50051"),
    ("EUDAI_LISTEN", "[::g]:50051"),
    ("EUDAI_LISTEN", "unix:"),
    ("EUDAI_ANONYMOUS", "everything"),
    ("EUDAI_ANONYMOUS", "generate,,embed"),
    ("OLLAMA_BASE_URL", "http://:secret@host"),
    ("EUDAI_REFLECTION", "yes"),
    ("EUDAI_ADMIN", "1"),
    ("EUDAI_LOAD_OPTIONS", "TRUE"),
    ("EUDAI_MAX_RUNNING", "0"),
    ("EUDAI_MAX_RUNNING", "many"),
    ("EUDAI_MAX_QUEUED", "-1"),
    ("EUDAI_MAX_QUEUED", "1000000"),
    ("EUDAI_REGISTRIES", "a,,b"),
    ("EUDAI_REGISTRIES", "user@host"),
    ("EUDAI_FIRST_EVENT_TIMEOUT", "0"),
    ("EUDAI_EVENT_TIMEOUT", "-1"),
    ("EUDAI_DRAIN_GRACE", "30s"),
    ("EUDAI_LAME_DUCK", "inf"),
    ("EUDAI_LAME_DUCK", "nan"),
    ("EUDAI_DRAIN_GRACE", "1e9"),
    ("EUDAI_STRICT", "yes"),
    ("EUDAI_CALL_LIMITS", "calls=1"),
    ("EUDAI_CALL_LIMITS", "calls_at_once"),
    ("EUDAI_CALL_LIMITS", "calls_at_once=0"),
    ("EUDAI_CALL_LIMITS", "calls_at_once=²"),
    ("EUDAI_MAX_UPLOAD", "0"),
    ("EUDAI_TLS_CLIENT_NAMES", "a,,b"),
    ("EUDAI_TLS_CLIENT_NAMES", "*"),
    ("EUDAI_TLS_CLIENT_NAMES", "*.example.org"),
    ("EUDAI_TLS_CLIENT_NAMES", "spiffe://*"),
    ("EUDAI_TLS_CLIENT_NAMES", "spiffe://example.org/ns*"),
    ("EUDAI_TLS_CLIENT_NAMES", "spiffe://example.org/../*"),
]


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_bad_value_names_the_variable_and_the_reason(variable: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.from_env({variable: text})

    assert str(error.value).startswith(f"{variable} must ") or "port" in str(error.value).lower()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:1",
        "[::]:1",
        "192.0.2.1:1",
        "eudai.internal:1",
        "0:1",
        "127.1:1",
        "localhost.evil:1",
    ],
)
def test_an_address_that_others_can_reach_needs_a_decision(address: str) -> None:
    with pytest.raises(ConfigError, match="EUDAI_ANONYMOUS=") as error:
        Config.from_env({"EUDAI_LISTEN": address})

    assert str(error.value).startswith(f"EUDAI_LISTEN is {address}, which other machines can reach")
    assert Config.from_env({"EUDAI_LISTEN": address, "EUDAI_TOKENS_FILE": "/tokens"})
    decided = Config.from_env({"EUDAI_LISTEN": address, "EUDAI_ANONYMOUS": "generate, embed"})
    assert decided.anonymous == frozenset({Scope.GENERATE, Scope.EMBED})


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/run/eudai.sock"]
)
def test_an_address_of_this_machine_only_needs_none(address: str) -> None:
    assert Config.from_env({"EUDAI_LISTEN": address}).anonymous is None


@pytest.mark.parametrize("missing", ["EUDAI_JWKS_FILE", "EUDAI_JWT_ISSUER", "EUDAI_JWT_AUDIENCE"])
def test_jwts_need_keys_an_issuer_and_an_audience(missing: str) -> None:
    env = dict.fromkeys(("EUDAI_JWKS_FILE", "EUDAI_JWT_ISSUER", "EUDAI_JWT_AUDIENCE"), "x")
    assert Config.from_env(env).jwt_issuer == "x"

    with pytest.raises(ConfigError, match=f"^{missing} must be set"):
        Config.from_env(env | {missing: ""})


@pytest.mark.parametrize("variable", UNSUPPORTED)
def test_an_unsupported_protection_is_refused(variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        Config.from_env({variable: "/some/file"})


def test_unsupported_variables_accept_their_defaults() -> None:
    assert Config.from_env(HARMLESS) == Config()


def test_unset_and_empty_variables_have_defaults() -> None:
    assert Config.from_env({}) == Config() == Config.from_env(dict.fromkeys(VARIABLES, ""))


def test_the_queue_holds_four_times_as_many_as_may_run() -> None:
    assert Config.from_env({"EUDAI_MAX_RUNNING": "3"}).max_queued == 12


EVERY = {
    "OLLAMA_CA_FILE": "/etc/eudai/ollama-ca.crt",
    "OLLAMA_TOKEN_FILE": "/etc/eudai/ollama-token",
    "EUDAI_STRICT": "true",
    "OLLAMA_BASE_URL": "https://ollama.internal:8443/base/",
    "EUDAI_LISTEN": "[::]:50051",
    "EUDAI_ANONYMOUS": "models.read",
    "EUDAI_HEALTH_LISTEN": "0.0.0.0:50052",
    "EUDAI_TOKENS_FILE": "/etc/eudai/tokens.json",
    "EUDAI_JWKS_FILE": "/etc/eudai/jwks.json",
    "EUDAI_JWT_ISSUER": "https://issuer.example",
    "EUDAI_JWT_AUDIENCE": "eudai",
    "EUDAI_JWT_SCOPES_CLAIM": "rights",
    "EUDAI_JWT_MODELS_CLAIM": "models",
    "EUDAI_JWT_LIMITS_CLAIM": "limits",
    "EUDAI_CALL_LIMITS": "calls_at_once=4, call_seconds=60",
    "EUDAI_TLS_CLIENT_NAMES": "build.example.org, spiffe://example.org/ns/*",
    "EUDAI_MAX_UPLOAD": "20",
    "EUDAI_TLS_CERT": "/etc/eudai/tls.crt",
    "EUDAI_TLS_KEY": "/etc/eudai/tls.key",
    "EUDAI_TLS_CLIENT_CA": "/etc/eudai/ca.crt",
    "EUDAI_REFLECTION": "false",
    "EUDAI_ADMIN": "true",
    "EUDAI_LOAD_OPTIONS": "true",
    "EUDAI_MAX_RUNNING": "2",
    "EUDAI_MAX_QUEUED": "0",
    "EUDAI_REGISTRIES": "hf.co, http://localhost:5000/",
    "EUDAI_FIRST_EVENT_TIMEOUT": "2.5",
    "EUDAI_EVENT_TIMEOUT": "3",
    "EUDAI_DRAIN_GRACE": "0",
    "EUDAI_LAME_DUCK": "0.5",
}


def test_every_variable_is_read() -> None:
    assert Config.from_env(EVERY) == Config(
        ollama_base_url="https://ollama.internal:8443/base",
        ollama_ca_file=Path("/etc/eudai/ollama-ca.crt"),
        ollama_token_file=Path("/etc/eudai/ollama-token"),
        strict=True,
        listen="[::]:50051",
        anonymous=frozenset({Scope.MODELS_READ}),
        health_listen="0.0.0.0:50052",
        tokens_file=Path("/etc/eudai/tokens.json"),
        jwks_file=Path("/etc/eudai/jwks.json"),
        jwt_issuer="https://issuer.example",
        jwt_audience="eudai",
        jwt_scopes_claim="rights",
        jwt_models_claim="models",
        jwt_limits_claim="limits",
        call_limits=CallLimits(calls_at_once=4, call_seconds=60),
        tls_client_names=WorkloadNames(("build.example.org", "spiffe://example.org/ns/*")),
        max_upload=20,
        tls_cert=Path("/etc/eudai/tls.crt"),
        tls_key=Path("/etc/eudai/tls.key"),
        tls_client_ca=Path("/etc/eudai/ca.crt"),
        reflection=False,
        admin=True,
        load_options=True,
        max_running=2,
        max_queued=0,
        registries=("hf.co", "http://localhost:5000"),
        first_event_timeout_s=2.5,
        event_timeout_s=3.0,
        drain_grace_s=0.0,
        lame_duck_s=0.5,
    )


@pytest.mark.parametrize(
    ("url", "variable", "is_valid"),
    [
        ("http://127.0.0.1:11434", "OLLAMA_TOKEN_FILE", True),
        ("http://localhost:11434", "OLLAMA_TOKEN_FILE", True),
        ("http://ollama:11434", "OLLAMA_TOKEN_FILE", False),
        ("https://ollama:11434", "OLLAMA_TOKEN_FILE", True),
        ("http://127.0.0.1:11434", "OLLAMA_CA_FILE", False),
        ("https://ollama:11434", "OLLAMA_CA_FILE", True),
    ],
)
def test_a_token_for_ollama_is_not_sent_in_plain_text(
    url: str, variable: str, *, is_valid: bool
) -> None:
    env = {"OLLAMA_BASE_URL": url, variable: "/file"}
    if is_valid:
        assert Config.from_env(env)
    else:
        with pytest.raises(ConfigError, match=f"^{variable} needs an OLLAMA_BASE_URL"):
            Config.from_env(env)


@pytest.mark.parametrize(
    ("env", "variable"),
    [
        ({"EUDAI_TLS_CERT": "/c"}, "EUDAI_TLS_KEY"),
        ({"EUDAI_TLS_KEY": "/k"}, "EUDAI_TLS_CERT"),
        ({"EUDAI_TLS_CLIENT_CA": "/a"}, "EUDAI_TLS_CERT"),
        ({"EUDAI_TLS_CLIENT_NAMES": "a"}, "EUDAI_TLS_CLIENT_CA"),
    ],
)
def test_tls_settings_must_be_complete(env: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable} must be set"):
        Config.from_env(env)
