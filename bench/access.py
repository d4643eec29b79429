"""Measures what authentication and encryption add to the CPU time of a short call.

`make bench-access` (three minutes) starts the server once for each kind, on core 0, and makes calls
of one token on one connection from core 1, round by round in random order. The upstream is the fake
Ollama.
"""

import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from certificates import Authority
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from jwt_signer import AUDIENCE, ISSUER, Signer, key_set
from processes import free_port
from tokens_file import Metadata, TokensFile

from bench.intervals import estimate
from bench.programs import CONTESTANT_CORE, LOAD_CORE, Program, running
from bench.roster import BIN, Place, eudai
from bench.tables import table

ROUNDS = 9
CALLS = 1500
MODEL = "bench:latest"
# One token at once; bench/wire defines the form.
REQUEST = pb.GenerateRequest(model=MODEL, prompt="tokens=1 interval_us=0")
START_TIMEOUT_S = 30


@dataclass(frozen=True)
class Kind:
    """One kind of authentication: the server's variables, and what a client presents."""

    env: Mapping[str, str]
    credentials: grpc.ChannelCredentials | None = None
    metadata: Metadata = ()

    def connect(self, port: int) -> grpc.Channel:
        """A connection to the server."""
        if self.credentials:
            return grpc.secure_channel(f"localhost:{port}", self.credentials)
        return grpc.insecure_channel(f"localhost:{port}")


def kinds(folder: Path) -> Mapping[str, Kind]:
    """All kinds. `folder` gets their files."""
    authority = Authority()
    pair, client = authority.issue(), authority.issue(dns=["client"])
    contents = {"cert": pair.cert, "key": pair.key, "ca": authority.pem}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    tls = {"EUDAI_TLS_CERT": str(folder / "cert"), "EUDAI_TLS_KEY": str(folder / "key")}
    tokens, signer = TokensFile(folder / "tokens.json"), Signer("k")
    (folder / "jwks").write_text(key_set(signer))
    jwts = {
        "EUDAI_JWKS_FILE": str(folder / "jwks"),
        "EUDAI_JWT_ISSUER": ISSUER,
        "EUDAI_JWT_AUDIENCE": AUDIENCE,
    }
    trusted = grpc.ssl_channel_credentials(authority.pem)
    own = grpc.ssl_channel_credentials(authority.pem, client.key, client.cert)
    signed = (("authorization", f"Bearer {signer.sign()}"),)
    return {
        "none": Kind({}),
        "token": Kind({"EUDAI_TOKENS_FILE": str(tokens.path)}, metadata=tokens.add()),
        "JWT, remembered": Kind(jwts, metadata=signed),
        "TLS": Kind(tls, trusted),
        "mTLS": Kind({**tls, "EUDAI_TLS_CLIENT_CA": str(folder / "ca")}, own),
    }


def main() -> int:
    """Measure all kinds, and print a table."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eudai-bench-")))
        upstream = free_port()
        command = [str(BIN / "fakeollama"), "-listen", f"127.0.0.1:{upstream}"]
        fake = stack.enter_context(running(command, LOAD_CORE, folder / "fakeollama.log"))
        fake.wait_for_port(upstream)
        url = f"http://127.0.0.1:{upstream}"
        callers = {
            name: _caller(stack, kind, Place(free_port(), url, folder), name)
            for name, kind in kinds(folder).items()
        }
        spent_us: dict[str, list[float]] = {name: [] for name in callers}
        for _ in range(ROUNDS):
            for name in random.sample(list(callers), len(callers)):
                spent_us[name].append(callers[name]())
        print(table(["", "CPU, µs a call", "share"], _rows(spent_us)))
    return 0


def _caller(stack: ExitStack, kind: Kind, place: Place, name: str) -> Callable[[], float]:
    """Start a server; returns a function that makes calls and returns their CPU time each."""
    server = eudai(Path(sys.executable))
    assert server.command
    env = {**server.env(place), **kind.env}
    log = place.folder / f"{name}.log"
    program: Program = stack.enter_context(
        running(server.command(place), CONTESTANT_CORE, log, env)
    )
    program.wait_for_port(place.port)
    channel = stack.enter_context(kind.connect(place.port))
    stub = rpc.GenerationServiceStub(channel)

    def call(count: int) -> None:
        for _ in range(count):
            for _ in stub.Generate(
                REQUEST, metadata=kind.metadata, timeout=START_TIMEOUT_S, wait_for_ready=True
            ):
                pass

    def measure() -> float:
        begin_s = program.cpu_s()
        call(CALLS)
        return (program.cpu_s() - begin_s) / CALLS * 1e6

    call(CALLS)
    return measure


def _rows(spent_us: Mapping[str, list[float]]) -> list[list[str]]:
    rows = []
    for name, values in spent_us.items():
        ratios = [value / none for value, none in zip(values, spent_us["none"], strict=True)]
        share = estimate([(ratio - 1) * 100 for ratio in ratios])
        rows.append([name, estimate(values).text(), f"{share.text()} %"])
    return rows


if __name__ == "__main__":
    sys.exit(main())
