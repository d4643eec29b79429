"""TLS and client certificates: rotation under load, files that are not valid, and names."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import DAY, Authority, Pair
from cryptography import x509
from eudai.v1 import server_service_pb2 as pb, server_service_pb2_grpc as rpc
from eudai_server.app import App
from eudai_server.config import ConfigError
from eudai_server.core.access import Scope
from eudai_server.rpc.access.client_certificate import WorkloadNames
from eudai_server.rpc.access.tokens import data_from, entry_for, new_token
from eudai_server.rpc.transport import certificates
from grpc_health.v1 import health_pb2, health_pb2_grpc
from load import under_load
from processes import free_port
from serving import config_for

pytestmark = pytest.mark.slow

INFO = pb.GetServerInfoRequest()
ROTATIONS = 50


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers read their certificates often."""
    monkeypatch.setattr(certificates, "INTERVAL_S", 0.01)


@pytest.fixture
def authority() -> Authority:
    """The CA of the server and of its clients."""
    return Authority()


class Files:
    """The files of a server's certificates, which a test changes."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.client_ca = (
            folder / name for name in ("tls.crt", "tls.key", "ca.crt")
        )

    def write(self, pair: Pair) -> None:
        """Write a certificate and its key, one after the other."""
        self.cert.write_bytes(pair.cert)
        self.key.write_bytes(pair.key)


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    """A valid pair, and the CA."""
    written = Files(tmp_path)
    written.write(authority.issue())
    written.client_ca.write_bytes(authority.pem)
    return written


@asynccontextmanager
async def secured(files: Files, *, client_ca: bool = False, **changes: Any) -> AsyncIterator[int]:
    """A server with TLS, without an Ollama; yields its port."""
    config = config_for(
        "http://127.0.0.1:9",
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca if client_ca else None,
        **changes,
    )
    app = App(config)
    port = await app.start()
    try:
        yield port
    finally:
        await app.drain()


async def info(
    port: int, ca: bytes, pair: Pair | None = None, metadata: Any = ()
) -> pb.GetServerInfoResponse:
    """Call the server on a connection of its own."""
    credentials = grpc.ssl_channel_credentials(ca, *((pair.key, pair.cert) if pair else ()))
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        stub = rpc.ServerServiceStub(channel)
        answer: pb.GetServerInfoResponse = await stub.GetServerInfo(
            INFO, metadata=metadata, timeout=5
        )
        return answer


def served_serial(port: int, ca: bytes, version: ssl.TLSVersion | None = None) -> int:
    """The serial number of the certificate that a new handshake gets."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.set_alpn_protocols(["h2"])
    if version:
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        socket.create_connection(("localhost", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        certificate: Any = connection.getpeercert()
        return int(certificate["serialNumber"], 16)


def serial_of(pair: Pair) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(pair.cert).serial_number


async def until_served(port: int, ca: bytes, pair: Pair) -> None:
    """Wait until new handshakes get a certificate."""
    async with asyncio.timeout(5):
        while await asyncio.to_thread(served_serial, port, ca) != serial_of(pair):
            await asyncio.sleep(0.005)


async def test_calls_are_encrypted(files: Files, authority: Authority) -> None:
    async with secured(files) as port:
        answer = await info(port, authority.pem)
        with pytest.raises(grpc.aio.AioRpcError) as plain:
            async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
                await rpc.ServerServiceStub(channel).GetServerInfo(INFO, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as foreign:
            await info(port, Authority().pem)

    assert answer.version
    assert plain.value.code() == foreign.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_old_versions_of_tls_are_refused(
    files: Files, authority: Authority, version: ssl.TLSVersion
) -> None:
    async with secured(files) as port:
        new = await asyncio.to_thread(served_serial, port, authority.pem, ssl.TLSVersion.TLSv1_2)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(served_serial, port, authority.pem, version)

    assert new


async def is_answered(port: int, ca: bytes, pair: Pair | None = None) -> bool:
    """Whether a call on a new connection is answered."""
    try:
        await info(port, ca, pair)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_rotations_under_load_fail_no_call(files: Files, authority: Authority) -> None:
    async with (
        secured(files) as port,
        under_load(*[partial(is_answered, port, authority.pem)] * 2) as outcomes,
    ):
        for _ in range(ROTATIONS):
            pair = authority.issue()
            files.write(pair)
            await until_served(port, authority.pem, pair)

    assert outcomes[False] == 0
    assert outcomes[True] >= ROTATIONS


async def test_rotations_of_client_cas_under_load_fail_no_call(
    files: Files, authority: Authority
) -> None:
    client = authority.issue(dns=["client"])
    async with (
        secured(files, client_ca=True) as port,
        under_load(*[partial(is_answered, port, authority.pem, client)] * 2) as outcomes,
        asyncio.timeout(60),
    ):
        for _ in range(ROTATIONS):
            new = Authority()
            files.client_ca.write_bytes(authority.pem + new.pem)
            while not await is_answered(port, authority.pem, new.issue()):
                await asyncio.sleep(0.005)

    assert outcomes[False] == 0
    assert outcomes[True] >= ROTATIONS


BROKEN: dict[str, Callable[[Files, Authority], object]] = {
    "half a key": lambda files, _: files.key.write_bytes(files.key.read_bytes()[:100]),
    "an empty key": lambda files, _: files.key.write_bytes(b""),
    "no key": lambda files, _: files.key.unlink(),
    "another key": lambda files, ca: files.key.write_bytes(ca.issue().key),
    "half a certificate": lambda files, _: files.cert.write_bytes(files.cert.read_bytes()[:100]),
    "an expired certificate": lambda files, ca: files.write(ca.issue(valid=-DAY)),
    "no CA": lambda files, _: files.client_ca.write_bytes(b"x"),
    "a large file": lambda files, _: files.cert.write_bytes(b"x" * (2 << 20)),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_file_keeps_the_pair(
    files: Files, authority: Authority, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.INFO, "eudai_server")
    async with secured(files, client_ca=True) as port:
        BROKEN[what](files, authority)
        async with asyncio.timeout(5):
            while "the new certificates are not used" not in caplog.text:
                await asyncio.sleep(0.01)
        answer = await info(port, authority.pem, authority.issue(dns=["client"]))
        files.write(authority.issue())
        files.client_ca.write_bytes(authority.pem)
        async with asyncio.timeout(5):
            while "the certificates were read again" not in caplog.text:
                await asyncio.sleep(0.01)

    assert answer.version
    assert "PRIVATE" not in caplog.text


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_file_at_the_start_is_named(
    files: Files, authority: Authority, what: str
) -> None:
    BROKEN[what](files, authority)

    with pytest.raises(ConfigError, match=r"^EUDAI_TLS_(CERT|KEY|CLIENT_CA) ") as error:
        async with secured(files, client_ca=True):
            pass
    assert "PRIVATE" not in str(error.value)


async def test_a_client_needs_a_certificate_of_the_ca(files: Files, authority: Authority) -> None:
    clients = {
        "none": None,
        "foreign": Authority().issue(),
        "expired": authority.issue(valid=-DAY),
    }
    refused = {}
    async with secured(files, client_ca=True) as port:
        for name, pair in clients.items():
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await info(port, authority.pem, pair)
            refused[name] = failure.value.code()
        answer = await info(port, authority.pem, authority.issue(dns=["client"]))

    assert set(refused.values()) == {grpc.StatusCode.UNAVAILABLE}
    assert answer.version


async def test_health_has_an_address_of_its_own(files: Files) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with (
        secured(files, client_ca=True, health_listen=address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        alive = await health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as other:
            await rpc.ServerServiceStub(channel).GetServerInfo(INFO, timeout=5)
        watching = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING

    assert alive.status == health_pb2.HealthCheckResponse.SERVING
    assert other.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*address.split(":"))


@pytest.mark.parametrize("needs_certificates", [True, False])
async def test_a_probe_learns_nothing_about_models_if_others_need_certificates(
    files: Files, *, needs_certificates: bool
) -> None:
    address = f"127.0.0.1:{free_port()}"
    request = health_pb2.HealthCheckRequest(service="model/gemma3:270m")
    async with (
        secured(files, client_ca=needs_certificates, health_listen=address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
            found = answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        except grpc.aio.AioRpcError as error:
            found = error.code() is not grpc.StatusCode.NOT_FOUND

    assert found is not needs_certificates


async def test_a_health_address_in_use_is_named(files: Files) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"^EUDAI_HEALTH_LISTEN cannot listen on"):
            async with secured(files, health_listen=address):
                pass


async def test_the_ca_of_clients_rotates(files: Files, authority: Authority) -> None:
    other = Authority()
    async with secured(files, client_ca=True) as port:
        files.client_ca.write_bytes(other.pem)
        async with asyncio.timeout(5):
            while not await is_answered(port, authority.pem, other.issue()):
                await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError):
            await info(port, authority.pem, authority.issue())


@contextmanager
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """The fields of the calls of a server that runs in the block only: it logs them at the end."""
    caplog.set_level(logging.INFO, "eudai_server")
    caplog.clear()
    fields: list[Any] = []
    yield fields
    fields += [record.fields for record in caplog.records if record.message == "call"]  # type: ignore[attr-defined]


async def test_the_certificate_names_the_workload(
    files: Files, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    spiffe = authority.issue(dns=["a.example"], uris=["spiffe://example.org/ci"])
    with records(caplog) as calls:
        async with secured(files, client_ca=True) as port:
            await info(port, authority.pem, spiffe)
            await info(port, authority.pem, authority.issue(dns=["b.example"], common_name="root"))
            with pytest.raises(grpc.aio.AioRpcError) as nameless:
                await info(port, authority.pem, authority.issue(dns=[], common_name="root"))

    assert [call.get("principal") for call in calls] == [
        "spiffe://example.org/ci", "b.example", None,
    ]  # fmt: skip
    assert nameless.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_names_the_principal_and_is_needed_beside_the_certificate(
    files: Files, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token_id, token = new_token()
    scopes = [Scope.SERVER_READ]
    entry = entry_for(token_id, token, name="ci", scopes=scopes, models=["*"], expires=None)
    tokens_file = tmp_path / "tokens.json"
    tokens_file.write_bytes(data_from([entry]))
    client = authority.issue(dns=["client"])
    with records(caplog) as calls:
        async with secured(files, client_ca=True, tokens_file=tokens_file) as port:
            await info(port, authority.pem, client, (("authorization", f"Bearer {token}"),))
            with pytest.raises(grpc.aio.AioRpcError) as without:
                await info(port, authority.pem, client)

    assert calls[0]["principal"] == "ci"
    assert without.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_expiry_is_announced(
    files: Files, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(authority.issue(valid=timedelta(hours=1)))
    async with secured(files), asyncio.timeout(5):
        while "the certificate expires at" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_only_workloads_that_the_operator_names_may_call(
    files: Files, authority: Authority
) -> None:
    names = WorkloadNames(("spiffe://example.org/ns/prod/*", "b.example"))
    async with secured(files, client_ca=True, tls_client_names=names) as port:
        for allowed in (["spiffe://example.org/ns/prod/chat"], []):
            pair = authority.issue(dns=["b.example"], uris=allowed)
            assert (await info(port, authority.pem, pair)).version
        for foreign in (["spiffe://example.org/ns/test/chat"], ["spiffe://evil.example/ns/prod/x"]):
            pair = authority.issue(dns=["b.example"], uris=foreign)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await info(port, authority.pem, pair)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
