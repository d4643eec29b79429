"""Creates a model in a real Ollama, over Ollama's own HTTP API, and deletes it at the end."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

# Enough for a first load on a busy machine.
TIMEOUT_S = 60.0
# The models are so small that several threads would mostly wait for each other.
PARAMETERS = {"num_thread": 1}


@contextmanager
def created(url: str, name: str, *files: Path, **fields: object) -> Iterator[str]:
    """Create a model of GGUF files and delete it at the end; yields its name.

    `fields` are those of `/api/create`, such as template, parser and renderer.
    """
    # Each step has its own connections: a test counts those that are open between them.
    with _client(url) as http:
        digests = {file.name: _upload(http, file) for file in files}
        asked = {"model": name, "files": digests, "parameters": PARAMETERS, "stream": False}
        answer = http.post("/api/create", json=asked | fields)
    assert answer.json() == {"status": "success"}, f"Ollama did not create {name}: {answer.text}"
    try:
        yield name
    finally:
        with _client(url) as http:
            # A deleted model would stay loaded, without end if Ollama keeps models.
            http.post("/api/generate", json={"model": name, "keep_alive": 0})
            assert http.request("DELETE", "/api/delete", json={"model": name}).is_success


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)


def _upload(http: httpx.Client, file: Path) -> str:
    data = file.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert http.post(f"/api/blobs/{digest}", content=data).is_success, f"Ollama refused {file.name}"
    return digest


def lines_of(url: str, route: str, body: Mapping[str, object]) -> tuple[int, list[bytes]]:
    """Ollama's answer to a request: the HTTP status and the lines."""
    with _client(url) as http:
        answer = http.post(route, content=json.dumps(body))
        return answer.status_code, answer.content.splitlines(keepends=True)
