"""The default address of the command line."""

import os

from eudai.connection import DEFAULT_ADDRESS


def default_address() -> str:
    """EUDAI_ADDRESS; or the server on this machine, from its EUDAI_LISTEN."""
    if address := os.environ.get("EUDAI_ADDRESS"):
        return address
    host, _, port = (os.environ.get("EUDAI_LISTEN") or DEFAULT_ADDRESS).rpartition(":")
    is_any = host in ("0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
    return f"127.0.0.1:{port}" if is_any else f"{host}:{port}"
