"""Descriptor sets and message classes of the protos in tests/support/protos."""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOS = Path(__file__).parent / "protos"


@cache
def descriptor_set(name: str, *, imports: bool = True) -> bytes:
    """The descriptor set, as `protoc --descriptor_set_out` writes it."""
    with tempfile.NamedTemporaryFile() as output:
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTOS}",
            f"--descriptor_set_out={output.name}",
        ]
        subprocess.run(
            [*command, *(["--include_imports"] if imports else []), name], check=True, timeout=30
        )
        return Path(output.name).read_bytes()


def message_class(name: str, message_type: str) -> Any:
    """The class that a caller would have generated."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(name)).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message_type))
