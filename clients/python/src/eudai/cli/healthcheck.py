"""The command `eudai healthcheck`, which imports neither protobuf nor the rest of the client."""

import argparse
import json
import sys
from collections.abc import Sequence

import grpc

from eudai.cli.address import default_address
from eudai.connection import Connection
from eudai.errors import ConfigError

TIMEOUT_S = 2.0
EXIT_FAILED = 1
EXIT_USAGE = 2
METHOD = "/grpc.health.v1.Health/Check"
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
FILE_OPTIONS = ("ca_file", "certificate_file", "key_file", "token_file")


def run(arguments: Sequence[str]) -> int:
    """Print the status of one health name. Returns 0 if it is SERVING, otherwise 1."""
    options = vars(_parser().parse_args(arguments))
    service, address = options.pop("service"), options.pop("address")
    as_json = options.pop("json")
    del options["command"]
    try:
        connection = Connection(
            address or default_address(health=True), timeout_s=TIMEOUT_S, **options
        )
        status = _check(connection, service)
    except ConfigError as error:
        print(f"eudai: {error}", file=sys.stderr)
        return EXIT_USAGE
    except grpc.RpcError as failure:
        _report(failure, connection.address, as_json=as_json)
        return EXIT_FAILED
    print(json.dumps({"status": status}) if as_json else status)
    return 0 if status == "SERVING" else EXIT_FAILED


def _check(connection: Connection, service: str) -> str:
    credentials, options = connection.credentials, connection.channel_options
    channel = (
        grpc.secure_channel(connection.address, credentials, options)
        if credentials
        else grpc.insecure_channel(connection.address, options)
    )
    with channel:
        check = channel.unary_unary(METHOD, _request_from, _status_from)
        return str(check(service, **connection.call_arguments({})))


def _report(failure: grpc.RpcError, address: str, *, as_json: bool) -> None:
    """Print why the call failed."""
    # These need protobuf.
    from eudai.call_errors import error_from  # noqa: PLC0415
    from eudai.cli.json_output import error_fields  # noqa: PLC0415

    error = error_from(failure, address)
    text = json.dumps({"error": error_fields(error)}) if as_json else f"eudai: {error}"
    print(text, file=sys.stderr)


def _request_from(service: str) -> bytes:
    """A serialized HealthCheckRequest: its field 1 is the name of the service."""
    name = service.encode()
    size = len(name)
    return b"\x0a" + bytes([size & 127 | 128, size >> 7]) + name if name else b""


def _status_from(response: bytes) -> str:
    """The status of a serialized HealthCheckResponse: its field 1, which is absent if it is 0."""
    number = response[1] if response[:1] == b"\x08" else 0
    return STATUSES[number] if number < len(STATUSES) else str(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eudai",
        description="Check whether the server is ready. "
        "Exit code 0 if it is, 1 if not, and 2 if an option is wrong.",
        epilog="`eudai --help` describes the options of the connection.",
    )
    parser.add_argument("--address", metavar="HOST:PORT", help=argparse.SUPPRESS)
    parser.add_argument(
        "--tls", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    for name in FILE_OPTIONS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("command", choices=["healthcheck"], help=argparse.SUPPRESS)
    parser.add_argument(
        "--json", action="store_true", help="print the status, or the error of the call, as JSON"
    )
    parser.add_argument(
        "--service",
        default="",
        type=_service,
        help='health name: "" (readiness, the default), liveness, a full service name, '
        "or model/<reference>",
    )
    return parser


def _service(name: str) -> str:
    if len(name.encode()) >= 1 << 14:
        raise argparse.ArgumentTypeError("the name is too long")
    return name
