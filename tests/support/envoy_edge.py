"""A real Envoy that terminates TLS, checks certificates of clients, and checks a token."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import BIN, free_port, spawn, wait_for_port

ENVOY = BIN / "envoy"
TOKEN = "interop-token"  # noqa: S105 - of a test
TYPES = "type.googleapis.com/envoy.extensions."
PASS_ON = {"match": {"prefix": "/"}, "route": {"cluster": "eudai", "timeout": "0s"}}
CHECK_TOKEN = {
    "match": {
        "prefix": "/",
        "headers": [{"name": "authorization", "string_match": {"exact": f"Bearer {TOKEN}"}}],
    },
    "route": PASS_ON["route"],
}
# A gRPC client reads the HTTP status 401 as UNAUTHENTICATED.
REFUSE = {"match": {"prefix": "/"}, "direct_response": {"status": 401}}


@dataclass(frozen=True)
class Edge:
    """The addresses of three listeners, and the files that clients need."""

    tls: str
    mutual_tls: str
    token: str
    ca_file: str
    other_ca_file: str
    cert_file: str
    key_file: str
    token_file: str


@contextmanager
def envoy_edge(folder: Path, upstream: str) -> Iterator[Edge]:
    """Start Envoy in front of the server at `upstream`."""
    if not ENVOY.exists():
        pytest.skip("Envoy is not installed; make clients installs it")
    ports = [free_port() for _ in range(3)]
    config = folder / "envoy.json"
    config.write_text(json.dumps(_config(folder, ports, int(upstream.rpartition(":")[2]))))
    _write_files(folder)
    arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    process = spawn(ENVOY, "--config-path", config, *arguments)
    try:
        for port in ports:
            wait_for_port(port)
        names = ("ca.pem", "other_ca.pem", "client.pem", "client.key", "token")
        yield Edge(
            *(f"127.0.0.1:{port}" for port in ports), *(str(folder / name) for name in names)
        )
    finally:
        process.kill()
        process.wait()


def _config(folder: Path, ports: list[int], upstream_port: int) -> dict[str, Any]:
    client_ca = {"trusted_ca": {"filename": str(folder / "ca.pem")}}
    options = _typed("upstreams.http.v3.HttpProtocolOptions")
    options["explicit_http_config"] = {"http2_protocol_options": {}}
    upstream = {
        "name": "eudai",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": "eudai",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}],
        },
    }
    listeners = [
        _listener(folder, ports[0], [PASS_ON]),
        _listener(folder, ports[1], [PASS_ON], validation_context=client_ca),
        _listener(folder, ports[2], [CHECK_TOKEN, REFUSE]),
    ]
    return {"static_resources": {"listeners": listeners, "clusters": [upstream]}}


def _listener(folder: Path, port: int, routes: list[Any], **tls: Any) -> dict[str, Any]:
    """A listener with TLS. `validation_context` says which clients it lets in."""
    pair = {
        "certificate_chain": {"filename": str(folder / "server.pem")},
        "private_key": {"filename": str(folder / "server.key")},
    }
    transport = _typed("transport_sockets.tls.v3.DownstreamTlsContext") | {
        "require_client_certificate": bool(tls),
        "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [pair], **tls},
    }
    router = _typed("filters.http.router.v3.Router")
    http = _typed("filters.network.http_connection_manager.v3.HttpConnectionManager") | {
        "stat_prefix": "eudai",
        "codec_type": "HTTP2",
        "stream_idle_timeout": "0s",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "eudai", "domains": ["*"], "routes": routes}]},
    }
    chain = {
        "transport_socket": {"name": "tls", "typed_config": transport},
        "filters": [{"name": "http", "typed_config": http}],
    }
    return {"address": _address(port), "filter_chains": [chain]}


def _typed(name: str) -> dict[str, Any]:
    return {"@type": TYPES + name}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _write_files(folder: Path) -> None:
    # Only make clients installs this library.
    import trustme  # noqa: PLC0415

    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other_ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1", "localhost")),
        ("client", authority.issue_cert("client@eudai.example")),
    ):
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / "token").write_text(TOKEN)
