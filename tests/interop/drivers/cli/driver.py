"""The driver of the command line: runs `eudai` for one call, and prints what it saw.

tests/interop/driver.py describes the plan and the report.
"""

import base64
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

EUDAI = Path(sys.executable).parent / "eudai"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
CONNECTION = {
    "ca_file": "--ca-file",
    "cert_file": "--certificate-file",
    "key_file": "--key-file",
    "token_file": "--token-file",
}
Request = dict[str, Any]


class Files:
    """The files that the command reads."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def json(self, name: str, value: Any) -> str:
        """The path of a file with a value."""
        return self._path(name, json.dumps(value).encode())

    def image(self, media: dict[str, str]) -> str:
        """The path of an image."""
        return self._path("image.png", base64.b64decode(media["data"]))

    def _path(self, name: str, data: bytes) -> str:
        path = self._folder / name
        path.write_bytes(data)
        return str(path)


def generate(request: Request, files: Files) -> list[str]:
    """The arguments of `eudai generate`. Has the fields that the scenarios use."""
    options = {
        "--temperature": request.get("sampling", {}).get("temperature"),
        "--context-length": request.get("load", {}).get("contextLength"),
        "--expected-digest": request.get("expectedDigest"),
        "--heartbeat": request.get("events", {}).get("heartbeatInterval", "").removesuffix("s"),
        "--tools": files.json("tools.json", request["tools"]) if "tools" in request else None,
    }
    given = [f"{name}={value}" for name, value in options.items() if value]
    return ["generate", "--model", request.get("model", ""), *given, *prompt(request, files)]


def prompt(request: Request, files: Files) -> list[str]:
    """The arguments for the input. If the last message is one of the user, it is the prompt."""
    if "prompt" in request:
        return [request["prompt"]]
    messages = list(request["conversation"].get("messages", []))
    is_prompt = bool(messages) and messages[-1]["role"] == "ROLE_USER"
    parts = messages.pop()["parts"] if is_prompt else []
    arguments = [part["text"] for part in parts if "text" in part]
    arguments += [f"--image={files.image(part['media'])}" for part in parts if "media" in part]
    if messages or not is_prompt:
        arguments.append(f"--messages={files.json('messages.json', messages)}")
    return arguments


def generation(result: dict[str, Any]) -> Request:
    """The response of GenerateOnce, from a result as JSON."""
    message = {"role": "ROLE_ASSISTANT", "parts": [{"text": result["text"]}]}
    finished = {"reason": f"FINISH_REASON_{result['finish_reason']}"}
    return {"generation": {"message": message, "finished": finished}}


def create(request: Request, _files: Files) -> list[str]:
    """The arguments of `eudai create`."""
    files = [f"--file={name}={digest}" for name, digest in request["files"].items()]
    return ["create", request["model"], *files]


def same(response: Any) -> Any:
    """A line that is a response."""
    return response


# For each method, the arguments of the command, and the response that a line of its output is.
METHODS: dict[str, tuple[Callable[[Request, Files], list[str]], Callable[[Any], Any]]] = {
    "eudai.v1.GenerationService/Generate": (
        lambda request, files: [*generate(request, files), "--events"],
        same,
    ),
    "eudai.v1.GenerationService/GenerateOnce": (
        lambda request, files: [*generate(request["request"], files), "--json"],
        generation,
    ),
    "eudai.v1.EmbeddingService/Embed": (
        lambda request, _: ["embed", "--json", "--model", request["model"], *request["inputs"]],
        lambda vector: {"embeddings": [{"values": vector}]},
    ),
    "eudai.v1.ModelService/PullModel": (
        lambda request, _: ["pull", "--json", request["model"]],
        same,
    ),
    "eudai.v1.ModelService/CreateModel": (
        lambda request, files: [*create(request, files), "--json"],
        same,
    ),
    "eudai.v1.ModelService/DeleteModel": (
        lambda request, _: ["delete", "--json", request["model"]],
        same,
    ),
    "eudai.v1.ModelService/CancelPull": (
        lambda request, _: ["pull", "--cancel", "--json", request["model"]],
        same,
    ),
    "grpc.health.v1.Health/Check": (
        lambda request, _: ["healthcheck", "--json", "--service", request["service"]],
        same,
    ),
}


def described(text: str) -> dict[str, Any]:
    """The report of a failed call, from what the command wrote to standard error."""
    error = json.loads(text)["error"]
    error["code"] = grpc.StatusCode[error["code"]].value[0]
    partial = error.pop("partial")
    if partial:
        error |= {"output_sent": bool(partial["text"]), "generation_id": partial["generation_id"]}
    return dict(error)


def run(arguments: list[str], response: Callable[[Any], Any], plan: Request) -> Request:
    """Run the command, interrupt it when the plan says so, and check its exit code."""
    report: dict[str, Any] = {"responses": [], "left": False, "error": None}
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # An error is shorter than what a pipe holds, so that standard error can be read at the end.
    assert process.stdout and process.stderr  # noqa: PT018 - for mypy
    for line in process.stdout:
        report["responses"].append(response(json.loads(line)))
        if len(report["responses"]) == plan.get("leave_after"):
            report["left"] = True
            process.send_signal(signal.SIGINT)
            break
    errors = process.stderr.read()
    code = process.wait()
    if code == EXIT_FAILED:
        report["error"] = described(errors)
    elif code != (EXIT_INTERRUPTED if report["left"] else 0):
        raise SystemExit(f"eudai ended with the exit code {code}:\n{errors}")
    return report


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    arguments_of, response = METHODS[plan["call"]]
    connection = [f"{CONNECTION[name]}={plan[name]}" for name in CONNECTION.keys() & plan.keys()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = arguments_of(plan["request"], Files(folder))
        if arguments[0] == "generate":
            # The other commands have the timeout of the client.
            arguments.append(f"--timeout={plan['deadline_s']}")
        command = [str(EUDAI), "--address", sys.argv[2], *connection, *arguments]
        print(json.dumps(run(command, response, plan)))


if __name__ == "__main__":
    main()
