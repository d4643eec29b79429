"""A connection is checked before the first call, and keeps its secrets."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import eudai
import grpc
import pytest
from eudai.connection import Connection
from scripted_services import DEFAULTS, ScriptedServices

grpc_max_workers = 8
TOKEN = "s3cret"  # noqa: S105 - of a test


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.mark.parametrize(
    "address",
    ["nonsense", ":1", "host:", "host:0", "host:99999", "http://host:1", "a b:1", "::1:1"],
)
def test_a_wrong_address_is_named(address: str) -> None:
    with pytest.raises(eudai.ConfigError) as failure:
        Connection(address)

    assert repr(address) in str(failure.value)
    assert "write host:port" in str(failure.value)


@pytest.mark.parametrize(
    "address", ["localhost:1", "[::1]:50051", "unix:/run/eudai", "a-b.c:65535"]
)
def test_a_valid_address_is_not_changed(address: str) -> None:
    assert Connection(address).address == address


def test_the_environment_has_defaults(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    monkeypatch.delenv("EUDAI_ADDRESS", raising=False)
    assert Connection().address == "127.0.0.1:50051"
    monkeypatch.setenv("EUDAI_ADDRESS", "localhost:7")
    monkeypatch.setenv("EUDAI_TOKEN_FILE", str(token_file))

    assert Connection().address == "localhost:7"
    assert ("authorization", f"Bearer {TOKEN}") in Connection().metadata()
    monkeypatch.setenv("EUDAI_CA_FILE", "/nowhere.pem")
    with pytest.raises(eudai.ConfigError, match=r"/nowhere.pem: No such file or directory"):
        Connection()


def test_a_file_that_is_not_pem_is_named(token_file: Path) -> None:
    with pytest.raises(eudai.ConfigError, match="token: not a PEM file"):
        Connection(ca_file=token_file)
    with pytest.raises(eudai.ConfigError, match="certificate_file and key_file"):
        Connection(certificate_file=token_file)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="unknown option 'cafile'"):
        Connection(cafile="x")  # type: ignore[call-arg]


def test_a_token_never_leaves_the_machine_without_encryption(token_file: Path) -> None:
    for address in ("example.com:50051", "10.0.0.1:50051", "localhost.example.com:1"):
        with pytest.raises(eudai.ConfigError, match="without encryption") as failure:
            Connection(address, token_file=token_file)
        assert TOKEN not in str(failure.value)
    for address in ("localhost:1", "127.0.0.9:1", "[::1]:1", "unix:/run/x"):
        assert Connection(address, token=lambda: TOKEN).metadata()
    assert Connection("example.com:443", token_file=token_file, tls=True).metadata()


def test_a_token_is_read_for_each_call(
    address: str, services: ScriptedServices, token_file: Path
) -> None:
    with eudai.Client(address, token_file=token_file) as client:
        client.health()
        assert services.metadata["authorization"] == f"Bearer {TOKEN}"
        token_file.write_text("newer")
        client.health()
        assert services.metadata["authorization"] == "Bearer newer"
        token_file.write_text("two words")
        with pytest.raises(eudai.ConfigError, match="must be printable ASCII") as failure:
            client.health()
        assert "two words" not in str(failure.value)
        token_file.unlink()
        with pytest.raises(eudai.ConfigError, match="token: No such file"):
            client.health()


def test_metadata_of_the_client_and_of_the_call_arrive(
    address: str, services: ScriptedServices
) -> None:
    with eudai.Client(address, metadata={"team": "a"}) as client:
        client.generate_once("m", "hi", metadata={"x-request": "1"})

    assert services.metadata["team"] == "a"
    assert services.metadata["x-request"] == "1"
    assert services.metadata["eudai-model"] == "m"
    assert services.metadata["user-agent"].startswith(f"eudai-python/{eudai.__version__} ")


@pytest.mark.parametrize(("key", "value"), [("Team", "a"), ("x-bin", "a"), ("x", "a\nb"), ("x", 1)])
def test_wrong_metadata_is_named(client: eudai.Client, key: str, value: str) -> None:
    with pytest.raises(eudai.ConfigError, match=f"metadata.*{key}"):
        client.health(metadata={key: value})


def test_the_trace_of_the_caller_is_passed_on(
    address: str, services: ScriptedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import propagate  # noqa: PLC0415 - optional for the client

    monkeypatch.setattr(propagate, "inject", lambda carrier: carrier.update(traceparent="00-1"))
    with eudai.Client(address) as client:
        client.health()

    assert services.metadata["traceparent"] == "00-1"


@pytest.mark.parametrize(("pushback_ms", "requests"), [("1", 2), ("-1", 1)])
def test_a_call_is_repeated_where_the_server_allows_it(
    client: eudai.Client, services: ScriptedServices, pushback_ms: str, requests: int
) -> None:
    answer = DEFAULTS["Generate"]

    def full_at_first(request: Any, context: Any) -> Any:
        if len(services.requests) == 1:
            context.set_trailing_metadata([("grpc-retry-pushback-ms", pushback_ms)])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return answer(request, context)

    services.on["Generate"] = full_at_first
    with client.generate("m", "hi") as stream, contextlib.suppress(eudai.ResourceExhaustedError):
        assert stream.result().text == "Hello there!"

    assert len(services.requests) == requests


def test_the_import_is_light() -> None:
    program = (
        "import sys, eudai; eudai.__version__; "
        "print([name for name in ('grpc', 'google.protobuf', 'typing') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert shown.stdout == "[]\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and a certificate and a key for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    for name in ("server", "other"):
        output = ["-nodes", "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*new, *output, *subject], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tls_address(certificates: Path, grpc_servicer: ScriptedServices) -> Iterator[str]:
    """The address of a server that also demands a client certificate."""
    pem, key = (certificates / name for name in ("server.pem", "server.key"))
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), pem.read_bytes())], pem.read_bytes(), require_client_auth=True
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    grpc_servicer.add_to(server)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_tls_with_a_client_certificate_works(tls_address: str, certificates: Path) -> None:
    pem, key = certificates / "server.pem", certificates / "server.key"

    with eudai.Client(
        tls_address, token=lambda: TOKEN, ca_file=pem, certificate_file=pem, key_file=key
    ) as client:
        assert client.health()


def test_a_certificate_of_another_ca_is_refused(tls_address: str, certificates: Path) -> None:
    with (
        eudai.Client(tls_address, ca_file=certificates / "other.pem") as client,
        pytest.raises(eudai.UnavailableError) as failure,
    ):
        client.health(timeout_s=20)
    assert str(failure.value).startswith(
        f"the server at {tls_address} cannot be reached: its certificate is not valid: "
    )


def test_tls_with_a_server_that_has_none_is_recognized(address: str, certificates: Path) -> None:
    with (
        eudai.Client(address, ca_file=certificates / "other.pem") as client,
        pytest.raises(eudai.UnavailableError, match="it does not use TLS"),
    ):
        client.health(timeout_s=20)


def test_a_server_that_demands_tls_closes_the_connection(tls_address: str) -> None:
    with (
        eudai.Client(tls_address) as client,
        pytest.raises(eudai.UnavailableError, match="the connection was closed"),
    ):
        client.health(timeout_s=20)
