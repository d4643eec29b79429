"""The command line for programs: JSON results, events and errors, and files with JSON."""

import json
from pathlib import Path

import grpc
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.rpc import error_details_pb2
from scripted_services import ScriptedServices, fail, failing
from terminal import Eudai

grpc_max_workers = 8


def test_a_result_can_be_json(eudai: Eudai) -> None:
    result = json.loads(eudai("generate", "--json", "hi").stdout)

    assert result["text"] == "Hello there!"
    assert result["usage"] == {"input_tokens": 2, "output_tokens": 3}


def test_each_event_is_a_line_of_json(eudai: Eudai) -> None:
    ended = eudai("generate", "--events", "hi")

    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [list(event) for event in events] == [["started"], ["delta"], ["delta"], ["finished"]]
    assert events[1]["delta"]["text"] == "Hello"
    assert events[-1]["finished"]["usage"]["output_tokens"] == 3
    assert (ended.returncode, ended.stderr) == (0, "")


def test_control_characters_are_escaped_in_json(eudai: Eudai, services: ScriptedServices) -> None:
    hostile = "a\x1b[31mb\x9b\u202ec\u00fc"
    message = content_pb2.Message(parts=[content_pb2.Part(text=hostile)])
    once = pb.GenerateOnceResponse(generation=pb.Generation(message=message))
    events = [
        pb.GenerateResponse(delta=pb.Delta(text=hostile)),
        pb.GenerateResponse(finished=pb.Finished()),
    ]
    services.on["GenerateOnce"] = lambda _request, _context: once
    services.on["Generate"] = lambda _request, _context: iter(events)

    for option in ("--json", "--events"):
        shown = eudai("generate", option, "hi").stdout
        assert r"a\u001b[31mb\u009b\u202ecü" in shown
    assert json.loads(shown.splitlines()[0])["delta"]["text"] == hostile


def test_an_error_can_be_json(eudai: Eudai) -> None:
    ended = eudai("generate", "--json", "hi", "--temperature", "9")

    violation = {"field": "sampling.temperature", "description": "must be between 0 and 5"}
    assert (ended.returncode, ended.stdout) == (1, "")
    assert json.loads(ended.stderr) == {
        "error": {
            "code": "INVALID_ARGUMENT", "reason": "INVALID_REQUEST",
            "message": "the request is invalid", "retry_after_s": None, "violations": [violation],
            "metadata": {}, "partial": None,
        }
    }  # fmt: skip


def test_an_error_in_json_has_the_output_so_far(eudai: Eudai, services: ScriptedServices) -> None:
    services.on["Generate"] = failing
    ended = eudai("generate", "--events", "hi")

    error = json.loads(ended.stderr)["error"]
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["delta"]["text"] == "partial"
    assert (error["code"], error["reason"]) == ("UNAVAILABLE", "BACKEND_STREAM_INTERRUPTED")
    assert error["partial"]["text"] == "partial"


@pytest.mark.parametrize("arguments", [["models"], ["embed", "a"], ["info"], ["pulls"], ["ps"]])
def test_every_command_prints_errors_as_json(
    eudai: Eudai, services: ScriptedServices, arguments: list[str]
) -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    for method in ("ListModels", "Embed", "GetServerInfo", "ListPulls"):
        services.on[method] = lambda _request, context: fail(
            context, grpc.StatusCode.UNAVAILABLE, "DRAINING", "it stops", retry, request_id="r"
        )

    ended = eudai(*arguments, "--json")
    error = json.loads(ended.stderr)["error"]
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (error["reason"], error["retry_after_s"]) == ("DRAINING", 1.5)
    assert error["metadata"] == {"request_id": "r"}


def test_the_health_can_be_json(eudai: Eudai, services: ScriptedServices) -> None:
    ready = eudai("healthcheck", "--json")
    assert (ready.returncode, json.loads(ready.stdout)) == (0, {"status": "SERVING"})
    services.on["Check"] = lambda _request, context: context.abort(
        grpc.StatusCode.NOT_FOUND, "unknown health name"
    )
    unknown = eudai("healthcheck", "--json", "--service", "nope")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert json.loads(unknown.stderr)["error"]["code"] == "NOT_FOUND"


def test_messages_and_tools_come_from_files(
    eudai: Eudai, services: ScriptedServices, tmp_path: Path
) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "messages.json").write_text(
        json.dumps(
            [
                {"role": "ROLE_SYSTEM", "parts": [{"text": "Be brief."}]},
                {"role": "ROLE_ASSISTANT", "toolCalls": [{"id": "1", "name": "now"}]},
                {"role": "ROLE_TOOL", "tool_call_id": "1", "parts": [{"text": "12:00"}]},
            ]
        )
    )
    (tmp_path / "tools.json").write_text('[{"name": "now", "parameters_schema": "{}"}]')
    files = [f"--messages={tmp_path / 'messages.json'}", f"--tools={tmp_path / 'tools.json'}"]

    assert eudai("generate", *files).returncode == 0
    assert eudai("generate", *files, "again").returncode == 0
    assert eudai("generate", *files, "-", stdin="again").returncode == 0
    assert eudai("generate", *files, f"--image={tmp_path / 'image.png'}").returncode == 0
    alone, with_prompt, with_input, with_image = services.requests
    assert [each.role for each in alone.conversation.messages] == [
        content_pb2.ROLE_SYSTEM, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_TOOL,
    ]  # fmt: skip
    assert alone.conversation.messages[1].tool_calls[0].name == "now"
    assert [tool.name for tool in alone.tools] == ["now"]
    assert len(with_prompt.conversation.messages) == 4
    assert with_prompt.conversation.messages[3].parts[0].text == "again"
    assert with_input == with_prompt
    assert with_image.conversation.messages[3].parts[0].media.mime_type == "image/png"


def test_options_of_the_contract_arrive(eudai: Eudai, services: ScriptedServices) -> None:
    options = ["--expected-digest", "sha256:0", "--context-length", "64", "--heartbeat", "0.5"]

    assert eudai("generate", *options, "hi").returncode == 0
    assert eudai("generate", "hi").returncode == 0
    request, plain = services.requests
    assert (request.expected_digest, request.load.context_length) == ("sha256:0", 64)
    assert request.events.heartbeat_interval.ToMilliseconds() == 500
    assert not plain.HasField("load")


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--messages", "[", "not JSON"),
        ("--messages", "[" * 100_000, "not JSON"),
        ("--messages", "5", "messages"),
        ("--messages", "[5]", "messages"),
        ("--messages", '[{"role": "KING"}]', "role"),
        ("--messages", '[{"rolle": "ROLE_USER"}]', 'no field named "rolle"'),
        ("--messages", " " * ((16 << 20) + 1), "larger than 16 MiB"),
        ("--tools", '{"name": "now"}', "tools"),
        ("--tools", '[{"name": 5}]', "name"),
        ("--schema", "[]", "not a JSON object"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name(
    eudai: Eudai, tmp_path: Path, option: str, content: str, message: str
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    ended = eudai("generate", option, str(path), "hi")

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"eudai: Invalid value for '{option}': {path}: ")
    assert message in ended.stderr
    assert len(ended.stderr) < 600
    assert "Traceback" not in ended.stderr
