"""The contestants: how each is started, and how the load generator calls it."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.cells import CELLS

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATIONS = ROOT / "bench/contestants"
# The environment of the contestants, beside this one, with the Go programs of the bench.
BIN = Path(f"{sys.prefix}-bench") / "bin"
STUBS = ROOT / "clients/python/src"
ALL = frozenset(cell.name for cell in CELLS)


@dataclass(frozen=True)
class Place:
    """Where a contestant listens, which Ollama it calls, and a folder for its files."""

    port: int
    ollama_url: str
    folder: Path

    @property
    def address(self) -> str:
        """The address to listen on."""
        return f"127.0.0.1:{self.port}"

    def configuration(self, name: str) -> str:
        """The path of a configuration file, with the ports filled in."""
        text = (CONFIGURATIONS / name).read_text()
        text = text.replace("LISTEN_PORT", str(self.port))
        path = self.folder / name
        path.write_text(text.replace("OLLAMA_PORT", str(urlsplit(self.ollama_url).port)))
        return str(path)


@dataclass(frozen=True)
class Contestant:
    """A server under test. Without a command, the load goes to the fake Ollama itself."""

    name: str
    title: str
    driver: str
    command: Callable[[Place], list[str]] | None
    env: Callable[[Place], Mapping[str, str]] = lambda _: {}
    path: str = "/api/generate"
    model: str = "bench:latest"
    cells: frozenset[str] = ALL
    # Whether each cell needs a new process.
    fresh: bool = False


def eudai(python: Path, name: str = "eudai") -> Contestant:
    """The server of the environment of this Python, with the limits that the cells need."""

    def command(_: Place) -> list[str]:
        return [str(python), "-m", "eudai_server"]

    def env(place: Place) -> Mapping[str, str]:
        return {
            "OLLAMA_BASE_URL": place.ollama_url,
            "EUDAI_LISTEN": place.address,
            "EUDAI_MAX_RUNNING": "1024",
            "EUDAI_LAME_DUCK": "0",
            "EUDAI_DRAIN_GRACE": "1",
        }

    return Contestant(name, f"**{name}**", "grpc", command, env)


def _python_program(name: str) -> Callable[[Place], list[str]]:
    """A program of `contestants`, with the address and the URL of Ollama as arguments."""
    program = str(CONFIGURATIONS / f"{name}.py")
    return lambda place: [str(BIN / "python"), program, str(place.port), place.ollama_url]


def _stubs(_: Place) -> Mapping[str, str]:
    return {"PYTHONPATH": str(STUBS)}


def _gateway(place: Place) -> list[str]:
    return [str(BIN / "gateway"), "-listen", place.address, "-ollama", place.ollama_url]


def _envoy(place: Place) -> list[str]:
    return [
        *(str(BIN / "envoy"), "--config-path", place.configuration("envoy.yaml")),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
    ]


def _litellm(place: Place) -> list[str]:
    return [
        *(str(BIN / "litellm"), "--config", place.configuration("litellm.yaml")),
        *("--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"),
    ]


def _litellm_env(_: Place) -> Mapping[str, str]:
    return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}


def _olla(place: Place) -> list[str]:
    return [str(BIN / "olla"), "--config", place.configuration("olla.yaml")]


def _olla_env(place: Place) -> Mapping[str, str]:
    return {
        "OLLA_CONFIG_FILE": place.configuration("olla.yaml"),
        "OLLA_FILE_OUTPUT": "false",
        "OLLA_LOG_LEVEL": "warn",
    }


CONTESTANTS = [
    Contestant(
        "direct", "Ollama directly", "ndjson", None, cells=frozenset({"64x500", "32x20", "idle"})
    ),
    Contestant("envoy", "Envoy, HTTP proxy", "ndjson", _envoy),
    Contestant("go", "Go: grpc-go, net/http", "grpc", _gateway),
    Contestant(
        *("floor", "grpc.aio alone (floor)", "grpc", _python_program("floor"), _stubs),
        cells=ALL - {"cancel"},  # it has no upstream
    ),
    Contestant("fastapi", "FastAPI + httpx lines", "ndjson", _python_program("fastapi_lines")),
    Contestant("usual", "grpc.aio + httpx lines", "grpc", _python_program("usual_grpc"), _stubs),
    Contestant(
        *("litellm", "LiteLLM 1.102.4", "sse", _litellm, _litellm_env),
        path="/v1/chat/completions",
        model="bench",
        cells=ALL - {"held-1000"},  # it needs more than a core
    ),
    Contestant(
        *("olla", "Olla 0.0.26", "ndjson", _olla, _olla_env),
        path="/olla/ollama/api/generate",
        # After five clients that leave before Ollama answers, it refuses all calls for 30 s, and
        # the end of a cell cancels its streams.
        fresh=True,
    ),
    eudai(Path(sys.executable)),
]


TITLES = {contestant.name: contestant.title for contestant in CONTESTANTS}


def title_of(name: str) -> str:
    """The title of a contestant; its name if it is one of `other_eudai`."""
    return TITLES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of contestants in the order of CONTESTANTS; those of `other_eudai` are the last."""
    order = list(TITLES)
    return sorted(names, key=lambda name: order.index(name) if name in TITLES else len(order))


def other_eudai(python: Path) -> Contestant:
    """The server of another checkout, named after the checkout's folder."""
    checkout = Path(os.path.abspath(python)).parents[2].name  # noqa: PTH100 - a link stays
    return eudai(python, f"eudai@{checkout}")
