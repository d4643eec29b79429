"""Converts durations and enum values of the contract. No I/O."""

from typing import Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration

from eudai_server.core.named_enum import NamedEnum

NANOS = 1_000_000_000

N = TypeVar("N", bound=NamedEnum)


class EnumCodec(Generic[N]):
    """Converts between an enum of the contract and the core's enum with the same names."""

    def __init__(self, wire: Any, core: type[N]) -> None:
        """`wire` is the wrapper that protobuf generates for an enum."""
        prefix = wire.DESCRIPTOR.values[0].name.removesuffix("UNSPECIFIED")
        self._numbers = {value: wire.Value(f"{prefix}{value}") for value in core}
        self._values = {number: value for value, number in self._numbers.items()}

    def encode(self, value: N) -> Any:
        """The number of a value."""
        return self._numbers[value]

    def decode(self, number: int) -> N:
        """The value of a valid number."""
        return self._values[number]


def duration_from(nanoseconds: int) -> Duration:
    """Convert nanoseconds, which must not be negative, to a Duration."""
    return Duration(seconds=nanoseconds // NANOS, nanos=nanoseconds % NANOS)


def seconds_of(duration: Duration) -> float:
    """Convert a Duration to seconds."""
    return duration.seconds + duration.nanos / 1e9
