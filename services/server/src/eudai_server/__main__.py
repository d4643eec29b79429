"""Runs the server process: reads the environment, serves until SIGTERM or SIGINT, then drains.

A second signal ends the drain: the calls that are still running are cut.
"""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from eudai_server.process import configure_grpc, limit_arenas, raise_open_files

configure_grpc(os.environ)

# ruff: noqa: E402 - these import gRPC
from eudai_server.app import App
from eudai_server.config import Config, ConfigError
from eudai_server.rpc.transport.event_loop import EventLoop
from eudai_server.rpc.transport.listener import ListenError
from eudai_server.telemetry import configure_logging

USAGE = "it takes none to serve, or `token --help`; environment variables configure it"
EXIT_USAGE = 2
EXIT_CONFIG = 78
EXIT_LISTEN = 70


async def serve(config: Config) -> None:
    """Serve until a signal arrives and the drain has ended."""
    app = App(config)
    told = asyncio.Event()

    def tell() -> None:
        if told.is_set():
            app.hurry()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    await app.start()
    app.parts.schema_checks.start()
    # The objects that exist now stay. Without this, a garbage collection that scans them blocks the
    # event loop for tens of milliseconds.
    gc.freeze()
    leaving = asyncio.create_task(told.wait()), asyncio.create_task(app.wait())
    await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
    await app.drain()
    await leaving[1]


def main() -> int:
    """Run the server; returns the exit code.

    0 after a drain, 2 for unknown arguments, 70 if gRPC failed, 78 for an invalid configuration.
    """
    if sys.argv[1:2] == ["token"]:
        # For a server, the import would only make the start slower.
        from eudai_server import token_command  # noqa: PLC0415

        return token_command.run(sys.argv[2:], os.environ)
    if sys.argv[1:]:
        sys.stderr.write(f"eudai-server: unknown arguments; {USAGE}\n")
        return EXIT_USAGE
    limit_arenas(os.environ)
    configure_logging()
    raise_open_files()
    try:
        uvloop.run(serve(Config.from_env(os.environ)), loop_factory=EventLoop)
    except ConfigError as error:
        sys.stderr.write(f"eudai-server: {error}\n")
        return EXIT_CONFIG
    except ListenError as error:
        sys.stderr.write(f"eudai-server: {error}\n")
        return EXIT_LISTEN
    return 0


if __name__ == "__main__":
    sys.exit(main())
