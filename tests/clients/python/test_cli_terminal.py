"""The command line at a terminal: chats, progress, and Ctrl-C."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eudai.v1 import generation_service_pb2 as pb, model_service_pb2 as model_pb
from scripted_services import ScriptedServices, endless, endless_pull
from terminal import TIMEOUT_S, terminal

grpc_max_workers = 8


def test_a_chat_answers_stops_and_ends(
    address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    with terminal(address, tmp_path, "chat", "--system", "s") as screen:
        screen.wait_for(">>> ")
        screen.type("hi\n")
        screen.wait_for("Hello there!")
        screen.wait_for(">>> ")
        services.on["Generate"] = endless
        screen.type("again\n")
        screen.wait_for("nnn")
        screen.process.send_signal(signal.SIGINT)
        screen.wait_for("stopped")
        assert services.ended.wait(10)
        del services.on["Generate"]
        screen.wait_for(">>> ")
        screen.type('"""\nfirst\nsecond\n"""\n')
        screen.wait_for("Hello there!")
        screen.wait_for(">>> ")
        screen.type("/quit\n")
        assert screen.process.wait(TIMEOUT_S) == 0

    texts = [each.parts[0].text for each in services.requests[-1].conversation.messages]
    assert texts == ["hi", "Hello there!", "first\nsecond"]
    assert services.requests[-1].system == "s"
    assert (tmp_path / "eudai/history").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(("options", "state"), [([], "is cancelled"), (["--detach"], "continues")])
def test_an_interrupted_pull_reports_whether_it_continues(
    address: str, services: ScriptedServices, tmp_path: Path, options: list[str], state: str
) -> None:
    services.on["PullModel"] = slow_pull
    with terminal(address, tmp_path, "pull", "m", *options) as screen:
        screen.wait_for("1/2 bytes")
        screen.process.send_signal(signal.SIGINT)
        screen.wait_for(state)
        assert screen.process.wait(TIMEOUT_S) == 130
    assert services.ended.wait(10)


def slow_pull(request: Any, context: Any) -> Iterator[model_pb.PullModelResponse]:
    """Progress until the call is cancelled, at the pace of a terminal."""
    for progress in endless_pull(request, context):
        yield progress
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "done"),
    [(["push", "m"], "pushed m"), (["create", "m", "--base-model", "b"], "created m")],
)
def test_a_transfer_shows_its_end(
    address: str, services: ScriptedServices, tmp_path: Path, arguments: list[str], done: str
) -> None:
    assert services
    with terminal(address, tmp_path, *arguments) as screen:
        screen.wait_for(done)
        assert screen.process.wait(TIMEOUT_S) == 0


def test_a_terminal_shows_the_phase_of_a_waiting_request(
    address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    may_answer = threading.Event()

    def waiting(_request: Any, _context: Any) -> Iterator[pb.GenerateResponse]:
        phases = pb.GENERATION_PHASE_QUEUED, pb.GENERATION_PHASE_LOADING_MODEL
        for phase in phases:
            may_answer.wait(TIMEOUT_S)
            may_answer.clear()
            progress = pb.GenerationProgress(phase=phase, requests_ahead=3)
            yield pb.GenerateResponse(progress=progress)
        may_answer.wait(TIMEOUT_S)
        yield pb.GenerateResponse(delta=pb.Delta(text="answer"))
        yield pb.GenerateResponse(finished=pb.Finished())

    services.on["Generate"] = waiting
    with terminal(address, tmp_path, "generate", "hi") as screen:
        screen.wait_for("waiting for the server")
        may_answer.set()
        screen.wait_for("waiting for 3 other requests")
        may_answer.set()
        screen.wait_for("loading the model")
        may_answer.set()
        screen.wait_for("answer")
        assert screen.process.wait(TIMEOUT_S) == 0
    assert services.requests[0].events.progress


def test_an_interrupt_ends_a_generation(
    address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    services.on["Generate"] = endless
    with terminal(address, tmp_path, "generate", "hi") as screen:
        screen.wait_for("nnn")
        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(TIMEOUT_S) == 130
        assert "Traceback" not in screen.shown
    assert services.ended.wait(10)


def test_a_terminal_that_closes_ends_the_program(
    address: str, services: ScriptedServices, tmp_path: Path
) -> None:
    services.on["Generate"] = endless
    with terminal(address, tmp_path, "generate", "hi") as screen:
        screen.wait_for("nnn")
        screen.process.send_signal(signal.SIGHUP)
        screen.process.wait(TIMEOUT_S)
    assert services.ended.wait(10)
