"""The driver of grpcurl: makes one call and prints what it saw.

tests/interop/driver.py describes the plan and the report.
"""

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

GRPCURL = Path(sys.executable).parent / "grpcurl"
# For what a server without reflection sends, or one that has stopped.
PROTOS = [
    "-use-reflection",
    *("-import-path", "proto", "-import-path", sysconfig.get_path("purelib")),
    *("-proto", "google/rpc/error_details.proto", "-proto", "eudai/v1/error.proto"),
]
TYPES = "type.googleapis.com/"


def flags_of(plan: dict[str, Any]) -> list[str]:
    """The flags for encryption, token and deadline."""
    flags = ["-cacert", plan["ca_file"]] if "ca_file" in plan else ["-plaintext"]
    if "cert_file" in plan:
        flags += ["-cert", plan["cert_file"], "-key", plan["key_file"]]
    if "token_file" in plan:
        flags += ["-H", f"authorization: Bearer {Path(plan['token_file']).read_text()}"]
    return [*flags, "-max-time", str(plan["deadline_s"]), "-format-error", "-d", "@"]


def objects_in(output: IO[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects that grpcurl prints, each as soon as it is complete."""
    text = ""
    for line in output:
        text += line
        if line in ("}\n", "{}\n"):
            yield json.loads(text)
            text = ""


def described(text: str) -> dict[str, Any]:
    """The report of a failed call, from the google.rpc.Status that grpcurl prints."""
    if not text.startswith("{"):
        # grpcurl could not connect.
        return {"code": 14, "message": text}
    status = json.loads(text)
    report = {"code": status["code"], "message": status.get("message", "")}
    for packed in status.get("details", []):
        # grpcurl prints some details with the names of the .proto files.
        detail = {
            re.sub("_(.)", lambda found: found[1].upper(), key): packed[key] for key in packed
        }
        match detail["@type"].removeprefix(TYPES):
            case "google.rpc.ErrorInfo":
                report |= {"reason": detail["reason"], "metadata": detail.get("metadata", {})}
            case "google.rpc.BadRequest":
                report["violations"] = detail["fieldViolations"]
            case "google.rpc.RetryInfo":
                report["retry_after_s"] = float(detail["retryDelay"].removesuffix("s"))
            case "eudai.v1.GenerationFailure":
                report |= {
                    "output_sent": detail["outputSent"],
                    "generation_id": detail["generationId"],
                }
    return report


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report: dict[str, Any] = {"responses": [], "left": False, "error": None}
    process = subprocess.Popen(
        [str(GRPCURL), *PROTOS, *flags_of(plan), sys.argv[2], plan["call"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A status is shorter than what a pipe holds, so that standard error can be read at the end.
    assert process.stdin and process.stdout and process.stderr  # noqa: PT018 - for mypy
    process.stdin.write(json.dumps(plan["request"]))
    process.stdin.close()
    for response in objects_in(process.stdout):
        report["responses"].append(response)
        if len(report["responses"]) == plan.get("leave_after"):
            report["left"] = True
            process.terminate()
            break
    errors = process.stderr.read()
    if process.wait() and not report["left"]:
        report["error"] = described(errors)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
