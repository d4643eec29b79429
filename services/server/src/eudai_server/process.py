"""Settings of the server process: gRPC's, the memory allocator's and the limit of open files.

Each is best effort: where a platform does not support a setting, nothing changes.
"""

import asyncio
import ctypes
import logging
import resource
from collections.abc import Callable, Mapping, MutableMapping

# A parameter of glibc's mallopt.
M_ARENA_MAX = -8
TRIM_INTERVAL_S = 10.0
# Without its EventEngine, gRPC needs about 15 % less CPU time for a message. gRPC will remove the
# older code some day; tests/system/test_experiments.py then fails.
GRPC_EXPERIMENTS = "-event_engine_client,-event_engine_listener,-event_engine_callback_cq"

log = logging.getLogger(__name__)


def configure_grpc(environ: MutableMapping[str, str]) -> None:
    """Set gRPC's experiments and its log level, unless the operator has.

    gRPC reads them when it is imported. Its lines are not JSON, so by default it writes none.
    """
    environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)
    environ.setdefault("GRPC_VERBOSITY", "NONE")


def limit_arenas(environ: Mapping[str, str]) -> None:
    """Make all threads allocate from one arena, unless the operator has set the number of arenas.

    By default glibc gives each of gRPC's threads an arena, and other threads cannot use the free
    memory in it. Call this before threads start: an existing arena stays in use.
    """
    is_set = "MALLOC_ARENA_MAX" in environ or "arena_max" in environ.get("GLIBC_TUNABLES", "")
    mallopt = _libc("mallopt")
    if mallopt and not is_set:
        mallopt(M_ARENA_MAX, 1)


async def trim_memory() -> None:
    """Return freed memory to the system periodically, until cancelled.

    glibc itself returns only memory at the end of the heap. A trim takes less than a millisecond,
    and about 10 ms after a burst of 64 MiB.
    """
    malloc_trim = _libc("malloc_trim")
    while malloc_trim:
        await asyncio.sleep(TRIM_INTERVAL_S)
        malloc_trim(ctypes.c_size_t(0))


def raise_open_files() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each call needs a connection to Ollama in addition to its client's, and the usual limit is
    1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS refuses "unlimited"
        log.warning(
            "cannot raise the limit of open files", extra={"fields": {"reason": str(error)}}
        )


def _libc(function: str) -> Callable[..., int] | None:
    """A function of the C library; None if the library does not have it."""
    try:
        return getattr(ctypes.CDLL(None), function, None)
    except (OSError, TypeError):  # the platform cannot open its own process
        return None
