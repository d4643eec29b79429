"""Every snippet of docs/clients.md runs, and does what its task says."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from processes import BIN, ROOT
from scripted_ollama import Exchange, Script, ScriptedOllama, done, line, stream, words
from serving import config_for, serving

DOCUMENT = ROOT / "docs/clients.md"
MODULE = ROOT / "tests/interop/drivers/go"
LAUNCHER = ROOT / "services/ollama/launcher"
TIMEOUT_S = 50.0
BUILD_TIMEOUT_S = 600.0
# What the output of a snippet must contain, by task and client.
EXPECTED = {
    ("Stream an answer", "Python"): "Hello world",
    ("Stream an answer", "Command line"): "Hello world\n",
    ("Stream an answer", "Go"): "Hello world",
    ("Stream an answer", "grpcurl"): '"finished"',
    ("Chat", "Python"): "Paris.\nRome.\n",
    ("Chat", "Command line"): "Paris.\nRome.\n",
    ("Chat", "Go"): "Paris.\nRome.\n",
    ("Chat", "grpcurl"): '"text": "Rome."',
    ("Let the model call tools", "Python"): "It is sunny.\n",
    ("Let the model call tools", "Command line"): "It is sunny.\n",
    ("Let the model call tools", "Go"): "It is sunny.\n",
    ("Let the model call tools", "grpcurl"): '"text": "It is sunny."',
    ("Get a typed object", "Python"): "Paris True\n",
    ("Get a typed object", "Command line"): '{"name": "Paris", "large": true}\n',
    ("Get a typed object", "Go"): "Paris true\n",
    ("Get a typed object", "grpcurl"): '{\\"name\\": \\"Paris\\", \\"large\\": true}',
    ("Pull a model", "Python"): "100 of 100 bytes\n",
    ("Pull a model", "Command line"): "eudai: pulled gemma3:270m\n",
    ("Pull a model", "Go"): "100 of 100 bytes\n",
    ("Pull a model", "grpcurl"): '"completed"',
}
PYTHON_PROGRAM = """
import eudai

client = eudai.Client()
%s
client.close()
"""
GO_PROGRAM = """
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
)

var _, _ = json.Marshal, errors.New

func main() {
	client, err := eudai.Dial("")
	if err != nil {
		log.Fatal(err)
	}
	snippets := map[string]func(context.Context, *eudai.Client) error{%s}
	if err := snippets[os.Args[1]](context.Background(), client); err != nil {
		log.Fatal(err)
	}
}
"""


def snippets() -> dict[tuple[str, str], str]:
    """The snippets of the document, by their task and client."""
    return {
        (section.partition("\n")[0], client): code
        for section in DOCUMENT.read_text().split("\n## ")[1:]
        for client, code in re.findall(
            r"^### ([\w ]+)\n\n(?:[^`#\n]+\n\n)?```\w+\n(.*?)^```$",
            section,
            re.MULTILINE | re.DOTALL,
        )
    }


SNIPPETS = snippets()


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with all Go snippets, which runs the one that its argument names."""
    folder = tmp_path_factory.mktemp("snippets")
    functions = ",".join(
        f'"{task}": func(ctx context.Context, client *eudai.Client) error {{\n{code}\n'
        + ("" if code.rstrip().splitlines()[-1].startswith("return") else "return nil")
        + "\n}"
        for (task, client), code in SNIPPETS.items()
        if client == "Go"
    )
    (folder / "main.go").write_text(GO_PROGRAM % functions)
    module = (MODULE / "go.mod").read_text()
    (folder / "go.mod").write_text(module.replace("../../../../clients/go", f"{ROOT}/clients/go"))
    (folder / "go.sum").write_text((MODULE / "go.sum").read_text())
    subprocess.run(
        [sys.executable, LAUNCHER, "build", folder, ".", folder / "snippets"],
        check=True,
        timeout=BUILD_TIMEOUT_S,
    )
    return folder / "snippets"


def answer(exchange: Exchange) -> Script:
    """What the scripted model says to the last message."""
    last = exchange.body["messages"][-1]
    if "tools" in exchange.body and last["role"] == "user":
        call = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
        return stream(line(message={"role": "assistant", "tool_calls": [call]}), done())
    if last["role"] == "tool":
        assert "sunny in Paris" in last["content"]
        return said("It is sunny.")
    return said("Rome." if "Italy" in last["content"] else "Paris.")


def said(text: str) -> Script:
    """An answer to a conversation."""
    return stream(line(message={"role": "assistant", "content": text}, done=False), done())


def generated(exchange: Exchange) -> Script:
    """What the scripted model says to a prompt."""
    return (
        words('{"name": "Paris", ', '"large": true}')
        if "format" in exchange.body
        else words("Hello", " world")
    )


@pytest.fixture
async def address(ollama: ScriptedOllama) -> AsyncIterator[str]:
    """A server whose model answers the questions of the document."""
    ollama.models["llama3.2:latest"] = {
        "digest": "32" * 32,
        "capabilities": ["completion", "tools"],
    }
    layer: Callable[..., bytes] = lambda count: line(  # noqa: E731
        status="pulling aaaa", digest="sha256:a", total=100, completed=count
    )
    ollama.scripts |= {
        "/api/chat": answer,
        "/api/generate": generated,
        "/api/pull": stream(layer(40), layer(100), line(status="success")),
    }
    async with serving(config_for(ollama.url, admin=True)) as server:
        await server.until("", "SERVING")
        yield server.address


def test_every_snippet_is_expected() -> None:
    assert set(SNIPPETS) == set(EXPECTED)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=" ".join)
async def test_a_snippet_runs(
    snippet: tuple[str, str], address: str, go_program: Path, tmp_path: Path
) -> None:
    task, client = snippet
    command: list[Any]
    match client:
        case "Python":
            command = [sys.executable, "-c", PYTHON_PROGRAM % SNIPPETS[snippet]]
        case "Go":
            command = [go_program, task]
        case _:
            command = ["bash", "-euc", SNIPPETS[snippet]]
    ended = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=tmp_path,
        env={**os.environ, "EUDAI_ADDRESS": address, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert ended.returncode == 0, ended.stderr
    assert EXPECTED[snippet] in ended.stdout + ended.stderr
