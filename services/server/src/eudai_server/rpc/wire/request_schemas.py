"""Parses the schemas of one request, each once, with limits for all of them together. No I/O."""

from collections.abc import Callable, Iterator

from eudai_server.core.errors import Violation
from eudai_server.core.json_schema import VALUES_MAX, Schema, values_at_most

# Limits for all schemas of a request together.
CHARS_MAX = 512 << 10


class RequestSchemas:
    """The parsed schemas of a request, by the path of their field."""

    def __init__(self) -> None:
        """Start without schemas."""
        self._by_field: dict[str, Schema] = {}
        self._chars = 0
        self._values = 0

    def get(self, field: str) -> Schema | None:
        """The schema of a field, if it is valid."""
        return self._by_field.get(field)

    def read(self, field: str, text_of: Callable[[], str]) -> Iterator[Violation]:
        """Parse the schema of a field. `text_of` may raise ValueError with what to change."""
        try:
            text = text_of()
            self._account(text)
            self._by_field[field] = Schema(text)
        except ValueError as error:
            yield Violation(field, str(error))

    def _account(self, text: str) -> None:
        self._chars += len(text)
        if self._chars > CHARS_MAX:
            raise ValueError(
                f"must not make the schemas of a request longer than {CHARS_MAX} characters"
            )
        self._values += values_at_most(text)
        if self._values > VALUES_MAX:
            raise ValueError(
                f"must not make the schemas of a request have more than {VALUES_MAX} values"
            )
