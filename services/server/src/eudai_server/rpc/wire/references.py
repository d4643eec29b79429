"""Parses the model references of one request, each once. No I/O."""

from collections.abc import Iterator

from eudai_server.core.errors import CloudDisabledError, Violation
from eudai_server.core.model_name import InvalidModelNameError, ModelName, model_name_from


class References:
    """The parsed references of a request, by field."""

    def __init__(self) -> None:
        """Start without references."""
        self._by_field: dict[str, ModelName | CloudDisabledError] = {}

    def read(self, **references: str) -> Iterator[Violation]:
        """Parse references, by field. The reference of a cloud model is valid; `get` refuses it."""
        for field, reference in references.items():
            try:
                self._by_field[field] = model_name_from(reference)
            except InvalidModelNameError as error:
                yield Violation(field, str(error))
            except CloudDisabledError as error:
                self._by_field[field] = error

    def get(self, field: str) -> ModelName:
        """The model of a valid reference. Raises CloudDisabledError."""
        name = self._by_field[field]
        if isinstance(name, CloudDisabledError):
            raise name
        return name
