"""Splitting a stream into lines: only at line feeds, with one limit, however the bytes are cut."""

import pytest
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.ollama.wire.lines import LINE_BYTES_MAX, LineSplitter
from eudai_server.ollama.wire.transfer_stream import TransferDecoder
from hypothesis import given, strategies

pieces = strategies.lists(strategies.sampled_from([b"a", b"\n", b"\r", b" ", "\x85".encode()]))


@given(pieces)
def test_the_lines_do_not_depend_on_how_the_bytes_are_cut(cut: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for data in [*cut, b"\n"] for line in splitter.feed(data)]

    assert lines == [line for line in b"".join(cut).split(b"\n") if line.strip()]


@pytest.mark.parametrize(
    "data", [b"x" * (LINE_BYTES_MAX + 1), b"a\n" + b"x" * (LINE_BYTES_MAX + 1) + b"\n"]
)
def test_a_line_that_is_too_long_fails(data: bytes) -> None:
    with pytest.raises(ServiceError) as raised:
        list(LineSplitter().feed(data))

    assert raised.value.reason is Reason.BACKEND_FAILURE


def test_a_transfer_has_the_same_limit() -> None:
    decoder = TransferDecoder("m")
    decoder.feed(b'{"status":"pulling manifest"}\n')

    with pytest.raises(ServiceError, match="longer than"):
        decoder.feed(b"x" * (LINE_BYTES_MAX + 1))
