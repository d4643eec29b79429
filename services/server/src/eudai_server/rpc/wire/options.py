"""Validates and converts the options of a request: sampling, stop and load. No I/O."""

import math
from collections.abc import Iterator, Mapping

from eudai.v1 import options_pb2

from eudai_server.core.errors import Reason, ServiceError, Violation
from eudai_server.core.generation import LoadOptions
from eudai_server.rpc.wire.values import seconds_of

STOP_SEQUENCES_MAX = 16
STOP_SEQUENCE_CHARS_MAX = 1024
# Ten years, positive or negative. Go's durations are nanoseconds of 64 bits, which end at 292
# years.
KEEP_ALIVE_MAX_S = 10 * 366 * 24 * 3600.0

# Field: minimum, maximum.
_SAMPLING_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 5),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (math.ulp(0.0), math.inf),
    "repeat_last_n": (-1, math.inf),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, math.inf),
}

_LOAD_LEAST: Mapping[str, float] = {
    "context_length": 4,
    "batch_size": 1,
    "gpu_layers": -1,
    "threads": 0,
    "main_gpu": 0,
    "use_mmap": 0,
    "draft_tokens": 0,
}


def sampling_violations(sampling: options_pb2.SamplingOptions) -> Iterator[Violation]:
    """The violations of sampling options."""
    for descriptor, value in sampling.ListFields():
        least, greatest = _SAMPLING_RANGES[descriptor.name]
        if not (math.isfinite(value) and least <= value <= greatest):
            yield Violation(f"sampling.{descriptor.name}", _range_text(least, greatest))


def stop_violations(stop: options_pb2.StopOptions) -> Iterator[Violation]:
    """The violations of stop options."""
    if stop.HasField("max_output_tokens") and stop.max_output_tokens <= 0:
        yield Violation(
            "stop.max_output_tokens", "must be more than 0; leave it out for the model's default"
        )
    if len(stop.sequences) > STOP_SEQUENCES_MAX:
        yield Violation("stop.sequences", f"must not be more than {STOP_SEQUENCES_MAX}")
    elif not all(0 < len(text) <= STOP_SEQUENCE_CHARS_MAX for text in stop.sequences):
        yield Violation("stop.sequences", f"must be 1 to {STOP_SEQUENCE_CHARS_MAX} characters each")


def load_violations(load: options_pb2.LoadOptions) -> Iterator[Violation]:
    """The violations of load options."""
    for descriptor, value in load.ListFields():
        if descriptor.name == "keep_alive":
            if abs(seconds_of(value)) > KEEP_ALIVE_MAX_S:
                yield Violation(
                    "load.keep_alive",
                    "must not be longer than ten years; use a negative duration to keep the model "
                    "loaded forever",
                )
        elif value < _LOAD_LEAST[descriptor.name]:
            yield Violation(
                f"load.{descriptor.name}", f"must be at least {_LOAD_LEAST[descriptor.name]:g}"
            )


def sampling_from(sampling: options_pb2.SamplingOptions) -> dict[str, float]:
    """Convert the sampling options that are set."""
    return {descriptor.name: value for descriptor, value in sampling.ListFields()}


def max_output_tokens_from(stop: options_pb2.StopOptions) -> int | None:
    """The limit of output tokens; None if it is not set."""
    return stop.max_output_tokens if stop.HasField("max_output_tokens") else None


def load_from(load: options_pb2.LoadOptions, *, allowed: bool) -> LoadOptions:
    """Convert valid load options.

    Raises LOAD_OPTIONS_FORBIDDEN if some are set and the operator does not allow them.
    """
    if load.ListFields() and not allowed:
        raise ServiceError(
            Reason.LOAD_OPTIONS_FORBIDDEN,
            "load options affect every caller of the model and are disabled (EUDAI_LOAD_OPTIONS); "
            "leave out `load`",
        )
    options = tuple(
        (field.name, value) for field, value in load.ListFields() if field.name != "keep_alive"
    )
    return LoadOptions(
        options, seconds_of(load.keep_alive) if load.HasField("keep_alive") else None
    )


def _range_text(least: float, greatest: float) -> str:
    if greatest != math.inf:
        return f"must be between {least:g} and {greatest:g}"
    return f"must be at least {least:g}" if least != math.ulp(0.0) else "must be more than 0"
