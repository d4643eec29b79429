"""Checks whether a server keeps the contract, rule by rule.

    eudai conformance --address HOST:PORT

The exit code is 0 if all rules hold, 1 if one is broken, and 2 if the server cannot be checked. The
check generates a few answers, and changes nothing on the server.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import grpc

from eudai.call_errors import error_from

# Importing the modules of rules adds their rules to RULES.
from eudai.conformance import failure_rules, generation_rules, model_rules  # noqa: F401
from eudai.conformance.calls import NotCheckedError, RuleError, Subject
from eudai.conformance.rules import RULES
from eudai.connection import Connection
from eudai.errors import ConfigError

EXIT_BROKEN = 1
EXIT_UNCHECKED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the server that the arguments name; returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    models = options.pop("model"), options.pop("embedding_model")
    try:
        return check(Connection(**options), *models)
    except ConfigError as error:
        print(f"eudai: {error}", file=sys.stderr)
        return EXIT_UNCHECKED


def check(connection: Connection, model: str = "", embedding_model: str = "") -> int:
    """Check a server, and print each rule; returns the exit code.

    An empty model is the first one of the server that can do it.
    """
    try:
        with _channel_to(connection) as channel:
            broken = _broken(Subject(channel, model, embedding_model))
    except grpc.RpcError as failure:
        print(f"eudai: {error_from(failure, connection.address)}", file=sys.stderr)
        return EXIT_UNCHECKED
    print(f"{len(RULES)} rules, {broken} broken")
    return EXIT_BROKEN if broken else 0


def _broken(subject: Subject) -> int:
    """Print each rule and whether it holds; returns the number of broken ones."""
    broken = 0
    for function in RULES:
        result, reason = "ok", ""
        try:
            function(subject)
        except NotCheckedError as error:
            result, reason = "skip", str(error)
        except RuleError as error:
            result, reason = "FAIL", str(error)
        except grpc.RpcError as failure:
            result, reason = "FAIL", f"a call failed: {error_from(failure, '')}"
        broken += result == "FAIL"
        print(f"{result:4}  {function.__name__}: {function.__doc__}")
        if reason:
            print(f"      {reason}")
    return broken


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eudai conformance", description="Check whether a server keeps the contract."
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="server (default: EUDAI_ADDRESS)")
    parser.add_argument("--model", default="", help="a model that generates text")
    parser.add_argument("--embedding-model", default="", help="a model that embeds texts")
    parser.add_argument("--tls", action="store_true", default=None, help="use TLS")
    for name in ("ca-file", "certificate-file", "key-file", "token-file"):
        parser.add_argument(f"--{name}", metavar="FILE")
    return parser


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
