"""Writes metadata and tensors as a GGUF file, version 3."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 32
MAGIC = b"GGUF"
VERSION = 3

# The numbers of the format's value types.
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9

Value = bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


@dataclass(frozen=True)
class Tensor:
    """Numbers in row-major order. `shape` has the fastest dimension first, as in GGUF."""

    shape: tuple[int, ...]
    data: bytes
    is_half: bool = False


def matrix(rows: Sequence[Sequence[float]]) -> Tensor:
    """A matrix of half floats, with which llama.cpp multiplies, and which take half the space."""
    data = b"".join(struct.pack(f"<{len(row)}e", *row) for row in rows)
    return Tensor((len(rows[0]), len(rows)), data, is_half=True)


def vector(numbers: Sequence[float]) -> Tensor:
    """A vector of floats: llama.cpp accepts biases and norms only in full precision."""
    return Tensor((len(numbers),), struct.pack(f"<{len(numbers)}f", *numbers))


def gguf(metadata: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of the file."""
    header = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    header += b"".join(_string(name) + _typed(value) for name, value in metadata.items())
    body = bytearray()
    for name, tensor in tensors.items():
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += _string(name) + shape + struct.pack("<IQ", int(tensor.is_half), len(body))
        body += tensor.data
        body += bytes(-len(body) % ALIGNMENT_BYTES)
    return header + bytes(-len(header) % ALIGNMENT_BYTES) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    """A value, preceded by the number of its type."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
        case str():
            return struct.pack("<I", STRING) + _string(value)
    kind, items = _items(value)
    return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(items)


def _items(values: Sequence[int] | Sequence[float] | Sequence[str]) -> tuple[int, Iterable[bytes]]:
    match values[0]:
        case str():
            return STRING, (_string(str(text)) for text in values)
        case float():
            return FLOAT32, (struct.pack("<f", number) for number in values)
    # llama.cpp refuses token types that are not signed.
    return INT32, (struct.pack("<i", number) for number in values)
