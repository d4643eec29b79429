"""Each failure of Ollama has a reason, and its text is never sent to a caller."""

import json

import pytest
from eudai_server.core.errors import ModelNotFoundError, Reason, ServiceError
from eudai_server.ollama.wire.errors import error_from_line, error_from_response
from hypothesis import given, strategies as st

# An error of the runner within an error of Ollama.
NESTED = (
    b'{"error":"{\\"error\\":{\\"type\\":\\"exceed_context_size_error\\",'
    b'\\"n_prompt_tokens\\":9,\\"n_ctx\\":8}}"}'
)
# Texts of Ollama 0.32.15 and its runner, as seen or as in their source.
ROWS: list[tuple[int, bytes, Reason]] = [
    (400, b'{"error":"\\"m\\" does not support thinking"}', Reason.CAPABILITY_UNSUPPORTED),
    (
        400,
        b'{"error":"registry.ollama.ai/library/m:latest does not support tools"}',
        Reason.CAPABILITY_UNSUPPORTED,
    ),
    (
        400,
        b'{"error":"think value \\"low\\" is not supported for this model"}',
        Reason.CAPABILITY_UNSUPPORTED,
    ),
    (
        400,
        b'{"error":"the input length exceeds the context length"}',
        Reason.CONTEXT_LENGTH_EXCEEDED,
    ),
    (400, NESTED, Reason.CONTEXT_LENGTH_EXCEEDED),
    (400, b'{"error":"this server cannot run this remote model"}', Reason.CLOUD_DISABLED),
    (400, b'{"error":"failed to parse grammar"}', Reason.BACKEND_FAILURE),
    (
        400,
        b'{"error":"logprobs is not supported with tools + stream"}',
        Reason.CAPABILITY_UNSUPPORTED,
    ),
    (401, b'{"error":"unauthorized","signin_url":"x"}', Reason.CLOUD_DISABLED),
    (403, b'{"error":"no"}', Reason.CLOUD_DISABLED),
    (403, b"", Reason.BACKEND_FAILURE),  # Ollama does not accept the host name
    (401, b"<html>", Reason.BACKEND_FAILURE),  # a proxy
    (404, b'{"error":"something new"}', Reason.MODEL_NOT_FOUND),
    (404, b"404 page not found", Reason.BACKEND_UNSUPPORTED),
    (405, b"405 method not allowed", Reason.BACKEND_UNSUPPORTED),
    (429, b'{"error":"slow down"}', Reason.QUEUE_FULL),
    (
        500,
        b'{"error":"llama-server process has terminated: exit status 1"}',
        Reason.BACKEND_FAILURE,
    ),
    (
        500,
        b'{"error":"model requires more system memory than is available"}',
        Reason.INSUFFICIENT_MEMORY,
    ),
    (500, b'{"error":{"message":"an object"}}', Reason.BACKEND_FAILURE),
    (500, b"", Reason.BACKEND_FAILURE),
    (502, b"<html>bad gateway</html>", Reason.BACKEND_FAILURE),
    (503, b"", Reason.QUEUE_FULL),
]


@pytest.mark.parametrize(("status", "body", "reason"), ROWS)
def test_every_failure_has_a_reason(status: int, body: bytes, reason: Reason) -> None:
    assert error_from_response(status, body, "m").reason is reason


# Errors of parsers about malformed tool calls, as seen or as in Ollama's source.
MALFORMED_CALLS = [
    "failed to parse JSON: invalid character 'n' looking for beginning of object key string",
    "error parsing tool call: raw='server busy, please try again', err=unexpected end of JSON",
    'llama-server returned invalid tool call arguments for "f": unexpected end of JSON input',
    "incomplete GLM tool call: XML syntax error on line 1: unexpected EOF",
    "tool 'server busy' not found",
    "expected element type <function> but have <parameter>",
    "empty function name",
    "invalid character 'S' looking for beginning of value",
    "EOF",
]


@pytest.mark.parametrize("text", MALFORMED_CALLS)
def test_a_malformed_tool_call_is_not_a_failure_of_ollama(text: str) -> None:
    error = json.dumps(text).encode()
    body = b'{"error":' + error + b"}"
    errors = [error_from_response(500, body, "m", "/api/chat"), error_from_line(error, "m")]

    assert [error.reason for error in errors] == [Reason.TOOL_CALL_MALFORMED] * 2
    assert [error.retry_after_s for error in errors] == [None, None]


@pytest.mark.parametrize(("status", "route"), [(400, "/api/chat"), (500, "/api/embed")])
def test_only_generations_fail_with_malformed_tool_calls(status: int, route: str) -> None:
    error = error_from_response(status, b'{"error":"EOF"}', "m", route)

    assert error.reason is Reason.BACKEND_FAILURE


def test_the_runners_nested_error_gives_the_token_counts() -> None:
    assert error_from_response(400, NESTED, "m").metadata == {
        "input_tokens": "9",
        "context_length": "8",
    }


def test_a_capability_is_named_as_the_contract_names_it() -> None:
    error = error_from_response(400, b'{"error":"\\"m\\" does not support chat"}', "m")

    assert error.metadata == {"model": "m", "capability": "completion"}


def test_a_model_is_named_as_the_caller_wrote_it() -> None:
    error = error_from_response(404, b'{"error":"model \'x\' not found"}', "mine")

    assert isinstance(error, ModelNotFoundError)
    assert error.model == "mine"


@pytest.mark.parametrize(
    "text",
    [
        b'"server busy, please try again.  maximum pending requests exceeded"',
        b'"new"',
        b'{"message":"x"}',
        b"null",
    ],
)
def test_a_failure_after_the_first_line_may_not_be_retried(text: bytes) -> None:
    assert error_from_line(text, "m").retry_after_s is None


@given(st.integers(201, 599), st.binary(max_size=80))
def test_any_error_body_becomes_a_service_error_without_its_text(status: int, body: bytes) -> None:
    error = error_from_response(status, b"SECRET" + body, "m")

    assert isinstance(error, ServiceError)
    assert "SECRET" not in error.message
