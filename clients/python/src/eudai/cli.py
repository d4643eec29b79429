"""The command line client: sends a prompt and prints the answer as it is generated.

eudai generate "The capital of France is" streams the answer; exit code 0 when it is complete eudai
healthcheck exit code 0 if the server is ready, otherwise 1
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eudai.channel import CHANNEL_OPTIONS
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_MODEL = "gemma3:270m"
HEALTH_TIMEOUT_S = 2.0
GENERATE_TIMEOUT_S = 600.0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with grpc.insecure_channel(options.address, options=CHANNEL_OPTIONS) as channel:
            return int(options.run(channel, options))
    except grpc.RpcError as error:
        print(f"eudai: {_explain(error)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended. Closing the channel stops the model.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def generate(channel: grpc.Channel, options: argparse.Namespace) -> int:
    """Stream one generation.

    The answer goes to standard output; reasoning and warnings go to standard error.
    """
    request = pb.GenerateRequest(
        model=options.model, prompt=options.prompt if options.prompt != "-" else sys.stdin.read()
    )
    if options.system:
        request.system = options.system
    if options.max_output_tokens is not None:
        request.stop.max_output_tokens = options.max_output_tokens
    if options.temperature is not None:
        request.sampling.temperature = options.temperature
    call = rpc.GenerationServiceStub(channel).Generate(request, timeout=options.timeout)
    try:
        for event in call:
            match event.WhichOneof("event"):
                case "delta":
                    print(event.delta.text, end="", flush=True)
                    print(event.delta.reasoning, end="", flush=True, file=sys.stderr)
                case "warning":
                    print(f"eudai: {event.warning.message}", file=sys.stderr)
                case "finished":
                    usage = event.finished.usage
                    reason = pb.FinishReason.Name(event.finished.reason).removeprefix(
                        "FINISH_REASON_"
                    )
                    print()
                    print(
                        f"eudai: {reason}, {usage.input_tokens} input tokens, "
                        f"{usage.output_tokens} output tokens",
                        file=sys.stderr,
                    )
    finally:
        call.cancel()
    return 0


def healthcheck(channel: grpc.Channel, options: argparse.Namespace) -> int:
    """Check one health name."""
    check = health_pb2_grpc.HealthStub(channel).Check
    answer = check(health_pb2.HealthCheckRequest(service=options.service), timeout=HEALTH_TIMEOUT_S)
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eudai", description="Command line client of an eudai server."
    )
    parser.add_argument(
        "--address",
        default=_default_address(),
        help="host:port of the server (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("generate", help="stream an answer to a prompt")
    command.set_defaults(run=generate)
    command.add_argument("prompt", help='the prompt, or "-" to read it from standard input')
    command.add_argument(
        "--model",
        default=os.environ.get("EUDAI_MODEL") or DEFAULT_MODEL,
        help="model reference (default: %(default)s)",
    )
    command.add_argument("--system", help="system message, in place of the model's own")
    command.add_argument(
        "--max-output-tokens", type=int, metavar="N", help="maximum number of tokens to generate"
    )
    command.add_argument(
        "--temperature", type=float, metavar="T", help="sampling temperature, 0 to 5"
    )
    command.add_argument(
        "--timeout",
        type=float,
        default=GENERATE_TIMEOUT_S,
        metavar="SECONDS",
        help="deadline of the call (default: %(default)s)",
    )
    command = commands.add_parser("healthcheck", help="check whether the server is ready")
    command.set_defaults(run=healthcheck)
    command.add_argument(
        "--service",
        default="",
        help='health name: "" (readiness, the default), liveness, a full service name, '
        "or model/<reference>",
    )
    return parser


def _default_address() -> str:
    """The server on this machine: EUDAI_LISTEN, or loopback if that names every interface."""
    host, _, port = os.environ.get("EUDAI_LISTEN", DEFAULT_ADDRESS).rpartition(":")
    is_any = host in ("0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
    return f"127.0.0.1:{port}" if is_any else f"{host}:{port}"


def _explain(error: grpc.RpcError) -> str:
    """The status, its reason, and what to change."""
    # Every error of a call is also a grpc.Call, which the annotations do not say.
    call = cast("grpc.Call", error)
    lines = [f"{call.code().name}: {call.details()}"]
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                bad_request = error_details_pb2.BadRequest()
                if detail.Unpack(bad_request):
                    lines += [
                        f"  {violation.field}: {violation.description}"
                        for violation in bad_request.field_violations
                    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
