"""Settings of the process that serves: the memory allocator, and how many files it may open.

Each is best effort: where the platform has no such setting, nothing changes.
"""

import asyncio
import ctypes
import logging
import resource
from collections.abc import Callable, Mapping

# Of glibc's mallopt.
M_ARENA_MAX = -8
TRIM_INTERVAL_S = 10.0

log = logging.getLogger(__name__)


def limit_arenas(environ: Mapping[str, str]) -> None:
    """Let all threads allocate from one arena, unless the operator has set how many there may be.

    By default glibc gives the threads of gRPC an arena each, and what is free in one of them is of
    no use to the others. Call it before there are threads: an arena that exists is used on.
    """
    is_set = "MALLOC_ARENA_MAX" in environ or "arena_max" in environ.get("GLIBC_TUNABLES", "")
    mallopt = _libc("mallopt")
    if mallopt and not is_set:
        mallopt(M_ARENA_MAX, 1)


async def trim_memory() -> None:
    """Return freed memory to the system now and then, until cancelled.

    glibc returns by itself only what lies at the end of the heap. A trim takes less than a
    millisecond, and some 10 ms after a burst of 64 MiB.
    """
    malloc_trim = _libc("malloc_trim")
    while malloc_trim:
        await asyncio.sleep(TRIM_INTERVAL_S)
        malloc_trim(ctypes.c_size_t(0))


def raise_open_files() -> None:
    """Raise the soft limit of open files to the hard one.

    Each call holds a connection to Ollama besides its client's, and the usual limit is 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS refuses "unlimited"
        log.warning(
            "cannot raise the limit of open files", extra={"fields": {"reason": str(error)}}
        )


def _libc(function: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), function, None)
    except (OSError, TypeError):  # a system that cannot look into its own process
        return None
