"""Asks Ollama whether its cloud is enabled, and logs a warning if it is."""

import logging

from eudai_server.core.errors import ServiceError
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.wire.requests import Request
from eudai_server.ollama.wire.server import cloud_enabled_from

log = logging.getLogger(__name__)


async def check_cloud(endpoint: Endpoint, catalog: Catalog) -> None:
    """Ask once. An older Ollama does not have the route; the state is then unknown."""
    before = catalog.cloud_enabled
    try:
        status = await endpoint.fetch(Request("GET", "/api/status"), vital=True)
        catalog.cloud_enabled = cloud_enabled_from(status)
    except ServiceError:
        catalog.cloud_enabled = None
    if catalog.cloud_enabled and not before:
        log.warning(
            "Ollama's cloud is enabled; this server refuses cloud models, but other clients of "
            "Ollama can use them; set OLLAMA_NO_CLOUD=1 in Ollama's environment to disable them"
        )
