"""The schemas of one request: each is parsed once, and all of them share limits. No I/O."""

from collections.abc import Callable, Iterator

from eudai_server.errors import Violation
from eudai_server.schema import VALUES_MAX, Schema, values_at_most

# Of all schemas of a request.
CHARS_MAX = 512 << 10


class RequestSchemas:
    """The schemas that were read, by the path of their field."""

    def __init__(self) -> None:
        """None was read yet."""
        self._by_field: dict[str, Schema] = {}
        self._chars = 0
        self._values = 0

    def get(self, field: str) -> Schema | None:
        """The schema of a field, if it has a valid one."""
        return self._by_field.get(field)

    def read(self, field: str, text_of: Callable[[], str]) -> Iterator[Violation]:
        """Parse the schema of a field. `text_of` may raise ValueError, which says why."""
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
