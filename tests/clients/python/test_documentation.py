"""Runs the examples of the client's documentation, and checks that each public name has one."""

import ast
import contextlib
import doctest
import inspect
import io
import os
import re
import subprocess
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eudai
import eudai.errors
import pydantic
import pytest
from scripted_services import ScriptedServices

grpc_max_workers = 8
PNG = b"\x89PNG\r\n\x1a\n"
README = Path(eudai.__file__).parents[2] / "README.md"
# The others differ from EudaiError only in their name.
ERRORS = ("ConfigError", "EudaiError", "ParseError", "ToolRoundsError")
NAMES = {*eudai.__all__, *ERRORS}
CONSTANTS = {"CHANNEL_OPTIONS", "SERVICE_CONFIG"}  # README describes them


class Point(pydantic.BaseModel):
    """What the examples parse."""

    x: int
    y: int


def now() -> str:
    """Tell the time."""
    return "12:00"


def documented() -> Iterator[tuple[str, str]]:
    """Each public name, and each public method of a class, with its docstring."""
    for name in sorted(NAMES - CONSTANTS):
        value = getattr(eudai, name)
        yield name, inspect.getdoc(value) or ""
        if inspect.isclass(value):
            for method, member in inspect.getmembers(value):
                if not method.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    yield f"{name}.{method}", inspect.getdoc(member) or ""


DOCUMENTED = dict(documented())
EXAMPLES = {name: text for name, text in DOCUMENTED.items() if ">>>" in text}


def test_every_public_name_is_documented_with_an_example() -> None:
    lacking = [
        name
        for name, text in DOCUMENTED.items()
        # `Client` has the examples of the methods of `AsyncClient`, and so on.
        if not text or (">>>" not in text and not name.startswith("Async"))
    ]

    assert lacking == []
    assert len(EXAMPLES) > 50


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_does_what_it_shows(
    name: str, client: eudai.Client, async_client: eudai.AsyncClient, address: str, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"test")
    names = {
        "eudai": eudai,
        "client": client,
        "async_client": async_client,
        "address": address,
        "weights_path": weights,
        "Point": Point,
        "PNG": PNG,
        "now": now,
    }
    for example in doctest.DocTestParser().get_examples(EXAMPLES[name]):
        assert await output_of(example.source, names) == example.want.rstrip()


async def output_of(source: str, names: dict[str, Any]) -> str:
    """What the interactive interpreter shows for a statement, which may await."""
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            pending = types.FunctionType(code, names)()
            if inspect.iscoroutine(pending):
                await pending
        except Exception as error:  # noqa: BLE001 - an example may show any error
            output.write("Traceback (most recent call last):\n...\n")
            output.writelines(traceback.format_exception_only(error))
    return output.getvalue().rstrip()


@pytest.mark.parametrize(
    "source", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
)
async def test_a_snippet_of_the_readme_runs(
    source: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EUDAI_ADDRESS", address)
    code = compile(source, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    pending = types.FunctionType(code, {})()
    if inspect.iscoroutine(pending):
        await pending


@pytest.mark.parametrize("source", re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL))
def test_a_command_of_the_readme_runs(
    source: str, address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    assert services
    (tmp_path / "point.json").write_text('{"type": "object"}')
    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "talk.json").write_text('[{"role": "ROLE_USER", "parts": [{"text": "hi"}]}]')
    (tmp_path / "tools.json").write_text('[{"name": "now"}]')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in source.splitlines():
        ended = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line], cwd=tmp_path, input="", text=True,
            env={**os.environ, "EUDAI_ADDRESS": address, "PATH": path, "XDG_STATE_HOME": "."},
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{line}: {ended.stderr}"
