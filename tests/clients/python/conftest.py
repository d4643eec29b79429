"""Fixtures: scripted services behind a real socket, by pytest-grpc, and clients of them."""

import functools
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import eudai
import grpc
import pytest
from scripted_services import ScriptedServices
from terminal import Eudai, run

# A test run in the background ignores SIGINT, with which some tests interrupt this process.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def grpc_addr() -> str:
    """An address for the server, in place of pytest-grpc's own, which leaves a socket open."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def grpc_servicer() -> ScriptedServices:
    """The services that pytest-grpc serves."""
    return ScriptedServices()


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[ScriptedServices, grpc.Server], None]:
    """How pytest-grpc adds them to its server."""
    return ScriptedServices.add_to


@pytest.fixture
def address(grpc_server: grpc.Server, grpc_addr: str) -> str:
    """The address of the scripted server."""
    assert grpc_server
    return grpc_addr


@pytest.fixture
def services(grpc_servicer: ScriptedServices) -> ScriptedServices:
    """The scripted services, with their default answers."""
    grpc_servicer.reset()
    return grpc_servicer


@pytest.fixture
def client(address: str, services: ScriptedServices) -> Iterator[eudai.Client]:
    """A client of the scripted server."""
    assert services
    with eudai.Client(address) as client:
        yield client


@pytest.fixture(name="eudai")
def eudai_command(address: str, services: ScriptedServices, tmp_path: Path) -> Eudai:
    """Runs a command to its end, with pipes for a terminal."""
    assert services
    return functools.partial(run, address, tmp_path)


@pytest.fixture
async def async_client(
    address: str, services: ScriptedServices
) -> AsyncIterator[eudai.AsyncClient]:
    """The same for asyncio."""
    assert services
    async with eudai.AsyncClient(address) as client:
        yield client
