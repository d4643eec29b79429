"""Checks whether a server keeps the contract, rule by rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from eudai.call_errors import error_from

# Importing the modules of rules adds their rules to RULES.
from eudai.conformance import failure_rules, generation_rules, model_rules  # noqa: F401
from eudai.conformance.calls import NotCheckedError, RuleError, Subject
from eudai.conformance.rules import RULES, Rule
from eudai.connection import Connection


@dataclass(frozen=True)
class Outcome:
    """Whether a server keeps one rule, and if it does not, why."""

    rule: str
    promise: str
    result: Literal["ok", "skip", "FAIL"]
    reason: str


def check(connection: Connection, model: str = "", embedding_model: str = "") -> Iterator[Outcome]:
    """Check each rule. Generates a few answers, and changes nothing on the server.

    Models that are not given are selected from those of the server. Raises EudaiError if the models
    of the server cannot be listed.
    """
    with _channel_to(connection) as channel:
        try:
            subject = Subject(channel, model, embedding_model)
        except grpc.RpcError as failure:
            raise error_from(failure, connection.address) from failure
        for rule in RULES:
            yield _outcome(rule, subject)


def _outcome(rule: Rule, subject: Subject) -> Outcome:
    result: Literal["ok", "skip", "FAIL"] = "ok"
    reason = ""
    try:
        rule(subject)
    except NotCheckedError as error:
        result, reason = "skip", str(error)
    except RuleError as error:
        result, reason = "FAIL", str(error)
    except grpc.RpcError as error:
        # Every error of a call has these methods, which the annotations do not say.
        failed: Any = error
        result, reason = "FAIL", f"a call failed: {failed.code().name}: {failed.details()}"
    return Outcome(rule.__name__, rule.__doc__ or "", result, reason)


def _channel_to(connection: Connection) -> grpc.Channel:
    credentials, options = connection.credentials, connection.channel_options
    if credentials:
        channel = grpc.secure_channel(connection.address, credentials, options)
    else:
        channel = grpc.insecure_channel(connection.address, options)
    return grpc.intercept_channel(channel, _AddMetadata(connection))


class _AddMetadata(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the token of the connection to each call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Start a call with one response."""
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Start a call with a stream of responses."""
        return continuation(self._with_token(details), request)

    def _with_token(self, details: Any) -> Any:
        metadata = [*(details.metadata or ()), *self._connection.metadata()]
        return details._replace(metadata=metadata)
