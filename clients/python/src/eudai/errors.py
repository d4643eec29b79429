"""The base of all exceptions, and the errors that the client itself finds.

The exceptions for the failures that a server reports are in `reason_errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from eudai.results import Result
    from eudai.v1.content_pb2 import Message


@dataclass(frozen=True)
class Violation:
    """One invalid field of a request.

    >>> try:
    ...     client.generate_once("gemma3:270m", "hi", temperature=9.0)
    ... except eudai.InvalidRequestError as error:
    ...     print(error.violations[0].field, "|", error.violations[0].description)
    sampling.temperature | must be between 0 and 5
    """

    field: str
    description: str


class EudaiError(Exception):
    """The base of all errors of this package.

    `code` is the name of the gRPC status, such as "NOT_FOUND". `reason` is the name of the
    ErrorReason, such as "MODEL_NOT_FOUND"; it is empty if the failure has none, for example because
    the server could not be reached. `retry_after_s` is the time after which the server advises to
    try again, or None. `violations` are the invalid fields, and `metadata` has further facts, as
    the contract documents for each reason. `partial` is the output that a failed generation had
    sent, or None.

    >>> try:
    ...     client.generate_once("no-such-model", "hi")
    ... except eudai.EudaiError as error:
    ...     print(type(error).__name__, error.code, error.reason)
    ModelNotFoundError NOT_FOUND MODEL_NOT_FOUND
    """

    by_reason: ClassVar[dict[str, type["EudaiError"]]] = {}
    by_code: ClassVar[dict[str, type["EudaiError"]]] = {}

    def __init_subclass__(cls, *, reason: str = "", code: str = "") -> None:
        """Register the class for a reason, for a gRPC status, or for both."""
        if reason:
            EudaiError.by_reason[reason] = cls
        if code:
            EudaiError.by_code[code] = cls

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        retry_after_s: float | None = None,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        partial: "Result | None" = None,
    ) -> None:
        """`code` and `reason` are empty if the error does not come from a call."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.partial = partial

    @property
    def incident(self) -> str:
        """The id of a defect in the server's log; empty if the failure is not a defect.

        >>> eudai.InternalError("a defect", metadata={"incident": "i-1"}).incident
        'i-1'
        """
        return self.metadata.get("incident", "")

    @property
    def request_id(self) -> str:
        """The caller's own id of the call; empty if it had none.

        >>> eudai.QueueFullError("full", metadata={"request_id": "r-1"}).request_id
        'r-1'
        """
        return self.metadata.get("request_id", "")

    def __str__(self) -> str:
        """The message, and a line for each violation that it does not contain."""
        texts = [f"{each.field}: {each.description}" for each in self.violations]
        lines = [f"  {text}" for text in texts if text not in self.message]
        return "\n".join([self.message, *lines])


class ConfigError(EudaiError, ValueError):
    """An argument or a variable of the connection is wrong, such as a file that does not exist.

    >>> eudai.Client("https://example.com")
    Traceback (most recent call last):
    ...
    eudai.errors.ConfigError: address 'https://example.com' is a URL: write host:port
    """


class IncompleteResponseError(EudaiError):
    """The server ended a stream with status OK before its last event."""


class ParseError(EudaiError):
    """The answer cannot be parsed as the requested type.

    `partial` is the whole result.

    >>> try:
    ...     client.parse("gemma3:270m", "not json", Point)
    ... except eudai.ParseError as error:
    ...     print(error.text)
    An answer in words.
    """

    @property
    def text(self) -> str:
        """The answer.

        >>> eudai.ParseError("no JSON", partial=eudai.Result(text="Well, …")).text
        'Well, …'
        """
        return self.partial.text if self.partial else ""


class ToolError(EudaiError):
    """The model called a tool that does not exist, or with arguments that do not fit it."""


class ToolRoundsError(EudaiError):
    """The model still called tools after the last round.

    `messages` has the conversation up to there; the chat itself is unchanged.

    >>> def now() -> str:
    ...     return "12:00"
    >>> try:
    ...     client.chat("gemma3:270m").run("call now", tools=[now], rounds_max=1)
    ... except eudai.ToolRoundsError as error:
    ...     print(len(error.messages))
    3
    """

    def __init__(
        self, message: str, messages: "Sequence[Message]" = (), partial: "Result | None" = None
    ) -> None:
        """`partial` is the result of the last round."""
        super().__init__(message, partial=partial)
        self.messages = list(messages)
