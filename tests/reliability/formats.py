"""Counts how many answers of a real model under a format can be parsed. Run by `make formats`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

import grpc
from descriptors import descriptor_set, message_class
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc
from google.protobuf import json_format

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 40},
            "inhabitants": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
            "capital": {"type": "boolean"},
        },
        "required": ["city", "inhabitants", "capital"],
        "additionalProperties": False,
    }
)
# The model is a base model: it continues examples.
CITIES = (
    '{"city":"Paris","inhabitants":2100000,"capital":true}\n'
    '{"city":"Lyon","inhabitants":520000,"capital":false}\n'
)
LINES = (
    '{"product":"tea","quantity":2,"price":"3.50"}\n'
    '{"product":"sugar","quantity":1,"price":"0.99"}\n'
)
ORDERS = 2 * (
    '{"orderNumber":"17","customer":{"name":"Ada","age":36},'
    '"lines":[{"product":"tea","quantity":2,"price":"3.50"}],"labels":{"shop":"web"},'
    '"state":"STATE_OPEN","card":"visa","paid":true,"total":"7","receipt":"aGVs",'
    '"orderedAt":"2026-11-22T10:00:00Z","delivery":"90s",'
    '"rating":5,"tree":{"name":"root","children":[]}}\n'
)
# A small base model may write an endless text, and then no JSON is complete.
TOKENS_MAX = 400


def protobuf(name: str) -> pb.OutputFormat:
    """A message of tests/support/protos/order.proto as an output format."""
    shape = pb.ProtobufFormat(
        message_type=f"acme.v1.{name}", file_descriptor_set=descriptor_set("order.proto")
    )
    return pb.OutputFormat(protobuf=shape)


def main() -> int:
    """Run the rounds. The exit code is 0 if every complete answer parsed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--address", default="127.0.0.1:50051")
    options = parser.parse_args()
    line, order = (message_class("order.proto", f"acme.v1.{name}") for name in ("Line", "Order"))
    formats: dict[str, tuple[pb.OutputFormat, str, Callable[[str], bool]]] = {
        "json_schema": (
            pb.OutputFormat(json_schema=SCHEMA),
            CITIES,
            lambda text: set(json.loads(text)) == {"city", "inhabitants", "capital"},
        ),
        "protobuf": (
            protobuf("Line"),
            LINES,
            lambda text: json_format.Parse(text, line()) is not None,
        ),
        "protobuf, every kind of field": (
            protobuf("Order"),
            ORDERS,
            lambda text: json_format.Parse(text, order()) is not None,
        ),
    }
    model = os.environ.get("EUDAI_MODEL") or "gemma3:270m"
    failed = 0
    with grpc.insecure_channel(options.address) as channel:
        stub = rpc.GenerationServiceStub(channel)
        for name, (shape, prompt, parses) in formats.items():
            begin_s = time.monotonic()
            whole = parsed = 0
            for seed in range(options.rounds):
                request = pb.GenerateRequest(model=model, prompt=prompt, format=shape)
                request.sampling.seed = seed
                request.stop.max_output_tokens = TOKENS_MAX
                text = ""
                try:
                    answer = stub.GenerateOnce(
                        pb.GenerateOnceRequest(request=request), timeout=300
                    ).generation
                    text = "".join(part.text for part in answer.message.parts)
                    whole += answer.finished.reason == pb.FINISH_REASON_STOP
                    parsed += bool(parses(text))
                except (ValueError, json_format.ParseError, grpc.RpcError) as error:
                    print(
                        f"eudai: {name}, seed {seed}: {type(error).__name__}: {text[:200]!r}",
                        file=sys.stderr,
                    )
            print(
                f"{name}: {parsed} of {options.rounds} parsed, {whole} ended by themselves, "
                f"{time.monotonic() - begin_s:.0f} s"
            )
            failed += options.rounds - parsed
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
