"""The command line: what it prints, how it ends, and what it keeps from the terminal."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from eudai.cli import main
from eudai.cli.address import default_address
from eudai.cli.chat import HELP
from eudai.v1 import content_pb2, generation_service_pb2 as pb, model_service_pb2 as model_pb
from scripted_services import ScriptedServices, endless, fail, failing
from terminal import TIMEOUT_S, Eudai, environment

grpc_max_workers = 8


def test_an_answer_goes_to_standard_output(eudai: Eudai) -> None:
    ended = eudai("generate", "hi")

    assert (ended.returncode, ended.stdout) == (0, "Hello there!\n")
    assert ended.stderr == "eudai: STOP, 2 input tokens, 3 output tokens\n"


def test_a_prompt_comes_from_standard_input(eudai: Eudai, services: ScriptedServices) -> None:
    for arguments in (["generate"], ["generate", "-"]):
        assert eudai(*arguments, stdin="warn me").stderr.startswith("eudai: ignored\n")

    assert [request.prompt for request in services.requests] == ["warn me"] * 2


def test_too_long_an_input_is_refused(eudai: Eudai, services: ScriptedServices) -> None:
    ended = eudai("generate", stdin="x" * ((8 << 20) + 1))

    assert ended.returncode == 2
    assert ended.stderr == "eudai: standard input has more than 8 Mi characters\n"
    assert services.requests == []


def test_options_of_a_generation_arrive(
    eudai: Eudai, services: ScriptedServices, tmp_path: Path
) -> None:
    image, schema = tmp_path / "image.png", tmp_path / "schema.json"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    schema.write_text('{"type": "object"}')
    options = [
        "--model", "m", "--system", "s", "--max-output-tokens", "5", "--temperature", "0",
        "--seed", "7", "--reasoning", "low", "--image", str(image), "--schema", str(schema),
    ]  # fmt: skip

    assert eudai("generate", *options, "hi").returncode == 0
    (request,) = services.requests
    assert (request.model, request.system) == ("m", "s")
    assert (request.sampling.temperature, request.sampling.seed) == (0.0, 7)
    assert request.stop.max_output_tokens == 5
    assert request.reasoning.effort == pb.REASONING_EFFORT_LOW
    assert request.conversation.messages[0].parts[1].media.mime_type == "image/png"
    assert request.format.json_schema == '{"type": "object"}'


def test_control_characters_do_not_reach_the_terminal(
    eudai: Eudai, services: ScriptedServices
) -> None:
    hostile = "a\x1b[31mb\x07\x9b\r\x7f\u202ec\td\ne"
    services.on["Generate"] = lambda _request, _context: iter(
        [
            pb.GenerateResponse(delta=pb.Delta(reasoning=hostile)),
            pb.GenerateResponse(delta=pb.Delta(text=hostile)),
            pb.GenerateResponse(finished=pb.Finished()),
        ]
    )
    services.on["GetServerInfo"] = lambda _request, context: fail(
        context, grpc.StatusCode.INTERNAL, "INTERNAL", hostile
    )

    ended = eudai("generate", "hi")
    assert ended.stdout == "a[31mbc\td\ne\n"
    assert "\x1b" not in ended.stderr
    assert "a[31mbc" in ended.stderr
    assert eudai("info").stderr.startswith("eudai: a[31mbc")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "hi", "--temperature", "9"], 1, "sampling.temperature: must be between"),
        (["generate", "hi", "--model", "no-such-model"], 1, "does not exist in Ollama"),
        (["generate", "hi", "--temperature", "hot"], 2, "not a valid float"),
        (["generate", "hi", "--timeout", "0"], 2, "timeout_s must be a number of seconds above 0"),
        (["generate", "hi", "--image", "/nowhere"], 2, "does not exist"),
        (["generate", "hi", "--image", __file__], 2, "not a PNG, JPEG, WebP, WAV or MP3 file"),
        (["generate", "hi", "--schema", __file__], 2, "not JSON"),
        (["generate", "hi", "--json", "--events"], 2, "cannot be used together"),
        (["--address", "http://x", "models"], 2, "is a URL: write host:port"),
        (["--ca-file", "/nowhere", "models"], 2, "/nowhere: No such file or directory"),
        (["--token-file", "/nowhere", "info"], 2, "/nowhere: No such file or directory"),
        (["nonsense"], 2, "No such command 'nonsense'. (see `eudai --help`)"),
        (["--address", "http://x", "healthcheck"], 2, "is a URL: write host:port"),
        (["--ca-file", "/nowhere", "healthcheck"], 2, "/nowhere: No such file or directory"),
    ],
)
def test_a_failure_is_explained_without_a_traceback(
    eudai: Eudai, arguments: list[str], code: int, message: str
) -> None:
    ended = eudai(*arguments)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("eudai: ")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unreachable_server_gives_one_line_with_advice(eudai: Eudai) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ended = eudai("models", EUDAI_ADDRESS=address)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"eudai: the server at {address} cannot be reached: ")
    assert ended.stderr.endswith("; is the server running? set --address or EUDAI_ADDRESS\n")
    assert ended.stderr.count("\n") == 1


def test_a_failure_in_the_middle_keeps_what_arrived(
    eudai: Eudai, services: ScriptedServices
) -> None:
    services.on["Generate"] = failing
    ended = eudai("generate", "hi")

    assert (ended.returncode, ended.stdout) == (1, "partial\n")
    assert ended.stderr == "eudai: it failed\n"


def test_a_table_has_tabs_if_it_is_not_for_a_terminal(eudai: Eudai) -> None:
    lines = eudai("models").stdout.splitlines()

    assert lines[1].split("\t")[:4] == ["gemma3:270m", "292 MB", "268M", "Q8_0"]
    assert json.loads(eudai("models", "--json").stdout.splitlines()[1])["name"] == "gemma3:270m"
    assert "max queued\t4\n" in eudai("info").stdout
    assert json.loads(eudai("info", "--json").stdout)["max_queued"] == 4


def test_loaded_models_are_listed(eudai: Eudai, services: ScriptedServices) -> None:
    loaded = model_pb.LoadedState(size_bytes=100, gpu_bytes=50, context_length=4096)
    loaded.expire_time.FromJsonString("2319-01-01T00:00:00Z")
    services.on["ListModels"] = lambda _request, _context: model_pb.ListModelsResponse(
        models=[model_pb.Model(name="m", loaded=loaded)]
    )

    assert eudai("ps").stdout == "m\t100 B\t50%\t4096\tforever\n"
    assert services.requests[0].loaded_only


def test_vectors_are_json_lines(eudai: Eudai, services: ScriptedServices) -> None:
    assert eudai("embed", "a", "b").stdout == "[1.0, 0.0]\n[1.0, 0.0]\n"
    assert eudai("embed", "--dimensions", "2", stdin="a\nb\n").stdout.count("\n") == 2
    assert list(services.requests[1].inputs) == ["a", "b"]


def test_the_exit_code_tells_the_health(eudai: Eudai, address: str) -> None:
    assert (eudai("healthcheck").returncode, eudai("healthcheck").stdout) == (0, "SERVING\n")
    unready = eudai("--address", address, "healthcheck", "--service", "model/unknown")
    assert (unready.returncode, unready.stdout) == (1, "NOT_SERVING\n")


def test_long_health_names_arrive(eudai: Eudai, services: ScriptedServices) -> None:
    for name in ("x" * 127, "x" * 128, "ü" * 1000):
        assert eudai("healthcheck", "--service", name).returncode == 0
        assert services.requests[-1].service == name


def test_a_health_check_is_light(address: str, services: ScriptedServices) -> None:
    assert services
    program = (
        "import sys; from eudai.cli import main; assert main(['healthcheck']) == 0; "
        "print([name for name in ('rich', 'click', 'google.protobuf', 'asyncio.base_events') "
        "if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "EUDAI_ADDRESS": address},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "'rich'" not in ended.stdout
    assert "'click'" not in ended.stdout
    assert "'google.protobuf'" not in ended.stdout


def test_a_command_without_its_packages_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    for name in [name for name in sys.modules if name.startswith("eudai.cli.")]:
        monkeypatch.delitem(sys.modules, name)

    assert main(["models"]) == 2
    assert capsys.readouterr().err == (
        "eudai: this command needs more packages: pip install 'eudai[cli]'\n"
    )


def test_the_address_is_that_of_the_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EUDAI_ADDRESS", raising=False)
    monkeypatch.setenv("EUDAI_LISTEN", "0.0.0.0:7")
    assert default_address() == "127.0.0.1:7"
    monkeypatch.setenv("EUDAI_ADDRESS", "h:8")
    assert default_address() == "h:8"


def test_the_shell_completes_names_of_models(eudai: Eudai) -> None:
    assert "_eudai_completion" in eudai("completion", "bash").stdout
    completed = eudai(_EUDAI_COMPLETE="bash_complete", COMP_WORDS="eudai pull gem", COMP_CWORD="2")
    assert completed.stdout == "plain,gemma3:270m\n"


def test_a_reader_that_ends_early_ends_the_program(
    address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    services.on["Generate"] = endless
    command = f"{sys.executable} -m eudai.cli generate hi | head -c 5"
    ended = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], env=environment(address, tmp_path),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("nnnnn1\n", "")
    assert services.ended.wait(10)


@pytest.mark.parametrize("arguments", [["other"], ["--model", "other"]])
def test_the_model_of_a_chat(
    eudai: Eudai, services: ScriptedServices, arguments: list[str]
) -> None:
    ended = eudai("chat", *arguments, stdin="hi")

    assert ended.stdout == "Hello there!\n"
    assert [request.model for request in services.requests] == ["other"]


def test_commands_of_a_chat(eudai: Eudai, services: ScriptedServices, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = [
        "hi", "/model other", "/system be brief", f"/image {image}", "one \\", "two", "/clear",
        "/image /nowhere", "/model no-such-model", "hi", "/nonsense", "/help", "/quit", "not sent",
    ]  # fmt: skip
    ended = eudai("chat", stdin="\n".join(lines))

    assert ended.returncode == 0
    assert ended.stdout == f"Hello there!\nHello there!\n{HELP}\n"
    assert "does not exist in Ollama" in ended.stderr
    assert "/nonsense is not a command" in ended.stderr
    assert "No such file or directory: '/nowhere'" in ended.stderr
    _, second, third = services.requests
    assert (second.model, second.system) == ("other", "be brief")
    message = second.conversation.messages[2]
    assert [part.WhichOneof("kind") for part in message.parts] == ["text", "media"]
    assert message.parts[0].text == "one \ntwo"
    assert len(second.conversation.messages) == 3
    assert len(third.conversation.messages) == 1
    assert message.role == content_pb2.ROLE_USER
