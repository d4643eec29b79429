"""docker-compose.yml as the real Docker Compose reads it: isolation, devices and settings."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import BIN, ROOT

COMPOSE = BIN / "docker-compose"
DEVICES = ["cpu", "nvidia", "amd", "vulkan"]

pytestmark = pytest.mark.skipif(
    not COMPOSE.exists(),
    reason="Docker Compose is not built; `make compose` builds it, which takes two minutes",
)


def config(**env: str) -> dict[str, Any]:
    """The output of `docker compose config`."""
    command = [
        str(COMPOSE),
        "--file",
        str(ROOT / "docker-compose.yml"),
        "config",
        "--format",
        "json",
    ]
    variables = {
        key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA", "EUDAI"))
    }
    resolved = subprocess.run(
        command, env={**variables, **env}, capture_output=True, text=True, timeout=30, check=True
    )
    answer: dict[str, Any] = json.loads(resolved.stdout)
    return answer


@pytest.mark.parametrize("device", DEVICES)
def test_ollama_is_always_a_service_of_its_own(device: str) -> None:
    services = config(OLLAMA_DEVICE=device)["services"]

    assert set(services) == {"ollama", "server", "model"}
    assert (
        services["ollama"]["image"] == f"ollama/ollama:0.32.15{'-rocm' if device == 'amd' else ''}"
    )
    assert services["server"]["environment"]["OLLAMA_BASE_URL"] == "http://ollama:11434"
    assert services["server"]["build"]["dockerfile"] == "services/server/Dockerfile"


@pytest.mark.parametrize("device", DEVICES)
def test_only_the_server_reaches_ollama(device: str) -> None:
    resolved = config(OLLAMA_DEVICE=device)
    services = resolved["services"]

    assert list(services["ollama"]["networks"]) == ["backend"]
    assert "ports" not in services["ollama"]
    assert resolved["networks"]["backend"]["internal"] is True
    assert [name for name, service in services.items() if "backend" in service["networks"]] == [
        "ollama",
        "server",
    ]
    assert services["server"]["ports"][0]["host_ip"] == "127.0.0.1"


@pytest.mark.parametrize("device", DEVICES)
def test_memory_and_privacy_are_explicit(device: str) -> None:
    environment = config(OLLAMA_DEVICE=device)["services"]["ollama"]["environment"]

    assert environment["OLLAMA_NO_CLOUD"] == "1"
    assert environment["OLLAMA_CONTEXT_LENGTH"] == "4096"
    assert environment["OLLAMA_NUM_PARALLEL"] == "1"


def test_the_files_differ_only_in_the_device() -> None:
    ollama = {device: config(OLLAMA_DEVICE=device)["services"]["ollama"] for device in DEVICES}
    changed = {
        device: {key for key in ollama[device] if ollama[device][key] != ollama["cpu"].get(key)}
        for device in DEVICES
    }
    device = ollama["nvidia"]["deploy"]["resources"]["reservations"]["devices"][0]

    assert changed == {
        "cpu": set(),
        "nvidia": {"deploy"},
        "amd": {"devices", "image"},
        "vulkan": {"devices", "environment"},
    }
    assert (device["driver"], device["capabilities"], device["count"]) == ("nvidia", ["gpu"], -1)
    assert [entry["source"] for entry in ollama["amd"]["devices"]] == ["/dev/kfd", "/dev/dri"]
    assert [entry["source"] for entry in ollama["vulkan"]["devices"]] == ["/dev/dri"]


def test_the_server_does_not_wait_for_the_pull_of_the_model() -> None:
    services = config(EUDAI_MODEL="llama3.2:1b")["services"]

    assert services["model"]["command"][1] == "llama3.2:1b"
    assert config()["services"]["model"]["command"][1] == "deepseek-r1:1.5b"
    assert list(services["server"]["depends_on"]) == ["ollama"]
    assert "depends_on" not in services["ollama"]
    assert services["model"]["restart"] == "no"


def test_versions_and_ports_are_settings() -> None:
    services = config(OLLAMA_VERSION="0.40.0", OLLAMA_DEVICE="amd", EUDAI_PORT="50052")["services"]

    assert services["ollama"]["image"] == "ollama/ollama:0.40.0-rocm"
    assert services["server"]["ports"][0]["published"] == "50052"


def test_images_can_be_pinned_by_digest() -> None:
    digest = f"@sha256:{'0' * 64}"
    images = {
        "OLLAMA_IMAGE": f"ollama/ollama{digest}",
        "EUDAI_IMAGE": f"registry.example/eudai{digest}",
        "PYTHON_IMAGE": f"python{digest}",
    }
    for device in DEVICES:
        services = config(OLLAMA_DEVICE=device, **images)["services"]

        assert services["ollama"]["image"] == services["model"]["image"] == images["OLLAMA_IMAGE"]
        assert services["server"]["image"] == images["EUDAI_IMAGE"]
        assert services["server"]["build"]["args"]["PYTHON_IMAGE"] == images["PYTHON_IMAGE"]


@pytest.mark.parametrize("service", ["ollama", "server", "model"])
def test_every_container_has_limits(service: str) -> None:
    settings = config(OLLAMA_MEMORY="8g")["services"][service]

    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["pids_limit"] > 0
    assert int(settings["mem_limit"]) > 0
    assert settings["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_the_host_has_no_address_on_the_network_of_ollama() -> None:
    options = config()["networks"]["backend"]["driver_opts"]

    assert options == {"com.docker.network.bridge.inhibit_ipv4": "true"}


def test_the_server_has_no_needless_privileges() -> None:
    server = config()["services"]["server"]
    image = Path(ROOT / "services/server/Dockerfile").read_text()

    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert "USER 65532" in image
    assert "ollama" not in image.lower().replace("no ollama", "").replace(
        "because ollama is away", ""
    )
