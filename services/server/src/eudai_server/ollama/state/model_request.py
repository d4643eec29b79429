"""The steps that every request to a model has in common, and what its failure says of the model."""

from types import TracebackType
from typing import Self

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName
from eudai_server.ollama.state.ollama_state import OllamaState


class ModelRequest:
    """A context manager for one request to a model. Call `load` in it before the request is sent.

    Records a stall if BACKEND_STALLED leaves the block.
    """

    def __init__(
        self,
        state: OllamaState,
        model: ModelName,
        load: LoadOptions,
        *,
        expected_digest: str = "",
        embeds: bool = False,
    ) -> None:
        """`embeds`: the model is for embedding."""
        self._state = state
        self._model = model
        self._load = load
        self._expected_digest = expected_digest
        self._embeds = embeds

    def __enter__(self) -> Self:
        """Raise ServiceError if the request would fail.

        UnreachableError: Ollama is down. BACKEND_STALLED: the model hangs. DIGEST_MISMATCH: it does
        not have the expected digest, so that it need not be loaded. CLOUD_DISABLED: it is remote.
        """
        self._state.endpoint.require_up()
        self._state.hangs.require_answering(self._model)
        self._state.catalog.check_digest(self._model, self._expected_digest)
        return self

    @property
    def needs_load(self) -> bool:
        """Whether the model is not in memory with the options of this request."""
        return not self._state.loader.is_loaded(self._model, self._load)

    async def load(self) -> None:
        """Wait until the model is loaded.

        Raises ServiceError if the load fails, or if what was loaded does not have the expected
        digest.
        """
        await self._state.loader.load(self._model, self._load, embeds=self._embeds)
        self._state.catalog.check_digest(self._model, self._expected_digest)

    def complete(self) -> None:
        """Record that the model answered the request."""
        self._state.hangs.record_answer(self._model)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record a stall."""
        if isinstance(error, ServiceError) and error.reason is Reason.BACKEND_STALLED:
            self._state.hangs.record_stall(self._model, self._load, embeds=self._embeds)
