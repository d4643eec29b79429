"""Settings of the process: memory arenas, trimming, and the limit of open files."""

import asyncio
import ctypes
import os
import platform
import resource
import subprocess
import sys
from typing import Any

import pytest
from eudai_server import process

# Allocates in several threads at once, and prints the arenas of the allocator.
ARENAS = """
import ctypes, os, threading
from eudai_server.process import limit_arenas
limit_arenas(os.environ)
libc, ready = ctypes.CDLL(None), threading.Barrier(4)
def allocate():
    ready.wait()
    for _ in range(2000):
        libc.malloc(3000)
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


class RecordingLibrary:
    """A C library that records the calls of its functions."""

    def __init__(self) -> None:
        self.called: list[tuple[str, tuple[Any, ...]]] = []

    def mallopt(self, *arguments: Any) -> None:
        """Record the call."""
        self.called.append(("mallopt", arguments))

    def malloc_trim(self, *arguments: Any) -> None:
        """Record the call."""
        self.called.append(("malloc_trim", arguments))


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """The calls of the C library: each function's name and arguments."""
    library = RecordingLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    return library.called


@pytest.mark.parametrize(
    "environ", [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}]
)
def test_the_operators_number_of_arenas_is_kept(environ: dict[str, str], libc: Any) -> None:
    process.limit_arenas(environ)

    assert libc == []


def test_by_default_there_is_one_arena(libc: Any) -> None:
    process.limit_arenas({"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})

    assert libc == [("mallopt", (process.M_ARENA_MAX, 1))]


async def test_memory_is_trimmed_periodically(libc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TRIM_INTERVAL_S", 0.001)
    task = asyncio.create_task(process.trim_memory())
    async with asyncio.timeout(5):
        while len(libc) < 2:
            await asyncio.sleep(0.001)
    task.cancel()

    assert {name for name, _ in libc} == {"malloc_trim"}


def no_library(_: None) -> object:
    """Fail, as opening the C library does on some platforms."""
    raise OSError("this platform cannot open its own process")


@pytest.mark.parametrize("library", [lambda _: object(), no_library])
async def test_a_c_library_without_these_functions_is_not_an_error(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)

    process.limit_arenas({})
    await asyncio.wait_for(process.trim_memory(), 5)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize(("environ", "one"), [({}, True), ({"MALLOC_ARENA_MAX": "8"}, False)])
def test_threads_share_the_arena(environ: dict[str, str], one: bool) -> None:
    variables = {**os.environ, "GLIBC_TUNABLES": "", **environ}
    ended = subprocess.run(
        [sys.executable, "-c", ARENAS], env=variables, capture_output=True, text=True, check=True
    )

    assert (ended.stdout.count("<heap nr=") == 1) is one


def test_the_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 65_536))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))

    process.raise_open_files()

    assert limits == [(65_536, 65_536)]


def test_a_limit_of_open_files_that_cannot_be_raised_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)

    process.raise_open_files()

    assert [record.levelname for record in caplog.records] == ["WARNING"]
