"""Each failure of a call becomes an exception that says what to do."""

import pickle
import socket
import threading
from concurrent import futures
from typing import Any

import eudai
import grpc
import pytest
from eudai.reason_errors import class_of
from eudai.v1.error_pb2 import ErrorReason
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from scripted_services import ScriptedServices, endless, fail

grpc_max_workers = 8


@pytest.mark.parametrize(
    "reason", [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]
)
def test_each_reason_has_a_class_of_its_name(reason: str) -> None:
    kind = class_of(reason, "")

    assert kind.__name__.lower() == reason.replace("_", "").lower() + "error"
    assert getattr(eudai, kind.__name__) is kind
    assert any(base in eudai.EudaiError.by_code.values() for base in kind.__mro__)


def test_the_details_of_a_failure_are_attributes(
    client: eudai.Client, services: ScriptedServices
) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    services.on["GetServerInfo"] = lambda _, context: fail(
        context, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", "full", retry, model="m"
    )

    with pytest.raises(eudai.QueueFullError) as failure:
        client.server_info()
    error = failure.value
    assert (error.message, error.code, error.reason) == ("full", "RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert error.retry_after_s == 1.5
    assert error.metadata == {"model": "m"}
    assert (error.violations, error.partial, error.incident) == ((), None, "")
    assert isinstance(error, eudai.ResourceExhaustedError)


def test_each_violation_is_a_line(client: eudai.Client) -> None:
    with pytest.raises(eudai.InvalidRequestError) as failure:
        client.generate_once("m", "hi", temperature=9)

    assert str(failure.value) == (
        "the request is invalid\n  sampling.temperature: must be between 0 and 5"
    )


def test_a_defect_has_an_incident(client: eudai.Client, services: ScriptedServices) -> None:
    services.on["Check"] = lambda _, context: fail(
        context, grpc.StatusCode.INTERNAL, "INTERNAL", "a defect", incident="i-1", request_id="r-1"
    )

    with pytest.raises(eudai.InternalError) as failure:
        client.health()
    assert (failure.value.incident, failure.value.request_id) == ("i-1", "r-1")
    assert failure.value.retry_after_s is None


def test_a_newer_reason_has_the_class_of_its_code(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["Check"] = lambda _, context: fail(context, grpc.StatusCode.ABORTED, "NEWER")

    with pytest.raises(eudai.AbortedError) as failure:
        client.health()
    assert type(failure.value) is eudai.AbortedError
    assert failure.value.reason == "NEWER"


def test_details_that_are_cut_do_not_hide_the_failure(
    client: eudai.Client, services: ScriptedServices
) -> None:
    def cut(_: Any, context: Any) -> None:
        context.set_trailing_metadata([("grpc-status-details-bin", b"\x0a\xff")])
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    services.on["Check"] = cut
    with pytest.raises(eudai.EudaiError, match="lost") as failure:
        client.health()
    assert (failure.value.code, failure.value.reason) == ("DATA_LOSS", "")


def test_an_unimplemented_method_has_a_clear_error(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["Check"] = lambda _, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "none")

    with pytest.raises(eudai.UnimplementedError, match="does not have this method"):
        client.health()


def test_an_unreachable_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    with (
        eudai.Client(address) as client,
        pytest.raises(eudai.UnavailableError, match=f"{address} cannot be reached"),
    ):
        client.server_info(timeout_s=10)


def test_a_port_that_speaks_http_1_is_recognized() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=answer_http_1, args=[listener], daemon=True).start()
        with eudai.Client(address) as client, pytest.raises(eudai.EudaiError) as failure:
            client.server_info(timeout_s=20)

    assert str(failure.value) == (
        f"the server at {address} cannot be reached: it speaks HTTP/1.1, not gRPC"
    )


def test_a_host_that_does_not_exist_is_recognized() -> None:
    with eudai.Client("host.invalid:1") as client, pytest.raises(eudai.EudaiError) as failure:
        client.server_info(timeout_s=20)

    assert failure.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert "\n" not in str(failure.value)


def test_a_server_that_ends_in_the_middle_leaves_the_output_so_far() -> None:
    services = ScriptedServices()
    services.on["Generate"] = endless
    server = grpc.server(futures.ThreadPoolExecutor(2))
    services.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with eudai.Client(f"127.0.0.1:{port}") as client, client.generate("m", "hi") as stream:
        texts = stream.text
        next(texts)
        server.stop(None)
        with pytest.raises(eudai.EudaiError) as failure:
            list(texts)

    assert failure.value.code in ("UNAVAILABLE", "CANCELLED")
    assert failure.value.partial
    assert failure.value.partial.text.startswith("n")


def test_an_error_can_be_pickled() -> None:
    for kind in (*eudai.EudaiError.by_reason.values(), eudai.ParseError, eudai.ToolRoundsError):
        error = pickle.loads(pickle.dumps(kind("full")))  # noqa: S301
        assert (type(error), error.message) == (kind, "full")


def answer_http_1(listener: socket.socket) -> None:
    """Answer each connection as a web server does."""
    try:
        while True:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.close()
    except OSError:
        pass  # the listener has been closed
