"""The launcher reports what is missing or in the way, and what to change."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, free_port
from scripted_ollama import ScriptedOllama

LAUNCHER = ROOT / "services" / "ollama" / "launcher"


def launch(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the launcher to its end."""
    return subprocess.run(
        [sys.executable, LAUNCHER, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_a_port_in_use_is_reported(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/version"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
    ended = await asyncio.to_thread(launch, "start", OLLAMA_BASE_URL=ollama.url)

    assert ended.returncode == 1
    assert "is not Ollama" in ended.stderr
    assert "OLLAMA_BASE_URL" in ended.stderr


def test_an_ollama_elsewhere_that_does_not_answer_is_reported() -> None:
    ended = launch("start", OLLAMA_BASE_URL=f"http://127.0.0.2:{free_port()}")

    assert ended.returncode == 1
    assert "the launcher can start Ollama only on this machine" in ended.stderr


def test_a_missing_compiler_is_reported() -> None:
    ended = _require_compilers(PATH="/nowhere")

    assert ended.returncode == 1
    assert "on Debian: apt-get install gcc" in ended.stderr


def test_a_go_command_runs_in_the_folder_of_its_module(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example.com/here\n")

    listed = launch("go", str(tmp_path), "list", "-m")
    failed = launch("go", str(tmp_path), "no-such-command")

    assert (listed.returncode, listed.stdout) == (0, "example.com/here\n")
    assert failed.returncode == 2


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = launch(
        "start",
        OLLAMA_BASE_URL=f"http://127.0.0.1:{free_port()}",
        EUDAI_CACHE=str(tmp_path / "file" / "cache"),
    )

    assert ended.returncode == 1
    assert "set EUDAI_CACHE to a writable folder" in ended.stderr


def test_stopping_without_an_ollama_is_not_an_error(tmp_path: Path) -> None:
    ended = launch(
        "stop", OLLAMA_BASE_URL=f"http://127.0.0.1:{free_port()}", EUDAI_CACHE=str(tmp_path)
    )

    assert ended.returncode == 0
    assert "no Ollama that this launcher started" in ended.stderr


def test_wrong_arguments_show_the_usage() -> None:
    ended = launch("dance")

    assert ended.returncode == 64
    assert "start" in ended.stderr


def test_a_command_runs_with_an_ollama_and_gives_its_exit_code(real_url: str) -> None:
    ended = launch(
        "run",
        "--",
        sys.executable,
        "-c",
        "import os, sys; print(os.environ['OLLAMA_BASE_URL']); sys.exit(7)",
        OLLAMA_BASE_URL=real_url,
    )

    assert ended.returncode == 7
    assert ended.stdout.strip() == real_url


@pytest.mark.parametrize("arguments", [("--no-such-flag",), ("--lora", "x")])
def test_the_runner_refuses_unknown_flags(arguments: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, LAUNCHER / "runner.py", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 2
    assert "unrecognized arguments" in ended.stderr


def test_the_quantizer_only_copies(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("gguf")
    quantizer = [sys.executable, str(LAUNCHER / "quantizer.py")]
    copied = subprocess.run(
        [*quantizer, "--flag", tmp_path / "in", tmp_path / "out", "COPY"], check=False
    )
    refused = subprocess.run(
        [*quantizer, tmp_path / "in", tmp_path / "out2", "q4_K_M"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert copied.returncode == 0
    assert (tmp_path / "out").read_text() == "gguf"
    assert "cannot quantize to q4_K_M" in refused.stderr


def _require_compilers(**env: str) -> "subprocess.CompletedProcess[str]":
    code = (
        f"import sys; sys.path.insert(0, {str(LAUNCHER)!r})\n"
        "from progress import LaunchError\nfrom go import require_compilers\n"
        "try:\n    require_compilers()\nexcept LaunchError as error:\n    sys.exit(str(error))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
