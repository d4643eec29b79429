"""The default address of the command line."""

import os

from eudai.connection import DEFAULT_ADDRESS


def default_address(*, health: bool = False) -> str:
    """EUDAI_ADDRESS; or the server on this machine, from its EUDAI_LISTEN.

    For `health` its EUDAI_HEALTH_LISTEN goes first.
    """
    if health and (listen := os.environ.get("EUDAI_HEALTH_LISTEN")):
        return _dialled(listen)
    if address := os.environ.get("EUDAI_ADDRESS"):
        return address
    return _dialled(os.environ.get("EUDAI_LISTEN") or DEFAULT_ADDRESS)


def _dialled(listen: str) -> str:
    """The address at which a server on this machine is reached."""
    host, _, port = listen.rpartition(":")
    is_any = host in ("0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
    return f"127.0.0.1:{port}" if is_any else f"{host}:{port}"
