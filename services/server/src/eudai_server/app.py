"""One server: creates the parts from a configuration, listens, and shuts down in order."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING

import grpc

from eudai_server.assembly import Parts, client_of
from eudai_server.config import Config, ConfigError, is_local
from eudai_server.core.background import run_again, run_once
from eudai_server.core.errors import Reason
from eudai_server.process import trim_memory
from eudai_server.rpc.registry import HEALTH, register
from eudai_server.rpc.transport.listener import (
    DEFAULT_CLIENT_TIMEOUTS,
    ClientTimeouts,
    Listener,
    Options,
)

if TYPE_CHECKING:
    from eudai_server.rpc.transport.certificates import Certificates

# The time to send statuses after a drain has cut the remaining calls.
CUT_TIMEOUT_S = 2.0


DRAINING = (Reason.DRAINING, "the server is shutting down; retry on another server")

log = logging.getLogger(__name__)


class App:
    """One server, from the port it listens on to the Ollama it calls."""

    def __init__(
        self, config: Config, client_timeouts: ClientTimeouts = DEFAULT_CLIENT_TIMEOUTS
    ) -> None:
        """Create the parts; opens no port or connection. Needs a running event loop."""
        self._config = config
        self.parts = Parts(
            config, client_of(config), write_timeout_s=client_timeouts.write_timeout_s
        )
        self._certificates = _certificates_of(config)
        credentials = self._certificates.credentials if self._certificates else None
        self._listener = Listener(self._make_server, client_timeouts, credentials)
        self._health_listener = Listener(self._make_health_server, client_timeouts)
        self._hurried = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError if the address cannot be bound."""
        listen, health_listen = self._config.listen, self._config.health_listen
        port = await self._start(self._listener, listen, "EUDAI_LISTEN")
        if health_listen:
            await self._start(self._health_listener, health_listen, "EUDAI_HEALTH_LISTEN")
        self.parts.start()
        self._background = [asyncio.create_task(run_once(trim_memory, "trim"), name="trim")]
        if self._certificates:
            watch = run_again(self._certificates.watch, "certificates")
            self._background.append(asyncio.create_task(watch, name="certificates"))
        fields = {"listen": listen, "port": port, "ollama": self._config.ollama_base_url}
        if health_listen:
            fields["health_listen"] = health_listen
        log.info("listening", extra={"fields": fields})
        if self.parts.uses_tokens and not (is_local(listen) or self._certificates):
            log.warning("tokens are not encrypted on this address; set EUDAI_TLS_CERT")
        return port

    async def _start(self, listener: Listener, address: str, variable: str) -> int:
        try:
            return await listener.start(address)
        except RuntimeError as error:
            await self._listener.stop(0)
            await self.parts.close()
            reason = f"cannot listen on {address}; another program may be using the port"
            raise ConfigError(variable, reason) from error

    async def wait(self) -> None:
        """Return after a drain. Raises ListenError if a listener fails."""
        await asyncio.gather(self._listener.wait(), self._health_listener.wait())

    def _make_server(self, options: Options) -> grpc.aio.Server:
        server = grpc.aio.server(options=options)
        register(server, self.parts.calls, self.parts.services)
        return server

    def _make_health_server(self, options: Options) -> grpc.aio.Server:
        server = grpc.aio.server(options=options)
        health = [service for service in self.parts.services if service.name == HEALTH.full_name]
        register(server, self.parts.calls, health)
        return server

    async def drain(self) -> None:
        """Shut down in order. Call it once.

        Reports NOT_SERVING, waits for balancers to notice, lets running calls finish within the
        grace, cuts the rest, and closes the parts.
        """
        if self.parts.readiness.draining:
            return
        self.parts.readiness.drain()
        log.info(
            "draining",
            extra={
                "fields": {
                    "lame_duck_s": self._config.lame_duck_s,
                    "grace_s": self._config.drain_grace_s,
                }
            },
        )
        await self._unless_hurried(asyncio.sleep(self._config.lame_duck_s))
        calls = self.parts.calls
        calls.end(*DRAINING, idle_only=True)
        grace_s = self._config.drain_grace_s + CUT_TIMEOUT_S
        stopping = asyncio.create_task(self._listener.stop(grace_s))
        await self._unless_hurried(calls.wait(self._config.drain_grace_s))
        calls.end(*DRAINING)
        await stopping
        await self._health_listener.stop(0)
        await calls.wait(CUT_TIMEOUT_S)  # gRPC returns before the calls that it cut have cleaned up
        await self.parts.close()
        for task in self._background:
            task.cancel()

    def hurry(self) -> None:
        """Skip the remaining waits of a drain: the calls that still run are cut with a status."""
        self._hurried.set()

    async def _unless_hurried(self, step: Coroutine[None, None, object]) -> None:
        tasks = asyncio.create_task(step), asyncio.create_task(self._hurried.wait())
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


def _certificates_of(config: Config) -> "Certificates | None":
    """The certificates of a configuration, if it has TLS. Raises ConfigError."""
    if not (config.tls_cert and config.tls_key):
        return None
    # Without TLS, the import would only make the start slower.
    from eudai_server.rpc.transport import certificates  # noqa: PLC0415

    files = certificates.CertificateFiles(config.tls_cert, config.tls_key, config.tls_client_ca)
    try:
        return certificates.Certificates(files)
    except certificates.CertificateError as error:
        raise ConfigError(f"EUDAI_TLS_{error.kind.upper()}", str(error)) from None
