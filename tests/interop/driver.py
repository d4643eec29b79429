"""Runs the driver program of a client. It reads a plan and writes a report, both as JSON.

Each folder in `drivers` is a client. Its driver.toml names a command that builds the program, if it
needs one, a command that runs it, and the scenarios that the client cannot do, each with the
reason. In the commands, {python} is this Python and {bin} the folder for programs. They run in the
root of the repository. The program gets the name of the scenario and the address of the server as
arguments, and on standard input the plan, a JSON object:

    call         the full name of a method, such as "eudai.v1.GenerationService/Generate"
    request      the request message in the protobuf JSON mapping
    deadline_s   the deadline of the call
    leave_after  cancel the call after this number of responses
    ca_file      encrypt the connection, and trust only the authorities in this file
    cert_file, key_file   the client's certificate
    token_file   send the token in this file

Only the first three are always there. The program writes a line with a JSON object:

    responses    the response messages in the protobuf JSON mapping
    left         whether it cancelled the call because of `leave_after`
    error        null, or an object: code (a number), message, reason, metadata, violations (a list
                 of objects with field and description), retry_after_s, output_sent, generation_id
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from eudai.v1 import generation_service_pb2 as pb
from google.protobuf import json_format
from google.protobuf.message import Message
from processes import BIN, ROOT

DRIVERS = Path(__file__).with_name("drivers")
CALL_TIMEOUT_S = 40.0
PROGRAM_TIMEOUT_S = 55.0
BUILD_TIMEOUT_S = 900.0
GENERATE = "eudai.v1.GenerationService/Generate"


@dataclass(frozen=True)
class Report:
    """What a client saw of one call."""

    responses: list[dict[str, Any]]
    left: bool
    error: dict[str, Any]

    def parsed(self, kind: type[Message]) -> Iterator[Any]:
        """The responses as messages."""
        for response in self.responses:
            yield json_format.ParseDict(response, kind(), ignore_unknown_fields=True)

    @property
    def events(self) -> list[pb.GenerateResponse]:
        """The responses of Generate."""
        return list(self.parsed(pb.GenerateResponse))

    @property
    def code(self) -> str:
        """The name of the status code."""
        if not self.error:
            return "OK"
        return next(code.name for code in grpc.StatusCode if code.value[0] == self.error["code"])

    @property
    def reason(self) -> str:
        """The name of the ErrorReason, or an empty text."""
        return str(self.error.get("reason", ""))


class Driver:
    """The driver program of one client."""

    def __init__(self, folder: Path) -> None:
        self.client = folder.name
        described = tomllib.loads((folder / "driver.toml").read_text())
        self._build = self._command(described.get("build", []))
        self._run = self._command(described["run"])
        self.unsupported: dict[str, str] = described.get("unsupported", {})

    def build(self) -> None:
        """Build the program. Raises RuntimeError with what is missing."""
        if not self._build:
            return
        toolchain = self._build[0]
        if not shutil.which(toolchain):
            raise RuntimeError(f"the {self.client} client needs {toolchain}, which is not on PATH")
        built = subprocess.run(
            self._build,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        if built.returncode:
            raise RuntimeError(
                f"the driver of the {self.client} client cannot be built:\n{built.stderr}"
            )

    async def call(
        self,
        scenario: str,
        address: str,
        request: dict[str, Any],
        method: str = GENERATE,
        **plan: Any,
    ) -> Report:
        """Run the program once, for one call."""
        plan = {"call": method, "request": request, "deadline_s": CALL_TIMEOUT_S} | plan
        ended = await asyncio.to_thread(
            subprocess.run,
            [*self._run, scenario, address],
            input=json.dumps(plan),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_S,
        )
        assert ended.returncode == 0, f"the driver failed:\n{ended.stderr}"
        assert ended.stdout.count("\n") == 1, f"the driver printed no single line:\n{ended.stdout}"
        report = json.loads(ended.stdout)
        return Report(report["responses"], report["left"], report["error"] or {})

    def _command(self, parts: list[str]) -> list[str]:
        return [part.format(python=sys.executable, bin=BIN) for part in parts]


def all_drivers() -> list[Driver]:
    """The drivers of all clients."""
    return [Driver(path.parent) for path in sorted(DRIVERS.glob("*/driver.toml"))]
